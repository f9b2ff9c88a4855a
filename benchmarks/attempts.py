"""Several attempts at a task: how long they take together, against the slowest of them.

    uv run python -m benchmarks.attempts [--attempts 3] [--seconds 3] [--rounds 5] [--files 2000]

The model takes some seconds for each of two answers. The task is to change one file of a
repository, and a check runs on the result and on the start.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from tests.conftest import World
from tests.e2e.delegation import delegate

from codex_counsel.loopback import Loopback, Request, say, shell, slow
from codex_counsel.loopback.reply import Reply

CHECK = "grep -q 42 app.py"


def main() -> None:
    """Print the median of each time, in seconds, and the quotient of the two that matter."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=2000)
    arguments = parser.parse_args()

    def script(request: Request) -> Reply:
        answers = (shell("sed -i 's/41/42/' app.py"), say("It is 42 now."))
        return slow(answers[min(request.index, 1)], arguments.seconds)

    base = Path(tempfile.mkdtemp(prefix="codex-counsel-attempts-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(base)
    times: dict[str, list[float]] = {"alone": [], "slowest": [], "together": []}
    try:
        with Loopback(script) as model:
            world = World(base / "world")
            world.configure(model.config_toml())
            fill(world, arguments.files)
            for _ in range(arguments.rounds):
                began = time.monotonic()
                delegate(world, check=CHECK)
                times["alone"].append(time.monotonic() - began)
                began = time.monotonic()
                wire = delegate(world, check=CHECK, attempts=arguments.attempts)
                times["together"].append(time.monotonic() - began)
                taken = [seconds(world, row["job_id"]) for row in wire["attempts"]]
                times["slowest"].append(max(taken))
    finally:
        shutil.rmtree(base, ignore_errors=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:<12}{median:>8.2f} s")
    print(f"quotient    {medians['together'] / medians['slowest']:>8.2f}")


def fill(world: World, files: int) -> None:
    """Make the workspace a repository with so many files."""
    repository = world.repository.begin()
    for number in range(files):
        repository.write(f"src/part{number % 50}/file{number}.py", "line = 1\n" * 40)
    repository.commit()
    repository.write("app.py", "answer = 41\n")


def seconds(world: World, job_id: str) -> float:
    """How long an attempt took, from its start to its result."""
    stored = world.counsel().store.job(job_id).result() or {}
    return float(stored["meta"]["elapsed_ms"]) / 1000


if __name__ == "__main__":
    main()
