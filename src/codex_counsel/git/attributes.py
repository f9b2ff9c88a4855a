"""Attributes of files, and the one content filter (git-lfs) whose result is known without running it.

A file that a configured content filter applies to differs from what git stores by
whatever the filter does, and filters are never run. In the working tree such a file is
listed as `filtered` and not shown: what the filter keeps out of git, such as secrets,
must not leave the machine either. A git-lfs file whose content matches the stored
pointer is known to be unchanged. Where git-lfs is not set up, files hold their pointers
and are compared like any text.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codex_counsel.git.repo import Repo

ATTRIBUTE_NAMES = ("filter", "diff", "linguist-generated", "linguist-vendored")
_NOT_SET = ("unspecified", "unset", "false")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:ext-[^\n]{1,200}\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,20})\n"
)


class Attributes(NamedTuple):
    """Values as git prints them: `set`, `unset`, `unspecified`, or the value that `.gitattributes` gives."""

    filter: str = "unspecified"
    diff: str = "unspecified"
    generated: str = "unspecified"
    vendored: str = "unspecified"

    @property
    def is_generated(self) -> bool:
        """Whether the repository marks the file as generated or vendored."""
        return self.generated not in _NOT_SET or self.vendored not in _NOT_SET

    @property
    def hides_text(self) -> bool:
        """Whether git may call the file binary because of its attribute alone, whatever its content."""
        return self.diff not in ("unspecified", "set")


NO_ATTRIBUTES = Attributes()


def attributes(repo: Repo, names: Iterable[bytes]) -> dict[bytes, Attributes]:
    """The attributes of each file; one git process for all of them."""
    stdin = b"".join(name + b"\0" for name in names)
    if not stdin:
        return {}
    output = repo.git("check-attr", "-z", "--stdin", *ATTRIBUTE_NAMES, stdin=stdin)
    fields = output.split(b"\0")[:-1]

    # Per file and attribute, git prints three fields: the path, the attribute's name,
    # its value. Most of ten thousand files have the same values, so each combination is
    # decoded once.
    width = 3 * len(ATTRIBUTE_NAMES)
    known: dict[tuple[bytes, ...], Attributes] = {}
    by_name: dict[bytes, Attributes] = {}
    for start in range(0, len(fields), width):
        values = tuple(fields[start + 2 : start + width : 3])
        if values not in known:
            known[values] = Attributes(*map(os.fsdecode, values))
        by_name[fields[start]] = known[values]
    return by_name


def is_same_lfs_file(pointer: bytes, data: bytes) -> bool:
    """Whether `pointer` is a git-lfs pointer to exactly this content."""
    match = _POINTER.fullmatch(pointer)
    if match is None or int(match[2]) != len(data):
        return False
    return hashlib.sha256(data).hexdigest() == match[1].decode()


def is_lfs_pointer(data: bytes) -> bool:
    """Whether the data is a git-lfs pointer and nothing else."""
    return bool(_POINTER.fullmatch(data))
