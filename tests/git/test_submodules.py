"""Work inside submodules is never taken for reviewed: it is listed, and reviewed as a repository of its own."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git import submodules
from codex_counsel.git.submodules import (
    dirty_submodules,
    open_submodule,
    submodule_paths,
)
from codex_counsel.review.changes.model import Omitted, Reason, Scope
from tests.git.conftest import Project


@pytest.fixture
def inner(project: Project, tmp_path: Path) -> Project:
    """The submodule `lib/inner` of the project, which has a submodule `deep` itself. All is committed."""
    deep, other = Project(tmp_path / "deep"), Project(tmp_path / "other")
    shutil.copytree(project.root, deep.root)
    shutil.copytree(project.root, other.root)
    allow = ("-c", "protocol.file.allow=always")
    other.git(*allow, "submodule", "--quiet", "add", str(deep.root), "deep")
    other.commit("with a submodule")
    project.git(*allow, "submodule", "--quiet", "add", str(other.root), "lib/inner")
    project.git(*allow, "submodule", "--quiet", "update", "--init", "--recursive")
    project.commit("with a submodule")
    project.write("app.py", "changed\n")
    return Project(project.root / "lib/inner")


DIRTY: dict[str, tuple[Callable[[Project], object], str]] = {
    "a changed file": (lambda inner: inner.write("app.py", "inside\n"), "lib/inner"),
    "a staged file": (
        lambda inner: (inner.write("app.py", "inside\n"), inner.git("add", "app.py")),
        "lib/inner",
    ),
    "an untracked file": (lambda inner: inner.write("new.py"), "lib/inner"),
    "a nested one": (lambda inner: inner.write("deep/new.py"), "lib/inner/deep"),
    "a deleted file": (lambda inner: (inner.root / "app.py").unlink(), "lib/inner"),
    "an ignored kind of change": (
        lambda inner: (
            inner.git("config", "status.showUntrackedFiles", "no"),
            inner.write("new.py"),
        ),
        "lib/inner",
    ),
    "a repository that leads elsewhere": (
        lambda inner: inner.write(".git", f"gitdir: {inner.root.parents[1]}/.git\n"),
        "lib/inner",
    ),
    "files without a repository": (
        lambda inner: (inner.root / ".git").unlink(),
        "lib/inner",
    ),
}


@pytest.mark.parametrize("case", DIRTY.values(), ids=DIRTY)
def test_uncommitted_work_in_a_submodule_is_listed_and_makes_the_review_incomplete(
    project: Project, inner: Project, case: tuple[Callable[[Project], object], str]
) -> None:
    clean = project.gather()
    assert (clean.omitted, clean.complete) == ((), True)
    make_dirty, path = case
    make_dirty(inner)
    changes = project.gather()
    assert changes.omitted == (Omitted(path, Reason.SUBMODULE, 0),)
    assert not changes.complete


def test_new_commits_of_a_nested_submodule_count_as_changes(
    project: Project, inner: Project
) -> None:
    Project(inner.root / "deep").commit("inside")
    assert [item.path for item in project.gather().omitted] == ["lib/inner"]


def test_only_submodules_with_work_left_say_how_to_review_it(
    project: Project, inner: Project
) -> None:
    project.git("checkout", "--quiet", "app.py")
    inner.write("app.py", "inside\n")
    with pytest.raises(CounselError) as error:
        project.gather()
    assert error.value.code is Code.NOTHING_TO_REVIEW
    assert str(inner.root) in str(error.value.repair)
    assert b"+inside\n" in inner.gather().diff


@pytest.mark.parametrize(
    ("path", "listed"),
    [("lib", True), ("lib/inner/app.py", True), ("app.py", False), ("docs", False)],
)
def test_only_submodules_within_the_paths_of_the_scope_are_listed(
    project: Project, inner: Project, path: str, *, listed: bool
) -> None:
    inner.write("app.py", "inside\n")
    scope = Scope(paths=tuple(dict.fromkeys((path, "app.py"))))
    assert bool(project.gather(scope).omitted) is listed


def test_scopes_of_commits_and_the_index_have_no_uncommitted_work(
    project: Project, inner: Project
) -> None:
    inner.write("app.py", "inside\n")
    project.git("add", "app.py")
    assert project.gather(Scope("staged")).complete
    assert project.gather(Scope("commit", commit="HEAD~1")).complete


def test_what_would_not_count_around_a_submodule_does_not_count_in_it(
    project: Project, inner: Project
) -> None:
    inner.write(".env", "SECRET=1\n")
    inner.write("ignored.log")
    exclude = inner.root / inner.git("rev-parse", "--git-path", "info/exclude")
    exclude.write_text("ignored.log\n")
    assert project.gather().complete


def test_an_uninitialised_submodule_has_no_work(
    project: Project, inner: Project
) -> None:
    project.git("submodule", "--quiet", "deinit", "--force", "--all")
    assert list(inner.root.iterdir()) == []
    assert project.gather().complete


@pytest.mark.parametrize("target", ["other", "broken"])
def test_a_link_in_place_of_a_submodule_is_not_followed(
    project: Project, inner: Project, tmp_path: Path, target: str
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / ".git").write_text("gitdir: /nonexistent\n")
    shutil.rmtree(inner.root)
    inner.root.symlink_to(tmp_path / target)
    rows = [(item.path, item.what) for item in dirty_submodules(project.repo())]
    assert rows == [(b"lib/inner", "a link in its place")]


def test_beyond_a_number_submodules_are_named_without_a_look(
    project: Project, inner: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inner.root.exists()
    monkeypatch.setattr(submodules, "MAX_EXAMINED", 1)
    rows = [(item.path, item.what) for item in dirty_submodules(project.repo())]
    assert rows == [(b"lib/inner/deep", "not examined")]


def test_submodules_for_which_there_is_no_time_are_named_without_a_look(
    project: Project, inner: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner.write("new.py")
    hours = itertools.count(0, 3600)
    clock = SimpleNamespace(monotonic=lambda: next(hours))
    monkeypatch.setattr(submodules, "time", clock)
    rows = [(item.path, item.what) for item in dirty_submodules(project.repo())]
    assert rows == [(b"lib/inner", "not examined")]


@pytest.mark.parametrize("kind", ["absolute", "above", "around", "the same"])
def test_a_path_of_a_crafted_index_leads_to_no_other_repository(
    kind: str, project: Project, tmp_path: Path
) -> None:
    """Git itself refuses to store such a path, and lists the one of a crafted index."""
    private = Project(tmp_path / "private")
    shutil.copytree(project.root, private.root)
    private.write("app.py", "changed\n")
    inside = Project(project.root / "docs/inner").init()
    inside.commit()
    inside.write("new.py")
    path = {
        "absolute": str(private.root),
        "above": "../private",
        "around": "docs/../../private",
        "the same": "docs//inner",
    }[kind]
    write_gitlink(project, path.encode())
    repo = project.repo()
    assert submodule_paths(repo) == [path.encode()]
    rows = [(item.path, item.what) for item in dirty_submodules(repo)]
    assert rows == [(path.encode(), "no folder of the tree")]
    assert open_submodule(repo, path.encode()) is None


def write_gitlink(project: Project, path: bytes) -> None:
    """Replace the index by one that holds only a submodule with this path: format 2, fixed-size fields, a checksum."""
    fields = struct.pack(">10I", *[0] * 6, 0o160000, *[0] * 3)
    entry = fields + bytes.fromhex(project.head) + struct.pack(">H", len(path)) + path
    entry += b"\0" * (8 - len(entry) % 8)
    index = b"DIRC" + struct.pack(">2I", 2, 1) + entry
    checksum = hashlib.sha1(index, usedforsecurity=False).digest()
    (project.root / ".git/index").write_bytes(index + checksum)
