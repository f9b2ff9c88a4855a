"""What runs on a node: functions that the client has a Dask worker call, and nothing else of the client's.

A node is a state directory with what belongs to it: a login, a Codex, a job store. Several Dask workers may serve one
node. A run is a job of that store, detached: it outlives the Dask worker that started it, and whichever worker serves
the node next knows it by its ticket (see `tickets`). HOME, CODEX_HOME, the settings and the login are those of the
worker's own environment.

Facts about Dask (2026.8) that this rests on:

- `Client.run` calls a coroutine function on the event loop of one worker, without a task: it is answered in some 5 ms,
  also while all task threads are busy. A plain function would block that loop.
- A function that raises has the first 1,000 characters of its arguments written to the worker's log, which would be
  the text of a request. So no function of this module raises: an answer has an `error` instead.
- A task of a thread cannot be ended. `run` ends when its job does, and `cancel` ends that.
- A worker that has lost its scheduler ends after some seconds, and its nanny too. Whoever started `dask worker` has to
  start it again.

An answer is a dict of JSON values and bytes, so that client and node may differ in their releases.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distributed import get_worker

from codex_counsel import __version__
from codex_counsel.errors import Code, CounselError
from codex_counsel.fleet.names import INLINE, PART, PROTOCOL, RESOURCE
from codex_counsel.fleet.tickets import Tickets
from codex_counsel.jobs import idempotency, recovery
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.packs import archive, repository
from codex_counsel.packs.result_writer import write_result
from codex_counsel.prepare.context import Context
from codex_counsel.services import run_pack

WAIT_SECONDS = 1.0
CANCEL_THREADS = 8

Answer = dict[str, Any]


async def describe(dask_worker: Any = None) -> Answer:
    """What this node is: `node`, `place`, `version`, `protocol`, `format` and `slots`."""
    slots = slots_of(dask_worker)
    return await _in_thread(_describe, slots)


def _describe(slots: int) -> Answer:
    tickets = _tickets()
    node = tickets.node()
    tickets.sweep()
    return {
        "node": node,
        "place": _place(tickets.directory),
        "version": __version__,
        "protocol": PROTOCOL,
        "format": archive.FORMAT,
        "slots": slots,
    }


def slots_of(dask_worker: Any) -> int:
    """How many runs go at once through this worker: its resource, at most as many as it has threads.

    The setting MAX_RUNNING of the node lowers it. 0: the worker has no such resource, and takes none.
    """
    resources = dask_worker.state.total_resources
    slots = min(int(resources.get(RESOURCE, 0)), int(dask_worker.state.nthreads))
    if "CODEX_COUNSEL_MAX_RUNNING" in os.environ:
        slots = min(slots, Context.of().settings.max_running)
    return slots


async def has_foundation(digest: str) -> Answer:
    """`kept`: whether the repository of this foundation is here."""
    return await _in_thread(_has_foundation, digest)


def _has_foundation(digest: str) -> Answer:
    return {"kept": repository.has_foundation(Context.of(), digest)}


async def put(digest: str, offset: int, part: bytes) -> Answer:
    """Write a part of a file. `size`: how many bytes of it are here."""
    return await _in_thread(_put, digest, offset, part)


def _put(digest: str, offset: int, part: bytes) -> Answer:
    return {"size": _tickets().add_part(digest, offset, part)}


async def keep_foundation(digest: str, size: int) -> Answer:
    """Make the repository of an uploaded foundation. `kept`: false where some of the file is missing."""
    return await _in_thread(_keep_foundation, digest, size)


def _keep_foundation(digest: str, size: int) -> Answer:
    tickets = _tickets()
    file = tickets.whole_upload(digest, size)
    if file is None:
        return {"kept": repository.has_foundation(Context.of(), digest)}
    try:
        repository.keep_foundation(Context.of(), file)
    except CounselError:
        # Another call may have made it meanwhile, and removed the upload.
        if not repository.has_foundation(Context.of(), digest):
            raise
    tickets.remove_upload(digest)
    return {"kept": True}


def run(
    ticket: str,
    tool: str,
    head: bytes | None,
    upload: tuple[str, int] | None = None,
    foundation: str | None = None,
) -> Answer:
    """Run a pack, or wait for the run that the ticket has already; a task, in a thread of the worker.

    `head` is the pack without its foundation, or `upload` its digest and size, where it was uploaded; with neither,
    nothing is started. The answer has `is`:

    - `ended`, with `size`, `sha256` and, if it is small, `data` of the result file (see `part`);
    - `unknown`: there is no such run, and from now on there will be none;
    - `missing`: the foundation or the upload has to be sent first; nothing was started, and it may be sent again;
    - `failed`, with `error`: nothing was started, and no run of this ticket will be;
    - `busy`: another call takes long to start it; ask again;
    - `broken`, with `error`: there is, or was, a run, but its result cannot be had.
    """
    try:
        order = _Order(ticket, tool, head, upload, foundation)
        return _run(order, slots_of(get_worker()))
    except CounselError as error:
        if error.code == Code.SESSION_BUSY:
            return {"is": "busy"}
        return {"is": "broken", "error": _error(error)}
    except Exception as error:  # noqa: BLE001  # what is raised here would be logged with the request
        return {"is": "broken", "error": _error(_defect(error))}


@dataclass(frozen=True)
class _Order:
    """The arguments of `run`."""

    ticket: str
    tool: str
    head: bytes | None
    upload: tuple[str, int] | None
    foundation: str | None

    @property
    def has_pack(self) -> bool:
        return self.head is not None or self.upload is not None

    def pack(self, tickets: Tickets) -> io.BytesIO | Path | None:
        """The pack; None where its upload is not complete."""
        if self.head is not None:
            return io.BytesIO(self.head)
        if self.upload is not None:
            return tickets.whole_upload(*self.upload)
        return None


def _run(order: _Order, slots: int) -> Answer:
    context = Context.of()
    context = replace(context, settings=replace(context.settings, max_running=slots))
    store = Store(context.settings.state)
    tickets = _tickets()
    with tickets.hold(order.ticket):
        job = idempotency.find(store, order.tool, order.ticket)
        if job is None:
            started = _started(order, context, tickets)
            if not isinstance(started, Job):
                return started
            job = started
        tickets.write(order.ticket, "ran")
    if order.upload:
        tickets.remove_upload(order.upload[0])
    _wait(job)
    return _result(store, tickets, order.ticket, job)


def _started(order: _Order, context: Context, tickets: Tickets) -> Job | Answer:
    """The job of a ticket that is held and has none; else the answer that says why there is none."""
    note = tickets.note(order.ticket)
    if note == "ran":
        raise CounselError(
            Code.WORKER_LOST, "the node has dropped the record of this run"
        )
    # A start that was killed before it made a job has used its ticket up.
    if note is not None or not order.has_pack:
        tickets.write(order.ticket, "refused")
        return {"is": "unknown"}

    digest = order.foundation
    try:
        # The start itself removes repositories that nobody has used for long.
        if digest and not repository.is_kept(context, digest):
            return {"is": "missing"}
        pack = order.pack(tickets)
        if pack is None:
            return {"is": "missing"}
        tickets.write(order.ticket, "started")
        return _start(context, pack, order.ticket)
    except CounselError as error:
        tickets.write(order.ticket, "refused")
        return {"is": "failed", "error": _error(error)}


def _start(context: Context, pack: io.BytesIO | Path, ticket: str) -> Job:
    """The job of a pack, whose id must be the ticket. Raises CounselError: then there is none."""
    name = f"The pack of the ticket {ticket}"
    if isinstance(pack, Path):
        with pack.open("rb") as file:
            started = run_pack.start(context, file, name, background=True)
    else:
        started = run_pack.start(context, pack, name, background=True)
    started.handle.release()
    return started.handle.job


def _wait(job: Job) -> None:
    """Until the run has ended."""
    handle = Handle(job)
    while handle.is_running() or handle.collect() is None:
        handle.wait(WAIT_SECONDS)


def _result(store: Store, tickets: Tickets, ticket: str, job: Job) -> Answer:
    path = tickets.result(ticket)
    if not path.exists():
        write_result(store, job.id, ticket, path, events=False)
    size = path.stat().st_size
    answer: Answer = {"is": "ended", "size": size, "sha256": archive.digest_of(path)}
    if size <= INLINE:
        answer["data"] = path.read_bytes()
    return answer


async def part(ticket: str, offset: int) -> Answer:
    """`data`: at most `PART` bytes of a result file from `offset` on."""
    return await _in_thread(_part, ticket, offset)


def _part(ticket: str, offset: int) -> Answer:
    with _tickets().result(ticket).open("rb") as file:
        file.seek(offset)
        return {"data": file.read(PART)}


async def received(tickets: Sequence[tuple[str, str]]) -> Answer:
    """The client has stored the results of these, each a ticket and its tool."""
    return await _in_thread(_received, tickets)


def _received(tickets: Sequence[tuple[str, str]]) -> Answer:
    store = Store(Context.of().settings.state)
    known = _tickets()
    for ticket, tool in tickets:
        job = idempotency.find(store, tool, ticket)
        if job:
            job.mark_delivered()
        known.remove_result(ticket)
    return {}


async def cancel(tickets: Sequence[tuple[str, str]]) -> Answer:
    """End the runs of these, each a ticket and its tool; one that has not begun never begins.

    `survivors`: a sentence for each that could not be ended.
    """
    return await _in_thread(_cancel, tickets)


def _cancel(tickets: Sequence[tuple[str, str]]) -> Answer:
    if not tickets:
        return {"survivors": []}
    # Each takes a while: Codex is asked to end before it is killed.
    with ThreadPoolExecutor(CANCEL_THREADS) as threads:
        problems = list(threads.map(lambda pair: _cancel_one(*pair), tickets))
    return {"survivors": [problem for problem in problems if problem]}


def _cancel_one(ticket: str, tool: str) -> str | None:
    store = Store(Context.of().settings.state)
    known = _tickets()
    try:
        with known.hold(ticket):
            job = idempotency.find(store, tool, ticket)
            if job is None:
                known.write(ticket, "refused")
                return None
        if recovery.outcome(job) is None:
            store.cancel(job)
    except (CounselError, OSError) as error:
        return str(error)
    return None


# --- what all of them need


async def _in_thread(function: Callable[..., Answer], *arguments: object) -> Answer:
    """The answer, from a thread of its own: not of those that tasks wait in."""
    try:
        return await asyncio.to_thread(function, *arguments)
    except CounselError as error:
        return {"error": _error(error)}
    except Exception as error:  # noqa: BLE001  # as in `run`
        return {"error": _error(_defect(error))}


def _defect(error: Exception) -> CounselError:
    return CounselError(
        Code.CLUSTER_FAILED, f"The node failed: {type(error).__name__}: {error}"
    )


def _error(error: CounselError) -> dict[str, Any]:
    return {**asdict(error), "code": str(error.code)}


def _tickets() -> Tickets:
    tickets = Tickets(Context.of().settings.state)
    tickets.prepare()
    return tickets


def _place(directory: Path) -> str:
    """What tells a directory from its copies, on other machines or in other containers of this one."""
    about = directory.stat()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return f"{boot} {about.st_dev} {about.st_ino}"
