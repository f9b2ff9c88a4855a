"""Cancel means gone: whenever it comes, whoever asks, and the caller is told what became of the run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import JobCancel, JobResult, parse
from codex_counsel.jobs import recovery, store
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.run import recorded_transcript
from codex_counsel.loopback import Gate, Loopback, hold, say, shell
from codex_counsel.services.counsel import Counsel
from codex_counsel.system.files import lock_file
from tests.conftest import World, living, start_consult, until, wait
from tests.e2e.jobs.conftest import MESSAGE, STARTED, JobFactory
from tests.e2e.runs import cancel_run, fetch, kill_worker, worker_of

Model = Callable[..., Loopback]


def cancel(counsel: Counsel, job: Job) -> EnvelopeDict:
    return cancel_run(counsel, parse(JobCancel, {"job_id": job.id}))


def test_a_cancelled_run_is_gone_when_the_cancel_returns_and_says_so_for_ever(
    world: World, model: Model
) -> None:
    gate = hold(say("Too late."))
    model([shell("sleep 600 & exec sleep 601", yield_time_ms=100), gate])
    counsel = world.counsel()
    handle = start_consult(counsel)
    assert gate.reached.wait(60)
    assert len(living(str(world.codex_home))) > 2
    wire = cancel(counsel, handle.job)
    assert (wire["ok"], wire["data"]) == (True, {"cancelled": True, "survivors": []})
    assert handle.job.result(), "the worker itself ended the run"
    assert living(str(world.base)) == []
    assert list(world.temp.iterdir()) == []
    envelope = wait(handle)
    assert (envelope["ok"], envelope["status"], envelope["error"]["code"]) == (
        False,
        "cancelled",
        "cancelled",
    )
    assert envelope["meta"]["session_id"] == wire["meta"]["session_id"]
    assert envelope["meta"]["session_id"]
    assert cancel(counsel, handle.job)["data"] == wire["data"]
    assert recovery.outcome(handle.job) == envelope


def test_a_queued_run_that_is_cancelled_never_starts(
    world: World, model: Model
) -> None:
    world.settings["MAX_RUNNING"] = "1"
    gate = hold(say("First."))
    server = model(gate)
    counsel = world.counsel()
    first = start_consult(counsel)
    assert gate.reached.wait(60)
    second = start_consult(counsel)
    assert second.job.running().status == "queued"
    assert cancel(counsel, second.job)["data"]["cancelled"]
    gate.release.set()
    assert wait(first)["status"] == "completed"
    envelope = wait(second)
    assert envelope["status"] == "cancelled"
    assert "session_id" not in envelope["meta"]
    assert len({request.thread_id for request in server.requests}) == 1
    assert not (second.job.path / "events.jsonl").exists()
    assert [
        row["status"] for row in counsel.store.rows() if row["job_id"] == second.job.id
    ] == ["cancelled"]


POINTS: dict[str, Callable[[Handle, Gate], object]] = {
    "born": lambda handle, gate: True,
    "worker up": lambda handle, gate: handle.job.state().worker,
    "codex started": lambda handle, gate: handle.job.state().codex,
    "first event": lambda handle, gate: handle.job.state().thread_id,
    "model asked": lambda handle, gate: gate.reached.is_set(),
    "answer let out": lambda handle, gate: (
        gate.reached.wait(60) and let_answer_out(gate)
    ),
    "answer recorded": lambda handle, gate: is_recorded(handle, gate, "agent_message"),
    "turn recorded": lambda handle, gate: is_recorded(handle, gate, "turn.completed"),
    "codex gone": lambda handle, gate: (
        is_recorded(handle, gate, "turn.completed") and codex_is_gone(handle)
    ),
    "result there": lambda handle, gate: (
        let_answer_out(gate) and (handle.job.path / "result.json").exists()
    ),
}


def let_answer_out(gate: Gate) -> bool:
    gate.release.set()
    return True


def is_recorded(handle: Handle, gate: Gate, word: str) -> bool:
    let_answer_out(gate)
    events = handle.job.path / "events.jsonl"
    return events.exists() and word in events.read_text("utf-8")


def codex_is_gone(handle: Handle) -> bool:
    codex = handle.job.state().codex
    return bool(codex and not codex.alive())


@pytest.mark.parametrize("point", POINTS)
def test_a_cancel_that_races_the_result_tells_everybody_the_same(
    world: World, model: Model, point: str
) -> None:
    gate = hold(say("Done."))
    model(gate)
    counsel = world.counsel()
    handle = start_consult(counsel)
    until(lambda: POINTS[point](handle, gate))
    with ThreadPoolExecutor(2) as pool:
        answers = [
            future.result()
            for future in [pool.submit(cancel, counsel, handle.job) for _ in range(2)]
        ]
    cancelled = [answer.get("data", {}).get("cancelled", False) for answer in answers]
    assert cancelled[0] == cancelled[1]
    stored, waiting = recovery.outcome(handle.job), wait(handle)
    assert stored == waiting == recovery.outcome(handle.job)
    assert waiting["status"] == ("cancelled" if cancelled[0] else "completed")
    assert all(cancelled) or all(answer["answer"] == "Done." for answer in answers)
    assert point != "result there" or not cancelled[0]
    assert list(POINTS).index(point) > 4 or cancelled[0]
    assert living(handle.job.id) == []
    assert list(world.temp.iterdir()) == []


def test_a_stopped_worker_is_ended_with_its_codex(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CANCEL_PATIENCE", 0.2)
    gate = hold(say("Too late."))
    model([shell("exec sleep 600", yield_time_ms=100), gate])
    counsel = world.counsel()
    handle = start_consult(counsel)
    assert gate.reached.wait(60)
    worker = worker_of(handle.job)
    os.kill(worker.pid, signal.SIGSTOP)
    assert cancel(counsel, handle.job)["data"] == {"cancelled": True, "survivors": []}
    assert not worker.alive()
    assert living(str(world.base)) == []
    assert wait(handle)["status"] == "cancelled"
    assert list(world.temp.iterdir()) == []


def test_a_cancel_waits_for_a_reader_that_concludes_the_run_first(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    kill_worker(handle.job)
    locks: list[int] = []
    real = recovery.recover

    def recover_late(job: Job) -> EnvelopeDict | None:
        if not locks:
            # As another reader does that sees the dead run first.
            locks.append(lock_file(job.path / "lock") or -1)
            threading.Timer(1.0, os.close, locks).start()
        return real(job)

    monkeypatch.setattr(recovery, "recover", recover_late)
    assert factory.store.cancel(handle.job)["error"]["code"] == "process_died"
    assert locks[0] > 0


def test_a_run_that_had_died_stays_dead_when_it_is_cancelled(
    factory: JobFactory,
) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    died = wait(handle)
    assert factory.store.cancel(handle.job) == died
    assert recovery.outcome(handle.job) == died
    assert died["error"]["code"] == "process_died"


def test_a_program_that_ignores_every_polite_signal_is_gone_too(
    factory: JobFactory,
) -> None:
    handle = factory.launch("trap '' INT TERM HUP; echo up; while :; do sleep 1; done")
    until((handle.job.path / "events.jsonl").exists)
    assert factory.store.cancel(handle.job)["status"] == "cancelled"
    assert living(handle.job.id) == []


def test_a_cancel_for_a_program_that_closed_its_output_is_not_slept_through(
    factory: JobFactory,
) -> None:
    handle = factory.launch(
        "trap '' INT; echo up; exec >&- 2>&-; while :; do sleep 1; done"
    )
    until((handle.job.path / "events.jsonl").exists)
    assert factory.store.cancel(handle.job)["status"] == "cancelled"


def test_what_a_cancelled_run_had_said_is_undelivered_until_it_is_fetched(
    factory: JobFactory,
) -> None:
    handle, _ = factory.launch_waiting(STARTED, MESSAGE)
    until(lambda: recorded_transcript(handle.job.path).answer)
    counsel = factory.world.counsel()
    wire = cancel(counsel, handle.job)
    assert wire["next"] == {
        "tool": "codex_job_result",
        "arguments": {"job_id": handle.job.id},
    }
    assert not handle.job.is_delivered()
    assert (
        fetch(counsel, parse(JobResult, {"job_id": handle.job.id}))["answer"]
        == "It is fine."
    )
    assert handle.job.is_delivered()


def test_processes_that_survived_a_cancel_are_named(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    counsel = factory.world.counsel()
    envelope = factory.store.cancel(handle.job)
    envelope["error"]["details"] = {"survivors": [4711]}
    monkeypatch.setattr(store.Store, "cancel", lambda *_: envelope)
    wire = cancel(counsel, handle.job)
    assert (
        wire["summary"]
        == f"Job {handle.job.id} is cancelled; these processes of it survived: 4711"
    )
    assert wire["data"] == {"cancelled": True, "survivors": [4711]}
