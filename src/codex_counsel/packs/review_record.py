"""The record of a review that ran on another machine, checked field by field, with the paths of this one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from codex_counsel.contract import project_file
from codex_counsel.contract.envelope import Coverage
from codex_counsel.contract.reading import read
from codex_counsel.contract.vocabulary import JOB_ID, ScopeKind, Since
from codex_counsel.errors import CounselError
from codex_counsel.git.refs import SHA
from codex_counsel.proof.record import ProofPlan
from codex_counsel.review.changes.comparison import Comparison
from codex_counsel.review.changes.model import ChangedFile, FileStatus
from codex_counsel.review.record import ReviewRecord
from codex_counsel.system.json_values import Json, JsonObject

MAX_COUNT = 2**53
"""More bytes or lines than any change has."""
_MODE = re.compile("(?:[0-7]{6})?")
"""Empty for the old side of a file that is reviewed whole."""
_OBJECT_ID = re.compile("(?:[0-9a-f]{40}|[0-9a-f]{64})?")
_NO_PARTS = frozenset({b"", b".", b"..", b".git"})


@dataclass(frozen=True, kw_only=True)
class _Told:
    """The fields that are of simple kinds, and those that are checked further below."""

    fingerprint: str = ""
    sent: str = ""
    plan: str | None = None
    since: Since = "base"
    relied_on: list[str] = field(default_factory=list)
    relied_since: str = ""
    base_ref: str | None = None
    focused: bool = False
    branch: str | None = None
    checked_out: str | None = None
    plan_name: str | None = None
    rules: list[JsonObject] = field(default_factory=list)
    bars: list[JsonObject] = field(default_factory=list)
    coverage: Coverage | None = None
    scope: JsonObject | None = None
    frame: JsonObject | None = None
    entries: list[JsonObject] | None = None
    prove: JsonObject | None = None


@dataclass(frozen=True, kw_only=True)
class _Scope:
    kind: ScopeKind
    base: str | None = None
    commit: str | None = None
    range: str | None = None
    paths: list[str] = field(default_factory=list)
    base_ref: str | None = None
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class _Frame:
    state: str
    base: str | None = None
    head: str | None = None
    chosen: str | None = None
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class _Rule:
    file: str
    text: str


def local_record(
    details: JsonObject, workspace: str, ledger: Path | None
) -> ReviewRecord:
    """The record as it would be of a run here. `ledger` is the directory of what is on record of the repository.

    Raises ValueError, with the name of the field, for a value that no review here stores.
    """
    told: _Told = read(_Told, details, "review")
    _check_sha(told.checked_out, "checked_out")
    for job_id in told.relied_on:
        if not re.fullmatch(JOB_ID, job_id):
            raise ValueError("relied_on")
    return ReviewRecord(
        workspace=workspace,
        coverage=asdict(told.coverage) if told.coverage else None,
        scope=_scope(told.scope),
        frame=_frame(told.frame),
        entries=_entries(told.entries),
        fingerprint=told.fingerprint,
        sent=told.sent,
        plan=told.plan,
        rules=[asdict(read(_Rule, rule, "rules")) for rule in told.rules],
        ledger=str(ledger or ""),
        since=told.since,
        relied_on=told.relied_on,
        relied_since=told.relied_since,
        base_ref=told.base_ref,
        focused=told.focused,
        branch=told.branch,
        checked_out=told.checked_out,
        plan_name=told.plan_name,
        prove=_proof_plan(told.prove),
        bars=_bars(told.bars),
    )


def _scope(raw: JsonObject | None) -> JsonObject | None:
    if raw is None:
        return None
    return asdict(read(_Scope, raw, "scope"))


def _frame(raw: JsonObject | None) -> JsonObject | None:
    if raw is None:
        return None
    frame: _Frame = read(_Frame, raw, "frame")
    if frame.state not in ("commit", "index", "working_tree"):
        raise ValueError("frame.state")
    # Git gets them as arguments.
    _check_sha(frame.base, "frame.base")
    _check_sha(frame.head, "frame.head")
    return Comparison.from_json(asdict(frame)).to_json()


def _check_sha(sha: str | None, name: str) -> None:
    if sha is not None and not SHA.fullmatch(sha):
        raise ValueError(name)


def _entries(raw: list[JsonObject] | None) -> list[JsonObject] | None:
    if raw is None:
        return None
    return [_entry(entry) for entry in raw]


def _entry(raw: JsonObject) -> JsonObject:
    try:
        entry = ChangedFile.from_json(raw)
    except (AttributeError, KeyError, TypeError, UnicodeError):
        raise ValueError("entries") from None
    kinds: Mapping[str, Any] = {
        "path": str,
        "old_path": str | None,
        "binary": bool,
        "untracked": bool,
        "added": int,
        "deleted": int,
        "bytes": int,
        "prior": str,
        "whole": bool,
    }
    for name, kind in kinds.items():
        read(kind, getattr(entry, name), f"entries.{name}")
    for count in (entry.added, entry.deleted, entry.bytes):
        if not 0 <= count <= MAX_COUNT:
            raise ValueError("entries: a count is out of range")
    if entry.status not in get_args(FileStatus):
        raise ValueError("entries.status")
    # They are read from the working tree, and git is asked for them.
    for name_bytes in entry.names:
        if not _NO_PARTS.isdisjoint(name_bytes.split(b"/")) or b"\0" in name_bytes:
            raise ValueError("entries: a name leads out of the repository")
    _check_pair(entry.modes, _MODE, "entries.modes")
    _check_pair(entry.object_ids, _OBJECT_ID, "entries.sides")
    return entry.to_json()


def _check_pair(values: tuple[Json, ...], pattern: re.Pattern[str], name: str) -> None:
    are_texts = all(isinstance(value, str) for value in values)
    if len(values) != 2 or not are_texts:
        raise ValueError(name)
    for value in values:
        if not pattern.fullmatch(value):
            raise ValueError(name)


def _bars(raw: list[JsonObject]) -> list[JsonObject]:
    """They are matched with names here, so they keep within what a project file may say."""
    try:
        tables = project_file.read_paths(raw)
    except CounselError as error:
        raise ValueError(f"bars: {error.message}") from None
    if any(table.fail_on is None for table in tables):
        raise ValueError("bars.fail_on")
    return [{"paths": list(table.paths), "fail_on": table.fail_on} for table in tables]


def _proof_plan(raw: JsonObject | None) -> JsonObject | None:
    if not raw:
        return None
    return asdict(ProofPlan.from_json(raw))
