"""Interactive sessions: a run as a native task, delivered, stopped and picked up again; Esc in a call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.jobs import recovery
from codex_counsel.loopback import Loopback, hold, say
from tests.conftest import living, until
from tests.e2e.claude.anthropic import JSON, Turn, request_in, text, use
from tests.e2e.claude.conftest import PREFIX, Claude, first_start

Models = Callable[..., Loopback]
TYPED = "/codex:consult Is it?"
FIRST_WITH_TASKS = (2, 1, 329)


@pytest.fixture
def claude_with_tasks(claude: Claude) -> Claude:
    """A release that takes native tasks."""
    if claude.version < FIRST_WITH_TASKS:
        pytest.skip("this release declares no tasks")
    return claude


def consulting(turn: Turn) -> list[JSON]:
    """A model that consults as the command says, and ends its turn whatever comes."""
    if turn.tool_results and "still connecting" in turn.tool_results[-1]:
        return [use("WaitForMcpServers")]
    called = turn.tool_results and not turn.tool_results[-1].startswith("ready: true")
    if task_notification(turn) or called or not turn.command:
        return [text("done")]
    return [use(PREFIX + "codex_consult", question=request_in(turn.command))]


def task_notification(turn: Turn) -> str:
    return next((text for text in turn.user_texts if "<task-notification>" in text), "")


def notification(turns: list[Turn]) -> str:
    """What the model was told at the end of a task, once it was."""
    return until(lambda: next(filter(None, map(task_notification, turns)), ""), 60)


def test_a_run_is_a_task_whose_end_is_told_to_the_model(
    claude_with_tasks: Claude, model: Models
) -> None:
    gate = hold(say("It is fine."))
    model([gate])
    api = claude_with_tasks.api(consulting)
    with claude_with_tasks.terminal(api, TYPED):
        output = api.wait_for_request(2).tool_results[0]
        assert "started server-side task" in output
        gate.release.set()
        assert '"answer":"It is fine."' in notification(api.turns)
    assert re.findall("[0-9a-f]{32}", output)[0] in [
        row["job_id"] for row in claude_with_tasks.world.counsel().store.rows()
    ]


def test_native_tasks_are_there_in_a_slow_first_session_and_in_the_next_one(
    claude_with_tasks: Claude, environments: Path, model: Models
) -> None:
    gates = [hold(say("It is fine.")) for _ in range(2)]
    asked = iter(gates)
    model(lambda _: next(asked))
    first = claude_with_tasks.api(consulting)
    with (
        first_start(claude_with_tasks, environments) as install,
        claude_with_tasks.terminal(first, TYPED),
    ):
        first.wait_for_request(1)
        install()
        assert "started server-side task" in first.wait_for_request(2).tool_results[0]
        gates[0].release.set()
        assert '"answer":"It is fine."' in notification(first.turns)
    second = claude_with_tasks.api(consulting)
    with claude_with_tasks.terminal(second, TYPED):
        assert "started server-side task" in second.wait_for_request(2).tool_results[0]
        gates[1].release.set()
        assert '"answer":"It is fine."' in notification(second.turns)


def test_a_further_page_of_a_task_is_fetched_without_a_question_where_a_rule_allows_it(
    claude_with_tasks: Claude, model: Models
) -> None:
    """The permission of the command that began the task ends with its turn."""
    gate = hold(say("It is fine."))
    model(gate)
    rule = {"permissions": {"allow": [PREFIX + "codex_job_result"]}}
    claude_with_tasks.config.joinpath("settings.json").write_text(json.dumps(rule))

    def script(turn: Turn) -> list[JSON]:
        words = task_notification(turn)
        if not words or turn.tool_results:
            return consulting(turn)
        job = re.findall("[0-9a-f]{32}", words)[-1]
        return [use(PREFIX + "codex_job_result", job_id=job)]

    api = claude_with_tasks.api(script)
    with claude_with_tasks.terminal(api, TYPED):
        api.wait_for_request(2)
        gate.release.set()
        notification(api.turns)
        fetched = api.wait_for_request(4).tool_results
    assert '"answer":"It is fine."' in fetched[-1]


def test_a_task_is_picked_up_by_the_session_that_continues_a_killed_one(
    claude_with_tasks: Claude, model: Models
) -> None:
    gate = hold(say("It is fine."))
    server = model([gate])
    api = claude_with_tasks.api(consulting)
    with claude_with_tasks.terminal(api, TYPED):
        api.wait_for_request(2)
        server.asked(1)
    until(
        lambda: (
            not [
                line
                for line in living(str(claude_with_tasks.world.state))
                if line.endswith("codex_counsel mcp ")
            ]
        )
    )
    with claude_with_tasks.terminal(api, "--continue"):
        gate.release.set()
        assert '"answer":"It is fine."' in notification(api.turns)


def test_a_task_that_is_stopped_leaves_nothing_running(
    claude_with_tasks: Claude, model: Models
) -> None:
    server = model([hold(say("too late"))])

    def script(turn: Turn) -> list[JSON]:
        if turn.tool_results and (
            task := re.search(r"task_id \"(\w+)\"", turn.tool_results[0])
        ):
            server.asked(1)
            return [use("TaskStop", task_id=task[1])]
        return consulting(turn)

    api = claude_with_tasks.api(script)
    with claude_with_tasks.terminal(api, TYPED):
        api.wait_for_request(3)
        (job,) = claude_with_tasks.world.counsel().store.jobs()
        assert until(lambda: recovery.outcome(job))["status"] == "cancelled"
        # The worker ends just after its result was stored.
        assert until(lambda: not living(job.id))


def test_escape_in_a_call_ends_the_run_and_keeps_the_server(
    claude: Claude, model: Models
) -> None:
    server = model([hold(say("too late"))])
    claude.settings["MCP_PROTOCOL_NEGOTIATION"] = "legacy"
    api = claude.api(consulting)
    with claude.terminal(api, TYPED) as terminal:
        server.asked(1)
        (job,) = claude.world.counsel().store.jobs()
        terminal.type("\x1b")
        assert until(lambda: recovery.outcome(job))["status"] == "cancelled"
        # The worker ends just after its result was stored.
        assert until(lambda: not living(job.id))
        assert [
            line
            for line in living(str(claude.world.state))
            if line.endswith("codex_counsel mcp ")
        ]
