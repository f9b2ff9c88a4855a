"""The jobs of this user: `<state>/jobs/<job id>/`. There is no index."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.errors import USED_UP, Code, CounselError, error_of
from codex_counsel.jobs import recovery, summary, threads
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.summary import Row
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    check_private,
    read_json_or_none,
)
from codex_counsel.system.text import clean

CANCEL_PATIENCE = 15.0
"""Seconds; longer than SIGINT, grace, SIGKILL and sweep together take."""
KILL_PATIENCE = 2.0
"""Seconds in which a killed worker has let its lock go."""
STOPPED_GRACE = 30.0
"""Seconds over its limit after which a run with a stopped worker is ended from outside."""
HUNG_GRACE = 900.0
"""The same for a worker that is not stopped: what a task made may take it minutes to store."""
OVERDUE_PAUSE = 5.0
"""Seconds between two looks, of one that waits, whether the worker keeps its time limit."""
AFTER_THE_TURN = ("checking", "waiting", "finishing")
"""The phases in which a command of ours may run; each has a time limit of its own."""
_JOB_ID = re.compile(JOB_ID)

LIST_SECONDS = 0.8
"""Time in which a list reads records that have no summary; what is left then is for its next page."""


@dataclass(frozen=True)
class Page:
    """A part of a list. `places` are those of its rows among all jobs, of which there are `total`.

    `end` is the place where the next part begins, None at the end of the list.
    """

    rows: list[Row]
    places: list[int]
    end: int | None
    total: int


class Store:
    """Finds, lists and cancels jobs. What is dropped, and when, is in `retention`."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.directory = state / "jobs"

    @property
    def _own_directories(self) -> tuple[Path, ...]:
        names = ("keys", "gone", "threads", "sessions", "consumed")
        return (self.directory, *(self.state / name for name in names))

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
        if not _JOB_ID.fullmatch(job_id):
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
        """Every published job, in no order. Raises `resource_limit`, and as `check`."""
        for _, name in self._found():
            yield Job(self.directory / name)

    def newest_first(self) -> Iterator[Job]:
        """Every published job, by the time at which its `spec.json` was written. Raises as `jobs`."""
        for name in self._newest_names():
            yield Job(self.directory / name)

    def _newest_names(self) -> list[str]:
        """The job ids in that order. No record is read; what cannot be looked at comes last."""
        return [name for _, name in sorted(self._found(), reverse=True)]

    def _found(self) -> list[tuple[int, str]]:
        """Time (in nanoseconds, as `newest_first` has it) and id of each job."""
        self.check()
        found: list[tuple[int, str]] = []
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if _JOB_ID.fullmatch(entry.name):
                        found.append((_created_ns(entry.path), entry.name))
        except OSError as error:
            # "No jobs" would be a lie: there may be some.
            if error.errno in USED_UP:
                message = "The jobs cannot be listed"
                raise error_of(Code.STORAGE_FAILED, message, error) from None
        return found

    def rows(self) -> list[Row]:
        """One row per job, newest first; a corrupt record is a row that says so."""
        rows: list[Row] = []
        for job in self.newest_first():
            row = row_of(job)
            if row:
                rows.append(row)
        return rows

    def page(
        self, start: int, limit: int, workspace: str | None, status: str | None
    ) -> Page:
        """At most `limit` rows from the place `start` on, newest first, of this workspace and status.

        Only what is shown is read, or must be read to know that it is not shown. A part
        with fewer rows than there are ends where too many records had no summary: they
        have one when the next part is asked for.
        """
        names = self._newest_names()
        rows: list[Row] = []
        places: list[int] = []
        deadline = time.monotonic() + LIST_SECONDS
        for place, name in enumerate(names[start:], start):
            is_overdue = time.monotonic() > deadline and place > start
            if is_overdue or len(rows) == limit:
                return Page(rows, places, place, len(names))
            row = row_of(Job(self.directory / name))
            if row is None:
                continue
            of_workspace = workspace in (None, row.get("workspace"))
            if of_workspace and status in (None, row["status"]):
                rows.append(row)
                places.append(place)
        return Page(rows, places, None, len(names))

    def last_sent_digest(self, thread_id: str) -> str | None:
        """The digest of the material that the latest review of this thread was sent; None where none is on record."""
        job_id = threads.last_review(self.state, thread_id)
        if job_id is None:
            return None
        try:
            review = self.job(job_id).spec().review or {}
        except CounselError:
            return None
        return str(review.get("sent", "")) or None

    def ended_delegate(self, job_id: str) -> Job:
        """A delegate job that has ended. Raises `job_not_found`, `job_running` or `invalid_arguments` (no diff)."""
        job = self.job(job_id)
        if recovery.outcome(job) is None:
            raise CounselError(Code.JOB_RUNNING, f"Job {job_id} has not finished")
        if not (job.path / "diff.patch").is_file():
            message = f"Job {job_id} has no diff: it is not a delegate, or made no tree"
            raise CounselError(Code.INVALID_ARGUMENTS, message)
        return job

    def directory_of(self, job_id: str) -> Path:
        """Where the directory of a job is, or will be. The id must have its form."""
        return self.directory / job_id

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
        self._end_children(job)
        outcome = recovery.outcome(job) or _concluded_elsewhere(job)
        if outcome is None:
            raise CounselError(
                Code.JOB_RUNNING,
                f"Job {job.id} was cancelled, but its worker is still running",
            )
        return outcome

    def _end_children(self, job: Job) -> None:
        """End the jobs that outlive the one that started them, which is rare: its worker does so."""
        # Nobody else needs it, and listing jobs is to be quick.
        from codex_counsel.jobs import children

        with contextlib.suppress(CounselError):  # without a spec there are none to find
            for child in children.living(job.spec(), job.path):
                _end(child)


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


