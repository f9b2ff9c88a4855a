"""What a review rests on, kept with its job (`spec.json`, key `review`) so that its reply can be checked later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from codex_counsel.contract.envelope import Coverage, Omission
from codex_counsel.contract.vocabulary import Since
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.review.changes.changes import Changes
from codex_counsel.review.changes.comparison import Comparison
from codex_counsel.review.changes.model import ChangedFile, Scope
from codex_counsel.review.criteria import NO_CRITERIA, Criteria
from codex_counsel.review.lineage import branch_name
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, size, visible

MAX_OMITTED = 200
"""Omissions listed by name; the rest is counted."""
MAX_OMITTED_BYTES = 12_000
"""Bytes of all names listed: the list is part of every page of a result."""

MAX_PLAN_NAME = 300
"""Characters."""


@dataclass(frozen=True)
class ReviewRecord:
    """JSON-ready. `scope` and `frame` name the reviewed state; a plan outside git has none.

    `frame` is a `Comparison`, `entries` are the `ChangedFile`s. `sent` is a digest of
    the material: by it a follow-up knows that its thread has the material already.
    `rules` are the `Rules` that were sent.

    `ledger` is the directory of what is on record of the repository, empty where
    nothing is kept. `relied_on` are the jobs of reviews on which rests what was not sent
    again, `relied_since` the time at which the first of them ended. `base_ref` is that of
    `since.py`. `focused` marks a review that was asked to look at something in particular.
    `branch` is the one that was checked out,
    None where HEAD is detached and nothing else names it; `checked_out` the commit.
    `plan_name` is the plan's path, or `text`.

    `objects` is a bare repository of ours with the reviewed commits, empty where these are
    the user's own.

    `prove` is the `ProofPlan` of a review that proves findings, `denied` are absolute paths
    of which nothing may reach a proof. `bars` are the tables of paths of the project file
    that have a bar of their own: `paths` are patterns, `fail_on` a severity.
    """

    workspace: str
    coverage: JsonObject | None = None
    scope: JsonObject | None = None
    frame: JsonObject | None = None
    entries: list[JsonObject] | None = None
    fingerprint: str = ""
    sent: str = ""
    plan: str | None = None
    rules: list[JsonObject] = field(default_factory=list)
    ledger: str = ""
    since: Since = "base"
    relied_on: list[str] = field(default_factory=list)
    relied_since: str = ""
    base_ref: str | None = None
    focused: bool = False
    branch: str | None = None
    checked_out: str | None = None
    plan_name: str | None = None
    prove: JsonObject | None = None
    denied: list[str] = field(default_factory=list)
    objects: str = ""
    bars: list[JsonObject] = field(default_factory=list)

    @classmethod
    def of_changes(
        cls,
        repo: Repo,
        changes: Changes,
        criteria: Criteria = NO_CRITERIA,
        ledger: Path | None = None,
    ) -> ReviewRecord:
        """The record of a review of changes, whose findings go to the ledger in this directory."""
        return cls(
            workspace=str(repo.workspace),
            coverage=asdict(coverage(changes, criteria)),
            scope=asdict(changes.scope),
            frame=changes.comparison.to_json(),
            entries=[file.to_json() for file in changes.entries],
            fingerprint=changes.fingerprint,
            sent=material_digest(changes),
            rules=[rules.to_json() for rules in criteria.rules],
            ledger=str(ledger or ""),
            branch=branch_name(repo),
            checked_out=repo.head(),
        )

    @classmethod
    def of_plan(
        cls,
        workspace: Path,
        plan: str,
        head: str | None,
        criteria: Criteria = NO_CRITERIA,
    ) -> ReviewRecord:
        """The record of a review of a plan inside a repository: all its files may be quoted."""
        sent = None
        if criteria.files:
            rules = list(criteria.files)
            sent = asdict(Coverage(bytes=size(plan), complete=True, rules=rules))
        return cls(
            workspace=str(workspace),
            coverage=sent,
            scope=asdict(Scope("files")),
            frame=Comparison("working_tree", base=head, whole_files=True).to_json(),
            entries=[],
            plan=plan,
            rules=[rules.to_json() for rules in criteria.rules],
            checked_out=head,
        )

    def of_named_plan(self, ledger: Path, name: str | None) -> ReviewRecord:
        """The same, of a plan with this path, whose findings go to the ledger in this directory."""
        plan_name = one_line(visible(name or "text"), MAX_PLAN_NAME)
        return replace(self, ledger=str(ledger), plan_name=plan_name)

    @classmethod
    def from_json(cls, raw: JsonObject) -> ReviewRecord:
        """The reverse of `to_json`. Fields of a later release are ignored."""
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in raw.items() if name in names})

    def to_json(self) -> JsonObject:
        """The fields as they stand in `spec.json`. Not a copy: a review of 10,000 files has 10,000 entries."""
        return dict(vars(self))

    def repository(self, env: Mapping[str, str]) -> Repo:
        """The reviewed repository, opened anew. Raises CounselError; `not_a_git_repo` for a plan outside git."""
        if self.frame is None:
            raise CounselError(
                Code.NOT_A_GIT_REPO,
                "the workspace is in no repository that may be read",
            )
        repo = Repo.open(Path(self.workspace), env=env)
        if self.objects:
            return repo.with_objects(Path(self.objects))
        return repo

    def changes(self) -> Changes:
        """The changes as they were gathered, without the text of the diff."""
        scope = dict(self.scope or {})
        scope["paths"] = tuple(scope.get("paths", ()))
        return Changes(
            scope=Scope(**scope),
            comparison=Comparison.from_json(self.frame or {}),
            entries=tuple(ChangedFile.from_json(entry) for entry in self.entries or ()),
            diff=b"",
            omitted=(),
            redactions=0,
            commits=(),
            fingerprint=self.fingerprint,
        )


def material_digest(changes: Changes) -> str:
    """Identifies the material that was sent."""
    return hashlib.sha256(changes.diff).hexdigest()


def coverage(changes: Changes, criteria: Criteria = NO_CRITERIA) -> Coverage:
    """What was really sent, and what was not."""
    omissions: list[Omission] = []
    bytes_left = MAX_OMITTED_BYTES
    # What the team leaves out must not push the rest off the list.
    in_order = [*changes.lacking, *changes.skipped]
    for omitted in in_order[:MAX_OMITTED]:
        bytes_left -= size(omitted.path)
        if bytes_left < 0:
            break
        omissions.append(
            Omission(path=omitted.path, reason=str(omitted.reason), bytes=omitted.bytes)
        )

    rest = in_order[len(omissions) :]
    if rest:
        total = sum(omitted.bytes for omitted in rest)
        omissions.append(
            Omission(path=f"(and {len(rest)} more)", reason="listing", bytes=total)
        )
    return Coverage(
        base_sha=changes.base_sha,
        head_sha=changes.head_sha,
        files=len(changes.entries),
        bytes=len(changes.diff),
        omitted=omissions,
        redactions=changes.redactions,
        complete=changes.complete,
        rules=list(criteria.files) or None,
        skipped=len(changes.skipped) or None,
        seen=list(changes.seen or ()) or None,
    )
