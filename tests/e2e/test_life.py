"""Who dies when somebody dies: worker, Codex, server and client, on the real Codex."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import JobResult, parse
from codex_counsel.jobs import recovery
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Gate, Loopback, Reply, Request, hold, say, shell
from codex_counsel.loopback.wire import Line
from tests.conftest import World, living, start_consult, until, wait
from tests.e2e.runs import assert_nothing_is_left, codex_of, fetch, worker_of
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
QUESTION = {"question": "Is it fine?"}


# --- the worker


POINTS: dict[str, Callable[[Job, Gate], object]] = {
    "starting": lambda job, _: job.state().codex,
    "thinking": lambda job, gate: gate.reached.is_set() and job.state().thread_id,
    "in a command": lambda job, _: job.state().phase == "command",
    "finishing": lambda job, gate: finish_and_look_for(job, gate, "turn.completed"),
}


def finish_and_look_for(job: Job, gate: Gate, word: str) -> bool:
    gate.release.set()
    events = job.path / "events.jsonl"
    return events.exists() and word in events.read_text("utf-8")


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_worker_takes_codex_and_its_commands_along_and_the_next_read_says_so(
    world: World, model: Model, point: str
) -> None:
    gate = hold(say("Half an answer."))
    model([shell("sleep 600 & sleep 601"), gate] if point == "in a command" else gate)
    handle = start_consult(world.counsel(), background=True)
    job = handle.job
    until(lambda: POINTS[point](job, gate))
    thread = job.state().thread_id
    codex = codex_of(job)
    os.kill(worker_of(job).pid, signal.SIGKILL)
    wire = until(lambda: recovery.outcome(job))
    assert not codex.alive()
    if point == "finishing" and wire["ok"]:  # it was faster than we
        assert wire["answer"] == "Half an answer."
    else:
        assert (wire["status"], wire["error"]["code"]) == ("failed", "process_died")
        assert wire["meta"].get("session_id") == (
            thread or wire["meta"].get("session_id")
        )
        assert thread or point == "starting"
    assert fetch(world.counsel(), parse(JobResult, {"job_id": job.id})) == wire
    handle.release()
    assert_nothing_is_left(world)


def test_a_worker_that_is_killed_in_the_queue_leaves_a_dead_job_and_its_place(
    world: World, model: Model
) -> None:
    world.settings["MAX_RUNNING"] = "1"
    gate = hold(say("First."))
    server = model(gate)
    first = start_consult(world.counsel())
    assert gate.reached.wait(60)
    second, third = (
        start_consult(world.counsel(), background=True),
        start_consult(world.counsel()),
    )
    os.kill(worker_of(second.job).pid, signal.SIGKILL)
    wire = until(lambda: recovery.outcome(second.job))
    assert wire["error"]["code"] == "process_died"
    gate.release.set()
    assert [wait(first)["status"], wait(third)["status"]] == ["completed", "completed"]
    second.release()
    assert len({request.thread_id for request in server.requests}) == 2
    assert_nothing_is_left(world)


def test_a_worker_told_to_end_by_a_signal_says_cancelled(
    world: World, model: Model
) -> None:
    gate = hold(say("Too late."))
    model(gate)
    handle = start_consult(world.counsel())
    assert gate.reached.wait(60)
    os.kill(worker_of(handle.job).pid, signal.SIGTERM)
    assert wait(handle)["status"] == "cancelled"
    assert_nothing_is_left(world)


def test_a_killed_codex_is_named_with_its_signal_and_its_thread(
    world: World, model: Model
) -> None:
    gate = hold(say("Too late."))
    model([shell("sleep 600 & exec sleep 601", yield_time_ms=100), gate])
    handle = start_consult(world.counsel())
    assert gate.reached.wait(60)
    os.kill(codex_of(handle.job).pid, signal.SIGKILL)
    wire = wait(handle)
    assert wire["error"]["code"] == "process_died"
    assert "signal 9" in wire["error"]["message"]
    assert wire["meta"]["session_id"] == handle.job.state().thread_id
    assert_nothing_is_left(world)


# --- the user's MCP servers

STUBBORN_SERVER = """
import json, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "0"}}
        known = {"initialize": {"protocolVersion": "2025-06-18", **about}, "tools/list": {"tools": []}}
        result = known.get(message["method"], {})
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize("end", ["success", "cancel", "worker killed", "codex killed"])
def test_an_mcp_server_of_the_user_that_ignores_every_signal_does_not_survive_the_run(
    world: World, model: Model, end: str
) -> None:
    script = world.base / "stubborn.py"
    script.write_text(STUBBORN_SERVER)
    gate = hold(say("Done."))
    model(
        gate,
        f"\n[mcp_servers.stubborn]\ncommand = {json.dumps(sys.executable)}\nargs = [{json.dumps(str(script))}]\n",
    )
    world.settings["ISOLATION"] = "inherit"
    handle = start_consult(world.counsel())
    assert gate.reached.wait(60)
    until(lambda: len(living(str(script))) == 1)
    if end == "worker killed":
        os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    elif end == "codex killed":
        os.kill(codex_of(handle.job).pid, signal.SIGKILL)
    elif end == "cancel":
        world.counsel().store.cancel(handle.job)
    gate.release.set()
    status = wait(handle)["status"]
    assert status == {"success": "completed", "cancel": "cancelled"}.get(end, "failed")
    assert_nothing_is_left(world)


# --- the server


def close(wire: ServerProcess) -> None:
    wire.close()


def kill(*numbers: signal.Signals) -> Callable[[ServerProcess], None]:
    def send(wire: ServerProcess) -> None:
        for number in numbers:
            if wire.process.poll() is None:
                wire.process.send_signal(number)

    return send


