"""The state of a repository and its files at one moment, byte for byte, to compare before and after."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

STAMPED = (
    ".git/index",
    ".git/HEAD",
    ".git/config",
    ".git/refs",
    ".git/packed-refs",
    ".git/logs",
)


def state(root: Path, *others: Path) -> dict[str, object]:
    """Kind, permissions and content of all files below the directories; of git's own files also the time."""
    states: dict[str, object] = {}
    for top in (root, *others):
        states[str(top)] = _file_state(os.fsencode(top), ".")
        for folder, names, files in os.walk(os.fsencode(top)):
            for name in (*names, *files):
                path = os.path.join(folder, name)
                relative = os.path.relpath(path, os.fsencode(top))
                states[os.fsdecode(path)] = _file_state(
                    path, relative.decode("latin-1")
                )
    return states


def _file_state(path: bytes, name: str) -> tuple[object, ...]:
    status = os.lstat(path)
    stamp = (
        status.st_mtime_ns
        if name.startswith(STAMPED) and stat.S_ISREG(status.st_mode)
        else 0
    )
    if stat.S_ISLNK(status.st_mode):
        return "link", os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return (
                "file",
                stat.S_IMODE(status.st_mode),
                hashlib.sha256(file.read()).hexdigest(),
                stamp,
            )
    return stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)


def files(root: Path) -> dict[bytes, tuple[str, bytes]]:
    """Mode and bytes, as git sees them, of each file in a working tree without `.git`, by name."""
    contents: dict[bytes, tuple[str, bytes]] = {}
    top = os.fsencode(root)
    for folder, names, inside in os.walk(top):
        names[:] = [name for name in names if name != b".git"]
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in (*inside, *links):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, top)
            if relative != b".git":
                contents[relative] = _content(path)
    return contents


def _content(path: bytes) -> tuple[str, bytes]:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return "120000", os.readlink(path)
    with open(path, "rb") as file:
        return ("100755" if status.st_mode & stat.S_IXUSR else "100644"), file.read()
