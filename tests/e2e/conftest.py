"""What the tests with a real Codex share."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel import kind
from codex_counsel.codex import probe, windows
from codex_counsel.codex.probe import ProbeCache
from codex_counsel.delegate import conclude
from codex_counsel.jobs import store
from codex_counsel.prepare import reserve
from codex_counsel.services import counsel, usage
from tests.conftest import World
from tests.e2e.hub import hub

__all__ = ["hub"]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pause of a slow machine pass for a Codex that does not answer, or cut a list or a removal short."""
    monkeypatch.setattr(probe, "PROBE_SECONDS", 30)
    monkeypatch.setattr(reserve, "READ_SECONDS", 30.0)
    monkeypatch.setattr(windows, "LOCK_SECONDS", 40.0)
    monkeypatch.setattr(store, "LIST_SECONDS", 30.0)
    monkeypatch.setattr(usage, "UNNOTED_SECONDS", 30.0)
    monkeypatch.setattr(kind, "PROMPT_SECONDS", 30.0)
    monkeypatch.setattr(conclude, "PROMPT_SECONDS", 30.0)
    monkeypatch.setattr(counsel, "SWEEP_SECONDS", 30.0)


@pytest.fixture
def probes(tmp_path: Path) -> ProbeCache:
    """An empty cache."""
    return ProbeCache(tmp_path / "cache" / "probes.json")


@pytest.fixture
def workspace(world: World) -> Path:
    """The world's workspace as a repository with uncommitted work of each kind."""
    return world.repository.begin_with_work().root