def _concluded_elsewhere(job: Job) -> EnvelopeDict | None:
    """The outcome of a run whose worker is gone, which another process just concludes; None where it takes long."""
    deadline = time.monotonic() + CANCEL_PATIENCE
    outcome: EnvelopeDict | None = None
    while outcome is None and time.monotonic() < deadline:
        worker = job.state().worker
        if worker is None or worker.alive():
            return None
        time.sleep(0.02)
        outcome = recovery.outcome(job)
    return outcome


def _ends_within(job: Job, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while job.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end_if_overdue(job: Job) -> None:
    """End a run whose worker does not keep the time limit, because it is stopped or hangs.

    Its outcome is a `timeout` then, unless Codex had completed its turn. The same holds for
    the jobs that it started, where its own worker is gone: nobody else looks at them.
    """
    try:
        is_running = job.is_running()
        is_overdue = is_running and _is_overdue(job)
        if not is_running and not (job.path / "result.json").exists():
            _end_overdue_children(job)
    except CounselError:  # without a spec there is no limit
        return
    if not is_overdue:
        return
    job.mark_overdue()
    _signal_worker(job, signal.SIGKILL)
    recovery.end_processes(job)
    _ends_within(job, KILL_PATIENCE)


def _end_overdue_children(job: Job) -> None:
    """Raises CounselError."""
    spec = job.spec()
    if not spec.children:
        return
    # Nobody else needs it, and listing jobs is to be quick.
    from codex_counsel.jobs import children

    for child in children.living(spec, job.path):
        end_if_overdue(child)


def _is_overdue(job: Job) -> bool:
    state = job.state()
    if state.since is None or state.worker is None or not state.worker.alive():
        return False
    spec = job.spec()
    allowed = spec.total
    # `since` is the begin of Codex, or of the last command of ours.
    if spec.checks and state.phase in AFTER_THE_TURN:
        allowed = max(allowed, spec.checks.get("seconds", 0))
    seconds_over = time.monotonic() - state.since - allowed
    if seconds_over > STOPPED_GRACE and state.worker.stopped():
        return True
    # There is no limit for how long a job is queued, or waits for others that may be.
    return seconds_over > HUNG_GRACE and state.phase not in ("queued", "waiting")


def _signal_worker(job: Job, number: int) -> None:
    worker = job.state().worker
    if worker and worker.alive():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(worker.pid, number)


def _created_ns(path: str) -> int:
    try:
        # Without a Path: this is called for every record.
        return os.stat(f"{path}/spec.json").st_mtime_ns  # noqa: PTH116
    except OSError:
        return 0


def row_of(job: Job) -> Row | None:
    """The job's row, or None when the record vanished while it was looked at.

    An ended job that has no summary gets one.
    """
    stored = summary.read(job)
    if stored:
        row, _ = stored
        return row
    try:
        spec = job.spec()
        outcome = recovery.outcome(job)
    except CounselError as error:
        if error.code != Code.JOB_CORRUPT and not job.path.exists():
            return None
        return {
            "job_id": job.id,
            "status": "corrupt",
            "error": clean(str(error)),
        }
    if outcome is None:
        return summary.running_row(job, spec)

    row = summary.ended_row(job, spec, outcome)
    summary.store(job, row)
    return row
