"""The connection to a cluster, where it is lost at the worst moment."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from codex_counsel import __version__
from codex_counsel.fleet import node as calls
from codex_counsel.fleet.cluster import Cluster, DaskWorker, Interrupted
from codex_counsel.fleet.delivery import Arrived, Delivery
from codex_counsel.fleet.names import PROTOCOL
from codex_counsel.fleet.nodes import Node, Nodes, Notices, Order
from codex_counsel.fleet.packing import PackedItem
from codex_counsel.packs import archive
from tests.unit.batches import item


def lost_cluster() -> tuple[Cluster, DaskWorker]:
    """One that is connected to nothing, and a worker that it had."""
    cluster = Cluster("tcp://127.0.0.1:9")
    return cluster, DaskWorker("tcp://127.0.0.1:10", "one", has_resource=True)


def test_what_is_asked_while_a_lost_connection_is_made_anew_is_interrupted() -> None:
    async def run() -> None:
        cluster, worker = lost_cluster()
        with pytest.raises(Interrupted):
            await cluster.call(worker, calls.describe, seconds=1)
        with pytest.raises(Interrupted):
            await cluster.task(worker, "key", calls.run)

    asyncio.run(run())


def test_an_order_that_waits_while_the_connection_is_lost_is_no_failure(
    tmp_path: Path,
) -> None:
    """It waits until another one has sent the repository that both need."""

    async def run() -> Arrived:
        cluster, worker = lost_cluster()
        nodes = Nodes(cluster, Notices())
        node = Node("a" * 32, slots=1, workers={worker.address: worker})
        packed = PackedItem(b"", "0" * 64, tmp_path / "foundation.tar")
        order = Order(item("one"), node, "b" * 32, packed)
        delivery = Delivery(cluster, nodes, tmp_path, lost_after=60)
        await node.sending.acquire()
        delivering = asyncio.create_task(delivery.deliver(order))
        await asyncio.sleep(0)
        worker.gone.set()
        # Else it would wait for the node without end.
        nodes.is_closing = True
        node.sending.release()
        return await delivering

    arrived = asyncio.run(run())
    assert (arrived.error, arrived.result, arrived.order.is_sent) == (None, None, False)


class Clock:
    """Stands for the module `time`: the time that passes is that of the test."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


class FoundCluster(Cluster):
    """It has one worker, whose node says what it is."""

    is_connected = True

    async def look(self) -> None:
        self.workers = {"one": DaskWorker("one", "one", has_resource=True)}

    async def call(self, *_: object, seconds: float) -> dict[str, Any]:
        del seconds
        return {
            "node": "a" * 32,
            "place": "here",
            "version": __version__,
            "protocol": PROTOCOL,
            "format": archive.FORMAT,
            "slots": 1,
        }


async def find_none(_: Cluster) -> None:
    """In place of `FoundCluster.look`."""


@pytest.mark.parametrize("is_back", [True, False])
def test_a_node_that_is_back_is_not_lost_after_a_time_in_which_nobody_looked(
    monkeypatch: pytest.MonkeyPatch, *, is_back: bool
) -> None:
    """As after a time in which the machine of the client stood still."""
    clock = Clock()
    monkeypatch.setattr("codex_counsel.fleet.nodes.time", clock)
    monkeypatch.setattr("codex_counsel.fleet.nodes.LOOK_PAUSE", 0)

    async def run() -> DaskWorker | None:
        cluster = FoundCluster("tcp://127.0.0.1:9")
        nodes = Nodes(cluster, Notices())
        node = nodes.get("a" * 32)
        waiting = asyncio.create_task(nodes.worker_of(node, 120))
        await asyncio.sleep(0)
        clock.now += 300
        for _ in range(5):
            await asyncio.sleep(0)
        if not is_back:
            monkeypatch.setattr(FoundCluster, "look", find_none)
        await nodes.look()
        return await waiting

    assert bool(asyncio.run(run())) == is_back
