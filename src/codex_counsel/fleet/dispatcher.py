"""The event loop of a client of a cluster, in a thread of its own, where each order on its way is one coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, TypeVar

from codex_counsel.errors import Code, CounselError
from codex_counsel.fleet import answers
from codex_counsel.fleet import node as calls
from codex_counsel.fleet.answers import WrongAnswerError
from codex_counsel.fleet.cluster import FIRST_CONNECT_SECONDS, Cluster, Interrupted
from codex_counsel.fleet.delivery import Arrived, Delivery
from codex_counsel.fleet.names import CALL_SECONDS
from codex_counsel.fleet.nodes import Node, Nodes, Notices, Order

START_SECONDS = 20.0
"""In which the first nodes are awaited."""
LOOK_PAUSE = 1.0
WISH_PAUSE = 0.2
"""Between two looks whether somebody still wants the connection."""
CANCEL_SECONDS = 15.0
"""In which a node must be there for a cancel."""
CANCEL_WORK_SECONDS = 45.0
"""In which it must have ended its runs then."""
MAX_SURVIVORS = 100
"""Sentences that one node may say of what it could not end."""
ARRIVE_SECONDS = 15.0
"""In which the ends of these runs must have come back."""
CLOSE_SECONDS = 5.0
"""In which nodes are told at the end what was received."""

Returned = TypeVar("Returned")


class Dispatcher:
    """Methods without an underscore are for the caller's thread.

    `arrivals` gets each order that was sent, once. `lost_after` are the seconds that a
    node may be away.
    """

    def __init__(self, cluster: Cluster, results: Path, lost_after: float) -> None:
        self.arrivals: queue.SimpleQueue[Arrived] = queue.SimpleQueue()
        self.notices = Notices()
        self.nodes = Nodes(cluster, self.notices)
        self._cluster = cluster
        self._delivery = Delivery(cluster, self.nodes, results, lost_after)
        self._tasks: set[asyncio.Task[None]] = set()
        self._carriers: dict[str, asyncio.Task[None]] = {}
        self._confirming: set[asyncio.Task[None]] = set()
        self._to_confirm: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fleet", daemon=True
        )

    def begin(self, is_wanted: Callable[[], bool]) -> None:
        """Connect, and wait a while for a first node. Raises `cluster_failed`, and `cancelled` if not wanted."""
        self._thread.start()
        beginning = self._call(self._begin())
        while not beginning.done():
            if not is_wanted():
                beginning.cancel()
                raise CounselError(
                    Code.CANCELLED,
                    "Interrupted before the cluster was reached; nothing was sent, and what its nodes run goes on",
                )
            wait([beginning], timeout=WISH_PAUSE)
        beginning.result()

    def send(self, order: Order) -> None:
        """Have an order on its way; it will arrive."""
        self.nodes.add(order)
        self._loop.call_soon_threadsafe(self._carry, order)

    def confirm(self, order: Order) -> None:
        """The result of an order is stored here: have its node told."""
        self._to_confirm.put(order)

    def cancel(self) -> list[str]:
        """End the runs of all orders that are on their way; a sentence for each node that did not answer.

        The orders of the others have arrived when this returns.
        """
        self.nodes.is_closing = True
        return self._call(self._cancel()).result()

    def end(self) -> None:
        """Let go of everything. Runs go on."""
        self.nodes.is_closing = True
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self._call(self._end()).result(2 * CALL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Returned]) -> Future[Returned]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # --- in the thread of the event loop

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _begin(self) -> None:
        await self._cluster.connect(FIRST_CONNECT_SECONDS)
        self.nodes.note_connection()
        deadline = time.monotonic() + START_SECONDS
        await self.nodes.look()
        while not self._has_node() and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            await self.nodes.look()
        if not self._has_node():
            self.notices.say("no node is there yet: the batch waits for one")
        self._spawn(self._watch())

    def _has_node(self) -> bool:
        return any(node.workers for node in self.nodes.known())

    async def _watch(self) -> None:
        """Keep the list of nodes up to date, and the connection alive, for as long as it takes."""
        while True:
            await asyncio.sleep(LOOK_PAUSE)
            await self.nodes.look()
            if self._cluster.is_connected:
                self._confirm_waiting()
            else:
                await self._reconnect()

    async def _reconnect(self) -> None:
        self.notices.say("the Dask scheduler is gone: the batch waits for it")
        while not self._cluster.is_connected:
            with contextlib.suppress(CounselError):
                await self._cluster.connect()
            await asyncio.sleep(LOOK_PAUSE)
        self.nodes.note_connection()
        self.notices.say("the Dask scheduler is there again")

    def _carry(self, order: Order) -> None:
        carrier = self._spawn(self._deliver(order))
        self._carriers[order.ticket] = carrier
        carrier.add_done_callback(lambda _: self._carriers.pop(order.ticket))

    async def _deliver(self, order: Order) -> None:
        self.arrivals.put(await self._delivery.deliver(order))

    # --- afterwards

    def _confirm_waiting(self) -> None:
        waiting: dict[str, list[Order]] = {}
        with contextlib.suppress(queue.Empty):
            while True:
                order = self._to_confirm.get_nowait()
                waiting.setdefault(order.node.id, []).append(order)
        for orders in waiting.values():
            task = self._spawn(self._confirm(orders[0].node, orders))
            self._confirming.add(task)
            task.add_done_callback(self._confirming.discard)

    async def _confirm(self, node: Node, orders: list[Order]) -> None:
        """Tell a node. One that is away keeps its records somewhat longer."""
        worker = node.worker()
        if worker:
            with contextlib.suppress(Interrupted, CounselError, WrongAnswerError):
                await self._cluster.call(
                    worker, calls.received, _tickets(orders), seconds=CALL_SECONDS
                )

    async def _cancel(self) -> list[str]:
        nodes = [node for node in self.nodes.known() if node.carried]
        answers = await asyncio.gather(*map(self._cancel_at, nodes))
        return [sentence for sentences in answers for sentence in sentences]

    async def _cancel_at(self, node: Node) -> list[str]:
        """End all runs of a node; a sentence for each thing that did not end, or for the node."""
        orders = self.nodes.carried(node)
        deadline = time.monotonic() + CANCEL_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                worker = await asyncio.wait_for(self.nodes.worker_of(node, left), left)
            except TimeoutError:
                break
            if worker is None:
                break
            try:
                answer = await self._cluster.call(
                    worker,
                    calls.cancel,
                    _tickets(orders),
                    seconds=CANCEL_WORK_SECONDS,
                )
                survivors = answers.texts(answer, "survivors", MAX_SURVIVORS)
            except Interrupted:
                # The next worker of the node is not there yet.
                await asyncio.sleep(LOOK_PAUSE)
                continue
            except CounselError as error:
                return [f"{node.label}: {error.message}"]
            except WrongAnswerError as error:
                return [f"{node.label}: {error}"]
            await self._arrivals_of(orders)
            return [f"{node.label}: {problem}" for problem in survivors]
        sent = sum(order.is_sent for order in orders)
        if not sent:
            return []
        return [f"{node.label} did not answer: {sent} runs may go on there"]

    async def _arrivals_of(self, orders: list[Order]) -> None:
        """Wait for the ends of runs that were ended."""
        carriers = [self._carriers.get(order.ticket) for order in orders]
        waiting = [carrier for carrier in carriers if carrier]
        if waiting:
            await asyncio.wait(waiting, timeout=ARRIVE_SECONDS)

    async def _end(self) -> None:
        self._confirm_waiting()
        if self._confirming:
            await asyncio.wait(self._confirming, timeout=CLOSE_SECONDS)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._cluster.close()


def _tickets(orders: list[Order]) -> list[tuple[str, str]]:
    """As the calls of a node name runs: each a ticket and its tool."""
    return [(order.ticket, order.tool) for order in orders]
