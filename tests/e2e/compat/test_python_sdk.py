"""The clients of the Python MCP SDK and of FastMCP: what they get, and what becomes of a run they do not wait for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import CallToolResult, TextContent

from codex_counsel.contract.compat import WAIT
from codex_counsel.loopback import Loopback, hold, say, shell
from tests.conftest import World, living, until
from tests.e2e.compat.client import ARGV

Model = Callable[..., Loopback]
Connect = Callable[..., AbstractAsyncContextManager[ClientSession]]
QUESTION = {"prompt": "Is it fine?"}
PATIENCE = 60


@pytest.fixture
def connect(world: World) -> Connect:
    """What starts our server and the SDK's client for it, as a context manager."""
    command, *words = ARGV

    @asynccontextmanager
    async def start_client(**settings: str) -> AsyncIterator[ClientSession]:
        parameters = StdioServerParameters(
            command=command,
            args=words,
            env={**world.env, **settings},
            cwd=world.workspace,
        )
        with (world.base / "stderr").open("w") as errors:
            async with (
                stdio_client(parameters, errlog=errors) as (reader, writer),
                ClientSession(reader, writer) as session,
            ):
                await session.initialize()
                yield session

    return start_client


async def ask(
    session: ClientSession, tool: str = "codex", **arguments: Any
) -> CallToolResult:
    result = await session.call_tool(tool, {**QUESTION, **arguments})
    assert isinstance(result, CallToolResult)
    return result


def text_of(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


def structured(result: CallToolResult) -> dict[str, Any]:
    content: dict[str, Any] | None = result.structured_content
    assert content is not None
    return content


async def test_a_question_and_a_reply(model: Model, connect: Connect) -> None:
    server = model([say("It is fine."), say("Still fine.")])
    with anyio.fail_after(PATIENCE):
        async with connect() as session:
            listed = await session.list_tools()
            first = await ask(session)
            thread = structured(first)["threadId"]
            second = await ask(session, "codex-reply", threadId=thread)
    assert [tool.name for tool in listed.tools] == ["codex", "codex-reply"]
    assert (text_of(first), text_of(second)) == ("It is fine.", "Still fine.")
    assert structured(second) == {"threadId": thread, "content": "Still fine."}
    assert [request.thread_id for request in server.requests] == [thread, thread]


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_the_client_of_fastmcp(world: World, model: Model, era: str) -> None:
    model([say("It is fine."), say("Still fine.")])
    command, *words = ARGV
    transport = StdioTransport(
        command=command,
        args=words,
        env=world.env,
        cwd=str(world.workspace),
        keep_alive=False,
        log_file=world.base / "stderr",
    )
    with anyio.fail_after(PATIENCE):
        async with Client(transport, mode=era) as client:
            listed = await client.list_tools()
            first = await client.call_tool("codex", QUESTION)
            assert first.structured_content
            thread = first.structured_content["threadId"]
            arguments = {"prompt": "And now?", "threadId": thread}
            second = await client.call_tool("codex-reply", arguments)
            wrong = await client.call_tool("codex", {}, raise_on_error=False)
    assert [tool.name for tool in listed] == ["codex", "codex-reply"]
    assert first.structured_content["content"] == "It is fine."
    assert second.structured_content == {"threadId": thread, "content": "Still fine."}
    assert wrong.is_error


async def test_two_calls_at_once_are_two_threads(
    model: Model, connect: Connect
) -> None:
    gates = {"first": hold(say("One.")), "second": hold(say("Two."))}
    server = model(
        lambda request: gates["first" if "the first" in request.prompt else "second"]
    )
    answers: dict[str, CallToolResult] = {}

    async def ask_for(session: ClientSession, which: str) -> None:
        answers[which] = await ask(session, prompt=f"Is the {which} fine?")

    with anyio.fail_after(PATIENCE):
        async with connect() as session, anyio.create_task_group() as tasks:
            for which in gates:
                tasks.start_soon(ask_for, session, which)
            await anyio.to_thread.run_sync(server.asked, 2)
            for gate in gates.values():
                gate.release.set()
    assert text_of(answers["first"]) == "One."
    assert text_of(answers["second"]) == "Two."
    threads = {structured(answer)["threadId"] for answer in answers.values()}
    assert threads == {request.thread_id for request in server.requests}
    assert len(threads) == 2


async def test_progress_is_told_to_who_asked_for_it(
    model: Model, connect: Connect
) -> None:
    gate = hold(say("Done."))
    model([shell("cat gate 2>/dev/null; exec sleep 2"), gate])
    messages: list[str | None] = []

    async def listen(progress: float, total: float | None, message: str | None) -> None:
        messages.append(message)
        gate.release.set()

    with anyio.fail_after(PATIENCE):
        async with connect() as session:
            result = await session.call_tool(
                "codex", QUESTION, progress_callback=listen
            )
    assert isinstance(result, CallToolResult)
    assert text_of(result) == "Done."
    assert messages[0]


async def test_a_cancelled_call_ends_its_run_and_the_thread_can_be_continued(
    world: World, model: Model, connect: Connect
) -> None:
    gate = hold(say("Too late."))
    server = model([gate, say("Here again.")])
    with anyio.fail_after(PATIENCE):
        async with connect() as session:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, session)
                await anyio.to_thread.run_sync(gate.reached.wait, 30)
                tasks.cancel_scope.cancel()
            rows = world.counsel().store.rows
            await anyio.to_thread.run_sync(
                until, lambda: [row["status"] for row in rows()] == ["cancelled"]
            )
            (request,) = server.requests
            result = await ask(session, "codex-reply", threadId=request.thread_id)
        await anyio.to_thread.run_sync(until, lambda: not living(str(world.base)))
    assert text_of(result) == "Here again."
    assert structured(result)["threadId"] == request.thread_id


