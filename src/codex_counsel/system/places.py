"""In which directories runs write, so that none is exchanged under another run that writes.

Codex opens a directory by its path, again for each command, and follows a link that lies
there by then. So a run that writes in a directory could put one in the place of a folder
where another run writes, and that run would write wherever the link leads.

A run that writes takes the lock of its own directory for itself alone, and shares that of
every directory above it in which its user may write.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_held: dict[str, int] = {}
"""Descriptors of directories. Their locks are held until this process ends."""


def claim(root: str) -> bool:
    """Hold the right to write in `root`, a real path, until this process ends.

    Returns False where another run writes in it, around it or below it; also where `root`
    is a real path no longer.
    """
    free = _hold(root, fcntl.LOCK_EX)
    folder, name = os.path.split(root)
    while free and name:
        # In others no run of this user writes, and another user may hold their locks.
        if os.access(folder, os.W_OK):
            free = _hold(folder, fcntl.LOCK_SH)
        folder, name = os.path.split(folder)
    # It was looked at before the run was queued.
    return free and os.path.realpath(root) == root


@contextlib.contextmanager
def alone(root: str) -> Iterator[bool]:
    """Whether no other run writes in `root`; none begins to while the block lasts. Raises OSError where it is gone."""
    if root in _held:
        yield True
        return
    descriptor = _opened(root)
    try:
        yield _lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _hold(folder: str, kind: int) -> bool:
    """Returns False where another process keeps the lock. No run writes in what cannot be opened."""
    try:
        _held[folder] = _opened(folder)
    except OSError:
        return True
    return _lock(_held[folder], kind)


def _opened(folder: str) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
