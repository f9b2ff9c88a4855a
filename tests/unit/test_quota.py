"""What a run may put into its private directory: what counts, what does not, and that looking is cheap."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_counsel.jobs import quota
from codex_counsel.jobs.quota import Quota

MEGABYTE = 1_000_000


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look begins a walk whenever there is none, and ends it, however slow the disk is."""
    monkeypatch.setattr(quota, "PAUSE", 0.0)
    monkeypatch.setattr(quota, "SHARE", 0.0)
    for name in ("FIRST_LOOK", "SLICE", "LAST_LOOK"):
        monkeypatch.setattr(quota, name, 100.0)


def begun(root: Path, max_bytes: int = MEGABYTE, max_entries: int = 100) -> Quota:
    watched = Quota(str(root), max_bytes, max_entries)
    watched.begin()
    return watched


def test_what_was_there_before_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "seed").write_bytes(os.urandom(3 * MEGABYTE))
    for number in range(200):
        (tmp_path / f"seed-{number}").touch()
    watched = begun(tmp_path)
    assert not watched.exceeded()
    (tmp_path / "more").write_bytes(os.urandom(MEGABYTE // 2))
    assert not watched.exceeded()
    (tmp_path / "most").write_bytes(os.urandom(MEGABYTE))
    assert watched.exceeded()
    assert watched.reason == "The run's files grew by more than 1000000 bytes"


def test_entries_count_however_deep_and_small(tmp_path: Path) -> None:
    watched = begun(tmp_path, max_bytes=10**12, max_entries=20)
    (tmp_path / "/".join("d" * 19)).mkdir(parents=True)
    assert not watched.exceeded()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "d/file").touch()
    assert watched.exceeded()
    assert watched.reason == "The run made more than 20 files and directories"


def test_what_was_removed_in_time_does_not_count(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    for _ in range(5):
        (tmp_path / "file").write_bytes(os.urandom(MEGABYTE * 3 // 4))
        assert not watched.exceeded()
        (tmp_path / "file").unlink()


def test_a_file_counts_by_what_it_takes_on_the_disk(tmp_path: Path) -> None:
    watched = begun(tmp_path)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**12)
    assert not watched.exceeded()
    (tmp_path / "stored").write_bytes(os.urandom(MEGABYTE * 3 // 4))
    for number in range(5):
        os.link(tmp_path / "stored", tmp_path / f"name-{number}")
    assert not watched.exceeded()


def test_a_link_leads_to_nothing_that_counts(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(os.urandom(3 * MEGABYTE))
    root = tmp_path / "root"
    root.mkdir()
    watched = begun(root)
    (root / "link").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path)
    assert not watched.exceeded()


def test_a_large_tree_is_looked_at_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = begun(tmp_path, max_bytes=10**12)
    monkeypatch.setattr(quota, "SLICE", 0.0)
    for number in range(150):
        (tmp_path / str(number)).touch()
    looks = 1
    while not watched.exceeded():
        looks += 1
    assert looks >= 100


def test_a_start_that_took_too_long_to_measure_is_no_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "FIRST_LOOK", 0.0)
    (tmp_path / "seed").write_bytes(os.urandom(2 * MEGABYTE))
    for number in range(300):
        (tmp_path / f"seed-{number}").touch()
    watched = begun(tmp_path)
    for _ in range(5):
        assert not watched.exceeded()
    (tmp_path / "more").write_bytes(os.urandom(2 * MEGABYTE))
    assert watched.exceeded()


def test_what_comes_just_before_the_end_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "PAUSE", 60.0)
    watched = begun(tmp_path)
    (tmp_path / "file").write_bytes(os.urandom(2 * MEGABYTE))
    assert not watched.exceeded()
    assert watched.exceeded_at_end()


def test_a_directory_that_is_gone_is_no_growth(tmp_path: Path) -> None:
    watched = begun(tmp_path / "missing")
    assert not watched.exceeded()
    assert not watched.exceeded_at_end()


def test_a_disk_that_becomes_full_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: Iterator[int] = iter([2 * quota.RESERVE, 2 * quota.RESERVE, 1])

    class Disk:
        f_frsize = 1

        @property
        def f_bavail(self) -> int:
            return next(free)

    monkeypatch.setattr(os, "statvfs", lambda _path: Disk())
    watched = begun(tmp_path)
    assert watched.exceeded()
    assert "less than 500000000 bytes left" in watched.reason


def test_a_disk_that_was_full_before_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "RESERVE", 10**18)
    watched = begun(tmp_path)
    assert not watched.exceeded()


def test_what_a_closed_folder_hides_is_opened_when_the_disk_misses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() == 0:
        pytest.skip("root sees into it")
    watched = begun(tmp_path)
    free = watched._free()
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "file").write_bytes(os.urandom(2 * MEGABYTE))
    hidden.chmod(0)
    monkeypatch.setattr(Quota, "_free", lambda _: free - 2 * MEGABYTE)
    assert not watched.exceeded()
    assert watched.exceeded()