async def test_at_the_soft_deadline_the_answer_says_how_to_get_the_rest_and_nothing_is_paid_twice(
    world: World, model: Model, connect: Connect
) -> None:
    gate = hold(say("Worth the wait."))
    server = model(gate)
    with anyio.fail_after(PATIENCE):
        async with connect(CODEX_COUNSEL_SYNC_SECONDS="1") as session:
            early = await ask(session)
            thread = structured(early)["threadId"]
            still = await ask(session, "codex-reply", threadId=thread, prompt=WAIT)
            gate.release.set()
            await anyio.to_thread.run_sync(until, lambda: _all_ended(world))
            late = await ask(session, "codex-reply", threadId=thread, prompt=WAIT)
    (request,) = server.requests
    # A turn that has no thread yet is named by its job.
    assert structured(late)["threadId"] == request.thread_id
    for answer in (early, still):
        assert not answer.is_error
        assert structured(answer)["threadId"] in text_of(answer)
        assert "codex-reply" in text_of(answer)
        assert WAIT in text_of(answer)
    assert text_of(late) == "Worth the wait."


async def test_a_run_outlives_the_server_and_its_answer_is_read_from_the_next_one(
    world: World, model: Model, connect: Connect
) -> None:
    gate = hold(say("Worth the wait."))
    server = model([gate, say("And so on.")])
    with anyio.fail_after(PATIENCE):
        async with connect(CODEX_COUNSEL_SYNC_SECONDS="1") as session:
            thread = structured(await ask(session))["threadId"]
        gate.release.set()
        async with connect() as session:
            late = await ask(session, "codex-reply", threadId=thread, prompt=WAIT)
            reply = await ask(session, "codex-reply", threadId=thread)
        await anyio.to_thread.run_sync(until, lambda: not living(str(world.base)))
    assert text_of(late) == "Worth the wait."
    assert text_of(reply) == "And so on."
    # Before Codex has begun, the id of the job stands for the thread.
    (thread,) = {request.thread_id for request in server.requests}
    assert structured(late)["threadId"] == thread
    assert structured(reply)["threadId"] == thread


async def test_a_server_of_the_next_day_keeps_to_the_first_call_of_the_thread(
    world: World, model: Model, connect: Connect
) -> None:
    server = model([say("It is fine."), say("Still fine.")])
    options: dict[str, Any] = {
        "model": "gpt-5.5",
        "developer-instructions": "Be short.",
        "config": {"model_reasoning_effort": "low"},
    }
    with anyio.fail_after(PATIENCE):
        async with connect() as session:
            thread = structured(await ask(session, **options))["threadId"]
        async with connect() as session:
            reply = await ask(session, "codex-reply", threadId=thread)
    assert text_of(reply) == "Still fine."
    for request in server.requests:
        assert (request.model, request.effort) == ("gpt-5.5", "low")
        assert "Be short." in request.developer


def _all_ended(world: World) -> bool:
    return all(row["status"] == "completed" for row in world.counsel().store.rows())
