"""Batches of questions, as a process of the command line runs them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codex_counsel.loopback import Loopback, Request
from codex_counsel.system.json_values import JsonObject
from tests.conftest import World, until

MARK = re.compile(r"item (\d+)\b")
MAIN = """
import sys
from codex_counsel.__main__ import main
sys.exit(main())
"""


def number_of(request: Request) -> int:
    """Which item of a batch the model is asked about."""
    found = MARK.findall(request.prompt)
    return int(found[-1])


def asked(server: Loopback) -> Counter[int]:
    """How many times the model was asked about each item."""
    return Counter(number_of(request) for request in server.requests)


def write_requests(world: World, count: int) -> Path:
    """A file of questions that need no command."""
    rows = [
        {
            "id": f"item-{number}",
            "kind": "consult",
            "arguments": {"question": f"What is item {number}?", "text_only": True},
        }
        for number in range(count)
    ]
    path = world.base / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def argv_of(*arguments: str | Path, before: str = "") -> list[str]:
    """The command line; `before` is what its Python runs first."""
    program = ["-m", "codex_counsel"]
    if before:
        program = ["-c", f"{before}{MAIN}"]
    return [sys.executable, *program, "batch", *map(str, arguments)]


def batch(
    world: World, *arguments: str | Path, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the verb to its end."""
    return subprocess.run(
        argv_of(*arguments),
        env=world.env,
        cwd=world.workspace,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@contextmanager
def started(
    world: World, *arguments: str | Path, before: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """Run the verb, as `argv_of` has it; it is killed at the end of the block if it has not ended."""
    process = subprocess.Popen(
        argv_of(*arguments, before=before),
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell, which the tests may be, ignores interrupts.
        preexec_fn=obey,  # noqa: PLW1509  # what it calls takes no lock
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def obey() -> None:
    """Have a process end at the signals that ask it to."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def results(directory: Path) -> list[JsonObject]:
    """The results in the order of their lines."""
    text = (directory / "results.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def codes(directory: Path) -> dict[str, str | None]:
    """The error codes of the items that have ended, None for an answer. No item has two lines."""
    rows = results(directory)
    found = {row["id"]: row.get("error", {}).get("code") for row in rows}
    assert len(found) == len(rows)
    return found


def names(numbers: Iterable[int]) -> list[str]:
    return [f"item-{number}" for number in numbers]


def until_recorded(directory: Path, count: int, seconds: float = 60) -> None:
    """Wait until so many results are written, at most so long."""
    path = directory / "results.jsonl"
    until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, seconds)
