"""The workspace of a request: which directory it is, and whether a run may use it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.contract.envelope import Workspace
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.layout import read_layout
from codex_counsel.git.repo import Repo
from codex_counsel.prepare.directories import is_of_the_system

if TYPE_CHECKING:
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.directories import Gate


@dataclass(frozen=True)
class ResolvedWorkspace:
    """The workspace of a request and how it was chosen.

    `source` is `argument`, `CLAUDE_PROJECT_DIR` or `cwd`. Inside a repository, `top` is
    the top of its working tree and `git` are git directories outside of it that git
    needs to read. `gate` tells what else no run may be given.
    """

    root: Path
    source: str
    top: Path | None
    git: tuple[Path, ...]
    gate: Gate

    @property
    def denied(self) -> tuple[Path, ...]:
        """Nothing below these is sent to the model."""
        return self.gate.denied

    @property
    def outermost(self) -> Path:
        """The top of the repository, or the workspace itself where there is none."""
        return self.top or self.root

    def report(self) -> Workspace:
        """The workspace as the envelope shows it."""
        warning = None
        if self.top and self.top != self.root:
            warning = f"the repository at {self.top} is readable too"
        return Workspace(root=str(self.root), source=self.source, warning=warning)


def resolve(context: Context, argument: str | None) -> ResolvedWorkspace:
    """The workspace that the caller names, else CLAUDE_PROJECT_DIR, else the current directory.

    Raises `workspace_invalid` for a directory that runs may not use.
    """
    memory = context.memory
    if memory is None or argument is None:
        return _resolve(context, argument)
    if argument not in memory.workspaces:
        memory.workspaces[argument] = _resolve(context, argument)
    return memory.workspaces[argument]


def _resolve(context: Context, argument: str | None) -> ResolvedWorkspace:
    source, path = _choose(context, argument)
    gate = context.directories.gate()
    root = checked_root(path, gate)
    top, git = find_repository(root, gate)
    if source == "argument" and top is None:
        _check_unversioned(root, context)
    return ResolvedWorkspace(root, source, top, git, gate)


def resolve_or_none(context: Context) -> ResolvedWorkspace | None:
    """The workspace where the caller names none; None where that is no directory that a run may be given."""
    try:
        return resolve(context, None)
    except CounselError:
        return None


def _choose(context: Context, argument: str | None) -> tuple[str, str]:
    """Where the workspace comes from, as in `ResolvedWorkspace.source`, and its path."""
    if argument:
        return "argument", argument
    project = context.env.get("CLAUDE_PROJECT_DIR")
    if project:
        return "CLAUDE_PROJECT_DIR", project
    return "cwd", str(context.cwd)


def _check_unversioned(root: Path, context: Context) -> None:
    """Raise where the directory is no project, and a caller may have been told by others to name it."""
    _, own = _choose(context, None)
    is_own = root.is_relative_to(Path(own).resolve())
    is_hidden = any(part.startswith(".") for part in root.parts)
    if (is_hidden or is_of_the_system(root)) and not is_own:
        raise _invalid(
            root,
            "is in no repository, and lies in a hidden directory or one of the system: "
            "only a session that works there may name it",
        )


def open_repository(workspace: ResolvedWorkspace, context: Context) -> Repo:
    """The repository around the workspace. Raises `workspace_invalid` where runs may not use its top."""
    repo = Repo.open(
        workspace.root, context.settings.git_timeout_seconds, env=context.env
    )
    if repo.root != workspace.top:
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"The repository around {workspace.root} is {repo.root}, which runs may not use",
        )
    return repo


def checked_root(path: str | Path, gate: Gate) -> Path:
    """The directory, resolved. Raises `workspace_invalid` for one that runs may not use."""
    path = Path(path)
    if not path.is_absolute():
        raise _invalid(path, "is not an absolute path")

    root = _resolve_directory(path)
    reason = gate.why_closed(root)
    if reason:
        raise _invalid(root, reason)
    return root


def _resolve_directory(path: Path) -> Path:
    try:
        root = path.resolve(strict=True)
        str(root).encode()
        os.scandir(root).close()
    except UnicodeEncodeError:
        raise _invalid(
            path, "has a name that is not UTF-8, which Codex does not accept"
        ) from None
    except (OSError, RuntimeError) as error:
        raise _invalid(
            path, f"cannot be used: {getattr(error, 'strerror', None) or error}"
        ) from None
    return root


def _invalid(path: Path, why: str) -> CounselError:
    return CounselError(Code.WORKSPACE_INVALID, f"{path} {why}")


def find_repository(root: Path, gate: Gate) -> tuple[Path | None, tuple[Path, ...]]:
    """The top of the repository around `root`, and the git directories outside of it that git needs to read.

    Read from files, so that nothing is executed. A `.git` that leads to another
    repository opens nothing. A repository of another user above `root` is left alone.
    """
    for folder in (root, *root.parents):
        entry = folder / ".git"
        # Path.exists raises PermissionError where os.path.exists answers no.
        exists = os.path.exists(entry)  # noqa: PTH110
        if not exists or entry.is_symlink():
            continue
        if folder != root and entry.stat().st_uid != os.getuid():
            return None, ()
        return _allowed_top(folder, gate), _outside(folder, gate)
    return None, ()


def _allowed_top(folder: Path, gate: Gate) -> Path | None:
    try:
        return checked_root(folder, gate)
    except CounselError:
        return None


def _outside(folder: Path, gate: Gate) -> tuple[Path, ...]:
    """The git directories outside of the working tree that a run may read: all that are needed, or none."""
    try:
        outside = read_layout(folder).outside
    except CounselError:
        return ()
    if any(gate.why_closed(path) for path in outside):
        return ()
    return outside
