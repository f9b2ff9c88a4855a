"""Attributes of files, and the one filter that can be recognised without running it.

A file that a configured content filter applies to differs from what git stores by as much as the filter does, and
filters are never run: in the working tree such a file is listed as `filtered` and not shown, for what the filter keeps
out of git (secrets, say) must not leave the machine either. A git-lfs file whose content is the stored pointer's is
known to be unchanged; where git-lfs is not set up, files hold their pointers and are compared as any text.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codex_counsel.git.repo import Repo

NAMES = ("filter", "diff", "linguist-generated", "linguist-vendored")
_UNSET = ("unspecified", "unset", "false")
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"(?:ext-[^\n]{1,200}\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,20})\n"
)


class Attributes(NamedTuple):
    filter: str = "unspecified"
    diff: str = "unspecified"
    generated: str = "unspecified"
    vendored: str = "unspecified"

    @property
    def comes_last(self) -> bool:
        return self.generated not in _UNSET or self.vendored not in _UNSET

    @property
    def hides_text(self) -> bool:
        """An attribute alone decides that the file is binary, whatever it holds."""
        return self.diff not in ("unspecified", "set")


def attributes(repo: Repo, names: Iterable[bytes]) -> dict[bytes, Attributes]:
    """Of the files given; one process for all of them."""
    given = b"".join(name + b"\0" for name in names)
    if not given:
        return {}
    fields = repo.git("check-attr", "-z", "--stdin", *NAMES, given=given).split(b"\0")[:-1]
    step = 3 * len(NAMES)
    return {
        fields[i]: Attributes(*(os.fsdecode(fields[i + at]) for at in range(2, step, 3)))
        for i in range(0, len(fields), step)
    }


def is_same_lfs_file(pointer: bytes, data: bytes) -> bool:
    match = _POINTER.fullmatch(pointer)
    return bool(match and int(match[2]) == len(data) and hashlib.sha256(data).hexdigest() == match[1].decode())


def is_lfs_pointer(data: bytes) -> bool:
    return bool(_POINTER.fullmatch(data))
