"""The two tools are those of the last release, argument by argument, and answer in the same form as its real binary.

Each difference from that binary is a test of its own, and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codex_counsel.contract.compat import recorded_tools
from codex_counsel.loopback import (
    Loopback,
    Reply,
    Request,
    error,
    hold,
    http_error,
    say,
)
from tests.conftest import World, living, until
from tests.e2e.compat.client import ARGV, ask, named_thread, text
from tests.e2e.compat.conftest import Start
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
RECORDED: dict[str, dict[str, Any]] = {tool["name"]: tool for tool in recorded_tools()}
ARGUMENTS = [
    (tool, argument)
    for tool, recorded in RECORDED.items()
    for argument in recorded["inputSchema"]["properties"]
]
TEXT = ("string", ())
TYPES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "codex": {
        "approval-policy": ("string", ("on-request", "never")),
        "base-instructions": TEXT,
        "compact-prompt": TEXT,
        "config": ("object", ()),
        "cwd": TEXT,
        "developer-instructions": TEXT,
        "model": TEXT,
        "prompt": TEXT,
        "sandbox": ("string", ("read-only", "workspace-write", "danger-full-access")),
    },
    "codex-reply": {"conversationId": TEXT, "prompt": TEXT, "threadId": TEXT},
}
"""The arguments of each tool: the type, and the values where they are listed."""
ANSWER = {"threadId": {"type": "string"}, "content": {"type": "string"}}
UNKNOWN_THREAD = "019c58e5-0000-7000-8000-000000000000"
INVALID_PARAMS = -32602
"""Of JSON-RPC."""
GREETING = 1
"""The number of the first request, `initialize`."""
REFUSED = "the model said no"
NO_SUCH_DIRECTORY = "/nowhere/at/all"


def refuse_on_demand(request: Request) -> Reply:
    if "refuse" in request.prompt:
        return http_error(400, error("invalid_request_error", REFUSED))
    return say("It is fine.")


@pytest.fixture
def ours(compat: Start, model: Model) -> ServerProcess:
    model(refuse_on_demand)
    return compat()


@pytest.fixture
def theirs(ours: ServerProcess, last_release: Start) -> ServerProcess:
    return last_release()


def tools_of(server: ServerProcess) -> dict[str, dict[str, Any]]:
    tools = server.answer(server.ask("tools/list"))["result"]["tools"]
    return {tool["name"]: tool for tool in tools}


def form_of(result: dict[str, Any]) -> dict[str, Any]:
    """Which parts there are, of what kind; an answer that says that it is no error is one that does not say it."""
    parts = set(result)
    if result.get("isError") is False:
        parts.remove("isError")
    return {
        "parts": parts,
        "blocks": [(block["type"], sorted(block)) for block in result["content"]],
        "structured": sorted(result.get("structuredContent", ())),
    }


# --- the list of tools


@pytest.mark.parametrize(("tool", "argument"), ARGUMENTS)
def test_each_argument_is_the_recorded_one(
    ours: ServerProcess, tool: str, argument: str
) -> None:
    schema = tools_of(ours)[tool]["inputSchema"]
    recorded = RECORDED[tool]["inputSchema"]
    assert schema["properties"][argument] == recorded["properties"][argument]
    assert (argument in schema["required"]) == (argument in recorded["required"])


def test_the_tools_have_the_arguments_and_the_answer_that_clients_are_written_for(
    ours: ServerProcess,
) -> None:
    tools = tools_of(ours)
    schemas = {name: tool["inputSchema"] for name, tool in tools.items()}
    for name, schema in schemas.items():
        arguments = schema["properties"].items()
        assert {
            argument: (rule["type"], tuple(rule.get("enum", ())))
            for argument, rule in arguments
        } == TYPES[name]
        assert schema["required"] == ["prompt"]
        assert tools[name]["outputSchema"]["properties"] == ANSWER
        assert set(tools[name]["outputSchema"]["required"]) == set(ANSWER)
    assert schemas["codex"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["codex-reply"]


def test_the_list_of_tools_is_the_recorded_one(ours: ServerProcess) -> None:
    assert tools_of(ours) == RECORDED
    assert list(RECORDED) == ["codex", "codex-reply"]


def test_the_record_is_what_the_last_release_lists(theirs: ServerProcess) -> None:
    assert tools_of(theirs) == RECORDED


def test_the_server_has_the_same_name(
    ours: ServerProcess, theirs: ServerProcess
) -> None:
    own, other = (server.answer(GREETING)["result"] for server in (ours, theirs))
    assert own["serverInfo"]["name"] == other["serverInfo"]["name"]
    assert "tools" in own["capabilities"]


@pytest.mark.parametrize(
    "version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
)
def test_a_client_of_any_age_is_answered_in_its_version_of_the_protocol(
    world: World, version: str
) -> None:
    with ServerProcess(world, argv=ARGV) as server:
        client = {"name": "a-test", "version": "0"}
        params = {"protocolVersion": version, "clientInfo": client, "capabilities": {}}
        answer = server.answer(server.ask("initialize", params))
    assert answer["result"]["protocolVersion"] == version


# --- what a call is answered with

ALIKE: dict[str, tuple[str, dict[str, Any]]] = {
    "a question": ("codex", {"prompt": "Is it fine?"}),
    "every argument": (
        "codex",
        {
            "prompt": "Is it fine?",
            "approval-policy": "never",
            "base-instructions": "Be exact.",
            "compact-prompt": "Keep the facts.",
            "config": {"model_reasoning_effort": "low"},
            "cwd": ".",
            "developer-instructions": "Be short.",
            "model": "gpt-5.5",
            "sandbox": "read-only",
        },
    ),
    "no prompt": ("codex", {}),
    "a prompt that is no text": ("codex", {"prompt": 5}),
    "an unknown argument": ("codex", {"prompt": "Is it fine?", "speed": 1}),
    "an unknown sandbox": ("codex", {"prompt": "Is it fine?", "sandbox": "none"}),
    "a config that is no object": ("codex", {"prompt": "Is it fine?", "config": "x"}),
    "a failure of the API": ("codex", {"prompt": "Please refuse."}),
    "a reply without a prompt": ("codex-reply", {"threadId": UNKNOWN_THREAD}),
    "a reply without a thread": ("codex-reply", {"prompt": "And now?"}),
    "a thread that is no id": ("codex-reply", {"prompt": "a", "threadId": "b c"}),
    "an unknown thread": ("codex-reply", {"prompt": "a", "threadId": UNKNOWN_THREAD}),
    "an unknown tool": ("codex-review", {"prompt": "Is it fine?"}),
}


@pytest.mark.parametrize("case", ALIKE)
def test_a_call_is_answered_in_the_same_form(
    ours: ServerProcess, theirs: ServerProcess, case: str
) -> None:
    tool, arguments = ALIKE[case]
    assert form_of(ask(ours, tool, **arguments)) == form_of(
        ask(theirs, tool, **arguments)
    )


def test_a_call_without_arguments_is_answered_in_the_same_form(
    ours: ServerProcess, theirs: ServerProcess
) -> None:
    own, other = (
        server.answer(server.ask("tools/call", {"name": "codex"}))["result"]
        for server in (ours, theirs)
    )
    assert form_of(own) == form_of(other)
    assert "prompt" in text(own)


def test_the_answer_is_the_last_message_as_text_and_with_the_thread(
    ours: ServerProcess, theirs: ServerProcess
) -> None:
    for server in (ours, theirs):
        result = ask(server, "codex", prompt="Is it fine?")
        assert text(result) == "It is fine."
        assert result["structuredContent"]["content"] == "It is fine."


@pytest.mark.parametrize("name", ["threadId", "conversationId"])
def test_a_reply_goes_on_in_the_thread(
    ours: ServerProcess, theirs: ServerProcess, name: str
) -> None:
    for server in (ours, theirs):
        thread = named_thread(ask(server, "codex", prompt="Is it fine?"))
        result = ask(server, "codex-reply", prompt="And now?", **{name: thread})
        assert named_thread(result) == thread
        assert text(result) == "It is fine."


def test_a_failure_of_the_api_is_told_in_its_own_words(
    ours: ServerProcess, theirs: ServerProcess
) -> None:
    for server in (ours, theirs):
        result = ask(server, "codex", prompt="Please refuse.")
        assert result["isError"]
        assert REFUSED in text(result)
        assert result["structuredContent"]["content"] == text(result)


# --- where ours differs


OLDER: dict[str, dict[str, Any]] = {
    "an approval policy that 0.143 dropped": {"approval-policy": "on-failure"},
    "an approval policy that 0.149 dropped": {"approval-policy": "untrusted"},
    "an argument that 0.48 dropped": {"include-plan-tool": False},
}


@pytest.mark.parametrize("case", OLDER)
def test_what_earlier_releases_took_is_still_taken(
    ours: ServerProcess, theirs: ServerProcess, case: str
) -> None:
    arguments = {"prompt": "Is it fine?", **OLDER[case]}
    assert ask(theirs, "codex", **arguments)["isError"]
    result = ask(ours, "codex", **arguments)
    assert not result.get("isError")
    assert text(result).startswith("It is fine.")


def test_the_oldest_name_of_the_thread_is_still_taken(
    ours: ServerProcess, theirs: ServerProcess
) -> None:
    for server, refused in ((ours, False), (theirs, True)):
        thread = named_thread(ask(server, "codex", prompt="Is it fine?"))
        result = ask(server, "codex-reply", prompt="And now?", sessionId=thread)
        assert bool(result.get("isError")) == refused


def test_a_directory_that_is_not_there_is_refused_and_the_last_release_paid_for_a_turn_in_it(
    world: World, compat: Start, last_release: Start, model: Model
) -> None:
    asked = model(say("It is fine."))
    arguments = {"prompt": "Is it fine?", "cwd": NO_SUCH_DIRECTORY}
    result = ask(compat(), "codex", **arguments)
    assert result["isError"]
    assert NO_SUCH_DIRECTORY in text(result)
    assert asked.requests == []
    assert not ask(last_release(), "codex", **arguments).get("isError")


def test_a_key_that_codex_does_not_know_is_refused_and_the_last_release_left_it_out_silently(
    world: World, compat: Start, last_release: Start, model: Model
) -> None:
    asked = model(say("It is fine."))
    arguments = {"prompt": "Is it fine?", "config": {"max_tool_steps": "high"}}
    result = ask(compat(), "codex", **arguments)
    assert result["isError"]
    assert "max_tool_steps" in text(result)
    assert asked.requests == []
    assert not ask(last_release(), "codex", **arguments).get("isError")


def test_a_thread_outlives_the_server_and_the_last_release_lost_it(
    compat: Start, last_release: Start, model: Model
) -> None:
    model(say("It is fine."))
    for start, lost in ((compat, False), (last_release, True)):
        first = start()
        thread = named_thread(ask(first, "codex", prompt="Is it fine?"))
        first.close()
        first.wait_for_exit()
        arguments = {"prompt": "And now?", "threadId": thread}
        result = ask(start(), "codex-reply", **arguments)
        assert bool(result.get("isError")) == lost


def test_who_closes_his_end_has_gone_and_the_last_release_worked_on_for_nobody(
    world: World, compat: Start, last_release: Start, model: Model
) -> None:
    gate = hold(say("It is fine."))
    model(gate)
    for start, worked_on in ((last_release, True), (compat, False)):
        server = start()
        number = server.call("codex", {"prompt": "Is it fine?"})
        assert gate.reached.wait(60)
        gate.reached.clear()
        server.close()
        if worked_on:
            gate.release.set()
            assert "result" in server.answer(number)
            gate.release.clear()
        server.wait_for_exit()
    until(lambda: [row["status"] for row in rows_of(world)] == ["cancelled"])
    until(lambda: not living(str(world.base)))


def rows_of(world: World) -> list[dict[str, Any]]:
    return world.counsel().store.rows()


def test_a_call_before_the_handshake_is_refused(world: World, model: Model) -> None:
    asked = model(say("It is fine."))
    with ServerProcess(world, argv=ARGV) as ours:
        answer = ours.answer(ours.call("codex", {"prompt": "Is it fine?"}))
        assert answer["error"]["code"] == INVALID_PARAMS
    assert asked.requests == []


def test_who_lets_codex_write_needs_a_repository_and_the_last_release_did_not(
    world: World, compat: Start, last_release: Start, model: Model
) -> None:
    asked = model(say("It is fine."))
    arguments = {"prompt": "Write a page.", "sandbox": "workspace-write"}
    result = ask(compat(), "codex", **arguments)
    assert result["isError"]
    assert "not_a_git_repo" in text(result)
    assert "read-only" in text(result)
    assert asked.requests == []
    assert not ask(last_release(), "codex", **arguments).get("isError")
