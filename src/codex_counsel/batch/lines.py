"""A file of JSON objects, one a line, to which lines are added for good.

Whoever adds lines holds the lock of the batch. Lines that are added together are one write.
What a killed process left of its last line is cut off before anything is added.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import (
    end_of_last_line,
    open_private,
    remove_drafts,
    write_atomically,
)
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line, visible


def line_of(row: JsonObject) -> bytes:
    """The line of an object. It is ASCII: some readers take other characters for the end of a line too."""
    return json.dumps(row).encode() + b"\n"


class Lines:
    """The lines of one file. `end` is the offset in bytes behind the last whole line."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises OSError."""
        self.path = path
        self._descriptor = _open(path)
        self.end = end_of_last_line(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, rows: Iterable[JsonObject]) -> None:
        """Add the lines of these objects; they are on the disk when this returns.

        Raises OSError; then no line was added.
        """
        data = b"".join(line_of(row) for row in rows)
        if not data:
            return
        # What an earlier write left behind the last whole line would end in the middle
        # of these.
        os.ftruncate(self._descriptor, self.end)
        try:
            _write(self._descriptor, data, self.end)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.end)
            raise
        self.end += len(data)

    def rows(self) -> Iterator[JsonObject]:
        """The objects, in order. Raises as `rows_of`."""
        with self.path.open("rb") as file:
            yield from rows_of(file, self.path)

    def replace(self, rows: Iterable[JsonObject]) -> None:
        """Put other lines in the place of all. Raises OSError; then the file is as it was."""
        remove_drafts(self.path)
        write_atomically(self.path, map(line_of, rows), durable=True)
        self.close()
        self._descriptor = _open(self.path)
        self.end = os.fstat(self._descriptor).st_size


def rows_of(file: BinaryIO, path: Path) -> Iterator[JsonObject]:
    """The objects of the whole lines, in order. Raises OSError, and `storage_failed` for a line that is none."""
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        yield _parsed(line, number, path)


def _parsed(line: bytes, number: int, path: Path) -> JsonObject:
    try:
        row: Json = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise CounselError(
            Code.STORAGE_FAILED,
            f"{one_line(visible(str(path)), 300)} is damaged: line {number} is no JSON object",
            repair="Mend the line, or remove it: then the run that it is about is looked for among the jobs.",
        )
    return row


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    return open_private(str(path), flags)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]
        offset += written
