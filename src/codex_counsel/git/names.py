"""Names of files: as git writes them in a diff, as a person reads them, and as a caller may give them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError

if TYPE_CHECKING:
    from collections.abc import Collection

    from codex_counsel.git.repo import Repo

MAX_PATHS = 1000
NO_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""NUL, and surrogates that stand for no byte."""
_SPECIAL = re.compile(rb'[\x00-\x1f\x7f"\\]')
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LETTERS = {7: b"a", 8: b"b", 9: b"t", 10: b"n", 11: b"v", 12: b"f", 13: b"r", 34: b'"', 92: b"\\"}


def quoted(name: bytes) -> bytes:
    """As in a diff header with `core.quotePath=false`."""
    escaped = _SPECIAL.sub(lambda m: b"\\" + _LETTERS.get(m[0][0], b"%03o" % m[0][0]), name)
    return name if escaped == name else b'"' + escaped + b'"'


def header(old: bytes, new: bytes) -> bytes:
    return b"diff --git " + quoted(b"a/" + old) + b" " + quoted(b"b/" + new)


def shown(name: bytes) -> str:
    r"""For people and JSON: no line ends or control characters, and bytes that are not UTF-8 as `\xNN`."""
    text = name.decode("utf-8", "backslashreplace")
    return _UNPRINTABLE.sub(lambda m: repr(m[0])[1:-1], text)


def from_root(repo: Repo, paths: tuple[str, ...]) -> tuple[bytes, ...]:
    """A caller's paths, relative to the workspace, as literal paths from the root. Empty means: everything."""
    if len(paths) > MAX_PATHS:
        raise CounselError(Code.INVALID_ARGUMENTS, f"More than {MAX_PATHS} paths were given.", repair="Name folders.")
    inside = tuple(dict.fromkeys(_one(repo, path) for path in paths))
    return () if b"" in inside else inside


def _one(repo: Repo, path: str) -> bytes:
    if not path.strip() or NO_NAME.search(path):
        raise CounselError(Code.INVALID_ARGUMENTS, "A path is blank or holds characters that no file name can.")
    whole = os.path.normpath(repo.root / os.fsdecode(repo.prefix) / path)
    if Path(path).is_absolute() and not Path(whole).is_relative_to(repo.root):
        whole = os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))  # noqa: PTH118, PTH119, PTH120
    relative = os.path.relpath(whole, repo.root)
    if relative == ".." or relative.startswith("../"):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"The path {shown(os.fsencode(path))} leads out of the repository.",
            repair="Give paths relative to the workspace, inside its repository.",
        )
    if ".git" in relative.split("/"):
        raise CounselError(Code.INVALID_ARGUMENTS, f"The path {shown(os.fsencode(path))} leads into .git.")
    return b"" if relative == "." else os.fsencode(relative)


def below(name: bytes, paths: Collection[bytes]) -> bytes | None:
    """Which of the paths is this file or a folder above it."""
    end = len(name)
    while end > 0:
        if name[:end] in paths:
            return name[:end]
        end = name.rfind(b"/", 0, end)
    return None
