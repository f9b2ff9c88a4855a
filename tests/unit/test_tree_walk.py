"""Trees of any shape are walked and removed: deep, closed, wide, with links, changed meanwhile."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_counsel.system import tree_walk
from codex_counsel.system.files import remove_tree
from codex_counsel.system.tree_walk import TreeWalk, make_accessible

DEEP = 3_000


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """A directory that is removed by our own means: pytest's would fail on what is made here."""
    path = tmp_path / "base"
    path.mkdir()
    yield path
    assert remove_tree(path)


def make_deep(folder: Path, depth: int, name: str = "d" * 20) -> None:
    """A chain of folders with a file `leaf` in the last one."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("leaf", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def open_descriptors() -> int:
    """Of this process. It may become less at any time: Python closes what an earlier test has left to it."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """At most 100 more files can be open than are now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_descriptors() + 100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- the walk


def test_the_walk_names_every_entry_and_follows_no_link(base: Path) -> None:
    (base / "a/b").mkdir(parents=True)
    (base / "a/b/file").write_text("x")
    (base / "top").write_text("y")
    (base / "link").symlink_to("/etc")
    (base / "a/round").symlink_to("..")
    os.mkfifo(base / "pipe")
    entries = {entry.path: _kind(entry) for entry in TreeWalk(base)}
    assert entries == {
        b"a": "folder",
        b"a/b": "folder",
        b"a/b/file": "file",
        b"a/round": "link",
        b"link": "link",
        b"pipe": "",
        b"top": "file",
    }


def _kind(entry: tree_walk.Entry) -> str:
    if entry.is_folder:
        return "folder"
    if entry.is_file:
        return "file"
    if entry.is_link:
        return "link"
    return ""


def test_the_walk_takes_names_that_are_no_text(base: Path) -> None:
    (base / os.fsdecode(b"\xff")).mkdir()
    (base / os.fsdecode(b"\xff") / "file").write_text("x")
    assert [entry.path for entry in TreeWalk(base)] == [b"\xff", b"\xff/file"]


def test_the_walk_goes_into_no_folder_that_it_is_told_to_leave(base: Path) -> None:
    for name in (".git/objects", "src"):
        (base / name).mkdir(parents=True)
    walk = TreeWalk(base, enter=lambda entry: entry.name != b".git")
    assert sorted(entry.path for entry in walk) == [b".git", b"src"]


def test_the_walk_ends_at_its_limit_and_says_so(base: Path) -> None:
    for number in range(20):
        (base / str(number)).mkdir()
    walk = TreeWalk(base, limit=10)
    assert len(list(walk)) == 10
    assert walk.truncated
    walk = TreeWalk(base, limit=20)
    assert len(list(walk)) == 20
    assert not walk.truncated


@pytest.mark.usefixtures("few_descriptors")
def test_the_walk_reaches_the_end_of_a_tree_3000_deep(base: Path) -> None:
    make_deep(base, DEEP)
    (base / "beside").mkdir()
    before = open_descriptors()
    walk = TreeWalk(base, max_path=None)
    names = [entry.name for entry in walk]
    assert len(names) == DEEP + 2
    assert {b"leaf", b"beside"} <= set(names)
    assert not walk.truncated
    assert not walk.unread
    assert open_descriptors() <= before


def test_the_walk_counts_what_has_no_path_that_can_be_used(base: Path) -> None:
    make_deep(base, 300)
    walk = TreeWalk(base)
    longest = max(len(entry.path) for entry in walk)
    assert longest <= tree_walk.MAX_PATH + 256
    assert walk.unread == 1


