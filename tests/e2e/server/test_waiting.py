"""How long a caller is kept waiting, and what it hears meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastmcp import Client

from codex_counsel.contract.request import JobResult, parse
from codex_counsel.jobs import recovery
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Gate, Loopback, hold, say, shell
from tests.conftest import World, living, until
from tests.e2e.runs import fetch, worker_of
from tests.e2e.server.conftest import Connect
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
QUESTION = {"question": "Is it fine?"}


class ProgressListener:
    """The progress a client was sent; the gate opens once there is enough of it."""

    def __init__(
        self, gate: Gate | None = None, enough: Callable[[], object] = lambda: True
    ) -> None:
        self.messages: list[str] = []
        self.seconds: list[float] = []
        self._gate, self._enough = gate, enough

    async def listen(
        self, progress: float, total: float | None, message: str | None
    ) -> None:
        self.messages.append(message or "")
        self.seconds.append(progress)
        if self._gate:
            await anyio.to_thread.run_sync(until, self._enough)
            self._gate.release.set()


async def consult(
    client: Client[Any], listener: ProgressListener | None = None, **arguments: str
) -> dict[str, Any]:
    listening = listener.listen if listener else None
    result = await client.call_tool(
        "codex_consult",
        {**QUESTION, **arguments},
        progress_handler=listening,
        raise_on_error=False,
    )
    wire: dict[str, Any] = result.structured_content or {}
    return wire


async def test_at_the_soft_deadline_the_run_is_handed_over_and_not_paid_for_twice(
    world: World, model: Model, connect: Connect
) -> None:
    gate = hold(say("Worth the wait."))
    server = model(gate)
    with anyio.fail_after(60):
        async with connect(CODEX_COUNSEL_SYNC_SECONDS="1") as client:
            wire = await consult(client)
            assert wire["ok"]
            assert wire["status"] in ("queued", "running")
            assert wire["next"] == {
                "tool": "codex_job_result",
                "arguments": {"job_id": wire["job_id"], "wait_seconds": 50},
            }
            await anyio.to_thread.run_sync(gate.reached.wait, 30)
            # The model is asked before the worker has read that the turn began.
            job = world.counsel().store.job(wire["job_id"])
            await anyio.to_thread.run_sync(
                until, lambda: job.state().phase == "thinking"
            )
            status = (
                await client.call_tool("codex_job_status", {"job_id": wire["job_id"]})
            ).structured_content or {}
            assert status["progress"]["phase"] == "thinking"
            assert status["meta"]["session_id"]
        store = world.counsel().store
        assert recovery.outcome(store.job(wire["job_id"])) is None
        gate.release.set()
        async with connect() as client:
            fetched = await client.call_tool(
                wire["next"]["tool"], wire["next"]["arguments"]
            )
    assert fetched.structured_content
    assert fetched.structured_content["answer"] == "Worth the wait."
    assert len(server.requests) == 1
    await anyio.to_thread.run_sync(until, lambda: not living(str(world.base)))


async def test_who_joined_a_run_is_handed_it_at_the_soft_deadline_too(
    world: World, model: Model, connect: Connect
) -> None:
    gate = hold(say("Worth the wait."))
    server = model(gate)
    with anyio.fail_after(60):
        async with connect(CODEX_COUNSEL_SYNC_SECONDS="1") as client:
            first = await consult(client, idempotency_key="k")
            joined = await consult(client, idempotency_key="k")
    gate.release.set()
    assert first["job_id"] == joined["job_id"]
    assert joined["status"] in ("queued", "running")
    assert len(server.requests) <= 1
    await anyio.to_thread.run_sync(until, lambda: not living(str(world.base)))


async def test_claude_code_is_kept_waiting_past_the_deadline_with_progress(
    world: World, model: Model, connect: Connect
) -> None:
    gate = hold(say("Worth the wait."))
    model(gate)

    def handed_over() -> bool:
        return any(job.state().detached for job in world.counsel().store.jobs())

    listener = ProgressListener(gate, handed_over)
    with anyio.fail_after(60):
        async with connect("claude-code", CODEX_COUNSEL_SYNC_SECONDS="1") as client:
            wire = await consult(client, listener)
    assert (wire["status"], wire["answer"]) == ("completed", "Worth the wait.")
    assert re.fullmatch(r"(queued|starting|thinking) \(\d+s\)", listener.messages[0])
    assert listener.seconds == sorted(listener.seconds)
    assert listener.seconds[0] > 0


async def test_any_client_hears_of_the_running_command_before_the_deadline(
    model: Model, connect: Connect
) -> None:
    gate = hold(say("Done."))
    server = model([shell("cat gate 2>/dev/null; exec sleep 2"), gate])
    listener = ProgressListener(gate)
    with anyio.fail_after(60):
        async with connect() as client:
            wire = await consult(client, listener)
    assert wire["answer"] == "Done."
    assert re.fullmatch(
        r"(running .*sleep 2'? |queued |starting |thinking )\(\d+s\)",
        listener.messages[0],
    )
    assert len(server.requests) == 2


def test_claude_code_without_a_progress_token_gets_the_hand_over(
    world: World, model: Model
) -> None:
    gate = hold(say("Late."))
    model(gate)
    world.settings["SYNC_SECONDS"] = "1"
    with ServerProcess(world) as wire:
        wire.initialize({"name": "claude-code"})
        envelope = wire.tool("codex_consult", QUESTION)
        assert envelope["status"] in ("queued", "running")
        assert (
            wire.tool("codex_job_cancel", {"job_id": envelope["job_id"]})["data"][
                "cancelled"
            ]
            is True
        )
    assert {message.get("method") for message in wire.messages} == {None}


async def test_a_run_that_cannot_be_kept_is_not_handed_over_but_waited_for(
    world: World, model: Model, connect: Connect
) -> None:
    (world.base / "file").write_text("no directory")
    gate = hold(say("Kept nowhere."))
    model(gate)
    listener = ProgressListener(gate, gate.reached.is_set)
    with anyio.fail_after(60):
        async with connect(
            CODEX_COUNSEL_SYNC_SECONDS="1",
            CODEX_COUNSEL_STATE_DIR=str(world.base / "file" / "state"),
        ) as client:
            wire = await consult(client, listener)
            refused = await client.call_tool(
                "codex_consult_async", QUESTION, raise_on_error=False
            )
    assert (wire["status"], wire["answer"]) == ("completed", "Kept nowhere.")
    assert "not stored" in wire["meta"]["warnings"][0]
    assert refused.is_error
    assert refused.content[0].text.startswith("storage_failed:")  # type: ignore[union-attr]
    assert list(world.temp.iterdir()) == []


async def test_a_client_that_gives_up_ends_its_run(
    world: World, model: Model, connect: Connect
) -> None:
    gate = hold(say("Too late."))
    model(gate)
    with anyio.fail_after(60):
        async with connect() as client, anyio.create_task_group() as tasks:
            tasks.start_soon(consult, client)
            await anyio.to_thread.run_sync(gate.reached.wait, 30)
            tasks.cancel_scope.cancel()
        store = world.counsel().store
        await anyio.to_thread.run_sync(
            until, lambda: [row["status"] for row in store.rows()] == ["cancelled"]
        )
        await anyio.to_thread.run_sync(until, lambda: not living(str(world.base)))
    assert list(world.temp.iterdir()) == []


@pytest.mark.parametrize("waiting", ["codex_job_result", "codex_job_status"])
def test_the_end_of_input_is_not_held_up_by_a_call_that_waits_for_a_job(
    world: World, model: Model, waiting: str
) -> None:
    gate = hold(say("From behind."))
    model(gate)
    with ServerProcess(world) as wire:
        wire.initialize()
        job = wire.tool("codex_consult_async", QUESTION)["job_id"]
        wire.call(waiting, {"job_id": job, "wait_seconds": 50})
        assert wire.tool("codex_job_list")["ok"]
        wire.close()
        assert wire.wait_for_exit(25) == 0
    gate.release.set()
    counsel = world.counsel()
    assert (
        fetch(counsel, parse(JobResult, {"job_id": job, "wait_seconds": 30}))["answer"]
        == "From behind."
    )


def test_five_hundred_waiting_calls_hold_up_no_other_and_hold_no_threads(
    world: World, model: Model
) -> None:
    gate = hold(say("Never."))
    model(gate)
    with ServerProcess(world) as wire:
        wire.initialize()
        job = wire.tool("codex_consult_async", QUESTION)["job_id"]
        assert gate.reached.wait(60)
        waiting = [
            wire.call("codex_job_result", {"job_id": job, "wait_seconds": 50})
            for _ in range(500)
        ]
        assert wire.tool("codex_job_list")["ok"]
        threads = len(list(Path(f"/proc/{wire.process.pid}/task").iterdir()))
        assert threads < 50
        assert not {message.get("id") for message in wire.messages} & set(waiting)
        assert wire.tool("codex_job_cancel", {"job_id": job})["ok"]
        for call in waiting:
            # A failure is returned as text alone.
            assert "cancelled" in json.dumps(wire.answer(call))


def test_a_run_that_takes_long_to_conclude_after_its_worker_holds_up_no_other_call(
    world: World, model: Model
) -> None:
    world.repository.begin()
    folder = world.base / "bin"
    folder.mkdir()
    stuck = f"if [ -e {folder}/stuck ]; then : >{folder}/reached; while [ -e {folder}/stuck ]; do sleep 0.02; done; fi"
    script = f'#!/bin/sh\n{stuck}\nexec {shutil.which("git")} "$@"\n'
    (folder / "git").write_text(script)
    (folder / "git").chmod(0o755)
    gate = hold(say("Never."))
    model([shell("echo new > new.txt"), gate])
    env = {"PATH": f"{folder}:{world.env['PATH']}"}
    with ServerProcess(world, env) as wire:
        wire.initialize()
        call = wire.call("codex_delegate", {"task": "Add a file."})
        assert gate.reached.wait(60)
        (job,) = (Job(path) for path in (world.state / "jobs").iterdir())
        (folder / "stuck").touch()
        os.kill(worker_of(job).pid, signal.SIGKILL)
        until((folder / "reached").exists)
        assert wire.answer(wire.ask("ping"))["result"] == {}
        (folder / "stuck").unlink()
        (content,) = wire.answer(call)["result"]["content"]
        assert content["text"].startswith("process_died: ")
    assert "new.txt" in (job.path / "diff.patch").read_text()
