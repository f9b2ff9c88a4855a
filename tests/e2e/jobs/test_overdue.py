"""A worker that does not keep the time limit: whoever waits ends the run, and gets an answer."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import JobResult, JobStatus, parse
from codex_counsel.jobs import handle as handles
from codex_counsel.jobs import recovery
from codex_counsel.jobs import store as stores
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.services import results
from codex_counsel.system.files import write_atomically
from tests.conftest import living, until, wait
from tests.e2e.jobs.conftest import STARTED, JobFactory
from tests.e2e.runs import worker_of


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "STOPPED_GRACE", 0.2)
    monkeypatch.setattr(handles, "OVERDUE_PAUSE", 0.1)
    monkeypatch.setattr(results, "OVERDUE_PAUSE", 0.1)


@pytest.fixture
def stopped() -> Iterator[list[int]]:
    """Pids of workers that are stopped; those that are left go on at the end."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue


def stop_worker(job: Job, stopped: list[int]) -> None:
    worker = worker_of(job)
    os.kill(worker.pid, signal.SIGSTOP)
    stopped.append(worker.pid)
    until(worker.stopped)


def use_up_time(job: Job) -> None:
    """Let the time limit of a run be over. Its worker, which has read the limit before, does not know."""
    path = job.path / "spec.json"
    spec = json.loads(path.read_text("utf-8")) | {"total": 0.0}
    write_atomically(path, json.dumps(spec))


def followed(handle: Handle) -> EnvelopeDict:
    """The envelope, as the command line waits for it."""
    return results.follow(handle, lambda _: None)


@pytest.mark.parametrize("checks", [None, {"seconds": 600}])
def test_a_run_whose_worker_is_stopped_ends_for_its_caller(
    factory: JobFactory, stopped: list[int], checks: dict[str, int] | None
) -> None:
    handle, _ = factory.launch_waiting(STARTED, checks=checks)
    until(lambda: handle.job.state().thread_id)
    stop_worker(handle.job, stopped)
    use_up_time(handle.job)
    wire = followed(handle)
    assert wire["error"]["code"] == "timeout"
    assert wire["error"]["details"]["session_id"] == handle.job.state().thread_id
    assert not handle.job.alive()
    assert living(handle.job.id) == []
    assert recovery.outcome(handle.job) == wire


def test_a_run_whose_worker_is_stopped_ends_for_whoever_polls(
    factory: JobFactory, stopped: list[int]
) -> None:
    handle, _ = factory.launch_waiting(STARTED, detached=True)
    until(lambda: handle.job.state().thread_id)
    stop_worker(handle.job, stopped)
    counsel = factory.world.counsel()

    def status() -> str:
        request = parse(JobStatus, {"job_id": handle.job.id})
        return str(counsel.job_status(request)["status"])

    assert status() == "running"
    use_up_time(handle.job)
    until(lambda: status() == "failed")
    assert living(handle.job.id) == []


@pytest.mark.parametrize(
    ("model", "tool"), [(JobStatus, "job_status"), (JobResult, "read_result")]
)
def test_a_run_whose_worker_stops_while_somebody_waits_ends_for_him(
    factory: JobFactory, stopped: list[int], model: type[JobStatus], tool: str
) -> None:
    handle, _ = factory.launch_waiting(STARTED, detached=True)
    until(lambda: handle.job.state().thread_id)
    request = parse(model, {"job_id": handle.job.id, "wait_seconds": 50})
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(getattr(factory.world.counsel(), tool), request)
        stop_worker(handle.job, stopped)
        use_up_time(handle.job)
        assert waiting.result(60)["error"]["code"] == "timeout"
    assert living(handle.job.id) == []


def test_a_queued_run_whose_worker_is_stopped_ends_too(
    factory: JobFactory, stopped: list[int]
) -> None:
    first, gate = factory.launch_waiting(STARTED, slots=1)
    until(lambda: first.job.state().codex)
    queued = factory.launch(slots=1, total=1)
    stop_worker(queued.job, stopped)
    assert queued.job.state().phase == "queued"
    assert followed(queued)["error"]["code"] == "timeout"
    gate.write_text("go\n")
    assert wait(first)["status"] == "completed"


def test_a_worker_that_hangs_is_given_longer_and_a_queued_one_for_ever(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = factory.launch_waiting(STARTED, slots=1)
    until(lambda: first.job.state().codex)
    queued = factory.launch(slots=1)
    worker_of(queued.job)
    for job in (first.job, queued.job):
        stores.end_if_overdue(job)
        assert job.is_running()

    monkeypatch.setattr(stores, "HUNG_GRACE", -3600.0)
    # The queued run begins as soon as the first one has ended.
    stores.end_if_overdue(queued.job)
    assert queued.job.alive()
    stores.end_if_overdue(first.job)
    assert not first.job.alive()
    assert followed(first)["error"]["code"] == "timeout"


def test_a_stopped_worker_that_goes_on_in_time_loses_nothing(
    factory: JobFactory, stopped: list[int]
) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    stop_worker(handle.job, stopped)
    joined = Handle(handle.job)
    joined.wait(0.2)
    assert joined.collect() is None
    os.kill(stopped[0], signal.SIGCONT)
    gate.write_text("go\n")
    assert wait(handle)["status"] == "completed"
