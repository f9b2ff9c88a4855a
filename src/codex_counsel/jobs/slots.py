"""How many runs of this user go at once: first come, first served, and who waits sleeps.

Each worker has a ticket: a FIFO `<state>/queue/<number>` of which it holds the writing
end. The kernel closes that end with the process, whatever ended it, and wakes those who
wait at the reading end. A run may begin when fewer than so many living tickets have a
smaller number.

Invariants: tickets are made and removed under the lock of `<state>/queue/lock`, and a
new number is larger than those of all living tickets. So nobody comes in before a
ticket that exists, and only its holder's process keeps a ticket alive.

The worker imports this before it starts Codex, so it imports little.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re

from codex_counsel.system.files import lock_file

LOCK_PATIENCE = 30.0
"""Seconds; a ticket is made in milliseconds, but many workers may come at once."""
NO_FIFO = (errno.ENOENT, errno.ENXIO, errno.ELOOP, errno.EACCES)
"""A ticket that a new one's worker has removed; and what is there in place of one: a socket, a link, a closed file."""


class Ticket:
    """A place in the queue in `directory`. Raises OSError where none can be made.

    It is held until `descriptor` is closed, at the latest by the end of the process.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = lock_file(f"{directory}/lock", patience=LOCK_PATIENCE)
        if lock is None:
            raise TimeoutError(errno.ETIMEDOUT, "the queue is locked", directory)
        try:
            _remove_dead_tickets(directory)
            self._number = max(_numbers(directory), default=0) + 1
            path = f"{directory}/{self._number}"
            os.mkfifo(path, 0o600)
            # A FIFO can be opened for writing only while somebody reads it.
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self.descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.close(reader)
        finally:
            os.close(lock)

    def ahead(self, count: int) -> list[int]:
        """Open the living tickets before this one, the last `count` of them: fewer mean that the run may begin.

        Each descriptor becomes readable when its worker has ended; unless one of them
        does, it will not be this ticket's turn. The caller closes them. Raises OSError.
        """
        descriptors: list[int] = []
        try:
            for number in sorted(_numbers(self._directory), reverse=True):
                if len(descriptors) == count:
                    break
                if number < self._number:
                    descriptor = _open_living(f"{self._directory}/{number}")
                    if descriptor is not None:
                        descriptors.append(descriptor)
        except OSError:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        return descriptors


def _numbers(directory: str) -> list[int]:
    """Those of all tickets, and of what else has such a name."""
    names = os.listdir(directory)
    return [int(name) for name in names if re.fullmatch("[1-9][0-9]{0,17}", name)]


def _remove_dead_tickets(directory: str) -> None:
    for number in _numbers(directory):
        path = f"{directory}/{number}"
        descriptor = _open_living(path)
        if descriptor is not None:
            os.close(descriptor)
            continue
        with contextlib.suppress(OSError):  # what is no ticket may stay
            os.unlink(path)


def _open_living(path: str) -> int | None:
    """The reading end of a ticket; None for one whose worker has ended, and for what is no ticket."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in NO_FIFO:
            return None
        raise
    try:
        os.read(descriptor, 1)
    except BlockingIOError:  # somebody holds the writing end
        return descriptor
    except IsADirectoryError:
        pass
    os.close(descriptor)
    return None
