"""How many runs of this user go at once: numbered lock files, each held by a worker until it ends."""

from __future__ import annotations

import fcntl
import os


def acquire(directory: str, count: int) -> int | None:
    """An open, locked descriptor of a free slot, to be kept until the end; None while all are taken."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for number in range(count):
        descriptor = os.open(f"{directory}/{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return descriptor
    return None
