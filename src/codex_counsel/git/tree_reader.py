"""Files of a working tree, read without following a link, waiting for a writer, or leaving the tree.

Every folder on the way is opened from the one above it and must not be a link. A file
is opened only when it is a regular one, and must then be the very file that was
examined. So changing the tree meanwhile gains an attacker nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Unreadable(StrEnum):
    """Why a file of the tree is not read."""

    SYMLINK = "symlink"
    SPECIAL_FILE = "special_file"
    NESTED_REPOSITORY = "nested_repository"
    NO_ACCESS = "unreadable"


class UnreadableError(Exception):
    """A file that is not read, and why."""

    def __init__(self, reason: Unreadable) -> None:
        super().__init__(reason)
        self.reason = reason


class FileContent(NamedTuple):
    """`data` is the beginning of the file, `size` what the whole file has, in bytes."""

    data: bytes
    size: int
    executable: bool


class TreeReader:
    """A tree below `root`; names are paths from there. Use it in a `with` block: it keeps the last folder open."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._last_folder: tuple[bytes, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_last_folder()
        os.close(self._root)

    def lstat(self, name: bytes) -> os.stat_result | None:
        """The status of this very entry, not of a link's target. None if nothing is there or it cannot be reached."""
        try:
            folder, last = self._open_parent(name)
            return os.stat(last, dir_fd=folder, follow_symlinks=False)
        except (OSError, UnreadableError):
            return None

    def why_unreadable(self, name: bytes) -> Unreadable | None:
        """Why git could not read this file, or None. Git has its own ways to read links and folders."""
        try:
            folder, last = self._open_parent(name)
            mode = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode) and not os.access(last, os.R_OK, dir_fd=folder):
                return Unreadable.NO_ACCESS
        except FileNotFoundError:
            return None
        except UnreadableError as error:
            return error.reason
        except OSError:
            return Unreadable.NO_ACCESS
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
            return None
        return Unreadable.SPECIAL_FILE

    def read(self, name: bytes, limit: int) -> FileContent:
        """The first `limit` bytes of a regular file.

        Raises UnreadableError for anything else, FileNotFoundError where there is
        nothing.
        """
        try:
            folder, last = self._open_parent(name)
            status = os.stat(last, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                raise UnreadableError(Unreadable.SYMLINK)
            if stat.S_ISDIR(status.st_mode):
                raise UnreadableError(Unreadable.NESTED_REPOSITORY)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError(Unreadable.SPECIAL_FILE)
            return _read_file(folder, last, status, limit)
        except FileNotFoundError:
            raise
        except OSError:
            raise UnreadableError(Unreadable.NO_ACCESS) from None

    def _open_parent(self, name: bytes) -> tuple[int, bytes]:
        """Descriptor of the folder that the file is in, and the last part of its name."""
        path, _, last = name.rpartition(b"/")
        # Git lists a repository inside this one with a slash at its end.
        if last in (b"", b".", b".."):
            raise UnreadableError(Unreadable.NESTED_REPOSITORY)
        if not path:
            return self._root, last
        return self._open_folder(path), last

    def _open_folder(self, path: bytes) -> int:
        if self._last_folder and self._last_folder[0] == path:
            return self._last_folder[1]
        self._close_last_folder()
        folder = os.dup(self._root)
        for part in path.split(b"/"):
            parent = folder
            try:
                folder = _open_subfolder(parent, part)
            finally:
                os.close(parent)
        self._last_folder = path, folder
        return folder

    def _close_last_folder(self) -> None:
        if self._last_folder:
            with contextlib.suppress(OSError):
                os.close(self._last_folder[1])
        self._last_folder = None


def _open_subfolder(parent: int, part: bytes) -> int:
    if part in (b"", b".", b".."):
        raise UnreadableError(Unreadable.SYMLINK)
    try:
        return os.open(part, _FOLDER_FLAGS, dir_fd=parent)
    except NotADirectoryError:
        raise UnreadableError(Unreadable.SYMLINK) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnreadableError(Unreadable.SYMLINK) from None
        raise


def _read_file(
    folder: int, name: bytes, status: os.stat_result, limit: int
) -> FileContent:
    """Raises UnreadableError if the file is no longer the one that `status` is about."""
    descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    try:
        now = os.fstat(descriptor)
        if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino):
            raise UnreadableError(Unreadable.NO_ACCESS)
        length = min(limit, now.st_size)
        data = os.read(descriptor, min(limit, now.st_size + 1))
        while 0 < len(data) < length:
            more = os.read(descriptor, length - len(data))
            if not more:
                break
            data += more
        return FileContent(data, now.st_size, bool(now.st_mode & stat.S_IXUSR))
    finally:
        os.close(descriptor)
