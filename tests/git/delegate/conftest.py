"""A repository, a shadow of it, and what a run could do in there, without a Codex."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from codex_counsel.delegate import seed
from codex_counsel.delegate.capture import Capture, capture_tree
from codex_counsel.delegate.conclude import make_result
from codex_counsel.delegate.record import DelegateResult
from codex_counsel.delegate.seed import SeedPlan
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.git.repo import Repo
from tests.git.delegate.states import files, state


@dataclass
class UserRepository:
    """A user's repository and the shadows that were made of it."""

    base: Path
    root: Path
    shadows: list[Shadow] = field(default_factory=list)

    def git(
        self, *args: str | bytes, cwd: Path | None = None, stdin: bytes | None = None
    ) -> str:
        process = subprocess.run(
            ["git", *args],
            cwd=cwd or self.root,
            input=stdin,
            check=True,
            capture_output=True,
        )
        return process.stdout.decode(errors="surrogateescape").strip()

    def write(
        self, name: str | bytes, content: str | bytes = "text\n", mode: int = 0o644
    ) -> Path:
        path = self.root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    def commit(self, message: str = "change") -> str:
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def seed(self, below: str = ".") -> Seeded:
        """Make a shadow and fill it; the repository must be the same, byte for byte, before and after."""
        before = state(self.root)
        repo = Repo.open(self.root / below, 60, env=os.environ)
        plan = seed.survey(repo)
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
        return capture_tree(self.shadow, self.base, self.store, limit)

    def work(self, command: str = "true", limit: int = 200_000) -> DelegateResult:
        """Run the command and return the result that the job's record would contain."""
        self.run(command)
        begun = {
            "head": self.plan.head,
            "omitted": [list(item) for item in self.plan.omitted],
        }
        return make_result(begun, self.capture(limit), limit)


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
        "utf-8",
    )
    return settings


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[UserRepository]:
    """A repository before its first commit."""
    root = tmp_path / "repo"
    root.mkdir()
    place = UserRepository(tmp_path, root)
    place.git("init", "--quiet")
    yield place
    for shadow in place.shadows:
        shadow.remove()
        assert not shadow.base.exists()


@pytest.fixture
def place(empty: UserRepository) -> UserRepository:
    """One commit with a few files."""
    empty.write("app.py", "".join(f"line {n}\n" for n in range(1, 21)))
    empty.write("docs/readme.md", "# Title\n")
    empty.write("run.sh", "#!/bin/sh\n", 0o755)
    empty.write("logo.png", bytes(range(256)) * 4)
    empty.write(".gitignore", "*.log\nbuild/\n")
    (empty.root / "latest").symlink_to("docs/readme.md")
    empty.commit("begin")
    return empty
