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
class Ground:
    """A repository of a test."""

    root: Path

    def git(self, *args: str, given: bytes | None = None, env: Mapping[str, str] | None = None) -> str:
        whole = {**os.environ, **(env or {})}
        done = subprocess.run(["git", *args], cwd=self.root, input=given, env=whole, check=True, capture_output=True)
        return done.stdout.decode(errors="surrogateescape").strip()

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
def empty(tmp_path: Path) -> Ground:
    """A repository before its first commit."""
    root = tmp_path / "repo"
    root.mkdir()
    ground = Ground(root)
    ground.git("init", "--quiet")
    return ground


@pytest.fixture
def ground(empty: Ground) -> Ground:
    """One commit with two files."""
    empty.write("app.py", "".join(f"line {n}\n" for n in range(1, 21)))
    empty.write("docs/readme.md", "# Title\n")
    empty.commit("begin")
    return empty


@dataclass(frozen=True)
class Plant:
    """A program that leaves a mark when anybody runs it."""

    program: Path
    mark: Path

    @property
    def sprang(self) -> bool:
        return self.mark.exists()


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    program, mark = tmp_path / "planted", tmp_path / "sprang"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{mark}'\ncat 2>/dev/null\n", encoding="utf-8")
    program.chmod(0o755)
    return Plant(program, mark)
