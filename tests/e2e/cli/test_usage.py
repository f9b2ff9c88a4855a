"""`codex-counsel usage` as a person, a script or a spreadsheet reads it."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from codex_counsel.cli.page import columns
from codex_counsel.jobs import ledger
from codex_counsel.loopback import Loopback, say
from tests import hostile
from tests.conftest import World
from tests.e2e.cli.terminal import terminal
from tests.e2e.cli.test_verbs import run

Model = Callable[..., Loopback]


def note(world: World, number: int, **changes: Any) -> None:
    """Add the line of a run that has just ended."""
    ledger.append(
        world.state,
        {
            "job_id": f"{number:032x}",
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "tool": "codex_consult",
            "status": "completed",
            "workspace": "/home/me/project",
            "model": "gpt-6",
            "elapsed_ms": 60_000,
            "tokens": {"input": 1, "cached_input": 1, "output": 1, "reasoning": 1},
            **changes,
        },
    )


def test_what_a_run_took_is_shown_at_once(world: World, model: Model) -> None:
    model([say("Yes.")])
    before = run(world, "usage")
    assert (before.code, before.out.startswith("No run has ended since ")) == (0, True)
    run(world, "consult", "Is it fine?")
    shown = run(world, "usage")
    assert shown.code == 0
    titles, day, total = shown.out.splitlines()
    assert titles.split()[:3] == ["DAY", "RUNS", "FAILED"]
    (entry,) = ledger.read(world.state, 0).entries.values()
    ended = time.strftime("%Y-%m-%d", time.localtime(entry.ended))
    assert day.split()[:3] == [ended, "1", "0"]
    assert total.split()[:3] == ["total", "1", "0"]


def test_json_and_csv_have_the_same_numbers(world: World) -> None:
    for number, workspace in enumerate(("/a", "/a", "/b")):
        note(world, number, workspace=workspace)
    wire = run(world, "usage", "--by", "workspace", "--json").json
    data = wire["data"]
    assert set(data) == {"since", "by", "rows", "total"}
    assert [(row["workspace"], row["runs"]) for row in data["rows"]] == [
        ("/a", 2),
        ("/b", 1),
    ]
    text = run(world, "usage", "--by", "workspace", "--csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["workspace"], int(row["runs"])) for row in rows] == [
        ("/a", 2),
        ("/b", 1),
    ]
    assert sum(int(row["input"]) for row in rows) == data["total"]["tokens"]["input"]


MISTAKES = [
    ("--since", "soon"),
    ("--since", "9999-01-01"),
    ("--since", ""),
    ("--by", "mood"),
    ("--csv", "--json"),
    ("--csv", "--since", "0d"),
]


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_is_named_and_nothing_is_printed(
    world: World, arguments: tuple[str, ...]
) -> None:
    result = run(world, "usage", *arguments)
    assert result.code == 2
    assert result.out == ""
    assert "Traceback" not in result.err
    assert any(flag in result.err for flag in ("--since", "--by", "--csv"))


@pytest.mark.parametrize("width", [40, 80])
def test_the_table_fits_a_terminal(world: World, width: int) -> None:
    note(world, 1, workspace="/home/me/" + "a-long-name/" * 20)
    note(world, 2, workspace="/日本", status="failed", code="timeout")
    with terminal(world, "usage", "--by", "workspace", columns=width) as screen:
        assert screen.finish() == 0
    lines = screen.text.splitlines()
    assert max(map(columns, lines)) <= width
    assert any(line.startswith("…") and "long-name/" in line for line in lines)
    assert "failed: timeout 1" in lines[-1]


@pytest.mark.parametrize("flags", [(), ("--csv",), ("--json",)])
@pytest.mark.parametrize("by", ["workspace", "model", "kind"])
def test_no_runner_and_no_terminal_obeys_what_stands_in_the_ledger(
    world: World, flags: tuple[str, ...], by: str
) -> None:
    names = (*hostile.COMMANDS.values(), *hostile.TERMINAL.values(), hostile.ALL)
    for number, text in enumerate(names):
        note(
            world,
            number,
            workspace=text,
            model=text,
            tool=text,
            code=text,
            status="failed",
        )
    result = subprocess.run(
        [sys.executable, "-m", "codex_counsel", "usage", "--by", by, *flags],
        env={**world.env, "GITHUB_ACTIONS": "true"},
        cwd=world.workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert hostile.obeyed_commands(result.stdout) == []
    assert hostile.hidden_characters(result.stdout) <= {"\ufe0f"}
    if "--csv" in flags:
        rows = list(csv.reader(io.StringIO(result.stdout)))
        assert {len(row) for row in rows} == {11}


def test_it_loads_no_heavy_library(world: World) -> None:
    note(world, 1)
    heavy = {"fastmcp", "pydantic", "anyio", "asyncio", "jsonschema", "subprocess"}
    program = (
        "import sys; from codex_counsel.cli import run; code = run(['usage'])\n"
        f"print({heavy} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=world.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "set()\n")


def test_a_closed_pipe_ends_it_quietly(world: World) -> None:
    for number in range(3_000):
        note(world, number, workspace=f"/{number}" + "x" * 100)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        result = subprocess.run(
            [sys.executable, "-m", "codex_counsel", "usage", "--by", "workspace"],
            env=world.env,
            cwd=world.workspace,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (result.returncode, result.stderr) == (141, b"")


def test_a_state_directory_of_others_is_not_read(world: World) -> None:
    note(world, 1)
    world.state.chmod(0o777)
    result = run(world, "usage")
    assert result.code == 3
    assert "storage_failed" in result.err
