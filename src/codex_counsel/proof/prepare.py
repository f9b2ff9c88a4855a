"""A proof, on the caller's side: a delegated task whose finding is not known yet."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.contract.request import Delegate
from codex_counsel.delegate.prepare import DelegateBrief
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.seed import SeedPlan
from codex_counsel.kind import ChildBrief
from codex_counsel.prepare import prompt_parts
from codex_counsel.prepare.boundary import Access
from codex_counsel.proof.reply import REPLY_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codex_counsel.contract.request import ReviewChanges
    from codex_counsel.git.repo import Repo
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.prompt_parts import Material
    from codex_counsel.prepare.workspace import ResolvedWorkspace

TASK = "prove a finding of a review"


def prepare(
    request: ReviewChanges,
    workspace: ResolvedWorkspace,
    context: Context,
    repo: Repo,
    review: Path,
) -> ChildBrief:
    """A job that may prove a finding of the review in this job directory, in the state that it reviewed.

    Its prompt comes with the finding. It is Codex's turn in a tree of its own, after
    which commands of ours run.
    """
    settings = context.settings
    spec = DelegateSpec(
        workspace=str(workspace.root),
        repository=str(repo.common_dir),
        git_timeout=settings.git_timeout_seconds,
        diff_limit=settings.max_delegate_diff_bytes,
        denied=tuple(map(str, workspace.denied)),
        prefix=str(repo.prefix.decode("utf-8", "surrogateescape")),
        seed=str(review),
    )
    objects = repo.common_dir / "objects"
    readable = () if workspace.gate.why_closed(objects) else (objects,)
    brief = DelegateBrief(
        prompt=TASK,
        access=Access("toolchains", readable=readable),
        reply_schema=REPLY_SCHEMA,
        details={"delegate": asdict(spec), "proof": {"review": review.name}},
        keeps_files=True,
        runs_commands=True,
        # The tree is made from the state that the review has stored.
        seed_plan=SeedPlan(head="", tracked=[]),
        prefix=spec.prefix,
        secrets=(),
    )
    task = Delegate(
        task=TASK,
        workspace_root=request.workspace_root,
        model=request.model,
        effort=request.effort,
        profile=request.profile,
        extra_roots=request.extra_roots,
        timeout_seconds=request.timeout_seconds,
        max_tokens=request.max_tokens,
        network=request.network,
        use_reserve=request.use_reserve,
    )
    return ChildBrief(task, brief)


def prompt(material: Iterable[Material]) -> str:
    """The prompt up to the finding. `material` are the conventions of the repository."""
    return prompt_parts.join_prompt(
        prompt_parts.prompt_file("proof"), *prompt_parts.fence_all(material, None)
    )
