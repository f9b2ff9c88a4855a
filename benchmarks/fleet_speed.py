"""How fast a batch runs: by local slots and on a cluster of the same machine, and on more and more machines."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from benchmarks.fleet_killer import worker_pids
from benchmarks.fleet_scene import (
    Client,
    Scene,
    cpu_seconds,
    cpu_seconds_with_children,
    kind_of,
    machine_busy,
    megabytes,
    peak_bytes,
    results,
)
from codex_counsel.fleet.cluster import Cluster

START_SECONDS = 300.0
RUN_SECONDS = 1200.0
GOAL = 0.9
CLIENT_GOAL = 20.0
"""Milliseconds of CPU of the client for each item."""


def start_machines(scene: Scene, count: int, slots: int) -> None:
    """Add so many machines, and wait until the scheduler knows their Dask workers."""
    for number in range(count):
        scene.add_machine(number, slots)
    asyncio.run(_all_there(scene.cluster.address, count))


async def _all_there(address: str, count: int) -> None:
    cluster = Cluster(address)
    try:
        await cluster.connect(START_SECONDS)
        async with asyncio.timeout(START_SECONDS):
            while len(cluster.workers) < count:
                await asyncio.sleep(0.2)
                await cluster.look()
    finally:
        await cluster.close()


@dataclass
class Measured:
    """A batch that ran to its end. `busy` is the share of the machine's CPU that worked meanwhile, for whomever.

    `all_cpu` are the CPU seconds of the client, of Dask, and of all that they started;
    `dask_cpu` those of Dask's own processes, which also work while nothing happens.
    """

    client: Client
    items: int
    busy: float
    all_cpu: float
    dask_cpu: float

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.client.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """CPU of the client for an item, its start included."""
        return 1000 * self.client.cpu_seconds / self.items

    @property
    def own_share(self) -> float:
        """The share of this machine's CPU that the batch had."""
        return self.all_cpu / self.client.seconds / (os.cpu_count() or 1)

    def more_than(self, other: Measured) -> float:
        """CPU of the client, in milliseconds, for each item that it had more than another one."""
        seconds = self.client.cpu_seconds - other.client.cpu_seconds
        return 1000 * seconds / (self.items - other.items)

    @property
    def all_milliseconds(self) -> float:
        """CPU of everything for an item."""
        return 1000 * self.all_cpu / self.items

    @property
    def dask_milliseconds(self) -> float:
        """CPU of Dask for an item."""
        return 1000 * self.dask_cpu / self.items


