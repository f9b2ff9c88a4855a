"""Kill what runs a batch on a Dask cluster at random, and check that nothing is lost or asked twice; or measure it.

    uv run python -m benchmarks.fleet [--items 1000] [--workers 8] [--kills 10] [--seed 1]
    uv run python -m benchmarks.fleet --throughput [--items 200]
    uv run python -m benchmarks.fleet --scale [--answer 2]

A real `dask scheduler`, and machines that each have a `dask worker` with its nanny, a
home, a login, a state directory and a temporary directory of their own; real Codex, and
the scripted model on loopback. Eight tenths of the items are questions, one tenth
reviews of a commit, one tenth tasks.

**The campaign** runs in three parts:

1. The batch runs. So many percent of all processes of Codex and of all workers are
   killed with SIGKILL, at a random moment of their usual life. For every `DASK_EVERY`
   items a Dask worker or, each fourth time, its nanny is killed; a nanny is started
   again after a while, as an init system does. One machine dies with all its processes
   and stays away. The client is killed once, and the batch resumed until it ends.
2. The machine is there again, and the batch is resumed: it is asked for what it had.
3. The batch is resumed with --retry-lost, and nothing is killed.

Wrong is

- in part 1, an item without exactly one result, or a result that is another item's; one that failed otherwise than
  as lost by name; one that was lost although no process of its run was killed and its machine did not die;
- an item that had more turns than one, and one more for each of its runs that was killed or lost: what is counted are
  the threads of Codex that ask about the item, told by a mark in its text. Requests that Codex repeats in one thread
  are shown apart. Which run a killed process belonged to is read from its environment before the signal is sent, so
  a repetition that no kill explains is found;
- in part 2, a turn of an item of which the model had been asked, and in part 3 one of an item that was not lost, or an
  item that is not completed in the end;
- after each part, a process that is still there after 5 seconds, other than those of Dask;
- in the end, a file in a temporary directory that the next call does not remove, or a folder of the batch for what is
  on its way.

The foundations that machines keep are a cache, and stay. The exit code is 1 if anything
is wrong.

**Throughput** runs the same items by local slots and on a cluster of this machine, in
turns, with instant answers. **Scale** runs as many items for each machine on 1, 2, 4 and
8 machines with one slot, with answers that take a while. All machines are processes of this
one, and an item needs some 0.4 s of its CPU: where the CPU is busy, the curve is that of
the CPU, so its share is shown beside it; longer answers need less of it.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import World

from benchmarks import fleet_speed
from benchmarks.fleet_killer import Killer, Kind, processes
from benchmarks.fleet_scene import (
    Client,
    Scene,
    kind_of,
    megabytes,
    peak_bytes,
    results,
)
from codex_counsel.batch.model import LOST
from codex_counsel.services.counsel import Counsel
from codex_counsel.system.json_values import JsonObject

DASK_EVERY = 40
PATIENCE = 5.0
"""Seconds in which all processes of a batch have ended."""
SECONDS_PER_ITEM = 4.0
MAX_RUNS = 10
"""Of the client, in one part."""
KEPT = {
    *("batch.json", "requests.jsonl", "results.jsonl", "places.jsonl", "lock"),
    *(".gitignore", "foundations", "summary.md", "summary.html", "summary.sarif"),
}
"""What may be in the directory of a batch that has ended."""
LOST_CODES = frozenset(map(str, LOST))


@dataclass
class Campaign:
    """The batch of one scene, and what was wrong with it."""

    scene: Scene
    killer: Killer
    items: int
    random: random.Random
    lost_after: float
    wrong: list[str] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    client_kills: int = 0

    @property
    def directory(self) -> Path:
        return self.scene.base / "batch"

    def rows(self) -> dict[int, JsonObject]:
        """The results by item; what has two is wrong."""
        found: dict[int, JsonObject] = {}
        for row in results(self.directory):
            number = int(row["id"].removeprefix("item-"))
            if number in found:
                self.wrong.append(f"item {number} has two results")
            found[number] = row
        return found

    def run(self) -> None:
        """The three parts."""
        begun = time.monotonic()
        self._kill()
        first = self._check_first()
        self.report(f"part 1, {time.monotonic() - begun:.0f} s", first)

        before = self.scene.model.turns()
        self.killer.revive()
        self._resume("part 2")
        second = self.rows()
        # A machine that was never reached says so now, and its items are sent elsewhere.
        self._check_turns("part 2", before, set(range(self.items)) - before.keys())
        self.report("part 2, the machine is back", second)

        before = self.scene.model.turns()
        self._resume("part 3", "--retry-lost")
        third = self.rows()
        lost = {number for number, row in second.items() if not is_done(row)}
        self._check_turns("part 3", before, lost)
        for number in range(self.items):
            row = third.get(number)
            if row is None or not is_done(row):
                self.wrong.append(f"item {number} is not completed in the end: {row}")
        self.report("part 3, lost items run anew", third)
        self._check_left()

    # --- the parts

    def _kill(self) -> None:
        requests = self.scene.requests("requests", range(self.items))
        client = self._start(requests, "--output-dir", self.directory)
        client_at = self.random.uniform(0.3, 0.7)
        deadline = time.monotonic() + self._most_seconds()
        self.killer.start()
        while len(self.clients) <= MAX_RUNS:
            while not client.has_ended and time.monotonic() < deadline:
                time.sleep(0.05)
                if not self.client_kills and self.killer.progress() >= client_at:
                    self.client_kills = 1
                    client.process.kill()
                    break
            code = client.wait(10)
            if time.monotonic() >= deadline:
                self.wrong.append("part 1 did not end in time")
                break
            if len(results(self.directory)) == self.items:
                break
            if code >= 0:
                count = len(results(self.directory))
                self.wrong.append(
                    f"the client ended with {code} after {count} results: {self._last_words()}"
                )
            client = self._start("--resume", self.directory)
        self.killer.stop()
        self.wrong += self.killer.mistakes
        self._check_gone("part 1")

    def _start(self, *arguments: str | Path) -> Client:
        client = self.scene.batch(
            *arguments,
            "--cluster",
            self.scene.cluster.address,
            "--lost-after",
            str(self.lost_after),
        )
        self.clients.append(client)
        return client

    def _resume(self, part: str, *arguments: str) -> None:
        client = self._start("--resume", self.directory, *arguments)
        code = client.wait(self._most_seconds())
        if code < 0:
            self.wrong.append(f"{part} did not end in time")
        self._check_gone(part)

    def _most_seconds(self) -> float:
        """In which a part has ended."""
        return 300 + 2 * self.lost_after + SECONDS_PER_ITEM * self.items

    def _last_words(self) -> str:
        text = (self.scene.client.base / "batch.log").read_text("utf-8", "replace")
        return text[-400:]

    # --- what must hold

    def _check_first(self) -> dict[int, JsonObject]:
        rows = self.rows()
        turns = self.scene.model.turns()
        killed = self.killer.kills_by_item()
        places = self._places()
        dead = self.killer.dead
        for number in range(self.items):
            row = rows.get(number)
            if row is None:
                self.wrong.append(f"item {number} has no result")
                continue
            place = places.get(f"item-{number}") or ""
            is_on_dead = dead is not None and place.startswith(dead.id)
            is_explained = is_on_dead or killed[number] > 0
            problem = fault(number, row)
            if problem and not (is_explained and code_of(row) in LOST_CODES):
                self.wrong.append(f"item {number}: {problem}; killed: {is_explained}")
            allowed = 1 + killed[number]
            if turns.get(number, 0) > allowed:
                self.wrong.append(
                    f"item {number} had {turns[number]} turns, {killed[number]} of its runs were killed"
                )
        self._check_jobs(rows)
        return rows

    def _check_jobs(self, rows: dict[int, JsonObject]) -> None:
        """Each result that a machine sent is one job of the client, and each of its jobs one result."""
        named = [
            row["meta"]["job_id"] for row in rows.values() if "job_id" in row["meta"]
        ]
        jobs = {
            path.name for path in (self.scene.client.state / "jobs").glob("[0-9a-f]*")
        }
        if len(named) != len(set(named)) or jobs != set(named):
            self.wrong.append(
                f"{len(rows)} results name {len(set(named))} jobs, the client has {len(jobs)}"
            )

    def _places(self) -> dict[str, str]:
        """Where each item was sent last."""
        text = (self.directory / "places.jsonl").read_text("utf-8")
        rows = map(json.loads, text.splitlines())
        return {row["id"]: row["node"] for row in rows}

    def _check_turns(
        self, part: str, before: dict[int, int], open_items: set[int]
    ) -> None:
        """Only these items are asked about, and each once."""
        for number, count in self.scene.model.turns().items():
            more = count - before.get(number, 0)
            if more > int(number in open_items):
                self.wrong.append(f"{part}: item {number} had {more} more turns")

    def _check_gone(self, part: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while left := self._living():
            if time.monotonic() > deadline:
                self.wrong += [f"{part}: left: {command}" for command in left]
                return
            select.select([], [], [], 0.05)

    def _living(self) -> list[str]:
        """The processes of the campaign other than those of Dask."""
        found = processes(str(self.scene.base))
        return [process.command for process in found if not process.is_of_dask]

    def _check_left(self) -> None:
        """The files that killed processes left, after those were removed that the next call removes."""
        unknown = {path.name for path in self.directory.iterdir()} - KEPT
        self.wrong += [f"left in the batch: {name}" for name in sorted(unknown)]
        machines = [node.world for node in self.scene.cluster.nodes]
        before = 0
        for world in (self.scene.client, *machines):
            before += count_files(world.temp)
            trees = sweep(world)
            left = [*world.temp.iterdir(), *trees.glob("*")]
            self.wrong += [f"left: {path}" for path in left]
        kept = 0
        for world in machines:
            for name in ("results", "uploads"):
                kept += count_files(world.state / "fleet" / name)
        print(f"\nfiles in temporary directories before the next call: {before}")
        print(
            f"results that machines still keep, as they could not be told that the client has them: {kept}"
        )

    # --- what is printed

    def report(self, title: str, rows: dict[int, JsonObject]) -> None:
        """How the items of each kind ended."""
        tally: Counter[tuple[str, str]] = Counter()
        for number, row in rows.items():
            tally[kind_of(number), code_of(row) or str(row["status"])] += 1
        turns = self.scene.model.turns()
        print(f"\n{title}: {len(rows)} of {self.items} items have a result")
        for (kind, ended), count in sorted(tally.items()):
            print(f"  {kind:<10}{ended:<24}{count:>6}")
        twice = sum(count > 1 for count in turns.values())
        print(
            f"  turns {sum(turns.values())}, items with more than one {twice}, items without one"
            f" {self.items - len(turns)}, requests repeated by Codex {self.scene.model.repeated_requests()}"
        )
        sys.stdout.flush()

    def report_kills(self) -> None:
        """The table of kills, and what client and scheduler needed."""
        killer = self.killer
        print(f"\n{'killed in part 1':<20}{'seen':>8}{'killed':>8}{'share':>8}")
        of_runs: tuple[Kind, ...] = ("Codex", "worker")
        for kind in of_runs:
            seen, killed = killer.seen[kind], killer.killed[kind]
            print(f"{kind:<20}{seen:>8}{killed:>8}{killed / max(seen, 1):>8.1%}")
        machines = len(self.scene.cluster.nodes)
        of_dask: tuple[Kind, ...] = ("Dask worker", "nanny")
        for kind in of_dask:
            killed = killer.killed[kind]
            seen = machines + killer.killed["Dask worker"] + killer.killed["nanny"]
            print(f"{kind:<20}{seen:>8}{killed:>8}{killed / seen:>8.1%}")
        print(f"{'client':<20}{len(self.clients):>8}{self.client_kills:>8}")
        if killer.dead or killer.killed_with_machine:
            print(
                f"one machine, with {killer.killed_with_machine} processes of all kinds"
            )
        cpu = sum(client.cpu_seconds for client in self.clients)
        memory = max(client.peak_bytes for client in self.clients)
        print(
            f"client, {len(self.clients)} processes: {1000 * cpu / self.items:.1f} ms CPU an item, {megabytes(memory)}"
        )
        scheduler = self.scene.cluster.scheduler
        if scheduler:
            with suppress(OSError):
                print(f"scheduler: {megabytes(peak_bytes(scheduler.pid))}")


def fault(number: int, row: JsonObject) -> str:
    """What is wrong with a result; empty where it is the completed one of this item."""
    if not is_done(row):
        message = row.get("error", {}).get("message")
        return f"{row['status']}, {code_of(row)}: {message}"
    text = json.dumps(row)
    if f"Done {number}." not in text:
        return "the answer of another item"
    if kind_of(number) == "delegate" and f"item-{number}.txt" not in text:
        return "no diff, or that of another item"
    return ""


def is_done(row: JsonObject) -> bool:
    return bool(row["status"] == "completed")


def code_of(row: JsonObject) -> str | None:
    error = row.get("error") or {}
    return error.get("code")


def count_files(directory: Path) -> int:
    return sum(path.is_file() for path in directory.rglob("*"))


def sweep(world: World) -> Path:
    """Remove what killed processes left on a machine, as its next call does; returns where trees of tasks are."""
    before, tempfile.tempdir = tempfile.tempdir, str(world.temp)
    try:
        counsel = Counsel(world.env, world.workspace)
        counsel.sweep()
        return counsel.context.directories.trees
    finally:
        tempfile.tempdir = before


def campaign(base: Path, options: argparse.Namespace) -> list[str]:
    """Run it and print the figures; returns what was wrong."""
    rng = random.Random(options.seed)
    items = options.items or 1000
    with Scene.made(base, options.answer or 0.1) as scene:
        fleet_speed.start_machines(scene, options.workers, options.slots)
        killer = Killer(
            scene,
            random.Random(options.seed + 1),
            rate=options.kills / 100,
            dask_kills=max(2, items // DASK_EVERY),
            has_dying_machine=options.workers > 1,
            items=items,
        )
        run = Campaign(scene, killer, items, rng, options.lost_after)
        try:
            run.run()
        finally:
            run.report_kills()
            for client in run.clients:
                client.wait(0)
        return run.wrong


def end_all(base: Path) -> None:
    """End what a campaign that was broken off has left."""
    for _ in range(20):
        found = list(processes(str(base)))
        if not found:
            return
        for process in found:
            process.kill()
        time.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--items", type=int, help="default: 1000, with a measure 200")
    parser.add_argument("--workers", type=int, default=8, help="machines")
    parser.add_argument("--slots", type=int, default=1, help="of each machine")
    parser.add_argument("--kills", type=float, default=10, help="percent")
    parser.add_argument(
        "--lost-after",
        type=float,
        default=120,
        help="seconds; a Dask worker must be back long before, however busy this machine is",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--answer", type=float, help="seconds that an answer takes")
    parser.add_argument("--rounds", type=int, default=2, help="of a measure")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="machines of --scale"
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--throughput", action="store_true")
    modes.add_argument("--scale", action="store_true")
    options = parser.parse_args()

    # Whoever ends it does not leave its processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    base = Path(tempfile.mkdtemp(prefix="codex-counsel-fleet-"))
    try:
        if options.throughput:
            wrong = fleet_speed.throughput(base, options)
        elif options.scale:
            wrong = fleet_speed.scale(base, options)
        else:
            wrong = campaign(base, options)
    finally:
        end_all(base)
    print()
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{len(wrong)} wrong")
    if options.keep or wrong:
        print(f"kept: {base}")
    else:
        shutil.rmtree(base, ignore_errors=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
