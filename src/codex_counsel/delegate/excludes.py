"""Which untracked files a user ignores by patterns outside of the working tree: their own, and those of the clone.

A repository's configuration names no file here: `core.excludesFile` counts only where
the user or the system sets it. So no file of the user is read because a repository asks
for it.
"""

from __future__ import annotations

from pathlib import Path

from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.prepare.directories import Directories
from codex_counsel.system.files import read_regular
from codex_counsel.system.secret_names import secret_name

MAX_PATTERNS = 1 << 20
"""Bytes of patterns that are read of one file."""


def patterns(repo: Repo) -> bytes:
    """The patterns of the user and, after them as git has it, those of the clone."""
    parts = []
    users_file = _users_excludes(repo)
    if users_file is not None:
        parts.append(read_regular(users_file, MAX_PATTERNS) or b"")
    parts.append(_patterns_of_clone(repo))
    return b"\n".join(_whole_lines(part) for part in parts)


def _users_excludes(repo: Repo) -> Path | None:
    """The user's own file of patterns, links resolved; None where there is none that runs may know of.

    A link is fine: people link the files of their home directory to a repository of
    them. A file that holds secrets by its name or place is not.
    """
    path = repo.config.users_excludes(repo.env)
    if path is None:
        return None
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    directories = Directories.of(repo.env, Path("/nonexistent"))
    is_denied = any(real.is_relative_to(denied) for denied in directories.denied())
    if is_denied or secret_name(str(path)) or secret_name(str(real)):
        return None
    return real


def _patterns_of_clone(repo: Repo) -> bytes:
    try:
        with TreeReader(repo.common_dir) as reader:
            return reader.read(b"info/exclude", MAX_PATTERNS).data
    except (OSError, UnreadableError):
        return b""


def _whole_lines(text: bytes) -> bytes:
    """The text; without its last line, which may be a part of one, where it is as long as what is read."""
    if len(text) < MAX_PATTERNS:
        return text
    lines, _, _ = text.rpartition(b"\n")
    return lines
