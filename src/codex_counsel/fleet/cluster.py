"""The connection to a Dask cluster: its workers, and calls and tasks of one of them. The client's only use of Dask.

Facts about Dask (2026.8), measured with processes of `dask scheduler` and `dask worker`:

- A task that is restricted to the address of a worker that died goes to the state `no-worker` and stays there; its
  future stays pending. The nanny starts the worker again within some 2 s, at another address. So whoever waits for a
  task watches its worker too.
- A worker whose nanny is killed ends within 2 s. After the loss of the scheduler workers and nannies end by
  themselves; a client cancels all its futures, tries for its timeout to connect again, and then closes.
- A client tries for its whole timeout to connect, also where the connection is refused; its pauses between two tries
  grow to seconds.
- `Client.run` of an address that is gone waits 30 s for a connection.
- A call of a worker takes some 2 to 5 ms, a task 5 to 13 ms, of which 2 ms are the client's CPU.
- `scheduler_info` lists five workers unless it is asked for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Scheduler, Security, Worker
from distributed.comm.addressing import get_address_host_port

from codex_counsel.errors import Code, CounselError
from codex_counsel.fleet.answers import WrongAnswerError, checked
from codex_counsel.fleet.listening import why_unreachable
from codex_counsel.fleet.names import RESOURCE
from codex_counsel.system.text import one_line, visible

CONNECT_SECONDS = 10.0
"""For one try to reach the scheduler."""
FIRST_CONNECT_SECONDS = 30.0
REFUSED_SECONDS = 5.0
"""For a try to reach an address where nobody listens: a scheduler that is started again takes some 3 s."""
LOOK_SECONDS = 5.0
"""For the list of workers."""
WITH_TLS = ("tls://", "wss://")
"""How addresses begin that need certificates."""

NO_PAGES: dict[str, list[str]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
"""Settings of Dask: its usual pages have logs and tasks, and one of them fetches from any address."""


class Interrupted(Exception):  # noqa: N818  # not an error: the task may still be running
    """A task or a call did not come to its end: the worker or the scheduler is gone."""


@dataclass
class DaskWorker:
    """A worker at one address, which it keeps until it ends."""

    address: str
    name: str
    has_resource: bool
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Cluster:
    """A connection, made by `connect`. All methods belong to one event loop."""

    def __init__(self, address: str, local: LocalNodes | None = None) -> None:
        self.address = address
        self.workers: dict[str, DaskWorker] = {}
        self._local = local
        self._client: Any = None
        self._local_servers: list[Any] = []

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler was there a moment ago."""
        return self._client is not None and self._client.status == "running"

    async def connect(self, seconds: float = CONNECT_SECONDS) -> None:
        """Connect, after a loss again. Raises `cluster_failed`, where nobody listens after `REFUSED_SECONDS`."""
        _quieten()
        await self._drop_client()
        _check_certificates(self.address)
        try:
            target = self.address
            if self._local:
                target = await self._start_local(self._local)
            self._client = Client(  # type: ignore[no-untyped-call]
                target, asynchronous=True, set_as_default=False, timeout=seconds
            )
            async with asyncio.timeout(seconds + 5):
                await self._open()
        except Exception as error:  # noqa: BLE001  # what answers there may be no Dask at all
            await self._drop_client()
            raise CounselError(
                Code.CLUSTER_FAILED,
                f"The Dask scheduler {one_line(visible(self.address), 200)} does not answer: {_reason(error)}",
            ) from None

    async def _open(self) -> None:
        """Wait for the client. Raises what Dask raises, and OSError as soon as it is sure that nobody listens."""
        opening = asyncio.ensure_future(_opened(self._client))
        try:
            await asyncio.wait({opening}, timeout=REFUSED_SECONDS)
            if not opening.done() and not self._local:
                host, port = get_address_host_port(self.address)
                problem = await why_unreachable(host, port)
                if problem:
                    raise OSError(problem)
            await opening
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)

    async def _start_local(self, local: LocalNodes) -> Any:
        """The scheduler of this process, with one worker."""
        if self._local_servers:
            return self._local_servers[0].address
        # In one process no port leads to them: whoever reached one could run anything. Dask listens
        # for HTTP in any case, for this machine alone; without routes, nothing is served there.
        http: dict[str, Any] = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        scratch = {"temporary-directory": str(local.directory)}
        with dask.config.set({**NO_PAGES, **scratch}):
            scheduler = await Scheduler(protocol="inproc://", **http)
            self._local_servers.append(scheduler)
            worker = await Worker(
                scheduler.address,
                nthreads=local.slots,
                resources={RESOURCE: local.slots},
                memory_limit=0,
                **http,
            )
            self._local_servers.append(worker)
        return scheduler.address

    async def look(self) -> None:
        """Bring `workers` up to date. Workers that are gone have their event set."""
        found: Mapping[str, Any] = {}
        if self.is_connected:
            try:
                identity = await asyncio.wait_for(
                    self._client.scheduler.identity(n_workers=-1), LOOK_SECONDS
                )
                found = identity["workers"]
            except (OSError, TimeoutError, RuntimeError):
                # A scheduler that is busy for a moment loses no worker.
                if self.is_connected:
                    return
        for address in self.workers.keys() - found.keys():
            self.workers.pop(address).gone.set()
        for address in found.keys() - self.workers.keys():
            about = found[address]
            resources = about.get("resources") or {}
            self.workers[address] = DaskWorker(
                address, str(about.get("name", "")), RESOURCE in resources
            )

    async def call(
        self,
        worker: DaskWorker,
        function: Callable[..., Any],
        *arguments: object,
        seconds: float,
    ) -> dict[str, Any]:
        """Have one worker answer a call of `fleet/node.py`. Raises Interrupted, and as `answers.checked`."""
        client = self._connected_client()
        call = asyncio.ensure_future(
            client.run(function, *arguments, workers=[worker.address])
        )
        answers = await _first(call, worker, seconds)
        if not isinstance(answers, dict):
            raise WrongAnswerError("its answer is none")
        return checked(answers.get(worker.address))

    async def task(
        self,
        worker: DaskWorker,
        key: str,
        function: Callable[..., Any],
        *arguments: object,
    ) -> dict[str, Any]:
        """Run a function of `fleet/node.py` as a task of one worker, and wait for it. As `call`."""
        client = self._connected_client()
        try:
            future = client.submit(
                function,
                *arguments,
                key=key,
                workers=[worker.address],
                allow_other_workers=False,
                resources={RESOURCE: 1},
                retries=0,
                pure=False,
            )
        except (RuntimeError, ValueError, OSError) as error:  # the client was closed
            raise Interrupted(str(error)) from None
        try:
            answer = await _first(asyncio.ensure_future(_result(future)), worker, None)
            return checked(answer)
        finally:
            with contextlib.suppress(Exception):
                # A task that waits in the scheduler is dropped, one that runs goes on unheard.
                await asyncio.wait_for(future.cancel(), LOOK_SECONDS)

    def _connected_client(self) -> Any:
        """Raises Interrupted while a lost connection is made anew."""
        if self._client is None:
            raise Interrupted("the scheduler is gone")
        return self._client

    async def close(self) -> None:
        """Let go of the cluster; one that `connect` has started ends, its runs go on."""
        await self._drop_client()
        for server in reversed(self._local_servers):
            with contextlib.suppress(Exception):
                await asyncio.wait_for(server.close(), CONNECT_SECONDS)
        self._local_servers = []

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        for worker in self.workers.values():
            worker.gone.set()
        self.workers = {}
        if client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(timeout=2), CONNECT_SECONDS)


