"""The bytes between server and client, whatever happens to either."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from codex_counsel import __version__
from codex_counsel.loopback import Loopback, hold, say
from tests.conftest import World, living, until
from tests.e2e.server.wire import ARGV, ServerProcess

Model = Callable[..., Loopback]
QUESTION = {"question": "Is it fine?"}
NAME = f"codex-counsel {__version__}: "


def test_garbage_on_stdin_costs_an_answer_at_most_and_stdout_stays_pure(
    world: World,
) -> None:
    with ServerProcess(world) as wire:
        wire.initialize()
        for line in (
            b"",
            b"hello",
            b"{",
            b"[]",
            b"null",
            b"7",
            b'"text"',
            b"\xff\xfe\x00",
            b'{"jsonrpc":"1.0","id":900,"method":"tools/list"}',
            b'{"jsonrpc":"2.0","id":901}',
            b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}',
            b'{"jsonrpc":"2.0","id":902,"method":7}',
            b'{"jsonrpc":"2.0","id":903,"method":"tools/call","params":[]}',
            b'{"jsonrpc":"2.0","id":904,"method":"tools/call","params":{"name":7}}',
            b'{"jsonrpc":"2.0","id":905,"result":{}}',
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":77}}',
            b"x" * 5_000_000,
            b"[" * 100_000,
        ):
            wire.write(line + b"\n")
        wire.write(
            json.dumps(
                {"jsonrpc": "2.0", "id": 906, "method": "nonsense", "params": {}}
            ).encode()
            + b"\n"
        )
        assert wire.answer(906)["error"]["code"] == -32601
        assert wire.tool("codex_job_list")["ok"]
        wire.close()
        assert wire.wait_for_exit() == 0
    assert "Traceback" not in wire.stderr


def test_a_question_of_five_megabytes_is_refused_and_the_next_one_heard(
    world: World, model: Model
) -> None:
    model()
    with ServerProcess(world) as wire:
        wire.initialize()
        refused = wire.tool("codex_consult", {"question": "x" * 5_000_000})
        assert refused["error"]["code"] == "input_too_large"
        assert wire.tool("codex_job_list")["ok"]


def test_a_half_line_at_the_end_of_input_is_no_reason_to_fail(world: World) -> None:
    with ServerProcess(world) as wire:
        wire.initialize()
        wire.write(b'{"jsonrpc":"2.0","id":9,"meth')
        wire.close()
        assert wire.wait_for_exit() == 0
    assert "Traceback" not in wire.stderr


def test_input_that_ends_before_it_begins_ends_the_server(world: World) -> None:
    result = subprocess.run(
        ARGV,
        env=world.env,
        cwd=world.workspace,
        input=b"",
        capture_output=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_a_fatal_error_leaves_one_line_with_name_version_and_reason(
    world: World,
) -> None:
    (world.base / "fastmcp.py").write_text(
        "raise RuntimeError('broken installation')\n"
    )
    env = world.env | {"PYTHONPATH": str(world.base)}
    result = subprocess.run(
        ARGV, env=env, cwd=world.workspace, input=b"", capture_output=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, b"")
    (line,) = result.stderr.decode().splitlines()
    assert line == f"{NAME}fatal: RuntimeError: broken installation"


def test_a_log_file_that_cannot_be_written_is_named_on_stderr_and_stops_nothing(
    world: World,
) -> None:
    with ServerProcess(world, {"CODEX_COUNSEL_LOG_FILE": "/nonexistent/log"}) as wire:
        wire.initialize()
        assert wire.tool("codex_job_list")["ok"]
    assert (
        "WARNING the log file /nonexistent/log cannot be written: logging to stderr"
        in wire.stderr
    )


def test_in_a_directory_that_was_deleted_only_the_calls_that_name_another_work(
    world: World, model: Model
) -> None:
    model([say("It is fine.")])
    gone = world.base / "gone"
    gone.mkdir()
    argv = ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone), *ARGV]
    with ServerProcess(world, argv=argv) as wire:
        wire.initialize()
        assert (
            wire.tool("codex_consult", {"question": "Is it fine?"})["error"]["code"]
            == "workspace_invalid"
        )
        elsewhere = {"question": "Is it fine?", "workspace_root": str(world.workspace)}
        assert wire.tool("codex_consult", elsewhere)["answer"] == "It is fine."


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_logged_as_the_end(world: World, number: signal.Signals) -> None:
    with ServerProcess(world) as wire:
        wire.initialize()
        wire.process.send_signal(number)
        assert wire.wait_for_exit() == 128 + number
    assert wire.stderr == f"{NAME}{number.name}; shut down\n"


def test_a_client_that_reads_no_more_ends_the_server_and_its_run(
    world: World, model: Model
) -> None:
    gate = hold(say("For nobody."))
    model(gate)
    with ServerProcess(world) as wire:
        wire.initialize()
        wire.call("codex_consult", {"question": "Is it fine?"})
        assert gate.reached.wait(60)
        assert wire.process.stdout
        wire.process.stdout.close()
        wire.ask("tools/list")
        wire.process.wait(30)
    assert wire.stderr == f"{NAME}the client closed the connection; shut down\n"
    until(lambda: not living(str(world.base)))
    assert list(world.temp.iterdir()) == []


def test_a_signal_ends_the_server_even_where_nobody_reads_its_stderr(
    world: World,
) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    while select.select([], [write], [], 0)[1]:
        os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        ARGV, env=world.env, cwd=world.workspace, stderr=write, **pipes
    ) as process:  # type: ignore[call-overload]
        try:
            hello = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "0"},
            }
            message = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "initialize",
                "params": hello,
            }
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
        finally:
            process.kill()
            os.close(read)
            os.close(write)


def test_neither_the_projects_env_file_nor_the_callers_fastmcp_variables_have_an_effect(
    world: World,
) -> None:
    planted = {
        "FASTMCP_TRANSPORT": "http",
        "FASTMCP_LOG_LEVEL": "LOUD",
        "FASTMCP_PORT": "none",
    }
    (world.workspace / ".env").write_text(
        "".join(f"{name}={value}\n" for name, value in planted.items())
    )
    for env in ({}, planted):
        with ServerProcess(world, env) as wire:
            assert wire.initialize()["result"]["serverInfo"]["version"] == __version__
            wire.close()
            assert wire.wait_for_exit() == 0
        assert wire.stderr == ""


def test_the_server_starts_without_a_banner_and_asks_the_network_nothing(
    world: World,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        env = dict.fromkeys(
            ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"),
            proxy,
        )
        with ServerProcess(world, env) as wire:
            wire.initialize()
            assert wire.answer(wire.ask("tools/list"))["result"]["tools"]
            wire.close()
            assert wire.wait_for_exit() == 0
        assert wire.stderr == ""
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_two_servers_on_one_state_directory_see_each_others_runs(
    world: World, model: Model
) -> None:
    gate = hold(say("For both."))
    model(gate)
    with ServerProcess(world) as one, ServerProcess(world) as other:
        one.initialize()
        other.initialize()
        job = one.tool("codex_consult_async", {"question": "Is it fine?"})["job_id"]
        assert other.tool("codex_job_status", {"job_id": job})["status"] in (
            "queued",
            "running",
        )
        waiting = other.call("codex_job_result", {"job_id": job, "wait_seconds": 50})
        one.close()
        assert one.wait_for_exit() == 0
        gate.release.set()
        assert other.result(waiting)["answer"] == "For both."


IMPATIENT = (
    "from codex_counsel.server import main; main.UNREAD_SECONDS = 1; main.serve()"
)


def test_a_client_that_says_and_reads_nothing_more_does_not_keep_the_server(
    world: World, model: Model
) -> None:
    gate = hold(say("Never."))
    model(gate)
    with ServerProcess(world, argv=(sys.executable, "-c", IMPATIENT)) as wire:
        wire.initialize()
        wire.call("codex_consult", QUESTION)
        assert gate.reached.wait(60)
        for _ in range(40):  # more than a pipe holds
            wire.ask("tools/list")
        wire.close()
        assert wire.process.wait(30) == 0
        until(lambda: not living(str(world.base)))
    assert wire.stderr == f"{NAME}the client closed the connection; shut down\n"


FEW_THREADS = """
import threading
from codex_counsel.server import main

