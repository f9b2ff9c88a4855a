"""What a repository and its files were at one moment, to the byte: equal before and after, or something was touched."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

STAMPED = (".git/index", ".git/HEAD", ".git/config", ".git/refs", ".git/packed-refs", ".git/logs")


def state(root: Path, *others: Path) -> dict[str, object]:
    """Kind, permissions and content of everything below the directories, `.git` included; times where git's own lie."""
    found: dict[str, object] = {}
    for top in (root, *others):
        found[str(top)] = _seen(os.fsencode(top), ".")
        for folder, names, files in os.walk(os.fsencode(top)):
            for name in (*names, *files):
                path = os.path.join(folder, name)
                found[os.fsdecode(path)] = _seen(path, os.path.relpath(path, os.fsencode(top)).decode("latin-1"))
    return found


def _seen(path: bytes, name: str) -> tuple[object, ...]:
    about = os.lstat(path)
    stamp = about.st_mtime_ns if name.startswith(STAMPED) and stat.S_ISREG(about.st_mode) else 0
    if stat.S_ISLNK(about.st_mode):
        return "link", os.readlink(path)
    if stat.S_ISREG(about.st_mode):
        with open(path, "rb") as file:
            return "file", stat.S_IMODE(about.st_mode), hashlib.sha256(file.read()).hexdigest(), stamp
    return stat.S_IFMT(about.st_mode), stat.S_IMODE(about.st_mode)


def files(root: Path) -> dict[bytes, tuple[str, bytes]]:
    """Git's view of what lies in a working tree, `.git` left out: mode and bytes of each file by its name."""
    found: dict[bytes, tuple[str, bytes]] = {}
    top = os.fsencode(root)
    for folder, names, inside in os.walk(top):
        names[:] = [name for name in names if name != b".git"]
        linked = [name for name in names if os.path.islink(os.path.join(folder, name))]
        for name in (*inside, *linked):
            path = os.path.join(folder, name)
            if os.path.relpath(path, top) != b".git":
                found[os.path.relpath(path, top)] = _content(path)
    return found


def _content(path: bytes) -> tuple[str, bytes]:
    about = os.lstat(path)
    if stat.S_ISLNK(about.st_mode):
        return "120000", os.readlink(path)
    with open(path, "rb") as file:
        return ("100755" if about.st_mode & stat.S_IXUSR else "100644"), file.read()
