"""In which directories runs are at work: what another run keeps, and what it cannot keep."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codex_counsel.compat.in_place import set_up
from codex_counsel.errors import CounselError
from codex_counsel.system import places


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    held: dict[str, int] = {}
    monkeypatch.setattr(places, "_held", held)
    yield
    for descriptor in held.values():
        os.close(descriptor)


@contextmanager
def locked(folder: Path, kind: int) -> Iterator[None]:
    """As another run has it: a lock belongs to an opened file, not to a process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    inner = tmp_path / "outer/inner"
    inner.mkdir(parents=True)
    return inner


@pytest.mark.parametrize("above", [".", ".."])
def test_a_run_does_not_begin_to_write_where_or_below_where_another_one_does(
    inner: Path, above: str
) -> None:
    with locked(inner / above, fcntl.LOCK_EX):
        assert not places.claim(str(inner))


def test_two_runs_write_beside_each_other_in_one_directory(inner: Path) -> None:
    with locked(inner.parent, fcntl.LOCK_SH):
        assert places.claim(str(inner))


def test_a_run_does_not_begin_to_write_around_another_one(inner: Path) -> None:
    with locked(inner, fcntl.LOCK_SH):
        assert not places.claim(str(inner))


def test_locks_of_directories_in_which_this_user_cannot_write_do_not_count(
    inner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def access(path: str, _mode: int) -> bool:
        return path != str(inner.parent)

    with locked(inner.parent, fcntl.LOCK_EX):
        monkeypatch.setattr(os, "access", access)
        assert places.claim(str(inner))


def test_a_directory_that_became_a_link_is_not_claimed(inner: Path) -> None:
    link = inner.parent / "link"
    link.symlink_to(inner)
    assert not places.claim(str(link))


@pytest.mark.parametrize("kind", ["closed", "pinned"])
def test_a_turn_does_not_begin_where_what_is_closed_became_a_link(
    inner: Path, kind: str
) -> None:
    (inner / ".claude").symlink_to(inner.parent)
    place = {"workspace": str(inner), "closed": [], "pinned": []}
    details = {"in_place": {**place, kind: [str(inner / ".claude")]}}
    with pytest.raises(CounselError, match="became a link"):
        set_up(details, str(inner / "scratch"), str(inner))
    assert not (inner / "scratch").exists()
