"""Findings held against the files they speak of, in the state that was reviewed and not as they lie on disk by now.

Evidence stands where its words stand: white space is one blank, empty lines and a quoted diff's marks do not count, and
what was masked on the way out is masked here too.
"""

from __future__ import annotations

import bisect
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from codex_counsel.contract.vocabulary import Grounding
from codex_counsel.errors import CounselError
from codex_counsel.git.encoding import is_binary, utf8
from codex_counsel.git.names import NO_NAME, shown
from codex_counsel.git.tree_reader import TreeReader, Withheld
from codex_counsel.system.redact import mask, secret_name

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.changes import Changes
    from codex_counsel.review.changes.model import ChangedFile

MAX_FILE = 16 * 1024 * 1024
MAX_EVIDENCE = 20_000
MAX_PLACES = 10_000
MAX_FRAGMENTS = 20
"""Of one quotation; what comes after them is not looked at."""
MIN_EVIDENCE = 3
"""Evidence of fewer characters proves nothing unless it is the very line."""
HELD_FILES = 32
_GAP = re.compile(r"^\s*(?:\.{3,}|…|\[\.{3}\]|# \.{3}|// \.{3})\s*$")
_FENCE = re.compile(r"^\s*```\w*\s*$")
_NUMBER = re.compile(r"^\s*\d{1,7}(?:\t|: |\| ?)")


class Grounded(NamedTuple):
    grounded: Grounding
    line: int | None
    line_end: int | None
    in_diff: bool


@dataclass(frozen=True)
class NormalizedText:
    """The words of a file: one string, and where in it each line that has any begins."""

    text: str
    starts: tuple[int, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, lines: list[str]) -> NormalizedText:
        rows = [(number, row) for number, line in enumerate(lines, 1) if (row := " ".join(line.split()))]
        starts, at = [], 0
        for _, row in rows:
            starts.append(at)
            at += len(row) + 1
        return cls("\n".join(row for _, row in rows), tuple(starts), tuple(number for number, _ in rows))

    def places(self, wanted: str, limit: int = MAX_PLACES) -> list[tuple[int, int]]:
        """First and last line of every place where these words stand."""
        found: list[tuple[int, int]] = []
        at = self.text.find(wanted)
        while at >= 0 and len(found) < limit:
            found.append((self._line_of(at), self._line_of(at + len(wanted) - 1)))
            at = self.text.find(wanted, at + 1)
        return found

    def _line_of(self, position: int) -> int:
        return self.numbers[bisect.bisect_right(self.starts, position) - 1]


class ReviewedFiles:
    """The files of a review as they were reviewed."""

    def __init__(self, repo: Repo, changes: Changes) -> None:
        self._repo, self._changes = repo, changes
        self._by_name = {name: entry for entry in changes.entries for name in _aliases(entry)}
        self._lines = lru_cache(maxsize=HELD_FILES)(self._read_lines)
        self._words = lru_cache(maxsize=HELD_FILES)(self._read_words)

    def lines(self, path: str) -> list[str] | None:
        """The file's lines, masked, without line ends; None if it is not there, not text, or not to be read."""
        raw = self._raw(path)
        return None if raw is None else self._lines(raw, before=False)

    def name(self, path: str) -> str:
        """The file's name from the root, however the path was written; the path itself where nothing answers to it."""
        raw = self._raw(path)
        return path if raw is None else shown(raw)

    def ground(self, file: str, line: int | None, line_end: int | None, evidence: str) -> Grounded:
        """Does the evidence stand in the file, and at that line? Words that the change removed count as found."""
        raw = self._raw(file)
        in_diff = file in self._by_name or bool(raw and raw in self._raw_names())
        fragments = _fragments(evidence)
        if raw is None or not fragments:
            return Grounded("unverified", line, line_end, in_diff)
        words = self._words(raw, before=False)
        place = words and _place(words, fragments, line, line_end)
        if place:
            return _judged(place, line, line_end, in_diff)
        removed = self._words(raw, before=True)
        verdict: Literal["verified", "unverified"] = (
            "verified" if removed and _place(removed, fragments, line, line_end) else "unverified"
        )
        return Grounded(verdict, line, line_end, in_diff)

    def _raw_names(self) -> set[bytes]:
        return {name for entry in self._changes.entries for name in entry.names}

    def _raw(self, path: str) -> bytes | None:
        """The file's name from the root. Models also write `a/x`, `./x`, or a path from the workspace."""
        if not path or NO_NAME.search(path):
            return None
        if entry := self._by_name.get(path):
            return entry.raw
        for name in _spellings(path, os.fsdecode(self._repo.prefix), str(self._repo.root)):
            if entry := self._by_name.get(name):
                return entry.raw
            if _is_inside(name) and self._lines(raw := os.fsencode(name), before=False) is not None:
                return raw
        return None

    def _read_words(self, raw: bytes, *, before: bool) -> NormalizedText | None:
        lines = self._lines(raw, before=before)
        return None if lines is None else NormalizedText.of(lines)

    def _read_lines(self, raw: bytes, *, before: bool) -> list[str] | None:
        if secret_name(os.fsdecode(raw)):
            return None
        data = self._before(raw) if before else self._now(raw)
        if data is None or is_binary(data):
            return None
        text = mask(utf8(data).decode("utf-8", "replace"))[0]
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        return lines if lines[-1] else lines[:-1]

    def _now(self, raw: bytes) -> bytes | None:
        frame = self._changes.frame
        try:
            if frame.state == "commit":
                return self._repo.read(frame.head, raw, MAX_FILE)
            if frame.state == "index":
                return self._repo.read(None, raw, MAX_FILE)
            with TreeReader(self._repo.root) as folder:
                return folder.read(raw, MAX_FILE).data
        except (CounselError, Withheld, OSError):
            return None

    def _before(self, raw: bytes) -> bytes | None:
        base = self._changes.frame.base
        entry = next((entry for entry in self._changes.entries if entry.raw == raw), None)
        if base is None or entry is None or self._changes.frame.whole:
            return None
        try:
            return self._repo.read(base, entry.old_raw or raw, MAX_FILE)
        except CounselError:
            return None


