"""What the user saves while files of his tree are written is where he saved it, or is kept; never lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.delegate import live_writer
from codex_counsel.delegate.live_writer import (
    ChangedMeanwhileError,
    Drafts,
    LiveWriter,
    digest,
)
from codex_counsel.delegate.tree_writer import (
    FileState,
    WorkTree,
    check_place,
    read_file,
)
from codex_counsel.system import exchange as exchanges
from codex_counsel.system.exchange import has_writers

OLD = FileState(b"old\n", "100644")
NEW = FileState(b"new\n", "100644")
NAME = b"file"


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[WorkTree]:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(OLD.data)
    with WorkTree(tmp_path / "tree") as tree:
        yield tree


@pytest.fixture
def writer(tree: WorkTree, tmp_path: Path) -> LiveWriter:
    return LiveWriter(tree, Drafts("token", [NAME]), tmp_path / "kept")


@pytest.fixture
def path(tree: WorkTree) -> Path:
    return tree.root / "file"


def in_place(path: Path) -> None:
    path.write_bytes(b"mine\n")


def renamed_over(path: Path) -> None:
    draft = path.with_name("editors")
    draft.write_bytes(b"mine\n")
    draft.replace(path)


SAVES = pytest.mark.parametrize("save", [in_place, renamed_over])


def before_the(
    call: int, function: Callable[..., Any], action: Callable[[], object]
) -> Callable[..., Any]:
    """The function, with an action before its call of this number."""
    calls = []

    def around(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call:
            action()
        return function(*arguments)

    return around


def everything(tree: WorkTree) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tree.root.iterdir()}


@SAVES
def test_a_save_just_before_the_exchange_stays(
    writer: LiveWriter,
    tree: WorkTree,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save: Callable[[Path], None],
) -> None:
    around = before_the(1, exchanges.exchange, lambda: save(path))
    monkeypatch.setattr(live_writer, "exchange", around)
    with pytest.raises(ChangedMeanwhileError):
        writer.replace(NAME, OLD, NEW)
    assert everything(tree) == {"file": b"mine\n"}
    assert writer.stored == []


@SAVES
def test_a_save_just_before_the_removal_stays(
    writer: LiveWriter,
    tree: WorkTree,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save: Callable[[Path], None],
) -> None:
    around = before_the(1, exchanges.rename_new, lambda: save(path))
    monkeypatch.setattr(live_writer, "rename_new", around)
    with pytest.raises(ChangedMeanwhileError):
        writer.replace(NAME, OLD, None)
    assert everything(tree) == {"file": b"mine\n"}


def test_a_file_that_appears_just_before_a_new_one_is_put_there_stays(
    writer: LiveWriter, tree: WorkTree, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    # The first rename gives the draft its name.
    around = before_the(2, exchanges.rename_new, lambda: in_place(path))
    monkeypatch.setattr(live_writer, "rename_new", around)
    with pytest.raises(ChangedMeanwhileError):
        writer.replace(NAME, None, NEW)
    assert everything(tree) == {"file": b"mine\n"}


@SAVES
def test_of_two_saves_around_the_exchange_the_newer_stays_and_the_older_is_kept(
    writer: LiveWriter,
    tree: WorkTree,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    save: Callable[[Path], None],
) -> None:
    older = before_the(1, exchanges.exchange, lambda: path.write_bytes(b"older save\n"))
    # The second exchange is to give the older save back.
    both = before_the(2, older, lambda: save(path))
    monkeypatch.setattr(live_writer, "exchange", both)
    with pytest.raises(ChangedMeanwhileError):
        writer.replace(NAME, OLD, NEW)
    assert everything(tree) == {"file": b"mine\n"}
    assert [Path(stored).read_bytes() for stored in writer.stored] == [b"older save\n"]


@pytest.mark.parametrize("state", [NEW, None], ids=["replacing", "removing"])
def test_a_file_that_a_program_has_open_for_writing_is_left_to_it(
    writer: LiveWriter,
    tree: WorkTree,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: FileState | None,
) -> None:
    monkeypatch.setattr(live_writer, "WRITER_SECONDS", 0.05)
    with path.open("r+b") as file:
        with pytest.raises(ChangedMeanwhileError):
            writer.replace(NAME, OLD, state)
        file.write(b"mine")
    assert everything(tree) == {"file": b"mine"}


def test_where_nobody_can_tell_who_writes_the_content_decides(
    writer: LiveWriter, tree: WorkTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_writer, "CONTROL_SECONDS", 0.05)
    monkeypatch.setattr(live_writer, "has_writers", lambda _: True)
    writer.replace(NAME, OLD, NEW)
    assert everything(tree) == {"file": NEW.data}


@pytest.mark.parametrize("state", [NEW, None], ids=["replacing", "removing"])
def test_without_exchanges_an_earlier_save_is_still_seen(
    writer: LiveWriter,
    tree: WorkTree,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: FileState | None,
) -> None:
    monkeypatch.setattr("codex_counsel.system.exchange._rename", lambda *_: False)
    in_place(path)
    with pytest.raises(ChangedMeanwhileError):
        writer.replace(NAME, OLD, state)
    assert everything(tree) == {"file": b"mine\n"}
    writer.replace(NAME, FileState(b"mine\n", "100644"), state)
    assert read_file(tree, NAME) == state
    assert os.listdir(tree.root) == (["file"] if state else [])


def test_where_there_are_no_hard_links_either_new_files_are_written_and_none_is_replaced(
    writer: LiveWriter, tree: WorkTree, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("codex_counsel.system.exchange._rename", lambda *_: False)
    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(ChangedMeanwhileError):
        writer.replace(NAME, None, NEW)
    assert everything(tree) == {"file": OLD.data}
    path.unlink()
    writer.replace(NAME, None, NEW)
    assert everything(tree) == {"file": NEW.data}


def test_an_interrupt_right_after_the_exchange_loses_nothing(
    writer: LiveWriter, tree: WorkTree, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exchanges.exchange

    def interrupted(*arguments: Any) -> bool:
        monkeypatch.setattr(live_writer, "exchange", real)
        in_place(path)
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(live_writer, "exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.replace_files({NAME: OLD}, {NAME: NEW})
    assert everything(tree) == {"file": b"mine\n"}


def left_by_a_killed_call(tree: WorkTree, draft: bytes, live: bytes | None) -> None:
    (tree.root / ".codex-counsel-token-0").write_bytes(draft)
    (tree.root / ".codex-counsel-token-0.part").write_bytes(b"ne")
    (tree.root / "file").unlink()
    if live is not None:
        (tree.root / "file").write_bytes(live)


@pytest.mark.parametrize(
    "case",
    [
        (b"new\n", b"old\n", NEW, b"old\n", []),
        (b"old\n", b"new\n", NEW, b"new\n", []),
        (b"mine\n", b"new\n", NEW, b"mine\n", []),
        (b"mine\n", b"newer\n", NEW, b"newer\n", [b"mine\n"]),
        (b"mine\n", None, NEW, None, [b"mine\n"]),
        (b"old\n", None, None, None, []),
        (b"mine\n", None, None, b"mine\n", []),
        (b"mine\n", b"newer\n", None, b"newer\n", [b"mine\n"]),
    ],
)
def test_what_a_killed_call_left_is_removed_and_what_the_user_had_saved_comes_back(
    writer: LiveWriter,
    tree: WorkTree,
    case: tuple[bytes, bytes | None, FileState | None, bytes | None, list[bytes]],
) -> None:
    """Each case: the draft, the live file, what the call was to write; the live file then, and what is kept."""
    draft, live, after, expected, kept = case
    left_by_a_killed_call(tree, draft, live)
    (tree.root / ".codex-counsel-other-0").write_bytes(b"of another call")
    writer.remove_drafts([(NAME, digest(OLD), digest(after))])
    found = everything(tree)
    assert found.pop(".codex-counsel-other-0") == b"of another call"
    assert found == ({} if expected is None else {"file": expected})
    assert [Path(stored).read_bytes() for stored in writer.stored] == kept


def test_what_cannot_be_kept_stays_in_the_tree_and_is_named(
    tree: WorkTree, tmp_path: Path
) -> None:
    (tmp_path / "kept").write_bytes(b"no directory")
    writer = LiveWriter(tree, Drafts("token", [NAME]), tmp_path / "kept")
    left_by_a_killed_call(tree, b"mine\n", b"newer\n")
    writer.remove_drafts([(NAME, digest(OLD), digest(NEW))])
    assert writer.stored == [str(tree.root / ".codex-counsel-token-0")]
    assert Path(writer.stored[0]).read_bytes() == b"mine\n"


def test_a_save_after_the_writing_is_named(
    writer: LiveWriter, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = before_the(1, check_place, lambda: in_place(path))
    monkeypatch.setattr(live_writer, "check_place", around)
    assert writer.replace_files({NAME: OLD}, {NAME: NEW}) == ["file"]
    assert path.read_bytes() == b"mine\n"


def test_a_writer_of_a_file_is_seen_and_a_reader_is_none(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert not has_writers(descriptor)
        with path.open("rb"):
            assert not has_writers(descriptor)
        with path.open("ab"):
            assert has_writers(descriptor)
        assert not has_writers(descriptor)
    finally:
        os.close(descriptor)
