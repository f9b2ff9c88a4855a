"""Files of lines of JSON that only grow, written under a lock that the caller holds.

A write is not in one piece: the kernel (Linux 6.18, ext4) ends that of a killed process
at the end of a page, so that a part of a line is left. Nobody was told that it is there.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

from codex_counsel.system.files import end_of_last_line, open_private


def append_lines(file: Path, data: bytes) -> None:
    """Add whole lines at the end, or leave the file as it was and raise OSError.

    What a killed writer left of a line is cut off.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = open_private(str(file), flags)
    try:
        check_own(descriptor, file)
        size = os.fstat(descriptor).st_size
        end = end_of_last_line(descriptor)
        rest = os.pread(descriptor, size - end, end)
        if is_whole(rest):
            # As some editors leave the last line.
            data = b"\n" + data
        elif rest:
            os.ftruncate(descriptor, end)
            size = end
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


def is_whole(line: bytes) -> bool:
    """Whether it is JSON, to which only the line end may be missing."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def check_own(descriptor: int, file: Path) -> None:
    """Raise OSError for what is no regular file of this user's."""
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file: remove it", str(file))
    if info.st_uid != os.geteuid():
        problem = f"it belongs to the user with the id {info.st_uid}"
        raise OSError(errno.EPERM, problem, str(file))