class Bench:
    """Runs batches of one scene, and counts what went wrong with them."""

    def __init__(self, scene: Scene, *, only_questions: bool = False) -> None:
        self.scene = scene
        self._numbers: Iterator[int] = count()
        if only_questions:
            self._numbers = filter(lambda n: kind_of(n) == "consult", count())
        self.wrong: list[str] = []
        self._count = 0

    def run(self, items: int, *place: str) -> Measured:
        """Run a new batch of so many items."""
        self._count += 1
        name = f"batch-{self._count}"
        # No item of an earlier batch: the model would take them for the same.
        numbers = list(islice(self._numbers, items))
        requests = self.scene.requests(name, numbers)
        directory = self.scene.base / name
        busy, had = machine_busy()
        all_cpu, dask_cpu = self._cpu()
        client = self.scene.batch(requests, "--output-dir", directory, *place)
        code = client.wait(RUN_SECONDS)
        busy_after, had_after = machine_busy()
        completed = sum(row["status"] == "completed" for row in results(directory))
        if code != 0 or completed != items:
            log = (self.scene.client.base / "batch.log").read_text("utf-8", "replace")
            self.wrong.append(
                f"{name}: exit code {code}, {completed} of {items} completed: {log[-400:]}"
            )
        share = (busy_after - busy) / (had_after - had)
        all_after, dask_after = self._cpu()
        return Measured(
            client, items, share, all_after - all_cpu, dask_after - dask_cpu
        )

    def _cpu(self) -> tuple[float, float]:
        """CPU seconds so far: of Dask and of clients that have ended, with all that they started; of Dask alone."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        cluster = self.scene.cluster
        nannies = [node.process for node in cluster.nodes]
        pids = [process.pid for process in (cluster.scheduler, *nannies) if process]
        for node in cluster.nodes:
            pids += worker_pids(node)
        with_children = sum(map(cpu_seconds_with_children, pids))
        alone = sum(map(cpu_seconds, pids))
        return ended.ru_utime + ended.ru_stime + with_children, alone

    def cluster(self, items: int) -> Measured:
        return self.run(items, "--cluster", self.scene.cluster.address)


def throughput(base: Path, options: argparse.Namespace) -> list[str]:
    """Print the rates of both, in turns, and what the client and the scheduler need; returns what was wrong."""
    items = options.items or 200
    slots = options.workers * options.slots
    with Scene.made(base, options.answer or 0.0) as scene:
        bench = Bench(scene)
        start_machines(scene, options.workers, options.slots)
        places = {
            "local": ("--jobs", str(slots)),
            "cluster": ("--cluster", scene.cluster.address),
        }
        # The first looks at Codex, the foundation; and what a client costs that does little.
        first = {name: bench.run(2 * slots, *place) for name, place in places.items()}
        print(
            f"{items} items, {slots} slots; on the cluster {options.workers} machines"
        )
        print(
            f"{'':<10}{'items/s':>10}{'client CPU':>14}{'memory':>10}{'all CPU':>14}{'busy':>8}"
        )
        measured: dict[str, list[Measured]] = {"local": [], "cluster": []}
        for _ in range(options.rounds):
            for name, place in places.items():
                one = bench.run(items, *place)
                measured[name].append(one)
                print(
                    f"{name:<10}{one.rate:>10.2f}{one.cpu_milliseconds:>11.1f} ms"
                    f"{megabytes(one.client.peak_bytes):>10}{one.dask_milliseconds:>11.1f} ms"
                    f"{one.all_milliseconds:>11.1f} ms{one.busy:>8.0%}"
                )
                sys.stdout.flush()
        rates = {
            name: sum(one.items for one in ones)
            / sum(one.client.seconds for one in ones)
            for name, ones in measured.items()
        }
        ratio = rates["cluster"] / rates["local"]
        needed = {
            name: sum(one.all_cpu for one in ones) for name, ones in measured.items()
        }
        costs = [one.more_than(first["cluster"]) for one in measured["cluster"]]
        cost = sum(costs) / len(costs)
        start = first["cluster"].client.cpu_seconds - 2 * slots * cost / 1000
        print(f"cluster / local: {ratio:.2f} (goal: {GOAL} or more)")
        print(
            f"the same by the CPU of an item, which others on the machine do not change:"
            f" {needed['local'] / needed['cluster']:.2f}"
        )
        print(
            f"client's CPU for an item: {cost:.1f} ms (goal: {CLIENT_GOAL:g} or less), and {start:.1f} s for its start"
        )
        _print_scheduler(scene)
        if ratio < GOAL:
            bench.wrong.append(f"the throughput on the cluster is {ratio:.2f} of local")
        if cost > CLIENT_GOAL:
            bench.wrong.append(f"the client needs {cost:.1f} ms CPU for an item")
        return bench.wrong


def scale(base: Path, options: argparse.Namespace) -> list[str]:
    """Print how long as many items for each machine take on more and more machines; returns what was wrong."""
    answer = 2.0 if options.answer is None else options.answer
    each = options.items or 20
    wrong: list[str] = []
    print(f"{each} items for each machine with one slot, answers of {answer:g} s")
    print(
        f"{'machines':<10}{'seconds':>10}{'items/s':>10}{'efficiency':>12}{'own CPU':>10}{'busy':>8}"
    )
    alone = 0.0
    for size in options.sizes:
        with Scene.made(base / f"{size}", answer) as scene:
            # All take as long: a task would need two answers.
            bench = Bench(scene, only_questions=True)
            start_machines(scene, size, 1)
            bench.cluster(2 * size)
            one = bench.cluster(each * size)
            alone = alone or one.client.seconds
            efficiency = alone / one.client.seconds
            print(
                f"{size:<10}{one.client.seconds:>10.1f}{one.rate:>10.2f}{efficiency:>12.2f}"
                f"{one.own_share:>10.0%}{one.busy:>8.0%}"
            )
            sys.stdout.flush()
            wrong += bench.wrong
    if efficiency < GOAL:
        wrong.append(
            f"the efficiency at {size} machines is {efficiency:.2f}; the CPU of this machine was {one.busy:.0%} busy,"
            f" {one.own_share:.0%} of it with the batch"
        )
    return wrong


def _print_scheduler(scene: Scene) -> None:
    process = scene.cluster.scheduler
    if process:
        with suppress(OSError):
            print(f"scheduler: {megabytes(peak_bytes(process.pid))}")
