"""What the tests with a real Codex share."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.codex.probe import ProbeCache


@pytest.fixture
def probes(tmp_path: Path) -> ProbeCache:
    """An empty cache."""
    return ProbeCache(tmp_path / "cache" / "probes.json")
