"""The nodes of a cluster as a client sees them: which there are, which are away, and what a person should know of them.

A node is named by its id (see `tickets`). Its Dask workers come and go, each time at another address.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field

from codex_counsel import __version__
from codex_counsel.batch.model import REQUESTS, Item
from codex_counsel.errors import CounselError
from codex_counsel.fleet import answers
from codex_counsel.fleet import node as calls
from codex_counsel.fleet.answers import WrongAnswerError
from codex_counsel.fleet.cluster import Cluster, DaskWorker, Interrupted
from codex_counsel.fleet.names import CALL_SECONDS, PROTOCOL
from codex_counsel.fleet.packing import PackedItem
from codex_counsel.fleet.tickets import TICKET
from codex_counsel.packs import archive
from codex_counsel.system.text import one_line, visible

PREFETCH = 1
"""Packs that wait at each node beside those that run there."""
MAX_SLOTS = 1_000
"""Of one node, whatever it says: the items on their way are held in memory."""
LOOK_PAUSE = 0.1
"""Seconds between two looks whether a node is back."""


@dataclass
class Node:
    """One node. `carried` are the orders that have a place there and have not ended, by their tickets.

    `away_since` is of the monotonic clock; it counts while there is no worker.
    """

    id: str
    slots: int = 0
    place: str = ""
    """Of its state directory: which kernel has it, and where."""
    workers: dict[str, DaskWorker] = field(default_factory=dict)
    carried: dict[str, Order] = field(default_factory=dict)
    foundations: set[str] = field(default_factory=set)
    is_refused: bool = False
    """Whether it gets no more items: it answered what no node may."""
    away_since: float = 0.0
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a foundation is sent."""

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"node {self.id[:8]}"

    @property
    def free(self) -> int:
        """How many more packs may be sent there."""
        if not self.workers or self.is_refused:
            return 0
        return max(0, self.slots + PREFETCH - len(self.carried))

    def worker(self) -> DaskWorker | None:
        """The Dask worker that serves it, if there is one: of several, the one that came last."""
        for worker in reversed(self.workers.values()):
            if not worker.gone.is_set():
                return worker
        return None


@dataclass
class Order:
    """An item on its way to the node that is noted as its place.

    `is_resumed`: an earlier process has sent it, so it is only asked for. `is_sent`: the
    node may know of it.
    """

    item: Item
    node: Node
    ticket: str
    packed: PackedItem | None = None
    is_resumed: bool = False
    is_sent: bool = False

    @property
    def tool(self) -> str:
        return REQUESTS[self.item.kind].tool


