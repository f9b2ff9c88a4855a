"""What a turn that writes in the workspace must leave alone: which paths are closed, and what is told of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.compat import guarded
from codex_counsel.delegate.sensitive import is_sensitive
from tests.conftest import until
from tests.repositories import write

Rows = list[tuple[str, str]]


def closed(root: Path, *git_paths: Path) -> set[str]:
    """What is closed besides the names at the top."""
    paths = {path.relative_to(root) for path in guarded.to_close(root, git_paths)}
    return {str(path) for path in paths} - set(guarded.CLOSED_NAMES)


def rows(before: guarded.Look, after: guarded.Look) -> Rows:
    return [(row.path, row.status) for row in guarded.differences(before, after)]


def test_existing_files_are_closed_and_a_folder_as_a_whole(tmp_path: Path) -> None:
    for name in (
        "a/CLAUDE.md",
        "a/.claude/settings.json",
        ".pre-commit-config.yaml",
        "src/code.py",
        "node_modules/x/CLAUDE.md",
    ):
        write(tmp_path, name)
    assert closed(tmp_path) == {
        *("a/CLAUDE.md", "a/.claude", ".pre-commit-config.yaml", "node_modules")
    }


def test_a_repository_without_a_name_of_gits_is_closed_and_a_new_one_is_told(
    tmp_path: Path,
) -> None:
    for name in ("bare/HEAD", "bare/config", "bare/hooks/x", "bare/objects/x"):
        write(tmp_path, name)
    for name in ("src/config", "src/hooks/x", "docs/HEAD"):
        write(tmp_path, name)
    assert closed(tmp_path) == {"bare/HEAD", "bare/config", "bare/hooks"}
    before = guarded.look(tmp_path, ())
    for name in ("new/HEAD", "new/config", "new/commondir", "src/HEAD"):
        write(tmp_path, name)
    assert rows(before, guarded.look(tmp_path, ())) == [
        ("new/HEAD", "A"),
        ("new/config", "A"),
    ]


def test_of_a_link_what_it_leads_to_is_closed_but_never_the_whole_workspace(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    write(root, "dotfiles/x")
    write(root, "sub/x")
    (tmp_path / "outside").mkdir()
    for name, target in (
        (".gemini", "dotfiles"),
        (".kiro", "."),
        (".roo", "../outside"),
        (".claude", "gone"),
        ("sub/.vscode", "../.."),
    ):
        (root / name).symlink_to(target)
    assert closed(root) == {"dotfiles", "gone"}
    assert root / ".claude" not in guarded.to_close(root)


def test_the_git_directory_that_a_file_names_is_closed_inside_the_workspace_alone(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    write(root, "store/HEAD")
    write(root, "a/.git", "gitdir: ../store\n")
    write(root, "b/.git", f"gitdir: {tmp_path}/elsewhere\n")
    write(root, "c/.git", "gitdir: \0\n")
    assert closed(root) == {"a/.git", "b/.git", "c/.git", "store"}
    assert closed(root, tmp_path, root / "tools/hooks") >= {"tools/hooks"}


def test_paths_that_codex_takes_for_patterns_are_left_to_the_look_afterwards(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, "app/[id]/CLAUDE.md")
    write(tmp_path, b"\xff/CLAUDE.md")
    assert closed(tmp_path) == set()
    before = guarded.look(tmp_path, ())
    file.write_text("x")
    (tmp_path / "app/[id]/.mcp.json").touch()
    assert rows(before, guarded.look(tmp_path, ())) == [
        ("app/[id]/.mcp.json", "A"),
        ("app/[id]/CLAUDE.md", "M"),
    ]


def test_no_more_is_closed_than_a_sandbox_takes_and_git_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "MAX_CLOSED", 2)
    for name in ("CODEX/.mise.toml", "x/y/z/.git/HEAD", "x/.envrc", "x/y/.envrc"):
        write(tmp_path, name)
    assert len(closed(tmp_path)) == 2
    assert "x/y/z/.git" in closed(tmp_path)


def wait_for_a_later_time(probe: Path, file: Path) -> None:
    """Many kernels count the time of a change in steps of some milliseconds: wait for the next one."""
    changed = file.stat().st_ctime_ns

    def is_later() -> bool:
        probe.write_text("x")
        return probe.stat().st_ctime_ns > changed

    until(is_later)


@pytest.mark.parametrize("restore", [False, True])
def test_a_file_that_was_put_back_is_told_too(tmp_path: Path, *, restore: bool) -> None:
    file = write(tmp_path, "pkg/AGENTS.md", "one")
    before = guarded.look(tmp_path, ())
    wait_for_a_later_time(tmp_path / "tmp/probe", file)
    file.write_text("two")
    if restore:
        file.write_text("one")
    assert rows(before, guarded.look(tmp_path, ())) == [("pkg/AGENTS.md", "M")]


def test_of_a_new_or_removed_folder_only_itself_is_told(tmp_path: Path) -> None:
    write(tmp_path, "old/.claude/settings.json")
    before = guarded.look(tmp_path, ())
    (tmp_path / "old").rename(tmp_path / "new")
    assert rows(before, guarded.look(tmp_path, ())) == [
        ("new/.claude", "A"),
        ("old/.claude", "D"),
    ]


def test_a_look_that_does_not_see_all_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write(tmp_path, f"d{number}/.envrc")
    assert guarded.look(tmp_path, ()).complete
    monkeypatch.setattr(guarded, "MAX_ENTRIES", 3)
    assert not guarded.look(tmp_path, ()).complete
    monkeypatch.undo()
    monkeypatch.setattr(guarded, "MAX_NOTED", 3)
    assert not guarded.look(tmp_path, ()).complete


def test_mount_points_of_a_killed_command_go_and_files_of_the_user_stay(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    write(root, ".envrc", "").chmod(0o444)
    (root / "lib/.aws").mkdir(parents=True)
    before = guarded.look(root, ())
    for name in (".vscode", ".idea"):
        write(root, name, "").chmod(0o444)
    (root / ".idea").chmod(0o644)
    write(root, ".husky", "x").chmod(0o444)
    (root / ".codex").mkdir()
    write(root, "lib/.git/hooks/x")
    guarded.remove_mount_points(root, before, guarded.look(root, ()))
    assert sorted(path.name for path in root.iterdir()) == [
        *(".envrc", ".husky", ".idea", "lib")
    ]
    assert sorted(path.name for path in (root / "lib").iterdir()) == [*(".aws", ".git")]


@pytest.mark.parametrize("name", guarded.CLOSED_NAMES)
def test_every_name_that_is_closed_holds_what_apply_refuses(name: str) -> None:
    below = f"{name}/workflows/x".encode()
    assert is_sensitive(name.encode()) or is_sensitive(below)
