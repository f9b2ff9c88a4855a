r"""`git diff` as a stream: the list of changed files first, then the text of each. Holds at most `room` bytes per file.

A line of content always begins with a space, `+`, `-` or `\`, so the marks searched for
occur only where git put them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import diff_header

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
"""Every option that a configuration could change. `diff.autoRefreshIndex` is off because it writes the index, so files
that were touched but not changed are listed without any text. Submodules are not examined: git would run their own
filters. Unmerged files are excluded (`u`), because git names them in the patch without quotes; they are listed
separately."""

LIST_ONLY = (*COMMAND, "--raw")
LIST_AND_TEXT = (*COMMAND, "--raw", "--patch")
TEXT_OF_ALL = (*COMMAND, "--raw", "--patch", "--text")
"""Also of files that an attribute calls binary."""

START = b"\ndiff --git "
HUNK = b"\n@@ "
CONTEXT = 3
HEADER_ROOM = 64 * 1024


class Change(NamedTuple):
    """One record of git's raw format. Modes and object ids are (old, new)."""

    modes: tuple[str, str]
    object_ids: tuple[str, str]
    status: str
    old: bytes
    new: bytes


@dataclass
class FileDiff:
    """The diff of one file: its first `room` bytes in `beginning`, and figures of the whole."""

    room: int
    beginning: bytearray = field(default_factory=bytearray)
    size: int = 0
    _plus: int = 0
    _minus: int = 0
    _at_line_start: bool = False

    def feed(self, piece: bytes) -> None:
        """Add the next piece of the text."""
        if not piece:
            return
        self._plus += piece.count(b"\n+")
        self._minus += piece.count(b"\n-")
        if self._at_line_start:
            self._plus += piece.startswith(b"+")
            self._minus += piece.startswith(b"-")
        self._at_line_start = piece.endswith(b"\n")
        self.size += len(piece)
        if len(self.beginning) < self.room:
            self.beginning += piece[: self.room - len(self.beginning)]

    def append(self, other: FileDiff) -> None:
        """Add the second diff of the file. Git prints two for one that became a link, or the reverse."""
        self.beginning += other.beginning
        self.size += other.size
        self._plus += other.added
        self._minus += other.deleted

    @property
    def first_line(self) -> bytes:
        """The header that names the file, see `diff_header`."""
        return bytes(self.beginning[: self.beginning.find(b"\n")])

    @property
    def head(self) -> bytes:
        """All before the first hunk."""
        end = self.beginning.find(HUNK)
        if end < 0:
            return bytes(self.beginning)
        return bytes(self.beginning[: end + 1])

    @property
    def added(self) -> int:
        """Added lines; the header's own `+++` does not count."""
        return self._plus - (b"\n+++ " in self.head)

    @property
    def deleted(self) -> int:
        """Deleted lines; the header's own `---` does not count."""
        return self._minus - (b"\n--- " in self.head)

    @property
    def is_binary(self) -> bool:
        """Whether git printed only that the files differ."""
        return b"\nBinary files " in self.beginning


class DiffStream:
    """Read `changes` first, then iterate `texts()`."""

    def __init__(self, chunks: Iterable[bytes], room: int = 0) -> None:
        self._chunks = iter(chunks)
        self._room = room + HEADER_ROOM
        self._rest = b""
        self.changes = self._read_changes()

    def texts(self) -> Iterator[tuple[Change, FileDiff]]:
        """The files in the order of `changes`; those without any text are passed over."""
        remaining = iter(self.changes)
        current: tuple[Change, FileDiff] | None = None
        for text in self._sections():
            if current is None:
                current = _next_change(text, remaining), text
                continue
            change, earlier = current
            if text.first_line == diff_header(change.old, change.new):
                earlier.append(text)
                continue
            yield current
            current = _next_change(text, remaining), text
        if current:
            yield current

    def _read_changes(self) -> list[Change]:
        """The raw records, which end with two NULs. What was read beyond them is kept in `_rest`."""
        buffer = bytearray()
        for chunk in self._chunks:
            start = max(len(buffer) - 1, 0)
            buffer += chunk
            end = buffer.find(b"\0\0", start)
            if end >= 0:
                self._rest = bytes(buffer[end + 2 :])
                del buffer[end:]
                break
        return _parse_changes(bytes(buffer))

    def _sections(self) -> Iterator[FileDiff]:
        text = FileDiff(self._room)
        for piece, ends in _pieces(itertools.chain([self._rest], self._chunks)):
            text.feed(piece)
            if ends and text.size:
                yield text
                text = FileDiff(self._room)


def _parse_changes(records: bytes) -> list[Change]:
    changes: list[Change] = []
    if not records:
        return changes
    fields = iter(records.rstrip(b"\0").split(b"\0"))
    for record in fields:
        old_mode, new_mode, old_id, new_id, status = (
            record.decode().lstrip(":").split(" ")
        )
        old = new = next(fields)
        if status[0] in "RC":
            new = next(fields)
        changes.append(
            Change((old_mode, new_mode), (old_id, new_id), status[0], old, new)
        )
    return changes


def _next_change(text: FileDiff, changes: Iterator[Change]) -> Change:
    """The change that the text belongs to. Those before it have no text."""
    for change in changes:
        if diff_header(change.old, change.new) == text.first_line:
            return change
    raise CounselError(
        Code.INTERNAL,
        f"git printed a diff of an unlisted file: {text.first_line[:200]!r}",
    )


def _pieces(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """The stream in pieces, each with whether a section ends there. A mark may lie across two chunks."""
    carry = b""
    for chunk in chunks:
        data = carry + chunk
        start = 0
        while (position := data.find(START, start)) >= 0:
            yield data[start : position + 1], True
            start = position + 1
        safe = max(start, len(data) - len(START) + 1)
        yield data[start:safe], False
        carry = data[safe:]
    yield carry, True


def hunk(old: bytes, new: bytes) -> bytes:
    """All that differs between two texts, in one hunk with its context; empty if nothing does."""
    old_lines, new_lines = _lines(old), _lines(new)
    shorter = min(len(old_lines), len(new_lines))
    before = 0
    while before < shorter and old_lines[before] == new_lines[before]:
        before += 1
    if before == len(old_lines) == len(new_lines):
        return b""
    after = 0
    while after < shorter - before and old_lines[-1 - after] == new_lines[-1 - after]:
        after += 1

    first = max(before - CONTEXT, 0)
    cut_off = max(after - CONTEXT, 0)
    rows = [b" " + line for line in old_lines[first:before]]
    rows += [b"-" + line for line in old_lines[before : len(old_lines) - after]]
    rows += [b"+" + line for line in new_lines[before : len(new_lines) - after]]
    rows += [
        b" " + line
        for line in old_lines[len(old_lines) - after : len(old_lines) - cut_off]
    ]

    ranges: list[int] = []
    for lines in (old_lines, new_lines):
        count = len(lines) - cut_off - first
        # Of an empty range git names the line before it.
        ranges += [first + (count > 0), count]
    parts = [b"@@ -%d,%d +%d,%d @@\n" % tuple(ranges)]
    for row in rows:
        parts.append(row)
        if not row.endswith(b"\n"):
            parts.append(b"\n\\ No newline at end of file\n")
    return b"".join(parts)


def _lines(text: bytes) -> list[bytes]:
    """The lines with their ends. Only a line feed ends a line, unlike in `splitlines`."""
    *complete, last = text.split(b"\n")
    lines = [line + b"\n" for line in complete]
    if last:
        lines.append(last)
    return lines
