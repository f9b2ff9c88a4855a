"""How several attempts end when somebody ends them: nothing is lost that was done, and nothing is left running."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import (
    Apply,
    JobCancel,
    JobConsume,
    JobResult,
    parse,
)
from codex_counsel.jobs import recovery, retention
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Gate, Loopback, hold, say
from codex_counsel.system.files import lock_file
from codex_counsel.system.process_tree import Identity
from tests.conftest import World, living, pick, until, wait
from tests.e2e.attempts import CHECK, RIGHT, Cast, by_model, children_of, set_answer
from tests.e2e.delegation import start
from tests.e2e.runs import (
    assert_nothing_is_left,
    cancel_run,
    codex_of,
    fetch,
    kill_worker,
    worker_of,
)
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]


class Stage:
    """A run with an attempt that has ended well, and one, "late", that waits in the middle of its turn."""

    def __init__(self, world: World, model: Model, **arguments: Any) -> None:
        self.world = world
        self.gate: Gate = hold(say("Too late."))
        late = (set_answer(44, "; echo half > half.txt"), self.gate)
        self.cast = Cast({"right": RIGHT, "late": late})
        world.repository.begin_with_work()
        model(self.cast)
        self.handle: Handle = start(
            world, check=CHECK, background=True, **self.cast.arguments, **arguments
        )
        self.job = self.handle.job
        assert self.gate.reached.wait(60)
        self.right, self.late = until(
            lambda: children_of(self.job) if len(children_of(self.job)) == 2 else None
        )
        until((self.right.path / "result.json").exists)

    @property
    def workers(self) -> list[Identity]:
        return [worker_of(self.job), worker_of(self.late)]

    def outcome(self) -> dict[str, Any]:
        """As the next reader has it."""
        return until(lambda: recovery.outcome(self.job))

    def assert_kept(self, wire: dict[str, Any], *, late: tuple[str, str]) -> None:
        """The diff of the one that ended well is returned, and that of the other is kept. Both can be applied."""
        assert "+answer = 42" in wire["diff"]
        rows = by_model(wire)
        assert rows["right"]["rank"] == 1
        assert rows["right"]["check"]["status"] == "passed"
        assert (rows["late"]["status"], rows["late"]["error"]) == late
        assert rows["late"]["diffstat"].startswith("2 files changed")
        assert rows["late"]["files"] == ["app.py", "half.txt"]
        assert (
            fetch(self.world.counsel(), parse(JobResult, {"job_id": self.job.id}))
            == wire
        )
        for job_id in (self.job.id, rows["late"]["job_id"]):
            request = parse(Apply, {"job_id": job_id, "check_only": True})
            assert self.world.counsel().apply(request)["ok"]
        until(lambda: not living(str(self.world.base)))
        self.handle.release()
        assert_nothing_is_left(self.world)


@pytest.fixture
def stage(world: World, model: Model) -> Stage:
    return Stage(world, model)


def test_one_cancel_ends_all_attempts_and_keeps_what_they_had_done(
    stage: Stage,
) -> None:
    page = cancel_run(stage.world.counsel(), parse(JobCancel, {"job_id": stage.job.id}))
    assert page["data"]["cancelled"]
    wire = stage.outcome()
    assert pick(wire, "ok", "status", "partial") == {
        "ok": False,
        "status": "cancelled",
        "partial": True,
    }
    assert "what attempt 1 had done is kept" in wire["summary"]
    assert "base_status" not in wire["check"]
    stage.assert_kept(wire, late=("cancelled", "cancelled"))


def test_a_cancelled_attempt_costs_the_others_nothing(stage: Stage) -> None:
    stage.world.counsel().store.cancel(stage.late)
    wire = stage.outcome()
    assert wire["ok"]
    assert "1 passed the check, 1 was cancelled" in wire["summary"]
    stage.assert_kept(wire, late=("cancelled", "cancelled"))


def test_an_attempt_whose_worker_is_killed_costs_the_others_nothing(
    stage: Stage,
) -> None:
    codex = codex_of(stage.late)
    kill_worker(stage.late)
    wire = stage.outcome()
    assert not codex.alive()
    assert wire["ok"]
    assert wire["check"]["base_status"] == "failed"
    stage.assert_kept(wire, late=("failed", "process_died"))


def test_an_attempt_whose_record_is_gone_costs_the_others_nothing(stage: Stage) -> None:
    until(lambda: not stage.right.alive())
    retention.drop(stage.world.counsel().store, stage.right)
    stage.gate.release.set()
    wire = until(lambda: recovery.outcome(stage.job))
    assert wire["ok"]
    assert "half.txt" in wire["diff"]
    rows = [pick(row, "attempt", "status", "error") for row in wire["attempts"]]
    assert rows[1] == {"attempt": 1, "status": "failed", "error": "job_not_found"}
    assert wire["check"]["base_status"] == "failed"
    stage.handle.release()
    until(lambda: not living(str(stage.world.base)))
    assert_nothing_is_left(stage.world)


def test_an_attempt_that_was_consumed_is_kept_for_the_run_that_waits(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "READER_SECONDS", -1.0)
    counsel = stage.world.counsel()
    until(lambda: not stage.right.alive())
    fetch(counsel, parse(JobConsume, {"job_id": stage.right.id}))
    counsel.drop_consumed()
    stage.gate.release.set()
    wire = until(lambda: recovery.outcome(stage.job))
    assert "+answer = 42" in wire["diff"]
    until(lambda: not stage.job.alive())
    counsel.drop_consumed()
    assert not stage.right.path.exists()
    stage.handle.release()


def test_a_record_that_is_damaged_meanwhile_is_named_and_the_diff_is_kept(
    world: World, model: Model
) -> None:
    gate = hold(set_answer(42))
    world.repository.begin_with_work()
    model([gate, say("Done.")])
    handle = start(world, attempts=2, judge=True, background=True)
    assert gate.reached.wait(60)
    (handle.job.path / "children.json").write_text("{")
    gate.release.set()
    wire = until(lambda: recovery.outcome(handle.job))
    assert wire["error"]["code"] == "job_corrupt"
    assert "+answer = 42" in wire["diff"]
    handle.release()


def test_a_killed_run_takes_its_attempts_along_and_the_next_reader_has_what_they_did(
    stage: Stage,
) -> None:
    kill_worker(stage.job)
    wire = stage.outcome()
    assert pick(wire, "ok", "status", "partial") == {
        "ok": False,
        "status": "failed",
        "partial": True,
    }
    assert wire["error"]["code"] == "process_died"
    stage.assert_kept(wire, late=("cancelled", "cancelled"))


def test_when_everything_is_killed_at_once_the_next_reader_has_what_was_done(
    stage: Stage,
) -> None:
    victims = [*stage.workers, codex_of(stage.late)]
    for victim in victims:
        os.kill(victim.pid, signal.SIGSTOP)
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    wire = stage.outcome()
    assert wire["error"]["code"] == "process_died"
    stage.assert_kept(wire, late=("failed", "process_died"))


def test_an_attempt_that_another_reader_begins_to_conclude_is_not_missing_in_the_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = os.open(stage.late.path / "lock", os.O_RDWR)

    def lock(path: Path, **how: Any) -> int | None:
        if path == stage.job.path / "lock":
            fcntl.flock(other, fcntl.LOCK_EX)
        return lock_file(path, **how)

    monkeypatch.setattr("codex_counsel.jobs.recovery.lock_file", lock)
    for victim in [*stage.workers, codex_of(stage.late)]:
        os.kill(victim.pid, signal.SIGKILL)
    wire = stage.outcome()
    os.close(other)
    stage.assert_kept(wire, late=("failed", "process_died"))


def test_a_stopped_attempt_of_a_killed_run_does_not_keep_it_open_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(worker_of(stage.late).pid, signal.SIGSTOP)
    kill_worker(stage.job)
    assert recovery.outcome(stage.job) is None
    monkeypatch.setattr("codex_counsel.jobs.store.STOPPED_GRACE", -10_000.0)
    request = parse(JobResult, {"job_id": stage.job.id, "wait_seconds": 20})
    counsel = stage.world.counsel()
    wire = until(
        lambda: (
            page
            if (page := counsel.read_result(request))["status"] == "failed"
            else None
        )
    )
    assert wire["error"]["code"] == "process_died"
    stage.assert_kept(wire, late=("failed", "timeout"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_a_waiting_server_ends_the_run_and_its_attempts(
    world: World, model: Model, number: signal.Signals
) -> None:
    gate = hold(say("Too late."))
    cast = Cast({"right": RIGHT, "late": (set_answer(44), gate)})
    world.repository.begin_with_work()
    model(cast)
    with ServerProcess(world) as wire:
        wire.initialize()
        request = {"task": "Fix the answer.", "check": CHECK, **cast.arguments}
        wire.call("codex_delegate", {**request, "models": list(cast.parts)})
        assert gate.reached.wait(60)
        store = world.counsel().store
        (job,) = [job for job in store.jobs() if job.spec().parent is None]
        right, _ = children_of(job)
        until((right.path / "result.json").exists)
        wire.process.send_signal(number)
        wire.wait_for_exit()
    outcome = until(lambda: recovery.outcome(job))
    assert outcome["status"] == "cancelled"
    assert "+answer = 42" in outcome["diff"]
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)


def test_a_detached_run_outlives_the_server_with_its_attempts(
    world: World, model: Model
) -> None:
    gate = hold(say("Late."))
    cast = Cast({"right": RIGHT, "late": (set_answer(44), gate)})
    world.repository.begin_with_work()
    model(cast)
    with ServerProcess(world) as wire:
        wire.initialize()
        request = {"task": "Fix the answer.", "check": CHECK, **cast.arguments}
        running = wire.tool(
            "codex_delegate_async", {**request, "models": list(cast.parts)}
        )
        assert gate.reached.wait(60)
        wire.process.send_signal(signal.SIGKILL)
        wire.wait_for_exit()
    gate.release.set()
    job = world.counsel().store.job(running["job_id"])
    outcome = until(lambda: recovery.outcome(job))
    assert outcome["ok"]
    assert [row["status"] for row in outcome["attempts"]] == ["completed"] * 2
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)


def test_a_run_that_is_cancelled_in_the_queue_starts_nothing(
    world: World, model: Model
) -> None:
    world.settings["MAX_RUNNING"] = "1"
    gate = hold(say("First."))
    server = model(gate)
    world.repository.begin_with_work()
    first = start(world, background=True)
    assert gate.reached.wait(60)
    handle = start(world, attempts=2, check=CHECK, judge=True, background=True)
    jobs: list[Job] = until(
        lambda: children_of(handle.job) if len(children_of(handle.job)) == 2 else []
    )
    until(lambda: all(job.state().phase == "queued" for job in jobs))
    wire = world.counsel().store.cancel(handle.job)
    assert wire["status"] == "cancelled"
    assert [row["status"] for row in wire["attempts"]] == ["cancelled"] * 2
    assert "diff" not in wire
    assert len(server.requests) == 1
    gate.release.set()
    wait(first)
    for ended in (first, handle):
        ended.release()
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)


def test_a_cancel_while_the_judge_thinks_costs_its_ranking_alone(
    world: World, model: Model
) -> None:
    gate = hold(say("Too late."))
    cast = Cast(
        {"right": RIGHT, "short": (set_answer(42), say("Short."))}, verdict=gate
    )
    world.repository.begin_with_work()
    model(cast)
    handle = start(world, check=CHECK, judge=True, background=True, **cast.arguments)
    assert gate.reached.wait(60)
    wire = world.counsel().store.cancel(handle.job)
    assert wire["status"] == "cancelled"
    assert wire["attempts"][0]["model"] == "short"
    assert wire["check"]["base_status"] == "failed"
    assert "+answer = 42" in wire["diff"]
    assert "the judge gave no ranking: cancelled" in wire["meta"]["warnings"]
    handle.release()
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)


def test_a_cancel_during_the_check_of_the_start_leaves_nothing_of_it(
    world: World, model: Model
) -> None:
    check = "grep -q 42 app.py || exec sleep 600"
    world.repository.begin_with_work()
    model([set_answer(42), say("Done.")])
    handle = start(world, attempts=2, check=check, judge=True, background=True)
    until(lambda: handle.job.state().phase == "checking")
    until(lambda: living("sleep 600"))
    wire = world.counsel().store.cancel(handle.job)
    assert wire["status"] == "cancelled"
    assert wire["check"]["status"] == "passed"
    assert wire["check"]["base_status"] == "not_run"
    assert len(children_of(handle.job)) == 2  # no judge is begun with
    handle.release()
    until(lambda: not living(str(world.base)))
    assert_nothing_is_left(world)