class Notices:
    """Sentences of one thread for another one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sentences: list[str] = []
        self._said: set[str] = set()

    def say(self, sentence: str) -> None:
        with self._lock:
            self._sentences.append(one_line(visible(sentence), 400))

    def say_once(self, sentence: str) -> None:
        """Say it, unless it was said by this method before."""
        if sentence not in self._said:
            self._said.add(sentence)
            self.say(sentence)

    def take(self) -> list[str]:
        """What was said since the last call."""
        with self._lock:
            said, self._sentences = self._sentences, []
        return said


class Nodes:
    """All nodes that are known. `known`, `get`, `add` and `remove` may be called in any thread."""

    def __init__(self, cluster: Cluster, notices: Notices) -> None:
        self.is_closing = False
        self._cluster = cluster
        self._notices = notices
        self._nodes: dict[str, Node] = {}
        self._met: set[str] = set()
        """The addresses of the workers that were asked which node they serve."""
        self._connected_since = self._looked = time.monotonic()
        """`_looked` is when the last look began that has ended."""
        self._lock = threading.RLock()

    def known(self) -> list[Node]:
        """Those that were ever there, and those where items have a place."""
        with self._lock:
            return list(self._nodes.values())

    def get(self, node_id: str) -> Node:
        """A node by its id, which may not have come yet."""
        with self._lock:
            known = self._nodes.get(node_id)
            if known is None:
                known = Node(node_id, away_since=time.monotonic())
                self._nodes[node_id] = known
            return known

    def add(self, order: Order) -> None:
        """The node carries this order from now on."""
        with self._lock:
            order.node.carried[order.ticket] = order

    def remove(self, order: Order) -> None:
        """The order has ended."""
        with self._lock:
            order.node.carried.pop(order.ticket, None)

    def carried(self, node: Node) -> list[Order]:
        with self._lock:
            return list(node.carried.values())

    # --- in the thread of the event loop

    def refuse(self, node: Node, problem: str) -> None:
        """Send nothing more to a node; what it has is still asked for."""
        node.is_refused = True
        self._notices.say_once(f"{node.label} gets no more items: {problem}")

    def note_connection(self) -> None:
        """The scheduler is there again: it may take a while until the workers are."""
        self._connected_since = time.monotonic()

    async def look(self) -> None:
        """Find out which nodes are there, and which are away."""
        begun = time.monotonic()
        await self._cluster.look()
        present = self._cluster.workers
        for node in self.known():
            self._drop_gone(node)
        new = present.keys() - self._met
        self._met &= present.keys()
        await asyncio.gather(*(self._meet(present[address]) for address in new))
        self._looked = begun

    def _drop_gone(self, node: Node) -> None:
        was_there = bool(node.workers)
        for address, worker in list(node.workers.items()):
            if worker.gone.is_set():
                del node.workers[address]
        if was_there and not node.workers:
            node.away_since = time.monotonic()
            if node.carried and not self.is_closing:
                self._notices.say(f"{node.label} is away")

    async def _meet(self, worker: DaskWorker) -> None:
        """Find out which node a new worker serves. One that does not answer is asked again at the next look."""
        self._met.add(worker.address)
        label = f"the Dask worker {worker.name or worker.address}"
        if not worker.has_resource:
            self._notices.say_once(f"{label} has no resource codex and is not used")
            return
        try:
            about = await self._cluster.call(
                worker, calls.describe, seconds=CALL_SECONDS
            )
            problem = _problem(about)
            if problem is None:
                problem = self._join(worker, about)
                self._say_version(label, about)
        except (Interrupted, WrongAnswerError, CounselError) as error:
            self._met.discard(worker.address)
            if worker.gone.is_set():
                return
            problem = str(error)
        if problem:
            self._notices.say_once(f"{label} is not used: {problem}")

    def _join(self, worker: DaskWorker, about: calls.Answer) -> str | None:
        """Have the worker serve its node; return why it cannot."""
        node, place = self.get(about["node"]), answers.text(about, "place")
        if node.workers and node.place != place:
            # After a crash of a machine the scheduler may list its earlier worker for minutes.
            self._met.discard(worker.address)
            return (
                "another machine has the same state directory, or a copy of it; give each its own by"
                " CODEX_COUNSEL_STATE_DIR"
            )
        with self._lock:
            if node.carried and not node.workers:
                self._notices.say(f"{node.label} is there")
            slots = answers.count(about, "slots")
            node.slots, node.place = min(slots, MAX_SLOTS), place
            node.workers[worker.address] = worker
            # Whoever started it anew may have mended it.
            node.is_refused = False
        return None

    def _say_version(self, label: str, about: calls.Answer) -> None:
        version = answers.text(about, "version")
        if version != __version__:
            self._notices.say_once(
                f"{label} has codex-counsel {version}, and this is {__version__}"
            )

    async def worker_of(self, node: Node, seconds: float) -> DaskWorker | None:
        """A worker of the node; None when it was away so long, counted while the scheduler is there.

        It was away as long as somebody has looked: it may have come back since.
        """
        begun = time.monotonic()
        while True:
            worker = node.worker()
            if worker:
                return worker
            away_since = max(node.away_since, self._connected_since, begun)
            is_overdue = self._looked - away_since > seconds
            if self._cluster.is_connected and is_overdue:
                return None
            await asyncio.sleep(LOOK_PAUSE)


def _problem(about: calls.Answer) -> str | None:
    """Why a worker that describes itself so cannot be used. Raises WrongAnswerError."""
    if (about.get("protocol"), about.get("format")) != (PROTOCOL, archive.FORMAT):
        version = answers.text(about, "version")
        return f"it has codex-counsel {version}, which is another release"
    if answers.count(about, "slots") < 1:
        return "its resource codex is below 1"
    if not TICKET.fullmatch(answers.text(about, "node")):
        return "it does not say which node it is"
    return None
