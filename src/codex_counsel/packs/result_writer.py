"""An ended job as the file that `result.py` describes.

Paths of this machine are taken out of texts as far as they are known: of the directory that
the run worked in, names from its top remain.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.delegate.record import WORK, DelegateResult
from codex_counsel.delegate.set_up import SEED, SEED_PATCH
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.refs import SHA
from codex_counsel.jobs import children, recovery
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.run import recorded_transcript
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store
from codex_counsel.packs import archive
from codex_counsel.packs.archive import Member
from codex_counsel.packs.result import (
    EVENTS,
    JOB,
    MAX_EVENT_BYTES,
    PATCH,
    REPLY,
    RESULT,
    REVIEW_FIELDS,
    WORK_FIELDS,
    JobRecord,
)
from codex_counsel.proof.record import ASSIGNMENTS, PROOF
from codex_counsel.system.files import read_json_or_none, read_regular
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import clean, one_line


def write_result(
    store: Store, job_id: str, pack_id: str, target: Path, *, events: bool = False
) -> None:
    """Write what came of an ended job, and of those that it started, to a file in one step.

    Raises `job_not_found`, `job_running`, `job_corrupt`, `invalid_arguments` for a run in
    place, and `storage_failed`.
    """
    job = store.job(job_id)
    spec = job.spec()
    if spec.kind == "in_place":
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"Job {job_id} wrote in place: what it did cannot travel",
        )
    members = list(_members(job, spec, events=events))
    for child in children.started(spec, job.path):
        members += _members(child, child.spec(), events=events)
    try:
        archive.write(target, "result", {"pack": pack_id, "job": job_id}, members)
    except OSError as error:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"The result cannot be written to {target}: {error.strerror}",
            repair="Make room or name another file, and run the same pack again: its answer is kept, and nothing is "
            "spent twice.",
        ) from None


def _members(job: Job, spec: Spec, *, events: bool) -> Iterator[Member]:
    outcome = recovery.outcome(job)
    if outcome is None:
        raise CounselError(Code.JOB_RUNNING, f"Job {job.id} has not finished")
    places = _Places.of(spec, job)
    reply, transcript_warnings = _reply_of(job, spec, outcome)
    record = JobRecord(
        tool=spec.tool,
        kind=spec.kind,
        subject=spec.subject,
        created=float(spec.created),
        ended=float(job.ended_at()),
        ran=bool(spec.argv),
        parent=spec.parent,
        head=places.head,
        details=_details(spec),
        warnings=_warnings_before(outcome, spec, transcript_warnings),
    )
    yield _json_member(job, JOB, places.removed(asdict(record)))
    yield _json_member(job, RESULT, places.removed(_portable(outcome)))
    if reply is not None:
        text = places.removed(reply).encode("utf-8", "replace")
        yield Member(f"{job.id}/{REPLY}", text)
    yield from _members_of_work(job)
    for name in (ASSIGNMENTS, PROOF):
        stored = read_json_or_none(job.path / name)
        if stored is not None:
            yield _json_member(job, name, places.removed(stored))
    if events and 0 <= _size(job.path / EVENTS) <= MAX_EVENT_BYTES:
        yield Member(f"{job.id}/{EVENTS}", job.path / EVENTS)


def _reply_of(
    job: Job, spec: Spec, outcome: EnvelopeDict
) -> tuple[str | None, list[str]]:
    """The reply from which a review was concluded, and the warnings of its transcript."""
    if spec.kind != "review":
        return None, []
    transcript = recorded_transcript(job.path)
    warnings = [one_line(text, 300) for text in transcript.warnings]
    reply = transcript.last_message if outcome["ok"] else None
    return reply, warnings


def _members_of_work(job: Job) -> Iterator[Member]:
    work = DelegateResult.load(job.path)
    seed = read_json_or_none(job.path / SEED)
    if seed is not None:
        yield _json_member(job, SEED, seed)
        yield Member(f"{job.id}/{SEED_PATCH}", job.path / SEED_PATCH)
    if work is not None:
        told = {name: getattr(work, name) for name in WORK_FIELDS}
        yield _json_member(job, WORK, told)
        yield Member(f"{job.id}/{PATCH}", job.path / PATCH)


def _size(path: Path) -> int:
    """Bytes; -1 where there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _json_member(job: Job, name: str, value: Json) -> Member:
    text = json.dumps(value, ensure_ascii=False)
    return Member(f"{job.id}/{name}", text.encode("utf-8", "replace"))


