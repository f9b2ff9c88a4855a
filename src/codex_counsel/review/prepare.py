"""Kind 2, a review, on the caller's side: the material, the prompt, and what the reply will be checked against."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex import rollout
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.findings.seen import ReviewLog
from codex_counsel.kind import Brief, ChildBrief, Records
from codex_counsel.prepare import attachments, budget, guidance, prompt_parts
from codex_counsel.prepare.boundary import Access
from codex_counsel.prepare.prompt_parts import Material
from codex_counsel.prepare.workspace import open_repository
from codex_counsel.proof import prepare as proof
from codex_counsel.proof.record import LEAST_TOKENS, ProofPlan
from codex_counsel.review import prompt, rule_files
from codex_counsel.review import target as targets
from codex_counsel.review.changes.changes import Changes, gather, submodules_note
from codex_counsel.review.changes.since import base_ref
from codex_counsel.review.criteria import NO_CRITERIA, Criteria
from codex_counsel.review.record import ReviewRecord, material_digest
from codex_counsel.review.reply import reply_schema
from codex_counsel.review.settled import settled_findings
from codex_counsel.review.verdict import GRAVE
from codex_counsel.system.json_values import JsonObject

if TYPE_CHECKING:
    from codex_counsel.contract.request import ReviewChanges, ReviewPlan
    from codex_counsel.findings.entry import Entry
    from codex_counsel.git.repo import Repo
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.workspace import ResolvedWorkspace
    from codex_counsel.review.target import Target

MAX_NAMED = 10
"""Files that a warning names."""
ALWAYS_SENT = 2_000
"""Bytes. A change of at most this size is sent again also to a thread that has it: an error would cost more."""


@dataclass(frozen=True, kw_only=True)
class ReviewBrief(Brief):
    """The brief of a review. `changes` is the material; a review of a plan has none."""

    changes: Changes | None = None
    criteria: Criteria = NO_CRITERIA

    def scratch_parent(self, temporary: Path, trees: Path) -> Path:
        """The state that proofs start from is put together on disk: a temporary directory may be memory."""
        if self.children:
            return trees
        return super().scratch_parent(temporary, trees)


def prepare_changes(
    request: ReviewChanges,
    workspace: ResolvedWorkspace,
    context: Context,
    records: Records,
) -> ReviewBrief:
    """The brief of a review of changes.

    Raises `invalid_arguments`, `input_too_large`, `not_a_git_repo`,
    `workspace_invalid`, `unknown_ref`, `no_commits` or `nothing_to_review`.
    """
    plan, plan_warnings = attachments.plan(
        request.plan, request.plan_path, workspace, context, required=False
    )
    settings = context.settings
    prompt_parts.check_author_text(
        settings.max_input_bytes,
        focus=request.focus,
        extra_context=request.extra_context,
        plan=plan,
    )

    job_id = secrets.token_hex(16)
    target = targets.choose(request, workspace, context, records, job_id)
    request, repo, team = target.request, target.repo, target.team
    ledger = Ledger.of(settings.state, repo.common_dir)
    reviews = None
    if request.since == "last":
        reviews = ReviewLog(ledger.directory).read()
    on_record = _entries_on_record(ledger)
    changes = gather(
        repo,
        target.scope,
        settings.max_input_bytes,
        workspace.denied,
        reviews=reviews,
        mended={entry.file for entry in on_record if entry.file and entry.is_gone},
        comparison=target.comparison,
        skip=team.skip,
    )
    agents = guidance.of_revision(repo, target.accepted, workspace, settings)
    rules = rule_files.of_changes(
        repo, changes, workspace, settings, revision=target.accepted
    )
    rules = team.criteria(rules, repo, changes, settings)
    material = rule_files.without_rule_sections(agents.material)
    material += target.material
    if plan:
        material.append(Material("the agreed plan", plan))
    thread_has_it = _thread_has(request.session_id, changes, context, records)

    record = _record(target, changes, rules, ledger)
    proofs: tuple[ChildBrief, ...] = ()
    if request.prove != "none":
        review_directory = records.directory_of(job_id)
        proofs = _proofs(request, workspace, context, repo, review_directory)
        plan_of_proofs = _proof_plan(request, context, changes, proofs, agents.material)
        record = replace(
            record,
            prove=asdict(plan_of_proofs),
            denied=[str(path) for path in workspace.denied],
        )
    files = {file.path for file in changes.entries}
    settled = settled_findings(on_record, files=files, branch=record.branch)
    return ReviewBrief(
        prompt=prompt.of_changes(
            request,
            changes,
            material,
            rules,
            already_sent=thread_has_it,
            settled=settled,
        ),
        access=target.access(workspace),
        reply_schema=reply_schema(plan=False, rules=bool(rules.rules)),
        instructions=prompt_parts.prompt_file("base"),
        scope=_reported_scope(target, changes),
        subject=request.subject,
        project_file=team.report(rules, changes),
        warnings=(
            *target.warnings,
            *plan_warnings,
            *team.warnings(repo, changes),
            *agents.warnings,
            *rules.warnings,
            *_hidden_warnings(changes),
            *_since_warnings(changes),
            *_submodule_warnings(repo, changes),
        ),
        details={"review": record.to_json()},
        keeps_files=bool(proofs),
        children=proofs,
        job_id=job_id,
        changes=changes,
        criteria=rules,
    )


def _record(
    target: Target, changes: Changes, rules: Criteria, ledger: Ledger
) -> ReviewRecord:
    request, pull = target.request, target.pull
    record = replace(
        ReviewRecord.of_changes(target.repo, changes, rules),
        ledger=str(ledger.directory),
        since=request.since,
        relied_on=[review.job for review in changes.relied_on],
        relied_since=min((review.ended for review in changes.relied_on), default=""),
        base_ref=base_ref(target.repo, target.scope, changes.comparison),
        focused=request.focus is not None,
        bars=target.team.bars,
    )
    if pull is None:
        return record
    return replace(
        record,
        branch=pull.branch,
        checked_out=pull.head_sha,
        objects=str(target.repo.objects),
    )


def _reported_scope(target: Target, changes: Changes) -> JsonObject:
    """The scope as `meta.scope` shows it."""
    request = target.request
    scope: JsonObject = {
        "kind": request.scope,
        "base": changes.base_name,
        "paths": list(request.paths),
        "base_sha": changes.base_sha,
        "head_sha": changes.head_sha,
    }
    if target.pull:
        scope |= target.pull.reported_scope()
    if request.since == "last":
        scope["since"] = "last"
    return {name: value for name, value in scope.items() if value}


def _proofs(
    request: ReviewChanges,
    workspace: ResolvedWorkspace,
    context: Context,
    repo: Repo,
    directory: Path,
) -> tuple[ChildBrief, ...]:
    """As many jobs as there may be proofs. Raises `no_commits`: each starts from a commit."""
    if repo.head() is None:
        raise CounselError(
            Code.NO_COMMITS,
            "prove: a proof needs a first commit to start from",
            repair="Commit once, or review without prove.",
        )
    return tuple(
        proof.prepare(request, workspace, context, repo, directory)
        for _ in range(context.settings.max_proofs)
    )


def _proof_plan(
    request: ReviewChanges,
    context: Context,
    changes: Changes,
    proofs: Iterable[ChildBrief],
    conventions: Iterable[Material],
) -> ProofPlan:
    severities = SEVERITIES
    if request.prove == "high":
        severities = GRAVE
    return ProofPlan(
        severities=list(severities),
        jobs=[child.brief.job_id for child in proofs],
        prompt=proof.prompt(conventions),
        base=changes.comparison.base,
        max_tokens=budget.of_run(context, request),
        least_tokens=LEAST_TOKENS,
    )


def prepare_plan(
    request: ReviewPlan,
    workspace: ResolvedWorkspace,
    context: Context,
    _records: Records,
) -> ReviewBrief:
    """The brief of a review of a plan. Outside git, only the plan itself can be checked later.

    Raises `invalid_arguments`, `input_too_large` or `workspace_invalid`.
    """
    plan, plan_warnings = attachments.plan(
        request.plan, request.plan_path, workspace, context, required=True
    )
    settings = context.settings
    prompt_parts.check_author_text(
        settings.max_input_bytes,
        plan=plan,
        focus=request.focus,
        extra_context=request.extra_context,
    )

    if workspace.top:
        repo = open_repository(workspace, context)
        head = repo.head()
        agents = guidance.of_revision(repo, head, workspace, settings)
        rules = rule_files.of_workspace(repo, head, workspace, settings)
        material = rule_files.without_rule_sections(agents.material)
        ledger = Ledger.of(settings.state, repo.common_dir)
        record = ReviewRecord.of_plan(workspace.root, plan, head, rules)
    else:
        agents = guidance.on_disk(workspace, settings)
        rules = rule_files.outside_git(workspace, agents.material)
        material = list(agents.material)
        ledger = Ledger.of(settings.state, workspace.root)
        record = ReviewRecord(str(workspace.root), plan=plan)
    record = record.of_named_plan(ledger.directory, request.plan_path)
    settled = settled_findings(_entries_on_record(ledger), plan=record.plan_name)
    return ReviewBrief(
        prompt=prompt.of_plan(request, plan, material, rules, settled=settled),
        access=Access.to_repository(workspace, "toolchains"),
        reply_schema=reply_schema(plan=True, rules=bool(rules.rules)),
        instructions=prompt_parts.prompt_file("base"),
        warnings=(*plan_warnings, *agents.warnings, *rules.warnings),
        details={"review": record.to_json()},
        criteria=rules,
    )


def _entries_on_record(ledger: Ledger) -> list[Entry]:
    """None where they cannot be read: that is told when the findings are put on record."""
    try:
        return list(ledger.read().entries.values())
    except CounselError:
        return []


def _hidden_warnings(changes: Changes) -> tuple[str, ...]:
    names = prompt.hidden_characters(changes)
    if not names:
        return ()
    kinds = ", ".join(names)
    return (
        f"the change has characters that hide or reorder text; the reviewer got them written out: {kinds}",
    )


def _since_warnings(changes: Changes) -> tuple[str, ...]:
    """For `since: last`: where nothing could be left out, and what was left out although the base changed in it."""
    if changes.base_moved:
        count = len(changes.base_moved)
        names = ", ".join(changes.base_moved[:MAX_NAMED])
        return (
            f"{count} files count as seen as they are now, but the base has changed them since: {names}",
        )
    is_first = changes.seen == () and not any(file.prior for file in changes.entries)
    if not is_first:
        return ()
    return ("no review on record saw a part of this change, so all of it is sent",)


def _submodule_warnings(repo: Repo, changes: Changes) -> tuple[str, ...]:
    note = submodules_note(repo.root, changes.omitted)
    return (note,) if note else ()


def _thread_has(
    thread_id: str | None, changes: Changes, context: Context, records: Records
) -> bool:
    """Whether the thread to be continued was sent this very change last, and surely still holds it."""
    if thread_id is None or len(changes.diff) <= ALWAYS_SENT:
        return False
    if not rollout.holds_everything(context.directories.codex_home, thread_id):
        return False
    return records.last_sent_digest(thread_id) == material_digest(changes)
