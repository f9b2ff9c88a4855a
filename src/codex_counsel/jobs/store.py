"""The jobs of this user: found, listed, cancelled, delivered and, when their time is up, dropped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.job import Job, State
from codex_counsel.system.text import clean, one_line

UNDELIVERED_SECONDS = 30 * 86_400
UNDELIVERED_BYTES = 1_000_000_000
CANCEL_PATIENCE = 15.0
"""Longer than SIGINT, grace, SIGKILL and sweep together take."""


class Store:
    """`<state>/jobs/<job id>/`; there is no index."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = state / "jobs"

    def prepare(self) -> None:
        """Make the directories, private; raises OSError."""
        for path in (self.state, self.directory, self.state / "keys", self.state / "gone"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def job(self, job_id: str) -> Job:
        """The job, or `job_not_found` with what its tombstone remembers."""
        if not re.fullmatch(JOB_ID, job_id):
            raise CounselError(Code.JOB_NOT_FOUND, "That is no job id: one has 32 hexadecimal digits")
        if not (self.directory / job_id).is_dir():
            raise self._gone(job_id)
        return Job(self.directory / job_id)

    def _gone(self, job_id: str) -> CounselError:
        details: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            details = dict(json.loads((self.state / "gone" / f"{job_id}.json").read_text("utf-8")))
        expired = " any more: its record was dropped" if details else ""
        return CounselError(Code.JOB_NOT_FOUND, f"There is no job {job_id}{expired}", details=details)

    def jobs(self) -> Iterator[Job]:
        """Every published job, in no order."""
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                if re.fullmatch(JOB_ID, path.name):
                    yield Job(path)

    def rows(self) -> list[dict[str, Any]]:
        """One row per job, newest first; a corrupt record is a row that says so."""
        rows = [row for job in self.jobs() if (row := _row(job))]
        return sorted(rows, key=lambda row: (str(row.get("started", "")), row["job_id"]), reverse=True)

    def sent_last(self, thread_id: str) -> str | None:
        """Digest of the material that this thread was sent last, where a job of it is still on record."""
        specs = []
        for job in self.jobs():
            with contextlib.suppress(CounselError):
                if job.state().thread_id == thread_id and (spec := job.spec()).review:
                    specs.append(spec)
        newest = max(specs, key=lambda spec: spec.created, default=None)
        return str(newest.review.get("sent") or "") or None if newest and newest.review else None

    def cancel(self, job: Job) -> EnvelopeDict:
        """Ask, then wait until nothing of the run lives. A run that had ended keeps its outcome."""
        if not job.alive():
            return _settled(job)
        try:
            job.ask_cancel()
        except OSError:  # no room for the file
            _signal_worker(job, signal.SIGTERM)
        deadline = time.monotonic() + CANCEL_PATIENCE
        while job.alive():
            if time.monotonic() > deadline:
                _end_worker(job)
                break
            time.sleep(0.02)
        return _settled(job)

    def drop(self, job: Job) -> None:
        """Remove a record and leave a tombstone with what is worth keeping."""
        row = _row(job)
        if row is None:  # someone else was faster: the tombstone is theirs
            return
        kept = {name: row[name] for name in ("job_id", "session_id", "tool", "status", "started") if name in row}
        with contextlib.suppress(OSError):
            write_private(self.state / "gone" / f"{job.id}.json", json.dumps(kept))
        hidden = self.directory / f".trash-{job.id}"
        with contextlib.suppress(OSError):
            job.path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def evict(self, ttl: int, per_workspace: int) -> None:
        """Drop what is delivered and old or too many; undelivered and unapplied results live on for 30 days or 1 GB."""
        if not self._due():
            return
        ended = sorted((job for job in self.jobs() if not job.alive()), key=Job.ended, reverse=True)
        delivered = {job.id for job in ended if job.delivered() and not job.unapplied()}
        self._evict_delivered([job for job in ended if job.id in delivered], ttl, per_workspace)
        self._evict_undelivered([job for job in ended if job.id not in delivered])
        self._clear_leftovers()

    def _due(self) -> bool:
        """At most once a minute for all processes together."""
        marker = self.state / "evicted"
        with contextlib.suppress(OSError):
            if marker.exists() and 0 <= time.time() - marker.stat().st_mtime < 60:
                return False
            marker.touch(0o600)
        return True

    def _evict_delivered(self, jobs: list[Job], ttl: int, per_workspace: int) -> None:
        seen: dict[str, int] = {}
        for job in jobs:
            workspace = str((_row(job) or {}).get("workspace"))
            seen[workspace] = seen.get(workspace, 0) + 1
            if time.time() - job.ended() > ttl or seen[workspace] > per_workspace:
                self.drop(job)

    def _evict_undelivered(self, jobs: list[Job]) -> None:
        total = 0
        for job in jobs:
            total += _size(job)
            if time.time() - job.ended() > UNDELIVERED_SECONDS or total > UNDELIVERED_BYTES:
                self.drop(job)

    def _clear_leftovers(self) -> None:
        """Births that a launcher did not finish and removals that were interrupted, after an hour; old tombstones."""
        for pattern, age in (
            ("jobs/.birth-*", 3600),
            ("jobs/.trash-*", 3600),
            ("gone/*.json", UNDELIVERED_SECONDS * 3),
        ):
            for path in self.state.glob(pattern):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > age:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _size(job: Job) -> int:
    """Bytes of the record; what vanishes meanwhile counts nothing."""
    total = 0
    for file in job.path.glob("*"):
        with contextlib.suppress(OSError):
            total += file.lstat().st_size
    return total


def _row(job: Job) -> dict[str, Any] | None:
    """None when the record vanished while it was looked at."""
    try:
        spec, state, outcome = job.spec(), job.state(), job.outcome()
    except CounselError as error:
        gone = error.code != Code.JOB_CORRUPT and not job.path.exists()
        return None if gone else {"job_id": job.id, "status": "corrupt", "error": clean(str(error))}
    row: dict[str, Any] = {"job_id": job.id, "tool": spec.tool, "status": _status(state, outcome)}
    row["session_id"] = (outcome or {}).get("meta", {}).get("session_id") or state.thread_id
    row |= {"workspace": spec.workspace, "started": _stamp(spec.created), "subject": one_line(spec.subject, 80)}
    return {name: value for name, value in row.items() if value is not None}


def _status(state: State, outcome: EnvelopeDict | None) -> str:
    return str(outcome["status"]) if outcome else ("queued" if state.phase == "queued" else "running")


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _signal_worker(job: Job, number: int) -> None:
    worker = job.state().worker
    if worker and worker.alive():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(worker.pid, number)


def _end_worker(job: Job) -> None:
    """A worker that does not answer is ended, and then what it leaves."""
    _signal_worker(job, signal.SIGKILL)
    job.end_stray(job.spec(), job.state())
    for _ in range(100):
        if not job.alive():
            break
        time.sleep(0.02)


def _settled(job: Job) -> EnvelopeDict:
    outcome = job.outcome()
    if outcome is None:
        raise CounselError(Code.JOB_RUNNING, f"Job {job.id} was told to end but its worker still lives")
    return outcome


def write_private(path: Path, text: str) -> None:
    """Replace a file of our own at once; raises OSError."""
    draft = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
