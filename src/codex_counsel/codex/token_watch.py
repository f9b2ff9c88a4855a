"""The tokens of a run while it goes on, read from what Codex appends to its record of the thread.

Seen on 0.148 to 0.169: a line `token_count` when the commands of a response have ended,
with the total of the thread, and from 0.163 on also a line `token_usage_record` before
they begin, with the tokens of the response. Both are flushed at once; a compaction counts
like any other response.
"""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from codex_counsel.codex import rollout
from codex_counsel.codex.events import Tokens
from codex_counsel.system.files import open_regular

BLOCK = 1 << 20
"""Bytes that are read at once."""
MAX_BLOCKS = 16
"""Blocks that one look reads: what a command printed is in the record too."""
MAX_COUNT_LINE = 1 << 16
"""Bytes; a line with counts is much shorter."""
MARKERS = (b'"token_count"', b'"token_usage_record"')
"""Found among the first 200 bytes of a line with counts. Within a text of the record the quotes are escaped."""
SEARCH_PAUSE = 1.0
"""Seconds between two searches for the record of a thread that has none yet."""
_TIMESTAMP = re.compile(rb'"timestamp":\s*"([^"]{20,40})"')


class TokenWatch:
    """Counts the tokens of one run, input and output, over all its turns. `session_id` is the thread it continues.

    What the record of that thread holds by now is not of this run, but for what came after
    Codex `began` (epoch seconds).
    """

    def __init__(
        self,
        codex_home: Path,
        session_id: str | None = None,
        began: float | None = None,
    ) -> None:
        self._home = codex_home
        self._tally = rollout.Tally()
        self._file: Path | None = None
        self._offset = 0
        self._unfinished = b""
        self._next_search = 0.0
        if session_id:
            self._file = rollout.find(codex_home, session_id)
        if self._file:
            self._tally.total, self._offset = _last_total(self._file, began)

    @property
    def used(self) -> int:
        """The tokens up to the last look."""
        return self._tally.tokens.size

    def look(self, thread_id: str | None) -> int:
        """Read what was appended since the last look, and return `used`.

        Never raises: a damaged line does not count.
        """
        file = self._file or self._find(thread_id)
        if file:
            try:
                with open_regular(file) as record:
                    self._read_on(record)
            except OSError:
                pass  # the next look tries again
        return self.used

    def _find(self, thread_id: str | None) -> Path | None:
        # A search walks through folders of thousands of records.
        now = time.monotonic()
        if not thread_id or now < self._next_search:
            return None
        self._next_search = now + SEARCH_PAUSE
        self._file = rollout.find(self._home, thread_id)
        return self._file

    def _read_on(self, record: BinaryIO) -> None:
        record.seek(self._offset)
        for _ in range(MAX_BLOCKS):
            block = record.read(BLOCK)
            if not block:
                return
            self._offset += len(block)
            *lines, self._unfinished = (self._unfinished + block).split(b"\n")
            for line in lines:
                self._add(line)
            # What is cut here no longer begins with a marker, so its rest does not
            # count either.
            if len(self._unfinished) > MAX_COUNT_LINE:
                self._unfinished = b"-"

    def _add(self, line: bytes) -> None:
        total, response = _counts(line)
        if total:
            self._tally.add_total(total)
        if response:
            self._tally.add_response(response)


def _last_total(file: Path, began: float | None = None) -> tuple[Tokens, int]:
    """The thread's tokens by the last line with a total, read from the end, and where the last whole line ends.

    Lines from the moment `began` on are left out.
    """
    try:
        with open_regular(file) as record:
            return _search_back(record, began or float("inf"))
    except OSError:
        return rollout.NO_TOKENS, 0


def _search_back(record: BinaryIO, began: float) -> tuple[Tokens, int]:
    start = record.seek(0, 2)
    end_of_lines = 0
    now = time.time()
    tail = b""
    while start > 0:
        size = min(BLOCK, start)
        start -= size
        record.seek(start)
        lines = (record.read(size) + tail).split(b"\n")
        if not end_of_lines and len(lines) > 1:
            end_of_lines = start + sum(map(len, lines[:-1])) + len(lines) - 1
        # The first line may begin in an earlier block. Of a long one the beginning is
        # all that counts.
        tail = lines[0][:MAX_COUNT_LINE]
        place = start + sum(map(len, lines)) + len(lines)
        for line in reversed(lines[1:] if start else lines):
            place -= len(line) + 1
            # One of the future was written before the clock was set back.
            if began <= _moment(line) <= now:
                end_of_lines = place
                continue
            total, _ = _counts(line)
            if total:
                return total, end_of_lines
    return rollout.NO_TOKENS, end_of_lines


def _moment(line: bytes) -> float:
    """When the line was written (epoch seconds); 0 where it does not tell."""
    match = _TIMESTAMP.search(line[:100])
    if not match:
        return 0.0
    try:
        return datetime.fromisoformat(match[1].decode("ascii", "replace")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _counts(line: bytes) -> tuple[Tokens | None, Tokens | None]:
    """The tokens of the thread up to this line, and those of one response, where the line tells them."""
    if not any(marker in line[:200] for marker in MARKERS):
        return None, None
    try:
        row = json.loads(line)
        payload = row["payload"]
        if row["type"] == "token_usage_record":
            return None, Tokens.parse(payload["usage"])
        if payload["type"] == "token_count":
            return Tokens.parse(payload["info"]["total_token_usage"]), None
    except rollout.DAMAGED:
        pass
    return None, None
