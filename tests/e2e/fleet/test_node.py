"""What a node answers: tickets are run once or refused for good, whatever arrives late, twice or damaged."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import Consult, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.fleet import node as calls
from codex_counsel.fleet.cluster import Cluster, DaskWorker
from codex_counsel.fleet.tickets import Tickets
from codex_counsel.loopback import Loopback, Script, hold, say
from codex_counsel.services import pack as packs
from codex_counsel.services.take import take_file
from tests.conftest import World, living, until
from tests.e2e.fleet.nodes import SECONDS, DaskCluster, Node

pytestmark = pytest.mark.timeout(400)
TOOL = "codex_consult"


@dataclass
class Machine:
    """A node with one Dask worker, and a client that makes packs for it."""

    client: World
    node: Node
    dask: DaskCluster
    scratch: Path

    def pack(self, ticket: str) -> packs.Packed:
        """A question about the client's repository."""
        arguments = {"question": "Is it fine?", "text_only": True}
        request = parse(Consult, arguments)
        self.scratch.mkdir(exist_ok=True)
        context = self.client.counsel().context
        return packs.prepare(context, request, self.scratch, pack_id=ticket)

    def jobs(self) -> int:
        return len(self.node.jobs)

    def asking(self, work: Callable[[Ask], Awaitable[None]]) -> None:
        """Run `work` with a connection to the node."""

        async def run() -> None:
            cluster = Cluster(self.dask.address)
            try:
                await cluster.connect(SECONDS)
                async with asyncio.timeout(SECONDS):
                    while not cluster.workers:
                        await cluster.look()
                (worker,) = cluster.workers.values()
                await work(Ask(cluster, worker))
            finally:
                await cluster.close()

        asyncio.run(run())


@dataclass
class Ask:
    """The calls of one client."""

    cluster: Cluster
    worker: DaskWorker

    async def call(
        self, function: Callable[..., Any], *arguments: object
    ) -> dict[str, Any]:
        return await self.cluster.call(
            self.worker, function, *arguments, seconds=SECONDS
        )

    async def run(self, *arguments: object) -> dict[str, Any]:
        key = secrets.token_hex(8)
        return await self.cluster.task(self.worker, key, calls.run, *arguments)

    async def send(self, packed: packs.Packed, part: int = 1 << 20) -> None:
        """Bring the foundation of a pack to the node, in parts of this size."""
        digest, data = packed.foundation.digest, packed.foundation.path.read_bytes()
        for offset in range(0, len(data), part):
            await self.call(calls.put, digest, offset, data[offset : offset + part])
        answer = await self.call(calls.keep_foundation, digest, len(data))
        assert answer["kept"]

    async def run_pack(self, packed: packs.Packed) -> dict[str, Any]:
        arguments = (packed.pack.id, TOOL, packed.head(), None)
        return await self.run(*arguments, packed.foundation.digest)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    base = tmp_path_factory.mktemp("dask")
    with DaskCluster(base) as cluster:
        cluster.add_node("one", slots=4)
        yield cluster


@pytest.fixture
def machine(world: World, dask: DaskCluster) -> Iterator[Machine]:
    """The node has nothing of an earlier test but its id."""
    client = World(world.base / "client")
    client.repository.begin_with_work()
    (node,) = dask.nodes
    for path in (node.world.state / "jobs", node.world.home / ".cache"):
        shutil.rmtree(path, ignore_errors=True)
    yield Machine(client, node, dask, world.base / "scratch")
    until(lambda: not [c for c in living(str(node.world.base)) if "counsel" in c])


@pytest.fixture
def model(machine: Machine) -> Iterator[Callable[[Script], Loopback]]:
    servers: list[Loopback] = []

    def start(script: Script) -> Loopback:
        server = Loopback(script)
        servers.append(server.__enter__())
        machine.node.world.configure(server.config_toml())
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


Model = Callable[[Script], Loopback]


@pytest.fixture
def ticket() -> str:
    return secrets.token_hex(16)


def test_a_ticket_that_a_node_has_said_to_be_unknown_is_never_run(
    machine: Machine, model: Model, ticket: str
) -> None:
    server = model(say("It is fine."))

    async def work(ask: Ask) -> None:
        assert await ask.run(ticket, TOOL, None) == {"is": "unknown"}
        packed = machine.pack(ticket)
        await ask.send(packed)
        assert await ask.run_pack(packed) == {"is": "unknown"}

    machine.asking(work)
    assert (machine.jobs(), server.requests) == (0, [])


def test_a_pack_that_comes_twice_is_run_once_and_its_result_kept_until_received(
    machine: Machine, model: Model, ticket: str
) -> None:
    gate = hold(say("It is fine."))
    server = model(gate)
    result = machine.client.base / "result"
    tickets = Tickets(machine.node.world.state)

    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        await ask.send(packed)
        both = asyncio.gather(ask.run_pack(packed), ask.run_pack(packed))
        await asyncio.to_thread(server.asked)
        gate.release.set()
        first, second = await both
        assert first == second
        result.write_bytes(first["data"])
        again = await ask.run(ticket, TOOL, None)
        assert again["data"] == first["data"]
        await ask.call(calls.received, [(ticket, TOOL)])

    machine.asking(work)
    assert (machine.jobs(), len(server.requests)) == (1, 1)
    (job,) = machine.node.jobs
    assert (job / "delivered").exists()
    assert not tickets.result(ticket).exists()
    context = machine.client.counsel().context
    taken = take_file(context, result, workspace_root=str(machine.client.workspace))
    envelope = taken.envelope
    assert envelope["answer"] == "It is fine."


