"""The Agents SDK of PyPI drives the server by `MCPServerStdio`; the agent's model is scripted, as Codex's is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.compat import WAIT
from codex_counsel.loopback import Loopback, Reply, Request, hold, say, shell
from codex_counsel.loopback import call as call_tool
from tests.conftest import World, living, until
from tests.e2e.compat.client import ARGV
from tests.e2e.compat.conftest import ROOT
from tests.e2e.runs import command_line

pytestmark = pytest.mark.timeout(900)  # the SDK may have to be installed first

Model = Callable[..., Loopback]
PROGRAM = Path(__file__).with_name("agent.py")
PATIENT = {"client_session_timeout_seconds": 60}
IMPATIENT: dict[str, Any] = {"client_session_timeout_seconds": 20}
"""The default of the SDK is 5, for the start of the server too."""
COOKBOOK = {"approval-policy": "never", "sandbox": "workspace-write"}


class Agents:
    """Agents of a user, each in a process of its own. `model` is asked by them, not by Codex."""

    def __init__(self, python: Path, world: World, model: Loopback) -> None:
        self.model = model
        self._python = python
        self._world = world

    @property
    def outputs(self) -> list[str]:
        """What the tools returned to the agent, oldest first."""
        return self.model.requests[-1].outputs

    @property
    def env(self) -> dict[str, str]:
        return {
            **self._world.env,
            "OPENAI_BASE_URL": self.model.base_url,
            "OPENAI_API_KEY": "scripted",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        }

    def run(self, settings: dict[str, str] | None = None, **options: Any) -> str:
        """What the agent says at the end. `options` are those of `MCPServerStdio` and `allowed_tools`."""
        command, *arguments = ARGV
        params = {
            "command": command,
            "args": arguments,
            "env": self._world.env | (settings or {}),
        }
        return self.run_program(
            PROGRAM.read_text("utf-8"),
            json.dumps({"params": params, **PATIENT, **options}),
            "Go.",
        )

    def run_program(self, program: str, *arguments: str) -> str:
        """What the program prints; it finds the commands of this project on PATH."""
        commands = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        done = subprocess.run(
            [self._python, "-c", program, *arguments],
            env={**self.env, "PATH": commands},
            cwd=self._world.workspace,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def example_of_the_manual() -> str:
    """The program of the page for users of the Agents SDK."""
    page = (ROOT / "docs/how-to/mcp-server.md").read_text("utf-8")
    _, marked, rest = page.partition("tests/e2e/compat/test_agents_sdk.py runs this")
    assert marked
    return rest.partition("```python\n")[2].partition("```")[0]


@pytest.fixture
def agents(agents_python: Path, world: World) -> Iterator[Callable[..., Agents]]:
    """What starts the model of the agents by a script."""
    models: list[Loopback] = []

    def start(script: Callable[[Request], Reply]) -> Agents:
        models.append(Loopback(script))
        return Agents(agents_python, world, models[-1])

    yield start
    for model in models:
        model.__exit__(None, None, None)


Start = Callable[[Callable[[Request], Reply]], Agents]


def test_an_agent_asks_codex_and_asks_back_in_the_same_thread(
    model: Model, agents: Start
) -> None:
    codex = model([say("Two modules."), say("The second.")])

    def manage(request: Request) -> Reply:
        outputs = request.outputs
        if not outputs:
            return call_tool("codex", {"prompt": "How many modules?"})
        if len(outputs) == 1:
            thread = json.loads(outputs[0])["threadId"]
            return call_tool(
                "codex-reply", {"prompt": "Which one parses?", "threadId": thread}
            )
        return say(f"Codex says: {json.loads(outputs[1])['content']}")

    manager = agents(manage)
    said = manager.run(use_structured_content=True, cache_tools_list=True)
    assert said == "Codex says: The second."
    assert manager.model.requests[0].tools == ["codex", "codex-reply"]
    first, second = codex.requests
    assert first.thread_id == second.thread_id
    assert "How many modules?" in second.prompt
    assert "Which one parses?" in second.prompt


def test_the_example_of_the_manual_asks_and_asks_back(
    model: Model, agents: Start
) -> None:
    codex = model([say("It parses."), say("In C.")])

    def manage(request: Request) -> Reply:
        outputs = request.outputs
        if not outputs:
            return call_tool("codex", {"prompt": "What does it do?"})
        if len(outputs) == 1:
            thread = json.loads(outputs[0])["threadId"]
            return call_tool("codex-reply", {"prompt": "How?", "threadId": thread})
        return say("It parses in C.")

    manager = agents(manage)
    assert manager.run_program(example_of_the_manual()) == "It parses in C."
    assert [json.loads(output)["content"] for output in manager.outputs] == [
        "It parses.",
        "In C.",
    ]
    assert len(codex.requests) == 2


def test_an_agent_gets_the_text_alone_where_the_sdk_does_not_show_structured_content(
    model: Model, agents: Start
) -> None:
    model(say("Two modules."))
    manager = agents(_once("codex", prompt="How many modules?"))
    assert manager.run() == "done"
    assert manager.outputs == ["Two modules."]


def test_an_agent_has_the_tools_that_its_filter_allows(
    model: Model, agents: Start
) -> None:
    model()
    manager = agents(_once("codex", prompt="Is it fine?"))
    manager.run(allowed_tools=["codex"])
    assert manager.model.requests[0].tools == ["codex"]
    assert manager.outputs == ["It is fine."]


def test_an_agent_is_told_in_words_what_went_wrong(model: Model, agents: Start) -> None:
    asked = model()
    manager = agents(_once("codex", prompt="Go.", sandbox="danger-full-access"))
    assert manager.run(use_structured_content=True) == "done"
    (output,) = manager.outputs
    assert "danger-full-access" in output
    assert asked.requests == []


def test_an_agent_that_lets_codex_write_gets_the_diff_and_the_user_applies_it(
    world: World, model: Model, agents: Start
) -> None:
    workspace = world.repository.begin_with_work().root
    model([shell("echo '<h1>Game</h1>' > index.html"), say("Wrote the page.")])
    manager = agents(_once("codex", prompt="Write the page.", **COOKBOOK))
    assert manager.run() == "done"
    (output,) = manager.outputs
    assert output.startswith("Wrote the page.\n\n")
    assert "+<h1>Game</h1>" in output
    assert not (workspace / "index.html").exists()
    job = re.search(r"codex-counsel apply ([0-9a-f]{32})", output)
    assert job
    applied = command_line(world, "apply", job[1])
    assert applied.returncode == 0, applied.stderr
    assert (workspace / "index.html").read_text("utf-8") == "<h1>Game</h1>\n"


def test_an_answer_that_takes_longer_than_the_sdk_waits_is_fetched_by_the_agent(
    model: Model, agents: Start
) -> None:
    gate = hold(say("Worth the wait."))
    codex = model(gate)

    def manage(request: Request) -> Reply:
        outputs = request.outputs
        if not outputs:
            return call_tool("codex", {"prompt": "Think long."})
        if len(outputs) == 1:
            assert gate.reached.wait(60)
            gate.release.set()
            thread = json.loads(outputs[0])["threadId"]
            return call_tool("codex-reply", {"prompt": WAIT, "threadId": thread})
        return say(json.loads(outputs[-1])["content"])

    manager = agents(manage)
    sooner = {"CODEX_COUNSEL_SYNC_SECONDS": "2"}
    said = manager.run(settings=sooner, use_structured_content=True, **IMPATIENT)
    assert said == "Worth the wait."
    assert len(codex.requests) == 1


def test_the_sdk_cancels_a_call_that_takes_too_long_and_its_run_ends_on_record(
    world: World, model: Model, agents: Start
) -> None:
    gate = hold(say("Too late."))
    model([gate, say("Here again.")])
    rows = world.counsel().store.rows

    def manage(request: Request) -> Reply:
        outputs = request.outputs
        if not outputs:
            return call_tool("codex", {"prompt": "Think long."})
        if len(outputs) == 1:
            until(lambda: [row["status"] for row in rows()] == ["cancelled"])
            thread = rows()[0]["session_id"]
            return call_tool("codex-reply", {"prompt": "Again.", "threadId": thread})
        return say(outputs[-1])

    assert agents(manage).run(**IMPATIENT) == "Here again."
    assert gate.reached.is_set()
    assert not gate.release.is_set()
    listed = command_line(world, "jobs", "--json")
    states = [row["status"] for row in json.loads(listed.stdout)["data"]["jobs"]]
    assert sorted(states) == ["cancelled", "completed"]
    until(lambda: not living(str(world.base)))


def _once(tool: str, **arguments: Any) -> Callable[[Request], Reply]:
    """An agent that calls one tool and then has done."""

    def manage(request: Request) -> Reply:
        if request.outputs:
            return say("done")
        return call_tool(tool, arguments)

    return manage
