"""A client with a repository, a cluster without nodes, and a scripted model that all nodes ask."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.loopback import Loopback, Reply, Request, Script, say
from tests.conftest import World, living, until
from tests.e2e.batch.runs import batch, number_of, started
from tests.e2e.fleet.nodes import DaskCluster, Node


def answer(request: Request) -> Reply:
    return say(f"It is {number_of(request)}.")


@dataclass
class Fleet:
    """`client` is the machine where batches are begun; it has no model."""

    client: World
    dask: DaskCluster
    models: list[Loopback] = field(default_factory=list)

    @property
    def directory(self) -> Path:
        """Where the batch of a test is kept."""
        return self.client.base / "batch"

    def model(self, script: Script = answer) -> Loopback:
        """Start the model of the nodes that are added from now on."""
        server = Loopback(script)
        self.models.append(server.__enter__())
        return server

    def add_node(self, name: str, slots: int = 2, **keys: Any) -> Node:
        node = self.dask.add_node(name, slots, **keys)
        node.world.configure(self.models[-1].config_toml())
        return node

    def batch(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a new batch on the cluster to its end."""
        return batch(self.client, *self._new(arguments))

    def started(
        self, *arguments: str | Path, before: str = ""
    ) -> AbstractContextManager[subprocess.Popen[str]]:
        """Start a new batch on the cluster; `before` is what its Python runs first."""
        return started(self.client, *self._new(arguments), before=before)

    def resume(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return batch(self.client, "--resume", self.directory, *arguments)

    def _new(self, arguments: tuple[str | Path, ...]) -> list[str | Path]:
        own = ("--cluster", self.dask.address, "--output-dir", self.directory)
        return [*arguments, *own]


@pytest.fixture
def fleet(world: World) -> Iterator[Fleet]:
    """Nothing of it runs after the test."""
    client = World(world.base / "client")
    client.repository.begin_with_work()
    with DaskCluster(world.base / "dask") as dask:
        fleet = Fleet(client, dask)
        yield fleet
        for server in fleet.models:
            server.__exit__(None, None, None)
    until(lambda: not living(str(world.base)), 100)
