"""A folder that is exchanged for a link between the check and the write leads no write, read or removal outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.delegate import live_writer, tree_writer
from codex_counsel.delegate.live_writer import Drafts, LiveWriter
from codex_counsel.delegate.tree_writer import (
    FileState,
    FileStates,
    WorkTree,
    read_file,
    write_file,
)
from codex_counsel.errors import Code, CounselError
from tests.git.delegate.states import state

OLD = FileState(b"old\n", "100644")
NEW = FileState(b"new\n", "100644")
ROUNDS = 1500
LONGEST = 60.0
"""Seconds in which the exchanges and the writes must have met: a busy machine may run one of them for long alone."""
EXCHANGES = """
import ctypes, os, sys
folder, link = map(os.fsencode, sys.argv[1:])
rename = ctypes.CDLL(None).renameat2
print("ready", flush=True)
while rename(-100, folder, -100, link, 2) == 0:
    pass
"""
"""Exchanges the folder and the link in one step (AT_FDCWD, RENAME_EXCHANGE), again and again, until it is killed."""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[WorkTree]:
    """A tree with a folder, and a folder outside that looks the same."""
    for folder in (tmp_path / "tree/docs/deep", tmp_path / "outside/deep"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(OLD.data)
        (folder.parent / "file").write_bytes(OLD.data)
    with WorkTree(tmp_path / "tree") as tree:
        yield tree


def outside(tree: WorkTree) -> Path:
    return tree.root.parent / "outside"


def exchange(tree: WorkTree) -> None:
    (tree.root / "docs").rename(tree.root / "aside")
    (tree.root / "docs").symlink_to(outside(tree))


def after_the(call: int, tree: WorkTree, function: Callable[..., Any]) -> Any:
    """The function; its call of this number is followed by the exchange."""
    calls = []

    def exchanging(*arguments: Any, **more: Any) -> Any:
        result = function(*arguments, **more)
        calls.append(arguments)
        if len(calls) == call:
            exchange(tree)
        return result

    return exchanging


def patch_seam(
    monkeypatch: pytest.MonkeyPatch, tree: WorkTree, seam: str, call: int
) -> None:
    module = live_writer if hasattr(live_writer, seam) else tree_writer
    monkeypatch.setattr(module, seam, after_the(call, tree, getattr(module, seam)))


def replace_files(
    tree: WorkTree, before: FileStates, after: FileStates, kept: Path
) -> None:
    LiveWriter(tree, Drafts("token", before), kept).replace_files(before, after)


def changes(tree: WorkTree, kept: Path, name: bytes, after: FileState | None) -> str:
    """The code of the refusal to change one file, or `done`."""
    before = {name: read_file(tree, name)}
    try:
        replace_files(tree, before, {name: after}, kept)
    except CounselError as error:
        return error.code
    return "done"


@pytest.mark.parametrize(
    ("seam", "call"),
    [
        ("read_file", 1),
        ("_open_folder_of", 3),
        ("permissions_for", 1),
        ("write_draft", 1),
        ("rename_new", 1),
        ("_write_draft", 1),
    ],
)
@pytest.mark.parametrize("name", [b"docs/file", b"docs/new", b"docs/deep/file"])
def test_an_exchange_before_the_write_sends_nothing_outside(
    tree: WorkTree,
    monkeypatch: pytest.MonkeyPatch,
    seam: str,
    call: int,
    name: bytes,
) -> None:
    was_outside = state(outside(tree))
    patch_seam(monkeypatch, tree, seam, call)
    kept = tree.root.parent / "kept"
    refusal = changes(tree, kept, name, NEW)
    assert refusal in {Code.STORAGE_FAILED, Code.APPLY_CONFLICT}
    assert (tree.root / "docs").is_symlink()
    assert state(outside(tree)) == was_outside


@pytest.mark.parametrize(("seam", "call"), [("read_file", 1), ("_open_folder_of", 3)])
@pytest.mark.parametrize("name", [b"docs/file", b"docs/deep/file"])
def test_an_exchange_before_the_removal_removes_nothing_outside(
    tree: WorkTree,
    monkeypatch: pytest.MonkeyPatch,
    seam: str,
    call: int,
    name: bytes,
) -> None:
    was_outside = state(outside(tree))
    patch_seam(monkeypatch, tree, seam, call)
    changes(tree, tree.root.parent / "kept", name, None)
    assert (tree.root / "docs").is_symlink()
    assert state(outside(tree)) == was_outside


def test_an_exchange_before_putting_back_sends_nothing_outside(
    tree: WorkTree, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = {name: read_file(tree, name) for name in (b"docs/file", b"docs/deep/file")}
    was_outside = state(outside(tree))
    writes = []
    real = LiveWriter.replace

    def failing(writer: LiveWriter, name: bytes, *states: FileState | None) -> None:
        writes.append(name)
        if len(writes) == 2:
            exchange(tree)
            raise OSError(28, "No space left on device")
        real(writer, name, *states)

    monkeypatch.setattr(LiveWriter, "replace", failing)
    with pytest.raises(CounselError) as error:
        replace_files(tree, before, dict.fromkeys(before, NEW), tmp_path / "kept")
    assert "could not be put back" in error.value.message
    assert state(outside(tree)) == was_outside


def test_a_root_that_is_reached_through_a_link_is_not_opened(tree: WorkTree) -> None:
    link = tree.root.parent / "link"
    link.symlink_to(tree.root)
    with pytest.raises(NotADirectoryError):
        WorkTree(link)
    with pytest.raises(NotADirectoryError):
        WorkTree(link / "docs")


def test_the_tree_stays_the_one_that_was_opened(tree: WorkTree) -> None:
    root = tree.root
    root.rename(root.parent / "moved")
    root.symlink_to(outside(tree))
    was_outside = state(outside(tree))
    write_file(tree, b"file", NEW)
    assert state(outside(tree)) == was_outside
    assert (root.parent / "moved/file").read_bytes() == NEW.data


@pytest.mark.skipif(sys.platform != "linux", reason="exchanges by renameat2")
def test_whatever_the_moment_of_the_exchange_nothing_goes_outside(
    tree: WorkTree,
) -> None:
    (outside(tree) / "secret").write_bytes(b"secret\n")
    was_outside = state(outside(tree))
    link = tree.root / "link"
    link.symlink_to(outside(tree))
    outcomes: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-ISc", EXCHANGES, str(tree.root / "docs"), str(link)],
        stdout=subprocess.PIPE,
    ) as exchanging:
        try:
            assert exchanging.stdout
            assert exchanging.stdout.readline() == b"ready\n"
            end = time.monotonic() + LONGEST
            for number in count():
                met = {"done", Code.APPLY_CONFLICT} <= set(outcomes)
                if number >= ROUNDS and (met or time.monotonic() > end):
                    break
                for attempt in attempts(tree, number):
                    try:
                        outcome = attempt()
                    except CounselError as error:
                        outcome = error.code
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
            assert exchanging.poll() is None
        finally:
            exchanging.kill()
    assert state(outside(tree)) == was_outside
    assert "secret" not in outcomes
    # Otherwise the two never met.
    assert {"done", Code.APPLY_CONFLICT} <= set(outcomes)


def attempts(tree: WorkTree, number: int) -> list[Callable[[], str]]:
    name = b"docs/deep/new" if number % 2 else b"docs/new"

    def write() -> str:
        write_file(tree, name, NEW)
        return "done"

    def read() -> str:
        found = read_file(tree, b"docs/secret")
        return "nothing" if found is None else "secret"

    def remove() -> str:
        write_file(tree, b"docs/file" if number % 3 else b"docs/secret", None)
        return "done"

    return [write, read, remove]


def test_a_pipe_in_place_of_a_file_is_not_waited_for(
    tree: WorkTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tree_writer._read_regular_file

    def meanwhile(folder: int, last: bytes) -> FileState | None:
        os.unlink(last, dir_fd=folder)
        os.mkfifo(last, dir_fd=folder)
        return real(folder, last)

    monkeypatch.setattr(tree_writer, "_read_regular_file", meanwhile)
    with pytest.raises(CounselError) as error:
        read_file(tree, b"docs/file")
    assert error.value.code == Code.APPLY_CONFLICT
