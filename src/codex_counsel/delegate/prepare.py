"""Kind 3, a delegated task, on the caller's side: the prompt, what the tree will be made of, and what it may read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex import programs
from codex_counsel.codex.sandbox import MAX_SECRETS, Boundary
from codex_counsel.delegate import seed
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.seed import SeedPlan
from codex_counsel.git.names import display_name
from codex_counsel.kind import TEMPORARY, Brief, Placement, Records
from codex_counsel.prepare import (
    attachments,
    guidance,
    project_file,
    prompt_parts,
)
from codex_counsel.prepare.boundary import Access
from codex_counsel.prepare.prompt_parts import Material
from codex_counsel.prepare.secret_files import is_utf8
from codex_counsel.prepare.workspace import open_repository
from codex_counsel.system.secret_names import secret_name
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.contract.request import Delegate
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.project_file import ProjectFile
    from codex_counsel.prepare.workspace import ResolvedWorkspace

MAX_WARNED = 20
"""Files named in the warning about what is not copied into the tree."""

CHECKED = """\
When you have finished, this command is run on your result, in a fresh copy of it. It must exit with 0:

{check}"""
GIVEN = "The working tree holds what was made of an earlier task. Go on from it; the diff is against the same base."
CONTINUED = "The working tree holds what you made earlier in this thread. Go on; the diff is against the same base."


@dataclass(frozen=True, kw_only=True)
class DelegateBrief(Brief):
    """The brief of a delegated task. `prefix` is the workspace below the top of the tree."""

    seed_plan: SeedPlan
    prefix: str
    secrets: tuple[str, ...]

    def scratch_parent(self, _temporary: Path, trees: Path) -> Path:
        """The tree is made on disk: a temporary directory may be memory."""
        return trees

    def place(self, boundary: Boundary, scratch: Path) -> Placement:
        """Codex works in the throwaway tree, may write to it, and reads no other copy of the workspace."""
        tree = scratch / "tree"
        temporary = scratch / TEMPORARY
        secrets = [*boundary.secrets, *(tree / name for name in self.secrets)]
        writable = replace(
            boundary,
            workspace=tree,
            mode="worktree-write",
            readable=(*boundary.readable, scratch / "repo.git", tree / ".git"),
            scratch=(temporary,),
            secrets=tuple(secrets[:MAX_SECRETS]),
            secrets_complete=boundary.secrets_complete and len(secrets) <= MAX_SECRETS,
        )
        # The tree is made after the job was published, so the process itself starts
        # where nothing is.
        return Placement(
            writable.with_programs(scratch / programs.DIRECTORY),
            temporary=temporary,
            start_in=Path("/"),
            cwd=tree / self.prefix,
        )


def prepare(
    request: Delegate, workspace: ResolvedWorkspace, context: Context, records: Records
) -> DelegateBrief:
    """The brief of a delegated task.

    Raises `invalid_arguments`, `input_too_large`, `not_a_git_repo`, `no_commits`,
    `workspace_invalid`, `job_not_found` or `job_running` (the job to go on from).
    """
    settings = context.settings
    earlier: Path | None = None
    if request.from_job:
        earlier = records.delegate_directory(request.from_job, workspace.root)
    prompt_parts.check_author_text(
        settings.max_input_bytes, task=request.task, extra_context=request.extra_context
    )
    images, image_warnings = attachments.images(request.images, workspace, context)

    repo = open_repository(workspace, context)
    plan = seed.plan_seed(repo, workspace.denied)
    names = [os.fsdecode(name) for name in (*plan.checkout, *plan.copy)]
    if earlier:
        # The tree of a continued task has none of them, and with the denial of a file in
        # a folder that is not there no command can be started.
        names = []
    spec = DelegateSpec(
        workspace=str(workspace.root),
        repository=str(repo.common_dir),
        git_timeout=settings.git_timeout_seconds,
        diff_limit=settings.max_delegate_diff_bytes,
        denied=tuple(map(str, workspace.denied)),
        prefix=os.fsdecode(repo.prefix),
        again=str(earlier) if earlier else None,
        secrets=tuple(name for name in names if secret_name(name) and is_utf8(name)),
        check=request.check,
    )
    objects = repo.common_dir / "objects"
    readable = () if workspace.gate.why_closed(objects) else (objects,)
    agents = guidance.on_disk(workspace, settings)
    warnings = []
    if plan.omitted:
        left_out = [f"{path} ({reason})" for path, reason in plan.omitted[:MAX_WARNED]]
        warnings.append(f"not copied into the tree: {', '.join(left_out)}")
    if plan.submodules:
        inside = ", ".join(map(display_name, plan.submodules[:MAX_WARNED]))
        warnings.append(
            f"the tree has the files of these submodules as its own: {inside}; "
            "what changes in them is part of the diff, and is to be committed in each of them"
        )
    return DelegateBrief(
        prompt=prompt(request, agents.material, continued=earlier is not None),
        access=Access("toolchains", readable=readable),
        images=images,
        warnings=(*image_warnings, *warnings, *agents.warnings),
        details={"delegate": asdict(spec)},
        keeps_files=True,
        runs_commands=request.check is not None,
        seed_plan=plan,
        prefix=spec.prefix,
        secrets=spec.secrets,
    )


def with_check_of_team(
    request: Delegate, workspace: ResolvedWorkspace, context: Context
) -> tuple[Delegate, ProjectFile]:
    """The request with the check of the project file where the caller names none, and that file, as of HEAD.

    Raises `project_file_invalid`, and as `open_repository`.
    """
    repo = open_repository(workspace, context)
    file = project_file.of_revision(repo, repo.head(), context.settings)
    check = file.policy.delegate.check
    if request.check is None and check:
        request = replace(request, check=check)
    return request, file


def prompt(
    request: Delegate, material: Iterable[Material] = (), *, continued: bool = False
) -> str:
    """The prompt of a delegated task. `continued`: it goes on from an earlier one in the same thread."""
    start = ""
    if continued:
        start = CONTINUED
    if continued and request.attempts > 1:
        start = GIVEN  # each of them begins a thread
    return prompt_parts.join_prompt(
        prompt_parts.prompt_file("delegate"),
        *prompt_parts.fence_all(material, request.extra_context),
        start,
        CHECKED.format(check=visible(request.check)) if request.check else "",
        f"The task:\n\n{visible(request.task)}",
    )
