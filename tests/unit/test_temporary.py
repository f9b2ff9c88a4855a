"""Temporary directories of killed processes are removed; those in use, and what only has such a name, stay."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from codex_counsel.errors import CounselError
from codex_counsel.system.files import lock_file
from codex_counsel.system.temporary import (
    remove_abandoned,
    temporary_directory,
    temporary_root,
)

PREFIX = "codex-counsel-test-"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_directory_in_use_stays_and_is_gone_at_the_end(temporary: Path) -> None:
    with temporary_directory(PREFIX) as directory:
        remove_abandoned(PREFIX)
        assert directory.is_dir()
    assert not list(temporary.glob(f"{PREFIX}*"))


def test_a_directory_that_is_just_being_made_stays(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    sweeps: list[int] = []

    def flock_late(descriptor: int, operation: int) -> None:
        if not sweeps:
            sweeps.append(descriptor)
            remove_abandoned(PREFIX)
        real(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", flock_late)
    with temporary_directory(PREFIX) as directory:
        assert sweeps
        assert directory.is_dir()
        remove_abandoned(PREFIX)
        assert directory.is_dir()


def test_a_directory_whose_maker_was_killed_is_removed(temporary: Path) -> None:
    left = temporary / f"{PREFIX}left"
    left.mkdir()
    descriptor = lock_file(left / "lock")
    assert descriptor is not None
    remove_abandoned(PREFIX)
    assert left.is_dir()
    os.close(descriptor)
    remove_abandoned("another-")
    assert left.is_dir()
    remove_abandoned(PREFIX)
    assert not left.exists()


def test_what_only_has_such_a_name_stays(temporary: Path) -> None:
    outside = temporary / "outside"
    outside.mkdir()
    (outside / "lock").write_text("")
    (temporary / f"{PREFIX}link").symlink_to(outside)
    (temporary / f"{PREFIX}file").write_text("")
    (temporary / f"{PREFIX}without-a-lock").mkdir()
    remove_abandoned(PREFIX)
    assert len(list(temporary.glob(f"{PREFIX}*"))) == 3
    assert (outside / "lock").exists()


def test_a_full_disk_without_room_for_a_temporary_directory_is_a_failure_of_storage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gettempdir() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    with pytest.raises(CounselError, match="No usable temporary directory") as caught:
        temporary_root()
    assert caught.value.code == "storage_failed"
    remove_abandoned(PREFIX)
