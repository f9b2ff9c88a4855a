"""How many runs of this user go at once: numbered lock files, each held by a worker until it ends."""

from __future__ import annotations

import os

from codex_counsel.system.files import lock_file


def acquire(directory: str, count: int) -> int | None:
    """Take a free slot; None while all are taken. Raises OSError where no lock file can be made.

    Returns the descriptor that holds the slot until it is closed, at the latest by the
    end of the process.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    for number in range(count):
        descriptor = lock_file(f"{directory}/{number}")
        if descriptor is not None:
            return descriptor
    return None
