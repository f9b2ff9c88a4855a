"""Names of files: as git writes them in a diff, as people read them, and as a caller may give them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from collections.abc import Collection

    from codex_counsel.git.repo import Repo

MAX_PATHS = 1000
NO_NAME = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""Characters that no file name has: NUL, and surrogates that do not stand for a byte."""
_SPECIAL = re.compile(rb'[\x00-\x1f\x7f"\\]')
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LETTERS = {
    7: b"a",
    8: b"b",
    9: b"t",
    10: b"n",
    11: b"v",
    12: b"f",
    13: b"r",
    34: b'"',
    92: b"\\",
}


def quote(name: bytes) -> bytes:
    """The name as git writes it in a diff header with `core.quotePath=false`."""
    text = escaped(name)
    if text == name:
        return name
    return b'"' + text + b'"'


def escaped(name: bytes) -> bytes:
    """The name as it stands between quotation marks of git's."""
    return _SPECIAL.sub(_escape, name)


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0][0]
    return b"\\" + _LETTERS.get(byte, b"%03o" % byte)


def diff_header(old: bytes, new: bytes) -> bytes:
    """The first line of a file's diff, without its line end."""
    return b"diff --git " + quote(b"a/" + old) + b" " + quote(b"b/" + new)


def display_name(name: bytes) -> str:
    r"""For people and JSON: no line ends, control or hidden characters, and bytes that are not UTF-8 as `\xNN`."""
    text = name.decode("utf-8", "backslashreplace")
    if text.isascii() and text.isprintable():
        return text
    return visible(_UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text))


def from_root(repo: Repo, paths: tuple[str, ...]) -> tuple[bytes, ...]:
    """A caller's paths, relative to the workspace, as literal paths from the root. Empty means everything.

    Raises `invalid_arguments` for a path that leads out of the repository or into
    `.git`, and for too many paths.
    """
    if len(paths) > MAX_PATHS:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"More than {MAX_PATHS} paths were given.",
            repair="Name folders.",
        )
    names = tuple(dict.fromkeys(_name_from_root(repo, path) for path in paths))
    # The empty name is the root itself.
    if b"" in names:
        return ()
    return names


def _name_from_root(repo: Repo, path: str) -> bytes:
    if not path.strip() or NO_NAME.search(path):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "A path is blank or holds characters that no file name can.",
        )
    whole = os.path.normpath(repo.root / os.fsdecode(repo.prefix) / path)
    if Path(path).is_absolute() and not Path(whole).is_relative_to(repo.root):
        # The caller may know the repository by a link. Its last part stays as it is: a
        # link there is what is meant.
        folder, last = os.path.split(whole)
        whole = os.path.join(os.path.realpath(folder), last)  # noqa: PTH118
    relative = os.path.relpath(whole, repo.root)
    if relative == ".." or relative.startswith("../"):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"The path {display_name(os.fsencode(path))} leads out of the repository.",
            repair="Give paths relative to the workspace, inside its repository.",
        )
    if ".git" in relative.split("/"):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"The path {display_name(os.fsencode(path))} leads into .git.",
        )
    if relative == ".":
        return b""
    return os.fsencode(relative)


def covering_path(name: bytes, paths: Collection[bytes]) -> bytes | None:
    """The longest of `paths` that is this file or a folder above it, or None."""
    end = len(name)
    while end > 0:
        if name[:end] in paths:
            return name[:end]
        end = name.rfind(b"/", 0, end)
    return None