start = threading.Thread.start

def start_if_there_is_room(thread):
    # This one, the watcher, and those that the SDK needs.
    if threading.active_count() >= LIMIT:
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = start_if_there_is_room
main.serve()
"""


def test_without_threads_every_call_is_answered_and_the_server_goes_on(
    world: World,
) -> None:
    argv = (sys.executable, "-c", FEW_THREADS.replace("LIMIT", "5"))
    with ServerProcess(world, argv=argv) as wire:
        wire.initialize()
        for call in [wire.call("codex_consult", QUESTION) for _ in range(10)]:
            answer = wire.answer(call)["result"]
            assert answer["isError"]
            assert answer["content"][0]["text"].startswith("resource_limit: ")
        assert wire.answer(wire.ask("tools/list"))["result"]["tools"]
        wire.close()
        assert wire.wait_for_exit() == 0


def test_a_server_that_cannot_start_its_own_threads_says_so(world: World) -> None:
    argv = (sys.executable, "-c", FEW_THREADS.replace("LIMIT", "4"))
    with ServerProcess(world, argv=argv) as wire:
        assert wire.wait_for_exit() == 1
    assert wire.stderr.endswith("fatal: RuntimeError: can't start new thread\n")


def test_without_descriptors_every_call_says_so_and_the_server_goes_on(
    world: World, model: Model
) -> None:
    gate = hold(say("Not yet."))
    model(gate)
    with ServerProcess(world) as wire:
        wire.initialize()
        job = {"job_id": wire.tool("codex_consult_async", QUESTION)["job_id"]}
        assert gate.reached.wait(60)
        calls: list[tuple[str, dict[str, Any]]] = [
            ("codex_job_list", {}),
            ("codex_job_status", job),
            ("codex_job_result", job),
            ("codex_job_cancel", job),
            ("codex_status", {}),
            ("codex_consult", QUESTION),
        ]
        pid = wire.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        for tool, arguments in calls:
            (content,) = wire.answer(wire.call(tool, arguments))["result"]["content"]
            assert content["text"].startswith("resource_limit: "), tool
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        gate.release.set()
        answered = wire.tool("codex_job_result", {**job, "wait_seconds": 50})
        assert answered["answer"] == "Not yet."
        assert "defect" not in wire.stderr