def as_claude_code_does(wire: ServerProcess) -> None:
    """SIGINT, 100 ms, SIGTERM, 400 ms, SIGKILL."""
    for number, patience in (
        (signal.SIGINT, 0.1),
        (signal.SIGTERM, 0.4),
        (signal.SIGKILL, 10),
    ):
        wire.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            wire.process.wait(patience)
            return


ENDS: dict[str, tuple[Callable[[ServerProcess], None], tuple[int, ...]]] = {
    "end of input": (close, (0,)),
    "SIGINT": (kill(signal.SIGINT), (130,)),
    "SIGTERM": (kill(signal.SIGTERM), (143,)),
    "SIGKILL": (kill(signal.SIGKILL), (-9,)),
    "like Claude Code": (as_claude_code_does, (130, 143, -9)),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_the_server_ends_what_it_waited_for_and_nothing_else(
    world: World, model: Model, end: str
) -> None:
    gates: dict[str, Gate] = {}
    come = threading.Condition()

    def script(request: Request) -> Reply:
        kind = "background" if "behind" in request.prompt else "waited for"
        with come:
            come.notify_all()
            return gates.setdefault(
                f"{kind} {request.index}", hold(say("From behind."))
            )

    server = model(script)
    with ServerProcess(world) as wire:
        wire.initialize()
        wire.call("codex_consult", QUESTION)
        background = wire.tool(
            "codex_consult_async", {"question": "What lies behind it?"}
        )
        assert background["status"] in ("queued", "running")
        server.asked(2)
        jobs = {job.id: job for job in world.counsel().store.jobs()}
        kept = jobs.pop(background["job_id"])
        (waited,) = jobs.values()
        act, codes = ENDS[end]
        act(wire)
        assert wire.wait_for_exit() in codes
    outcome = until(lambda: recovery.outcome(waited))
    assert outcome["status"] == "cancelled"
    assert outcome["meta"]["session_id"]
    until(lambda: not living(waited.id))
    assert recovery.outcome(kept) is None
    assert codex_of(kept).alive()
    for gate in gates.values():
        gate.release.set()
    with ServerProcess(world) as another:
        another.initialize()
        fetched = another.tool(
            "codex_job_result", {"job_id": kept.id, "wait_seconds": 50}
        )
        assert (fetched["status"], fetched["answer"]) == ("completed", "From behind.")
        another.close()
        assert another.wait_for_exit() == 0
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)


def test_a_cancelled_request_ends_its_run_and_no_other(
    world: World, model: Model
) -> None:
    gate = hold(say("For the other."))
    server = model(gate)
    with ServerProcess(world) as wire:
        wire.initialize()
        doomed, other = (
            wire.call("codex_consult", QUESTION),
            wire.call("codex_consult", QUESTION),
        )
        server.asked(2)
        wire.send(
            {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": doomed},
            }
        )
        store = world.counsel().store
        ended = until(
            lambda: [row for row in store.rows() if row["status"] == "cancelled"]
        )
        until(lambda: not living(ended[0]["job_id"]))
        gate.release.set()
        assert wire.result(other)["answer"] == "For the other."
        assert len(ended) == 1
        wire.close()
        assert wire.wait_for_exit() == 0
        assert [
            message for message in wire.messages if message.get("id") == doomed
        ] == []
    assert_nothing_is_left(world)


def test_a_request_that_is_cancelled_at_once_leaves_nothing(
    world: World, model: Model
) -> None:
    model(hold(say("Too late.")))
    with ServerProcess(world) as wire:
        wire.initialize()
        for _ in range(3):
            doomed = wire.call("codex_consult", QUESTION)
            wire.send(
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/cancelled",
                    "params": {"requestId": doomed},
                }
            )
        assert wire.tool("codex_job_list")["ok"]
        store = world.counsel().store
        until(lambda: all(row["status"] == "cancelled" for row in store.rows()))
        wire.close()
        assert wire.wait_for_exit() == 0
    assert {row["status"] for row in store.rows()} <= {"cancelled"}
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)


# --- many at once


@dataclass
class CommandCounter:
    """A reply that looks, each time it is asked for, how many Codex processes there are."""

    world: World
    most: list[int] = field(default_factory=list)

    def play(self, request: Request, line: Line) -> None:
        # One look at all processes takes a while: only what both saw was there at one
        # moment.
        self.most.append(len(self.commands() & self.commands()))
        say("It is fine.").play(request, line)

    def commands(self) -> set[str]:
        """The command lines, each of which names the directory of its own job."""
        return {
            command
            for command in living(str(self.world.base))
            if " exec --json " in command
        }


@pytest.mark.parametrize("servers", [1, 2])
def test_fifty_consults_at_once_are_all_answered_and_leave_nothing(
    world: World, model: Model, servers: int
) -> None:
    world.settings |= {"MAX_RUNNING": "3", "SYNC_SECONDS": "3600"}
    counter = CommandCounter(world)
    server = model(counter)
    with ExitStack() as stack:
        wires = [stack.enter_context(ServerProcess(world)) for _ in range(servers)]
        for wire in wires:
            wire.initialize()
        calls = [
            (wire, wire.call("codex_consult", QUESTION))
            for _ in range(50 // servers)
            for wire in wires
        ]
        results: list[dict[str, Any]] = [wire.result(call) for wire, call in calls]
        assert [result["status"] for result in results] == ["completed"] * 50
        for wire in wires:
            wire.close()
            assert wire.wait_for_exit() == 0
    assert len({result["meta"]["job_id"] for result in results}) == 50
    assert len(server.requests) == 50
    assert max(counter.most) <= 3
    assert {row["status"] for row in world.counsel().store.rows()} == {"completed"}
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)
    assert not list(Path(world.state).glob("**/.birth-*"))
