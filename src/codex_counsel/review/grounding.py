"""Checks findings against the files that they name, in the state that was reviewed and not as they are on disk by now.

Evidence is found where its words are: any white space counts as one blank, empty lines
and the marks of a quoted diff do not count, and what was masked before sending is
masked here too.
"""

from __future__ import annotations

import bisect
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.errors import CounselError
from codex_counsel.git.encoding import is_binary, utf8
from codex_counsel.git.names import NO_NAME, display_name
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.system.redact import mask
from codex_counsel.system.secret_names import secret_name
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.contract.vocabulary import Grounding
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.changes import Changes
    from codex_counsel.review.changes.model import ChangedFile

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file in which evidence is searched for."""
MAX_EVIDENCE = 20_000
"""Characters of a quotation that are examined."""
MAX_PLACES = 10_000
"""Places in one file where a quotation is found, at most."""
MAX_FRAGMENTS = 20
"""Fragments of one quotation that are examined."""
MIN_EVIDENCE = 3
"""Characters. Shorter evidence proves nothing unless it is found in the very line that was named."""
CACHED_FILES = 32
_GAP = re.compile(r"^\s*(?:\.{3,}|…|\[\.{3}\]|# \.{3}|// \.{3})\s*$")
_FENCE = re.compile(r"^\s*```\w*\s*$")
_DIFF_MARK = re.compile(r"^[+\- ]")
_LINE_NUMBER = re.compile(r"^\s*\d{1,7}(?:\t|: |\| ?)")


class GroundingResult(NamedTuple):
    """Whether the evidence was found, and at which lines. `in_diff` says whether the file is part of the change."""

    grounded: Grounding
    line: int | None
    line_end: int | None
    in_diff: bool


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

    def find(self, words: str, limit: int = MAX_PLACES) -> list[LineRange]:
        """Every place where these words are, at most `limit`."""
        places: list[LineRange] = []
        position = self.text.find(words)
        while position >= 0 and len(places) < limit:
            first = self._line_at(position)
            last = self._line_at(position + len(words) - 1)
            places.append(LineRange(first, last))
            position = self.text.find(words, position + 1)
        return places

    def _line_at(self, position: int) -> int:
        return self.numbers[bisect.bisect_right(self.starts, position) - 1]


class ReviewedFiles:
    """The files of a review as they were reviewed."""

    def __init__(self, repo: Repo, changes: Changes) -> None:
        self._repo = repo
        self._changes = changes
        self._by_alias: dict[str, ChangedFile] = {}
        self._changed_names: set[bytes] = set()
        for file in changes.entries:
            self._by_alias.update(dict.fromkeys(_aliases(file), file))
            self._changed_names.update(file.names)
        self._lines = lru_cache(maxsize=CACHED_FILES)(self._read_lines)
        self._text = lru_cache(maxsize=CACHED_FILES)(self._read_text)

    def lines(self, path: str) -> list[str] | None:
        """The file's lines, masked, without line ends; None if it is not there, not text, or not to be read."""
        name = self._find_name(path)
        if name is None:
            return None
        return self._lines(name, before=False)

    def name(self, path: str) -> str:
        """The file's name from the root, however the path was written; the path itself if it names no file."""
        name = self._find_name(path)
        if name is None:
            return path
        return display_name(name)

    def ground(
        self,
        file: str,
        line: int | None,
        line_end: int | None,
        evidence: str,
    ) -> GroundingResult:
        """Whether the evidence is in the file, and at these lines. Text that the change removed counts as found."""
        name = self._find_name(file)
        in_diff = file in self._by_alias or name in self._changed_names
        unverified = GroundingResult("unverified", line, line_end, in_diff)
        fragments = _fragments(evidence)
        if name is None or not fragments:
            return unverified

        lines = LineRange.of_finding(line, line_end)
        place = _locate(self._text(name, before=False), fragments, lines)
        if place is None:
            if _locate(self._text(name, before=True), fragments, lines):
                return GroundingResult("verified", line, line_end, in_diff)
            return unverified
        if lines.first and lines.distance(place) == 0:
            return GroundingResult("verified", line, line_end, in_diff)
        return GroundingResult("moved", place.first, place.last, in_diff)

    def _find_name(self, path: str) -> bytes | None:
        """The file's name from the root. Models also write `a/x`, `./x`, or a path from the workspace."""
        if not path or NO_NAME.search(path):
            return None
        if path in self._by_alias:
            return self._by_alias[path].path_bytes
        for spelling in self._spellings(path):
            if spelling in self._by_alias:
                return self._by_alias[spelling].path_bytes
            if not _is_inside(spelling):
                continue
            name = os.fsencode(spelling)
            if self._lines(name, before=False) is not None:
                return name
        return None

    def _spellings(self, path: str) -> list[str]:
        """What the path may mean from the root."""
        path = path.removeprefix(f"{self._repo.root}/").removeprefix("./")
        spellings = [path, os.fsdecode(self._repo.prefix) + path]
        if path.startswith(("a/", "b/")):
            spellings.append(path[2:])
        return list(dict.fromkeys(spellings))

    def _read_text(self, name: bytes, *, before: bool) -> NormalizedText | None:
        lines = self._lines(name, before=before)
        if lines is None:
            return None
        return NormalizedText.of(lines)

    def _read_lines(self, name: bytes, *, before: bool) -> list[str] | None:
        if secret_name(os.fsdecode(name)):
            return None
        data = self._read_base(name) if before else self._read_reviewed(name)
        if data is None or is_binary(data):
            return None
        text, _ = mask(utf8(data).decode("utf-8", "replace"))
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        if not lines[-1]:
            lines.pop()
        return lines

    def _read_reviewed(self, name: bytes) -> bytes | None:
        """The content that was reviewed, or of the working tree the present one."""
        comparison = self._changes.comparison
        try:
            if comparison.state == "commit":
                return self._repo.read(comparison.head, name, MAX_FILE)
            if comparison.state == "index":
                return self._repo.read(None, name, MAX_FILE)
            with TreeReader(self._repo.root) as reader:
                return reader.read(name, MAX_FILE).data
        except (CounselError, UnreadableError, OSError):
            return None

    def _read_base(self, name: bytes) -> bytes | None:
        """The content before the change."""
        comparison = self._changes.comparison
        if comparison.base is None or comparison.whole_files:
            return None
        for file in self._changes.entries:
            if file.path_bytes != name:
                continue
            try:
                return self._repo.read(
                    comparison.base, file.old_path_bytes or name, MAX_FILE
                )
            except CounselError:
                return None
        return None