def test_a_pack_without_its_repository_starts_nothing_and_may_be_sent_again(
    machine: Machine, model: Model, ticket: str
) -> None:
    model(say("It is fine."))

    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        assert await ask.run_pack(packed) == {"is": "missing"}
        await ask.send(packed, part=1000)
        assert (await ask.run_pack(packed))["is"] == "ended"

    machine.asking(work)
    assert machine.jobs() == 1


def test_a_repository_that_was_not_used_for_long_is_there_for_the_next_run(
    machine: Machine, model: Model, ticket: str
) -> None:
    model(say("It is fine."))
    repositories = machine.node.world.home / ".cache/codex-counsel/packs"

    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        await ask.send(packed)
        # Whoever removes what nobody uses has not come by since.
        os.utime(repositories / packed.foundation.digest / "used", (0, 0))
        assert (await ask.run_pack(packed))["is"] == "ended"

    machine.asking(work)
    assert machine.jobs() == 1


def test_a_repository_that_did_not_come_over_whole_is_not_kept(
    machine: Machine, ticket: str
) -> None:
    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        digest, data = packed.foundation.digest, packed.foundation.path.read_bytes()
        size = len(data)
        await ask.call(calls.put, digest, 0, data[:-1])
        gap = await ask.call(calls.put, digest, size + 5, b"x")
        assert gap["size"] == size - 1
        assert await ask.call(calls.keep_foundation, digest, size) == {"kept": False}
        await ask.call(calls.put, digest, size - 1, b"!")
        assert await ask.call(calls.keep_foundation, digest, size) == {"kept": False}
        assert await ask.call(calls.put, digest, 0, data) == {"size": size}
        assert await ask.call(calls.keep_foundation, digest, size) == {"kept": True}

    machine.asking(work)


def test_a_damaged_pack_fails_by_name_and_its_ticket_is_used_up(
    machine: Machine, ticket: str
) -> None:
    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        await ask.send(packed)
        digest = packed.foundation.digest
        answer = await ask.run(ticket, TOOL, packed.head()[:-600], None, digest)
        assert (answer["is"], answer["error"]["code"]) == ("failed", "pack_invalid")
        assert (await ask.run_pack(packed))["is"] == "unknown"

    machine.asking(work)
    assert machine.jobs() == 0


def test_what_was_cancelled_before_it_began_never_begins(
    machine: Machine, model: Model, ticket: str
) -> None:
    server = model(say("It is fine."))

    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        await ask.send(packed)
        cancelled = await ask.call(calls.cancel, [(ticket, TOOL)])
        assert cancelled == {"survivors": []}
        assert (await ask.run_pack(packed))["is"] == "unknown"

    machine.asking(work)
    assert (machine.jobs(), server.requests) == (0, [])


def test_a_run_that_is_cancelled_ends_as_cancelled(
    machine: Machine, model: Model, ticket: str
) -> None:
    server = model(hold(say("It is fine.")))

    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        await ask.send(packed)
        running = asyncio.ensure_future(ask.run_pack(packed))
        await asyncio.to_thread(server.asked)
        cancelled = await ask.call(calls.cancel, [(ticket, TOOL)])
        assert cancelled == {"survivors": []}
        assert (await running)["is"] == "ended"

    machine.asking(work)
    (job,) = machine.node.jobs
    assert b'"cancelled"' in (job / "result.json").read_bytes()


def test_a_start_that_was_killed_before_it_had_a_job_is_unknown(
    machine: Machine, model: Model, ticket: str
) -> None:
    model(say("It is fine."))
    tickets = Tickets(machine.node.world.state)
    tickets.prepare()
    with tickets.hold(ticket):
        tickets.write(ticket, "started")

    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        await ask.send(packed)
        assert (await ask.run_pack(packed))["is"] == "unknown"

    machine.asking(work)
    assert machine.jobs() == 0


def test_a_run_whose_record_was_dropped_is_not_run_again(
    machine: Machine, model: Model, ticket: str
) -> None:
    server = model(say("It is fine."))

    async def work(ask: Ask) -> None:
        packed = machine.pack(ticket)
        await ask.send(packed)
        assert (await ask.run_pack(packed))["is"] == "ended"
        (job,) = machine.node.jobs
        shutil.rmtree(job)
        answer = await ask.run_pack(packed)
        assert (answer["is"], answer["error"]["code"]) == ("broken", "worker_lost")

    machine.asking(work)
    assert len(server.requests) == 1


def test_a_name_that_no_client_makes_reaches_no_file(machine: Machine) -> None:
    async def work(ask: Ask) -> None:
        answer = await ask.run("../../x", TOOL, None)
        assert answer["error"]["code"] == "invalid_arguments"
        for function, *arguments in (
            (calls.put, "../x", 0, b"x"),
            (calls.keep_foundation, "../x", 1),
            (calls.part, "../../node", 0),
        ):
            with pytest.raises(CounselError) as error:
                await ask.call(function, *arguments)
            assert error.value.code == Code.INVALID_ARGUMENTS

    machine.asking(work)
    assert not list(machine.node.world.base.rglob("x"))
