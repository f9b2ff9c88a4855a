"""Quotations: what a reviewer quoted, and where it stands in a text, whatever its white space.

Any white space counts as one blank; empty lines and the marks of a quoted diff do not
count.
"""

from __future__ import annotations

import bisect
import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from codex_counsel.findings.identity import MAX_WORDS, kept, normalized_blocks
from codex_counsel.system.redact import mask
from codex_counsel.system.text import visible

MAX_EVIDENCE = 20_000
"""Characters of a quotation that are examined."""
MAX_PLACES = 10_000
"""Places in one file where a quotation is found, at most."""
MAX_FRAGMENTS = 20
"""Fragments of one quotation that are examined."""
MIN_EVIDENCE = 3
"""Characters. Shorter evidence proves nothing unless it is found in the very line that was named."""
_ELLIPSIS = re.compile(r"\.{3,}|…")
_GAP = re.compile(r"^\s*(?:\.{3,}|…|\[\.{3}\]|# \.{3}|// \.{3})\s*$")
_FENCE = re.compile(r"^\s*```\w*\s*$")
_DIFF_MARK = re.compile(r"^[+\- ]")
_LINE_NUMBER = re.compile(r"^\s*\d{1,7}(?:\t|: |\| ?)")


@dataclass(frozen=True)
class Quotation:
    """Evidence that was found. `words` are the whole lines in which it stands, masked, an empty line at each gap.

    The first lines without a gap are found `copies` times in the file, and this is the
    copy with the number `copy`, counted from 1. `removed`: they are lines of the base.
    """

    words: str
    copy: int = 1
    copies: int = 1
    removed: bool = False


class LineRange(NamedTuple):
    """Lines from `first` to `last`, counted from 1. No line is (0, 0)."""

    first: int
    last: int

    @classmethod
    def of_finding(cls, line: int | None, line_end: int | None) -> LineRange:
        """The lines that a finding names."""
        first = line or 0
        return cls(first, max(first, line_end or first))

    def distance(self, other: LineRange) -> int:
        """Lines between the two; 0 where they overlap."""
        return max(other.first - self.last, self.first - other.last, 0)


@dataclass(frozen=True)
class NormalizedText:
    """A file with its white space normalized: one string, and for each line in it where it starts and its number."""

    text: str
    starts: tuple[int, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, lines: list[str]) -> NormalizedText:
        """From the lines of a file, in order."""
        rows: list[str] = []
        starts: list[int] = []
        numbers: list[int] = []
        position = 0
        for number, line in enumerate(lines, 1):
            row = " ".join(line.split())
            if not row:
                continue
            rows.append(row)
            starts.append(position)
            numbers.append(number)
            position += len(row) + 1
        return cls("\n".join(rows), tuple(starts), tuple(numbers))

    @cached_property
    def _bounded(self) -> str:
        """The text with a line end before each line and after it."""
        return f"\n{self.text}\n"

    def find(self, words: str) -> list[LineRange]:
        """Every place where these words are, at most `MAX_PLACES`."""
        places: list[LineRange] = []
        position = self.text.find(words)
        while position >= 0 and len(places) < MAX_PLACES:
            first = self._line_at(position)
            last = self._line_at(position + len(words) - 1)
            places.append(LineRange(first, last))
            position = self.text.find(words, position + 1)
        return places

    def find_rows(self, words: str) -> list[LineRange]:
        """Every place where these lines are, at most `MAX_PLACES`.

        `words` are normalized, with an empty line at each gap: the places are those of the
        lines before the first gap, none if any others are missing. A line that was cut
        because it is longer than what is kept is found by its beginning.
        """
        first, *others = words.split("\n\n")
        if not all(self._rows(block) for block in others):
            return []
        return self._rows(first)

    def _rows(self, block: str) -> list[LineRange]:
        end = "\n"
        if len(block) >= MAX_WORDS:
            end = ""
        wanted = f"\n{block}{end}"
        places: list[LineRange] = []
        position = self._bounded.find(wanted)
        while position >= 0 and len(places) < MAX_PLACES:
            # The line end in front makes up for the one that `_bounded` begins with.
            first = self._line_at(position)
            last = self._line_at(position + len(block) - 1)
            places.append(LineRange(first, last))
            position = self._bounded.find(wanted, position + 1)
        return places

    def whole_lines(self, places: list[LineRange], lines: list[str]) -> str:
        """The `lines` of the file at these places, an empty line at each gap. What is empty in the file is no gap."""
        covered: set[int] = set()
        for place in places:
            first = bisect.bisect_left(self.numbers, place.first)
            after = bisect.bisect_right(self.numbers, place.last)
            covered.update(range(first, after))
        rows: list[str] = []
        for index in sorted(covered):
            if rows and index - 1 not in covered:
                rows.append("")
            rows.append(lines[self.numbers[index] - 1])
        return "\n".join(rows)

    def _line_at(self, position: int) -> int:
        return self.numbers[bisect.bisect_right(self.starts, position) - 1]


