"""Where the parts of a repository lie, and which repositories are not used because they lead to others."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.layout import read_layout
from codex_counsel.git.repo import Repo
from codex_counsel.prepare.directories import Directories
from codex_counsel.prepare.workspace import find_repository
from codex_counsel.system.tree_walk import remove_tree
from tests.conftest import World
from tests.repositories import Repository


@pytest.fixture
def private(world: World) -> Repository:
    """Somebody's other repository, which nothing may open."""
    repository = world.repository_at(world.base / "private").init()
    repository.write("secret.txt", "PRIVATE\n")
    repository.commit("private")
    return repository


@pytest.fixture
def project(world: World, private: Repository) -> Repository:
    repository = world.repository.init()
    repository.write("code.py")
    repository.commit()
    return repository


def by_commondir(project: Repository, private: Repository) -> None:
    (project.root / ".git/commondir").write_text(f"{private.root}/.git\n", "utf-8")


def by_linked_objects(project: Repository, private: Repository) -> None:
    shutil.rmtree(project.root / ".git/objects")
    (project.root / ".git/objects").symlink_to(private.root / ".git/objects")


def by_a_linked_fan_out(project: Repository, private: Repository) -> None:
    for folder in (private.root / ".git/objects").iterdir():
        link = project.root / ".git/objects" / folder.name
        if not link.exists():
            link.symlink_to(folder)


def by_linked_packs(project: Repository, private: Repository) -> None:
    private.git("gc", "-q")
    for file in (private.root / ".git/objects/pack").iterdir():
        (project.root / ".git/objects/pack" / file.name).symlink_to(file)


def by_linked_refs(project: Repository, private: Repository) -> None:
    shutil.rmtree(project.root / ".git/refs")
    (project.root / ".git/refs").symlink_to(private.root / ".git/refs")


def by_a_linked_index(project: Repository, private: Repository) -> None:
    (project.root / ".git/index").unlink()
    (project.root / ".git/index").symlink_to(private.root / ".git/index")


def by_borrowed_objects_and_a_linked_ref(
    project: Repository, private: Repository
) -> None:
    alternates = project.root / ".git/objects/info/alternates"
    alternates.write_text(f"{private.root}/.git/objects\n", "utf-8")
    ref = next((private.root / ".git/refs/heads").iterdir())
    (project.root / ".git/refs/heads/theirs").symlink_to(ref)


def by_a_git_file(project: Repository, private: Repository) -> None:
    shutil.rmtree(project.root / ".git")
    (project.root / ".git").write_text("gitdir: ../private/.git\n", "utf-8")


def by_a_link(project: Repository, private: Repository) -> None:
    shutil.rmtree(project.root / ".git")
    (project.root / ".git").symlink_to(private.root / ".git")


def by_a_worktree_of_its_own_making(project: Repository, private: Repository) -> None:
    shutil.rmtree(project.root / ".git")
    false = project.root / "worktrees/false"
    false.mkdir(parents=True)
    shutil.copy(private.root / ".git/HEAD", false)
    (false / "commondir").write_text(f"{private.root}/.git\n", "utf-8")
    (false / "gitdir").write_text(f"{project.root}/.git\n", "utf-8")
    (project.root / ".git").write_text("gitdir: worktrees/false\n", "utf-8")


def by_a_common_directory_behind_a_git_file(
    project: Repository, private: Repository
) -> None:
    (project.root / ".git").rename(project.root / "g")
    (project.root / ".git").write_text("gitdir: g\n", "utf-8")
    project.git("config", "core.worktree", "..", cwd=project.root / "g")
    (project.root / "g/commondir").write_text(f"{private.root}/.git\n", "utf-8")


def by_a_common_directory_with_a_space(
    project: Repository, private: Repository
) -> None:
    shutil.rmtree(project.root / ".git")
    base = project.root / "base"
    false = base / "worktrees/false"
    false.mkdir(parents=True)
    for name in ("objects", "refs"):
        (base / name).mkdir()
    shutil.copy(private.root / ".git/HEAD", base)
    shutil.copy(private.root / ".git/HEAD", false)
    (false / "commondir").write_text(" ../..\n", "utf-8")
    (false / "gitdir").write_text(f"{project.root}/.git\n", "utf-8")
    (false / " ..").symlink_to(private.root / ".git/objects")
    (project.root / ".git").write_text("gitdir: base/worktrees/false\n", "utf-8")


def _borrow(project: Repository, private: Repository) -> Path:
    alternates = project.root / ".git/objects/info/alternates"
    alternates.write_text(f"{private.root}/.git/objects\n", "utf-8")
    return next((private.root / ".git/refs/heads").iterdir())


def by_borrowed_objects_and_a_ref_that_names_a_link(
    project: Repository, private: Repository
) -> None:
    ref = _borrow(project, private)
    (project.root / ".git/x").mkdir()
    (project.root / ".git/x/y").symlink_to(ref)
    branch = next((project.root / ".git/refs/heads").iterdir())
    branch.write_text("ref: x/y\n", "utf-8")


