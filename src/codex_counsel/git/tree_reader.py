"""Files of a working tree, read without ever following a link, waiting for a writer, or leaving the tree.

Every folder on the way is opened from the one above it and must not be a link; a file is opened only when it is a
regular one, and is compared with what was looked at. Changing the tree meanwhile gains an attacker nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Self

from codex_counsel.review.changes.model import Reason

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Withheld(Exception):  # noqa: N818  # an answer more than a failure
    """A file that is not read, and why."""

    def __init__(self, reason: Reason, size: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.size = reason, size


class Found(NamedTuple):
    data: bytes
    size: int
    executable: bool


class TreeReader:
    """A tree below `root`. Use it in a `with` block; it keeps the folder it read last open."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[bytes, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self._root)

    def look(self, name: bytes) -> os.stat_result | None:
        """What stands at this name, itself and not where it leads; None if nothing does."""
        try:
            above, last = self._above(name)
            return os.stat(last, dir_fd=above, follow_symlinks=False)
        except (OSError, Withheld):
            return None

    def obstacle(self, name: bytes) -> Reason | None:
        """Why nobody could read this file, if so. Links and folders can be read in their own ways."""
        try:
            above, last = self._above(name)
            kind = os.stat(last, dir_fd=above, follow_symlinks=False).st_mode
            if stat.S_ISLNK(kind) or stat.S_ISDIR(kind):
                return None
            if not stat.S_ISREG(kind):
                return Reason.SPECIAL_FILE
            return None if os.access(last, os.R_OK, dir_fd=above) else Reason.UNREADABLE
        except FileNotFoundError:
            return None
        except Withheld as held:
            return held.reason
        except OSError:
            return Reason.UNREADABLE

    def read(self, name: bytes, limit: int) -> Found:
        """The first `limit` bytes of a regular file; anything else raises `Withheld`. Absent is `FileNotFoundError`."""
        try:
            above, last = self._above(name)
            seen = os.stat(last, dir_fd=above, follow_symlinks=False)
            _check(seen)
            return _read(above, last, seen, limit)
        except FileNotFoundError:
            raise
        except OSError:
            raise Withheld(Reason.UNREADABLE) from None

    def _above(self, name: bytes) -> tuple[int, bytes]:
        above, _, last = name.rpartition(b"/")
        if not last or last in (b".", b".."):
            raise Withheld(Reason.NESTED_REPOSITORY)
        return (self._root if not above else self._folder(above)), last

    def _folder(self, path: bytes) -> int:
        if self._last and self._last[0] == path:
            return self._last[1]
        self._forget()
        current = os.dup(self._root)
        for part in path.split(b"/"):
            above = current
            try:
                current = _open_folder(above, part)
            finally:
                os.close(above)
        self._last = path, current
        return current

    def _forget(self) -> None:
        if self._last:
            with contextlib.suppress(OSError):
                os.close(self._last[1])
        self._last = None


def _open_folder(above: int, part: bytes) -> int:
    if part in (b"", b".", b".."):
        raise Withheld(Reason.SYMLINK)
    try:
        return os.open(part, _FOLDER, dir_fd=above)
    except NotADirectoryError:
        raise Withheld(Reason.SYMLINK) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Withheld(Reason.SYMLINK) from None
        raise


def _check(seen: os.stat_result) -> None:
    if stat.S_ISLNK(seen.st_mode):
        raise Withheld(Reason.SYMLINK)
    if stat.S_ISDIR(seen.st_mode):
        raise Withheld(Reason.NESTED_REPOSITORY)
    if not stat.S_ISREG(seen.st_mode):
        raise Withheld(Reason.SPECIAL_FILE)


def _read(above: int, name: bytes, seen: os.stat_result, limit: int) -> Found:
    descriptor = os.open(name, _FILE, dir_fd=above)
    try:
        opened = os.fstat(descriptor)
        if (opened.st_dev, opened.st_ino) != (seen.st_dev, seen.st_ino):
            raise Withheld(Reason.UNREADABLE)
        data = os.read(descriptor, min(limit, opened.st_size + 1))
        while 0 < len(data) < min(limit, opened.st_size):
            more = os.read(descriptor, min(limit, opened.st_size) - len(data))
            if not more:
                break
            data += more
        return Found(data, opened.st_size, bool(opened.st_mode & stat.S_IXUSR))
    finally:
        os.close(descriptor)
