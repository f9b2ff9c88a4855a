"""Which run a person means: one named by the beginning of its id, or the newest one of a directory that fits.

Imports as little as `results`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from codex_counsel.contract.request import Delegate, JobList
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.jobs.summary import Row
from codex_counsel.services import results

MIN_PREFIX = 4
FULL_LENGTH = 32
MAX_NAMED = 10
"""Runs that an ambiguous beginning lists."""


def job_id(store: Store, beginning: str) -> str:
    """The id that begins so. A full id is returned as it is, whether or not there is such a job.

    Raises `invalid_arguments` for what begins no id, or more than one; `job_not_found`.
    """
    if re.fullmatch(f"[0-9a-f]{{{FULL_LENGTH}}}", beginning):
        return beginning
    if not re.fullmatch(f"[0-9a-f]{{{MIN_PREFIX},{FULL_LENGTH}}}", beginning):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"JOB: that is no job id: one has {FULL_LENGTH} of the digits 0-9 and a-f, "
            f"and its first {MIN_PREFIX} or more will do where no other begins so",
            repair="`codex-counsel jobs` lists the ids.",
        )

    ids = [job.id for job in store.jobs() if job.id.startswith(beginning)]
    if not ids:
        raise CounselError(Code.JOB_NOT_FOUND, f"There is no job {beginning}…")
    if len(ids) > 1:
        more = ""
        if len(ids) > MAX_NAMED:
            more = f", and {len(ids) - MAX_NAMED} more"
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"JOB: {beginning} begins {len(ids)} ids: {', '.join(sorted(ids)[:MAX_NAMED])}{more}",
            repair="Name more digits of the one that you mean.",
        )
    return ids[0]


def newest(
    store: Store, directory: Path, fits: Callable[[Row], bool], words: str
) -> Row:
    """The newest run of the directory that fits. Raises `job_not_found`, with `words` for what was looked for."""
    for row in rows(store, JobList(workspace_root=str(directory), limit=200)):
        if fits(row):
            return row
    raise CounselError(
        Code.JOB_NOT_FOUND,
        f"{directory} has no {words}",
        repair="Name the run: `codex-counsel jobs --all` lists those of all directories.",
    )


def rows(store: Store, request: JobList) -> Iterator[Row]:
    """All rows that the request asks for, from all pages."""
    while True:
        wire = results.job_list(store, request)
        yield from wire["data"]["jobs"]
        cursor = wire["meta"].get("next_cursor")
        if cursor is None:
            return
        request = replace(request, cursor=cursor)


def was_asked_for(row: Row) -> bool:
    """Whether a caller asked for this run; another run started the others, and its result has what came of them."""
    return "parent" not in row


def has_unapplied_diff(store: Store, row: Row) -> bool:
    """Whether the row is an ended delegate whose diff was not applied, only in part, or was taken back.

    One of several attempts must be named; where one was applied, their run counts as applied.
    """
    if not was_asked_for(row) or not _is_ended_delegate(row):
        return False
    job = store.job(row["job_id"])
    return job.has_unapplied_diff() and not _has_applied_attempt(store, job)


def _has_applied_attempt(store: Store, job: Job) -> bool:
    attempts = [Job(store.directory / job_id) for job_id in job.spec().children]
    return any(attempt.has_applied_diff() for attempt in attempts)


def has_applied_diff(store: Store, row: Row) -> bool:
    """Whether the row is a delegate whose diff can be taken back."""
    return _is_ended_delegate(row) and store.job(row["job_id"]).has_applied_diff()


def _is_ended_delegate(row: Row) -> bool:
    is_over = row["status"] not in ("queued", "running")
    return is_over and row.get("tool") == Delegate.tool
