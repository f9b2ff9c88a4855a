"""Which untracked files a user ignores by patterns outside of the working tree: their own, and those of the clone.

A repository's configuration names no file here: `core.excludesFile` counts only where
the user or the system sets it. So no file of the user is read because a repository asks
for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.prepare.directories import Directories
from codex_counsel.system.files import read_regular
from codex_counsel.system.secret_names import secret_name

MAX_PATTERNS = 1 << 20
"""Bytes of patterns that are read of one file."""
TRUSTED_SCOPES = ("system", "global")
"""Scopes of git's configuration that a repository has no part in."""


def patterns(repo: Repo) -> bytes:
    """The patterns of the user and, after them as git has it, those of the clone."""
    parts = []
    users_file = users_excludes(repo)
    if users_file is not None:
        parts.append(read_regular(users_file, MAX_PATTERNS) or b"")
    parts.append(_patterns_of_clone(repo))
    return b"\n".join(_whole_lines(part) for part in parts)


def environment(repo: Repo) -> Mapping[str, str]:
    """Variables under which git takes the user's file of patterns, whatever file the repository names."""
    path = users_excludes(repo) or os.devnull
    count = int(repo.env["GIT_CONFIG_COUNT"])
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": "core.excludesFile",
        f"GIT_CONFIG_VALUE_{count}": str(path),
    }


def users_excludes(repo: Repo) -> Path | None:
    """The user's own file of patterns, links resolved; None where there is none that runs may know of.

    A link is fine: people link the files of their home directory to a repository of
    them. A file that holds secrets by its name or place is not.
    """
    path = _configured(repo)
    if path is None or not path.is_absolute():
        # A relative path would be one of the repository.
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


def _configured(repo: Repo) -> Path | None:
    home = repo.env.get("HOME") or str(Path.home())
    code, output, _ = repo.try_git(
        "config",
        "-z",
        "--show-scope",
        "--get-all",
        "core.excludesFile",
    )
    if code == 0:
        # Pairs of scope and value, the one that counts last.
        fields = os.fsdecode(output).split("\0")
        pairs = zip(fields[0::2], fields[1::2], strict=False)
        values = [value for scope, value in pairs if scope in TRUSTED_SCOPES]
        if values:
            return _expanded(values[-1], home)

    config_home = repo.env.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return Path(config_home, "git/ignore")


def _expanded(value: str, home: str) -> Path | None:
    """The path that a setting names; None for the empty one, which switches the file off."""
    if not value:
        return None
    if value.startswith("~/"):
        return Path(home + value.removeprefix("~"))
    return Path(os.path.expanduser(value))  # it raises for an unknown user


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
