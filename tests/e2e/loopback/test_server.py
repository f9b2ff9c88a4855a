"""The server records everything, keeps threads apart, waits when told to, and leaves nothing behind."""

from __future__ import annotations

import json
import threading
import tomllib
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from codex_counsel.loopback import (
    Loopback,
    Reply,
    Request,
    drop,
    hold,
    http_error,
    say,
    shell,
    slow,
    stall,
)
from tests.e2e.loopback.conftest import finish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.loopback.conftest import Codex

SECONDS = 60


def exchange(
    server: Loopback, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(server.base_url).netloc, timeout=SECONDS)
    try:
        connection.request(method, path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_request_shows_what_codex_asked(codex: Codex, tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema), encoding="utf-8")
    flags = [
        "-m",
        "gpt-5.5",
        "-c",
        'model_reasoning_effort="high"',
        "-c",
        'developer_instructions="Be kind."',
    ]
    with Loopback(say({})) as server:
        outcome = codex.ask(
            server,
            *flags,
            "--output-schema",
            str(tmp_path / "schema.json"),
            prompt="Fine, is it?",
        )
    (request,) = server.requests
    assert (request.model, request.effort, request.schema) == (
        "gpt-5.5",
        "high",
        schema,
    )
    assert "Fine, is it?" in request.prompt
    assert "Be kind." in request.developer
    assert {"exec_command", "apply_patch"} <= set(request.tools)
    assert (
        request.thread_id
        == outcome.events[0]["thread_id"]
        == request.headers["thread-id"]
    )
    assert (request.path, request.index, request.outputs, request.subagent) == (
        "/v1/responses",
        0,
        [],
        None,
    )
    assert request.over.is_set()


def test_code_mode_model_is_offered_exec_and_namespaced_tools(codex: Codex) -> None:
    with Loopback(say("Yes.")) as server:
        codex.ask(server)
    assert server.requests[0].code_mode
    assert {"exec", "wait", "collaboration.spawn_agent"} <= set(
        server.requests[0].tools
    )


def test_function_decides_by_what_the_request_holds(codex: Codex) -> None:
    def script(request: Request) -> Reply:
        return say("Seen.") if request.outputs else shell("cat app.py")

    with Loopback(script) as server:
        assert codex.ask(server).texts() == ["Seen."]
    assert len(server.requests) == 2


def test_failing_function_fails_the_turn_and_is_raised_at_the_end(codex: Codex) -> None:
    def script(request: Request) -> Reply:
        raise LookupError(request.index)

    with pytest.raises(LookupError), Loopback(script) as server:
        assert "LookupError(0)" in codex.ask(server).failure


def test_resumed_thread_goes_on_in_the_list_and_repeats_its_end(codex: Codex) -> None:
    with Loopback([say("One."), say("Two.")]) as server:
        thread = codex.ask(server).events[0]["thread_id"]
        again = [finish(codex.resume(thread)).texts() for _ in range(2)]
    assert again == [["Two."], ["Two."]]
    assert [(request.thread_id, request.index) for request in server.requests] == [
        (thread, 0),
        (thread, 1),
        (thread, 2),
    ]


def test_threads_at_the_same_time_each_follow_the_list_from_its_start(
    codex: Codex,
) -> None:
    gate = hold(shell("cat app.py"))
    with Loopback([gate, say("Seen.")]) as server:
        runs = [codex.start(server, "-m", "gpt-5.5") for _ in range(8)]
        server.asked(8)
        gate.release.set()
        outcomes = [finish(run) for run in runs]
    assert [outcome.texts() for outcome in outcomes] == [["Seen."]] * 8
    assert [request.index for request in server.requests].count(0) == 8
    assert len({request.thread_id for request in server.requests}) == 8


def test_held_reply_waits_for_its_release(codex: Codex) -> None:
    gate = hold(say("At last."))
    with Loopback(gate) as server:
        run = codex.start(server)
        assert gate.reached.wait(SECONDS)
        assert not server.requests[0].over.is_set()
        gate.release.set()
        assert finish(run).texts() == ["At last."]


@pytest.mark.parametrize(
    "reply", [stall("before_headers"), stall("after_message"), slow(say("Late."), 600)]
)
def test_closing_the_server_ends_every_silence(reply: Reply) -> None:
    _ends_when_closed(reply)


def test_closing_the_server_opens_every_gate() -> None:
    gate = hold(say("Late."))
    _ends_when_closed(gate)
    assert gate.release.is_set()


def _ends_when_closed(reply: Reply) -> None:
    before = set(threading.enumerate())
    with Loopback(reply) as server:
        client = threading.Thread(target=_try_to_ask, args=(server,))
        client.start()
        (request,) = server.asked()
        assert not request.over.is_set()
    client.join(SECONDS)
    assert request.over.is_set()
    # One of an earlier test may have ended meanwhile.
    assert set(threading.enumerate()) <= before


def _try_to_ask(server: Loopback) -> None:
    with suppress(OSError, HTTPException):
        exchange(server, "POST", "/v1/responses", {})


def test_silence_ends_when_codex_is_killed(codex: Codex) -> None:
    with Loopback(stall("before_headers")) as server:
        run = codex.start(server)
        (request,) = server.asked()
        run.kill()
        run.communicate()
        assert request.over.wait(SECONDS)


def test_slow_reply_arrives(codex: Codex) -> None:
    with Loopback(slow(say("Late."), 0.05)) as server:
        assert codex.ask(server).texts() == ["Late."]


def test_waiting_for_more_requests_than_come_says_how_many_came() -> None:
    with Loopback(say("Yes.")) as server, pytest.raises(TimeoutError, match="0 of 1"):
        server.asked(1, timeout=0)


def test_closing_twice_is_harmless() -> None:
    server = Loopback(drop())
    server.close()
    server.close()


def test_other_requests_are_answered_and_kept_apart() -> None:
    with Loopback(http_error(500)) as server:
        assert exchange(server, "GET", "/v1/models?client_version=1") == (
            200,
            b'{"models": []}',
        )
        assert exchange(server, "GET", "/v1/responses", upgrade="websocket")[0] == 426
        assert (
            exchange(
                server, "POST", "/v1/responses", {}, **{"content-encoding": "zstd"}
            )[0]
            == 400
        )
        assert exchange(server, "GET", "/nothing")[0] == 404
    assert server.requests == []
    assert [visit.path for visit in server.visits] == [
        "/v1/models?client_version=1",
        "/v1/responses",
        "/v1/responses",
        "/nothing",
    ]


def test_configuration_names_this_server_as_the_provider() -> None:
    with Loopback(say("Yes.")) as server:
        text = server.config_toml(
            "gpt-5.5", env_key="KEY", retries=2, stream_idle_timeout_ms=500
        )
    assert tomllib.loads(text) == {
        "model_provider": "loopback",
        "model": "gpt-5.5",
        "model_providers": {
            "loopback": {
                "name": "loopback",
                "base_url": server.base_url,
                "wire_api": "responses",
                "supports_websockets": False,
                "request_max_retries": 2,
                "stream_max_retries": 2,
                "env_key": "KEY",
                "stream_idle_timeout_ms": 500,
            }
        },
    }


def test_client_without_a_stream_gets_the_answer_in_one_document() -> None:
    with Loopback(say("It is fine.")) as server:
        status, body = exchange(server, "POST", "/v1/responses", {"model": "m"})
    document = json.loads(body)
    assert (status, document["status"], document["model"]) == (200, "completed", "m")
    (item,) = document["output"]
    assert item["content"] == [{"type": "output_text", "text": "It is fine."}]
    assert document["usage"]["total_tokens"] == 110
