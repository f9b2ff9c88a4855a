"""Reading, ending and listing runs by their job ids.

Imports neither pydantic nor what is needed to run Codex or git, so that `codex-counsel
jobs` starts fast.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.contract import paging
from codex_counsel.contract.envelope import (
    Envelope,
    EnvelopeDict,
    Meta,
    Next,
    Progress,
    completed,
)
from codex_counsel.contract.request import (
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
)
from codex_counsel.contract.settings import Settings, load
from codex_counsel.contract.vocabulary import TERMINAL, Detail
from codex_counsel.delegate.record import READABLE_DIFF
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import recovery, retention
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import OVERDUE_PAUSE, Page, Store, end_if_overdue

if TYPE_CHECKING:
    from codex_counsel.jobs.handle import Handle

FOLLOW_SECONDS = 1.0
FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5
"""Seconds between two looks at a run that another process launched, at first and after a while."""
STATUS_FIELDS = ("ok", "status", "tool", "summary", "verdict", "error", "meta")


@dataclass(frozen=True)
class Times:
    """When a run was created and last wrote something, in epoch seconds; and how long it and its record may last."""

    created: float
    updated: float
    lifetime_seconds: int


def open_store(settings: Settings | None = None) -> Store:
    """The jobs of this user, in the state directory that the environment of the process names."""
    settings = settings or load()
    return Store(settings.state)


# --- waiting


def follow(handle: Handle, on_progress: Callable[[Progress], None]) -> EnvelopeDict:
    """Wait for the end of the run and return its envelope. Calls `on_progress` about once a second."""
    while (result := handle.collect()) is None:
        handle.wait(FOLLOW_SECONDS)
        running = progress(handle.job)
        if running:
            on_progress(running)
    return result


def join(store: Store, job_id: str) -> Handle:
    """A handle on a run that another process started; raises `job_not_found`."""
    # `result` without --wait does without this module, which imports subprocess.
    from codex_counsel.jobs.handle import Handle

    return Handle(store.job(job_id))


def progress(job: Job) -> Progress | None:
    """Where the run stands; None if its record cannot be read."""
    try:
        return job.running().progress
    except CounselError:
        return None


def times(store: Store, job_id: str, ttl: int) -> Times:
    """The times of a job; raises `job_not_found` and `job_corrupt`."""
    job = store.job(job_id)
    spec = job.spec()
    updated = max(job.state().last_event or 0, spec.created)
    return Times(spec.created, updated, int(spec.total + ttl))


def _outcome_within(job: Job, seconds: float) -> EnvelopeDict | None:
    """The terminal envelope, waited for at most so long; None while the run lives.

    A worker that does not keep its time limit meanwhile is ended.
    """
    deadline = time.monotonic() + seconds
    next_check = 0.0
    pause = FIRST_PAUSE
    while True:
        if time.monotonic() >= next_check:
            end_if_overdue(job)
            next_check = time.monotonic() + OVERDUE_PAUSE
        outcome = recovery.outcome(job)
        left = deadline - time.monotonic()
        if outcome is not None or left <= 0:
            return outcome
        time.sleep(min(pause, left))
        pause = next_pause(pause)


def next_pause(pause: float) -> float:
    """How long to wait until the next look at a run, after a look that came after `pause` seconds."""
    return min(pause * 1.5, LAST_PAUSE)


# --- results


def whole_result(store: Store, job_id: str) -> EnvelopeDict:
    """The stored envelope without paging, or the `running` one; raises `job_not_found`."""
    job = store.job(job_id)
    end_if_overdue(job)
    outcome = recovery.outcome(job)
    if outcome is None:
        return job.running().wire()
    return with_whole_diff(job, outcome)


def mark_received(store: Store, job_id: str) -> None:
    """Note that the caller has all of the result: the job counts as delivered and may be removed later."""
    job = Job(store.directory / job_id)
    job.mark_delivered()
    # What the jobs that it started have to say is in its result.
    with contextlib.suppress(CounselError):
        for child_id in job.spec().children:
            if (store.directory / child_id).is_dir():
                Job(store.directory / child_id).mark_delivered()


def is_last_page(page: EnvelopeDict) -> bool:
    """Whether nothing of the result remains to be fetched after this page."""
    if page["status"] not in TERMINAL:
        return False
    return "next" not in page and "truncated" not in page["meta"]


def deliver(
    store: Store, handle: Handle, outcome: EnvelopeDict, detail: Detail = "full"
) -> EnvelopeDict:
    """The first page of a finished run, marked as delivered if it is the last. A run without a record comes whole."""
    if handle.private or not (handle.job.path / "result.json").exists():
        return outcome
    page = paging.first_page(with_whole_diff(handle.job, outcome), detail)
    if is_last_page(page):
        mark_received(store, handle.job.id)
    return page


def detach(store: Store, handle: Handle, detail: Detail = "full") -> EnvelopeDict:
    """Let the run go on without its caller; the `running` envelope, or the first page of a run that has ended."""
    handle.detach()
    handle.release()
    outcome = recovery.outcome(handle.job)
    if outcome is None:
        return handle.job.running().wire()
    return deliver(store, handle, outcome, detail)


def interrupt(store: Store, handle: Handle) -> None:
    """Cancel a run whose caller does not wait any more; returns when nothing of it is running."""
    handle.release()
    try:
        store.cancel(handle.job)
    except CounselError as error:
        # The record of a private run goes with it.
        if not (handle.private and error.code == Code.JOB_NOT_FOUND):
            raise


def job_status(store: Store, request: JobStatus) -> EnvelopeDict:
    """Where the run stands; a finished one in summary."""
    job = store.job(request.job_id)
    outcome = _outcome_within(job, request.wait_seconds)
    if outcome is None:
        return job.running().wire()
    status = {name: outcome[name] for name in STATUS_FIELDS if name in outcome}
    fetch = {"tool": "codex_job_result", "arguments": {"job_id": job.id}}
    return {**status, "job_id": job.id, "next": fetch}


def read_result(store: Store, request: JobResult) -> EnvelopeDict:
    """A page of the stored envelope, or the `running` one. Marks nothing: `acknowledge` does when it was received."""
    job = store.job(request.job_id)
    outcome = _outcome_within(job, request.wait_seconds)
    if outcome is None:
        return job.running().wire()
    whole = with_whole_diff(job, outcome)
    if request.cursor:
        return paging.page_at(whole, request.cursor, request.detail)
    return paging.first_page(whole, request.detail)


def with_whole_diff(job: Job, outcome: EnvelopeDict) -> EnvelopeDict:
    """The envelope with all of a diff for reading of which the stored one has only the beginning."""
    if "diff" not in outcome:
        return outcome
    try:
        text = (job.path / READABLE_DIFF).read_bytes().decode()
    except (OSError, ValueError):
        return outcome
    return {**outcome, "diff": text}


def acknowledge(
    store: Store, request: JobResult | JobCancel, page: EnvelopeDict
) -> None:
    """The page is about to be sent. With the last page the job is marked as delivered, or consumed.

    A consumed record is dropped by a later sweep: the page may be lost on its way, and
    is returned again until then. Raises `storage_failed` where that cannot be noted.
    """
    if not is_last_page(page):
        return
    mark_received(store, request.job_id)
    if not isinstance(request, JobConsume):
        return
    retention.drop_consumed(store)
    try:
        retention.mark_consumed(store, Job(store.directory / request.job_id))
    except OSError as error:
        raise CounselError(
            Code.STORAGE_FAILED, f"The result is kept: it cannot be marked: {error}"
        ) from None


def drop_consumed(store: Store) -> None:
    """Drop the records that were consumed more than a minute ago."""
    with contextlib.suppress(OSError, CounselError):
        retention.drop_consumed(store)


def cancel(store: Store, request: JobCancel) -> EnvelopeDict:
    """End the run and all its processes; a run that had finished returns its result. See `acknowledge`."""
    job = store.job(request.job_id)
    outcome = store.cancel(job)
    if outcome["status"] != "cancelled":
        return paging.first_page(with_whole_diff(job, outcome), "full")
    return _cancelled(request, outcome).wire()


def _cancelled(request: JobCancel, outcome: EnvelopeDict) -> Envelope:
    job_id = request.job_id
    survivors = outcome.get("error", {}).get("details", {}).get("survivors", [])
    left = "nothing of it is running"
    if survivors:
        left = f"these processes of it survived: {', '.join(map(str, survivors))}"

    envelope = completed(
        request.tool,
        f"Job {job_id} is cancelled; {left}",
        {"cancelled": True, "survivors": survivors},
        Meta(job_id=job_id, session_id=outcome["meta"].get("session_id")),
    )
    if any(outcome.get(name) for name in paging.PAGED):
        envelope.summary += "; what it had done before is kept"
        envelope.next = Next(tool="codex_job_result", arguments={"job_id": job_id})
    return envelope


def job_list(store: Store, request: JobList) -> EnvelopeDict:
    """Jobs of this user, newest first."""
    if request.cursor and not re.fullmatch("[0-9]{1,9}", request.cursor):
        raise CounselError(
            Code.INVALID_ARGUMENTS, "cursor: belongs to no page of this list"
        )

    workspace = None
    if request.workspace_root:
        workspace = str(Path(request.workspace_root).resolve())
    start = int(request.cursor or 0)
    page = store.page(start, request.limit, workspace, request.status)

    listed = paging.rows_of_one_page(page.rows)
    end = page.end
    if len(listed) < len(page.rows):
        end = page.places[len(listed)]
    meta = Meta()
    if end is not None:
        meta = Meta(next_cursor=str(end), truncated=True)
    return completed(
        request.tool, _list_summary(request, page, len(listed)), {"jobs": listed}, meta
    ).wire()


def _list_summary(request: JobList, page: Page, shown: int) -> str:
    if not request.workspace_root and not request.status:
        return f"{page.total} jobs, {shown} shown"
    if page.end is None and not request.cursor:
        return f"{len(page.rows)} jobs match, {shown} shown"
    return f"{shown} matching jobs shown, of {page.total} jobs in all"