def by_borrowed_objects_and_a_ref_of_a_working_tree(
    project: Repository, private: Repository
) -> None:
    linked = project.root.parent / "linked"
    project.git("worktree", "add", "-q", str(linked))
    ref = _borrow(project, private)
    bisect = project.root / ".git/worktrees/linked/refs/bisect"
    bisect.mkdir(parents=True)
    (bisect / "bad").symlink_to(ref)


def by_the_submodule_of_another_repository(
    project: Repository, private: Repository
) -> None:
    shutil.rmtree(project.root / ".git")
    modules = project.root.parent / ".git/modules"
    modules.mkdir(parents=True)
    (private.root / ".git").rename(modules / "private")
    (project.root / ".git").write_text("gitdir: ../.git/modules/private\n", "utf-8")


WAYS = (
    by_a_common_directory_behind_a_git_file,
    by_a_common_directory_with_a_space,
    by_borrowed_objects_and_a_ref_that_names_a_link,
    by_borrowed_objects_and_a_ref_of_a_working_tree,
    by_the_submodule_of_another_repository,
    by_commondir,
    by_linked_objects,
    by_a_linked_fan_out,
    by_linked_packs,
    by_linked_refs,
    by_a_linked_index,
    by_borrowed_objects_and_a_linked_ref,
    by_a_git_file,
    by_a_link,
    by_a_worktree_of_its_own_making,
)


@pytest.mark.parametrize("lead", WAYS, ids=lambda way: way.__name__)
def test_a_repository_that_leads_to_another_one_is_not_used(
    world: World,
    project: Repository,
    private: Repository,
    lead: Callable[[Repository, Repository], None],
) -> None:
    lead(project, private)
    with pytest.raises(CounselError) as error:
        Repo.open(world.workspace, env=world.env)
    assert error.value.code == Code.WORKSPACE_INVALID
    directories = Directories.of(world.env, world.state)
    _, opened = find_repository(world.workspace, directories.gate())
    assert opened == ()


def test_a_git_directory_elsewhere_is_used_when_it_names_the_working_tree(
    world: World, project: Repository
) -> None:
    elsewhere = world.base / "elsewhere.git"
    shutil.move(project.root / ".git", elsewhere)
    (project.root / ".git").write_text(f"gitdir: {elsewhere}\n", "utf-8")
    with pytest.raises(CounselError) as error:
        Repo.open(world.workspace, env=world.env)
    assert "core.worktree" in (error.value.repair or "")
    project.git("config", "core.worktree", str(project.root))
    assert Repo.open(world.workspace, env=world.env).git_dir == elsewhere


def test_clones_that_share_objects_are_used(world: World, project: Repository) -> None:
    shared = world.base / "shared"
    project.git("clone", "-q", "--shared", ".", str(shared))
    assert Repo.open(shared, env=world.env).head()


@pytest.mark.parametrize("relative", ["false", "true"])
def test_linked_working_trees_are_used(
    world: World, project: Repository, relative: str
) -> None:
    project.git("config", "worktree.useRelativePaths", relative)
    linked = world.base / "linked"
    project.git("worktree", "add", "-q", str(linked))
    assert Repo.open(linked, env=world.env).common_dir == project.root / ".git"


def test_a_submodule_of_a_linked_working_tree_is_used(
    world: World, project: Repository, private: Repository
) -> None:
    allow = ("-c", "protocol.file.allow=always")
    project.git(*allow, "submodule", "add", "-q", str(private.root), "sub")
    project.commit("with a submodule")
    linked = world.base / "linked"
    project.git("worktree", "add", "-q", str(linked))
    project.git(*allow, "submodule", "update", "--init", "-q", cwd=linked)
    layout = read_layout(linked / "sub")
    assert layout.git_dir.is_relative_to(project.root / ".git")
    assert Repo.open(linked / "sub", env=world.env).head()


def test_a_head_that_is_a_link_within_the_git_directory_is_used(
    world: World, project: Repository
) -> None:
    head = project.root / ".git/HEAD"
    target = head.read_text("utf-8").removeprefix("ref: ").strip()
    head.unlink()
    head.symlink_to(target)
    assert Repo.open(world.workspace, env=world.env).head()


@pytest.mark.parametrize("closed", ["objects", "objects/pack"])
def test_a_git_directory_that_cannot_be_read_is_refused_by_name(
    world: World, project: Repository, closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.root / ".git" / closed
    iterdir = Path.iterdir

    def refuse(path: Path) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CounselError) as error:
        Repo.open(world.workspace, env=world.env)
    assert "cannot be read: Permission denied" in error.value.message


def test_a_link_at_any_depth_is_found_beside_borrowed_objects(
    world: World, project: Repository, private: Repository
) -> None:
    ref = _borrow(project, private)
    top = project.root / ".git/refs/heads"
    folder = os.open(top, os.O_DIRECTORY)
    # Shorter than the longest path, and deeper than Python's stack.
    for _ in range(1200):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.symlink(ref, "theirs", dir_fd=folder)
    os.close(folder)
    with pytest.raises(CounselError) as error:
        read_layout(world.workspace)
    assert error.value.code == Code.WORKSPACE_INVALID
    assert remove_tree(top / "d")
