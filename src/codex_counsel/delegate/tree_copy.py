"""Copy files from one tree into another without following a link in either, also one that appears meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Self

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO in place of a file would wait for a writer.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
COPY_CHUNK = 1 << 20


class TreeCopy:
    """Copies by names relative to both roots. Use it in a `with` block: it keeps folders open."""

    def __init__(self, source: Path, target: Path) -> None:
        self._source = _Folders(source)
        self._target = _Folders(target, create=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()
        self._target.close()

    def copy(self, name: bytes) -> None:
        """Copy a regular file, or a link as a link; anything else, such as a pipe, is passed over.

        Raises FileNotFoundError or NotADirectoryError where nothing is there, which is
        so behind a link too; OSError for what cannot be read or written.
        """
        folder, last = self._source.parent(name)
        status = os.stat(last, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            link_target = os.readlink(last, dir_fd=folder)
            new_folder, new_last = self._target.parent(name)
            os.symlink(link_target, new_last, dir_fd=new_folder)
        elif stat.S_ISREG(status.st_mode):
            self._copy_file(folder, last, name)

    def _copy_file(self, folder: int, last: bytes, name: bytes) -> None:
        reader = os.open(last, READ_FLAGS, dir_fd=folder)
        try:
            status = os.fstat(reader)
            if not stat.S_ISREG(status.st_mode):
                return
            mode = 0o644
            if status.st_mode & stat.S_IXUSR:
                mode = 0o755
            new_folder, new_last = self._target.parent(name)
            writer = os.open(new_last, CREATE_FLAGS, mode, dir_fd=new_folder)
            try:
                _copy_bytes(reader, writer, status.st_size)
            except OSError:
                # Half a file would look like the user's.
                with contextlib.suppress(OSError):
                    os.unlink(new_last, dir_fd=new_folder)
                raise
            finally:
                os.close(writer)
        finally:
            os.close(reader)


def _copy_bytes(reader: int, writer: int, size: int) -> None:
    """Copy at most `size` bytes: a file that grows has no end."""
    left = size
    while left > 0 and (data := os.read(reader, min(COPY_CHUNK, left))):
        left -= len(data)
        rest = memoryview(data)
        while rest:
            written = os.write(writer, rest)
            rest = rest[written:]


class _Folders:
    """The folders of a tree; the one that was asked for last stays open. `create` makes those that are missing."""

    def __init__(self, root: Path, *, create: bool = False) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._create = create
        self._last: tuple[bytes, int] | None = None

    def close(self) -> None:
        self._close_last()
        os.close(self._root)

    def parent(self, name: bytes) -> tuple[int, bytes]:
        """The descriptor of the folder that a file lies in, valid until the next call, and the file's own name."""
        path, _, last = name.rpartition(b"/")
        if not path:
            return self._root, last
        if self._last is None or self._last[0] != path:
            self._close_last()
            self._last = path, self._open(path)
        return self._last[1], last

    def _open(self, path: bytes) -> int:
        folder = os.dup(self._root)
        for part in path.split(b"/"):
            above = folder
            try:
                folder = self._open_below(above, part)
            finally:
                os.close(above)
        return folder

    def _open_below(self, above: int, name: bytes) -> int:
        """Raises NotADirectoryError for a link, and for a name that leads out of the tree."""
        if name in (b"", b".", b".."):
            raise NotADirectoryError(errno.ENOTDIR, "no name of a folder")
        if self._create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=above)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, "a link") from None
            raise

    def _close_last(self) -> None:
        if self._last:
            os.close(self._last[1])
        self._last = None
