"""Where the parts of a repository lie, read from its files; and which repositories are not used at all.

A repository may come from anybody, and its files may name other directories of this
machine. Everything that opens a repository asks here, so that none leads to another
one: neither a run, which may read git's objects, nor our own git, whose output is sent.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import read_regular
from codex_counsel.system.tree_walk import TreeWalk

READ_BY_GIT = (
    "HEAD",
    "config",
    "config.worktree",
    "index",
    "info",
    "logs",
    "objects",
    "packed-refs",
    "refs",
    "reftable",
    "shallow",
)
"""Entries of a git directory that git reads."""
MAX_POINTER = 16_384
"""Bytes of a file that names a directory."""
MAX_CONFIG = 1_000_000
"""Bytes read of a repository's configuration."""


@dataclass(frozen=True)
class Layout:
    """A working tree and its git directories, all real paths. Most have one: `git_dir` and `common_dir` are equal."""

    top: Path
    git_dir: Path
    common_dir: Path

    @property
    def outside(self) -> tuple[Path, ...]:
        """The git directories that do not lie in the working tree."""
        both = dict.fromkeys((self.common_dir, self.git_dir))
        return tuple(path for path in both if not path.is_relative_to(self.top))

    @property
    def objects(self) -> Path:
        """Where git's objects are."""
        return self.common_dir / "objects"


def read_layout(top: Path) -> Layout:
    """The layout of the repository whose working tree is `top`, a real path. Nothing is executed.

    A `.git` file is followed where its target names this working tree in turn: that of
    a linked working tree in `gitdir`, that of a submodule as `core.worktree`. Raises
    `workspace_invalid` for any other, and for a git directory whose parts lead out of
    it.
    """
    entry = top / ".git"
    if entry.is_symlink():
        raise _refused(top, "is a link")
    layout = Layout(top, entry, entry)
    if not entry.is_dir():
        layout = _layout_of_pointer(top, entry)
    is_linked = layout.git_dir != layout.common_dir
    if not is_linked and os.path.lexists(layout.git_dir / "commondir"):
        raise _refused(top, "has a file `commondir`, which names another one")
    _check_contained(layout)
    return layout


def _layout_of_pointer(top: Path, entry: Path) -> Layout:
    """For a `.git` file, which names the git directory."""
    try:
        git_dir = _target_of(entry, prefix="gitdir:")
        if _points_back(git_dir, entry):
            common = _target_of(git_dir / "commondir")
            if git_dir.parent == common / "worktrees":
                return Layout(top, git_dir, common)
        elif _names_working_tree(git_dir, top):
            return Layout(top, git_dir, git_dir)
    except (OSError, ValueError, RuntimeError):
        raise _refused(top, "is a file that names no git directory") from None
    raise _refused(
        top, f"is a file that names {git_dir}, which does not belong to this directory"
    )


def _target_of(pointer: Path, prefix: str = "") -> Path:
    """The existing path that a file names, relative to its own folder. Raises OSError or ValueError for none."""
    data = read_regular(pointer, MAX_POINTER)
    if data is None:
        raise FileNotFoundError(pointer)
    # Git takes one space after the prefix, and line ends from the end. It is refused
    # here where another reading could lead elsewhere.
    name = os.fsdecode(data).removeprefix(prefix).rstrip("\r\n")
    if prefix:
        name = name.removeprefix(" ")
    if not name or name != name.strip() or "\n" in name or "\0" in name:
        raise ValueError("it names no directory, or more than one")
    return (pointer.parent / name).resolve(strict=True)


def _points_back(git_dir: Path, entry: Path) -> bool:
    """Whether the git directory of a linked working tree names this `.git` file as its own."""
    back = git_dir / "gitdir"
    return back.is_file() and _target_of(back) == entry


def _names_working_tree(git_dir: Path, top: Path) -> bool:
    """Whether the configuration of the git directory has this working tree as `core.worktree`."""
    data = read_regular(git_dir / "config", MAX_CONFIG) or b""
    section = ""
    for line in os.fsdecode(data).splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text.lower()
        match = re.fullmatch(r"worktree\s*=\s*\"?([^\"]+)\"?", text, re.IGNORECASE)
        if match and section == "[core]":
            return (git_dir / match[1]).resolve() == top
    return False


def _check_contained(layout: Layout) -> None:
    """Raise unless what git reads of the repository lies in its own git directories.

    Content of another repository comes with that one's objects. Where the objects are
    our own, a foreign ref only names what is not there. Borrowed objects
    (`git clone --shared`) are used, but not together with any link that leads elsewhere.
    """
    own = (layout.common_dir, layout.git_dir)
    try:
        if not layout.objects.is_dir():
            raise _refused(layout.top, "has no objects")
        links = _links(layout, own)
    except OSError as error:
        raise _refused(layout.top, f"cannot be read: {error.strerror}") from None
    for link in links:
        real = link.resolve()
        if not any(real.is_relative_to(folder) for folder in own):
            raise _refused(layout.top, f"leads out of itself by the link {link}")


def _links(layout: Layout, own: Iterable[Path]) -> list[Path]:
    """The links among what git reads; all links, where objects are borrowed. Raises OSError."""
    entries = [folder / name for folder in own for name in READ_BY_GIT]
    for folder in (layout.objects, layout.objects / "pack"):
        if folder.is_dir():
            entries += folder.iterdir()
    links = [path for path in entries if path.is_symlink()]

    if (layout.objects / "info/alternates").exists():
        for folder in own:
            walk = TreeWalk(folder)
            found = [entry.path for entry in walk if entry.is_link]
            if walk.unread or walk.truncated:
                raise PermissionError(errno.EACCES, f"not all of {folder} can be read")
            links += [folder / os.fsdecode(path) for path in found]
    return links


def _refused(top: Path, why: str) -> CounselError:
    return CounselError(
        Code.WORKSPACE_INVALID,
        f"The repository at {top} is not used: its .git {why}",
        repair="Choose a working tree that git made (`git clone`, `git worktree add`); where the git directory is yours"
        " and lies elsewhere, name the tree in it: `git config core.worktree PATH`.",
    )
