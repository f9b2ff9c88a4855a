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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codex_counsel.contract.envelope import Envelope, EnvelopeDict, Next, Progress, describe
from codex_counsel.contract.vocabulary import JOB_ID, PHASES, TERMINAL, Phase
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.spec import Spec
from codex_counsel.system.process_tree import Identity, end_stray

if TYPE_CHECKING:
    from codex_counsel.codex.transcript import Transcript

POLL_MIN_MS, POLL_MAX_MS = 2_000, 30_000


@dataclass(frozen=True)
class State:
    """`state.json`, written by the worker alone."""

    phase: Phase = "queued"
    worker: Identity | None = None
    codex: Identity | None = None
    thread_id: str | None = None
    last_command: str | None = None
    heard: float | None = None
    detached: bool = False

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> State:
        """Raises ValueError for what no worker wrote."""
        phase: Any = raw.get("phase", "queued")
        heard = raw.get("heard")
        if phase not in PHASES or not isinstance(heard, int | float | None):
            raise ValueError("no state")
        known = (_text(raw.get("thread_id")), _text(raw.get("last_command")), heard, raw.get("detached") is True)
        return cls(phase, _identity(raw.get("worker")), _identity(raw.get("codex")), *known)


def _identity(raw: Any) -> Identity | None:
    match raw:
        case [int(pid), int(start), str(boot)]:
            return Identity(pid, start, boot)
    return None


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


class Job:
    """A published job directory, seen by a reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        if not re.fullmatch(JOB_ID, self.id):
            raise CounselError(Code.JOB_NOT_FOUND, "That is no job id")

    def spec(self) -> Spec:
        try:
            return Spec.parse(dict(json.loads((self.path / "spec.json").read_text("utf-8"))))
        except FileNotFoundError:
            raise CounselError(Code.JOB_NOT_FOUND, f"There is no job {self.id}") from None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise CounselError(Code.JOB_CORRUPT, f"The record of job {self.id} cannot be read: {error}") from None

    def state(self) -> State:
        """What the worker noted last; nothing readable is the state of a worker that has not begun."""
        try:
            return State.parse(json.loads((self.path / "state.json").read_text("utf-8")))
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
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

    def result(self) -> EnvelopeDict | None:
        """The committed envelope, if there is one."""
        try:
            stored = json.loads((self.path / "result.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise CounselError(Code.JOB_CORRUPT, f"The result of job {self.id} cannot be read: {error}") from None
        match stored:
            case {"ok": bool(), "status": str(status), "tool": str(), "summary": str(), "meta": dict()}:
                if status in TERMINAL:
                    return dict(stored)
        raise CounselError(Code.JOB_CORRUPT, f"The result of job {self.id} is no envelope")

    def outcome(self) -> EnvelopeDict | None:
        """The terminal envelope: the committed one, or one derived for a run whose worker is gone. None: it lives."""
        alive = self.alive()
        result = self.result()
        if result or alive:
            return result
        return self._recovered() if self.spec().delegate else self._died().wire()

    def _recovered(self) -> EnvelopeDict | None:
        """A dead delegate's tree is harvested by one reader alone; for the others the run still ends meanwhile."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:  # a record that is being dropped, or of which a part is missing
            return self._died().wire()
        try:
            for _ in range(20):  # another reader's probe holds the lock for an instant
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return self._died().wire()
                time.sleep(0.005)
            return None
        finally:
            os.close(descriptor)

    def _died(self) -> Envelope:
        """What the events hold of a run whose worker is gone, and an end to what that worker left."""
        # Most jobs are read as they were committed, and `jobs` is to start fast.
        from codex_counsel.jobs.run import Exit, conclude

        spec, state = self.spec(), self.state()
        survivors = self.end_stray(spec, state)
        if self.id in Path(spec.scratch).name and not spec.delegate:
            shutil.rmtree(spec.scratch, ignore_errors=True)
        transcript = self.transcript()
        transcript.thread_id = transcript.thread_id or state.thread_id
        envelope = conclude(spec, transcript, Exit(self._last_word(), survivors=tuple(survivors)), self.path)
        ended = self.ended()
        envelope.meta.job_id = self.id
        envelope.meta.elapsed_ms = max(int((ended - spec.created) * 1000), 0)
        envelope.meta.expires_at = datetime.fromtimestamp(ended + spec.ttl, UTC).isoformat(timespec="seconds")
        return envelope

    def end_stray(self, spec: Spec, state: State) -> list[int]:
        """End what a worker that is gone left running; returns what survived. MCP servers are known by their TMPDIR."""
        scratch = f"{spec.scratch}/tmp" if spec.delegate else spec.scratch  # noqa: S108  # a name of ours
        return end_stray(state.codex, (f"CODEX_COUNSEL_JOB={self.id}", f"TMPDIR={scratch}"))

    def _last_word(self) -> str:
        if (self.path / "unsaved").exists():
            return "unsaved"
        return "cancelled" if self.cancel_asked() else "died"

    def transcript(self) -> Transcript:
        """The events recorded so far."""
        from codex_counsel.codex import events
        from codex_counsel.codex.transcript import Transcript

        transcript = Transcript()
        with contextlib.suppress(OSError), (self.path / "events.jsonl").open("rb") as file:
            for line in file:
                transcript.add(events.parse(line))
        return transcript

    def cancel_asked(self) -> bool:
        return (self.path / "cancel").exists()

    def delivered(self) -> bool:
        return (self.path / "delivered").exists()

    def unapplied(self) -> bool:
        """Whether it holds a diff that was not applied so far."""
        try:
            return (self.path / "diff.patch").stat().st_size > 0 and not (self.path / "applied").exists()
        except OSError:
            return False

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
        """Wake the worker: `c` to look for a cancel, `d` to stay when its launcher goes. It may not listen yet."""
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

    def ask_stay(self) -> None:
        """Have the run outlive its launcher. The file is for a worker that does not listen to the pipe yet."""
        with contextlib.suppress(OSError):
            os.close(os.open(self.path / "stay", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.signal(b"d")

    def running(self) -> Envelope:
        """The `queued` or `running` envelope, with the next call to make."""
        from codex_counsel.jobs.run import meta_of

        spec, state = self.spec(), self.state()
        now = time.time()
        elapsed = int((now - spec.created) * 1000)
        silent = int((now - state.heard) * 1000) if state.heard else None
        progress = Progress(phase=state.phase, last_command=state.last_command, elapsed_ms=elapsed, silent_ms=silent)
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
