"""Repositories of which changes are collected, and a program that must not be run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from codex_counsel.review.changes.changes import Changes, gather
from codex_counsel.review.changes.model import Scope
from tests.repositories import Repository

if TYPE_CHECKING:
    from pathlib import Path

BUDGET = 100_000


@dataclass(frozen=True)
class Project(Repository):
    """A repository of which changes are collected."""

    def gather(self, scope: Scope | None = None, budget: int = BUDGET) -> Changes:
        return gather(self.repo(), scope or Scope(), budget)


@pytest.fixture(autouse=True)
def only_own_git_settings(own_git_settings: Path) -> None:
    """Every test of this directory has git settings of its own."""


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A repository before its first commit."""
    return Project(tmp_path / "repo").init()


@pytest.fixture
def project(empty: Project) -> Project:
    """One commit with two files."""
    empty.write("app.py", "".join(f"line {n}\n" for n in range(1, 21)))
    empty.write("docs/readme.md", "# Title\n")
    empty.commit("begin")
    return empty


@dataclass(frozen=True)
class PlantedProgram:
    """A program that writes the file `mark` when it is run."""

    program: Path
    mark: Path

    @property
    def ran(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def plant(tmp_path: Path) -> PlantedProgram:
    program, mark = tmp_path / "planted", tmp_path / "ran"
    program.write_text(
        f"#!/bin/sh\necho \"$0 $*\" >> '{mark}'\ncat 2>/dev/null\n", encoding="utf-8"
    )
    program.chmod(0o755)
    return PlantedProgram(program, mark)
