"""Which files get how much of the budget: small files whole, big ones by hunks, generated ones last.

Files of one rank compete with each other. The rank has a level: a file below it is sent
whole, one above it is cut down to it. Where the budget allows, the level is a fair
share; with very many files it does not fall below `FLOOR`, and the smallest files are
served first. A file's share never grows when others are added, so text beyond it is
dropped at once: however long the diff, no more than a few times the budget is in
memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from codex_counsel.review.changes.diff_stream import HUNK, START

FLOOR = 8000
SLACK = 4
"""Budgets that the texts may take in memory before what cannot be sent any more is dropped."""
NOTE_ROOM = 100
"""Bytes for the note at the end of a text that was cut."""
_RANGES = re.compile(rb"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)", re.DOTALL)

LAST_FOLDERS = frozenset(
    (b"dist", b"vendor", b"node_modules", b"third_party", b"__snapshots__")
)
LAST_NAMES = frozenset(
    (b"npm-shrinkwrap.json", b"pnpm-lock.yaml", b"go.sum", b"bun.lockb")
)
LAST_SUFFIXES = (
    b".lock",
    b".lock.json",
    b"-lock.json",
    b".min.js",
    b".min.css",
    b".min.mjs",
    b".map",
    b".svg",
    b".snap",
    b".pb.go",
    b"_pb2.py",
    b"_pb2.pyi",
    b"_pb2_grpc.py",
    b"_pb2_grpc.pyi",
    b".g.dart",
    b".designer.cs",
)
LAST_MARKS = (
    b"@generated",
    b"do not edit",
    b"automatically generated",
    b"auto-generated",
)
MARKS_WITHIN = 1000
"""Bytes at the beginning of a file in which `LAST_MARKS` are searched for."""
LONG_LINE = 5000
"""Bytes of a line above which a file counts as minified."""


@dataclass(slots=True)
class Piece:
    """What one file would send: `text` is the beginning of it, `size` the bytes of the whole."""

    index: int
    rank: int
    size: int
    text: bytes


class Share(NamedTuple):
    """What is sent of one file: `piece` is its index, `missing` the bytes that are not sent."""

    piece: int
    text: bytes
    missing: int


class Rank(NamedTuple):
    """The level of one rank in bytes, and how many bytes each piece of it gets. Pieces that get none are absent."""

    level: int
    rooms: list[tuple[Piece, int]]


def rank(name: bytes, text: bytes, *, marked: bool = False) -> int:
    """1 for what people rarely write or read: lock files, minified, vendored and generated code; else 0.

    `marked` files are 1 whatever their name and text.
    """
    if marked:
        return 1
    *folders, last = name.split(b"/")
    if (
        last in LAST_NAMES
        or last.endswith(LAST_SUFFIXES)
        or not LAST_FOLDERS.isdisjoint(folders)
    ):
        return 1
    beginning = text[:MARKS_WITHIN].lower()
    for mark in LAST_MARKS:
        if mark in beginning:
            return 1
    if len(text) <= LONG_LINE:
        return 0
    lines = text[: MARKS_WITHIN + LONG_LINE].split(b"\n")
    return int(max(map(len, lines)) > LONG_LINE)


class Pool:
    """Collects pieces, and keeps no more of their texts than can still be sent."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._limits = [budget, budget]
        self._pieces: list[Piece] = []
        self._size = 0

    def limit(self, rank: int) -> int:
        """The most bytes that one more piece of this rank could send."""
        return self._limits[rank]

    def add(self, piece: Piece) -> None:
        piece.text = piece.text[: self._limits[piece.rank]]
        self._pieces.append(piece)
        self._size += len(piece.text)
        if self._size > SLACK * self.budget:
            self._drop_excess()

    def share(self, budget: int) -> list[Share]:
        """What is sent of each piece that gets any, in the order of the files."""
        shares: list[Share] = []
        for _, rooms in _ranks(self._pieces, budget):
            for piece, room in rooms:
                text, missing = cut_to_fit(piece.text, piece.size, room)
                if text:
                    shares.append(Share(piece.index, text, missing))
        return sorted(shares)

    def _drop_excess(self) -> None:
        ranks = _ranks(self._pieces, self.budget)
        self._limits = [max(2 * level, FLOOR) for level, _ in ranks]
        self._pieces = []
        for level, rooms in ranks:
            for piece, _ in rooms:
                piece.text = piece.text[: 2 * level]
                self._pieces.append(piece)
        self._size = sum(len(piece.text) for piece in self._pieces)


