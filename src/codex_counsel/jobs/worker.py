"""The worker process, until Codex runs. It owns one job directory, one Codex and its process tree.

Its stdin is the lifetime pipe of its launcher.

Invariants:

- The job's lock, inherited from the launcher, is held until the process ends, and so is its place in the queue.
- Codex starts before anything is imported that only its output needs: `run`, which reads it, comes afterwards. So this
  module and those it imports use the standard library only, and few modules of that.
- End-of-file on the lifetime pipe ends the run. One byte makes it a background job: from then on end-of-file means
  nothing.
- A job without a command line runs no Codex: it only starts other jobs, and takes no place in the queue.
- After a completed turn, commands of ours and further jobs may run (see `steps`). The same requests and signals end
  them.
- Codex runs a second time only for the answer of a run that used up its tokens (see `turns`). Then the same requests
  and signals end the run, and its place in the queue is kept.
- A cancel is looked for before Codex starts and, unless its turn was completed, before the result is committed (see
  `run.finish`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from codex_counsel.jobs import evictor
from codex_counsel.jobs.journal import LAST_PROMPT, Journal
from codex_counsel.jobs.kinds import KIND_FIELDS, KINDS, name_of
from codex_counsel.jobs.slots import Ticket
from codex_counsel.system.files import read_json
from codex_counsel.system.process_tree import Identity, become_subreaper
from codex_counsel.system.supervisor import Supervisor, start_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from codex_counsel.system.json_values import JsonObject

LIFETIME_PIPE = 0
ENDING_PAUSE = 0.02
"""Seconds between two looks at jobs that are being ended."""
STDERR = 2
QUEUE_LOOK = 10.0
"""Seconds after which a queued worker looks around though nothing woke it."""


def main(directory: str, lock: int) -> None:
    """Run the job in `directory`, whose open lock is `lock`; the envelope goes to `result.json` and to stdout."""
    os.set_inheritable(lock, False)
    become_subreaper()
    worker = Worker(directory)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, worker.on_signal)
    worker.run()
    # A cancel, and a launcher that goes, leave no process behind.
    if not worker.end_reason and not worker.spec["private"]:
        spec = worker.spec
        evictor.start_if_due(spec["state"], spec["ttl"], spec["max_records"])


class Worker:
    """`end_reason` is why the run is to end: `cancelled`, `abandoned`, or empty."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.spec: JsonObject = read_json(f"{directory}/spec.json")
        self.journal = Journal(directory, private=self.spec["private"])
        self.detached = bool(self.spec["detached"])
        self.end_reason = ""
        self.supervisor: Supervisor | None = None
        self._ticket: Ticket | None = None
        self._control = -1
        with contextlib.suppress(OSError):
            # Open for writing too: the FIFO never shows an end-of-file when somebody
            # who wrote to it leaves.
            flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
            self._control = os.open(f"{directory}/control", flags)

    def run(self) -> None:
        """Wait for our turn, start Codex, supervise it. Every way out commits an envelope, a defect too."""
        self.journal.update_state(
            phase="queued", worker=Identity.of(os.getpid()), since=time.monotonic()
        )
        if self.spec["argv"]:
            # Where no ticket can be made, none is needed.
            with contextlib.suppress(OSError):
                self._ticket = Ticket(f"{self.spec['state']}/queue")
                self._wait_for_turn(self._ticket)
        if self._check_requests():
            self._conclude_unstarted()
            return

        codex = None
        try:
            self._set_up()
            if self.spec["argv"]:
                codex = self._start()
        except Exception as error:
            if self._conclude_unstarted(error):
                raise  # for the traceback in stderr.log
            return
        if codex:
            self._supervise(codex)
        else:
            # No Codex runs, so nothing waits for this import.
            from codex_counsel.jobs import run

            run.coordinate(self.spec, self.journal, self)

    def _wait_for_turn(self, ticket: Ticket) -> None:
        """Returns when the run may begin, or is to end."""
        while not self._check_requests():
            ahead = ticket.ahead(self.spec["slots"])
            try:
                if len(ahead) < self.spec["slots"]:
                    return
                self._await_request(QUEUE_LOOK, ahead)
            finally:
                for descriptor in ahead:
                    os.close(descriptor)

    def _check_requests(self) -> bool:
        """Look whether somebody asked for a cancel; returns whether the run is to end."""
        self._read_control()
        if self.journal.cancel_requested():
            self._end("cancelled")
        return bool(self.end_reason)

    def _await_request(self, seconds: float, ahead: Sequence[int] = ()) -> None:
        """Wait until somebody asks for something, a run before this one ends, or the time is over."""
        sources = list(ahead)
        if not self.detached:
            sources.append(LIFETIME_PIPE)
        if self._control >= 0:
            sources.append(self._control)
        readable, _, _ = select.select(sources, [], [], seconds)
        if LIFETIME_PIPE in readable:
            self.on_lifetime_pipe()

    def _set_up(self) -> None:
        """Raises OSError or CounselError for what prevents a start."""
        scratch = self.spec["scratch"]
        details = {name: self.spec.get(name) for name in KIND_FIELDS}
        if details["in_place"]:
            self._claim_workspace()
        set_up = KINDS[name_of(details)].set_up
        # Of the reviews, only those with something to prove have a tree.
        if set_up is None or (details["review"] and not self.spec["children"]):
            os.makedirs(scratch, mode=0o700, exist_ok=True)
            temporary = os.environ.get("TMPDIR") or scratch
            os.makedirs(temporary, mode=0o700, exist_ok=True)
        else:
            self.journal.update_state(phase="starting")
            set_up(details, scratch, self.directory)
        if self.spec["environment"]:
            # Most runs have none.
            from codex_counsel.codex import programs

            programs.make(
                f"{scratch}/{programs.DIRECTORY}",
                self.spec["environment"],
                self.spec["codex"],
            )

    def _claim_workspace(self) -> None:
        """Raises CounselError while another run could exchange the workspace, or this one that of another."""
        # Few runs write in place.
        from codex_counsel.errors import Code, CounselError
        from codex_counsel.system import places

        workspace = self.spec["workspace"]
        if places.claim(workspace):
            return
        raise CounselError(
            Code.SESSION_BUSY,
            f"Another run writes in {workspace}, or in a directory around it or below it",
            repair="Call again when it has ended: `codex-counsel jobs --all` names it.",
        )

    def _start(self) -> subprocess.Popen[bytes]:
        """Raises OSError."""
        self.journal.codex_began = time.time()
        codex = start_child(
            self.spec["argv"],
            os.environ,
            self.spec["cwd"],
            f"{self.directory}/prompt",
        )
        self.journal.update_state(
            phase="starting",
            codex=Identity.of(codex.pid),
            heard=time.time(),
            since=time.monotonic(),
        )
        return codex

    def _conclude_unstarted(self, error: Exception | None = None) -> bool:
        """Returns whether the error is a defect of ours."""
        # Codex does not run, so nothing waits for this import.
        from codex_counsel.jobs import run

        return run.conclude_unstarted(self.spec, self.journal, self.end_reason, error)

    def _supervise(self, codex: subprocess.Popen[bytes]) -> None:
        supervisor = self._watch(codex, self.spec["total"])

        # Imported while Codex starts up: Codex waits for nothing of it.
        from codex_counsel.jobs import run

        try:
            run.supervise(self.spec, supervisor, self.journal, self)
        finally:
            with contextlib.suppress(OSError):
                os.write(STDERR, supervisor.stderr)
                if self.supervisor and self.supervisor is not supervisor:
                    os.write(STDERR, self.supervisor.stderr)

    def _watch(
        self,
        child: subprocess.Popen[bytes],
        seconds: float,
        idle: float | None = None,
    ) -> Supervisor:
        idle = idle or self.spec["idle"]
        self.supervisor = supervisor = Supervisor(child, seconds, idle)
        if not self.detached:
            supervisor.watch(LIFETIME_PIPE, self.on_lifetime_pipe)
        if self._control >= 0:
            supervisor.watch(self._control, self.on_control)

        # A signal may have come before there was a supervisor to stop.
        if self.end_reason or self._check_requests():
            supervisor.stop(self.end_reason)
        return supervisor

    def start_last_turn(self, argv: Sequence[str], seconds: float) -> Supervisor | None:
        """Start Codex again, for the answer of a run that used up its tokens. It gets so many seconds.

        None where the run is to end: see `end_reason`. Raises OSError.
        """
        self.supervisor = None
        self._await_request(0)
        if self._check_requests():
            return None
        codex = start_child(
            argv, os.environ, self.spec["cwd"], f"{self.directory}/{LAST_PROMPT}"
        )
        self.journal.update_state(
            phase="answering", codex=Identity.of(codex.pid), heard=time.time()
        )
        return self._watch(codex, seconds)

    def start_command(
        self, argv: Sequence[str], cwd: str, seconds: float
    ) -> Supervisor | None:
        """Start a command under supervision; silence does not end it. See `steps.Worker`."""
        self.supervisor = None
        self._await_request(0)
        if self._check_requests():
            return None
        child = start_child(argv, os.environ, cwd, os.devnull)
        self.journal.update_state(
            codex=Identity.of(child.pid), heard=time.time(), since=time.monotonic()
        )
        return self._watch(child, seconds, idle=float("inf"))

    def wait_for(self, descriptors: Sequence[int], seconds: float) -> None:
        """Wait until one of them is readable, or somebody asks for something. See `steps.Worker`."""
        self.supervisor = None
        if not self._check_requests():
            self._await_request(seconds, descriptors)
            self._check_requests()
        else:
            time.sleep(ENDING_PAUSE)

    def leave_queue(self) -> None:
        """Give up the place in the queue: this job only waits for others, which need one."""
        if self._ticket:
            os.close(self._ticket.descriptor)
            self._ticket = None

    def on_lifetime_pipe(self) -> None:
        """The launcher detached the run, or is gone."""
        word = os.read(LIFETIME_PIPE, 16)
        if word or self.spec["stays"]:
            self._detach()
        elif not self.detached:
            self._end("abandoned")
        if self.supervisor:
            self.supervisor.unwatch(LIFETIME_PIPE)

    def on_control(self) -> None:
        """Somebody wrote to the FIFO `control`."""
        self._check_requests()

    def on_signal(self, _number: int, _frame: object) -> None:
        """End the run as a cancel does."""
        self._end("cancelled")
        # A queued worker sleeps on after a signal, but not after a byte.
        with contextlib.suppress(OSError):
            os.write(self._control, b"c")

    def _read_control(self) -> None:
        """Empty the FIFO: its bytes only wake the worker."""
        with contextlib.suppress(OSError):
            os.read(self._control, 4096)

    def _detach(self) -> None:
        self.detached = True
        self.journal.update_state(detached=True)

    def _end(self, reason: str) -> None:
        """The first reason counts."""
        self.end_reason = self.end_reason or reason
        if self.supervisor:
            self.supervisor.stop(reason)
