"""The files of submodules are in a task's tree as they lie there; its changes of them are in the diff, and applied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.delegate import apply, seed, set_up
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.set_up import SEED, SEED_PATCH
from codex_counsel.errors import Code
from codex_counsel.git.repo import Repo
from codex_counsel.git.submodules import open_submodule
from tests.git.delegate.conftest import UserRepository
from tests.git.delegate.states import files, state
from tests.git.delegate.test_apply import Diff, in_child, kill_before_the_first_removal
from tests.repositories import Repository


def without_git(root: Path) -> dict[bytes, tuple[str, bytes]]:
    found = files(root)
    return {
        name: file for name, file in found.items() if b".git" not in name.split(b"/")
    }


@pytest.fixture
def inner(repository: UserRepository) -> Repository:
    """The submodule `lib/inner` with a submodule `deep` of its own; both have uncommitted work."""
    deep = Repository(repository.base / "deep").init()
    deep.write("deep.txt", "deep\n")
    deep.commit()
    other = Repository(repository.base / "other").init()
    other.write("tracked.txt", "one\ntwo\nthree\n")
    other.write("gone.txt", "gone\n")
    other.write("old.log", "tracked, though ignored\n")
    other.commit()
    allow = ("-c", "protocol.file.allow=always")
    other.git(*allow, "submodule", "--quiet", "add", str(deep.root), "deep")
    other.write(".gitignore", "*.log\n")
    other.commit()
    repository.git(*allow, "submodule", "--quiet", "add", str(other.root), "lib/inner")
    repository.git(*allow, "submodule", "--quiet", "update", "--init", "--recursive")
    repository.commit()
    inner = Repository(repository.root / "lib/inner")
    inner.write("tracked.txt", "one\ntwo\nmine\n")
    inner.write("untracked.txt", "mine\n")
    inner.write("deep/new.txt", "mine\n")
    inner.write("ignored.log", "ignored\n")
    inner.write(".env", "SECRET=1\n")
    (inner.root / "gone.txt").unlink()
    (inner.root / "link").symlink_to("tracked.txt")
    return inner


def test_the_tree_has_the_files_of_submodules_as_they_lie_there(
    repository: UserRepository, inner: Repository
) -> None:
    seeded = repository.seed()
    assert seeded.omitted == {"lib/inner/.env": "secret_file"}
    assert seeded.plan.submodules == [b"lib/inner", b"lib/inner/deep"]
    left_out = {b"lib/inner/ignored.log", b"lib/inner/.env"}
    expected = without_git(repository.root)
    assert seeded.files == {
        name: file for name, file in expected.items() if name not in left_out
    }
    assert inner.root.exists()
    assert seeded.work().files == []


RUN = (
    "sed -i s/one/theirs/ lib/inner/tracked.txt; rm lib/inner/untracked.txt; mv lib/inner/link top-link; "
    "echo x > lib/inner/new.txt; echo x >> lib/inner/deep/deep.txt; echo x >> lib/inner/old.log; echo x >> app.py"
)


def test_changes_inside_submodules_are_applied_there_and_taken_back(
    repository: UserRepository, inner: Repository
) -> None:
    before = state(repository.root)
    diff = Diff(repository, RUN)
    outcome = diff()
    assert "lib/inner/deep/deep.txt" in str(outcome["files"])
    assert (inner.root / "tracked.txt").read_text() == "theirs\ntwo\nmine\n"
    assert (inner.root / "old.log").read_text().endswith("x\n")
    assert not (inner.root / "untracked.txt").exists()
    assert (repository.root / "top-link").is_symlink()
    diff(undo=True)
    assert state(repository.root) == before


def test_a_call_that_was_killed_inside_a_submodule_leaves_nothing_there_after_a_sweep(
    repository: UserRepository, inner: Repository
) -> None:
    before = state(repository.root)
    diff = Diff(repository, "sed -i s/one/theirs/ lib/inner/tracked.txt")
    assert in_child(kill_before_the_first_removal, diff) == 9
    assert list(inner.root.glob(".codex-counsel-*"))
    apply.sweep_applying(repository.base)
    assert not list(inner.root.glob(".codex-counsel-*"))
    diff(undo=True)
    assert state(repository.root) == before


def test_submodules_that_git_hangs_in_take_the_time_of_one(
    repository: UserRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        inner = Repository(repository.root / name).init()
        inner.write("file.txt")
        inner.commit()
        repository.git("add", name)
        # Git waits for somebody who writes to it.
        os.mkfifo(inner.root / ".gitignore")
    repository.commit()
    opened = []
    plan_submodules = seed._plan_submodules

    def plan_in_time(repo: Repo, *rest: Any) -> None:
        """Only git within a submodule hangs; for what else a task needs there is time."""
        plan_submodules(replace(repo, timeout=2), *rest)

    def open_counted(repo: Repo, path: bytes) -> Repo | None:
        opened.append(path)
        return open_submodule(repo, path)

    monkeypatch.setattr(seed, "open_submodule", open_counted)
    monkeypatch.setattr(seed, "_plan_submodules", plan_in_time)
    plan = seed.plan_seed(repository.repo(), ())
    assert len(opened) == 1
    assert dict(plan.omitted) == dict.fromkeys(("one", "two", "three"), "submodule")


def test_a_repository_that_was_no_submodule_is_still_not_written(
    repository: UserRepository, inner: Repository
) -> None:
    assert inner.root.exists()
    diff = Diff(repository, "mkdir sub; echo x > sub/f; echo x > lib/inner/new.txt")
    repository.git("init", "--quiet", "sub")
    assert diff.refusal().code == Code.APPLY_CONFLICT


def test_a_continued_task_begins_with_the_files_of_submodules_and_its_changes_of_them(
    repository: UserRepository, inner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inner.root.exists()
    repo = repository.repo()
    spec = DelegateSpec(str(repository.root), str(repo.common_dir), 60, 200_000, ())
    first, earlier = repository.base / "scratch" / "first", repository.base / "earlier"
    earlier.mkdir()
    first.parent.mkdir(mode=0o700)
    details = {"delegate": vars(spec)}
    set_up.set_up(details, first, earlier)
    assert (earlier / SEED).exists()
    assert (earlier / SEED_PATCH).exists()
    wanted = files(first / "tree")
    (earlier / "diff.patch").write_bytes(b"")
    again = DelegateSpec(**{**vars(spec), "again": str(earlier)})
    second, later = repository.base / "scratch" / "second", repository.base / "later"
    later.mkdir()
    set_up.set_up({"delegate": vars(again)}, second, later)
    assert without_git(second / "tree") == {
        name: file for name, file in wanted.items() if name != b".git"
    }
    assert (later / SEED).read_text() == (earlier / SEED).read_text()
    shutil.rmtree(first.parent)


def pointer_elsewhere(repository: UserRepository, inner: Repository) -> None:
    inner.write(".git", f"gitdir: {repository.base}/other/.git\n")


def link_elsewhere(repository: UserRepository, inner: Repository) -> None:
    shutil.rmtree(inner.root)
    inner.root.symlink_to(repository.base / "other")


def link_on_the_way(repository: UserRepository, inner: Repository) -> None:
    inner.root.parent.rename(repository.base / "moved")
    (repository.root / "lib").symlink_to(repository.base / "moved")


def not_initialised(repository: UserRepository, _inner: Repository) -> None:
    repository.git("submodule", "--quiet", "deinit", "--force", "--all")


def link_as_git(repository: UserRepository, inner: Repository) -> None:
    (inner.root / ".git").unlink()
    (inner.root / ".git").symlink_to(repository.base / "other/.git")


@pytest.mark.parametrize(
    "change",
    [pointer_elsewhere, link_elsewhere, link_on_the_way, not_initialised, link_as_git],
)
def test_a_submodule_that_leads_elsewhere_or_has_no_repository_is_named_and_nothing_of_it_comes(
    repository: UserRepository,
    inner: Repository,
    change: Callable[[UserRepository, Repository], None],
) -> None:
    change(repository, inner)
    seeded = repository.seed()
    assert seeded.omitted["lib/inner"] == "submodule"
    assert not any(name.startswith(b"lib/inner/") for name in seeded.files)


def test_a_crafted_index_of_a_submodule_writes_nothing_elsewhere(
    repository: UserRepository, inner: Repository
) -> None:
    (repository.base / "victim").write_text("victim\n")
    blob = inner.git("hash-object", "-w", "tracked.txt")
    index = Path(inner.git("rev-parse", "--git-path", "index"))
    marker = "X" * len("../../../victim")
    git_marker = "Y" * len(".git/config")
    for name in (marker, git_marker):
        inner.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    data = (inner.root / index).read_bytes()[:-20]
    data = data.replace(marker.encode(), b"../../../victim")
    data = data.replace(git_marker.encode(), b".git/config")
    inner.git("config", "index.skipHash", "true")
    (inner.root / index).write_bytes(data + bytes(20))
    before = state(repository.root)
    seeded = repository.seed()
    assert state(repository.root) == before
    assert (repository.base / "victim").read_text() == "victim\n"
    assert not any(b".git" in name.split(b"/")[1:] for name in seeded.files)


def test_what_submodules_configure_is_not_run(
    repository: UserRepository, inner: Repository
) -> None:
    mark = repository.base / "ran"
    for key in (
        "filter.x.clean",
        "filter.x.smudge",
        "core.fsmonitor",
        "diff.x.command",
    ):
        inner.git("config", key, f"touch {mark}")
    inner.write(".gitattributes", "* filter=x diff=x\n")
    mark.unlink(missing_ok=True)
    repository.seed()
    assert not mark.exists()


def test_submodules_over_the_bounds_are_named(
    repository: UserRepository, inner: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert inner.root.exists()
    monkeypatch.setattr(seed, "MAX_SUBMODULES", 100)
    assert repository.seed().omitted["lib/inner"] == "budget"
    monkeypatch.setattr(seed, "MAX_SUBMODULES", 10_000)
    monkeypatch.setattr(seed, "MAX_EXAMINED", 1)
    assert repository.seed().omitted["lib/inner/deep"] == "submodule"
