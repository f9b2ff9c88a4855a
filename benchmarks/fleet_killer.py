"""Kills processes of a fleet at random moments, and remembers which run each belonged to.

A process of a run is known by its environment and command line, those of Dask by their
parents. What is killed is noted before the signal is sent: a run that is not noted was
not killed.
"""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.e2e.fleet.nodes import Node, command_line

from benchmarks.fleet_scene import Scene, number_of
from codex_counsel.codex.command import JOB_VARIABLE
from codex_counsel.jobs import evictor
from codex_counsel.system.process_tree import Identity

Kind = Literal["Codex", "worker", "Dask worker", "nanny"]
LOOK_SECONDS = 0.03
USUAL_SECONDS = 1.0
"""How long a process of a kind lives, before one of it has ended."""
LATEST = 50
"""So many lives make the median."""
RESTART_SECONDS = 5.0
"""In which a machine starts its Dask worker again."""
DASK = (b"spawn_main", b"resource_tracker", b"/dask")


@dataclass(frozen=True)
class Process:
    """A process below the directory of the campaign."""

    identity: Identity
    argv: tuple[bytes, ...]
    environment: bytes

    @property
    def command(self) -> str:
        return b" ".join(self.argv).decode("utf-8", "replace").strip()

    @property
    def is_of_dask(self) -> bool:
        return any(word in argument for argument in self.argv for word in DASK)

    def kill(self) -> None:
        kill(self.identity.pid)

    def run(self) -> tuple[Kind, str] | None:
        """Codex or the worker of a run, with the id of its job."""
        match = re.search(
            rb"(?:^|\0)%s=(\w+)" % JOB_VARIABLE.encode(), self.environment
        )
        if Path(os.fsdecode(self.argv[0])).name == "codex" and match:
            if b"exec" in self.argv:
                return "Codex", match[1].decode()
        elif len(self.argv) > 4 and self.argv[3].endswith(b"/jobs/boot.py"):
            return "worker", Path(os.fsdecode(self.argv[4])).name
        return None


