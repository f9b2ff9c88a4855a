"""Which directories belong to the project around a workspace. Read from files: no program is run to find out.

Their programs are never run outside a sandbox, so a directory too many does no harm.
"""

from __future__ import annotations

import os
from pathlib import Path

from codex_counsel.system.files import read_regular

MAX_POINTER = 4096
"""Bytes of a `.git` file or a `gitdir` file that are read."""
MAX_LISTED = 1000
"""Linked working trees that are looked at."""


def project_directories(workspace: Path) -> tuple[Path, ...]:
    """The workspace, the repositories around it, and their other working trees; resolved.

    Directories that contain the user's home are left out, but for the workspace itself:
    a home may be a repository, and its programs are the user's own.
    """
    workspace = workspace.resolve()
    home = _home()
    found = [workspace]
    for folder in (workspace, *workspace.parents):
        if not os.path.lexists(folder / ".git"):
            continue
        for directory in (folder, *_other_working_trees(folder)):
            if not home.is_relative_to(directory):
                found.append(directory)
    return tuple(dict.fromkeys(found))


def _home() -> Path:
    try:
        return Path.home().resolve()
    except RuntimeError:
        # A user without a home has no programs there.
        return Path("/nonexistent")


def _other_working_trees(top: Path) -> list[Path]:
    """The main and the linked working trees of the repository whose working tree is `top`."""
    common = top / ".git"
    found = []
    pointer = _read_path(common)
    if pointer:
        # PATH/.git/worktrees/NAME of a linked working tree, or PATH/.git/modules/NAME.
        git_dir = Path(os.path.normpath(top / pointer))
        if git_dir.parent.name != "worktrees":
            return []
        common = git_dir.parent.parent
        found.append(common.parent.resolve())
    try:
        entries = list((common / "worktrees").iterdir())
    except OSError:
        return found
    for entry in entries[:MAX_LISTED]:
        pointer = _read_path(entry / "gitdir")
        # Since 2.48 git can write it relative to the directory that it is in.
        if pointer:
            found.append((entry / pointer).parent.resolve())
    return found


def _read_path(file: Path) -> str | None:
    """The path in a file of git's, without `gitdir: `. None where there is no such regular file."""
    data = read_regular(file, MAX_POINTER)
    if not data:
        return None
    return os.fsdecode(data.removeprefix(b"gitdir:").strip())
