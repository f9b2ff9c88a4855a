"""Renames that lose nothing: two names exchanged in one step, or a name taken only where it is free; and who writes.

Names are bytes, in an open directory.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal

from codex_counsel.system.directory_descriptors import exists

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
NOT_SUPPORTED = frozenset((errno.ENOSYS, errno.EINVAL, errno.ENOTSUP))
"""What a kernel or a file system says that has no such rename."""
NO_LINKS = frozenset((*NOT_SUPPORTED, errno.EPERM))
"""The same of hard links; none can be made of a folder either."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def exchange(folder: int, one: bytes, other: bytes) -> bool:
    """Exchange what two names of a directory lead to, in one step. False where the system cannot, and nothing is done.

    Raises OSError, FileNotFoundError where one of them does not exist.
    """
    return _rename(folder, one, other, RENAME_EXCHANGE)


def rename_new(folder: int, source: bytes, target: bytes) -> None:
    """Rename within a directory. Raises FileExistsError where the target exists, and OSError."""
    if _rename(folder, source, target, RENAME_NOREPLACE):
        return
    try:
        os.link(
            source, target, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False
        )
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # All that is left: a file that appears in between is replaced.
        if exists(folder, target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.rename(source, target, src_dir_fd=folder, dst_dir_fd=folder)
        return
    os.unlink(source, dir_fd=folder)


def _rename(folder: int, source: bytes, target: bytes, flags: int) -> bool:
    function = getattr(_LIBC, "renameat2", None)
    if function is None:
        return False
    if function(folder, source, folder, target, flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_SUPPORTED:
        return False
    raise OSError(number, os.strerror(number), os.fsdecode(target))


def has_writers(descriptor: int) -> bool:
    """Whether any process has this regular file open for writing. False where the system does not tell.

    The descriptor must be open for reading only. Some network file systems say that
    every file has writers.
    """
    set_lease = getattr(fcntl, "F_SETLEASE", None)
    if set_lease is None:
        return False
    try:
        # The kernel grants a lease for reading only where nobody can write. Its signal
        # to a holder in the way of a new writer would end this process by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, set_lease, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, set_lease, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
