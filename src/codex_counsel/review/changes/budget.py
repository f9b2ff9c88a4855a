"""Room for material, given to files and not to bytes: small files whole, big ones by hunks, generated ones last.

Files compete within their rank. There is a level: a file below it is sent whole, one above it is cut down to it. Where
everything fits equally the level is a fair share; with very many files it does not fall below `FLOOR`, and the smallest
files are served first. A file's share never grows when others join, so what no file can get any more is forgotten at
once: however long the diff, a few times the budget is held.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from codex_counsel.review.changes.diff_stream import HUNK, START

FLOOR = 8000
SLACK = 4
"""What is held may grow to this many budgets before it is looked through."""
NOTE_ROOM = 100
_RANGES = re.compile(rb"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@(.*)", re.DOTALL)

LAST_NAMES = re.compile(
    rb"(?:^|/)(?:dist|vendor|node_modules|third_party|__snapshots__)/|(?:^|/)(?:package-lock\.json|npm-shrinkwrap\.json"
    rb"|pnpm-lock\.yaml|go\.sum|bun\.lockb?|[^/]*\.lock|[^/]*[.-]lock\.json)$|\.(?:min\.(?:js|css|mjs)|map|svg|snap|pb\.go)$"
    rb"|(?:_pb2(?:_grpc)?\.pyi?|\.g\.dart|\.designer\.cs)$"
)
LAST_MARKS = (b"@generated", b"do not edit", b"automatically generated", b"auto-generated")
MARKS_WITHIN = 1000
LONG_LINE = 5000


@dataclass(slots=True)
class Piece:
    """What one file would like to send: `text` is its beginning, `size` what the whole takes."""

    index: int
    rank: int
    size: int
    text: bytes


class Share(NamedTuple):
    piece: int
    text: bytes
    missing: int


def rank(name: bytes, text: bytes, *, marked: bool = False) -> int:
    """1 for what people rarely write or read: lock files, minified, vendored and generated code; else 0."""
    start = text[: MARKS_WITHIN + LONG_LINE]
    minified = max(map(len, start.split(b"\n"))) > LONG_LINE
    beginning = start[:MARKS_WITHIN].lower()
    generated = any(mark in beginning for mark in LAST_MARKS)
    return int(marked or minified or generated or bool(LAST_NAMES.search(name)))


class Pool:
    """Collects pieces and holds no more of them than can still be sent."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._wants = [budget, budget]
        self._pieces: list[Piece] = []
        self._held = 0

    def wants(self, rank: int) -> int:
        """The most that one more piece of this rank could send."""
        return self._wants[rank]

    def add(self, piece: Piece) -> None:
        piece.text = piece.text[: self.wants(piece.rank)]
        self._pieces.append(piece)
        self._held += len(piece.text)
        if self._held > SLACK * self.budget:
            self._forget()

    def share(self, budget: int) -> list[Share]:
        """What is sent of each piece that gets any, in the order of the files."""
        granted = [share for _, shares in _groups(self._pieces, budget) for share in shares]
        cuts = ((piece, *cut(piece.text, piece.size, room)) for piece, room in granted)
        return sorted((Share(piece.index, text, missing) for piece, text, missing in cuts if text))

    def _forget(self) -> None:
        groups = _groups(self._pieces, self.budget)
        self._wants = [max(2 * level, FLOOR) for level, _ in groups]
        for level, shares in groups:
            for piece, _ in shares:
                piece.text = piece.text[: 2 * level]
        self._pieces = [piece for _, shares in groups for piece, _ in shares]
        self._held = sum(len(piece.text) for piece in self._pieces)


def _groups(pieces: list[Piece], budget: int) -> list[tuple[int, list[tuple[Piece, int]]]]:
    """For each rank its level, and the pieces that get a share with how much that is."""
    groups = []
    for wanted in (0, 1):
        ascending = sorted((piece for piece in pieces if piece.rank == wanted), key=lambda piece: piece.size)
        level = max(_fair_level([piece.size for piece in ascending], budget), FLOOR)
        shares = []
        for piece in ascending:
            room = min(piece.size, level, budget)
            if room == piece.size or room > NOTE_ROOM:
                budget -= room
                shares.append((piece, room))
        groups.append((level, shares))
    return groups


def _fair_level(ascending: list[int], budget: int) -> int:
    """The height to which all can be filled at once."""
    left = budget
    for position, size in enumerate(ascending):
        share = left // (len(ascending) - position)
        if size > share:
            return share
        left -= size
    return budget


def cut(text: bytes, size: int, room: int) -> tuple[bytes, int]:
    """The text if it fits, else as many whole hunks and then lines as do, with a note; and how much is missing."""
    if size <= room and len(text) >= size:
        return text, 0
    parts = (
        _cut_diff(text, room - NOTE_ROOM, ends=len(text) >= size)
        if _is_diff(text)
        else _cut_plain(text, room - NOTE_ROOM)
    )
    missing = size - sum(map(len, parts))
    if len(parts) < 2:
        return b"", size
    return b"".join(parts) + b"[... %d more bytes of this file are left out]\n" % missing, missing


def _is_diff(text: bytes) -> bool:
    return text.startswith(START[1:])


def _cut_plain(text: bytes, room: int) -> list[bytes]:
    """The headline, and the lines below that fit."""
    head, _, body = text.partition(b"\n")
    return [part for part in (head + b"\n", _whole_lines(body, room - len(head))) if part]


def _cut_diff(text: bytes, room: int, *, ends: bool) -> list[bytes]:
    """The head and the hunks that fit; of the first that does not, or was not read to its end, its first lines."""
    head, hunks = _hunks(text)
    parts = [head]
    for position, hunk in enumerate(hunks, 1):
        room -= len(parts[-1])
        is_whole = len(hunk) <= room and (ends or position < len(hunks))
        part = hunk if is_whole else _shortened(hunk, room)
        parts += [part] if part else []
        if not is_whole:
            break
    return parts


def _hunks(text: bytes) -> tuple[bytes, list[bytes]]:
    head, *rest = text.split(HUNK)
    if not rest:
        return head, []
    return head + b"\n", [HUNK[1:] + part + b"\n" for part in rest[:-1]] + [HUNK[1:] + rest[-1]]


def _whole_lines(text: bytes, room: int) -> bytes:
    return text[: text.rfind(b"\n", 0, max(room, 0)) + 1]


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
    return b"@@ -%s,%d +%s,%d @@%s\n%s" % (match[1], old, match[2], new, match[3], lines)
