"""A git bundle: what its header says, and the pack of objects that follows. Git itself reads only that pack."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codex_counsel.errors import Code, CounselError

MAX_LINE = 4_096
"""Bytes of a line of the header."""
MAX_HEADER = 64_000_000
"""Bytes of the header."""
SIGNATURES = (b"# v2 git bundle\n", b"# v3 git bundle\n")
_CAPABILITY = re.compile(rb"@object-format=(?:sha1|sha256)\n")
_REQUIRED = re.compile(rb"-(?:[0-9a-f]{40}|[0-9a-f]{64})(?: .*)?\n", re.DOTALL)
_TIP = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([^\x00-\x20\x7f]+)\n")


@dataclass(frozen=True)
class Bundle:
    """`tips` are the commits by the names of their refs. The pack begins at the byte `start`.

    What the sender assumed to be there already is not listed: whether it is, shows when
    the objects are taken in.
    """

    file: Path
    tips: dict[str, str]
    start: int

    @classmethod
    def read(cls, file: Path) -> Bundle:
        """Raises `pack_invalid` for what is no bundle, and OSError."""
        try:
            source = file.open("rb")
        except FileNotFoundError:
            raise _invalid("is missing") from None
        with source:
            if source.readline(MAX_LINE) not in SIGNATURES:
                raise _invalid("is none")
            return cls(file, _tips(source), source.tell())

    def write_pack(self, target: Path) -> None:
        """Write the pack alone to a new file. Raises OSError."""
        with self.file.open("rb") as source, target.open("xb") as copy:
            source.seek(self.start)
            shutil.copyfileobj(source, copy, 1 << 20)


def _tips(source: BinaryIO) -> dict[str, str]:
    """The refs, up to the empty line that ends the header."""
    tips: dict[str, str] = {}
    while (line := source.readline(MAX_LINE)) != b"\n":
        tip = _TIP.fullmatch(line)
        if tip:
            tips[tip[2].decode("utf-8", "replace")] = tip[1].decode("ascii")
        elif not (_CAPABILITY.fullmatch(line) or _REQUIRED.fullmatch(line)):
            raise _invalid("has a header that cannot be read")
        if source.tell() > MAX_HEADER:
            raise _invalid("has a header that is too long")
    return tips


def _invalid(problem: str) -> CounselError:
    return CounselError(
        Code.PACK_INVALID, f"The bundle of commits in the pack {problem}"
    )
