"""Checks findings against the files that they name, in the state that was reviewed and not as they are on disk by now.

Evidence is found where its words are: any white space counts as one blank, empty lines
and the marks of a quoted diff do not count, and what was masked before sending is
masked here too.
"""

from __future__ import annotations

import bisect
import os
import re
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.errors import CounselError
from codex_counsel.findings.identity import MAX_WORDS, kept, normalized_blocks
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


@dataclass(frozen=True)
class GroundingResult:
    """Whether the evidence was found, and at which lines. `in_diff` says whether the file is part of the change."""

    grounded: Grounding
    line: int | None
    line_end: int | None
    in_diff: bool
    quotation: Quotation | None = field(default=None, compare=False)


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


class ReviewedFiles:
    """The files of a review as they were reviewed."""

    def __init__(self, repo: Repo, changes: Changes) -> None:
        self.repo = repo
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

    def content(self, path: str) -> bytes | None:
        """The file's bytes, not masked and so not to be shown; None as with `lines`."""
        name = self._find_name(path)
        if name is None or secret_name(os.fsdecode(name)):
            return None
        data = self._read_reviewed(name)
        if data is None or is_binary(data):
            return None
        return data

    def place(
        self, path: str, line: int | None, line_end: int | None, evidence: str
    ) -> LineRange | None:
        """Where the evidence stands nearest to these lines; None for text that is not there any more."""
        name = self._find_name(path)
        fragments = _fragments(evidence)
        if name is None or not fragments:
            return None
        lines = LineRange.of_finding(line, line_end)
        places = _locate(self._text(name, before=False), fragments, lines)
        return places[0] if places else None

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
        places = _locate(self._text(name, before=False), fragments, lines)
        if not places:
            places = _locate(self._text(name, before=True), fragments, lines)
            if not places:
                return unverified
            quotation = self._quotation(name, places, before=True)
            return GroundingResult("verified", line, line_end, in_diff, quotation)
        place = places[0]
        quotation = self._quotation(name, places, before=False)
        if lines.first and lines.distance(place) == 0:
            return GroundingResult("verified", line, line_end, in_diff, quotation)
        return GroundingResult("moved", place.first, place.last, in_diff, quotation)

    def _quotation(
        self, name: bytes, places: list[LineRange], *, before: bool
    ) -> Quotation:
        """What stands at these places of a file that has text."""
        lines = self._lines(name, before=before) or []
        text = self._text(name, before=before) or NormalizedText.of(lines)
        words = kept(text.whole_lines(places, lines))
        copies = text.find_rows(normalized_blocks(words))
        first = min(place.first for place in places)
        earlier = [copy for copy in copies if copy.first <= first]
        return Quotation(
            words,
            copy=max(len(earlier), 1),
            copies=max(len(copies), 1),
            removed=before,
        )

    def places_of(self, path: str, words: str) -> list[LineRange] | None:
        """Where these whole lines of a finding on record are; None where that cannot be told.

        `path` is from the root. A file that the change renamed is looked for by its new
        name, and one that is gone has no places.
        """
        name = self._present_name(path)
        if name is None:
            return None
        text = self._text(name, before=False)
        if text is not None:
            return text.find_rows(normalized_blocks(words))
        if self._is_gone(name):
            return []
        return None

    def working_tree_has(self, path: str, words: str) -> bool:
        """Whether these lines are in the file as it is on disk, where something else was reviewed."""
        if self._changes.comparison.state == "working_tree":
            return False
        name = self._present_name(path)
        if name is None or secret_name(os.fsdecode(name)):
            return False
        lines = _masked_lines(self._read_working_tree(name))
        return bool(NormalizedText.of(lines or []).find_rows(normalized_blocks(words)))

    def _present_name(self, path: str) -> bytes | None:
        """The name that a file has now; None where `path` does not tell it."""
        for file in self._changes.entries:
            if file.path == path:
                return file.path_bytes
        for file in self._changes.entries:
            if file.old_path == path and file.status == "R":
                return file.path_bytes
        if NO_NAME.search(path) or not _is_inside(path):
            return None
        name = os.fsencode(path)
        # A name with characters that are written out is not the name on disk.
        if display_name(name) != path:
            return None
        return name

    def _is_gone(self, name: bytes) -> bool:
        """Whether the reviewed state surely has no such file."""
        comparison = self._changes.comparison
        try:
            if comparison.state == "commit" and comparison.head:
                return self.repo.lookup(comparison.head, name) is None
            return not os.path.lexists(self.repo.root / os.fsdecode(name))
        except CounselError:
            return False

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
        path = path.removeprefix(f"{self.repo.root}/").removeprefix("./")
        spellings = [path, os.fsdecode(self.repo.prefix) + path]
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
        return _masked_lines(data)

    def _read_reviewed(self, name: bytes) -> bytes | None:
        """The content that was reviewed, or of the working tree the present one."""
        comparison = self._changes.comparison
        try:
            if comparison.state == "commit":
                return self.repo.read(comparison.head, name, MAX_FILE)
            if comparison.state == "index":
                return self.repo.read(None, name, MAX_FILE)
        except CounselError:
            return None
        return self._read_working_tree(name)

    def _read_working_tree(self, name: bytes) -> bytes | None:
        try:
            with TreeReader(self.repo.root) as reader:
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
                return self.repo.read(
                    comparison.base, file.old_path_bytes or name, MAX_FILE
                )
            except CounselError:
                return None
        return None


def _masked_lines(data: bytes | None) -> list[str] | None:
    """The lines of a file without line ends; None for what is not there or not text."""
    if data is None or is_binary(data):
        return None
    text, _ = mask(utf8(data).decode("utf-8", "replace"))
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if not lines[-1]:
        lines.pop()
    return lines


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
        fragments = _fragments(evidence or "")
        places: list[LineRange] = []
        if fragments:
            places = _locate(self._text, fragments, LineRange(0, 0))
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