def _ranks(pieces: list[Piece], budget: int) -> list[Rank]:
    """Both ranks in order. The second gets what the first leaves."""
    ranks: list[Rank] = []
    for number in (0, 1):
        ascending = [piece for piece in pieces if piece.rank == number]
        ascending.sort(key=lambda piece: piece.size)
        level = max(_fair_level(ascending, budget), FLOOR)
        rooms: list[tuple[Piece, int]] = []
        for piece in ascending:
            room = min(piece.size, level, budget)
            # Less than a note takes is worth nothing, unless it is the whole file.
            if room == piece.size or room > NOTE_ROOM:
                budget -= room
                rooms.append((piece, room))
        ranks.append(Rank(level, rooms))
    return ranks


def _fair_level(ascending: list[Piece], budget: int) -> int:
    """The highest level that the budget allows for all pieces, which are sorted by size."""
    remaining = budget
    for position, piece in enumerate(ascending):
        share = remaining // (len(ascending) - position)
        if piece.size > share:
            return share
        remaining -= piece.size
    return budget


def cut_to_fit(text: bytes, size: int, room: int) -> tuple[bytes, int]:
    """The text, and how many bytes of the whole are missing from it.

    A text that does not fit is cut to as many whole hunks, and then lines, as do, with
    a note at its end.
    """
    if size <= room and len(text) >= size:
        return text, 0
    if text.startswith(START[1:]):
        parts = _cut_diff(text, room - NOTE_ROOM, ends=len(text) >= size)
    else:
        parts = _cut_plain(text, room - NOTE_ROOM)
    # A headline alone tells nothing.
    if len(parts) < 2:
        return b"", size
    missing = size - sum(map(len, parts))
    parts.append(b"[... %d more bytes of this file are left out]\n" % missing)
    return b"".join(parts), missing


def _cut_plain(text: bytes, room: int) -> list[bytes]:
    """The headline, and the lines below that fit."""
    head, _, body = text.partition(b"\n")
    parts = [head + b"\n"]
    lines = _whole_lines(body, room - len(head))
    if lines:
        parts.append(lines)
    return parts


def _cut_diff(text: bytes, room: int, *, ends: bool) -> list[bytes]:
    """The head and the hunks that fit, then the first lines of the next hunk.

    `ends` says whether `text` reaches to the end of the diff. If not, its last hunk may
    be incomplete.
    """
    head, hunks = _split_hunks(text)
    parts = [head]
    room -= len(head)
    for number, hunk in enumerate(hunks, 1):
        is_complete = ends or number < len(hunks)
        if not is_complete or len(hunk) > room:
            lines = _shortened(hunk, room)
            if lines:
                parts.append(lines)
            break
        parts.append(hunk)
        room -= len(hunk)
    return parts


def _split_hunks(text: bytes) -> tuple[bytes, list[bytes]]:
    head, *parts = text.split(HUNK)
    if not parts:
        return head, []
    # Splitting removed the line end before every mark, and the mark.
    hunks = [HUNK[1:] + part + b"\n" for part in parts]
    hunks[-1] = hunks[-1][:-1]
    return head + b"\n", hunks


def _whole_lines(text: bytes, room: int) -> bytes:
    end = text.rfind(b"\n", 0, max(room, 0))
    return text[: end + 1]


def _shortened(hunk: bytes, room: int) -> bytes:
    """The first lines of a hunk, its line counts corrected."""
    first, _, body = hunk.partition(b"\n")
    match = _RANGES.match(first)
    lines = _whole_lines(body, room - len(first) - 20)
    if match is None or not lines:
        return b""
    rows = lines.split(b"\n")[:-1]
    old = sum(row[:1] in (b" ", b"-") for row in rows)
    new = sum(row[:1] in (b" ", b"+") for row in rows)
    old_start, new_start, heading = match.groups()
    headline = b"@@ -%s,%d +%s,%d @@%s\n" % (old_start, old, new_start, new, heading)
    return headline + lines
