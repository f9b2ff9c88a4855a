"""Every test of the command line runs as inside Claude Code: CLAUDE_PROJECT_DIR names another repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_counsel.services.counsel import Counsel
from tests.conftest import World
from tests.git.delegate.states import state


class WorldInClaudeCode(World):
    """A world whose processes are told of another project, which they must neither read nor change."""

    @property
    def project(self) -> Path:
        """The project that the variable names."""
        return self.base / "project"

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "CLAUDE_PROJECT_DIR": str(self.project)}

    def counsel(self, **env: str) -> Counsel:
        """As the command line has it."""
        return super().counsel(CLAUDE_PROJECT_DIR="", **env)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The world; at the end of the test the other project must be as it was."""
    world = WorldInClaudeCode(tmp_path)
    project = world.repository_at(world.project).begin_with_work()
    # A file of the demo's sample, which is changed there.
    project.write("shop.py", "FREE_FROM = 100.00\n")
    before = state(world.project)
    yield world
    assert state(world.project) == before