def _details(spec: Spec) -> JsonObject:
    """What readers need of the fields of a kind."""
    if spec.kind == "review":
        review = dict(spec.review or {})
        told: JsonObject = {name: review.get(name) for name in REVIEW_FIELDS}
        plan = review.get("prove")
        if plan:
            told["prove"] = {**plan, "prompt": ""}
        return told
    if spec.kind == "attempts":
        attempts = dict(spec.attempts or {})
        return {**_task_details(spec), "attempts": attempts}
    if spec.delegate:
        return _task_details(spec)
    return {}


def _task_details(spec: Spec) -> JsonObject:
    delegate = dict(spec.delegate or {})
    return {name: delegate.get(name) for name in ("prefix", "check", "check_base")}


def _warnings_before(
    outcome: EnvelopeDict, spec: Spec, of_codex: Sequence[str]
) -> list[str]:
    """The warnings of a review that the launcher and Codex gave: all others are given again where it is taken."""
    if spec.kind != "review":
        return []
    known = {*map(clean, map(str, spec.meta.get("warnings") or ())), *of_codex}
    warnings = outcome["meta"].get("warnings") or ()
    return [str(text) for text in warnings if text in known]


def _portable(outcome: EnvelopeDict) -> JsonObject:
    """The envelope without what means something on that machine alone."""
    envelope = {name: outcome[name] for name in outcome if name != "diff_path"}
    meta = dict(outcome["meta"])
    meta.pop("workspace", None)
    codex = meta.get("codex")
    if isinstance(codex, dict):
        name = Path(str(codex.get("path", ""))).name
        meta["codex"] = {**codex, "path": name}
    envelope["meta"] = meta
    return envelope


@dataclass(frozen=True)
class _Places:
    """The directories of this machine that the run worked in, the longest first; and the commit checked out there."""

    directories: tuple[str, ...]
    head: str | None

    @classmethod
    def of(cls, spec: Spec, job: Job) -> _Places:
        workspace = Path(spec.workspace)
        top = _top_of(workspace)
        tree = os.path.join(spec.scratch, "tree")  # noqa: PTH118  # it may be empty
        found = {str(top or workspace), tree, str(job.path)}
        # The root directory is a part of every path.
        own = [place for place in found if place.count("/") > 1]
        own.sort(key=len, reverse=True)
        return cls(tuple(own), _head_of(top))

    def removed(self, value: Json) -> Json:
        """The value, in whose texts names from the top stand instead of paths of this machine."""
        if isinstance(value, str):
            for place in self.directories:
                value = value.replace(f"{place}/", "").replace(place, ".")
            return value
        if isinstance(value, dict):
            return {name: self.removed(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.removed(item) for item in value]
        return value


def _top_of(workspace: Path) -> Path | None:
    for folder in (workspace, *workspace.parents):
        if os.path.exists(folder / ".git"):  # noqa: PTH110  # Path.exists raises for some
            return folder
    return None


def _head_of(top: Path | None) -> str | None:
    """The commit that is checked out, read from files: a result must not cost a process of git."""
    if top is None:
        return None
    text = _first_line(top / ".git" / "HEAD")
    if text.startswith("ref: refs/heads/"):
        text = _first_line(top / ".git" / text.removeprefix("ref: "))
    if SHA.fullmatch(text):
        return text
    return None


def _first_line(path: Path) -> str:
    data = read_regular(path, 4096) or b""
    return data.decode("utf-8", "replace").partition("\n")[0].strip()
