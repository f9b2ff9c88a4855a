"""One job, one directory: what its files contain, and how a reader tells whether its run still lives.

Invariants: each file has one writer, and `result.json` is linked into place. A reader
probes the lock with a shared lock only (two exclusive probes would take each other for
a worker). A published directory whose lock is free and which has no result is that of a
dead run: see `recovery`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.contract.envelope import (
    Envelope,
    EnvelopeDict,
    Next,
    Progress,
    progress_line,
)
from codex_counsel.contract.vocabulary import JOB_ID, PHASES, TERMINAL, Phase, RunStatus
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import clock
from codex_counsel.jobs.spec import Spec
from codex_counsel.system.files import LockError, lock_file, open_private, read_json
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.process_tree import Identity

POLL_MIN_MS, POLL_MAX_MS = 2_000, 30_000


@dataclass(frozen=True)
class State:
    """`state.json`, written by the worker alone.

    `last_event` is the time of Codex's last event in epoch seconds (`heard` in the
    file). `since` is when the worker, and later Codex, was started, by the clock
    `time.monotonic` of the boot that the worker's identity names.
    """

    phase: Phase = "queued"
    worker: Identity | None = None
    codex: Identity | None = None
    thread_id: str | None = None
    last_command: str | None = None
    last_event: float | None = None
    since: float | None = None
    detached: bool = False

    @classmethod
    def parse(cls, raw: JsonObject) -> State:
        """Raises ValueError or TypeError for what no worker wrote."""
        phase = raw.get("phase", "queued")
        if phase not in PHASES:
            raise ValueError("no phase")
        last_event = raw.get("heard")
        since = raw.get("since")
        for moment in (last_event, since):
            if not isinstance(moment, int | float | None):
                raise TypeError("no time")
        return cls(
            phase=phase,
            worker=_identity(raw.get("worker")),
            codex=_identity(raw.get("codex")),
            thread_id=_text(raw.get("thread_id")),
            last_command=_text(raw.get("last_command")),
            last_event=last_event,
            since=since,
            detached=raw.get("detached") is True,
        )


def _identity(raw: object) -> Identity | None:
    match raw:
        case [int(pid), int(start), str(boot)]:
            return Identity(pid, start, boot)
    return None


def _text(raw: object) -> str | None:
    if isinstance(raw, str):
        return raw
    return None


class Job:
    """A published job directory.

    It reads, and makes the small files by which others ask for something or note
    something: `cancel`, `overdue`, `delivered`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        if not re.fullmatch(JOB_ID, self.id):
            raise CounselError(Code.JOB_NOT_FOUND, "That is not a job id")

    @property
    def state_directory(self) -> Path:
        """The state directory that the job is in, or the private directory that stands for it."""
        return self.path.parent.parent

    # --- what the files say

    def spec(self) -> Spec:
        """Raises `job_not_found` or `job_corrupt`."""
        try:
            raw = dict(read_json(self.path / "spec.json"))
            return Spec.parse(raw)
        except FileNotFoundError:
            raise CounselError(
                Code.JOB_NOT_FOUND, f"There is no job {self.id}"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            message = f"The record of job {self.id} cannot be read: {error}"
            raise CounselError(Code.JOB_CORRUPT, message) from None

    def state(self) -> State:
        """What the worker wrote last. What cannot be read is the state of a worker that has not begun."""
        try:
            return State.parse(read_json(self.path / "state.json"))
        except (OSError, ValueError, AttributeError, TypeError):
            return State()

    def alive(self) -> bool:
        """Whether a worker, or a launcher that is about to start it, holds the lock.

        Raises LockError where that cannot be told: a run must not be ended on a guess.
        """
        try:
            descriptor = lock_file(self.path / "lock", shared=True)
        except LockError:
            raise
        except OSError as error:
            # Without a descriptor or memory to spare, nothing can be told.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise LockError(error.errno, error.strerror) from None
            return False
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def result(self) -> EnvelopeDict | None:
        """The committed envelope, or None. Raises `job_corrupt`."""
        try:
            stored = read_json(self.path / "result.json")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            message = f"The result of job {self.id} cannot be read: {error}"
            raise CounselError(Code.JOB_CORRUPT, message) from None
        match stored:
            case {
                "ok": bool(),
                "status": str(status),
                "tool": str(),
                "summary": str(),
                "meta": dict(),
            } if status in TERMINAL:
                return dict(stored)
        raise CounselError(
            Code.JOB_CORRUPT, f"The result of job {self.id} is no envelope"
        )

    def ended_at(self) -> float:
        """Epoch seconds of the end as far as the files tell, 0 where there are none."""
        for name in ("result.json", "events.jsonl", "spec.json"):
            with contextlib.suppress(OSError):
                return (self.path / name).stat().st_mtime
        return 0.0

    def has_unapplied_diff(self) -> bool:
        """Whether it has a diff that is not applied, or is half-way."""
        is_applied = (self.path / "applied").exists() and not self.is_half_way()
        return self._has_diff() and not is_applied

    def has_applied_diff(self) -> bool:
        """Whether it has a diff that is applied, or is half-way."""
        is_applied = (self.path / "applied").exists() or self.is_half_way()
        return self._has_diff() and is_applied

    def _has_diff(self) -> bool:
        try:
            return (self.path / "diff.patch").stat().st_size > 0
        except OSError:
            return False

    def is_half_way(self) -> bool:
        """Whether an apply or undo of its diff was killed: only with this record it can go on."""
        return (self.state_directory / "applying" / f"{self.id}.json").exists()

    def running(self) -> Envelope:
        """The `queued` or `running` envelope, with the next call to make."""
        spec = self.spec()
        state = self.state()
        now = time.time()
        elapsed_ms = int((now - spec.created) * 1000)
        silent_ms = None
        if state.last_event:
            silent_ms = int((now - state.last_event) * 1000)
        progress = Progress(
            phase=state.phase,
            last_command=state.last_command,
            elapsed_ms=elapsed_ms,
            silent_ms=silent_ms,
        )

        status: RunStatus = "running"
        if state.phase == "queued":
            status = "queued"
        meta = spec.new_meta()
        meta.job_id = self.id
        meta.session_id = state.thread_id or spec.session_id
        meta.expires_at = None
        return Envelope(
            ok=True,
            status=status,
            tool=spec.tool,
            summary=f"{spec.tool} is {progress_line(progress)}; job {self.id}",
            job_id=self.id,
            poll_after_ms=min(max(elapsed_ms // 4, POLL_MIN_MS), POLL_MAX_MS),
            next=Next(
                tool="codex_job_result",
                arguments={"job_id": self.id, "wait_seconds": 50},
            ),
            progress=progress,
            meta=meta,
        )

    # --- what others ask for

    def cancel_requested(self) -> bool:
        """Whether the run was asked to end."""
        return (self.path / "cancel").exists()

    def request_cancel(self) -> None:
        """Ask the run to end. One file for all callers, so a second one changes nothing. Raises OSError."""
        with contextlib.suppress(FileExistsError):
            self._create("cancel")
        self._wake()

    def _create(self, name: str) -> None:
        """Make an empty file. Raises FileExistsError if there is one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = open_private(str(self.path / name), flags)
        os.close(descriptor)

    def _wake(self) -> None:
        """Write to the FIFO that the worker reads: it looks for a cancel then."""
        # Without a reader this fails: such a worker looks for the file before it starts
        # Codex and before it commits.
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path / "control", flags)
            try:
                os.write(descriptor, b"c")
            finally:
                os.close(descriptor)

    def mark_overdue(self) -> None:
        """Note that the run is ended from outside because its worker did not keep its time limit."""
        with contextlib.suppress(OSError):
            self._create("overdue")

    def is_running(self) -> bool:
        """Whether the run goes on, as far as two cheap looks tell. False where that cannot be told."""
        try:
            return self.alive() and not (self.path / "result.json").exists()
        except OSError:
            return False

    def is_delivered(self) -> bool:
        """Whether a caller has the whole result."""
        return (self.path / "delivered").exists()

    def mark_delivered(self) -> None:
        """Note that a caller has the whole result, and when it had it first."""
        if self.is_delivered():
            return
        with contextlib.suppress(OSError):  # an unmarked record is only kept longer
            clock.stamp(self.path / "delivered", self.state_directory)
