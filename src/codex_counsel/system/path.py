"""The search path for programs that run outside a sandbox."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path

PROGRAMS = ("git", "codex", "bwrap", "getconf", "lsb_release", "gh", "glab")
"""What this package and Codex run from PATH outside a sandbox."""
MAX_LINKS = 40
"""Links on one path after which no kernel follows it."""


def search_path(variable: str, without: Collection[Path] = ()) -> str:
    """The entries of a PATH that are absolute and lead through none of the directories `without`.

    `without` are resolved directories of a workspace: what is in them may be written by
    others than the user. An entry is also left out where one of PROGRAMS in it leads
    there by a link. The result is the system's default path if no entry is left.
    """
    directories = {str(directory) for directory in without}
    identities = {_identity(directory) for directory in directories} - {None}
    entries: list[str] = []
    for entry in variable.split(os.pathsep):
        if not entry.startswith("/"):
            continue
        programs = [f"{entry}/{program}" for program in PROGRAMS]
        links = [path for path in programs if os.path.islink(path)]
        places = chain(_places_on_the_way(entry), *map(_places_on_the_way, links))
        if any(
            place in directories or _identity(place) in identities for place in places
        ):
            continue
        entries.append(entry)
    return os.pathsep.join(entries) or os.defpath


def _places_on_the_way(path: str) -> Iterator[str]:
    """Each directory and link that leads to the end of an absolute path, its own parents resolved.

    The end alone does not tell: a link in a workspace that leads out of it can be made
    to lead anywhere.
    """
    current = "/"
    links = 0
    parts = path.split("/")[::-1]
    while parts and links <= MAX_LINKS:
        part = parts.pop()
        if part == "..":
            current = os.path.dirname(current)
            continue
        if part in ("", "."):
            continue
        current = os.path.join(current, part)
        yield current
        try:
            target = os.readlink(current)
        except OSError:
            continue
        links += 1
        current = os.path.dirname(current)
        if target.startswith("/"):
            current = "/"
        parts += target.split("/")[::-1]


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of this very entry, not of a link's target. None where nothing is there.

    The same directory may have other names: by case, or by a mount.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
