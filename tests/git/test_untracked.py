"""The untracked zoo: what can be read is shown, what cannot is listed, nothing is waited for or followed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.process import GitProcess
from codex_counsel.git.tree_reader import TreeReader, Unreadable, UnreadableError
from codex_counsel.review.changes.model import Omitted, Reason, Scope

if TYPE_CHECKING:
    from tests.git.conftest import Ground


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a file that must never be read."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "app.py").write_text("outside the repository\n", encoding="utf-8")
    (folder / "readme.md").write_text("outside the repository\n", encoding="utf-8")
    return folder


def test_links_are_listed_and_not_followed(ground: Ground, outside: Path) -> None:
    (ground.root / "file").symlink_to(outside / "app.py")
    (ground.root / "folder").symlink_to(outside)
    (ground.root / "loop").symlink_to("loop")
    ground.write("new.py")
    for scope in (Scope(), Scope("files")):
        changes = ground.gather(scope)
        assert changes.omitted == tuple(Omitted(name, Reason.SYMLINK, 0) for name in ("file", "folder", "loop"))
        assert changes.complete
        assert b"outside" not in changes.diff


def test_tracked_folder_that_became_a_link_is_not_followed(ground: Ground, outside: Path) -> None:
    (ground.root / "docs/readme.md").unlink()
    (ground.root / "docs").rmdir()
    (ground.root / "docs").symlink_to(outside)
    for scope in (Scope(), Scope("files")):
        assert b"+outside" not in ground.gather(scope).diff


def test_path_behind_a_link_is_refused(ground: Ground, outside: Path) -> None:
    (ground.root / "folder").symlink_to(outside)
    ground.write("new.py")
    for scope in (Scope(paths=("folder/app.py",)), Scope("files", paths=("folder/app.py",))):
        with pytest.raises(CounselError) as caught:
            ground.gather(scope)
        assert caught.value.code in (Code.INVALID_ARGUMENTS, Code.NOTHING_TO_REVIEW)


def test_pipes_sockets_and_devices_are_not_waited_for(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(ground.root / "pipe")
    monkeypatch.chdir(ground.root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        changes = ground.gather(Scope("files", paths=("pipe", "socket", "app.py")))
    assert changes.omitted == (Omitted("pipe", Reason.SPECIAL_FILE, 0), Omitted("socket", Reason.SPECIAL_FILE, 0))


def test_tracked_file_that_became_a_pipe_does_not_stop_the_others(ground: Ground) -> None:
    (ground.root / "app.py").unlink()
    os.mkfifo(ground.root / "app.py")
    ground.write("docs/readme.md", "changed\n")
    changes = ground.gather()
    assert changes.omitted == (Omitted("app.py", Reason.SPECIAL_FILE, 0),)
    assert b"+changed\n" in changes.diff


def test_nested_repositories_are_listed(ground: Ground) -> None:
    for name in ("empty", "full"):
        inner = type(ground)(ground.root / name)
        inner.root.mkdir()
        inner.git("init", "--quiet")
    inner.write("secret.py")
    inner.commit()
    ground.write("new.py")
    changes = ground.gather()
    assert changes.omitted == tuple(Omitted(name, Reason.NESTED_REPOSITORY, 0) for name in ("empty", "full"))


def test_binary_file_is_listed_with_its_size(ground: Ground) -> None:
    ground.write("a.bin", b"ab\0cd")
    ground.write("new.py")
    changes = ground.gather()
    assert changes.omitted == (Omitted("a.bin", Reason.BINARY, 5),)
    assert [entry.binary for entry in changes.entries] == [True, False]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_listed(ground: Ground) -> None:
    for name in ("app.py", "new.py"):
        ground.write(name, "secret\n").chmod(0)
    ground.write("docs/readme.md", "changed\n")
    changes = ground.gather()
    assert changes.omitted == (Omitted("app.py", Reason.UNREADABLE, 0), Omitted("new.py", Reason.UNREADABLE, 0))
    assert not changes.complete


def test_file_that_access_denies_is_listed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.write("app.py", "changed\n")
    ground.write("docs/readme.md", "changed\n")
    real = os.access
    monkeypatch.setattr(os, "access", lambda name, *rest, **more: name != b"app.py" and real(name, *rest, **more))
    changes = ground.gather()
    assert changes.omitted == (Omitted("app.py", Reason.UNREADABLE, 0),)
    assert [entry.path for entry in changes.entries] == ["app.py", "docs/readme.md"]
    assert not changes.complete


def test_big_file_is_read_no_further_than_the_budget(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ground.write("big.log", "a line of text\n" * 1000)
    os.truncate(path, 10_000_000_000)
    asked: list[int] = []
    real = os.read

    def counted(descriptor: int, count: int) -> bytes:
        asked.append(count)
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", counted)
    found = TreeReader(ground.root)
    with found:
        assert found.read(b"big.log", 5000).size == 10_000_000_000
    assert max(asked) == 5000


def test_number_of_processes_does_not_grow_with_the_files(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    real = GitProcess.__init__

    def counted(self: GitProcess, *args: object, **more: object) -> None:
        started.append(args)
        real(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(GitProcess, "__init__", counted)
    counts = []
    for number in (1, 300):
        for index in range(number):
            ground.write(f"new/{index}.py", f"{index}\n")
        started.clear()
        ground.gather()
        counts.append(len(started))
    assert counts[0] == counts[1]


def test_file_swapped_for_another_while_it_is_opened_is_not_read(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.write("new.py", "looked at\n")
    ground.write("other.py", "not looked at\n")
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda name, **more: real(b"other.py" if name == b"new.py" else name, **more))
    with TreeReader(ground.root) as reader, pytest.raises(UnreadableError) as caught:
        reader.read(b"new.py", 100)
    assert caught.value.reason is Unreadable.NO_ACCESS


@pytest.mark.parametrize("name", [b"../outside/app.py", b"/etc/passwd", b"docs/../../outside/app.py", b".", b"..", b""])
def test_name_that_leads_out_is_not_read(ground: Ground, outside: Path, name: bytes) -> None:
    with TreeReader(ground.root) as reader, pytest.raises((UnreadableError, FileNotFoundError)):
        reader.read(name, 100)
    with TreeReader(ground.root) as reader:
        assert reader.lstat(name) is None


def test_no_descriptor_is_left_open(ground: Ground) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for index in range(20):
        ground.write(f"d{index}/deep/new.py")
    (ground.root / "link").symlink_to("docs")
    ground.gather()
    assert len(list(Path("/dev/fd").iterdir())) == before
