"""The nodes of a Dask cluster as the place where the items of a batch run.

Two threads share the work. The caller's thread packs, notes places and takes results: this module. A thread of the
`dispatcher` has the event loop with the orders that are on their way.

Invariants:

- A place, `<node>/<ticket>`, is on the disk before its pack is sent, and an item has one place at a time. It gets
  another only when it was not sent there, or the node has said that it knows nothing of the ticket: from then on the
  node refuses it.
- What has no answer is asked for at its node. While the node is away it is waited for, `lost_after` seconds; then the
  item ends as `worker_lost`, and keeps its place: a later resume asks there again.
- A node learns that its result was received after the local job store has it.
- At most the slots of its nodes and one more for each node are on their way: no memory grows with the batch.
"""

from __future__ import annotations

import queue
import secrets
import shlex
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from codex_counsel.batch import limits
from codex_counsel.batch.directory import PLACES
from codex_counsel.batch.local import LocalPool
from codex_counsel.batch.model import REQUESTS, Ended, Item, Load
from codex_counsel.batch.record import Record
from codex_counsel.batch.refused import kept_at
from codex_counsel.batch.totals import Retry, code_of
from codex_counsel.contract.envelope import EnvelopeDict, failed
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.fleet.cluster import Cluster, LocalNodes
from codex_counsel.fleet.delivery import Arrived
from codex_counsel.fleet.dispatcher import Dispatcher
from codex_counsel.fleet.nodes import Order
from codex_counsel.fleet.packing import Packing
from codex_counsel.fleet.tickets import TICKET
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.prepare.context import Context, Memory
from codex_counsel.services import results
from codex_counsel.services.take import take_file
from codex_counsel.system.files import make_private, remove_tree

LOCAL = "local"
"""In place of an address: processes of this machine."""
LOST_AFTER = 120.0
"""Seconds that a node may be away before its items are lost."""
MAX_PLACES = 5
"""So often one process sends an item to a node that then knows nothing of it, before the item fails."""
JOINED_PAUSE = 0.2
"""Seconds between two looks at runs of this machine, where there are any."""


