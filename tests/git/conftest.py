"""Repositories to try things in, with a git that knows nothing of the developer's own settings."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from codex_counsel.git.repo import Repo
from codex_counsel.review.changes.changes import Changes, gather
from codex_counsel.review.changes.model import Scope

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BUDGET = 100_000


@dataclass(frozen=True)
class Project:
    """A repository of a test."""

    root: Path

    def git(
        self,
        *args: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> str:
        full_env = {**os.environ, **(env or {})}
        result = subprocess.run(
            ["git", *args],
            cwd=self.root,
            input=stdin,
            env=full_env,
            check=True,
            capture_output=True,
        )
        return result.stdout.decode(errors="surrogateescape").strip()

    def write(self, name: str | bytes, content: str | bytes = "text\n") -> Path:
        path = self.root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def commit(self, message: str = "change") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def repo(self, below: str = ".", timeout: float = 60) -> Repo:
        return Repo.open(self.root / below, timeout, env=os.environ)

    def gather(self, scope: Scope | None = None, budget: int = BUDGET) -> Changes:
        return gather(self.repo(), scope or Scope(), budget)


@pytest.fixture(autouse=True)
def own_git_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of the test's own; the file of global settings in it."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    settings = home / ".gitconfig"
    settings.write_text(
        '[user]\n name = A\n email = a@b\n[init]\n defaultBranch = main\n[protocol "file"]\n allow = always\n',
        encoding="utf-8",
    )
    return settings


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """A repository before its first commit."""
    root = tmp_path / "repo"
    root.mkdir()
    project = Project(root)
    project.git("init", "--quiet")
    return project


@pytest.fixture
def project(empty: Project) -> Project:
    """One commit with two files."""
    empty.write("app.py", "".join(f"line {n}\n" for n in range(1, 21)))
    empty.write("docs/readme.md", "# Title\n")
    empty.commit("begin")
    return empty


@dataclass(frozen=True)
class PlantedProgram:
    """A program that leaves a mark when anybody runs it."""

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
