"""The secret files in a workspace, found by their names, and which of them a run must not see."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.codex.sandbox import PLATFORM, SYSTEM
from codex_counsel.git.repo import Repo
from codex_counsel.system.files import read_regular
from codex_counsel.system.secret_names import secret_name
from codex_counsel.system.tree_walk import Entry, TreeWalk

MAX_ENTRIES = 1_000_000
"""Directory entries looked at; in a larger workspace the search is incomplete."""
MAX_PATH = 2_000
"""Bytes of a path. A directory below a longer one is denied as a whole: no system call takes more than 4,096."""
MAX_HASHED = 100_000
"""Bytes of a file that may be found equal to the committed one."""

PROGRAM_SETTINGS = ("npmrc", "pip.conf")
"""Settings of an installation of Node or Python, in which tokens of package registries are kept."""
CERTIFICATES = tuple(map(Path, ("/etc/ssl/certs", "/etc/pki", "/etc/ca-certificates")))
"""Public keys, though their names look like those of private ones."""


@dataclass(frozen=True)
class SecretFiles:
    """What a search found.

    `paths` are real, and one of a directory stands for all below it. `undeniable` are
    files whose names are not UTF-8, which Codex cannot be told of. `complete` is false
    where the search ended early. `scanned` is the number of directory entries seen.
    `scannable` says whether Codex can look for such files itself: it fails at a folder
    that cannot be read, and would close refs and objects of git with such names.
    """

    paths: tuple[Path, ...] = ()
    undeniable: tuple[Path, ...] = ()
    complete: bool = True
    scanned: int = 0
    scannable: bool = True


def find_secrets(roots: Iterable[Path]) -> SecretFiles:
    """The secret files below the roots. Links to directories are not followed; of a link to a file, the target counts.

    What lies in `.git` is none of them: it was committed.
    """
    files: dict[Path, None] = {}
    too_deep: list[Path] = []
    complete = True
    scannable = True
    scanned = 0
    for root in roots:

        def may_enter(folder: Entry, root: Path = root) -> bool:
            path = folder.path
            if len(path) > MAX_PATH:
                too_deep.append(root / os.fsdecode(path))
                return False
            return True

        walk = TreeWalk(root, enter=may_enter, limit=MAX_ENTRIES - scanned)
        for entry in walk:
            scanned += 1
            path = os.fsdecode(entry.path)
            if entry.is_folder or not secret_name(f"/{path}"):
                continue
            if ".git" in path.split("/"):
                scannable = False
            else:
                files |= _real_file(root / path)
        complete = complete and not walk.truncated
        scannable = scannable and not walk.unread

    found = (*files, *too_deep)
    undeniable = tuple(path for path in found if not is_utf8(str(path)))
    return SecretFiles(
        paths=tuple(path for path in found if path not in undeniable),
        undeniable=undeniable,
        complete=complete,
        scanned=scanned,
        scannable=scannable and not too_deep and not undeniable,
    )


def of_installations(roots: Iterable[Path]) -> tuple[Path, ...]:
    """The secret files where installed programs keep their settings: directly in a root, or in its `etc`.

    Deeper ones are parts of packages: public certificates, and keys for tests.
    """
    files: dict[Path, None] = {}
    folders = [folder for root in roots for folder in (root, root / "etc")]
    for folder in folders:
        try:
            paths = list(folder.iterdir())
        except OSError:
            continue
        for path in paths:
            is_secret = path.name in PROGRAM_SETTINGS or secret_name(str(path))
            if is_secret and is_utf8(str(path)):
                files |= _real_file(path)
    return tuple(files)


def _real_file(path: Path) -> dict[Path, None]:
    """Where the file really is.

    Nothing for a link that leads to no regular file, into git's directory, or to what
    belongs to the system: its denial would only keep programs from working.
    """
    # Path.exists raises PermissionError where os.path.exists answers no.
    if not os.path.exists(path):  # noqa: PTH110
        return {}
    real = path.resolve()
    public = (*CERTIFICATES, *SYSTEM, *map(Path, PLATFORM))
    is_public = any(real.is_relative_to(base) for base in public)
    if path.is_symlink() and (not real.is_file() or ".git" in real.parts):
        return {}
    return {} if is_public else {real: None}


def is_utf8(path: str) -> bool:
    """Whether Codex can be told of this path."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def uncommitted(paths: Iterable[Path], repo: Repo) -> list[Path]:
    """The files whose content git's index does not have, and those outside the repository.

    The others can be read from git's objects as well. Each file's content is compared:
    an index may have been made to call a changed file unchanged.
    """
    digest = hashlib.sha256 if len(repo.empty_tree) == 64 else hashlib.sha1
    committed = {}
    for record in repo.git("ls-files", "-z", "--stage").split(b"\0"):
        about, _, name = record.partition(b"\t")
        if name:
            committed[name] = about.split(b" ")[1].decode()

    root = os.fsencode(repo.root) + b"/"
    results = []
    for path in paths:
        name = os.fsencode(path).removeprefix(root)
        data = read_regular(path, MAX_HASHED)
        if data is None or name not in committed:
            results.append(path)
            continue
        blob = b"blob %d\0" % len(data) + data
        if digest(blob).hexdigest() != committed[name]:
            results.append(path)
    return results
