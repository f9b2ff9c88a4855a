"""Runs as native tasks of a client that declares the Tasks extension; the directory of the job is all their state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codex_counsel.loopback import Loopback, hold, http_error, say
from codex_counsel.loopback.trouble import error
from tests.conftest import World, living, until
from tests.e2e.server.wire import CLIENT, ServerProcess

Model = Callable[..., Loopback]
TASKS = "io.modelcontextprotocol/tasks"
QUESTION = {"question": "Is it fine?"}


def declared(*extensions: str, version: str = "2026-07-28") -> dict[str, Any]:
    """What a client of the modern protocol says with each request."""
    prefix = "io.modelcontextprotocol/"
    said = {"protocolVersion": version, "clientInfo": CLIENT}
    said["clientCapabilities"] = {"extensions": {name: {} for name in extensions}}
    return {prefix + name: value for name, value in said.items()}


def started(
    server: ServerProcess, tool: str = "codex_consult", **arguments: Any
) -> dict[str, Any]:
    """The answer to a call of a client that takes tasks."""
    return dict(
        server.answer(server.call(tool, {**QUESTION, **arguments}, **declared(TASKS)))[
            "result"
        ]
    )


def asked(server: ServerProcess, method: str, task: str) -> dict[str, Any]:
    return server.answer(server.ask(method, {"taskId": task, "_meta": declared(TASKS)}))


def ended(server: ServerProcess, task: str) -> dict[str, Any]:
    """The task once it works no more."""
    return until(
        lambda: (
            found
            if (found := asked(server, "tasks/get", task)["result"])["status"]
            != "working"
            else None
        )
    )


def test_a_run_becomes_a_task_whose_id_is_the_job_and_whose_result_is_that_of_the_tool(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine."))
    model([gate])
    with ServerProcess(world) as server:
        task = started(server)
        assert (task["resultType"], task["status"]) == ("task", "working")
        assert world.counsel().store.job(task["taskId"]).alive()
        assert asked(server, "tasks/get", task["taskId"])["result"]["statusMessage"]
        gate.release.set()
        done = ended(server, task["taskId"])
    assert (done["resultType"], done["status"]) == ("complete", "completed")
    assert done["result"]["structuredContent"]["answer"] == "It is fine."
    assert world.counsel().store.job(task["taskId"]).delivered()


def test_a_server_of_a_later_process_answers_for_the_tasks_of_an_earlier_one(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine."))
    server = model([gate])
    with ServerProcess(world) as first:
        task = started(first)["taskId"]
        server.asked(1)
    with ServerProcess(world) as second:
        assert asked(second, "tasks/get", task)["result"]["status"] == "working"
        gate.release.set()
        assert (
            ended(second, task)["result"]["structuredContent"]["answer"]
            == "It is fine."
        )


def test_a_cancelled_task_is_gone_when_the_cancel_is_answered(
    world: World, model: Model
) -> None:
    server = model([hold(say("too late"))])
    with ServerProcess(world) as client:
        task = started(client)["taskId"]
        server.asked(1)
        assert asked(client, "tasks/cancel", task)["result"]["resultType"] == "complete"
        assert living(task) == []
        assert asked(client, "tasks/get", task)["result"]["status"] == "cancelled"


def test_a_failed_run_is_a_result_that_says_everything_in_its_text(
    world: World, model: Model
) -> None:
    model([http_error(400, error("invalid_request", "The model is unknown."))])
    with ServerProcess(world) as client:
        done = ended(client, started(client)["taskId"])
    assert (done["status"], done["result"]["isError"]) == ("completed", True)
    assert "The model is unknown." in done["result"]["content"][0]["text"]


def test_what_is_refused_is_refused_at_once_and_makes_no_task(
    world: World, model: Model
) -> None:
    model()
    with ServerProcess(world) as client:
        refused = started(client, question=" ")
        assert refused["isError"]
        assert "invalid_arguments" in refused["content"][0]["text"]
        assert "isError" not in asked(client, "tasks/get", "0" * 32)
        assert asked(client, "tasks/get", "0" * 32)["error"]["code"] == -32602
        assert asked(client, "tasks/get", "../..")["error"]["code"] == -32602


def test_a_client_that_takes_no_tasks_waits_for_its_answer(
    world: World, model: Model
) -> None:
    model([say("It is fine.")])
    with ServerProcess(world) as client:
        waited = client.answer(client.call("codex_consult", QUESTION, **declared()))[
            "result"
        ]
    assert waited["structuredContent"]["answer"] == "It is fine."


def test_free_tools_and_background_twins_answer_as_ever(
    world: World, model: Model
) -> None:
    model()
    with ServerProcess(world) as client:
        free = client.answer(client.call("codex_status", {}, **declared(TASKS)))[
            "result"
        ]
        twin = started(client, "codex_consult_async")
    assert free["structuredContent"]["data"]["usable"]
    assert twin["structuredContent"]["job_id"]


def test_without_a_state_directory_the_caller_is_kept_waiting_instead(
    world: World, model: Model
) -> None:
    model([say("It is fine.")])
    world.state.write_text("a file", "utf-8")
    with ServerProcess(world) as client:
        assert started(client)["structuredContent"]["answer"] == "It is fine."


def test_the_same_key_is_the_same_task_and_after_its_end_the_answer(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine."))
    model([gate])
    with ServerProcess(world) as client:
        tasks = [started(client, idempotency_key="k")["taskId"] for _ in range(2)]
        assert tasks[0] == tasks[1]
        gate.release.set()
        ended(client, tasks[0])
        assert (
            started(client, idempotency_key="k")["structuredContent"]["answer"]
            == "It is fine."
        )


def test_the_extension_is_advertised(world: World, model: Model) -> None:
    model()
    with ServerProcess(world) as client:
        said = client.answer(client.ask("server/discover", {"_meta": declared()}))[
            "result"
        ]
    assert TASKS in said["capabilities"]["extensions"]
