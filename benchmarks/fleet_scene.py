"""What the benchmarks of a fleet share: machines with Dask workers, a batch of requests, its client as a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests import reviews
from tests.conftest import World
from tests.e2e.fleet.nodes import DaskCluster

from codex_counsel.loopback import Loopback, Reply, Request, say, shell, slow
from codex_counsel.system.json_values import JsonObject

MARK = re.compile(r"campaign item (\d+)\b")
"""What tells the model, and this program, which item a request belongs to."""
REVIEW_EVERY, DELEGATE_EVERY = 10, 10
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.05
ROOT = Path(__file__).parents[1]


def kind_of(number: int) -> str:
    """A tenth of the items are reviews of a commit, a tenth tasks, all others questions."""
    if number % REVIEW_EVERY == 3:
        return "review"
    if number % DELEGATE_EVERY == 7:
        return "delegate"
    return "consult"


def number_of(text: str) -> int:
    """The item that a prompt is about. Raises ValueError where it is about none, or about several."""
    (number,) = set(MARK.findall(text))
    return int(number)


@dataclass
class Model:
    """The scripted model, each answer of which takes so many seconds."""

    seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: dict[int, Counter[str]] = field(default_factory=dict)
    """For each item how many requests each thread of Codex made."""

    def reply(self, request: Request) -> Reply:
        number = number_of(request.prompt)
        with self.lock:
            asked = self.threads.setdefault(number, Counter())
            asked[request.thread_id] += 1
        answer = say(f"Done {number}.")
        if kind_of(number) == "review":
            answer = say(reviews.reply(summary=f"Done {number}."))
        if kind_of(number) == "delegate" and not request.outputs:
            answer = shell(f"echo done > item-{number}.txt")
        if self.seconds:
            return slow(answer, self.seconds)
        return answer

    def turns(self) -> dict[int, int]:
        """How many turns each item has had: threads of Codex, however many requests each made."""
        with self.lock:
            return {number: len(asked) for number, asked in self.threads.items()}

    def repeated_requests(self) -> int:
        """Requests that Codex sent again in the same thread."""
        count = 0
        with self.lock:
            for number, asked in self.threads.items():
                usual = 2 if kind_of(number) == "delegate" else 1
                count += sum(max(0, times - usual) for times in asked.values())
        return count


@dataclass
class Scene:
    """Machines, a client and a model, below one directory that marks all their processes."""

    base: Path
    client: World
    cluster: DaskCluster
    model: Model
    loopback: Loopback

    @classmethod
    @contextmanager
    def made(cls, base: Path, seconds: float = 0.0) -> Iterator[Self]:
        """A scene without machines. All its Dask processes end with the block."""
        model = Model(seconds)
        client = World(base / "client")
        with (
            Loopback(model.reply) as loopback,
            DaskCluster(base / "cluster") as cluster,
        ):
            client.configure(loopback.config_toml())
            yield cls(base, client, cluster, model, loopback)

    def add_machine(self, number: int, slots: int) -> None:
        """A machine with a login, and a Dask worker that comes soon."""
        base = self.cluster.base / f"machine-{number}"
        World(base).configure(self.loopback.config_toml())
        self.cluster.add_node(base.name, slots)

    def requests(self, name: str, numbers: Iterable[int]) -> Path:
        """A file of requests, and the repository that they are about."""
        repository = self.client.repository
        if not (self.client.workspace / ".git").exists():
            repository.begin()
        rows = []
        for number in numbers:
            kind = kind_of(number)
            mark = f"campaign item {number}"
            arguments: JsonObject = {}
            if kind == "review":
                repository.write(f"reviewed/{number}.txt", f"This is {mark}.\n")
                commit = repository.commit(f"Add a file for {number}")
                arguments = {"scope": "commit", "commit": commit}
            elif kind == "delegate":
                arguments = {"task": f"Do {mark}."}
            else:
                arguments = {"question": f"Is {mark} fine?", "text_only": True}
            row = {"id": f"item-{number}", "kind": kind, "arguments": arguments}
            rows.append(json.dumps({**row, "repo": str(self.client.workspace)}))
        # Uncommitted work travels too, except that of a secret file.
        repository.write("app.py", "answer = 42\n")
        path = self.client.base / f"{name}.jsonl"
        path.write_text("\n".join(rows) + "\n", "utf-8")
        return path

    def batch(self, *arguments: str | Path) -> Client:
        """Start the verb. What it prints is added to `batch.log`."""
        with (self.client.base / "batch.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "codex_counsel", "batch", *map(str, arguments)],
                env=self.client.env,
                cwd=self.client.workspace,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return Client(process)


class Client:
    """A process of the verb, watched until it has ended: its own CPU without that of its children, and its memory."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.began = time.monotonic()
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            with suppress(OSError, IndexError):
                # Of a process that is just ending, nothing is left to read.
                now = cpu_seconds(self.process.pid)
                self.cpu_seconds = max(now, self.cpu_seconds)
                memory = peak_bytes(self.process.pid)
                self.peak_bytes = max(memory, self.peak_bytes)
            time.sleep(SAMPLE_SECONDS)
        self.seconds = time.monotonic() - self.began

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, seconds: float) -> int:
        """The exit code; the process is killed when the time is over."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._thread.join()
        return code


def cpu_seconds(pid: int) -> float:
    """User and system time of a process without its children. Raises OSError."""
    return sum(_times(pid)[:2])


def cpu_seconds_with_children(pid: int) -> float:
    """With the children that it has waited for, and theirs. Raises OSError."""
    return sum(_times(pid))


def _times(pid: int) -> list[float]:
    """User, system, and both of the children."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return [int(field) / TICKS for field in fields[11:15]]


def peak_bytes(pid: int) -> int:
    """The most memory that a process had. Raises OSError."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    return 0


def machine_busy() -> tuple[float, float]:
    """The CPU seconds that this machine worked, and all that it had."""
    line = Path("/proc/stat").read_text("utf-8").splitlines()[0]
    ticks = [int(word) for word in line.split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / TICKS, sum(ticks) / TICKS


def results(directory: Path) -> list[JsonObject]:
    """The rows of results.jsonl; empty where there is none yet."""
    try:
        text = (directory / "results.jsonl").read_text("utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def megabytes(count: float) -> str:
    return f"{count / 1e6:.0f} MB"
