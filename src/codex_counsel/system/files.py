"""Files of our own: one atomic writer, one careful reader, one way to take a lock. Standard library, no pathlib.

The worker imports this before it starts Codex, so it imports little.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from codex_counsel.system.json_values import Json

REMOVE_SECONDS = 60.0
"""Time in which a tree is removed; what is left then stays."""
CHANGE_PATIENCE = 5.0
"""Seconds that one who reads and replaces a small file waits for another who does."""
RETRY_SECONDS = 0.02
"""Pause between two attempts at a lock."""
CHUNK = 1 << 20
"""Bytes that are looked at in one step."""


def open_private(path: str, flags: int) -> int:
    """Open for us alone (mode 0600), closed on exec. An `opener` for `open`."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def write_atomically(
    path: str | os.PathLike[str],
    data: str | bytes | Iterable[bytes],
    *,
    durable: bool = False,
) -> None:
    """Replace a file in one step, mode 0600. A reader sees the old content or the new one, never a part.

    `durable` waits until the bytes are on disk. Raises OSError, and leaves neither a
    draft nor a changed file then.
    """
    folder, name = os.path.split(os.fspath(path))
    draft = os.path.join(folder, f".{name}-{os.getpid()}-{threading.get_ident()}")
    try:
        with open(draft, "wb", opener=open_private) as file:
            file.writelines(_chunks(data))
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise


def remove_drafts(path: str | os.PathLike[str]) -> None:
    """Remove the drafts of this file that killed writers left. The caller holds the lock under which it is written."""
    folder, name = os.path.split(os.fspath(path))
    with contextlib.suppress(OSError):
        for entry in os.listdir(folder):
            if entry.startswith(f".{name}-"):
                os.unlink(os.path.join(folder, entry))


def _chunks(data: str | bytes | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(data, str):
        return [data.encode("utf-8", "replace")]
    if isinstance(data, bytes):
        return [data]
    return data


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, or one that a link leads to.

    Raises OSError, also for a FIFO or a device, neither of which is waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: str | os.PathLike[str], limit: int) -> bytes | None:
    """At most `limit` bytes of a regular file, or None where there is none that can be read.

    A link is not followed, and a FIFO or device is not waited for.
    """
    try:
        descriptor = os.open(
            path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return None
    # `open` refuses the descriptor of a directory and would leave it open.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        try:
            return file.read(limit)
        except OSError:
            return None


def end_of_last_line(descriptor: int) -> int:
    """The offset in bytes behind the last line end of a file; 0 where there is none."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(end - CHUNK, 0)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_json(path: str | os.PathLike[str]) -> Json:
    """The parsed file. Raises FileNotFoundError; OSError or ValueError for what cannot be read or is no JSON."""
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


def read_json_or_none(path: str | os.PathLike[str]) -> Json:
    """As `read_json`, but None where the file is missing, unreadable or no JSON."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


class UnsafeDirectoryError(Exception):
    """Another user may write to a directory of ours. The message names the directory, what is wrong and the remedy."""


def make_private(path: str | os.PathLike[str]) -> None:
    """Make a directory for us alone (mode 0700), with its parents. Raises OSError, or as `check_private`."""
    folder = os.path.dirname(os.fspath(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        # `makedirs` would make this one too with the mode that the umask leaves.
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    else:
        os.chmod(path, 0o700)
    check_private(path)


def check_private(
    path: str | os.PathLike[str], *, follow_symlinks: bool = False
) -> None:
    """Raise UnsafeDirectoryError for what is no directory of this user's that only he may write.

    A link is refused unless `follow_symlinks`. Nothing is raised where there is
    nothing. Raises OSError where the directory cannot be looked at.
    """
    try:
        info = os.stat(path, follow_symlinks=follow_symlinks)
    except FileNotFoundError:
        return
    name = os.fspath(path)
    if not stat.S_ISDIR(info.st_mode):
        raise UnsafeDirectoryError(f"{name} is a link or no directory: remove it")
    if info.st_uid != os.geteuid():
        raise UnsafeDirectoryError(
            f"{name} belongs to the user with the id {info.st_uid}, who could change what is in it:"
            f" make it belong to the user with the id {os.geteuid()}, or name another directory"
        )
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeDirectoryError(
            f"{name} can be written by other users: chmod go-w {name}"
        )


class LockError(OSError):
    """A file was opened but the lock failed: nobody knows whether another process holds it."""


def lock_file(
    path: str | os.PathLike[str],
    *,
    shared: bool = False,
    create: bool = True,
    patience: float = 0.0,
) -> int | None:
    """Open a file and lock it. Returns the descriptor, which holds the lock until it is closed.

    None when another process still holds the lock after `patience` seconds. Raises
    OSError when the file cannot be opened, LockError when it cannot be locked. A shared
    lock needs only read access and never creates the file.
    """
    flags = os.O_RDONLY if shared else os.O_RDWR
    flags |= os.O_NONBLOCK  # a FIFO is not waited for
    if create and not shared:
        flags |= os.O_CREAT
    descriptor = open_private(os.fspath(path), flags)
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(RETRY_SECONDS)
        except OSError as error:
            os.close(descriptor)
            raise LockError(error.errno, error.strerror) from None
        else:
            if shared or not create or is_at(descriptor, path):
                return descriptor
            # Whoever held the lock removed the file, and another one may be there now.
            os.close(descriptor)
            descriptor = open_private(os.fspath(path), flags)


@contextlib.contextmanager
def changing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let no other process that does the same read or replace this file meanwhile. Raises OSError.

    A process that was stopped meanwhile is not waited for any longer than `CHANGE_PATIENCE` seconds.
    """
    lock = lock_file(f"{os.fspath(path)}.lock", patience=CHANGE_PATIENCE)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def is_at(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Whether the open file is the one that is at the path now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def remove_tree(path: str | os.PathLike[str], seconds: float = REMOVE_SECONDS) -> bool:
    """Remove what is at `path` with all below it, whatever a run made of it. Never raises.

    Returns whether it is gone; `tree_walk.remove_tree` says what stays.
    """
    # Nothing is removed before Codex starts, and Codex would wait for the import.
    from codex_counsel.system import tree_walk

    return tree_walk.remove_tree(path, seconds)
