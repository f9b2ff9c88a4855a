"""The nodes of a Dask cluster as the place where the items of a batch run.

Two threads share the work. The caller's thread packs, notes places and takes results. A thread of ours has the event
loop: there each item that is on its way is one coroutine, `Fleet._carry`, from the call that sends it to the answer.

Invariants:

- A place, `<node>/<ticket>`, is on the disk before its pack is sent, and an item has one place at a time. It gets
  another only when the node has said that it knows nothing of the ticket: from then on the node refuses it.
- What has no answer is asked for at its node. While the node is away it is waited for, `lost_after` seconds; then the
  item ends as `worker_lost`, and keeps its place: a later resume asks there again.
- A node learns that its result was received after the local job store has it.
- At most the slots of its nodes and one more for each node are on their way: no memory grows with the batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from codex_counsel.batch.model import REQUESTS, Ended, Item, Load
from codex_counsel.contract.envelope import EnvelopeDict, failed
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.fleet.cluster import (
    FIRST_CONNECT_SECONDS,
    Cluster,
    DaskWorker,
    Interrupted,
    LocalNodes,
    error_from,
)
from codex_counsel.fleet.names import INLINE, PART, PROTOCOL
from codex_counsel.fleet.packing import PackedItem, Packing
from codex_counsel.packs import archive
from codex_counsel.prepare.context import Context
from codex_counsel.services.take import take
from codex_counsel.system.files import remove_tree, write_atomically
from codex_counsel.system.text import one_line, visible

LOCAL = "local"
"""In place of an address: processes of this machine."""
LOST_AFTER = 120.0
"""Seconds that a node may be away before its items are lost."""
PREFETCH = 1
"""Packs that wait at each node beside those that run there."""
CALL_SECONDS = 30.0
"""For an answer to a call that does little."""
SEND_SECONDS = 300.0
"""For a part of a file, and for the repository that is made of a foundation."""
CANCEL_SECONDS = 15.0
"""In which a node must be there for a cancel."""
CANCEL_WORK_SECONDS = 45.0
"""In which it must have ended its runs then."""
CLOSE_SECONDS = 5.0
"""In which nodes are told at the end what was received."""
LOOK_PAUSE = 1.0
RETRY_PAUSE = 0.2
MAX_PLACES = 5
"""So often an item is placed anew by one process before it fails."""
START_SECONDS = 20.0
"""In which the first nodes are awaited."""


Returned = TypeVar("Returned")


class Places(Protocol):
    """What a pool needs of the record of a batch."""

    @property
    def directory(self) -> Path: ...
    def place_of(self, item_id: str) -> str | None: ...
    def note_place(self, item_id: str, node: str) -> None: ...
    def forget_place(self, item_id: str) -> None: ...


@dataclass
class Node:
    """One node. `carried` are the items that have a place there and have not ended, by their tickets."""

    id: str
    slots: int = 0
    boot: str = ""
    workers: dict[str, DaskWorker] = field(default_factory=dict)
    carried: dict[str, Item] = field(default_factory=dict)
    foundations: set[str] = field(default_factory=set)
    away_since: float = 0.0
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def free(self) -> int:
        """How many more packs may be sent there."""
        if not self.workers:
            return 0
        return max(0, self.slots + PREFETCH - len(self.carried))

    def worker(self) -> DaskWorker | None:
        """The Dask worker that serves it, if there is one: of several, the one that came last."""
        if not self.workers:
            return None
        return next(reversed(self.workers.values()))


@dataclass(frozen=True)
class Order:
    """An item on its way. Without `packed` it is only asked for."""

    item: Item
    node: Node
    ticket: str
    packed: PackedItem | None

    @property
    def tool(self) -> str:
        return REQUESTS[self.item.kind].tool


@dataclass(frozen=True)
class Arrived:
    """How an order ended: with a result file, with an error, or (neither) as one that its node knows nothing of."""

    order: Order
    result: Path | None = None
    error: CounselError | None = None
    is_settled: bool = False
    """Whether no run of the order exists or will: then its place is forgotten."""


class ClusterPool:
    """See `batch/model.py`. Raises `cluster_failed` where the cluster cannot be reached at the beginning.

    `address` is that of a Dask scheduler, or `local` with `slots` for runs on this machine.
    """

    def __init__(
        self,
        context: Context,
        record: Places,
        address: str,
        *,
        slots: int | None = None,
        lost_after: float = LOST_AFTER,
    ) -> None:
        self._context = context
        self._record = record
        self._packing = Packing(context, record.directory)
        self._arrivals: queue.SimpleQueue[Arrived] = queue.SimpleQueue()
        self._unplaced: deque[Item] = deque()
        self._placed_times: dict[str, int] = {}
        self._results = record.directory / "arriving"
        self._dask = record.directory / "dask"
        self._results.mkdir(mode=0o700, exist_ok=True)
        local = None
        if address == LOCAL:
            own = slots or context.settings.max_running
            local = LocalNodes(own, self._dask)
        self._fleet = Fleet(
            Cluster(address, local), self._results, self._arrivals, lost_after
        )
        try:
            self._fleet.begin()
        except BaseException:
            self._fleet.end()
            self._remove_folders()
            raise

    # --- the interface of a pool

    def load(self) -> Load:
        nodes = self._fleet.snapshot()
        running = sum(min(node.slots, len(node.carried)) for node in nodes)
        carried = sum(len(node.carried) for node in nodes)
        queued = carried - running + len(self._unplaced)
        free = sum(node.free for node in nodes) - len(self._unplaced)
        if self._fleet.is_closing:
            free = 0
        return Load(running, queued, max(0, free))

    def start(self, item: Item) -> None:
        place = self._record.place_of(item.id)
        node_id, _, ticket = (place or "").partition("/")
        if ticket:
            self._fleet.send(Order(item, self._fleet.node(node_id), ticket, None))
            return
        self._place(item)

    def _place(self, item: Item) -> None:
        """Send an item to the node with most room; without one, later."""
        nodes = [node for node in self._fleet.snapshot() if node.free]
        if not nodes:
            self._unplaced.append(item)
            return
        node = max(nodes, key=lambda node: node.free / node.slots)
        ticket = secrets.token_hex(16)
        packed = self._packing.pack(item, ticket)
        self._record.note_place(item.id, f"{node.id}/{ticket}")
        self._fleet.send(Order(item, node, ticket, packed))

    def ended(self, seconds: float) -> list[Ended]:
        ended = self._place_again()
        deadline = time.monotonic() + seconds
        while True:
            patience = 0.0
            if not ended:
                patience = max(0.0, deadline - time.monotonic())
            try:
                arrived = self._arrivals.get(timeout=patience)
            except queue.Empty:
                return ended
            ended += self._end(arrived)

    def _place_again(self) -> list[Ended]:
        """Send the items that no node has; return those for which that fails."""
        ended: list[Ended] = []
        for _ in range(len(self._unplaced)):
            item = self._unplaced.popleft()
            try:
                self._place(item)
            except CounselError as error:
                ended.append(Ended(item, _failed(item, error)))
        return ended

    def _end(self, arrived: Arrived) -> list[Ended]:
        order, item = arrived.order, arrived.order.item
        if arrived.result:
            envelope = self._take(arrived)
            self._fleet.confirm(order)
            return [Ended(item, envelope)]

        self._fleet.forget(order)
        if arrived.is_settled or arrived.error is None:
            self._record.forget_place(item.id)
        if arrived.error:
            return [Ended(item, _failed(item, arrived.error))]
        if self._fleet.is_closing:
            return []

        times = self._placed_times.get(item.id, 1)
        if times >= MAX_PLACES:
            error = CounselError(
                Code.CLUSTER_FAILED,
                f"The Dask workers that were to start this item ended {times} times",
            )
            return [Ended(item, _failed(item, error))]
        self._placed_times[item.id] = times + 1
        self._unplaced.append(item)
        return self._place_again()

    def _take(self, arrived: Arrived) -> EnvelopeDict:
        """The envelope of a result that is now in the job store. Raises `storage_failed`: it is fetched again then."""
        item, path = arrived.order.item, arrived.result
        assert path  # noqa: S101  # the caller has looked
        try:
            envelope = take(
                self._context, path, workspace_root=str(item.root), key=item.key
            )
        except CounselError as error:
            if error.code == Code.STORAGE_FAILED:
                self._arrivals.put(arrived)
                raise
            envelope = _failed(item, error)
        path.unlink(missing_ok=True)
        return envelope

    def cancel(self) -> list[str]:
        self._unplaced.clear()
        return self._fleet.cancel()

    def notices(self) -> list[str]:
        return self._fleet.notices()

    def close(self) -> None:
        self._fleet.end()
        self._remove_folders()

    def _remove_folders(self) -> None:
        for folder in (self._results, self._dask):
            remove_tree(folder)


class Fleet:
    """The event loop with the nodes. Methods without an underscore are for the caller's thread."""

    def __init__(
        self,
        cluster: Cluster,
        results: Path,
        arrivals: queue.SimpleQueue[Arrived],
        lost_after: float,
    ) -> None:
        self.is_closing = False
        self._cluster = cluster
        self._results = results
        self._arrivals = arrivals
        self._lost_after = lost_after
        self._nodes: dict[str, Node] = {}
        self._notices: list[str] = []
        self._said: set[str] = set()
        self._described: set[str] = set()
        self._away_from = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._confirming: set[asyncio.Task[None]] = set()
        self._to_confirm: dict[str, list[tuple[str, str]]] = {}
        # It guards what both threads change: the nodes, what they carry, and notices.
        self._lock = threading.RLock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fleet", daemon=True
        )

    # --- from the caller's thread

    def begin(self) -> None:
        """Connect, and wait a while for a first node. Raises `cluster_failed`."""
        self._thread.start()
        self._call(self._connect_first()).result()

    def end(self) -> None:
        """Let go of everything. Runs go on."""
        self.is_closing = True
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self._call(self._close()).result(2 * CALL_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    def snapshot(self) -> list[Node]:
        """The nodes that are known, also those that are away."""
        with self._lock:
            return list(self._nodes.values())

    def node(self, node_id: str) -> Node:
        """A node by its id, which may not have come yet."""
        with self._lock:
            known = self._nodes.get(node_id)
            if known is None:
                known = Node(node_id, away_since=time.monotonic())
                self._nodes[node_id] = known
            return known

    def send(self, order: Order) -> None:
        """Have an order on its way; it will arrive."""
        with self._lock:
            order.node.carried[order.ticket] = order.item
        self._loop.call_soon_threadsafe(self._spawn, self._carry(order))

    def forget(self, order: Order) -> None:
        """An order has ended."""
        with self._lock:
            order.node.carried.pop(order.ticket, None)

    def confirm(self, order: Order) -> None:
        """The result of an order is stored here: have its node told."""
        self.forget(order)
        with self._lock:
            waiting = self._to_confirm.setdefault(order.node.id, [])
            waiting.append((order.ticket, order.tool))

    def notices(self) -> list[str]:
        """What was said since the last call."""
        with self._lock:
            said, self._notices = self._notices, []
        return said

    def cancel(self) -> list[str]:
        """End the runs of all orders that are on their way; a sentence for each node that did not answer."""
        self.is_closing = True
        return self._call(self._cancel()).result()

    def _call(self, work: Coroutine[Any, Any, Returned]) -> Future[Returned]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _say(self, sentence: str) -> None:
        with self._lock:
            self._notices.append(one_line(visible(sentence), 400))

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(sentence)

    # --- the cluster and its nodes

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connect_first(self) -> None:
        await self._cluster.connect(FIRST_CONNECT_SECONDS)
        self._away_from = time.monotonic()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            await self._look()
            if any(node.workers for node in self.snapshot()):
                break
            await asyncio.sleep(0.1)
        else:
            self._say("no node is there yet: the batch waits for one")
        self._spawn(self._watch())

    async def _watch(self) -> None:
        """Keep the list of nodes up to date, and the connection alive, for as long as it takes."""
        while True:
            await asyncio.sleep(LOOK_PAUSE)
            if self._cluster.is_connected:
                await self._look()
                self._confirm_waiting()
                continue
            await self._look()  # every worker is gone
            self._say("the Dask scheduler is gone: the batch waits for it")
            while not self._cluster.is_connected:
                with contextlib.suppress(CounselError):
                    await self._cluster.connect()
                await asyncio.sleep(LOOK_PAUSE)
            self._away_from = time.monotonic()
            self._say("the Dask scheduler is there again")

    async def _look(self) -> None:
        await self._cluster.look()
        present = self._cluster.workers
        with self._lock:
            for node in self._nodes.values():
                self._drop_gone(node)
        new = present.keys() - self._described
        self._described &= present.keys()
        await asyncio.gather(*(self._meet(present[address]) for address in new))

    def _drop_gone(self, node: Node) -> None:
        was_there = bool(node.workers)
        node.workers = {
            address: worker
            for address, worker in node.workers.items()
            if not worker.gone.is_set()
        }
        if was_there and not node.workers:
            node.away_since = time.monotonic()
            if node.carried and not self.is_closing:
                self._say(f"node {node.id[:8]} is away")

    async def _meet(self, worker: DaskWorker) -> None:
        """Find out which node a new worker serves."""
        from codex_counsel.fleet import node as calls

        self._described.add(worker.address)
        label = f"the Dask worker {worker.name or worker.address}"
        if not worker.has_resource:
            self._say_once(f"{label} has no resource codex and is not used")
            return
        try:
            about = await self._cluster.call(
                worker, calls.describe, seconds=CALL_SECONDS
            )
            node_id, slots = str(about["node"]), int(about["slots"])
            boot = str(about["boot"])
        except (Interrupted, CounselError, KeyError, TypeError, ValueError) as error:
            self._say_once(f"{label} is not used: {error}")
            self._described.discard(worker.address)
            return
        if (about["protocol"], about["format"]) != (PROTOCOL, archive.FORMAT):
            version = about.get("version")
            self._say_once(f"{label} is not used: it has codex-counsel {version}")
            return
        if slots < 1:
            self._say_once(f"{label} is not used: its resource codex is below 1")
            return

        node = self.node(node_id)
        if node.workers and node.boot != boot:
            self._say_once(
                f"{label} is not used: another machine has the same state directory; give each its own by"
                " CODEX_COUNSEL_STATE_DIR"
            )
            return
        with self._lock:
            if not node.workers and node.carried:
                self._say(f"node {node.id[:8]} is there")
            node.workers[worker.address] = worker
            node.slots, node.boot = max(slots, 1), boot

    async def _worker_of(self, node: Node, seconds: float) -> DaskWorker | None:
        """A worker of the node; None when it was away so long, counted while the scheduler is there."""
        begun = time.monotonic()
        while True:
            worker = node.worker()
            if worker and not worker.gone.is_set():
                return worker
            away_since = max(node.away_since, self._away_from, begun)
            is_overdue = time.monotonic() - away_since > seconds
            if self._cluster.is_connected and is_overdue:
                return None
            await asyncio.sleep(0.1)

    # --- an order on its way

    async def _carry(self, order: Order) -> None:
        try:
            arrived = await self._deliver(order)
        except CounselError as error:
            arrived = Arrived(order, error=error)
        except Exception as error:  # noqa: BLE001  # an order must arrive, whatever is wrong
            text = f"{type(error).__name__}: {error}"
            problem = CounselError(Code.CLUSTER_FAILED, f"The client failed: {text}")
            arrived = Arrived(order, error=problem)
        self._arrivals.put(arrived)

    async def _deliver(self, order: Order) -> Arrived:
        """Send it, and ask for it, until its node has answered or is lost."""
        from codex_counsel.fleet import node as calls

        node, number = order.node, 0
        while True:
            worker = await self._worker_of(node, self._lost_after)
            if worker is None:
                return Arrived(order, error=_lost(node, self._lost_after))
            number += 1
            try:
                arguments = await self._arguments(order, worker)
            except Interrupted:
                await asyncio.sleep(RETRY_PAUSE)
                continue
            try:
                key = f"codex-counsel-{order.ticket}-{number}"
                answer = await self._cluster.task(worker, key, calls.run, *arguments)
                match answer["is"]:
                    case "ended":
                        path = await self._fetch(order, worker, answer)
                        return Arrived(order, result=path)
                    case "unknown":
                        return Arrived(order)
                    case "missing":
                        node.foundations.clear()
                    case "failed":
                        error = error_from(answer.get("error"))
                        return Arrived(order, error=error, is_settled=True)
                    case _:
                        return Arrived(order, error=_unreadable(node, answer))
            except Interrupted:
                # Whether the pack has reached the node is not known here, but there.
                order = replace(order, packed=None)
                await asyncio.sleep(RETRY_PAUSE)

    async def _arguments(self, order: Order, worker: DaskWorker) -> tuple[object, ...]:
        """Those of `run` in `fleet/node.py`; what is large is sent before. Raises Interrupted, and as `checked`."""
        packed = order.packed
        if packed is None:
            return order.ticket, order.tool, None
        await self._send_foundation(order.node, worker, packed)
        head = packed.head
        if len(head) <= INLINE:
            return order.ticket, order.tool, head, None, packed.digest
        digest = hashlib.sha256(head).hexdigest()
        await self._upload(worker, digest, head)
        return order.ticket, order.tool, None, (digest, len(head)), packed.digest

    async def _send_foundation(
        self, node: Node, worker: DaskWorker, packed: PackedItem
    ) -> None:
        """See that the node has the foundation. It is sent once, also when many items wait for it."""
        from codex_counsel.fleet import node as calls

        async with node.sending:
            if packed.digest in node.foundations:
                return
            answer = await self._cluster.call(
                worker, calls.has_foundation, packed.digest, seconds=CALL_SECONDS
            )
            while not answer["kept"]:
                await self._upload(worker, packed.digest, packed.foundation)
                size = await asyncio.to_thread(_size_of, packed.foundation)
                answer = await self._cluster.call(
                    worker,
                    calls.keep_foundation,
                    packed.digest,
                    size,
                    seconds=SEND_SECONDS,
                )
            node.foundations.add(packed.digest)

    async def _upload(
        self, worker: DaskWorker, digest: str, content: bytes | Path
    ) -> None:
        """Send a file in parts; what is there already is not sent again. Raises Interrupted, and as `checked`."""
        from codex_counsel.fleet import node as calls

        size = await asyncio.to_thread(_size_of, content)
        offset = 0
        while True:
            part = await asyncio.to_thread(_part_of, content, offset)
            answer = await self._cluster.call(
                worker, calls.put, digest, offset, part, seconds=SEND_SECONDS
            )
            offset = min(int(answer["size"]), size)
            if offset >= size:
                return

    async def _fetch(
        self, order: Order, worker: DaskWorker, answer: dict[str, Any]
    ) -> Path:
        """The result file, whole. Raises Interrupted where it did not come over whole."""
        from codex_counsel.fleet import node as calls

        path = self._results / order.ticket
        try:
            if "data" in answer:
                write_atomically(path, answer["data"])
            else:
                with path.open("wb") as file:
                    while file.tell() < answer["size"]:
                        part = await self._cluster.call(
                            worker,
                            calls.part,
                            order.ticket,
                            file.tell(),
                            seconds=SEND_SECONDS,
                        )
                        if not part["data"]:
                            break
                        file.write(part["data"])
            digest = await asyncio.to_thread(archive.digest_of, path)
        except OSError as error:
            message = "A result of a node cannot be stored"
            raise error_of(Code.STORAGE_FAILED, message, error) from None
        if digest != answer["sha256"]:
            raise Interrupted("the result did not come over whole")
        return path

    # --- afterwards

    def _confirm_waiting(self) -> None:
        with self._lock:
            waiting, self._to_confirm = self._to_confirm, {}
        for node_id, tickets in waiting.items():
            task = self._spawn(self._confirm(self.node(node_id), tickets))
            self._confirming.add(task)
            task.add_done_callback(self._confirming.discard)

    async def _confirm(self, node: Node, tickets: list[tuple[str, str]]) -> None:
        """Tell a node. One that is away keeps its records somewhat longer."""
        from codex_counsel.fleet import node as calls

        worker = node.worker()
        if worker:
            with contextlib.suppress(Interrupted, CounselError):
                await self._cluster.call(
                    worker, calls.received, tickets, seconds=CALL_SECONDS
                )

    async def _cancel(self) -> list[str]:
        nodes = [node for node in self.snapshot() if node.carried]
        answers = await asyncio.gather(*map(self._cancel_at, nodes))
        return [sentence for sentences in answers for sentence in sentences]

    async def _cancel_at(self, node: Node) -> list[str]:
        from codex_counsel.fleet import node as calls

        with self._lock:
            tickets = [
                (ticket, REQUESTS[item.kind].tool)
                for ticket, item in node.carried.items()
            ]
        deadline = time.monotonic() + CANCEL_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                worker = await asyncio.wait_for(self._worker_of(node, left), left)
            except TimeoutError:
                break
            if worker is None:
                break
            with contextlib.suppress(Interrupted):
                answer = await self._cluster.call(
                    worker, calls.cancel, tickets, seconds=CANCEL_WORK_SECONDS
                )
                label = f"node {node.id[:8]}"
                return [f"{label}: {problem}" for problem in answer["survivors"]]
        return [
            f"node {node.id[:8]} did not answer: {len(tickets)} runs may go on there"
        ]

    async def _close(self) -> None:
        self._confirm_waiting()
        if self._confirming:
            await asyncio.wait(self._confirming, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cluster.close()


def _size_of(content: bytes | Path) -> int:
    """Raises OSError."""
    if isinstance(content, bytes):
        return len(content)
    return content.stat().st_size


def _part_of(content: bytes | Path, offset: int) -> bytes:
    """Raises OSError."""
    if isinstance(content, bytes):
        return content[offset : offset + PART]
    with content.open("rb") as file:
        file.seek(offset)
        return file.read(PART)


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


def _failed(item: Item, error: CounselError) -> EnvelopeDict:
    return failed(REQUESTS[item.kind].tool, error).wire()
