"""Directories reached by descriptors: one part of the path at a time, and never through a link.

What is done by a descriptor happens in the directory that was opened, whatever its path
leads to by then. Paths are bytes. Standard library, no pathlib.
"""

from __future__ import annotations

import errno
import os
import stat

# A directory that may be entered but not listed can be opened with O_PATH, where there
# is one.
DIRECTORY_FLAGS = (
    getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
)
# Without O_NONBLOCK, opening a FIFO in place of a file would wait for a writer.
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LIST_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def open_resolved(path: bytes) -> int:
    """Open a directory by its absolute path, in which no part may be a link.

    Raises FileNotFoundError, NotADirectoryError for a link or a file on the way, and
    OSError.
    """
    root = os.open(b"/", DIRECTORY_FLAGS)
    try:
        return open_below(root, path.strip(b"/"))
    finally:
        os.close(root)


def open_file(path: str | os.PathLike[str]) -> int:
    """Open a file for reading by its absolute path, in which no part may be a link. Raises as `open_resolved`.

    What was exchanged for a link after the path was resolved is not followed.
    """
    folder, name = os.path.split(os.fsencode(path))
    directory = open_resolved(folder)
    try:
        return os.open(name, FILE_FLAGS, dir_fd=directory)
    finally:
        os.close(directory)


def read_file(path: str | os.PathLike[str], limit: int) -> bytes | None:
    """At most `limit` bytes of a regular file, opened as by `open_file`. None for what is no regular file."""
    descriptor = open_file(path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        return file.read(limit)


def open_below(directory: int, path: bytes) -> int:
    """Open the directory at a path below an open one; raises as `open_subdirectory`.

    An empty path is the directory itself.
    """
    current = os.dup(directory)
    for part in path.split(b"/"):
        if not part:
            continue
        parent = current
        try:
            current = open_subdirectory(parent, part)
        finally:
            os.close(parent)
    return current


def open_subdirectory(directory: int, name: bytes) -> int:
    """Open a directory in an open one.

    Raises FileNotFoundError where there is nothing, NotADirectoryError for a link, a
    file, or a name that is no name (`..`, `.`, empty, or with a slash), and OSError.
    """
    if name in (b"", b".", b"..") or b"/" in name:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
    except OSError as error:
        # The kernels do not agree on the number for a link.
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), name
            ) from None
        raise


def entries(directory: int) -> list[tuple[bytes, bool]]:
    """Name of each entry of an open directory, and whether it is a directory itself; a link is not. Raises OSError."""
    readable = os.open(b".", LIST_FLAGS, dir_fd=directory)
    try:
        with os.scandir(readable) as listing:
            return [
                (os.fsencode(entry.name), entry.is_dir(follow_symlinks=False))
                for entry in listing
            ]
    finally:
        os.close(readable)


def exists(directory: int, name: bytes) -> bool:
    """Whether an open directory has an entry of this name, of whatever kind."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return True