class ClusterPool:
    """See `batch/model.py`. Raises `cluster_failed` where the cluster cannot be reached at the beginning.

    Raises `cancelled` if `is_wanted` is false before it is reached.

    `address` is that of a Dask scheduler, or `local` with `slots` for runs on this machine.
    `retry` says which runs that have ended are started anew.
    """

    def __init__(
        self,
        context: Context,
        record: Record,
        address: str,
        *,
        slots: int | None = None,
        lost_after: float = LOST_AFTER,
        retry: Retry = "none",
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        context = replace(context, memory=Memory())
        self._context = context
        self._record = record
        self._packing = Packing(context, record.directory)
        self._unplaced: deque[Item] = deque()
        self._times_unknown: dict[str, int] = {}
        self._joined = LocalPool(record, context.env, context.settings, retry=retry)
        """Has the runs of this machine that the batch started before it had a cluster."""
        self._joined_count = 0
        self._results = record.directory / "arriving"
        self._dask = record.directory / "dask"
        self._remove_folders()
        self._results.mkdir(mode=0o700)
        local = None
        if address == LOCAL:
            local = LocalNodes(slots or context.settings.max_running, self._dask)
        self._dispatcher = Dispatcher(
            Cluster(address, local), self._results, lost_after
        )
        try:
            self._dispatcher.begin(is_wanted)
        except BaseException:
            self.close()
            raise

    def load(self) -> Load:
        """As `Pool.load`."""
        nodes = self._dispatcher.nodes.known()
        running = sum(min(node.slots, len(node.carried)) for node in nodes)
        carried = sum(len(node.carried) for node in nodes)
        queued = carried - running + len(self._unplaced)
        free = sum(node.free for node in nodes) - len(self._unplaced)
        return Load(running + self._joined_count, queued, max(0, free))

    # --- starting

    def start(self, item: Item) -> None:
        """As `Pool.start`. An item that has a place is asked for there, one that runs on this machine is joined."""
        place = self._record.place_of(item.id)
        if place is not None:
            self._ask_for(item, place)
        elif self._joined.join(item):
            self._joined_count += 1
        else:
            self._place(item)

    def _ask_for(self, item: Item, place: str) -> None:
        node_id, _, ticket = place.partition("/")
        if not TICKET.fullmatch(ticket):
            raise CounselError(
                Code.WORKER_LOST,
                f"{PLACES} of the batch names no place of a cluster for this item",
                repair="Resume the batch with --retry-lost, which runs the item anew.",
            )
        node = self._dispatcher.nodes.get(node_id)
        order = Order(item, node, ticket, is_resumed=True, is_sent=True)
        self._dispatcher.send(order)

    def _place(self, item: Item) -> None:
        """Send an item to the node with most room; without one, later."""
        nodes = [node for node in self._dispatcher.nodes.known() if node.free]
        if not nodes:
            self._unplaced.append(item)
            return
        node = max(nodes, key=lambda node: node.free / node.slots)
        ticket = secrets.token_hex(16)
        packed = self._packing.pack(item, ticket)
        self._record.note_place(item.id, f"{node.id}/{ticket}")
        self._dispatcher.send(Order(item, node, ticket, packed))

    def _place_waiting(self) -> list[Ended]:
        """Send the items that no node has; return those for which that fails."""
        ended: list[Ended] = []
        for _ in range(len(self._unplaced)):
            item = self._unplaced.popleft()
            try:
                self._place(item)
            except CounselError as error:
                ended.append(_failed(item, error))
        return ended

    # --- what ends

    def ended(self, seconds: float) -> list[Ended]:
        """As `Pool.ended`. Raises `storage_failed` where a result cannot be stored: its node keeps it."""
        deadline = time.monotonic() + seconds
        ended = self._place_waiting()
        while True:
            ended += self._joined_ended()
            patience = 0.0
            if not ended:
                patience = max(0.0, deadline - time.monotonic())
            if self._joined_count:
                patience = min(patience, JOINED_PAUSE)
            try:
                arrived = self._dispatcher.arrivals.get(timeout=patience)
            except queue.Empty:
                if ended or time.monotonic() >= deadline:
                    return ended
            else:
                ended += self._ended_by(arrived)

    def _joined_ended(self) -> list[Ended]:
        if not self._joined_count:
            return []
        ended = self._joined.ended(0)
        self._joined_count -= len(ended)
        return ended

    def _ended_by(self, arrived: Arrived) -> list[Ended]:
        """The end of an item, if the arrival is one; else the item is placed anew."""
        order = arrived.order
        try:
            if arrived.result:
                return self._take(arrived)
            if arrived.error:
                return [self._failed_by(arrived, arrived.error)]
            return self._place_anew(order)
        finally:
            self._dispatcher.nodes.remove(order)

    def _take(self, arrived: Arrived) -> list[Ended]:
        order, path = arrived.order, arrived.result
        assert path  # noqa: S101  # the caller has looked
        item = order.item
        try:
            taken = take_file(
                self._context,
                path,
                workspace_root=str(item.root),
                key=item.key,
                pack=order.ticket,
                tool=order.tool,
            )
        except CounselError as error:
            if error.code == Code.STORAGE_FAILED:
                raise
            return [self._refuse(order, path, error)]
        finally:
            path.unlink(missing_ok=True)
        self._dispatcher.confirm(order)
        job = Job(Store(self._context.settings.state).directory / taken.job_id)
        envelope = results.with_whole_diff(job, taken.envelope)
        is_cancelled = envelope["status"] == "cancelled"
        if is_cancelled or limits.is_no_result(code_of(envelope)):
            self._record.forget_place(item.id)
        is_closing = self._dispatcher.nodes.is_closing
        if is_cancelled and order.is_resumed and not is_closing:
            # It was cancelled with the batch, not while somebody waited for it.
            self._unplaced.append(item)
            return self._place_waiting()
        return [Ended(item, envelope)]

    def _refuse(self, order: Order, path: Path, error: CounselError) -> Ended:
        """Keep a paid answer that does not fit here, for a person. Its node keeps it too. Raises `storage_failed`."""
        kept = kept_at(self._record.directory, order.ticket)
        try:
            make_private(kept.parent)
            path.replace(kept)
        except OSError as failure:
            message = "A result of a node cannot be kept"
            raise error_of(Code.STORAGE_FAILED, message, failure) from None
        error.message = (
            f"The result of node {order.node.id} cannot be taken: {error.message}"
        )
        error.repair = (
            "Mend the cause, then resume the batch, which tries again. To have the answer without the batch: "
            f"codex-counsel take {shlex.quote(str(kept))}"
        )
        return _failed(order.item, error)

    def _failed_by(self, arrived: Arrived, error: CounselError) -> Ended:
        """Raises `storage_failed` where the answer of a node cannot be stored here."""
        item = arrived.order.item
        if arrived.is_settled:
            self._record.forget_place(item.id)
        elif error.code == Code.STORAGE_FAILED:
            raise error
        return _failed(item, error)

    def _place_anew(self, order: Order) -> list[Ended]:
        """Have an item run elsewhere of which its node knows nothing."""
        item = order.item
        self._record.forget_place(item.id)
        if self._dispatcher.nodes.is_closing:
            return []
        if order.is_sent:
            times = self._times_unknown.get(item.id, 0) + 1
            self._times_unknown[item.id] = times
            if times >= MAX_PLACES:
                error = CounselError(
                    Code.WORKER_LOST,
                    f"The Dask workers that were to start this item ended {times} times",
                )
                return [_failed(item, error)]
        self._unplaced.append(item)
        return self._place_waiting()

    # --- the end

    def cancel(self) -> list[str]:
        """As `Pool.cancel`."""
        self._unplaced.clear()
        return [*self._joined.cancel(), *self._dispatcher.cancel()]

    def notices(self) -> list[str]:
        """As `Pool.notices`."""
        return self._dispatcher.notices.take()

    def close(self) -> None:
        """As `Pool.close`."""
        self._dispatcher.end()
        self._joined.close()
        self._remove_folders()

    def _remove_folders(self) -> None:
        for folder in (self._results, self._dask):
            remove_tree(folder)


def _failed(item: Item, error: CounselError) -> Ended:
    envelope: EnvelopeDict = failed(REQUESTS[item.kind].tool, error).wire()
    return Ended(item, envelope)
