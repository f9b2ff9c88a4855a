"""A turn of a thread of `codex` on the caller's side: a consultation or a task, in the caller's words alone."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.attempts import prepare as attempts
from codex_counsel.compat import guarded
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import Brief, Records
from codex_counsel.prepare import guidance, prompt_parts
from codex_counsel.prepare.boundary import Access
from codex_counsel.prepare.workspace import open_repository
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.contract.compat import (
        ThreadChange,
        ThreadOptions,
        ThreadQuestion,
        ThreadTask,
    )
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.workspace import ResolvedWorkspace
    from codex_counsel.system.json_values import Json, JsonObject

WITHOUT_COPY = (
    "Name a cwd in a repository that has a commit, or the sandbox read-only. Only the user can have such turns write "
    "in the workspace itself: CODEX_COUNSEL_COMPAT_WRITES=in_place in the environment of the server."
)


def prepare_question(
    request: ThreadQuestion,
    workspace: ResolvedWorkspace,
    context: Context,
    _records: Records,
) -> Brief:
    """The brief of a turn that changes nothing. Raises `input_too_large`."""
    settings = context.settings
    options = request.options
    prompt_parts.check_author_text(
        settings.max_input_bytes, prompt=request.question, **_texts(options)
    )
    agents = guidance.on_disk(workspace, settings)
    prompt = prompt_parts.join_prompt(
        prompt_parts.read_only(),
        *prompt_parts.fence_all(agents.material, None),
        visible(request.question),
    )
    return Brief(
        prompt=prompt,
        access=Access.to_repository(workspace),
        instructions=prompt_parts.prompt_file("base"),
        callers_instructions=options.base_instructions,
        config=config_of(options),
        warnings=agents.warnings,
        details={"thread": _kept(options, workspace)},
    )


def prepare_task(
    request: ThreadTask,
    workspace: ResolvedWorkspace,
    context: Context,
    records: Records,
) -> Brief:
    """The brief of a turn that works in a throwaway copy. Raises as `attempts.prepare`."""
    options = request.options
    prompt_parts.check_author_text(context.settings.max_input_bytes, **_texts(options))
    try:
        brief = attempts.prepare(request, workspace, context, records)
    except CounselError as error:
        if error.code not in (Code.NOT_A_GIT_REPO, Code.NO_COMMITS):
            raise
        raise replace(error, repair=WITHOUT_COPY) from None
    return replace(
        brief,
        callers_instructions=options.base_instructions,
        config=config_of(options),
        details={**brief.details, "thread": _kept(options, workspace)},
    )


def prepare_change(
    request: ThreadChange,
    workspace: ResolvedWorkspace,
    context: Context,
    _records: Records,
) -> Brief:
    """The brief of a turn that writes in the workspace itself.

    Raises `input_too_large`, and `workspace_invalid` for one that cannot or must not be written.
    """
    settings = context.settings
    options = request.options
    prompt_parts.check_author_text(
        settings.max_input_bytes, prompt=request.question, **_texts(options)
    )
    if not os.access(workspace.root, os.W_OK):
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"{workspace.root} cannot be written",
            repair="Name another cwd, or the sandbox read-only.",
        )
    git_paths = _used_by_git(workspace, context)
    # Outside of a repository, all folders above count.
    top = workspace.top or Path("/")
    if guarded.is_closed_whole(workspace.root, top, git_paths):
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"{workspace.root} belongs to what tools execute or obey, where no turn may write",
            repair="Name the directory of the project in cwd, or the sandbox read-only.",
        )
    closed = guarded.to_close(workspace.root, git_paths)
    agents = guidance.on_disk(workspace, settings)
    prompt = prompt_parts.join_prompt(
        prompt_parts.prompt_file("in_place"),
        *prompt_parts.fence_all(agents.material, None),
        visible(request.question),
    )
    access = Access.to_repository(workspace, reads="toolchains")
    place = {"workspace": str(workspace.root), "closed": [str(path) for path in closed]}
    return Brief(
        prompt=prompt,
        access=replace(access, mode="workspace-write", closed=closed),
        callers_instructions=options.base_instructions,
        config=config_of(options),
        warnings=agents.warnings,
        details={"in_place": place, "thread": _kept(options, workspace)},
        keeps_files=True,
    )


def _used_by_git(workspace: ResolvedWorkspace, context: Context) -> list[Path]:
    """Git directories, directories of hooks, and files that git's configuration includes, wherever they are.

    Nothing where there is no repository. Raises `workspace_invalid` for one that git cannot
    open: what it would execute is not known then.
    """
    try:
        repo = open_repository(workspace, context)
    except CounselError as error:
        if error.code == Code.NOT_A_GIT_REPO:
            return []
        raise
    # All values, since the one in force is ours, by which our own git runs no hook.
    listed = repo.git("config", "-z", "--list", "--show-origin")
    fields = [os.fsdecode(text) for text in listed.split(b"\0")]
    paths = [repo.git_dir, repo.common_dir]
    for origin, assignment in zip(fields[::2], fields[1::2], strict=False):
        key, _, value = assignment.partition("\n")
        value = os.path.expanduser(value)  # noqa: PTH111  # Path's raises for an unknown user
        file = repo.root / origin.removeprefix("file:")
        if key == "core.hookspath" and value:
            paths.append(repo.root / value)
        elif key.startswith(("include.", "includeif.")) and value:
            paths.append(file.parent / value)
    return paths


def _kept(options: ThreadOptions, workspace: ResolvedWorkspace) -> JsonObject:
    """What the thread is continued with: in the same workspace, wherever the server runs then."""
    return replace(options, root=str(workspace.root)).to_json()


def _texts(options: ThreadOptions) -> dict[str, str | None]:
    return {
        "base-instructions": options.base_instructions,
        "developer-instructions": options.developer_instructions,
        "compact-prompt": options.compact_prompt,
    }


def config_of(options: ThreadOptions) -> dict[str, Json]:
    """The values of Codex's configuration that every turn of the thread gets, by their names."""
    values = dict(options.config)
    if options.developer_instructions:
        values["developer_instructions"] = options.developer_instructions
    if options.compact_prompt:
        values["compact_prompt"] = options.compact_prompt
    return values