def kill(pid: int) -> None:
    """Kill one that may have ended a moment ago."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def processes(mark: str) -> Iterator[Process]:
    """The living processes whose HOME begins with the mark: nobody else's that only names a file there.

    Without the one that drops old records: it ends by itself.
    """
    for pid in pids():
        process = process_of(pid, mark)
        if process:
            yield process


def pids() -> set[int]:
    """Those of all processes."""
    with os.scandir("/proc") as entries:
        return {int(entry.name) for entry in entries if entry.name.isdigit()}


def process_of(pid: int, mark: str) -> Process | None:
    """As `processes`; None for one that is not among them."""
    entry = Path(f"/proc/{pid}")
    try:
        identity = Identity.of(pid)
        environment = (entry / "environ").read_bytes()
        argv = tuple((entry / "cmdline").read_bytes().split(b"\0"))
    except OSError:
        return None
    # A thread of the kernel has no environment.
    if identity is None or not environment or not identity.alive():
        return None
    process = Process(identity, argv, environment)
    is_marked = f"\0HOME={mark}".encode() in b"\0" + environment
    if not is_marked or evictor.__file__ in process.command:
        return None
    return process


@dataclass(frozen=True)
class Life:
    """A process of a run that was seen. `item` is None where its prompt was gone."""

    kind: Kind
    job_id: str
    item: int | None


@dataclass
class Killer:
    """Kills until `stop`. `rate` is the share of the workers and of Codex; what Dask has is killed `dask_kills` times.

    One machine dies for good: all its processes are killed, and none is started again
    until `revive`. The client is killed by whoever runs it.
    """

    scene: Scene
    random: random.Random
    rate: float
    dask_kills: int
    has_dying_machine: bool
    items: int
    seen: Counter[Kind] = field(default_factory=Counter)
    killed: Counter[Kind] = field(default_factory=Counter)
    killed_runs: dict[str, int | None] = field(default_factory=dict)
    """Jobs of which a process was killed, with their items."""
    killed_with_machine: int = 0
    dead: Node | None = None

    def __post_init__(self) -> None:
        self._known: set[int] = set()
        self._new: set[int] = set()
        self._lives: dict[Identity, Life] = {}
        self._began: dict[Identity, float] = {}
        self._due: dict[Identity, float] = {}
        self._lengths: dict[Kind, deque[float]] = defaultdict(
            lambda: deque(maxlen=LATEST)
        )
        self._owed: Counter[Kind] = Counter()
        self._dask_at = sorted(
            self.random.uniform(0.02, 0.9) for _ in range(self.dask_kills)
        )
        self._machine_at = self.random.uniform(0.2, 0.7)
        self._restart_at: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.mistakes: list[str] = []

    def progress(self) -> float:
        """How far the batch has come: the share of its items that the model was asked about."""
        return len(self.scene.model.turns()) / self.items

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Kill nothing more."""
        self._stopping.set()
        self._thread.join()

    def kills_by_item(self) -> Counter[int]:
        """How many runs of each item had a process killed."""
        return Counter(item for item in self.killed_runs.values() if item is not None)

    def revive(self) -> None:
        """Start what is not there: every machine has its Dask worker again."""
        self.dead = None
        for machine in self.scene.cluster.nodes:
            if machine.process is None or machine.process.poll() is not None:
                self.scene.cluster.start_worker(machine)

    def _work(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self._look()
                self._kill_what_is_due()
                self._kill_of_dask()
                self._restart()
            except Exception as error:  # noqa: BLE001  # a campaign without its killer shows nothing
                self.mistakes.append(f"the killer failed: {error!r}")
                return

    # --- the processes of runs

    def _look(self) -> None:
        now = time.monotonic()
        present = pids()
        self._known &= present
        new = present - self._known
        # A child is a copy of its parent until it becomes another program.
        ready = new & self._new
        self._new = new - ready
        self._known |= ready
        for pid in ready:
            process = process_of(pid, str(self.scene.base))
            if process:
                self._meet(process, now)
        for identity in list(self._began):
            if identity.pid in present:
                continue
            life = self._lives[identity]
            self._lengths[life.kind].append(now - self._began.pop(identity))
            if self._due.pop(identity, None) is not None:
                # It was to be killed, and ended before.
                self._owed[life.kind] += 1

    def _meet(self, process: Process, now: float) -> None:
        run = process.run()
        machine = self._machine_of(process)
        if run is None or machine is None:
            return
        kind, job_id = run
        self._lives[process.identity] = Life(kind, job_id, item_of(machine, job_id))
        self.seen[kind] += 1
        self._began[process.identity] = now
        is_chosen = self.random.random() < self.rate
        if not is_chosen and self._owed[kind]:
            self._owed[kind] -= 1
            is_chosen = True
        if is_chosen:
            lengths = self._lengths[kind]
            usual = statistics.median(lengths) if lengths else USUAL_SECONDS
            self._due[process.identity] = now + self.random.uniform(0, usual)

    def _machine_of(self, process: Process) -> Node | None:
        for machine in self.scene.cluster.nodes:
            if f"{machine.world.base}/".encode() in process.environment:
                return machine
        return None

    def _kill_what_is_due(self) -> None:
        now = time.monotonic()
        for identity, moment in list(self._due.items()):
            life = self._lives[identity]
            if moment > now:
                continue
            del self._due[identity]
            if not identity.alive():
                self._owed[life.kind] += 1
                continue
            self.killed_runs[life.job_id] = life.item
            kill(identity.pid)
            self.killed[life.kind] += 1

    # --- Dask, and a whole machine

    def _kill_of_dask(self) -> None:
        progress = self.progress()
        if self.has_dying_machine and progress >= self._machine_at:
            self.has_dying_machine = False
            self._kill_machine(self.random.choice(self._running_machines()))
        if not self._dask_at or progress < self._dask_at[0]:
            return
        running = self._running_machines()
        if not running:
            return
        del self._dask_at[0]
        machine = self.random.choice(running)
        assert machine.process
        if self.random.random() < 0.25:
            machine.process.kill()
            self.killed["nanny"] += 1
            return
        for pid in worker_pids(machine):
            kill(pid)
            self.killed["Dask worker"] += 1

    def _running_machines(self) -> list[Node]:
        """Those with a Dask worker."""
        running = []
        for machine in self.scene.cluster.nodes:
            is_up = machine.process is not None and machine.process.poll() is None
            if is_up and worker_pids(machine):
                running.append(machine)
        return running

    def _kill_machine(self, machine: Node) -> None:
        """Kill everything of it, as a power failure does."""
        self.dead = machine
        mark = f"{machine.world.base}/"
        while found := list(processes(mark)):
            for process in found:
                run = process.run()
                if run:
                    self.killed_runs[run[1]] = item_of(machine, run[1])
                process.kill()
                self.killed_with_machine += 1
            if machine.process:
                machine.process.poll()

    def _restart(self) -> None:
        """Start the Dask workers whose nanny is gone, as an init system does; those of the dead machine not."""
        now = time.monotonic()
        for machine in self.scene.cluster.nodes:
            name = machine.world.base.name
            is_up = machine.process is not None and machine.process.poll() is None
            if is_up or machine is self.dead:
                self._restart_at.pop(name, None)
            elif name not in self._restart_at:
                pause = self.random.uniform(0, RESTART_SECONDS)
                self._restart_at[name] = now + pause
            elif now >= self._restart_at[name]:
                del self._restart_at[name]
                self.scene.cluster.start_worker(machine)


def worker_pids(machine: Node) -> list[int]:
    """The Dask workers of a machine that run. A thread of the nanny starts them, and is their parent."""
    found = []
    assert machine.process
    for file in Path(f"/proc/{machine.process.pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(pid) for pid in file.read_text("ascii").split()]
    return [pid for pid in found if b"spawn_main" in command_line(pid)]


def item_of(machine: Node, job_id: str) -> int | None:
    """The item that a job of a machine is about."""
    prompt = machine.world.state / "jobs" / job_id / "prompt"
    try:
        return number_of(prompt.read_text("utf-8"))
    except (OSError, ValueError):
        return None
