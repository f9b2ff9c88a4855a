"""One job, one directory: its files, who writes them, and how a reader tells what state it is in.

Invariants: a published directory whose lock is free and which has no result is dead. Readers probe with a shared
lock only, probe before they look for the result, and write nothing. Each file has one writer; `result.json` is
linked into place, so the first terminal writer wins.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codex_counsel import events
from codex_counsel.envelope import Envelope, Next, Progress, Wire
from codex_counsel.errors import Code, CounselError
from codex_counsel.run import Ending, conclude, meta_of
from codex_counsel.spec import JOB_ID, Spec
from codex_counsel.transcript import Transcript
from codex_counsel.tree import Identity, end_stray

POLL_MIN_MS, POLL_MAX_MS = 2_000, 30_000


@dataclass(frozen=True)
class State:
    """`state.json`, written by the worker alone."""

    phase: str = "queued"
    worker: tuple[Any, ...] | None = None
    codex: tuple[Any, ...] | None = None
    thread_id: str | None = None
    last_command: str | None = None
    heard: float | None = None
    detached: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> State:
        known = {name: value for name, value in raw.items() if name in cls.__dataclass_fields__}
        return cls(**known)


class Job:
    """A published job directory, seen by a reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        if not re.fullmatch(JOB_ID, self.id):
            raise CounselError(Code.JOB_NOT_FOUND, "That is no job id")

    def spec(self) -> Spec:
        try:
            return Spec.parse(json.loads((self.path / "spec.json").read_text("utf-8")))
        except FileNotFoundError:
            raise CounselError(Code.JOB_NOT_FOUND, f"There is no job {self.id}") from None
        except (OSError, ValueError, AttributeError) as error:
            raise CounselError(Code.JOB_CORRUPT, f"The record of job {self.id} cannot be read: {error}") from None

    def state(self) -> State:
        """What the worker noted last; nothing readable is the state of a worker that has not begun."""
        try:
            return State.parse(json.loads((self.path / "state.json").read_text("utf-8")))
        except (OSError, ValueError, AttributeError, TypeError):
            return State()

    def alive(self) -> bool:
        """Whether a worker (or a launcher on its way) holds the lock."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def result(self) -> Wire | None:
        """The committed envelope, if there is one."""
        try:
            stored = json.loads((self.path / "result.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CounselError(Code.JOB_CORRUPT, f"The result of job {self.id} cannot be read: {error}") from None
        if not isinstance(stored, dict) or not {"ok", "status", "meta"} <= stored.keys():
            raise CounselError(Code.JOB_CORRUPT, f"The result of job {self.id} is no envelope")
        return stored

    def outcome(self) -> Wire | None:
        """The terminal envelope: the committed one, or the one derived for a run whose worker is gone. None: it lives."""
        alive = self.alive()
        result = self.result()
        if result or alive:
            return result
        return self._died().wire()

    def _died(self) -> Envelope:
        """What the events hold of a run whose worker is gone, and an end to what that worker left."""
        spec, state = self.spec(), self.state()
        end_stray(Identity(*state.codex) if state.codex else None, self.marker)
        shutil.rmtree(spec.scratch, ignore_errors=True)
        return conclude(spec, self.transcript(), Ending("cancelled" if self.cancel_asked() else "died"))

    @property
    def marker(self) -> str:
        return f"CODEX_COUNSEL_JOB={self.id}"

    def transcript(self) -> Transcript:
        """The events recorded so far."""
        transcript = Transcript()
        with contextlib.suppress(OSError), (self.path / "events.jsonl").open("rb") as file:
            for line in file:
                transcript.add(events.parse(line))
        return transcript

    def cancel_asked(self) -> bool:
        return (self.path / "cancel").exists()

    def delivered(self) -> bool:
        return (self.path / "delivered").exists()

    def mark_delivered(self) -> None:
        with contextlib.suppress(OSError):  # an unmarked record is only kept longer
            (self.path / "delivered").touch(0o600)

    def ended(self) -> float:
        """Epoch seconds of the end as far as the files tell."""
        for name in ("result.json", "events.jsonl", "spec.json"):
            with contextlib.suppress(OSError):
                return (self.path / name).stat().st_mtime
        return 0.0

    def signal(self, word: bytes) -> None:
        """Wake the worker: `c` to look for a cancel, `d` to stay when its launcher goes."""
        with contextlib.suppress(OSError):  # no reader: the worker looks by itself before it starts and commits
            descriptor = os.open(self.path / "control", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, word)
            finally:
                os.close(descriptor)

    def ask_cancel(self) -> None:
        """One `O_EXCL` file for all callers; a second cancel is fine."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path / "cancel", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self.signal(b"c")

    def running(self) -> Envelope:
        """The `queued` or `running` envelope, with the next call to make."""
        spec, state = self.spec(), self.state()
        now = time.time()
        elapsed = int((now - spec.created) * 1000)
        silent = int((now - state.heard) * 1000) if state.heard else None
        phase: Any = state.phase
        progress = Progress(phase=phase, last_command=state.last_command, elapsed_ms=elapsed, silent_ms=silent)
        meta = meta_of(spec)
        meta.job_id, meta.session_id, meta.expires_at = self.id, state.thread_id or spec.session_id, None
        return Envelope(
            ok=True,
            status="queued" if state.phase == "queued" else "running",
            tool=spec.tool,
            summary=f"{spec.tool} is {describe(progress)}; job {self.id}",
            job_id=self.id,
            poll_after_ms=min(max(elapsed // 4, POLL_MIN_MS), POLL_MAX_MS),
            next=Next(tool="codex_job_result", arguments={"job_id": self.id, "wait_seconds": 50}),
            progress=progress,
            meta=meta,
        )


def describe(progress: Progress) -> str:
    """A progress line for people."""
    seconds = progress.elapsed_ms // 1000
    if progress.phase == "command" and progress.last_command:
        return f"running {progress.last_command[:120]} ({seconds}s)"
    return f"{progress.phase} ({seconds}s)"
