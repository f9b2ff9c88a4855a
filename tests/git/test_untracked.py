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
    from tests.git.conftest import Project


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a file that must never be read."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "app.py").write_text("outside the repository\n", encoding="utf-8")
    (folder / "readme.md").write_text("outside the repository\n", encoding="utf-8")
    return folder


def test_links_are_listed_and_not_followed(project: Project, outside: Path) -> None:
    (project.root / "file").symlink_to(outside / "app.py")
    (project.root / "folder").symlink_to(outside)
    (project.root / "loop").symlink_to("loop")
    project.write("new.py")
    for scope in (Scope(), Scope("files")):
        changes = project.gather(scope)
        assert changes.omitted == tuple(
            Omitted(name, Reason.SYMLINK, 0) for name in ("file", "folder", "loop")
        )
        assert changes.complete
        assert b"outside" not in changes.diff


@pytest.mark.parametrize("ignored", ["", ".env\n"])
def test_what_a_link_with_a_secret_name_leads_to_is_not_sent(
    project: Project, ignored: str
) -> None:
    project.write(".gitignore", ignored)
    project.write("pkg/known", "as it was committed\n")
    project.commit()
    project.write("pkg/known", "hunter2\n")
    project.write("pkg/plain", "hunter2\n")
    project.write("new.py")
    (project.root / ".env").symlink_to("pkg/plain")
    (project.root / "pkg/.env").symlink_to("known")
    for scope in (Scope(), Scope("files")):
        changes = project.gather(scope)
        assert b"hunter2" not in changes.diff
        reasons = {omitted.path: omitted.reason for omitted in changes.omitted}
        assert reasons["pkg/plain"] is Reason.SECRET_FILE
        assert reasons["pkg/known"] is Reason.SECRET_FILE


def test_tracked_folder_that_became_a_link_is_not_followed(
    project: Project, outside: Path
) -> None:
    (project.root / "docs/readme.md").unlink()
    (project.root / "docs").rmdir()
    (project.root / "docs").symlink_to(outside)
    for scope in (Scope(), Scope("files")):
        assert b"+outside" not in project.gather(scope).diff


def test_path_behind_a_link_is_refused(project: Project, outside: Path) -> None:
    (project.root / "folder").symlink_to(outside)
    project.write("new.py")
    for scope in (
        Scope(paths=("folder/app.py",)),
        Scope("files", paths=("folder/app.py",)),
    ):
        with pytest.raises(CounselError) as caught:
            project.gather(scope)
        assert caught.value.code in (Code.INVALID_ARGUMENTS, Code.NOTHING_TO_REVIEW)


def test_pipes_sockets_and_devices_are_not_waited_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(project.root / "pipe")
    monkeypatch.chdir(project.root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        changes = project.gather(Scope("files", paths=("pipe", "socket", "app.py")))
    assert changes.omitted == (
        Omitted("pipe", Reason.SPECIAL_FILE, 0),
        Omitted("socket", Reason.SPECIAL_FILE, 0),
    )


def test_tracked_file_that_became_a_pipe_does_not_stop_the_others(
    project: Project,
) -> None:
    (project.root / "app.py").unlink()
    os.mkfifo(project.root / "app.py")
    project.write("docs/readme.md", "changed\n")
    changes = project.gather()
    assert changes.omitted == (Omitted("app.py", Reason.SPECIAL_FILE, 0),)
    assert b"+changed\n" in changes.diff


def test_nested_repositories_are_listed(project: Project) -> None:
    for name in ("empty", "full"):
        inner = type(project)(project.root / name).init()
    inner.write("secret.py")
    inner.commit()
    project.write("new.py")
    changes = project.gather()
    assert changes.omitted == tuple(
        Omitted(name, Reason.NESTED_REPOSITORY, 0) for name in ("empty", "full")
    )


def test_binary_file_is_listed_with_its_size(project: Project) -> None:
    project.write("a.bin", b"ab\0cd")
    project.write("new.py")
    changes = project.gather()
    assert changes.omitted == (Omitted("a.bin", Reason.BINARY, 5),)
    assert [entry.binary for entry in changes.entries] == [True, False]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_listed(project: Project) -> None:
    for name in ("app.py", "new.py"):
        project.write(name, "secret\n").chmod(0)
    project.write("docs/readme.md", "changed\n")
    changes = project.gather()
    assert changes.omitted == (
        Omitted("app.py", Reason.UNREADABLE, 0),
        Omitted("new.py", Reason.UNREADABLE, 0),
    )
    assert not changes.complete


def test_file_that_access_denies_is_listed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("app.py", "changed\n")
    project.write("docs/readme.md", "changed\n")
    real = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda name, *rest, **more: name != b"app.py" and real(name, *rest, **more),
    )
    changes = project.gather()
    assert changes.omitted == (Omitted("app.py", Reason.UNREADABLE, 0),)
    assert [entry.path for entry in changes.entries] == ["app.py", "docs/readme.md"]
    assert not changes.complete


def test_big_file_is_read_no_further_than_the_budget(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.write("big.log", "a line of text\n" * 1000)
    os.truncate(path, 10_000_000_000)
    sizes: list[int] = []
    real = os.read

    def read_and_count(descriptor: int, count: int) -> bytes:
        sizes.append(count)
        return real(descriptor, count)

    monkeypatch.setattr(os, "read", read_and_count)
    reader = TreeReader(project.root)
    with reader:
        assert reader.read(b"big.log", 5000).size == 10_000_000_000
    assert max(sizes) == 5000


def test_number_of_processes_does_not_grow_with_the_files(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes: list[object] = []
    real = GitProcess.__init__

    def start_and_count(self: GitProcess, *args: object, **more: object) -> None:
        processes.append(args)
        real(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(GitProcess, "__init__", start_and_count)
    counts = []
    for number in (1, 300):
        for index in range(number):
            project.write(f"new/{index}.py", f"{index}\n")
        processes.clear()
        project.gather()
        counts.append(len(processes))
    assert counts[0] == counts[1]


def test_file_swapped_for_another_while_it_is_opened_is_not_read(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("new.py", "looked at\n")
    project.write("other.py", "not looked at\n")
    real = os.stat
    monkeypatch.setattr(
        os,
        "stat",
        lambda name, **more: real(b"other.py" if name == b"new.py" else name, **more),
    )
    with TreeReader(project.root) as reader, pytest.raises(UnreadableError) as caught:
        reader.read(b"new.py", 100)
    assert caught.value.reason is Unreadable.NO_ACCESS


@pytest.mark.parametrize(
    "name",
    [
        b"../outside/app.py",
        b"/etc/passwd",
        b"docs/../../outside/app.py",
        b".",
        b"..",
        b"",
    ],
)
def test_name_that_leads_out_is_not_read(
    project: Project, outside: Path, name: bytes
) -> None:
    with (
        TreeReader(project.root) as reader,
        pytest.raises((UnreadableError, FileNotFoundError)),
    ):
        reader.read(name, 100)
    with TreeReader(project.root) as reader:
        assert reader.lstat(name) is None


def test_no_descriptor_is_left_open(project: Project) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for index in range(20):
        project.write(f"d{index}/deep/new.py")
    (project.root / "link").symlink_to("docs")
    project.gather()
    # Python may close some meanwhile that an earlier test has left to it.
    assert len(list(Path("/dev/fd").iterdir())) <= before