@dataclass(frozen=True)
class LocalNodes:
    """A cluster of this machine: how many runs go at once, and a directory for what Dask writes."""

    slots: int
    directory: Path


def _check_certificates(address: str) -> None:
    """Raise `cluster_failed` for an address with TLS where Dask finds no certificates, or cannot use them."""
    loads_by_itself = dask.config.get("distributed.client.security-loader", None)
    if not address.startswith(WITH_TLS) or loads_by_itself:
        return
    why = "none is configured here"
    try:
        security: Any = Security()  # type: ignore[no-untyped-call]
        connection = security.get_connection_args("client")
        if connection["ssl_context"] is not None:
            return
    except (OSError, ValueError) as error:
        # Its own words may hold a key: Dask takes one as text too.
        problem = getattr(error, "strerror", None) or type(error).__name__
        why = (
            f"what is configured here cannot be used: {one_line(visible(problem), 200)}"
        )
    raise CounselError(
        Code.CLUSTER_FAILED,
        f"The Dask scheduler {one_line(visible(address), 200)} needs certificates: {why}",
        repair="Name the files of the authority, of your certificate and of its key in the variables "
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT and "
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY.",
    )


def _reason(error: Exception) -> str:
    """Why there is no connection, in words."""
    if isinstance(error, OSError | ValueError | RuntimeError) and str(error):
        return one_line(visible(str(error)), 300)
    if isinstance(error, TimeoutError):
        return "nothing that Dask understands came from there in time"
    return f"what came from there is not of Dask ({type(error).__name__})"


async def _opened(client: Any) -> Any:
    return await client


async def _result(future: Any) -> Any:
    try:
        return await future
    except asyncio.CancelledError:
        # Dask says so of a future that went with its scheduler; our own task was not cancelled.
        if future.cancelled():
            raise Interrupted("the scheduler is gone") from None
        raise


async def _first(
    work: asyncio.Future[Any], worker: DaskWorker, seconds: float | None
) -> Any:
    """The result of the work, unless its worker ends or the time is over first: then Interrupted."""
    gone = asyncio.ensure_future(worker.gone.wait())
    try:
        await asyncio.wait(
            {work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        is_done = work.done()
    finally:
        for part in (work, gone):
            part.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)
    if not is_done:
        raise Interrupted(f"{worker.address} does not answer")
    # Dask raises many kinds: OSError, CommClosedError, KilledWorker, what it could not unpickle.
    error = work.exception()
    if error is None:
        return work.result()
    raise Interrupted(one_line(visible(f"{type(error).__name__}: {error}"), 300))


def _quieten() -> None:
    """Dask logs lost connections with their traceback on standard error; the pool says them in a sentence."""
    names = {"distributed", "tornado.application", "asyncio"}
    # Dask gives some of its loggers a level of their own.
    names.update(
        name
        for name in logging.root.manager.loggerDict
        if name.startswith("distributed.")
    )
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
