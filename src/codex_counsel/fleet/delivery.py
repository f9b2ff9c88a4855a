"""One order on its way: sent to its node, asked for until it is answered, and its result fetched."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.fleet import node as calls
from codex_counsel.fleet.answers import Answer, WrongAnswerError, error_from
from codex_counsel.fleet.cluster import Cluster, DaskWorker, Interrupted
from codex_counsel.fleet.nodes import Node, Nodes, Order
from codex_counsel.fleet.transfer import Transfer

RETRY_PAUSE = 0.2
LONGEST_PAUSE = 5.0
MAX_TRIES = 25
"""So often in a row a worker that is there may fail to do what it is asked: with all pauses, some minutes."""
MAX_MISSING = 5
"""So often in a row a node may say that it has not got what was sent there."""
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
        except WrongAnswerError as error:
            # An item that was not sent is placed elsewhere.
            self._nodes.refuse(order.node, str(error))
            lost = _unreadable(order.node, str(error)) if order.is_sent else None
            return Arrived(order, error=lost)
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
        number = failures = missing = 0
        asked: DaskWorker | None = None
        while True:
            if self._nodes.is_closing and not order.is_sent:
                return Arrived(order)
            worker = await self._worker_for(order)
            if worker is None:
                return self._without_node(order)
            if worker is not asked:
                asked, failures = worker, 0
            number += 1
            try:
                answer = await self._try(order, worker, number)
                if isinstance(answer, Arrived):
                    return answer
                failures = 0
            except Interrupted as problem:
                answer = None
                failures += 1
                if failures >= MAX_TRIES:
                    raise WrongAnswerError(str(problem)) from None
            is_missing = answer is not None and answer["is"] == "missing"
            missing = missing + 1 if is_missing else 0
            if missing >= MAX_MISSING:
                self._ask_only(order, missing)
            await asyncio.sleep(min(RETRY_PAUSE * (failures + 1), LONGEST_PAUSE))

    def _ask_only(self, order: Order, missing: int) -> None:
        """Have the node say that it knows nothing of the order, before it is placed elsewhere."""
        if missing > MAX_MISSING:
            raise WrongAnswerError("it misses what it was not sent")
        order.packed = None
        order.is_sent = True

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
    ) -> Arrived | Answer | None:
        """Have one worker run it, or wait for its run. Anything but an arrival is to be tried again.

        Raises Interrupted, WrongAnswerError and the CounselError of a call.
        """
        arguments = await self._transfer.arguments(order, worker)
        if self._nodes.is_closing and not order.is_sent:
            return None
        order.is_sent = True
        key = f"codex-counsel-{order.ticket}-{self._process}-{number}"
        try:
            answer = await self._cluster.task(worker, key, calls.run, *arguments)
            if answer.get("is") == "ended":
                path = await self._transfer.fetch(order, worker, answer)
                return Arrived(order, result=path)
        except Interrupted:
            # Whether the pack has reached the node is not known here, but there.
            order.packed = None
            raise
        if answer.get("is") == "missing":
            order.is_sent = order.packed is None
            order.node.foundations.clear()
            return answer
        return _arrived(order, answer) or answer


def _arrived(order: Order, answer: Answer) -> Arrived | None:
    """The end that an answer of `run` tells; None where it tells none. Raises WrongAnswerError."""
    match answer.get("is"):
        case "unknown":
            return Arrived(order)
        case "failed":
            error = error_from(answer.get("error"))
            return Arrived(order, error=error, is_settled=True)
        case "busy":
            return None
        case "broken":
            message = error_from(answer.get("error")).message
            return Arrived(order, error=_unreadable(order.node, message))
        case _:
            raise WrongAnswerError("it does not say how a run ended")


def _lost(node: Node, seconds: float) -> CounselError:
    return CounselError(
        Code.WORKER_LOST,
        f"Node {node.id} was away for {seconds:.0f} s: whether it has run this item, nobody knows",
        details={"node": node.id},
    )


def _unreadable(node: Node, problem: str) -> CounselError:
    """Of a run that its node cannot give the result of: it is not started anew, and asked for again by a resume."""
    return CounselError(
        Code.WORKER_LOST,
        f"Node {node.id} cannot give the result of this item: {problem}",
        details={"node": node.id},
    )
