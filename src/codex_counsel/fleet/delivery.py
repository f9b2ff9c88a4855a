"""One order on its way: sent to its node, asked for until it is answered, and its result fetched."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.fleet import node as calls
from codex_counsel.fleet.cluster import Cluster, DaskWorker, Interrupted, error_from
from codex_counsel.fleet.nodes import Node, Nodes, Order
from codex_counsel.fleet.transfer import Transfer

RETRY_PAUSE = 0.2
UNSENT_SECONDS = 10.0
"""That a node may be away before an item that it knows nothing of is placed elsewhere: a nanny takes some 2 s."""


@dataclass(frozen=True)
class Arrived:
    """How an order ended: with a result file, with an error, or (neither) as one that its node knows nothing of."""

    order: Order
    result: Path | None = None
    error: CounselError | None = None
    is_settled: bool = False
    """Whether no run of the order exists or will: then its place is forgotten."""


class Delivery:
    """Delivers orders, each in a coroutine of its own."""

    def __init__(
        self, cluster: Cluster, nodes: Nodes, results: Path, lost_after: float
    ) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._transfer = Transfer(cluster, results)
        self._lost_after = lost_after
        # The scheduler may still have the tasks of an earlier process.
        self._process = secrets.token_hex(4)

    async def deliver(self, order: Order) -> Arrived:
        """Until its node has answered, or was away for too long. Never raises an Exception: an order must arrive."""
        try:
            return await self._deliver(order)
        except CounselError as error:
            return Arrived(order, error=error, is_settled=not order.is_sent)
        except OSError as error:
            problem = error_of(
                Code.STORAGE_FAILED, "What an item needs cannot be sent", error
            )
            return Arrived(order, error=problem, is_settled=not order.is_sent)
        except Exception as error:  # noqa: BLE001  # as the docstring says
            text = f"The client failed: {type(error).__name__}: {error}"
            problem = CounselError(Code.CLUSTER_FAILED, text)
            return Arrived(order, error=problem, is_settled=not order.is_sent)

    async def _deliver(self, order: Order) -> Arrived:
        number = 0
        while True:
            if self._nodes.is_closing and not order.is_sent:
                return Arrived(order)
            worker = await self._worker_for(order)
            if worker is None:
                return self._without_node(order)
            number += 1
            try:
                arrived = await self._try(order, worker, number)
            except Interrupted:
                arrived = None
            if arrived:
                return arrived
            await asyncio.sleep(RETRY_PAUSE)

    async def _worker_for(self, order: Order) -> DaskWorker | None:
        seconds = self._lost_after
        if not order.is_sent:
            seconds = min(seconds, UNSENT_SECONDS)
        return await self._nodes.worker_of(order.node, seconds)

    def _without_node(self, order: Order) -> Arrived:
        """What becomes of an order whose node was away for too long."""
        if not order.is_sent:
            return Arrived(order)
        return Arrived(order, error=_lost(order.node, self._lost_after))

    async def _try(
        self, order: Order, worker: DaskWorker, number: int
    ) -> Arrived | None:
        """Have one worker run it, or wait for its run; None where that is to be tried again. Raises Interrupted."""
        arguments = await self._transfer.arguments(order, worker)
        if self._nodes.is_closing and not order.is_sent:
            return None
        order.is_sent = True
        key = f"codex-counsel-{order.ticket}-{self._process}-{number}"
        try:
            answer = await self._cluster.task(worker, key, calls.run, *arguments)
            if answer["is"] == "ended":
                path = await self._transfer.fetch(order, worker, answer)
                return Arrived(order, result=path)
        except Interrupted:
            # Whether the pack has reached the node is not known here, but there.
            order.packed = None
            raise
        if answer["is"] == "missing":
            order.is_sent = order.packed is None
            order.node.foundations.clear()
            return None
        return _arrived(order, answer)


def _arrived(order: Order, answer: dict[str, Any]) -> Arrived | None:
    """The end that an answer of `run` tells; None where it tells none."""
    match answer["is"]:
        case "unknown":
            return Arrived(order)
        case "failed":
            error = error_from(answer.get("error"))
            return Arrived(order, error=error, is_settled=True)
        case "busy":
            return None
        case _:
            return Arrived(order, error=_unreadable(order.node, answer))


def _lost(node: Node, seconds: float) -> CounselError:
    return CounselError(
        Code.WORKER_LOST,
        f"Node {node.id} was away for {seconds:.0f} s: whether it has run this item, nobody knows",
        details={"node": node.id},
    )


def _unreadable(node: Node, answer: dict[str, Any]) -> CounselError:
    """Of a run that its node cannot give the result of: it is not started anew, and asked for again by a resume."""
    error = error_from(answer.get("error"))
    return CounselError(
        Code.WORKER_LOST,
        f"Node {node.id} cannot give the result of this item: {error.message}",
        details={"node": node.id, "code": str(error.code)},
    )
