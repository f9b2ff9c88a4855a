"""What a client finds and gets, tool by tool, in both eras."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import jsonschema
import pytest
from fastmcp import Client

from codex_counsel.contract import catalogue
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Loopback, failed, hold, say
from tests.conftest import World, until
from tests.e2e.server.conftest import Connect
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
QUESTION = {"question": "Is it fine?"}


async def call(client: Client[Any], tool: str, **arguments: Any) -> dict[str, Any]:
    """The envelope, whatever became of the call."""
    result = await client.call_tool(tool, arguments, raise_on_error=False)
    wire: dict[str, Any] = result.structured_content or {}
    assert result.is_error is not wire["ok"]
    return wire


def keys(value: Any) -> set[str]:
    """Every key of a JSON value, at any depth, but the names of arguments."""
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    below = [
        keys(list(item.values()) if name == "properties" else item)
        for name, item in value.items()
    ]
    return set(value).union(*below)


def test_the_list_of_tools_is_the_catalogue_and_small(world: World) -> None:
    with ServerProcess(world) as wire:
        about = wire.initialize()["result"]
        listed = wire.answer(wire.ask("tools/list"))["result"]
        wire.close()
        assert wire.wait_for_exit() == 0
    spelled = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    print("bytes of tools/list:", len(spelled.encode()))
    assert [tool["name"] for tool in listed["tools"]] == [
        tool.name for tool in catalogue.TOOLS
    ]
    assert len(spelled.encode()) <= 16_000
    assert not keys(listed["tools"]) & {
        "title",
        "_meta",
        "outputSchema",
        "$defs",
        "anyOf",
    }
    assert '"null"' not in spelled
    assert ":null" not in spelled
    changing = {tool.name for tool in catalogue.TOOLS if tool.changes}
    assert {
        tool["name"]
        for tool in listed["tools"]
        if not tool["annotations"]["readOnlyHint"]
    } == changing
    assert [
        tool["name"]
        for tool in listed["tools"]
        if tool["annotations"].get("destructiveHint")
    ] == ["codex_apply"]
    assert 200 < len(about["instructions"]) < 2_048
    assert about["serverInfo"]["name"] == "counsel"


async def test_every_tool_answers_with_an_envelope_of_the_published_schema(
    world: World, model: Model, connect: Connect
) -> None:
    model([say("It is fine.")])
    seen: list[dict[str, Any]] = []
    with anyio.fail_after(90):
        async with connect() as client:
            assert [tool.name for tool in await client.list_tools()] == [
                tool.name for tool in catalogue.TOOLS
            ]

            async def ask(tool: str, **arguments: Any) -> dict[str, Any]:
                seen.append(await call(client, tool, **arguments))
                assert (
                    seen[-1]["tool"] == tool
                    or seen[-1].get("error")
                    or tool.startswith("codex_job")
                )
                return seen[-1]

            answer = await ask("codex_consult", **QUESTION)
            assert (answer["status"], answer["answer"]) == ("completed", "It is fine.")
            background = hold(say("It is fine."))
            model(background)
            later = await ask("codex_consult_async", **QUESTION)
            background.release.set()
            assert later["next"]["tool"] == "codex_job_result"
            fetched = await ask(later["next"]["tool"], **later["next"]["arguments"])
            assert (fetched["status"], fetched["answer"]) == (
                "completed",
                "It is fine.",
            )
            status = await ask("codex_job_status", job_id=later["job_id"])
            assert (status["status"], status["job_id"]) == (
                "completed",
                later["job_id"],
            )
            rows = (await ask("codex_job_list"))["data"]["jobs"]
            assert {row["job_id"] for row in rows} == {
                answer["meta"]["job_id"],
                later["job_id"],
            }
            assert (await ask("codex_job_cancel", job_id=later["job_id"]))[
                "answer"
            ] == "It is fine."
            assert (await ask("codex_job_consume_result", job_id=later["job_id"]))[
                "answer"
            ] == "It is fine."
            again = await ask("codex_job_consume_result", job_id=later["job_id"])
            assert again["answer"] == "It is fine."
            assert (await ask("codex_status"))["data"]["usable"] is True
            assert (await ask("codex_models"))["data"]["models"]
            inventory = (await ask("codex_capabilities"))["data"]["tools"]
            assert [tool["name"] for tool in inventory] == [
                tool.name for tool in catalogue.TOOLS
            ]
            model(failed("invalid_prompt", "It may not be asked."))
            assert (await ask("codex_consult", **QUESTION))["error"][
                "message"
            ] == "It may not be asked."
            gate = hold(say("Late."))
            model(gate)
            start = await ask("codex_consult_async", **QUESTION)
            await anyio.to_thread.run_sync(gate.reached.wait, 30)
            job = Job(world.state / "jobs" / start["job_id"])
            # The model is asked before the worker has read that the turn began.
            await anyio.to_thread.run_sync(
                until, lambda: job.state().phase == "thinking"
            )
            assert (await ask("codex_job_status", job_id=start["job_id"]))["progress"][
                "phase"
            ] == "thinking"
            assert (await ask("codex_job_result", job_id=start["job_id"]))[
                "status"
            ] == "running"
            assert (await ask("codex_job_cancel", job_id=start["job_id"]))["data"][
                "cancelled"
            ] is True
            assert (await ask("codex_job_result", job_id=start["job_id"]))[
                "status"
            ] == "cancelled"

            (resource,) = await client.read_resource("codex://schema/envelope")
    schema = json.loads(resource.text)  # type: ignore[union-attr]
    assert {wire["status"] for wire in seen} >= {
        "completed",
        "failed",
        "cancelled",
        "running",
    }
    for wire in seen:
        jsonschema.validate(wire, schema)
        assert set(wire) <= set(schema["properties"])
        assert set(wire["meta"]) <= set(schema["$defs"]["Meta"]["properties"])


CANARY = "value-of-the-caller"
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "nothing": ("codex_consult", {}, "question"),
    "blank": ("codex_consult", {"question": " \n"}, "question"),
    "NUL": ("codex_consult", {"question": f"{CANARY}\0"}, "question"),
    "a number": ("codex_consult", {"question": 7}, "question"),
    "an unknown argument": (
        "codex_consult",
        {**QUESTION, "nonsense": CANARY},
        "nonsense",
    ),
    "a list": ("codex_consult", {**QUESTION, "model": [CANARY]}, "model"),
    "a flag": ("codex_consult", {**QUESTION, "model": f"--{CANARY}"}, "model"),
    "no number": (
        "codex_consult",
        {**QUESTION, "timeout_seconds": CANARY},
        "timeout_seconds",
    ),
    "out of bounds": (
        "codex_consult_async",
        {**QUESTION, "timeout_seconds": 1},
        "timeout_seconds",
    ),
    "no job id": ("codex_job_result", {"job_id": f"../{CANARY}"}, "job_id"),
    "no thread": ("codex_consult", {**QUESTION, "session_id": CANARY}, "session_id"),
    "another word": ("codex_job_list", {"status": CANARY}, "status"),
    "a digit that is no number": (
        "codex_job_list",
        {"cursor": "\N{SUPERSCRIPT TWO}"},
        "cursor",
    ),
    "a strange cursor": ("codex_job_list", {"cursor": "x" * 300}, "cursor"),
}


async def test_bad_arguments_are_named_without_their_values(connect: Connect) -> None:
    with anyio.fail_after(60):
        async with connect() as client:
            for tool, arguments, name in BAD.values():
                result = await client.call_tool(tool, arguments, raise_on_error=False)
                (block,) = result.content
                text = block.text  # type: ignore[union-attr]
                assert result.is_error
                assert text.startswith(f"invalid_arguments: {name}")
                assert "What to do:" in text
                assert CANARY not in text + json.dumps(result.structured_content)
                assert "pydantic" not in text
            result = await client.call_tool(
                "codex_nonsense", {"question": CANARY}, raise_on_error=False
            )
            assert result.is_error
            message = result.content[0].text  # type: ignore[union-attr]
            assert "codex_nonsense" in message
            assert "codex_consult" in message
            assert (await call(client, "codex_job_list"))["ok"]


async def test_pages_joined_are_the_answer_and_consuming_ends_with_the_last(
    world: World, model: Model, connect: Connect
) -> None:
    answer = "".join(f"{number}: é\N{GRINNING FACE}\n" for number in range(10_000))
    model([say(answer)])
    with anyio.fail_after(60):
        async with connect() as client:
            wire = await call(client, "codex_consult", **QUESTION)
            job, parts = wire["meta"]["job_id"], [wire["answer"]]
            assert len(json.dumps(wire, ensure_ascii=False).encode()) <= 40_000
            while cursor := wire["meta"].get("next_cursor"):
                assert wire["meta"]["truncated"] is True
                wire = await call(client, "codex_job_result", job_id=job, cursor=cursor)
                parts.append(wire["answer"])
            assert "".join(parts) == answer
            again = await call(
                client, "codex_job_result", job_id=job, cursor="answer:5:00000000"
            )
            assert again["error"]["code"] == "invalid_arguments"
            cursor = None
            while True:
                wire = await call(
                    client,
                    "codex_job_consume_result",
                    job_id=job,
                    **({"cursor": cursor} if cursor else {}),
                )
                cursor = wire["meta"].get("next_cursor")
                if not cursor:
                    break
                assert not (world.state / "consumed" / job).exists()
    assert (world.state / "consumed" / job).exists()


@pytest.mark.parametrize("spelling", ["\\ud800", "\\udfff tail", "a\\udce9b"])
def test_lone_surrogates_anywhere_do_not_end_the_server(
    world: World, model: Model, spelling: str
) -> None:
    model([say("It is fine.")])
    places = [
        '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"codex_consult","arguments":{"question":"X"}}}',
        '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"codex_consult","arguments":{"X":"q"}}}',
        '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"X","arguments":{}}}',
        '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"codex_job_list","arguments":{"cursor":"X"}}}',
        '{"jsonrpc":"2.0","id":%d,"method":"X","params":{}}',
        '{"jsonrpc":"2.0","id":%d,"method":"resources/read","params":{"uri":"codex://X"}}',
    ]
    with ServerProcess(world) as wire:
        wire.initialize()
        for number, place in enumerate(places):
            wire.write(
                (place % (1000 + number)).replace("X", spelling).encode() + b"\n"
            )
        assert wire.tool("codex_job_list")["ok"]
        assert wire.answer(wire.ask("tools/list"))["result"]["tools"]
        wire.close()
        assert wire.wait_for_exit() == 0
