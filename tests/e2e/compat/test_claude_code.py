"""The real Claude Code with a `.mcp.json` that names `codex-mcp-server` where it named `codex`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.loopback import Loopback, hold, say
from tests.conftest import World, until
from tests.e2e.claude.anthropic import JSON, Turn, use
from tests.e2e.claude.anthropic import text as words
from tests.e2e.claude.conftest import Claude, claude, environments

__all__ = ["claude", "environments"]

Model = Callable[..., Loopback]
ASK, REPLY = "mcp__codex__codex", "mcp__codex__codex-reply"
ALLOWED = ("--allowedTools", "mcp__codex")


class WithoutPlugin(Claude):
    """Claude Code as a user has it who knows nothing of this project but the name of a command."""

    def with_plugin(self) -> tuple[str, ...]:
        return ()


@pytest.fixture
def user(claude: Claude, world: World) -> Claude:
    """A user whose project names our command, with the arguments that were there before."""
    entry = {"command": "codex-mcp-server", "args": ["mcp-server"]}
    project = world.workspace / ".mcp.json"
    project.write_text(json.dumps({"mcpServers": {"codex": entry}}), "utf-8")
    agreed = {"enabledMcpjsonServers": ["codex"]}
    (claude.config / "settings.json").write_text(json.dumps(agreed), "utf-8")
    commands = [str(Path(sys.executable).parent), claude.env["PATH"]]
    path = {"PATH": os.pathsep.join(commands)}
    return WithoutPlugin(**{**vars(claude), "settings": path})


def ask_and_ask_back(turn: Turn) -> list[JSON]:
    results = turn.tool_results
    if not results:
        return [use(ASK, prompt="What does it do?", sandbox="read-only")]
    if len(results) == 1:
        return [use(REPLY, prompt="How?", threadId=thread_in(results[0]))]
    return [words("done")]


def thread_in(result: str) -> str:
    thread: str = json.loads(result)["threadId"]
    return thread


def test_its_tools_have_the_names_that_skills_and_permissions_know(
    user: Claude, model: Model
) -> None:
    codex = model([say("It parses."), say("In C.")])
    session = user.ask("Ask Codex.", ask_and_ask_back, *ALLOWED)
    assert session.servers == {"codex": "connected"}
    assert [name for name, _ in session.calls] == [ASK, REPLY]
    contents = [json.loads(result)["content"] for result in session.tool_results]
    assert contents == ["It parses.", "In C."]
    assert session.denials == []
    assert len(codex.requests) == 2


def test_it_waits_for_a_long_run_in_one_call(user: Claude, model: Model) -> None:
    gate = hold(say("Worth the wait."))
    codex = model(gate)
    user.world.settings["SYNC_SECONDS"] = "1"
    api = user.api(ask_once)
    process = user.start(api, "Ask Codex.", *ALLOWED)
    jobs = user.world.counsel().store.jobs
    until(lambda: any(job.state().detached for job in jobs()), 60)
    gate.release.set()
    session = user.finish(process, api)
    (result,) = session.tool_results
    assert json.loads(result)["content"] == "Worth the wait."
    assert len(codex.requests) == 1


def ask_once(turn: Turn) -> list[JSON]:
    if turn.tool_results:
        return [words("done")]
    return [use(ASK, prompt="Think long.")]
