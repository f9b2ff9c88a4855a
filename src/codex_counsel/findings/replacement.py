"""Text in place of whole lines of a file: what may be shown of it, and the line ends that it gets. Pure."""

from __future__ import annotations

import re

from codex_counsel.system.redact import mask
from codex_counsel.system.text import SPELLED_OUT, visible

MAX_LINES = 200
"""Lines that are replaced at once, and lines that are put in their place."""
MAX_CHARACTERS = 8_000
_MASK = "[masked:"
_OUT_OF_SIGHT = re.compile(r"[^\S\n]{60}\S")


def is_harmless(replacement: str) -> bool:
    """Whether it is short enough, and what it says is all that it holds."""
    if len(replacement) > MAX_CHARACTERS or replacement.count("\n") > MAX_LINES:
        return False
    if visible(replacement) != replacement or SPELLED_OUT.search(replacement):
        return False
    if _OUT_OF_SIGHT.search(replacement):
        return False
    return _MASK not in replacement and mask(replacement)[1] == 0


def lines_of(content: bytes | None) -> list[str]:
    """The lines with their ends; none for what is not UTF-8 text."""
    try:
        text = (content or b"").decode()
    except UnicodeDecodeError:
        return []
    *lines, rest = text.split("\n")
    ended = [f"{line}\n" for line in lines]
    if rest:
        ended.append(rest)
    return ended


def with_line_ends(replacement: str, around: list[str], last: str) -> str | None:
    """The replacement with the line ends of the lines `around`, None where these differ; it ends as `last` does."""
    ends = {_line_end(line) for line in around} - {""}
    if len(ends) > 1:
        return None
    if not replacement:
        return ""
    end = "".join(ends) or "\n"
    text = replacement.replace("\r\n", "\n").removesuffix("\n")
    return text.replace("\n", end) + _line_end(last)


def _line_end(line: str) -> str:
    for end in ("\r\n", "\n"):
        if line.endswith(end):
            return end
    return ""
