"""A sender with a pack and a receiver that runs it; and two machines, with each release of Codex at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_counsel.contract.request import Consult
from codex_counsel.prepare.context import Context
from tests.conftest import BUNDLED, World
from tests.e2e.packs.machines import Machines
from tests.foundations import draft
from tests.packs import QUESTION, DraftPack
from tests.repositories import Repository


@pytest.fixture
def sender(world: World) -> Repository:
    """The sender's repository, with uncommitted work of every kind."""
    return world.repository_at(world.base / "sender").begin_with_work()


@pytest.fixture
def pack(world: World, sender: Repository) -> Path:
    """The file of a question."""
    made = DraftPack(Consult, QUESTION, draft(sender), world.base)
    return made.write(world.base / "x.pack")


@pytest.fixture
def result(world: World) -> Path:
    """Where the result is written."""
    return world.base / "x.result"


@pytest.fixture
def context(world: World) -> Context:
    """Of the receiver."""
    return Context.of(world.env, world.workspace)


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
