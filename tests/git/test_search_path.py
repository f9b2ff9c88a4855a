"""No program of a project is taken for git, however PATH leads to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import environment
from codex_counsel.git.process import find_git
from codex_counsel.git.working_trees import project_directories
from codex_counsel.system.path import search_path
from tests.git.conftest import PlantedProgram, Project


def plant_git(folder: Path, plant: PlantedProgram) -> Path:
    """Put a recording `git` into the folder, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(plant.program, folder / "git")
    return folder


def below(project: Project, plant: PlantedProgram) -> Path:
    return plant_git(project.root / ".venv/bin", plant)


def parent_steps(project: Project, plant: PlantedProgram) -> Path:
    plant_git(project.root / "bin", plant)
    return project.root / ".." / project.root.name / "docs/../bin"


def linked_folder(project: Project, plant: PlantedProgram) -> Path:
    link = project.root.parent / "bin"
    link.symlink_to(plant_git(project.root / "bin", plant))
    return link


def linked_program(project: Project, plant: PlantedProgram) -> Path:
    outside = project.root.parent / "outside"
    outside.mkdir()
    (outside / "git").symlink_to(plant_git(project.root / "bin", plant) / "git")
    return outside


def linked_twice(project: Project, plant: PlantedProgram) -> Path:
    outside = project.root.parent / "outside"
    outside.mkdir()
    plant_git(project.root / "bin", plant)
    (project.root.parent / "alias").symlink_to(project.root)
    (outside / "git").symlink_to("../alias/bin/git")
    return outside


def link_in_the_project_that_leads_out(project: Project, plant: PlantedProgram) -> Path:
    elsewhere = plant_git(project.root.parent / "elsewhere", plant)
    (project.root / "bin").symlink_to(elsewhere)
    return project.root / "bin"


def through_the_project_and_out(project: Project, plant: PlantedProgram) -> Path:
    link = project.root.parent / "bin"
    link.symlink_to(link_in_the_project_that_leads_out(project, plant))
    return link


def around_the_repository(project: Project, plant: PlantedProgram) -> Path:
    project.git("init", "-q", "..")
    return plant_git(project.root.parent / "node_modules/.bin", plant)


def linked_worktree(project: Project, plant: PlantedProgram) -> Path:
    linked = project.root.parent / "linked"
    project.git("worktree", "add", "-q", str(linked), "-b", "side")
    return plant_git(linked / "bin", plant)


ENTRIES = {
    "a folder of the project": below,
    "steps up and down": parent_steps,
    "a link to such a folder": linked_folder,
    "a link to the program": linked_program,
    "a link to a link": linked_twice,
    "a link that leads out of the project": link_in_the_project_that_leads_out,
    "a link to such a link": through_the_project_and_out,
    "a folder of the repository around the project": around_the_repository,
    "a folder of a linked worktree": linked_worktree,
}


@pytest.fixture(autouse=True)
def home_elsewhere(
    own_git_settings: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user's home is not below the repository around the project."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(own_git_settings, home)
    monkeypatch.setenv("HOME", str(home))


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("folder", [".", "docs"])
def test_git_of_the_project_never_runs(
    project: Project,
    plant: PlantedProgram,
    entry: Callable[[Project, PlantedProgram], Path],
    folder: str,
) -> None:
    planted = entry(project, plant)
    assert shutil.which("git", path=str(planted)) == str(planted / "git")
    env = {**os.environ, "PATH": f"{planted}{os.pathsep}{os.environ['PATH']}"}
    repo = Project(project.root, env).repo(folder)
    repo.git("status", "--porcelain")
    assert not plant.ran


@pytest.mark.parametrize("entry", ["bin", ".", "", "./bin", "docs/../bin"])
def test_a_relative_entry_counts_for_nothing(
    project: Project,
    plant: PlantedProgram,
    monkeypatch: pytest.MonkeyPatch,
    entry: str,
) -> None:
    plant_git(project.root / "bin", plant)
    plant_git(project.root, plant)
    monkeypatch.chdir(project.root)
    env = {**os.environ, "PATH": f"{entry}{os.pathsep}{os.environ['PATH']}"}
    Project(project.root, env).repo().git("status", "--porcelain")
    assert not plant.ran


def test_a_project_reached_through_a_link_is_the_same_project(
    project: Project, plant: PlantedProgram
) -> None:
    alias = project.root.parent / "alias"
    alias.symlink_to(project.root)
    below(project, plant)
    for entry in (project.root / ".venv/bin", alias / ".venv/bin"):
        env = {**os.environ, "PATH": f"{entry}{os.pathsep}{os.environ['PATH']}"}
        Project(alias, env).repo().git("status", "--porcelain")
    assert not plant.ran


def test_the_main_worktree_of_a_linked_one_is_the_same_project(
    project: Project, plant: PlantedProgram
) -> None:
    linked_worktree(project, plant)
    entry = below(project, plant)
    env = {**os.environ, "PATH": f"{entry}{os.pathsep}{os.environ['PATH']}"}
    Project(project.root.parent / "linked", env).repo().git("status", "--porcelain")
    assert not plant.ran


def test_without_any_other_git_there_is_none(
    project: Project, plant: PlantedProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = below(project, plant)
    monkeypatch.setattr(os, "defpath", str(project.root.parent / "nothing"))
    env = environment({"PATH": str(planted)}, {}, project.root)
    with pytest.raises(CounselError) as refused:
        find_git(env)
    assert refused.value.code is Code.NOT_A_GIT_REPO


def test_a_home_that_is_a_repository_keeps_its_own_programs(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    project.git("init", "-q", str(tmp_path))
    own = tmp_path / ".local/bin"
    assert project_directories(project.root) == (project.root,)
    assert search_path(str(own), project_directories(project.root)) == str(own)


def test_a_loop_of_links_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    path = f"{tmp_path}/loop{os.pathsep}/usr/bin"
    assert search_path(path, [tmp_path / "project"]) == path
