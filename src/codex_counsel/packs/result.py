"""What came of a pack, as a file: the ended job, and the jobs that it started.

The archive is one of `archive.py`, of the kind `result`. Its `about` is `{"pack": id, "job":
id}`: the id of the pack, and that of the job on the machine that ran it. For each job,
the folder of its id has

- `job.json`: a `JobRecord`;
- `result.json`: the envelope, without what means something on that machine alone;
- `seed.json`, `seed.patch`, `diff.patch`, `work.json`, of a task that left a diff: the commit
  and the patch to what it began with, the patch of what it did, and the part of
  `delegate/record.py` that is not derived from these (`WORK_FIELDS`);
- `reply.txt`, of a completed review: the reviewer's reply, as the model wrote it;
- `proofs.json` of a review with proofs, `proof.json` of each proof;
- `events.jsonl`, where it was asked for: all that Codex reported.

`result_writer.py` writes it. Whoever ran the job may have written anything into the file.
`read_result` checks that it has this form. What it says is checked by `take.py`: what can
be derived again here is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

from codex_counsel.contract.reading import read
from codex_counsel.contract.request import (
    Consult,
    Delegate,
    ReviewChanges,
    ReviewPlan,
)
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.refs import SHA
from codex_counsel.jobs.journal import MAX_EVENTS
from codex_counsel.jobs.kinds import KindName
from codex_counsel.jobs.spec import MAX_EPOCH_SECONDS
from codex_counsel.packs import archive
from codex_counsel.system.files import read_regular
from codex_counsel.system.json_values import Json, JsonObject, too_deep
from codex_counsel.system.text import clean, one_line, visible

JOB = "job.json"
RESULT = "result.json"
REPLY = "reply.txt"
PATCH = "diff.patch"
EVENTS = "events.jsonl"
WORK_FIELDS = ("names", "ignored", "planted", "warnings", "partial")
"""The fields of a `DelegateResult` that travel."""
REVIEW_FIELDS = (
    "coverage",
    "scope",
    "frame",
    "entries",
    "fingerprint",
    "sent",
    "plan",
    "rules",
    "since",
    "relied_on",
    "relied_since",
    "base_ref",
    "focused",
    "branch",
    "checked_out",
    "plan_name",
    "bars",
)
"""The fields of a `ReviewRecord` that travel: all but paths of that machine. Of `prove` there are the jobs."""
TOOLS_OF_KINDS: Mapping[KindName, tuple[str, ...]] = {
    "consult": (Consult.tool,),
    "review": (ReviewChanges.tool, ReviewPlan.tool),
    "delegate": (Delegate.tool,),
    "attempts": (Delegate.tool,),
    "proof": (Delegate.tool,),
}
"""The tools of the jobs that travel."""
PARTS: Mapping[KindName, tuple[KindName, ...]] = {
    "review": ("proof",),
    "attempts": ("delegate", "consult"),
}
"""The kinds of the jobs that a job starts; a judge is asked as a consultation."""
MAX_JOBS = 200
MAX_JSON = 64_000_000
"""Bytes of a file that is held in memory; a review of 10,000 files has 5 MB."""
MAX_EVENT_BYTES = 2 * MAX_EVENTS
"""Bytes of the events of a job; with more, they stay where the job ran."""
_JOB = re.compile(JOB_ID)


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """What is told of a job. `created` and `ended` are in epoch seconds. `ran`: it ran Codex itself.

    `details` are those of its kind; `warnings` those that its kind's conclusion did not
    add. `head` is the commit that was checked out where it worked.
    """

    tool: str
    kind: KindName
    subject: str
    created: float
    ended: float
    ran: bool
    parent: str | None = None
    head: str | None = None
    details: JsonObject = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ResultFile:
    """A result that was read: its files lie below `directory`, in a folder for each id of `jobs`. `job` is the first.

    `digest` tells it from another result; that events are among its files makes no difference.
    """

    name: str
    directory: Path
    pack: str
    job: str
    jobs: Mapping[str, JobRecord]
    digest: str

    def error(self, problem: str) -> CounselError:
        """`pack_invalid`, with the name of the file."""
        return CounselError(Code.PACK_INVALID, f"{self.name} {problem}")

    def path(self, job_id: str, name: str) -> Path:
        """Where this file of a job is, if it has it."""
        return self.directory / job_id / name

    def has_diff(self, job_id: str) -> bool:
        """Whether the job left a diff, which may be empty."""
        return self.path(job_id, PATCH).is_file()

    def text(self, job_id: str, name: str) -> str:
        """A text of a job. Raises `pack_invalid` where it is missing, too long or no UTF-8."""
        data = read_regular(self.path(job_id, name), MAX_JSON + 1)
        if data is None or len(data) > MAX_JSON:
            raise self.error(f"is damaged: {name} of a job is missing or too long")
        try:
            return data.decode()
        except UnicodeError:
            raise self.error(f"is damaged: {name} of a job is no UTF-8") from None

    def json(self, job_id: str, name: str, ids: Mapping[str, str]) -> Json:
        """The parsed file, with job ids replaced as `ids` says. Raises `pack_invalid`."""
        text = renamed(self.text(job_id, name), ids)
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise self.error(f"is damaged: {name} of a job is no JSON") from None
        if too_deep(value):
            raise self.error(f"is damaged: {name} of a job is nested too deeply")
        return value


def renamed(text: str, ids: Mapping[str, str]) -> str:
    """The text with these job ids replaced."""
    for old, new in ids.items():
        text = text.replace(old, new)
    return text


def _refuse_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity, and nothing else does."""
    raise ValueError(name)


