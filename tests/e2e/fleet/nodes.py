"""A real Dask cluster of processes: a scheduler, and workers that each have a machine of their own to themselves."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.conftest import World, until

DASK = str(Path(sys.executable).with_name("dask"))
ROOT = Path(__file__).parents[3]
SECONDS = 150.0
"""Each node starts two interpreters with Dask in them, on a machine that may have much else to do."""
LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
QUIET = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
}
"""As docs/how-to/fleet.md has it: what Dask observes of itself takes a share of each node."""


@dataclass
class Node:
    """A world with a `dask worker` in it: the nanny is `process`, the worker its child."""

    world: World
    slots: int
    process: subprocess.Popen[bytes] | None = None
    preload: str = ""
    """A file that each worker runs before it serves anybody."""

    @property
    def jobs(self) -> list[Path]:
        """The jobs that ever ran there."""
        folder = self.world.state / "jobs"
        return list(folder.iterdir()) if folder.is_dir() else []

    def kill(self) -> None:
        """End the machine's `dask worker` at once; what it has started goes on."""
        pids = self.worker_pids()
        if self.process:
            # Else it would start another worker.
            self.process.kill()
            self.process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def id(self) -> str:
        """The id by which clients know it; empty until one has asked."""
        path = self.world.state / "fleet" / "node"
        return path.read_text() if path.exists() else ""

    def worker_pids(self) -> list[int]:
        """The worker processes of the nanny, without Python's resource tracker."""
        if self.process is None or self.process.poll() is not None:
            return []
        pids: list[int] = []
        # Any thread of the nanny may have started it.
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            pids += map(int, (thread / "children").read_text().split())
        return [pid for pid in pids if b"spawn_main" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def lasting_port() -> int:
    """A free port that the kernel gives to nobody: a scheduler that is started again needs the one that it had."""
    first = int(LOCAL_PORTS.read_text().split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class DaskCluster:
    """Start it with `with`; all its processes end with the block."""

    base: Path
    nodes: list[Node] = field(default_factory=list)
    scheduler: subprocess.Popen[bytes] | None = None
    address: str = ""

    def __enter__(self) -> Self:
        self.base.mkdir(parents=True, exist_ok=True)
        self.start_scheduler()
        return self

    def __exit__(self, *_: object) -> None:
        # A worker that is asked to end waits for 8 s.
        for node in self.nodes:
            node.kill()
        if self.scheduler:
            self.scheduler.kill()
            self.scheduler.wait()

    def start_scheduler(self) -> None:
        """At the same address as before, if there was one."""
        file = self.base / "scheduler.json"
        file.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or str(lasting_port())
        arguments = ["--host", "127.0.0.1", "--port", port, "--no-dashboard"]
        self.scheduler = self._start(
            "scheduler",
            *arguments,
            "--scheduler-file",
            str(file),
            env=World(self.base).env,
        )
        self.address = until(lambda: self._address(file), SECONDS)

    def _address(self, file: Path) -> str:
        assert self.scheduler
        assert self.scheduler.poll() is None, "the scheduler has ended"
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError):
            return ""

    def add_node(
        self, name: str, slots: int = 1, preload: str = "", **settings: Any
    ) -> Node:
        """A new machine with its worker, which may not have come to the scheduler when this returns."""
        world = World(self.base / name, settings=dict(settings))
        node = Node(world, slots, preload=preload)
        self.nodes.append(node)
        self.start_worker(node)
        return node

    def start_worker(self, node: Node) -> None:
        """Start the `dask worker` of a node, as an init system does after a crash."""
        slots = str(node.slots)
        arguments = ["--nthreads", slots, "--resources", f"codex={slots}"]
        if node.preload:
            arguments += ["--preload", node.preload]
        directory = str(node.world.base / "dask")
        node.process = self._start(
            "worker",
            self.address,
            *arguments,
            *("--no-dashboard", "--memory-limit", "0", "--host", "127.0.0.1"),
            *("--name", node.world.base.name, "--local-directory", directory),
            env=node.world.env,
        )

    def _start(
        self, command: str, *arguments: str, env: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self.base / f"{command}.log").open("ab") as log:
            return subprocess.Popen(
                [DASK, command, *arguments],
                env={**env, **QUIET, "PYTHONPATH": str(ROOT)},
                # Workers import what tests have them call.
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
