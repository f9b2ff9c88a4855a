"""What the tests with a real Codex share."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.codex.probe import ProbeCache
from tests.conftest import World
from tests.e2e.hub import hub

__all__ = ["hub"]


@pytest.fixture
def probes(tmp_path: Path) -> ProbeCache:
    """An empty cache."""
    return ProbeCache(tmp_path / "cache" / "probes.json")


@pytest.fixture
def workspace(world: World) -> Path:
    """The world's workspace as a repository with uncommitted work of each kind."""
    return world.repository.begin_with_work().root
