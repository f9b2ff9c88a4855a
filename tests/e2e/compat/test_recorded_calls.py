"""Calls and command lines as public skills, plugins, clients and guides have them: each works as it did, or is refused.

`recorded_calls.json` holds their shapes; the prompts are our own. `gives` is what our server makes of a call:

- `answer`: what the model said, and nothing else
- `work`: what the model said, the diff of what it did in a copy, and how to apply it
- `… and a note`: further a line on the approval policy
- `refusal`: an error that has each of `names`, before anything is spent

For a command line, it is what the server makes of a call that names a prompt alone; with a `refusal` it does not begin.
Then, and with `names`, the line on its standard error has each of `names`.

`gave` is what the last release made of it: `answer` or `refusal`. `model`, `effort` and `developer` are what Codex
asks its model with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.loopback import Loopback, Request, say, shell
from tests.conftest import World
from tests.e2e.compat.client import ask, named_thread, text
from tests.e2e.compat.conftest import Start
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
Shape = dict[str, Any]
RECORDED = json.loads(
    Path(__file__).with_name("recorded_calls.json").read_text("utf-8")
)
CALLS: list[Shape] = RECORDED["calls"]
COMMAND_LINES: list[Shape] = RECORDED["command_lines"]
COMMAND = str(Path(sys.executable).with_name("codex-mcp-server"))
USAGE_ERROR = 2
SAID = "It is fine."
WORK = [shell("echo done > made.txt"), say(SAID)]


def by_source(shape: Shape) -> str:
    return str(shape["source"])


@pytest.fixture
def workspace(world: World) -> Path:
    return world.repository.begin_with_work().root


@pytest.mark.parametrize("shape", CALLS, ids=by_source)
def test_a_recorded_call_works_or_is_refused_by_name(
    workspace: Path, compat: Start, model: Model, shape: Shape
) -> None:
    codex = model(script_of(shape))
    server = compat()
    arguments = filled(shape["arguments"], workspace, server)
    spent = len(codex.requests)
    result = ask(server, shape.get("tool", "codex"), **arguments)
    check_result(shape, result)
    asked = codex.requests[spent:]
    assert bool(asked) == (shape["gives"] != "refusal")
    for request in asked:
        check_request(shape, request)
    assert not (workspace / "made.txt").exists()


@pytest.mark.parametrize("shape", CALLS, ids=by_source)
def test_the_last_release_made_of_it_what_is_recorded(
    workspace: Path, last_release: Start, model: Model, shape: Shape
) -> None:
    codex = model(say(SAID))
    server = last_release()
    arguments = filled(shape["arguments"], workspace, server)
    spent = len(codex.requests)
    result = ask(server, shape.get("tool", "codex"), **arguments)
    assert bool(result.get("isError")) == (shape["gave"] == "refusal")
    for request in codex.requests[spent:]:
        check_request(shape, request)


@pytest.mark.parametrize("shape", COMMAND_LINES, ids=by_source)
def test_a_recorded_command_line_works_or_is_refused_by_name(
    world: World, workspace: Path, model: Model, shape: Shape
) -> None:
    codex = model(script_of(shape))
    with ServerProcess(world, argv=(COMMAND, *shape["args"])) as server:
        if shape["gives"] == "refusal":
            assert server.wait_for_exit() == USAGE_ERROR
        else:
            server.initialize()
            check_result(shape, ask(server, "codex", prompt="Go on."))
        remarks = server.stderr
    assert [name for name in shape.get("names", ()) if name not in remarks] == []
    assert bool(codex.requests) == (shape["gives"] != "refusal")
    for request in codex.requests:
        check_request(shape, request)


def script_of(shape: Shape) -> Any:
    return WORK if shape["gives"].startswith("work") else say(SAID)


def filled(
    arguments: dict[str, Any], workspace: Path, server: ServerProcess
) -> dict[str, Any]:
    """The arguments with the workspace, and with a thread that the server has begun, where they name one."""
    known = {"{workspace}": str(workspace)}
    if "{thread}" in arguments.values():
        known["{thread}"] = named_thread(ask(server, "codex", prompt="Begin."))
    return {
        name: known.get(value, value) if isinstance(value, str) else value
        for name, value in arguments.items()
    }


def check_result(shape: Shape, result: dict[str, Any]) -> None:
    content = text(result)
    if shape["gives"] == "refusal":
        assert result["isError"]
        assert [name for name in shape["names"] if name not in content] == []
        return

    assert not result.get("isError"), content
    policy = f"approval-policy {shape.get('arguments', {}).get('approval-policy')}"
    assert (policy in content) == shape["gives"].endswith(" and a note")
    if shape["gives"] == "answer":
        assert content == SAID
    if shape["gives"].startswith("work"):
        assert content.startswith(f"{SAID}\n\n")
        assert "+++ b/made.txt\n" in content
        assert "codex-counsel apply " in content


def check_request(shape: Shape, request: Request) -> None:
    assert shape.get("developer", "") in request.developer
    for name in ("model", "effort"):
        if name in shape:
            assert getattr(request, name) == shape[name]