def test_the_walk_survives_a_closed_folder(base: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root reads it")
    (base / "closed/below").mkdir(parents=True)
    (base / "open").mkdir()
    (base / "closed").chmod(0)
    walk = TreeWalk(base)
    assert sorted(entry.path for entry in walk) == [b"closed", b"open"]
    assert walk.unread == 1


def test_the_walk_of_nothing_is_empty(tmp_path: Path) -> None:
    walk = TreeWalk(tmp_path / "missing")
    assert list(walk) == []
    assert walk.unread == 1


def test_a_folder_exchanged_for_a_link_is_not_gone_into(base: Path) -> None:
    outside = base / "outside"
    outside.mkdir()
    (outside / "private").write_text("x")
    tree = base / "tree"
    (tree / "folder").mkdir(parents=True)
    paths = []
    for entry in TreeWalk(tree):
        paths.append(entry.path)
        if entry.path == b"folder":
            # After it was listed, before it is opened.
            (tree / "folder").rmdir()
            (tree / "folder").symlink_to(outside)
    assert paths == [b"folder"]


def test_a_folder_moved_out_of_the_tree_leads_nowhere(base: Path) -> None:
    tree = base / "tree"
    tree.mkdir()
    make_deep(tree, 2 * tree_walk.MAX_OPEN, name="d")
    (base / "private").write_text("x")
    middle = "/".join("d" * (tree_walk.MAX_OPEN - 10))
    names = []
    walk = TreeWalk(tree)
    for entry in walk:
        names.append(entry.name)
        if entry.name == b"leaf":
            (tree / middle).rename(base / "elsewhere")
    assert b"private" not in names


# --- removal


@pytest.mark.usefixtures("few_descriptors")
def test_a_tree_3000_deep_is_removed(base: Path) -> None:
    make_deep(base, DEEP)
    before = open_descriptors()
    assert remove_tree(base)
    assert not base.exists()
    assert open_descriptors() <= before
    base.mkdir()


def test_closed_folders_are_removed(base: Path) -> None:
    (base / "tree/a/b").mkdir(parents=True)
    (base / "tree/a/b/file").write_text("x")
    for name in ("tree/a/b", "tree/a", "tree"):
        (base / name).chmod(0)
    assert remove_tree(base / "tree")
    assert list(base.iterdir()) == []


def test_more_entries_than_one_reading_takes_are_removed(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_walk, "BATCH", 7)
    for number in range(50):
        (base / f"tree/{number}/below").mkdir(parents=True)
        (base / f"tree/file-{number}").write_text("x")
    assert remove_tree(base / "tree")
    assert list(base.iterdir()) == []


def test_the_target_of_a_link_stays(base: Path) -> None:
    kept = base / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (kept / "file").chmod(0o400)
    (base / "tree").mkdir()
    (base / "tree/to-folder").symlink_to(kept)
    (base / "tree/to-file").symlink_to(kept / "file")
    (base / "alias").symlink_to(kept)
    make_accessible(base / "tree")
    assert remove_tree(base / "tree")
    assert remove_tree(base / "alias")
    assert [path.name for path in base.iterdir()] == ["kept"]
    assert (kept / "file").stat().st_mode & 0o777 == 0o400


def test_removing_what_is_not_there_is_a_success(base: Path) -> None:
    assert remove_tree(base / "missing")
    assert remove_tree(base / "missing/too")


def test_a_removal_gives_up_when_its_time_is_over(base: Path) -> None:
    (base / "tree/below").mkdir(parents=True)
    assert not tree_walk.remove_tree(base / "tree", seconds=0)
    assert (base / "tree").exists()


def test_what_cannot_be_removed_stays_without_an_error(base: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root removes it")
    (base / "tree").mkdir()
    base.chmod(0o500)
    try:
        assert not remove_tree(base / "tree")
    finally:
        base.chmod(0o700)


# --- access


def test_access_is_given_to_what_is_closed_however_deep(base: Path) -> None:
    (base / "a/b").mkdir(parents=True)
    (base / "a/b/file").write_text("x")
    (base / "a/b/file").chmod(0)
    (base / "a/b").chmod(0)
    (base / "a").chmod(0)
    make_accessible(base)
    assert (base / "a/b/file").read_text() == "x"
    make_deep(base, DEEP)
    make_accessible(base)
