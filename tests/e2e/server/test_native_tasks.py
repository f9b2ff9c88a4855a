"""Runs as native tasks of a client that declares the Tasks extension; the directory of the job is all their state."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from codex_counsel.loopback import Loopback, hold, http_error, say
from codex_counsel.loopback.trouble import error
from tests.conftest import World, living, until
from tests.e2e.server.wire import CLIENT, ServerProcess

Model = Callable[..., Loopback]
TASKS = "io.modelcontextprotocol/tasks"
QUESTION = {"question": "Is it fine?"}


def request_meta(*extensions: str, version: str = "2026-07-28") -> dict[str, Any]:
    """What a client of the modern protocol says with each request."""
    prefix = "io.modelcontextprotocol/"
    answer = {"protocolVersion": version, "clientInfo": CLIENT}
    answer["clientCapabilities"] = {"extensions": {name: {} for name in extensions}}
    return {prefix + name: value for name, value in answer.items()}


def start_task(
    server: ServerProcess, tool: str = "codex_consult", **arguments: Any
) -> dict[str, Any]:
    """The answer to a call of a client that takes tasks."""
    return dict(
        server.answer(
            server.call(tool, {**QUESTION, **arguments}, **request_meta(TASKS))
        )["result"]
    )


def ask_about_task(server: ServerProcess, method: str, task: str) -> dict[str, Any]:
    return server.answer(
        server.ask(method, {"taskId": task, "_meta": request_meta(TASKS)})
    )


def wait_for_task(server: ServerProcess, task: str) -> dict[str, Any]:
    """Wait until the task is no longer `working`, and return it."""

    def end() -> dict[str, Any] | None:
        result: dict[str, Any] = ask_about_task(server, "tasks/get", task)["result"]
        return result if result["status"] != "working" else None

    return until(end, 60)


def test_a_run_becomes_a_task_whose_id_is_the_job_and_whose_result_is_that_of_the_tool(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine."))
    model([gate])
    with ServerProcess(world) as server:
        task = start_task(server)
        assert (task["resultType"], task["status"]) == ("task", "working")
        assert world.counsel().store.job(task["taskId"]).alive()
        assert ask_about_task(server, "tasks/get", task["taskId"])["result"][
            "statusMessage"
        ]
        gate.release.set()
        result = wait_for_task(server, task["taskId"])
    assert (result["resultType"], result["status"]) == ("complete", "completed")
    assert result["result"]["structuredContent"]["answer"] == "It is fine."
    assert world.counsel().store.job(task["taskId"]).is_delivered()


def test_a_server_of_a_later_process_answers_for_the_tasks_of_an_earlier_one(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine."))
    server = model([gate])
    with ServerProcess(world) as first:
        task = start_task(first)["taskId"]
        server.asked(1)
    with ServerProcess(world) as second:
        assert (
            ask_about_task(second, "tasks/get", task)["result"]["status"] == "working"
        )
        gate.release.set()
        assert (
            wait_for_task(second, task)["result"]["structuredContent"]["answer"]
            == "It is fine."
        )


def test_a_cancelled_task_is_gone_when_the_cancel_is_answered(
    world: World, model: Model
) -> None:
    server = model([hold(say("too late"))])
    with ServerProcess(world) as client:
        task = start_task(client)["taskId"]
        server.asked(1)
        assert (
            ask_about_task(client, "tasks/cancel", task)["result"]["resultType"]
            == "complete"
        )
        assert living(task) == []
        assert (
            ask_about_task(client, "tasks/get", task)["result"]["status"] == "cancelled"
        )


def test_a_failed_run_is_a_result_that_says_everything_in_its_text(
    world: World, model: Model
) -> None:
    gate = hold(http_error(400, error("invalid_request", "The model is unknown.")))
    model([gate])
    with ServerProcess(world) as client:
        task = start_task(client)["taskId"]
        gate.release.set()
        result = wait_for_task(client, task)
    assert (result["status"], result["result"]["isError"]) == ("completed", True)
    assert "The model is unknown." in result["result"]["content"][0]["text"]


def test_what_is_refused_is_refused_at_once_and_makes_no_task(
    world: World, model: Model
) -> None:
    model()
    with ServerProcess(world) as client:
        refused = start_task(client, question=" ")
        assert refused["isError"]
        assert "invalid_arguments" in refused["content"][0]["text"]
        assert "isError" not in ask_about_task(client, "tasks/get", "0" * 32)
        assert ask_about_task(client, "tasks/get", "0" * 32)["error"]["code"] == -32602
        assert ask_about_task(client, "tasks/get", "../..")["error"]["code"] == -32602


def test_a_client_that_takes_no_tasks_waits_for_its_answer(
    world: World, model: Model
) -> None:
    model([say("It is fine.")])
    with ServerProcess(world) as client:
        waited = client.answer(
            client.call("codex_consult", QUESTION, **request_meta())
        )["result"]
    assert waited["structuredContent"]["answer"] == "It is fine."


def test_free_tools_and_background_twins_answer_as_ever(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine."))
    model([gate])
    with ServerProcess(world) as client:
        free = client.answer(client.call("codex_status", {}, **request_meta(TASKS)))[
            "result"
        ]
        twin = start_task(client, "codex_consult_async")
        gate.release.set()
    assert free["structuredContent"]["data"]["usable"]
    assert twin["structuredContent"]["job_id"]


def test_without_a_state_directory_the_caller_is_kept_waiting_instead(
    world: World, model: Model
) -> None:
    model([say("It is fine.")])
    world.state.write_text("a file", "utf-8")
    with ServerProcess(world) as client:
        assert start_task(client)["structuredContent"]["answer"] == "It is fine."


def test_the_same_key_is_the_same_task_and_after_its_end_the_answer(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine."))
    model([gate])
    with ServerProcess(world) as client:
        tasks = [start_task(client, idempotency_key="k")["taskId"] for _ in range(2)]
        assert tasks[0] == tasks[1]
        gate.release.set()
        wait_for_task(client, tasks[0])
        assert (
            start_task(client, idempotency_key="k")["structuredContent"]["answer"]
            == "It is fine."
        )


LATE = """
import time
from codex_counsel.server import main
from codex_counsel.services.counsel import Counsel

