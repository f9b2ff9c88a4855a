"""How much a run may put into its private directory: bytes on disk and entries, besides what was there when it began.

Looked at in slices, between two lines of Codex: a tree of a hundred thousand files
takes a quarter of a second. Standard library, no pathlib.
"""

from __future__ import annotations

import os
import time

from codex_counsel.system.tree_walk import Entry, TreeWalk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE = 0.04
"""Seconds that one look may take."""
FIRST_LOOK = 2.0
"""Seconds that the first look may take, while Codex starts."""
LAST_LOOK = 30.0
"""Seconds that the look after the end of the run may take."""
PAUSE = 1.0
"""Least seconds between two walks."""
SHARE = 4
"""The pause is at least this many times as long as the walk took."""
RESERVE = 500_000_000
"""Bytes that a run leaves free on its file system, where there were twice as many when it began."""
BLOCK = 512
"""Bytes in a unit of `st_blocks`, whatever the file system's own blocks are."""


class Quota:
    """Watches `root`. Call `begin` once, then `exceeded` often: it does a little at a time.

    `max_bytes` counts what files take on the disk: a sparse file by what is stored, one
    with several names once. `reason` says what was exceeded.
    """

    def __init__(self, root: str, max_bytes: int, max_entries: int) -> None:
        self.reason = ""
        self._root = root
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._first: tuple[int, int] | None = None
        self._free_at_first = self._free()
        self._grant = False

        self._walk: TreeWalk | None = None
        self._entries: Iterator[Entry] = iter(())
        self._began = 0.0
        self._next_walk = 0.0
        self._bytes = 0
        self._count = 0
        self._linked: set[tuple[int, int]] = set()

    def begin(self) -> None:
        """Measure what is there. What is not measured within `FIRST_LOOK` seconds is measured by the next looks."""
        self._look(FIRST_LOOK)

    def exceeded(self) -> bool:
        """Whether the run has put too much there, as far as is known by now. Takes about `SLICE` seconds at most."""
        return self._look(SLICE)

    def exceeded_at_end(self) -> bool:
        """The same for all that is there now."""
        self._walk = None
        self._next_walk = 0.0
        return self._look(LAST_LOOK)

    def _look(self, seconds: float) -> bool:
        if self.reason:
            return True
        # Also notices files without a name, which no walk finds.
        if 0 <= self._free() < RESERVE and self._free_at_first >= 2 * RESERVE:
            self.reason = f"The file system of the run's private directory has less than {RESERVE} bytes left"
            return True
        now = time.monotonic()
        if self._walk is None:
            if now < self._next_walk:
                return False
            self._start_walk()
        deadline = now + seconds
        for entry in self._entries:
            self._add(entry)
            if self._judge():
                return True
            if time.monotonic() > deadline:
                return False
        self._end_walk()
        return False

    def _start_walk(self) -> None:
        self._began = time.monotonic()
        self._walk = TreeWalk(
            self._root, max_path=None, grant=self._grant, one_file_system=True
        )
        self._entries = iter(self._walk)
        self._bytes = 0
        self._count = 0
        self._linked.clear()

    def _end_walk(self) -> None:
        took = time.monotonic() - self._began
        self._next_walk = time.monotonic() + max(PAUSE, SHARE * took)
        if self._first is None:
            self._first = (self._bytes, self._count)
        # A run may close a folder so that nobody sees what is in it. Opening one changes
        # what the run works on, so this is done only when something is missing.
        if self._walk and self._walk.unread:
            unaccounted = self._free_at_first - self._free() - self._bytes
            self._grant = unaccounted > self._max_bytes // 2
        self._walk = None

    def _add(self, entry: Entry) -> None:
        self._count += 1
        try:
            status = entry.stat()
        except OSError:
            return
        if status.st_nlink > 1 and not entry.is_folder:
            identity = (status.st_dev, status.st_ino)
            if identity in self._linked:
                return
            self._linked.add(identity)
        self._bytes += status.st_blocks * BLOCK

    def _judge(self) -> bool:
        if self._first is None:
            return False
        first_bytes, first_count = self._first
        if self._bytes - first_bytes > self._max_bytes:
            self.reason = f"The run's files grew by more than {self._max_bytes} bytes"
        elif self._count - first_count > self._max_entries:
            self.reason = (
                f"The run made more than {self._max_entries} files and directories"
            )
        return bool(self.reason)

    def _free(self) -> int:
        """Bytes that this user can still write there; -1 where that cannot be told."""
        try:
            status = os.statvfs(self._root)
        except OSError:
            return -1
        return status.f_bavail * status.f_frsize