def _aliases(file: ChangedFile) -> set[str]:
    """The ways in which the prompt may have shown the file's names, or a model may write them."""
    aliases = {
        file.path,
        os.fsdecode(file.path_bytes),
        utf8(file.path_bytes).decode(),
    }
    if file.old_path_bytes is not None and file.old_path:
        aliases |= {file.old_path, os.fsdecode(file.old_path_bytes)}
    return aliases


def _is_inside(path: str) -> bool:
    """Whether the path stays inside the working tree and out of `.git`."""
    parts = path.split("/")
    return not path.startswith("/") and {"", ".", "..", ".git"}.isdisjoint(parts)


def _fragments(evidence: str) -> list[str]:
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


def _locate(
    text: NormalizedText | None, fragments: list[str], lines: LineRange
) -> LineRange | None:
    """Where the first fragment is, nearest to `lines`, provided that all of them are somewhere in the text."""
    if text is None:
        return None
    first, *others = fragments
    for fragment in others:
        if _nearest(text, fragment, lines, limit=1) is None:
            return None
    return _nearest(text, first, lines)


def _nearest(
    text: NormalizedText,
    fragment: str,
    lines: LineRange,
    limit: int = MAX_PLACES,
) -> LineRange | None:
    for words in _readings(fragment):
        if len(words) >= MIN_EVIDENCE:
            places = text.find(words, limit)
        else:
            places = [
                place
                for place in text.find(words)
                if lines.first <= place.first <= lines.last
            ]
        if places:
            return min(places, key=lines.distance)
    return None
