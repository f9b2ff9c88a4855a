"""The directory of a batch itself: which one may be taken, who has it, and what is left of one that came to nothing."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    check_private,
    lock_file,
    make_private,
    write_atomically,
)
from codex_counsel.system.text import one_line, visible

BATCH = "batch.json"
REQUESTS = "requests.jsonl"
RESULTS = "results.jsonl"
PLACES = "places.jsonl"
LOCK = "lock"
REPOSITORIES = "repositories"
"""In this folder are clones of repositories that requests name by a URL."""
IGNORE = ".gitignore"


def take_new(directory: Path) -> int:
    """Take a directory for a new batch; returns the descriptor that holds its lock.

    It is made where there is none. Raises `invalid_arguments` for one that has something in
    it, `session_busy` while another process has it, and `storage_failed`.
    """
    try:
        make_private(directory.absolute())
        _check_is_free(directory)
        lock = _locked(directory)
    except UnsafeDirectoryError as error:
        raise _unsafe(error) from None
    except OSError as error:
        raise not_made(directory, error) from None
    try:
        # Until the lock was held, another process could begin a batch.
        _check_is_free(directory)
        write_atomically(directory / IGNORE, "*\n")
    except OSError as error:
        clear(directory)
        os.close(lock)
        raise not_made(directory, error) from None
    except CounselError:
        os.close(lock)
        raise
    return lock


def take_begun(directory: Path) -> int:
    """Take the directory of a batch that was begun; returns the descriptor that holds its lock.

    Raises as `take_new`, but `invalid_arguments` where there is no such batch.
    """
    try:
        is_begun = (directory / BATCH).is_file()
    except OSError as error:
        raise not_read(directory, error) from None
    if not is_begun:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"--resume: {shown(directory)} is not the directory of a batch, or the batch in it was never begun",
            repair="Name the directory that the batch named when it began, or begin it anew.",
        )
    try:
        check_private(directory, follow_symlinks=True)
        return _locked(directory)
    except UnsafeDirectoryError as error:
        raise _unsafe(error) from None
    except OSError as error:
        raise failed(directory, error) from None


def clear(directory: Path) -> None:
    """Remove what a batch has made of which nothing was started. Clones of repositories stay."""
    with contextlib.suppress(OSError):
        # Without the first one it is no batch, whatever is left of the others.
        for name in (BATCH, REQUESTS, RESULTS, PLACES, IGNORE, LOCK):
            (directory / name).unlink(missing_ok=True)
        _remove_without_clones(directory / REPOSITORIES)
        directory.rmdir()


def sync(directory: Path) -> None:
    """Have the names of its files on the disk too. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shown(path: Path) -> str:
    """The path for a message: on one line."""
    return one_line(visible(str(path)), 300)


def not_made(directory: Path, error: OSError) -> CounselError:
    """For a batch that could not be begun."""
    failure = error_of(
        Code.STORAGE_FAILED,
        f"{shown(directory)} cannot be made the directory of a batch",
        error,
    )
    failure.repair = (
        "Name another directory with --output-dir, or mend what the message names."
    )
    return failure


def not_read(directory: Path, error: OSError) -> CounselError:
    """For a directory of which nobody can tell here whether there is a batch in it."""
    failure = error_of(
        Code.STORAGE_FAILED, f"{shown(directory)} cannot be looked into", error
    )
    failure.repair = (
        "Resume the batch as the user who began it, or mend what the message names."
    )
    return failure


def failed(path: Path, error: Exception) -> CounselError:
    """For a file of a batch that cannot be read or written."""
    if not isinstance(error, OSError):
        return CounselError(Code.STORAGE_FAILED, f"{shown(path)} is damaged: {error}")
    failure = error_of(
        Code.STORAGE_FAILED, f"The batch in {shown(path)} cannot be stored", error
    )
    failure.repair = (
        "Free disk space, or mend what the message names, then resume the batch: "
        "nothing that ended is lost."
    )
    return failure


def _remove_without_clones(repositories: Path) -> None:
    """Remove the folder of clones where there is none in it. Raises OSError."""
    if not repositories.is_dir():
        return
    paths = list(repositories.iterdir())
    if all(path.is_file() for path in paths):
        # The locks under which they were to be made.
        for path in paths:
            path.unlink()
        repositories.rmdir()


def _check_is_free(directory: Path) -> None:
    """Raise unless the directory is empty, or that of a batch that was not begun. Raises OSError."""
    names = {entry.name for entry in directory.iterdir()}
    if BATCH in names:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"{shown(directory)} has a batch already",
            repair=f"Go on with it: --resume {shown(directory)}. Or name another directory.",
        )
    if LOCK not in names and names - {IGNORE, REPOSITORIES}:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"{shown(directory)} is not empty",
            repair="Name a directory that does not exist yet.",
        )


def _locked(directory: Path) -> int:
    """The descriptor that holds the lock. Raises OSError, and `session_busy`."""
    lock = lock_file(directory / LOCK)
    if lock is None:
        raise CounselError(
            Code.SESSION_BUSY,
            f"Another process works on the batch in {shown(directory)}",
            repair="Wait until it has ended, or end it; then resume the batch.",
        )
    return lock


def _unsafe(error: UnsafeDirectoryError) -> CounselError:
    return CounselError(
        Code.STORAGE_FAILED,
        f"The directory of a batch must be safe from other users: {error}",
        repair="Mend what the message names, or name another directory.",
    )
