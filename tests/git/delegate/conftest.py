"""A repository, a shadow of it, and what a run could do in there, without a Codex."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codex_counsel.delegate import seed
from codex_counsel.delegate.capture import Capture, capture_tree
from codex_counsel.delegate.conclude import MAX_READABLE, make_result
from codex_counsel.delegate.record import DelegateResult
from codex_counsel.delegate.seed import SeedPlan
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.git.repo import Repo
from tests.git.delegate.states import files, state
from tests.repositories import Repository


@dataclass(frozen=True)
class UserRepository(Repository):
    """A user's repository and the shadows that were made of it."""

    shadows: list[Shadow] = field(default_factory=list)

    @property
    def base(self) -> Path:
        """The directory in which the repository, its shadows and the jobs are."""
        return self.root.parent

    def beside(self, name: str) -> UserRepository:
        """A clone or worktree next to this one, its shadows removed together with those of this one."""
        return UserRepository(self.base / name, shadows=self.shadows)

    def seed(self, below: str = ".") -> Seeded:
        """Make a shadow and fill it; the repository must be the same, byte for byte, before and after."""
        before = state(self.root)
        repo = self.repo(below)
        plan = seed.plan_seed(repo, ())
        shadow = Shadow.create(
            repo, self.base / f"shadow-{len(self.shadows)}", plan.head
        )
        self.shadows.append(shadow)
        tree = seed.populate(repo, plan, shadow)
        assert state(self.root) == before
        return Seeded(repo, plan, shadow, tree, self.base / f"job-{len(self.shadows)}")


@dataclass
class Seeded:
    repo: Repo
    plan: SeedPlan
    shadow: Shadow
    base: str
    store: Path

    @property
    def files(self) -> dict[bytes, tuple[str, bytes]]:
        return files(self.shadow.tree)

    @property
    def omitted(self) -> dict[str, str]:
        return dict(self.plan.omitted)

    def run(self, command: str) -> None:
        """Run a shell command in the shadow, as a model might."""
        subprocess.run(
            ["bash", "-euc", command],
            cwd=self.shadow.tree,
            check=True,
            capture_output=True,
        )

    def capture(self, limit: int = 200_000) -> Capture:
        self.store.mkdir(exist_ok=True)
        preview_limit = max(limit, MAX_READABLE)
        return capture_tree(self.shadow, self.base, self.store, preview_limit)

    def work(self, command: str = "true", limit: int = 200_000) -> DelegateResult:
        """Run the command and return the result that the job's record would contain."""
        self.run(command)
        details = {
            "head": self.plan.head,
            "omitted": [list(item) for item in self.plan.omitted],
            "submodules": [name.decode("latin-1") for name in self.plan.submodules],
        }
        return make_result(details, self.capture(limit), limit)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[UserRepository]:
    """A repository before its first commit."""
    repository = UserRepository(tmp_path / "repo").init()
    yield repository
    for shadow in repository.shadows:
        shadow.remove()
        assert not shadow.base.exists()


@pytest.fixture
def repository(empty: UserRepository) -> UserRepository:
    """One commit with a few files."""
    empty.write("app.py", "".join(f"line {n}\n" for n in range(1, 21)))
    empty.write("docs/readme.md", "# Title\n")
    empty.write("run.sh", "#!/bin/sh\n", 0o755)
    empty.write("logo.png", bytes(range(256)) * 4)
    empty.write(".gitignore", "*.log\nbuild/\n")
    (empty.root / "latest").symlink_to("docs/readme.md")
    empty.commit("begin")
    return empty
