"""Links with the names of secret files: what they lead to is as secret, whatever its own name is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from codex_counsel.system.secret_names import secret_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codex_counsel.git.repo import Repo


def is_secret_name(name: bytes) -> bool:
    """Whether a file with this name, from the root, is secret."""
    return secret_name(os.fsdecode(name)) is not None


def secret_link_targets(repo: Repo, listed: Iterable[bytes]) -> set[bytes]:
    """Absolute paths of the files to which such links in the working tree lead. One git process.

    `listed` are the names of its tracked and untracked files. Links that git ignores are
    found as well, but for those in a folder that is ignored as a whole: to list what is
    in there takes long, and is what packages are kept in.
    """
    ignored = repo.git(
        "ls-files",
        "-z",
        "--others",
        "--ignored",
        "--exclude-standard",
        "--directory",
    )
    root = os.fsencode(repo.root) + b"/"
    targets = set()
    for name in (*listed, *ignored.split(b"\0")):
        if not is_secret_name(name):
            continue
        # The methods of Path raise PermissionError where these answer no.
        target = os.path.realpath(root + name)
        if os.path.islink(root + name) and os.path.isfile(target):  # noqa: PTH113, PTH114
            targets.add(target)
    return targets
