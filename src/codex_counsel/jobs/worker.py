"""The worker: owns one job directory, one Codex and its process tree. Its stdin is the life-line of its launcher.

Invariants: the lock it was born with is held until the process ends. Codex starts before anything is imported that
only its output needs. End-of-file on the life-line ends the run, one byte makes it a background job for good. A
cancel is looked for before Codex starts and before the result is committed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import time

from codex_counsel.jobs import slots
from codex_counsel.system import process_tree as tree
from codex_counsel.system import supervisor as process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from codex_counsel.codex.transcript import Transcript
    from codex_counsel.contract.envelope import Envelope

QUEUE_POLL = 0.1
NOTE_EVERY = 0.25
MAX_EVENTS = 64 * 1024 * 1024


def main(directory: str, lock: int) -> int:
    """Run the job in `directory`; the envelope goes to `result.json` and to stdout."""
    os.set_inheritable(lock, False)
    tree.become_subreaper()
    worker = Worker(directory)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, worker.on_signal)
    return worker.run()


class Worker:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.spec = self._read_spec()
        self.detached = bool(self.spec["detached"])
        self.state: dict[str, Any] = {"phase": "queued", "worker": tree.Identity.of(os.getpid())}
        self.supervisor: process.Supervisor | None = None
        self.ending = ""
        self._noted = 0.0
        self._kept = 0
        self._events = -1
        self._control = self._open_control()

    def _read_spec(self) -> dict[str, Any]:
        with open(f"{self.directory}/spec.json", encoding="utf-8") as file:
            spec: dict[str, Any] = json.load(file)
        return spec

    def _open_control(self) -> int:
        with contextlib.suppress(OSError):
            return os.open(f"{self.directory}/control", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        return -1

    def run(self) -> int:
        slot = self._queue()
        if self.ending:
            self._conclude_unstarted()
            return 0
        try:
            if child := self._start():
                self._execute(child)
        finally:
            if slot is not None and slot >= 0:
                os.close(slot)
        return 0

    def _queue(self) -> int | None:
        """Wait for a slot; none is needed where none can be made."""
        self._write_state()
        while not self._told_to_end():
            try:
                slot = slots.acquire(f"{self.spec['state']}/slots", self.spec["slots"])
            except OSError:
                return -1
            if slot is not None:
                return slot
            self._wait(QUEUE_POLL)
        return None

    def _told_to_end(self) -> bool:
        if self._drain_control():
            self._detach()
        if os.path.exists(f"{self.directory}/cancel"):
            self.ending = self.ending or "cancelled"
        return bool(self.ending)

    def _wait(self, seconds: float) -> None:
        import select

        sources = [fd for fd in (0 if not self.detached else -1, self._control) if fd >= 0]
        ready = select.select(sources, [], [], seconds)[0]
        if 0 in ready:
            self.on_lifeline()

    def _start(self) -> Any:
        try:
            if not self.spec.get("delegate"):
                os.makedirs(self.spec["scratch"], mode=0o700, exist_ok=True)
            elif not self._prepared():
                return None
            child = process.start(self.spec["argv"], os.environ, self.spec["cwd"], f"{self.directory}/prompt")
        except OSError as error:
            self._conclude_unstartable(error)
            return None
        self.state |= {"phase": "starting", "codex": tree.Identity.of(child.pid), "heard": time.time()}
        self._write_state()
        return child

    def _prepared(self) -> bool:
        """Make a delegate's working tree; what prevents that is the result."""
        from pathlib import Path

        from codex_counsel.contract.envelope import failed
        from codex_counsel.delegate import record as delegate
        from codex_counsel.errors import CounselError
        from codex_counsel.jobs.run import meta_of
        from codex_counsel.jobs.spec import Spec

        spec = Spec.parse(self.spec)
        self.state["phase"] = "starting"
        self._write_state()
        try:
            delegate.prepare(spec, Path(self.directory))
        except CounselError as error:
            self.commit(failed(spec.tool, error, meta_of(spec)).wire())
            return False
        return True

    def _execute(self, child: Any) -> None:
        self.supervisor = process.Supervisor(child, self.spec["total"], self.spec["idle"])
        if not self.detached:
            self.supervisor.watch(0, self.on_lifeline)
        if self._control >= 0:
            self.supervisor.watch(self._control, self.on_control)
        if self.ending or self._told_to_end():
            self.supervisor.stop(self.ending)
        from codex_counsel.jobs import run
        from codex_counsel.jobs.spec import Spec

        try:
            run.execute(Spec.parse(self.spec), self.supervisor, self)
        except Exception as error:
            self._conclude_defect(error)
            raise
        finally:
            with contextlib.suppress(OSError):
                os.write(2, self.supervisor.stderr)

    def _conclude_defect(self, error: Exception) -> None:
        """A defect of ours still ends in an envelope; the traceback is in `stderr.log`."""
        from codex_counsel.contract.envelope import failed
        from codex_counsel.errors import Code, CounselError
        from codex_counsel.jobs.run import meta_of
        from codex_counsel.jobs.spec import Spec

        spec = Spec.parse(self.spec)
        defect = CounselError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        self.commit(self._with_work(failed(spec.tool, defect, meta_of(spec))).wire())

    def _with_work(self, envelope: Envelope) -> Envelope:
        """A delegate's work so far goes along, if it still can be had; its tree goes."""
        if self.spec.get("delegate"):
            from pathlib import Path

            from codex_counsel.delegate import record as delegate
            from codex_counsel.jobs.job import Job
            from codex_counsel.jobs.spec import Spec

            job = Job(Path(self.directory))
            with contextlib.suppress(Exception):  # the defect may lie there
                delegate.dress(envelope, delegate.finish(Spec.parse(self.spec), job.path), job.transcript())
        return envelope

    def _conclude_unstartable(self, error: OSError) -> None:
        """The binary, the workspace or the temporary directory changed since they were looked at."""
        from codex_counsel.contract.envelope import failed
        from codex_counsel.errors import Code, CounselError
        from codex_counsel.jobs.run import meta_of
        from codex_counsel.jobs.spec import Spec

        spec = Spec.parse(self.spec)
        code = Code.STORAGE_FAILED if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) else Code.PROCESS_DIED
        unstarted = CounselError(code, f"Codex could not be started: {error}")
        self.commit(self._with_work(failed(spec.tool, unstarted, meta_of(spec))).wire())

    def _conclude_unstarted(self) -> None:
        from codex_counsel.codex.transcript import Transcript
        from codex_counsel.jobs import run
        from codex_counsel.jobs.spec import Spec

        envelope = run.conclude(Spec.parse(self.spec), Transcript(), run.Exit(self.ending))
        self.commit(envelope.wire())

    def on_lifeline(self) -> None:
        """A byte: stay. End-of-file: the launcher is gone."""
        if os.read(0, 16) or os.path.exists(f"{self.directory}/stay"):
            self._detach()
        elif not self.detached:
            self._end("abandoned")
        if self.supervisor:
            self.supervisor.unwatch(0)

    def _detach(self) -> None:
        self.detached = True
        self.state["detached"] = True
        self._write_state()

    def on_control(self) -> None:
        if self._drain_control():
            self._detach()
        if os.path.exists(f"{self.directory}/cancel"):
            self._end("cancelled")

    def _drain_control(self) -> bool:
        """Empty the pipe; true when someone asked the run to stay."""
        with contextlib.suppress(OSError):
            return b"d" in os.read(self._control, 4096)
        return False

    def on_signal(self, _number: int, _frame: object) -> None:
        self._end("cancelled")

    def _end(self, reason: str) -> None:
        self.ending = self.ending or reason
        if self.supervisor:
            self.supervisor.stop(reason)

    # --- the journal of run.execute

    def append(self, line: bytes) -> None:
        """Keep the line. A full disk costs the record, not the run."""
        self._kept += len(line) + 1
        if self._kept <= MAX_EVENTS:
            with contextlib.suppress(OSError):
                if self._events < 0:
                    path = f"{self.directory}/events.jsonl"
                    self._events = _private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.write(self._events, line + b"\n")

    def note(self, transcript: Transcript) -> None:
        """Thread id and phase at once, the rest a few times a second."""
        fresh = {"phase": transcript.phase, "thread_id": transcript.thread_id, "last_command": transcript.last_command}
        changed = any(self.state.get(name) != value for name, value in fresh.items())
        self.state |= fresh | {"heard": time.time()}
        if changed or time.monotonic() - self._noted > NOTE_EVERY:
            self._write_state()

    def commit(self, envelope: dict[str, Any]) -> dict[str, Any]:
        """Link the result into place unless a cancel came first, and hand it to whoever still waits on stdout."""
        if not self.spec.get("delegate"):
            self._remove(self.spec["scratch"])
        envelope["meta"]["job_id"] = self.spec["job_id"]
        if not self.ending and self._told_to_end() and envelope["status"] != "cancelled":
            return self._commit_cancelled()
        self._hand_over(self._stored(envelope))
        if self.spec["private"]:
            self._remove(os.path.dirname(self.directory))
        return envelope

    def _stored(self, envelope: dict[str, Any]) -> str:
        """The text that stands. On a full disk the record of the events makes room for what they led to."""
        text = json.dumps(envelope, ensure_ascii=False)
        for _ in range(2):
            try:
                return self._link(text)
            except OSError as error:
                reason = error.strerror
                self._forget_events()
        mark = "cancel" if envelope["status"] == "cancelled" else "unsaved"
        with contextlib.suppress(OSError):  # a new name needs no room
            os.rename(f"{self.directory}/prompt", f"{self.directory}/{mark}")
        warning = f"this result could not be stored ({reason}): it is here, and nowhere else"
        envelope["meta"].setdefault("warnings", []).append(warning)
        return json.dumps(envelope, ensure_ascii=False)

    def _commit_cancelled(self) -> dict[str, Any]:
        from pathlib import Path

        from codex_counsel.jobs import run
        from codex_counsel.jobs.job import Job
        from codex_counsel.jobs.spec import Spec

        transcript = Job(Path(self.directory)).transcript()
        return self.commit(
            run.conclude(Spec.parse(self.spec), transcript, run.Exit("cancelled"), Path(self.directory)).wire()
        )

    def _forget_events(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(f"{self.directory}/events.jsonl")
            os.close(self._events)

    def _link(self, text: str) -> str:
        draft = f"{self.directory}/.result-{os.getpid()}"
        try:
            with open(draft, "w", encoding="utf-8", opener=_private) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, f"{self.directory}/result.json")
        finally:
            with contextlib.suppress(OSError):
                os.unlink(draft)
        with open(f"{self.directory}/result.json", encoding="utf-8") as file:
            return file.read()

    def _hand_over(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.buffer.write(text.encode("utf-8", "replace"))
            sys.stdout.buffer.flush()

    def _write_state(self) -> None:
        """Replace `state.json`; a disk that takes nothing more does not stop the run."""
        self._noted = time.monotonic()
        draft = f"{self.directory}/.state"
        try:
            with open(draft, "w", encoding="utf-8", opener=_private) as file:
                json.dump(self.state, file)
            os.replace(draft, f"{self.directory}/state.json")
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft)

    def _remove(self, directory: str) -> None:
        import shutil

        shutil.rmtree(directory, ignore_errors=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
