"""Files of lines that only grow, written under a lock that the caller holds."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from codex_counsel.system.files import open_private


def append_lines(file: Path, data: bytes) -> None:
    """Add whole lines at the end, or leave the file as it was and raise OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = open_private(str(file), flags)
    try:
        check_own(descriptor, file)
        size = os.fstat(descriptor).st_size
        # A kill may have left a part of a line, which must not swallow the next.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        try:
            written = os.write(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        if written < len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
    finally:
        os.close(descriptor)


def check_own(descriptor: int, file: Path) -> None:
    """Raise OSError for what is no regular file of this user's."""
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file: remove it", str(file))
    if info.st_uid != os.geteuid():
        problem = f"it belongs to the user with the id {info.st_uid}"
        raise OSError(errno.EPERM, problem, str(file))