start = Counsel.consult

def return_after_the_end(counsel, request, *, background=False):
    handle = start(counsel, request, background=background)
    while handle.is_running():
        time.sleep(0.02)
    return handle

Counsel.consult = return_after_the_end
main.serve()
"""


def test_a_run_that_has_ended_before_it_could_become_a_task_is_the_answer_and_is_not_paid_for_twice(
    world: World, model: Model
) -> None:
    asked = model([say("It is fine. " * 2_000)])
    with ServerProcess(world, argv=(sys.executable, "-c", LATE)) as client:
        answer = start_task(client, detail="summary")["structuredContent"]
    assert answer["status"] == "completed"
    assert len(answer["answer"]) < 6_000
    assert len(asked.requests) == 1
    assert len(world.counsel().store.rows()) == 1


def test_the_answer_to_a_key_whose_run_has_ended_is_as_short_as_it_was_asked_for(
    world: World, model: Model
) -> None:
    gate = hold(say("It is fine. " * 2_000))
    model([gate])
    with ServerProcess(world) as client:
        asked_for = {"idempotency_key": "k", "detail": "summary"}
        task = start_task(client, **asked_for)["taskId"]
        gate.release.set()
        wait_for_task(client, task)
        answer = start_task(client, **asked_for)["structuredContent"]
    assert len(answer["answer"]) < 6_000
    assert answer["meta"]["next_cursor"].startswith("answer:")


def test_the_extension_is_advertised(world: World, model: Model) -> None:
    model()
    with ServerProcess(world) as client:
        answer = client.answer(
            client.ask("server/discover", {"_meta": request_meta()})
        )["result"]
    assert TASKS in answer["capabilities"]["extensions"]
