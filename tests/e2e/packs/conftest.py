"""Two machines for each test, with each release of Codex at hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import BUNDLED, World
from tests.e2e.packs.machines import Machines


@pytest.fixture
def machines(world: World) -> Iterator[Machines]:
    pair = Machines.of(world.base, BUNDLED)
    yield pair
    pair.close()


@pytest.fixture
def each_machines(each_release: World) -> Iterator[Machines]:
    """`machines`, once for each release."""
    pair = Machines.of(each_release.base, each_release.binary)
    yield pair
    pair.close()
