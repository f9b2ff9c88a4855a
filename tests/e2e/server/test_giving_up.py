"""What a cancelled request costs: never an answer, never a run that others wait for, never one that nobody knows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.jobs import recovery
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Loopback, hold, say
from tests.conftest import World, until
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
QUESTION = {"question": "Is it fine?"}


@pytest.fixture
def stuck_git(world: World) -> Path:
    """A git that waits until the file `go` is there; returns the directory it is in, where `reached` appears first."""
    world.repository.init().write("a.py", "x = 1\n")
    folder = world.base / "stuck"
    folder.mkdir()
    waiting = f": >{folder}/reached\nuntil [ -e {folder}/go ]; do sleep 0.02; done"
    script = f'#!/bin/sh\n{waiting}\nexec {shutil.which("git")} "$@"\n'
    (folder / "git").write_text(script)
    (folder / "git").chmod(0o755)
    return folder


def with_git(world: World, folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}:{world.env['PATH']}"}


@pytest.mark.parametrize("tool", ["codex_job_consume_result", "codex_job_result"])
def test_an_answer_that_came_after_the_request_was_cancelled_was_not_received(
    world: World, model: Model, tool: str
) -> None:
    gate, other = hold(say("The paid answer.")), hold(say("Never."))
    model([gate, other])
    with ServerProcess(world) as wire:
        wire.initialize()
        job = wire.tool("codex_consult_async", QUESTION)["job_id"]
        assert gate.reached.wait(60)
        job_id = wire.tool("codex_consult_async", QUESTION)["job_id"]
        call = wire.call(tool, {"job_id": job, "wait_seconds": 50})
        assert wire.tool("codex_job_list")["ok"]
        wire.cancel(call)
        assert wire.tool("codex_job_list")["ok"]
        gate.release.set()
        assert (
            wire.tool("codex_job_status", {"job_id": job, "wait_seconds": 50})["status"]
            == "completed"
        )
        assert wire.tool("codex_job_status", {"job_id": job_id, "wait_seconds": 1})[
            "ok"
        ]
        assert not (world.state / "jobs" / job / "delivered").exists()
        assert not (world.state / "consumed" / job).exists()
        assert (
            wire.tool("codex_job_consume_result", {"job_id": job})["answer"]
            == "The paid answer."
        )
        assert (world.state / "consumed" / job).exists()


def test_a_call_that_joined_a_run_does_not_end_it_when_it_is_cancelled(
    world: World, model: Model
) -> None:
    gate = hold(say("For the first."))
    model(gate)
    arguments = {**QUESTION, "idempotency_key": "k"}
    with ServerProcess(world) as one, ServerProcess(world) as other:
        one.initialize()
        other.initialize()
        first = one.call("codex_consult", arguments)
        assert gate.reached.wait(60)
        (job,) = (Job(path) for path in (world.state / "jobs").iterdir())
        second = other.call("codex_consult", arguments, progressToken="t")
        # It waits for the run that it joined.
        other.progress()
        other.cancel(second)
        status = other.tool("codex_job_status", {"job_id": job.id, "wait_seconds": 1})
        assert status["status"] == "running"
        gate.release.set()
        assert one.result(first)["answer"] == "For the first."


def test_a_run_that_its_caller_waits_for_past_the_deadline_is_cancelled_with_the_request(
    world: World, model: Model
) -> None:
    gate = hold(say("Too late."))
    model(gate)
    world.settings["SYNC_SECONDS"] = "1"
    with ServerProcess(world) as wire:
        wire.initialize({"name": "claude-code"})
        call = wire.call("codex_consult", QUESTION, progressToken="p")
        assert gate.reached.wait(60)
        (job,) = (Job(path) for path in (world.state / "jobs").iterdir())
        until(lambda: job.state().detached)
        wire.cancel(call)
        until(lambda: recovery.outcome(job))
    assert (recovery.outcome(job) or {})["status"] == "cancelled"


@pytest.mark.parametrize("tool", ["codex_review_changes", "codex_review_changes_async"])
def test_a_run_whose_request_was_cancelled_while_it_was_launched_is_cancelled(
    world: World, model: Model, stuck_git: Path, tool: str
) -> None:
    model(hold(say("For nobody.")))
    with ServerProcess(world, with_git(world, stuck_git)) as wire:
        wire.initialize()
        call = wire.call(tool)
        until((stuck_git / "reached").exists)
        wire.cancel(call)
        assert wire.tool("codex_job_list")["data"] == {"jobs": []}
        (stuck_git / "go").touch()
        until(
            lambda: (
                [row["status"] for row in world.counsel().store.rows()] == ["cancelled"]
            )
        )


def test_a_launch_that_takes_long_is_reported_and_counts_for_the_deadline(
    world: World, model: Model, stuck_git: Path
) -> None:
    model(hold(say("Never.")))
    world.settings["SYNC_SECONDS"] = "5"
    with ServerProcess(world, with_git(world, stuck_git)) as wire:
        wire.initialize()
        call = wire.call("codex_review_changes", {}, progressToken="p")
        assert wire.progress()["message"].startswith("starting (")
        until(lambda: latest_progress(wire) > 5)
        (stuck_git / "go").touch()
        envelope = wire.result(call)
        assert envelope["status"] in ("queued", "running")
        # A report on the run itself, for which nobody waited, would count from its begin.
        for told in progress_of(wire):
            (seconds,) = re.findall(r"\d+", told["message"])
            assert told["progress"] - int(seconds) < 2
        assert wire.tool("codex_job_cancel", {"job_id": envelope["job_id"]})["ok"]


def latest_progress(wire: ServerProcess) -> float:
    """The seconds that the server told last."""
    assert wire.tool("codex_job_list")["ok"]  # what came before its answer is read, too
    return float(progress_of(wire)[-1]["progress"])


def progress_of(wire: ServerProcess) -> list[dict[str, Any]]:
    return [
        message["params"]
        for message in wire.messages
        if message.get("method") == "notifications/progress"
    ]
