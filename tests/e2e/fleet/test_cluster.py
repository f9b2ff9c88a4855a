"""The connection to a real Dask scheduler with real workers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask import config

from codex_counsel.errors import Code, CounselError
from codex_counsel.fleet import cluster as clusters
from codex_counsel.fleet.answers import error_from
from codex_counsel.fleet.cluster import (
    Cluster,
    DaskWorker,
    Interrupted,
    LocalNodes,
)
from codex_counsel.fleet.listening import why_unreachable
from tests.conftest import until
from tests.e2e.fleet import calls
from tests.e2e.fleet.nodes import SECONDS, DaskCluster

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask")) as cluster:
        cluster.add_node("one", slots=2)
        cluster.add_node("two", slots=2)
        yield cluster


async def _worker(cluster: Cluster, name: str, besides: str = "") -> DaskWorker:
    """The worker of this name at another address than `besides`, as soon as there is one."""
    async with asyncio.timeout(SECONDS):
        while True:
            await cluster.look()
            for worker in cluster.workers.values():
                if worker.name == name and worker.address != besides:
                    return worker
            await asyncio.sleep(0.05)


def _connected(
    address: str, work: Callable[[Cluster], Awaitable[None]], **keys: Any
) -> None:
    async def run() -> None:
        cluster = Cluster(address, **keys)
        try:
            await cluster.connect(SECONDS)
            await work(cluster)
        finally:
            await cluster.close()

    asyncio.run(run())


def test_a_call_and_a_task_reach_the_worker_that_they_name(dask: DaskCluster) -> None:
    async def work(cluster: Cluster) -> None:
        for name in ("one", "two"):
            worker = await _worker(cluster, name)
            assert worker.has_resource
            called = await cluster.call(worker, calls.whoami, seconds=SECONDS)
            ran = await cluster.task(worker, f"key-{name}", calls.task_whoami)
            node = next(n for n in dask.nodes if n.world.base.name == name)
            assert called["home"] == ran["home"] == str(node.world.home)

    _connected(dask.address, work)


def test_an_error_that_a_node_answers_is_raised_with_its_code(
    dask: DaskCluster,
) -> None:
    async def work(cluster: Cluster) -> None:
        worker = await _worker(cluster, "one")
        with pytest.raises(CounselError) as error:
            await cluster.call(worker, calls.refuse, seconds=SECONDS)
        assert error.value.code == Code.AUTH_REQUIRED

    _connected(dask.address, work)


def test_whoever_waits_for_a_killed_worker_learns_it_and_finds_the_next_one(
    dask: DaskCluster,
) -> None:
    async def work(cluster: Cluster) -> None:
        worker = await _worker(cluster, "two")
        pid = (await cluster.call(worker, calls.whoami, seconds=SECONDS))["pid"]
        task = asyncio.create_task(
            cluster.task(worker, "waiting", calls.wait_for_file, "/nonexistent")
        )
        call = asyncio.create_task(
            cluster.call(worker, calls.never, seconds=10 * SECONDS)
        )
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        again = await _worker(cluster, "two", besides=worker.address)
        for waiting in (task, call):
            with pytest.raises(Interrupted):
                await asyncio.wait_for(waiting, SECONDS)
        assert (await cluster.call(again, calls.whoami, seconds=SECONDS))["pid"] != pid

    _connected(dask.address, work)


def test_a_worker_that_does_not_answer_in_time_is_no_wait_without_end(
    dask: DaskCluster,
) -> None:
    async def work(cluster: Cluster) -> None:
        worker = await _worker(cluster, "one")
        with pytest.raises(Interrupted):
            await cluster.call(worker, calls.never, seconds=0.2)

    _connected(dask.address, work)


def test_after_the_end_of_the_scheduler_a_client_connects_again(
    tmp_path: Path,
) -> None:
    with DaskCluster(tmp_path) as dask:
        dask.add_node("one")

        async def work(cluster: Cluster) -> None:
            worker = await _worker(cluster, "one")
            task = asyncio.create_task(
                cluster.task(worker, "waiting", calls.wait_for_file, "/nonexistent")
            )
            assert dask.scheduler
            await asyncio.sleep(0.2)
            dask.scheduler.kill()
            with pytest.raises(Interrupted):
                await asyncio.wait_for(task, SECONDS)
            await asyncio.to_thread(dask.scheduler.wait)
            await asyncio.to_thread(until, lambda: not cluster.is_connected)
            await cluster.look()
            assert cluster.workers == {}

            await asyncio.to_thread(dask.start_scheduler)
            await cluster.connect(SECONDS)
            node = dask.nodes[0]
            assert node.process
            node.process.kill()
            await asyncio.to_thread(node.process.wait)
            dask.start_worker(node)
            await _worker(cluster, "one", besides=worker.address)

        _connected(dask.address, work)


def test_a_scheduler_that_is_not_there_is_named_in_the_error() -> None:
    async def run() -> None:
        cluster = Cluster("tcp://127.0.0.1:9")
        with pytest.raises(CounselError) as error:
            await cluster.connect(0.5)
        assert error.value.code == Code.CLUSTER_FAILED
        assert "127.0.0.1:9" in error.value.message

    asyncio.run(run())


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1:9", "nobody listens there"),
        ("localhost:9", "nobody listens there"),
        ("tcp://scheduler.invalid:8786", "no machine has this name"),
    ],
)
def test_an_address_where_nobody_listens_is_given_up_long_before_a_slow_one(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolve_or_refuse(host: Any, *arguments: Any, **keys: Any) -> Any:
        """What a name server says of such a name, also where there is none, or a slow one."""
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *arguments, **keys)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_or_refuse)

    async def run() -> None:
        cluster = Cluster(address)
        async with asyncio.timeout(SECONDS):
            with pytest.raises(CounselError) as error:
                await cluster.connect(10 * SECONDS)
        assert error.value.code == Code.CLUSTER_FAILED
        assert reason in error.value.message

    asyncio.run(run())


def test_a_scheduler_that_is_slow_to_answer_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed = asyncio.Event()

    async def probe(host: str, port: int) -> str | None:
        probed.set()
        return await why_unreachable(host, port)

    monkeypatch.setattr(clusters, "REFUSED_SECONDS", 0.2)
    monkeypatch.setattr(clusters, "why_unreachable", probe)
    with DaskCluster(tmp_path) as dask:
        assert dask.scheduler
        dask.scheduler.send_signal(signal.SIGSTOP)

        async def run() -> None:
            cluster = Cluster(dask.address)
            connecting = asyncio.create_task(cluster.connect(SECONDS))
            async with asyncio.timeout(SECONDS):
                await probed.wait()
            await asyncio.sleep(0.2)
            assert dask.scheduler
            dask.scheduler.send_signal(signal.SIGCONT)
            await connecting
            assert cluster.is_connected
            await cluster.close()

        asyncio.run(run())


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request", b"SSH-2.0-x\r\n"])
def test_a_service_that_is_no_scheduler_is_named_in_the_error(greeting: bytes) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    async def run() -> None:
        service = await asyncio.start_server(greet, "127.0.0.1")
        port = service.sockets[0].getsockname()[1]
        cluster = Cluster(f"tcp://127.0.0.1:{port}")
        with pytest.raises(CounselError) as error:
            await cluster.connect(20)
        assert error.value.code == Code.CLUSTER_FAILED
        assert "is not of Dask" in error.value.message
        service.close()

    asyncio.run(run())


@pytest.mark.parametrize("address", ["", "nonsense://x", "tcp://", "a b:c"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    async def run() -> None:
        cluster = Cluster(address)
        with pytest.raises(CounselError) as error:
            await cluster.connect(0.5)
        assert error.value.code == Code.CLUSTER_FAILED
        await cluster.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({}, "none is configured here"),
        ({"ca-file": "ca.pem"}, "none is configured here"),
        ({"ca-file": "gone", "client.cert": "me.pem"}, "No such file"),
        ({"ca-file": "ca.pem", "client.cert": "me.pem"}, "cannot be used"),
    ],
    ids=["none", "half", "missing file", "no certificate in it"],
)
@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_an_address_with_tls_needs_certificates_and_the_error_says_how_to_name_them(
    tmp_path: Path, files: dict[str, str], why: str, scheme: str
) -> None:
    for name in ("ca.pem", "me.pem"):
        (tmp_path / name).write_text("none", "utf-8")
    settings = {
        f"distributed.comm.tls.{key}": str(tmp_path / name)
        for key, name in files.items()
    }

    async def run() -> None:
        with pytest.raises(CounselError) as raised:
            await Cluster(f"{scheme}://127.0.0.1:9").connect(0.5)
        assert raised.value.code == Code.CLUSTER_FAILED
        assert "needs certificates" in raised.value.message
        assert why in raised.value.message
        assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in str(raised.value.repair)

    with config.set(settings):
        asyncio.run(run())


def test_a_cluster_of_this_process_is_reached_by_nobody_else(tmp_path: Path) -> None:
    async def work(cluster: Cluster) -> None:
        await cluster.look()
        (worker,) = cluster.workers.values()
        assert worker.address.startswith("inproc://")
        answer = await cluster.task(worker, "key", calls.task_whoami)
        assert answer["pid"] == os.getpid()
        listening = _listening()
        assert {address for address, _ in listening} <= {"0100007F"}
        for _, port in listening:
            for page in (
                "health",
                "info/main/logs.html",
                "json/identity.json",
                "proxy/80/localhost/",
            ):
                assert await asyncio.to_thread(_status, port, page) == 404

    _connected("local", work, local=LocalNodes(2, tmp_path))


def _status(port: int, page: str) -> int:
    """What an HTTP server of this machine answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request("GET", f"/{page}")
        return connection.getresponse().status


def _listening() -> set[tuple[str, int]]:
    """The addresses, as the kernel writes them, and ports at which this process accepts connections."""
    inodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    addresses: set[tuple[str, int]] = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in inodes:
                address, _, port = parts[1].partition(":")
                addresses.add((address, int(port, 16)))
    return addresses


def test_an_answer_that_names_an_unknown_code_is_an_error_of_the_cluster() -> None:
    assert (
        error_from({"code": "of_a_later_release", "message": "No."}).code
        == Code.CLUSTER_FAILED
    )
    assert error_from("nonsense").code == Code.CLUSTER_FAILED