class PlanText:
    """The text of a reviewed plan, masked, in which quotations are looked for."""

    def __init__(self, plan: str) -> None:
        text, _ = mask(visible(plan))
        self._lines = text.splitlines()
        self._text = NormalizedText.of(self._lines)
        self._words = loosely_normalized(text)

    def quotation(self, evidence: str | None) -> Quotation | None:
        """The lines of the plan that are quoted, or else the words themselves, where these are found in it.

        A plan is prose: the words may be quoted with other line ends and marks.
        """
        fragments = fragments_of(evidence or "")
        places: list[LineRange] = []
        if fragments:
            places = locate(self._text, fragments, LineRange(0, 0))
        if places:
            return Quotation(kept(self._text.whole_lines(places, self._lines)))
        if evidence and is_quoted_from(self._words, evidence):
            return Quotation(kept(evidence))
        return None

    def has(self, words: str) -> bool:
        """Whether what was quoted from it earlier is still there."""
        if self._text.find_rows(normalized_blocks(words)):
            return True
        return is_quoted_from(self._words, words.replace("\n\n", "\n...\n"))


def is_quoted_from(text: str, evidence: str) -> bool:
    """Whether the loosely normalized text holds these words. Between the parts of a shortened one anything may stand.

    One of more parts than can be searched for is none.
    """
    parts = [loosely_normalized(part) for part in _ELLIPSIS.split(evidence)]
    parts = [part for part in parts if part]
    if sum(map(len, parts)) < MIN_EVIDENCE or len(parts) > MAX_FRAGMENTS:
        return False
    return all(part in text for part in parts)


def loosely_normalized(text: str) -> str:
    """Prose as it is compared: on one line, in small letters, without the marks around a quotation."""
    return " ".join(text.split()).strip("\"'“”`> .[]").lower()


def fragments_of(evidence: str) -> list[str]:
    """The quoted lines in one fragment or, where an ellipsis stands between them, in several."""
    fragments: list[list[str]] = [[]]
    for line in visible(evidence[:MAX_EVIDENCE]).split("\n"):
        if _GAP.match(line):
            fragments.append([])
        elif line.strip() and not _FENCE.match(line):
            fragments[-1].append(line)
    texts = ["\n".join(lines) for lines in fragments if lines]
    return texts[:MAX_FRAGMENTS]


def _readings(fragment: str) -> list[str]:
    """The words as they were quoted, without code marks, without the marks of a diff, and without line numbers."""
    lines = fragment.split("\n")
    forms = [
        lines,
        [line.strip().strip("`") for line in lines],
        [_DIFF_MARK.sub("", line) for line in lines],
        [_LINE_NUMBER.sub("", line) for line in lines],
    ]
    texts: dict[str, None] = {}
    for form in forms:
        rows = [" ".join(line.split()) for line in form]
        text = "\n".join(row for row in rows if row)
        if text:
            texts[text] = None
    return list(texts)


def locate(
    text: NormalizedText | None, fragments: list[str], lines: LineRange
) -> list[LineRange]:
    """Where the fragments are: the first nearest to `lines`, the others nearest to it. Empty unless all are found."""
    if text is None:
        return []
    first, *others = fragments
    place = _nearest(text, first, lines)
    if place is None:
        return []
    places = [place]
    for fragment in others:
        other = _nearest(text, fragment, lines, near=place)
        if other is None:
            return []
        places.append(other)
    return places


def _nearest(
    text: NormalizedText,
    fragment: str,
    lines: LineRange,
    near: LineRange | None = None,
) -> LineRange | None:
    """The place of the fragment that is nearest to `near`, by default to `lines`, those that the finding names."""
    for words in _readings(fragment):
        if len(words) >= MIN_EVIDENCE:
            places = text.find(words)
        else:
            places = [
                place
                for place in text.find(words)
                if lines.first <= place.first <= lines.last
            ]
        if places:
            return min(places, key=(near or lines).distance)
    return None
