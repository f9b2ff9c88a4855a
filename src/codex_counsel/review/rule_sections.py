"""The parts of a Markdown text that are a team's rules for reviews: sections with one of a few headings. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADINGS = frozenset(
    {
        "code review rules",
        "review rules",
        "code review guidelines",
        "review guidelines",
    }
)
"""Headings of a section of rules, in lower case."""

_MENTION = re.compile(r"review\s+(?:rules|guidelines)", re.IGNORECASE)
"""Words in each of them; a heading may have more than one line."""
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]|\Z)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*\Z")
_OTHER_BLOCK = re.compile(r" {4}| {0,3}(?:[\t>|<]|(?:[-*+]|\d{1,9}[.)])(?:[ \t]|\Z))")
"""What begins a list, a quotation, a table or code: a line of dashes below it makes no heading of it."""


class _Heading(NamedTuple):
    """A heading from line `start` up to line `end`, both counted from 0."""

    start: int
    end: int
    level: int
    title: str


def rules_of(text: str) -> str:
    """The sections of rules with their headings; empty where there is none that says anything."""
    if not _MENTION.search(text):
        return ""
    lines = text.split("\n")
    parts = []
    for start, body, end in _sections(lines):
        if any(line.strip() for line in lines[body:end]):
            parts.append("\n".join(lines[start:end]).rstrip())
    return "\n\n".join(parts)


def without_rules(text: str) -> str:
    """The text without its sections of rules."""
    if not _MENTION.search(text):
        return text
    lines = text.split("\n")
    kept = []
    position = 0
    for start, _, end in _sections(lines):
        kept += lines[position:start]
        position = end
    return "\n".join([*kept, *lines[position:]])


def _sections(lines: list[str]) -> list[tuple[int, int, int]]:
    """Of each section the line where it starts, the first line of its body, and the line where it ends."""
    sections = []
    headings = _headings(lines)
    covered = 0
    for index, heading in enumerate(headings):
        if heading.start < covered or _plain(heading.title) not in HEADINGS:
            continue
        covered = len(lines)
        for later in headings[index + 1 :]:
            if later.level <= heading.level:
                covered = later.start
                break
        sections.append((heading.start, heading.end, covered))
    return sections


def _plain(title: str) -> str:
    """A title in lower case, without emphasis, closing `#` and a colon at its end."""
    words = title.strip().rstrip("#").strip(" \t*_`:")
    return " ".join(words.lower().split())


def _headings(lines: list[str]) -> list[_Heading]:
    """All headings outside code fences and HTML comments."""
    headings = []
    paragraph: int | None = None
    in_other_block = False
    for number, row in _prose(lines):
        atx = _ATX.match(row)
        if atx:
            title = row[atx.end() :]
            headings.append(_Heading(number, number + 1, len(atx[1]), title))
        elif paragraph is not None and _UNDERLINE.match(row):
            level = 1 if "=" in row else 2
            title = " ".join(lines[paragraph:number])
            headings.append(_Heading(paragraph, number + 1, level, title))
        elif row.strip() and not _UNDERLINE.match(row):
            # Lines without a mark of their own belong to the block above them.
            in_other_block = in_other_block or bool(_OTHER_BLOCK.match(row))
            if paragraph is None and not in_other_block:
                paragraph = number
            continue
        paragraph = None
        in_other_block = False
    return headings


def _prose(lines: list[str]) -> Iterator[tuple[int, str]]:
    """Number and text of each line; a blank one in place of all that is in a code fence or an HTML comment."""
    fence = ""
    in_comment = False
    for number, line in enumerate(lines):
        row = line.removesuffix("\r")
        mark = _FENCE.match(row)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
            row = ""
        elif in_comment or row.lstrip(" ").startswith("<!--"):
            in_comment = "-->" not in row
            row = ""
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
            row = ""
        yield number, row