def read_result(source: BinaryIO, name: str, into: Path) -> ResultFile:
    """Unpack a result into an empty directory and check its form. `name` is what messages call it.

    Raises `pack_invalid`, and OSError.
    """
    about = archive.unpack(source, name, "result", into)
    shown = one_line(visible(name), 200)
    error = CounselError(Code.PACK_INVALID, f"{shown} is damaged: it names no job")
    match about:
        case {"pack": str(pack), "job": str(job)}:
            if not _JOB.fullmatch(pack) or not _JOB.fullmatch(job):
                raise error
        case _:
            raise error
    result = ResultFile(shown, into, pack, job, {}, _digest(into, pack, job))
    jobs = {}
    for folder in sorted(into.iterdir()):
        if not _JOB.fullmatch(folder.name) or not folder.is_dir():
            raise result.error("is damaged: it has something else than jobs")
        jobs[folder.name] = _record(result, folder.name)
    _check_family(result, jobs)
    return ResultFile(shown, into, pack, job, jobs, result.digest)


def _record(result: ResultFile, job_id: str) -> JobRecord:
    raw = result.json(job_id, JOB, {})
    try:
        record: JobRecord = read(JobRecord, raw, JOB)
    except ValueError as error:
        raise result.error(f"is damaged: {error}") from None
    for moment in (record.created, record.ended):
        if not math.isfinite(moment) or not 0 <= moment < MAX_EPOCH_SECONDS:
            raise result.error("is damaged: a job has an impossible time")
    if record.kind == "in_place":
        raise result.error("is of a run in place, which cannot travel")
    if record.tool not in TOOLS_OF_KINDS[record.kind]:
        shown = one_line(clean(record.tool), 60)
        raise result.error(
            f"is damaged: a job of the kind {record.kind} is of the tool {shown}"
        )
    events = result.path(job_id, EVENTS)
    if events.is_file() and events.stat().st_size > MAX_EVENT_BYTES:
        raise result.error("is damaged: a job has more events than are kept")
    # Git gets it as an argument.
    if record.head is not None and not SHA.fullmatch(record.head):
        raise result.error("is damaged: the head of a job is no commit")
    return record


def _check_family(result: ResultFile, jobs: Mapping[str, JobRecord]) -> None:
    """Refuse all but one job and those that it started."""
    if result.job not in jobs or len(jobs) > MAX_JOBS:
        raise result.error("is damaged: its job is not there")
    for job_id, record in jobs.items():
        if job_id == result.job:
            belongs = record.parent is None and record.kind != "proof"
        else:
            kinds = PARTS.get(jobs[result.job].kind, ())
            belongs = record.parent == result.job and record.kind in kinds
        if not belongs:
            raise result.error("is damaged: it has jobs that do not belong together")


def _digest(directory: Path, *texts: str) -> str:
    """The SHA-256 of all files but the events, by their names."""
    rows = list(texts)
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != EVENTS:
            rows.append(f"{path.relative_to(directory)} {archive.digest_of(path)}")
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()
