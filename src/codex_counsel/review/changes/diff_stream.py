r"""`git diff` as a stream: the changed files first, then the text of each, never more of it held than asked for.

A line of content always begins with a space, `+`, `-` or `\`, so the marks searched for stand only where git put them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMAND = (
    "diff",
    "--no-color",
    "--no-color-moved",
    "--no-relative",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--inter-hunk-context=0",
    "--no-function-context",
    "--diff-algorithm=default",
    "--indent-heuristic",
    "--ws-error-highlight=none",
    "--find-renames=50%",
    "-l400",
    "--submodule=short",
    "--ignore-submodules=dirty",
    "-O/dev/null",
    "--no-abbrev",
    "--diff-filter=u",
    "-z",
)
"""Every option a configuration could bend; `diff.autoRefreshIndex` is off, for it writes the index, so files that were
touched but not changed are listed without any text. Submodules are not looked into: git would run their own filters.
Unmerged files are left out (`u`), for git names them in the patch without quotes; they are listed separately."""

LIST_ONLY = (*COMMAND, "--raw")
LIST_AND_TEXT = (*COMMAND, "--raw", "--patch")
TEXT_OF_ALL = (*COMMAND, "--raw", "--patch", "--text")
"""Also of files that an attribute calls binary."""

START = b"\ndiff --git "
HUNK = b"\n@@ "
CONTEXT = 3
HEADER_ROOM = 64 * 1024


class Change(NamedTuple):
    """One record of git's raw format."""

    modes: tuple[str, str]
    sides: tuple[str, str]
    status: str
    old: bytes
    new: bytes


@dataclass
class Text:
    """The diff of one file: its beginning, and figures of the whole."""

    room: int
    kept: bytearray = field(default_factory=bytearray)
    size: int = 0
    _plus: int = 0
    _minus: int = 0
    _at_line_start: bool = False

    def feed(self, piece: bytes) -> None:
        self._plus += piece.count(b"\n+") + (self._at_line_start and piece.startswith(b"+"))
        self._minus += piece.count(b"\n-") + (self._at_line_start and piece.startswith(b"-"))
        self._at_line_start = piece.endswith(b"\n") if piece else self._at_line_start
        self.size += len(piece)
        if len(self.kept) < self.room:
            self.kept += piece[: self.room - len(self.kept)]

    def append(self, other: Text) -> None:
        """A file that became a link, or the reverse, is printed as two diffs."""
        self.kept += other.kept
        self.size += other.size
        self._plus, self._minus = self._plus + other.added, self._minus + other.deleted

    @property
    def first_line(self) -> bytes:
        return bytes(self.kept[: self.kept.find(b"\n")])

    @property
    def head(self) -> bytes:
        end = self.kept.find(HUNK)
        return bytes(self.kept if end < 0 else self.kept[: end + 1])

    @property
    def added(self) -> int:
        return self._plus - (b"\n+++ " in self.head)

    @property
    def deleted(self) -> int:
        return self._minus - (b"\n--- " in self.head)

    @property
    def is_binary(self) -> bool:
        return b"\nBinary files " in self.kept


class DiffStream:
    """Read `changes` first, then iterate `texts()`."""

    def __init__(self, chunks: Iterable[bytes], room: int = 0) -> None:
        self._chunks = iter(chunks)
        self._room = room + HEADER_ROOM
        self._rest = b""
        self.changes = self._read_changes()

    def texts(self) -> Iterator[tuple[Change, Text]]:
        """The files in the order of `changes`; those without any text are passed over."""
        waiting = iter(self.changes)
        current: tuple[Change, Text] | None = None
        for text in self._sections():
            if current and text.first_line == header(current[0].old, current[0].new):
                current[1].append(text)
                continue
            if current:
                yield current
            current = _change_of(text, waiting), text
        if current:
            yield current

    def _read_changes(self) -> list[Change]:
        held = bytearray()
        end = -1
        for chunk in self._chunks:
            start = max(len(held) - 1, 0)
            held += chunk
            end = held.find(b"\0\0", start)
            if end >= 0:
                self._rest = bytes(held[end + 2 :])
                break
        return list(_changes(bytes(held if end < 0 else held[:end])))

    def _sections(self) -> Iterator[Text]:
        text = Text(self._room)
        for piece, ends in _pieces(itertools.chain([self._rest], self._chunks)):
            text.feed(piece)
            if ends and text.size:
                yield text
                text = Text(self._room)


def hunk(old: bytes, new: bytes) -> bytes:
    """All that differs between two texts, in one hunk with its context; empty if nothing does."""
    a, b = _lines(old), _lines(new)
    shorter = min(len(a), len(b))
    before = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    after = next((i for i in range(shorter - before) if a[-1 - i] != b[-1 - i]), shorter - before)
    if before == len(a) == len(b):
        return b""
    first, left = max(before - CONTEXT, 0), max(after - CONTEXT, 0)
    spans = [(first + (len(lines) > first + left), len(lines) - left - first) for lines in (a, b)]
    rows = [b" " + line for line in a[first:before]]
    rows += [b"-" + line for line in a[before : len(a) - after]]
    rows += [b"+" + line for line in b[before : len(b) - after]]
    rows += [b" " + line for line in a[len(a) - after : len(a) - left]]
    ended = (row if row.endswith(b"\n") else row + b"\n\\ No newline at end of file\n" for row in rows)
    return b"@@ -%d,%d +%d,%d @@\n" % (*spans[0], *spans[1]) + b"".join(ended)


def _lines(text: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _changes(records: bytes) -> Iterator[Change]:
    fields = iter(records.rstrip(b"\0").split(b"\0") if records else ())
    for about in fields:
        old_mode, new_mode, old_sha, new_sha, status = about.decode().lstrip(":").split(" ")
        old = next(fields)
        new = next(fields) if status[0] in "RC" else old
        yield Change((old_mode, new_mode), (old_sha, new_sha), status[0], old, new)


def _change_of(text: Text, waiting: Iterator[Change]) -> Change:
    for change in waiting:
        if header(change.old, change.new) == text.first_line:
            return change
    raise CounselError(Code.INTERNAL, f"git printed a diff of an unlisted file: {text.first_line[:200]!r}")


def _pieces(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The stream in pieces, each with whether a section ends there. A mark may lie across two chunks."""
    carry = b""
    for chunk in chunks:
        data = carry + chunk
        start = 0
        while (at := data.find(START, start)) >= 0:
            yield data[start : at + 1], True
            start = at + 1
        safe = max(start, len(data) - len(START) + 1)
        yield data[start:safe], False
        carry = data[safe:]
    yield carry, True
