"""Jobs that a job starts: prepared by its launcher, kept in its directory, and started by its worker.

Each is a job like any other, with its own directory, worker, thread and place in the
queue. Its lifetime pipe is held by the worker that started it: when that is gone, the
job is ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex.command import JOB_VARIABLE
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import recovery
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.spec import Spec
from codex_counsel.kind import TEMPORARY, ChildOutcome
from codex_counsel.system.files import read_json_or_none
from codex_counsel.system.json_values import JsonObject

if TYPE_CHECKING:
    from codex_counsel.jobs.launcher import NewJob

CHILDREN = "children.json"
"""The file of the job directory with the prepared jobs: a list of what `to_json` makes."""


def to_json(new: NewJob) -> JsonObject:
    """A prepared job. Its environment and its images are those of the job that starts it."""
    return {
        "spec": new.spec.to_json(),
        "prompt": new.prompt,
        "schema": new.schema,
        "instructions": new.instructions,
        "last_prompt": new.last_prompt,
    }


def prepared(directory: Path) -> dict[str, JsonObject]:
    """The prepared jobs by their ids. Raises `job_corrupt`."""
    rows = read_json_or_none(directory / CHILDREN)
    try:
        return {str(row["spec"]["job_id"]): row for row in rows}
    except (KeyError, TypeError):
        raise CounselError(
            Code.JOB_CORRUPT, f"{CHILDREN} of job {directory.name} cannot be read"
        ) from None


def environment(inherited: Mapping[str, str], spec: Spec) -> dict[str, str]:
    """The environment of such a job: that of the worker that starts it, with its own id and temporary directory."""
    temporary = f"{spec.scratch}/{TEMPORARY}"
    return {
        **inherited,
        **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), temporary),
        JOB_VARIABLE: spec.job_id,
    }


def started(spec: Spec, directory: Path) -> list[Job]:
    """Those of the prepared jobs that were started, in their order."""
    jobs = []
    for job_id in spec.children:
        path = directory.parent / job_id
        if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for some paths
            jobs.append(Job(path))
    return jobs


def living(spec: Spec, directory: Path) -> list[Job]:
    """Those that were started and have not ended."""
    return [job for job in started(spec, directory) if job.is_running()]


def outcomes(spec: Spec, directory: Path) -> tuple[ChildOutcome, ...]:
    """What came of those that have ended."""
    ended = []
    for job in started(spec, directory):
        outcome = outcome_of(job)
        if outcome:
            ended.append(outcome)
    return tuple(ended)


def outcome_of(job: Job) -> ChildOutcome | None:
    """What came of this one; None while it runs, and where its record is gone or damaged."""
    try:
        envelope = recovery.outcome(job)
    except (CounselError, OSError):
        return None
    if envelope is None:
        return None
    return ChildOutcome(job.id, job.path, envelope)


def dump(jobs: Iterable[NewJob]) -> str:
    """The content of `CHILDREN`."""
    return json.dumps([to_json(new) for new in jobs], ensure_ascii=False)