def _aliases(entry: ChangedFile) -> set[str]:
    old = {entry.old_path, os.fsdecode(entry.old_raw)} if entry.old_raw is not None and entry.old_path else set()
    return {entry.path, os.fsdecode(entry.raw), utf8(entry.raw).decode(), *old}


def _spellings(path: str, prefix: str, root: str) -> list[str]:
    plain = path.removeprefix(f"{root}/").removeprefix("./")
    stripped = plain[2:] if plain.startswith(("a/", "b/")) else plain
    return list(dict.fromkeys([plain, prefix + plain, stripped]))


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return not name.startswith("/") and not {"", ".", "..", ".git"} & set(parts)


def _fragments(evidence: str) -> list[str]:
    """The quoted lines as words, in one piece or, where an ellipsis stands between them, in several."""
    fragments: list[list[str]] = [[]]
    for line in evidence[:MAX_EVIDENCE].split("\n"):
        if _GAP.match(line):
            fragments.append([])
        elif line.strip() and not _FENCE.match(line):
            fragments[-1].append(line)
    return ["\n".join(lines) for lines in fragments if lines][:MAX_FRAGMENTS]


def _readings(fragment: str) -> list[str]:
    """As it was quoted, without code marks, without the marks of a diff, without line numbers."""
    lines = fragment.split("\n")
    bare = [line.strip().strip("`") for line in lines]
    undiffed = [line[1:] if line[:1] in "+- " else line for line in lines]
    unnumbered = [_NUMBER.sub("", line) for line in lines]
    kept = [line for line in undiffed if line.strip()]
    forms = (lines, bare, kept, unnumbered)
    texts = ("\n".join(row for line in form if (row := " ".join(line.split()))) for form in forms)
    return list(dict.fromkeys(text for text in texts if text))


def _place(
    words: NormalizedText, fragments: list[str], line: int | None, line_end: int | None
) -> tuple[int, int] | None:
    """Where the first fragment stands, nearest to the line named, provided that all of them stand somewhere."""
    first, *others = fragments
    if not all(_nearest(words, fragment, line, line_end, limit=1) for fragment in others):
        return None
    return _nearest(words, first, line, line_end)


def _nearest(
    words: NormalizedText, fragment: str, line: int | None, line_end: int | None, limit: int = MAX_PLACES
) -> tuple[int, int] | None:
    first, last = _span(line, line_end)
    for reading in _readings(fragment):
        places = words.places(reading, MAX_PLACES if len(reading) < MIN_EVIDENCE else limit)
        if len(reading) < MIN_EVIDENCE:
            places = [place for place in places if first <= place[0] <= last]
        if places:
            return min(places, key=lambda place: _distance(place, first, last))
    return None


def _span(line: int | None, line_end: int | None) -> tuple[int, int]:
    first = line or 0
    return first, max(first, line_end or first)


def _distance(place: tuple[int, int], first: int, last: int) -> int:
    return max(place[0] - last, first - place[1], 0)


def _judged(place: tuple[int, int], line: int | None, line_end: int | None, in_diff: bool) -> Grounded:
    first, last = _span(line, line_end)
    if first and _distance(place, first, last) == 0:
        return Grounded("verified", line, line_end, in_diff)
    return Grounded("moved", place[0], place[1], in_diff)
