"""What one run may read and write: the workspace, the programs it needs, and the files in them that are denied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex.sandbox import (
    MAX_SCANNED,
    MAX_SECRETS,
    Boundary,
    can_be_scanned,
    is_literal_path,
    is_searched,
)
from codex_counsel.contract.vocabulary import Reads, SandboxMode
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.prepare import environments, system_files
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.directories import is_of_the_system
from codex_counsel.prepare.environments import Environments
from codex_counsel.prepare.secret_files import (
    SecretFiles,
    find_secrets,
    of_installations,
    uncommitted,
)
from codex_counsel.prepare.toolchains import MANAGED, toolchains

if TYPE_CHECKING:
    from codex_counsel.contract.request import RunRequest
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.preflight import Preflight
    from codex_counsel.prepare.workspace import ResolvedWorkspace

PACKAGES = (
    ".cargo/registry",
    ".rustup/toolchains",
    ".m2/repository",
    ".npm/_cacache",
    ".nvm/versions",
)
"""Where package managers keep what they downloaded, below a home directory."""

MAX_PINNED = 24
"""Folders that no command can rename. Codex takes 0.03 s for each, and with 300 starts no command."""


@dataclass(frozen=True)
class Access:
    """What a kind of run may read by default. All paths absolute.

    `reads` is the boundary where the setting names none; `readable` are roots besides
    the workspace; secret files are looked for in `searched` and denied one by one.
    `objects` is a bare repository of ours whose objects git sees in the workspace;
    its path has no links. `mode` is what it may write, `closed` what it may not in a
    workspace that it may write.
    """

    reads: Reads
    readable: tuple[Path, ...] = ()
    searched: tuple[Path, ...] = ()
    objects: Path | None = None
    mode: SandboxMode = "read-only"
    closed: tuple[Path, ...] = ()

    @classmethod
    def to_repository(
        cls,
        workspace: ResolvedWorkspace,
        reads: Reads = "workspace",
        objects: Path | None = None,
    ) -> Access:
        """For a run that changes nothing: the repository around its workspace."""
        repository = [workspace.top] if workspace.top else []
        return cls(
            reads=reads,
            readable=(*repository, *workspace.git),
            searched=(workspace.outermost,),
            objects=objects,
        )


def of_run(
    context: Context, request: RunRequest, preflight: Preflight, access: Access
) -> Boundary:
    """What a run with this request may touch, before it has its private directories.

    Raises `workspace_invalid` for an extra root that runs may not use, and
    `boundary_incomplete` where secret files would stay open, unless the setting
    `INCOMPLETE_BOUNDARY` is `report`.
    """
    workspace = preflight.workspace
    extra_roots = [_extra_root(path, workspace) for path in request.extra_roots]
    reads = context.settings.read_boundary or access.reads

    project = Environments()
    if reads != "workspace":
        project = environments.of_project(workspace)
    tools: tuple[Path, ...] = ()
    if reads == "toolchains":
        path_variable = context.env.get("PATH", "")
        installed = toolchains(path_variable, workspace.gate, workspace.outermost)
        tools = (*project.readable, *installed)

    needed = preflight.codex.needs
    if access.objects:
        needed = (*needed, access.objects)
    roots = dict.fromkeys([*access.readable, *extra_roots])
    roots.pop(workspace.root, None)
    searched = (*access.searched, *extra_roots)
    found = find_secrets(searched)
    secrets, complete = _chosen(context, workspace, found)
    denied = (
        *workspace.gate.denied_around(*needed),
        *system_files.not_for_everybody(),
        *_keys_in_git(workspace),
        *of_installations(tools),
    )
    if reads == "host":
        denied = (*denied, *context.directories.settings())
    pinned: tuple[Path, ...] = ()
    scanned = _scanned(searched, found, denied)
    if access.mode == "workspace-write":
        unseen = [path for path in secrets if not is_searched(path, scanned)]
        pinned, all_pinned = _pinned(workspace.root, access.closed, (*denied, *unseen))
        complete = complete and all_pinned
        if not all_pinned:
            _refuse_unless_accepted(
                context,
                found,
                "has secret files in too many folders that a command could rename",
            )
    return Boundary(
        workspace=workspace.root,
        mode=access.mode,
        reads=reads,
        network=bool(getattr(request, "network", False)),
        readable=(*needed, *roots, *tools),
        environment=project.python,
        closed=access.closed,
        pinned=pinned,
        denied=denied,
        homes=workspace.gate.homes,
        secrets=secrets,
        secrets_complete=complete,
        searched=scanned,
        host_controls_writable=preflight.host_controls_writable,
    )


def _pinned(
    root: Path, closed: Sequence[Path], denied: Sequence[Path]
) -> tuple[tuple[Path, ...], bool]:
    """The folders of a writable workspace that commands must not rename, and whether these are all.

    Codex denies and closes paths: what lies in a folder would be open as soon as that has
    another name. What is denied comes first.
    """
    pinned: dict[Path, None] = {}
    is_all = True
    for path in denied:
        folders = _folders_to(root, path, closed)
        if all(map(is_literal_path, folders)) and len(pinned | folders) <= MAX_PINNED:
            pinned |= folders
        else:
            is_all = False
    for path in closed:
        folders = _folders_to(root, path, closed)
        if len(pinned | folders) <= MAX_PINNED:
            pinned |= folders
    return tuple(pinned), is_all


def _folders_to(root: Path, path: Path, closed: Sequence[Path]) -> dict[Path, None]:
    """The folders between the root and a path, but those that cannot change anyway."""
    if not path.is_relative_to(root):
        return {}
    folders: dict[Path, None] = {}
    for folder in path.parents[: len(path.relative_to(root).parts) - 1]:
        if not any(folder.is_relative_to(place) for place in closed):
            folders[folder] = None
    return folders


def _keys_in_git(workspace: ResolvedWorkspace) -> list[Path]:
    """Where git-crypt keeps the keys of the repository."""
    git_directories = (workspace.outermost / ".git", *workspace.git)
    folders = [folder / "git-crypt" for folder in git_directories]
    # Path.is_dir raises for a link whose target is too long, or is closed to us.
    return [folder.resolve() for folder in folders if os.path.isdir(folder)]  # noqa: PTH112


def _extra_root(path: str, workspace: ResolvedWorkspace) -> Path:
    """The directory, resolved. The caller may have been told by others to name it, so private places are refused."""
    root = workspaces.checked_root(path, workspace.gate)
    if root.is_relative_to(workspace.outermost):
        return root
    if is_of_the_system(root) and not is_of_the_system(workspace.root):
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"extra_roots: {root} belongs to the operating system",
            repair="Name a directory of source text.",
        )
    known = [
        home / place for home in workspace.gate.homes for place in (*MANAGED, *PACKAGES)
    ]
    is_hidden = any(part.startswith(".") for part in root.parts)
    if is_hidden and not any(root.is_relative_to(place) for place in known):
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"extra_roots: {root} lies in a hidden directory outside the workspace",
            repair="Name a directory of source text; copy what is needed from a hidden one into the workspace.",
        )
    return root


def _chosen(
    context: Context, workspace: ResolvedWorkspace, found: SecretFiles
) -> tuple[tuple[Path, ...], bool]:
    """The secret files to deny, and whether these are all.

    Where there are too many, those come first whose content was not committed: what
    was, a run can read from git's objects too. Raises `boundary_incomplete`.
    """
    paths = found.paths
    if not found.scannable:
        # The patterns that stand for such paths make Codex search too.
        paths = tuple(path for path in paths if is_literal_path(path))
    if len(paths) < len(found.paths):
        _refuse_unless_accepted(
            context,
            found,
            "has secret files whose paths Codex takes for patterns, and folders that it cannot search for them",
        )
    if not found.complete:
        _refuse_unless_accepted(
            context,
            found,
            f"is too large to be searched for secret files ({found.scanned} directory entries were seen)",
        )
    if len(paths) <= MAX_SECRETS:
        is_all = found.complete and len(paths) == len(found.paths)
        return paths, is_all and not found.undeniable

    first: Sequence[Path] = paths
    if workspace.top:
        repo = workspaces.open_repository(workspace, context)
        first = uncommitted(paths, repo)
    if len(first) > MAX_SECRETS:
        _refuse_unless_accepted(
            context,
            found,
            f"has {len(first)} secret files that were never committed, of which {MAX_SECRETS} can be denied",
        )
    ordered = dict.fromkeys((*first, *paths))
    return tuple(ordered)[:MAX_SECRETS], False


def _refuse_unless_accepted(context: Context, found: SecretFiles, problem: str) -> None:
    if context.settings.incomplete_boundary == "report":
        return
    examples = [display_name(bytes(path)) for path in found.paths[:5]]
    raise CounselError(
        Code.BOUNDARY_INCOMPLETE,
        f"The workspace {problem}, so a run could read some of them",
        details={"secret_files": len(found.paths), "for_example": examples},
    )


def _scanned(
    roots: Sequence[Path], found: SecretFiles, denied: Sequence[Path]
) -> tuple[Path, ...]:
    """Where Codex itself looks for secret files before each command; nowhere if that would cost much or fail.

    A match below a denied directory would let no command start.
    """
    too_many = len(found.paths) > MAX_SECRETS // 2 or found.scanned > MAX_SCANNED
    if too_many or not found.scannable or not found.complete:
        return ()
    scanned = []
    for root in dict.fromkeys(roots):
        holds_a_denial = any(path.is_relative_to(root) for path in denied)
        if can_be_scanned(root) and not holds_a_denial:
            scanned.append(root)
    return tuple(scanned)


def warnings(boundary: Boundary) -> list[str]:
    """What the caller must know of a boundary that is wider than the default."""
    if boundary.reads == "host":
        return [
            "read boundary host: the run can read every file of this user but known credentials"
        ]
    if not boundary.secrets_complete:
        warning = (
            "read boundary partial: some files with names of secret files could not be denied, because there are "
            "too many (those that were never committed come first) or their names are not UTF-8"
        )
        return [warning]
    return []
