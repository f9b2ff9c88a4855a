"""What a run that writes in the workspace itself must leave alone: files that tools execute or follow as instructions.

Codex's sandbox closes those that are there when the run begins, and a few names at the
top also where nothing is. Elsewhere a run can make such files. So all of them are noted
before the run, and looked at after it.

For the time of a command, Codex puts an empty file in the place of a closed path where
nothing is, and empty directories with names of its own into every writable directory.
Where it is killed, they stay, and the last run that ends in this workspace removes them.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from codex_counsel.codex.sandbox import is_literal_path, outermost
from codex_counsel.contract.envelope import DiffFile
from codex_counsel.delegate.sensitive import (
    SENSITIVE,
    SHORT_NAME,
    fold,
    is_sensitive,
)
from codex_counsel.git.names import display_name
from codex_counsel.system.files import read_regular
from codex_counsel.system.tree_walk import Entry, TreeWalk

CLOSED_NAMES = (
    ".claude",
    ".cursor",
    ".envrc",
    ".github",
    ".husky",
    ".idea",
    ".mcp.json",
    ".vscode",
    "AGENTS.md",
    "CLAUDE.md",
)
"""Names at the top of the workspace that are closed also where nothing is.

The commands of the run see an untracked file there, so they are few. Codex itself closes
`.codex`, `.agents` and, from 0.163 on, `.git`.
"""
WORKTREES = b"/.claude/worktrees/"
"""Where Claude Code keeps its linked working trees: each is a workspace like any other."""
MOUNT_POINTS = (b".agents", b".aws", b".codex", b".git")
"""The directories that Codex makes for the time of a command."""
MOUNT_POINT_MODE = 0o444
"""Permissions of the files that it makes."""
FULL = (b".git", b"node_modules", b".venv", b"venv")
"""Folders in which all is closed, and there is much of it."""
EXECUTED_BY_GIT = (b"HEAD", b"config", b"hooks")
"""What makes a folder a repository of whatever name, and what git executes in one."""
DATA_OF_GIT = (b"objects", b"refs", b"logs", b"lfs")
"""What git keeps in its directories and does not execute."""
MAX_CLOSED = 100
"""Existing files and folders that are closed. Each is a mount, for every command."""
MAX_ENTRIES = 200_000
"""Directory entries that one look takes in."""
MAX_NOTED = 10_000
"""Files that are noted in one look."""
MAX_POINTER = 16_384
"""Bytes of a `.git` file."""
NOT_ALL_SEEN = (
    "the workspace is too large, or has folders that cannot be read: whether the turn made or changed files there that "
    "tools execute or obey is not known"
)
NOT_NOTED = "what the turn changed of the files that tools execute or obey is not known"


# --- what is closed


def is_closed_whole(root: Path, top: Path, git_paths: Iterable[Path] = ()) -> bool:
    """Whether all of a workspace is what tools execute or obey: one in `.git`, `.claude` or the like.

    `root` and `git_paths` are as in `to_close`. Nothing could be closed in it, and by their
    paths below it the files look harmless. Git directories above `top`, the top of the
    working tree, do not count: some keep working trees in a bare repository.
    """
    _, _, below_worktrees = os.fsencode(root).rpartition(WORKTREES)
    if is_sensitive(below_worktrees):
        return True
    real_paths = {Path(os.path.realpath(path)) for path in git_paths}
    for folder in (root, *root.parents):
        if folder in real_paths or _is_git_directory(folder):
            return True
        if folder == top:
            break
    return False


def _is_git_directory(folder: Path) -> bool:
    """Whether git would take the folder for a repository, whatever its name is."""
    has_data = any(os.path.lexists(folder / name) for name in ("objects", "commondir"))
    return has_data and os.path.lexists(folder / "HEAD")


def open_folders(root: Path, closed: Collection[bytes]) -> list[bytes]:
    """The folders in `FULL` that a run can write: there are too many to close, or the way to them can be renamed."""
    found = []
    for path, entry in _Walk(root, closed):
        if entry.name in FULL and entry.is_folder and path not in closed:
            found.append(path)
    return found


def to_close(root: Path, git_paths: Iterable[Path] = ()) -> tuple[Path, ...]:
    """The paths in the workspace `root` that a run must not write. They are real; some do not exist.

    `git_paths` are what git uses besides, wherever it lies.
    """
    found: dict[Path, None] = {}
    for path in (*(root / name for name in CLOSED_NAMES), *git_paths):
        found |= _closable(root, path)
    names = [name for name, _ in _Walk(root)]
    # Git directories first, then what lies near the top.
    paths = [Path(os.fsdecode(name)) for name in names]
    paths.sort(key=lambda path: (path.name != ".git", len(path.parts)))
    for relative in paths[:MAX_CLOSED]:
        path = root / relative
        found |= _closable(root, path)
        if path.name == ".git":
            found |= _git_directory(root, path)
    return tuple(outermost(found))


def _closable(root: Path, path: Path) -> dict[Path, None]:
    """The path, or of a link what it leads to; nothing where Codex cannot close that, or it is all of the workspace."""
    real = Path(os.path.realpath(path))
    if real == root or not real.is_relative_to(root) or not is_literal_path(real):
        return {}
    try:
        str(real).encode()
    except UnicodeEncodeError:
        return {}
    return {real: None}


def _git_directory(root: Path, pointer: Path) -> dict[Path, None]:
    """The git directory that a `.git` file names."""
    data = read_regular(pointer, MAX_POINTER) or b""
    target = os.fsdecode(data).removeprefix("gitdir:").strip()
    if not target or "\0" in target:
        return {}
    return _closable(root, pointer.parent / target)


class _Walk:
    """Iterate it for what tools execute or obey in a workspace, with its path, a folder before what is in it.

    Folders in `closed` are not gone into: nothing in them can change. Of the folders in
    `FULL`, only those in `entered` are. `complete` says afterwards whether all was seen.
    """

    def __init__(
        self,
        root: Path,
        closed: Collection[bytes] = (),
        entered: Container[bytes] = (),
    ) -> None:
        self.complete = True
        self._root = root
        self._closed = frozenset(closed)
        self._entered = entered
        self._sensitive_folders: set[bytes] = set()

    def __iter__(self) -> Iterator[tuple[bytes, Entry]]:
        walk = TreeWalk(self._root, enter=self._may_enter, limit=MAX_ENTRIES)
        for entry in walk:
            path = entry.path
            if self._is_noted(entry, path):
                if entry.is_folder:
                    self._sensitive_folders.add(path)
                yield path, entry
        self.complete = not walk.truncated and not walk.unread

    def _may_enter(self, folder: Entry) -> bool:
        path = folder.path
        if path in self._closed:
            return False
        if folder.name in DATA_OF_GIT and folder.folder.path in self._sensitive_folders:
            return False
        return folder.name not in FULL or path in self._entered

    def _is_noted(self, entry: Entry, path: bytes) -> bool:
        if entry.folder.path in self._sensitive_folders or entry.name in MOUNT_POINTS:
            return True
        if path in _closed_names():
            return True
        if entry.name in EXECUTED_BY_GIT:
            folder = self._root / os.fsdecode(entry.folder.path)
            return _is_git_directory(folder)
        return _may_be_sensitive(entry.name) and is_sensitive(path)


@cache
def _closed_names() -> frozenset[bytes]:
    return frozenset(map(os.fsencode, CLOSED_NAMES))


@cache
def _last_parts() -> re.Pattern[str]:
    """Matches the last part of each pattern of a sensitive path."""
    parts = set()
    for pattern in " ".join(SENSITIVE.values()).split():
        last = pattern.rpartition("/")[2]
        parts.add(re.escape(last).replace(r"\*", ".*"))
    return re.compile("|".join(sorted(parts)), re.DOTALL)


# Few names are different ones in a tree, and the whole pattern takes 30 µs.
@lru_cache(maxsize=50_000)
def _may_be_sensitive(name: bytes) -> bool:
    folded = fold(name)
    return bool(_last_parts().fullmatch(folded) or SHORT_NAME.search(folded))


# --- before and after


class Stamp(NamedTuple):
    """What is another one when a file was changed or replaced. Of a folder the last three are 0."""

    mode: int
    inode: int
    size: int = 0
    changed_ns: int = 0
    links: int = 0


@dataclass(frozen=True)
class Look:
    """What tools execute or obey in a workspace, by its path in Latin-1. Not `complete` where it is too much to see."""

    stamps: dict[str, Stamp]
    complete: bool


def look(root: Path, closed: Collection[bytes], entered: Container[bytes] = ()) -> Look:
    """Look at a workspace. `closed` are paths below it that the run cannot write; `entered` is as in `_Walk`."""
    stamps: dict[str, Stamp] = {}
    walk = _Walk(root, closed, entered)
    for path, entry in walk:
        if len(stamps) == MAX_NOTED:
            return Look(stamps, complete=False)
        with contextlib.suppress(FileNotFoundError):
            stamps[path.decode("latin-1")] = _stamp(entry.stat())
    return Look(stamps, walk.complete)


def _stamp(status: os.stat_result) -> Stamp:
    if stat.S_ISDIR(status.st_mode):
        return Stamp(stat.S_IFDIR, status.st_ino)
    # Nobody can set the time of the last change of an inode.
    return Stamp(
        status.st_mode,
        status.st_ino,
        status.st_size,
        status.st_ctime_ns,
        status.st_nlink,
    )


def without_mount_points(root: Path, found: Look) -> Look:
    """The look without what Codex put there for a command that runs, or ran when it was killed."""
    stamps = {
        name: stamp
        for name, stamp in found.stamps.items()
        if not _is_mount_point(root, name, stamp)
    }
    return Look(stamps, found.complete)


def remove_mount_points(root: Path, before: Look, after: Look) -> None:
    """Remove what Codex put there and a killed command left. Only while no other run works in the workspace."""
    for name, stamp in after.stamps.items():
        if name in before.stamps or not _is_mount_point(root, name, stamp):
            continue
        path = root / os.fsdecode(name.encode("latin-1"))
        with contextlib.suppress(OSError):
            if stamp.mode == stat.S_IFDIR:
                path.rmdir()
            else:
                path.unlink()


def _is_mount_point(root: Path, name: str, stamp: Stamp) -> bool:
    if stamp.mode == stat.S_IFDIR:
        path = name.encode("latin-1")
        is_named_so = path.rpartition(b"/")[2] in MOUNT_POINTS
        return is_named_so and _is_empty(root / os.fsdecode(path))
    return stamp.mode == stat.S_IFREG | MOUNT_POINT_MODE and stamp.size == 0


def _is_empty(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def differences(before: Look, after: Look) -> list[DiffFile]:
    """What was made (A), changed (M) or removed (D) between two looks; of a new or removed folder only itself."""
    rows = []
    for name in sorted(before.stamps.keys() | after.stamps.keys()):
        old, new = before.stamps.get(name), after.stamps.get(name)
        folder = name.rpartition("/")[0]
        if old == new:
            continue
        status = "M"
        if old is None:
            status = "A"
        elif new is None:
            status = "D"
        is_in_new_folder = folder in after.stamps and folder not in before.stamps
        is_in_old_folder = folder in before.stamps and folder not in after.stamps
        if is_in_new_folder or is_in_old_folder:
            continue
        path = display_name(name.encode("latin-1"))
        rows.append(DiffFile(path=path, status=status, sensitive=True))
    return rows
