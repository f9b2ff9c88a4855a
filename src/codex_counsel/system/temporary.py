"""Temporary directories with a lock that their maker holds: others can tell those that killed processes left."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import lock_file, remove_tree

LOCK = "lock"
"""The file in a temporary directory whose lock is held as long as the directory is used."""


def temporary_root() -> Path:
    """Where temporary directories are made, as the environment says. Raises `storage_failed` where none can be."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"No temporary directory can be written: {error.strerror}",
            repair="Free disk space or set TMPDIR to a directory that can be written.",
        ) from None


@contextlib.contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    """A private directory, a resolved path, removed at the end. Raises OSError."""
    with tempfile.TemporaryDirectory(
        prefix=prefix, ignore_cleanup_errors=True
    ) as directory:
        # The file gets its name once it is locked: one that is not is that of a killed process.
        draft = Path(directory) / f".{LOCK}"
        lock = lock_file(draft)
        try:
            draft.rename(Path(directory) / LOCK)
            yield Path(directory).resolve()
        finally:
            if lock is not None:
                os.close(lock)


def remove_abandoned(prefix: str) -> None:
    """Remove the directories of this user that killed processes left under this prefix. Never raises."""
    try:
        root = temporary_root()
    except CounselError:
        return
    for directory in root.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            status = directory.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            # One without a lock is just being made, or is nothing of ours.
            lock = lock_file(directory / LOCK, create=False)
            if lock is None:
                continue
            try:
                remove_tree(directory)
            finally:
                os.close(lock)
