"""The jobs of this user: `<state>/jobs/<job id>/`. There is no index."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import recovery
from codex_counsel.jobs.job import Job
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    check_private,
    read_json_or_none,
)
from codex_counsel.system.text import clean, one_line

CANCEL_PATIENCE = 15.0
"""Seconds; longer than SIGINT, grace, SIGKILL and sweep together take."""
KILL_PATIENCE = 2.0
"""Seconds in which a killed worker has let its lock go."""

Row = dict[str, str]
"""A job in a list: `job_id`, `status`, `tool`, `session_id`, `workspace`, `started` (UTC) and `subject`.

`session_id` is absent until there is a thread. Of a corrupt record there are only
`job_id`, `status` and `error`.
"""


class Store:
    """Finds, lists and cancels jobs. What is dropped, and when, is in `retention`."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = state / "jobs"

    @property
    def _own_directories(self) -> tuple[Path, ...]:
        return (self.directory, self.state / "keys", self.state / "gone")

    def prepare(self) -> None:
        """Make the directories, private. Raises OSError, or as `check`."""
        # Links below the state directory would be followed here.
        self.check()
        for path in (self.state, *self._own_directories):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.check()

    def check(self) -> None:
        """Raise `storage_failed` where another user may write, and so make or change what is read as a job.

        The state directory may be a link; what is in it may not. Where it is a file there
        are no jobs: a run is kept nowhere then.
        """
        if self.state.is_file():
            return
        try:
            check_private(self.state, follow_symlinks=True)
            for path in self._own_directories:
                check_private(path)
        except UnsafeDirectoryError as error:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"The state directory is not safe: {error}",
                repair="Mend the directory that the message names, or set CODEX_COUNSEL_STATE_DIR to another one.",
            ) from None

    def job(self, job_id: str) -> Job:
        """Raises `job_not_found`, with what the tombstone of a dropped job remembers in its details; or as `check`."""
        self.check()
        if not re.fullmatch(JOB_ID, job_id):
            raise CounselError(
                Code.JOB_NOT_FOUND,
                "That is not a job id: one has 32 hexadecimal digits",
            )
        path = self.directory / job_id
        if path.is_dir():
            return Job(path)

        tombstone = read_json_or_none(self.state / "gone" / f"{job_id}.json")
        if not tombstone or not isinstance(tombstone, dict):
            raise CounselError(Code.JOB_NOT_FOUND, f"There is no job {job_id}")
        raise CounselError(
            Code.JOB_NOT_FOUND,
            f"There is no job {job_id} any more: its record was dropped",
            details=tombstone,
        )

    def jobs(self) -> Iterator[Job]:
        """Every published job, in no order. Raises as `check`."""
        self.check()
        with contextlib.suppress(OSError):
            for path in self.directory.iterdir():
                if re.fullmatch(JOB_ID, path.name):
                    yield Job(path)

    def rows(self) -> list[Row]:
        """One row per job, newest first; a corrupt record is a row that says so."""
        rows: list[Row] = []
        for job in self.jobs():
            row = row_of(job)
            if row:
                rows.append(row)
        rows.sort(key=lambda row: (row.get("started", ""), row["job_id"]), reverse=True)
        return rows

    def last_sent_digest(self, thread_id: str) -> str | None:
        """The digest of the material that the latest review of this thread was sent; None where none is on record."""
        latest = 0.0
        digest = ""
        for job in self.jobs():
            if job.state().thread_id != thread_id:
                continue
            try:
                spec = job.spec()
            except CounselError:
                continue
            if spec.review and spec.created > latest:
                latest = spec.created
                digest = str(spec.review.get("sent", ""))
        return digest or None

    def ended_delegate(self, job_id: str) -> Job:
        """A delegate job that has ended. Raises `job_not_found`, `job_running` or `invalid_arguments` (no diff)."""
        job = self.job(job_id)
        if recovery.outcome(job) is None:
            raise CounselError(Code.JOB_RUNNING, f"Job {job_id} has not finished")
        if not (job.path / "diff.patch").is_file():
            message = f"Job {job_id} has no diff: it is not a delegate, or made no tree"
            raise CounselError(Code.INVALID_ARGUMENTS, message)
        return job

    def delegate_directory(self, job_id: str, workspace: Path) -> Path:
        """The directory of an ended delegate job. As `ended_delegate`; `workspace_invalid` for another workspace."""
        job = self.ended_delegate(job_id)
        made_for = job.spec().workspace
        if made_for != str(workspace):
            raise CounselError(
                Code.WORKSPACE_INVALID, f"Job {job_id} was made for {made_for}"
            )
        return job.path

    def cancel(self, job: Job) -> EnvelopeDict:
        """End a run and return its outcome, once nothing of it lives. A run that had ended keeps its outcome.

        Raises `job_running` where even SIGKILL does not end the worker.
        """
        if job.alive():
            _end(job)
        outcome = recovery.outcome(job)
        if outcome is None:
            raise CounselError(
                Code.JOB_RUNNING,
                f"Job {job.id} was cancelled, but its worker is still running",
            )
        return outcome


def _end(job: Job) -> None:
    try:
        job.request_cancel()
    except OSError:  # no room for the file
        _signal_worker(job, signal.SIGTERM)
    if _ends_within(job, CANCEL_PATIENCE):
        return

    # The worker does not answer. Without it, its processes are ended from here.
    _signal_worker(job, signal.SIGKILL)
    recovery.end_processes(job)
    _ends_within(job, KILL_PATIENCE)


def _ends_within(job: Job, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while job.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _signal_worker(job: Job, number: int) -> None:
    worker = job.state().worker
    if worker and worker.alive():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(worker.pid, number)


def row_of(job: Job) -> Row | None:
    """The job's row, or None when the record vanished while it was looked at."""
    try:
        spec = job.spec()
        state = job.state()
        outcome = recovery.outcome(job)
    except CounselError as error:
        if error.code != Code.JOB_CORRUPT and not job.path.exists():
            return None
        return {
            "job_id": job.id,
            "status": "corrupt",
            "error": clean(str(error)),
        }

    status = "running"
    session_id = state.thread_id
    if outcome:
        status = str(outcome["status"])
        session_id = outcome["meta"].get("session_id") or session_id
    elif state.phase == "queued":
        status = "queued"

    started = time.gmtime(spec.created)
    row = {
        "job_id": job.id,
        "tool": spec.tool,
        "status": status,
        "workspace": spec.workspace,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", started),
        "subject": one_line(spec.subject, 80),
    }
    if session_id:
        row["session_id"] = session_id
    return row
