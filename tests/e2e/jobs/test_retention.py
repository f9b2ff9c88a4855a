"""What is kept, how long, and what is remembered of what went."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from codex_counsel.contract.request import JobConsume, JobList, JobResult, parse
from codex_counsel.errors import CounselError
from codex_counsel.jobs import recovery, retention
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Loopback
from tests.conftest import consult, until, wait
from tests.e2e.jobs.conftest import (
    COMPLETED,
    STARTED,
    THREAD,
    JobFactory,
    printing,
)
from tests.e2e.runs import worker_of

DAY = 86_400


def finished_job(
    factory: JobFactory, *, delivered: bool, days: float = 0, **changes: Any
) -> Job:
    """A finished job of that age."""
    handle = factory.launch(**changes)
    wait(handle)
    until(lambda: not handle.job.alive())
    if delivered:
        handle.job.mark_delivered()
    then = time.time() - days * DAY
    for file in handle.job.path.iterdir():
        os.utime(file, (then, then))
    return handle.job


def evict(factory: JobFactory, ttl: int = DAY, per_workspace: int = 50) -> None:
    """Evict now, whenever it was done last."""
    (factory.store.state / "evicted").unlink(missing_ok=True)
    retention.evict(factory.store, ttl, per_workspace)


def test_delivered_results_go_when_their_time_is_up_and_leave_the_thread_id(
    factory: JobFactory,
) -> None:
    old, young = (
        finished_job(factory, delivered=True, days=1.1),
        finished_job(factory, delivered=True, days=0.9),
    )
    evict(factory)
    assert (old.path.exists(), young.path.exists()) == (False, True)
    with pytest.raises(CounselError) as caught:
        factory.store.job(old.id)
    assert caught.value.code == "job_not_found"
    assert caught.value.details["session_id"] == THREAD
    assert caught.value.details["status"] == "completed"
    assert not list(factory.store.directory.glob(".*"))


def test_the_oldest_delivered_results_go_when_a_workspace_has_too_many(
    factory: JobFactory,
) -> None:
    jobs = [
        finished_job(factory, delivered=True, days=days)
        for days in (0.4, 0.3, 0.2, 0.1)
    ]
    elsewhere = finished_job(factory, delivered=True, days=0.5, workspace="/elsewhere")
    evict(factory, per_workspace=2)
    assert [job.path.exists() for job in jobs] == [False, False, True, True]
    assert elsewhere.path.exists()


def test_a_new_run_drops_what_the_settings_need_not_keep(
    factory: JobFactory, model: Callable[..., Loopback]
) -> None:
    model()
    old = finished_job(factory, delivered=True, days=0.2)
    new = finished_job(factory, delivered=True, days=0.1)
    factory.world.settings["JOB_MAX_COUNT"] = "1"
    assert consult(factory.world.counsel())["ok"]
    assert (old.path.exists(), new.path.exists()) == (False, True)


def test_results_nobody_fetched_are_kept_for_thirty_days_however_many(
    factory: JobFactory,
) -> None:
    jobs = [
        finished_job(factory, delivered=False, days=days) for days in (31, 29, 20, 2)
    ]
    evict(factory, ttl=60, per_workspace=1)
    assert [job.path.exists() for job in jobs] == [False, True, True, True]


def test_results_nobody_fetched_go_oldest_first_when_they_fill_a_gigabyte(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retention.UNDELIVERED_BYTES == 1_000_000_000
    jobs = [finished_job(factory, delivered=False, days=days) for days in (3, 2, 1)]
    for job in jobs:
        os.truncate(job.path / "stderr.log", 400_000_000)  # a hole: no disk is used
        os.utime(
            job.path / "result.json",
            None if job is jobs[2] else (time.time() - 3600,) * 2,
        )
    os.utime(jobs[0].path / "result.json", (time.time() - 7200,) * 2)
    evict(factory)
    assert [job.path.exists() for job in jobs] == [False, True, True]


def test_a_run_that_has_not_ended_is_never_dropped(factory: JobFactory) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    handle.job.mark_delivered()
    for file in handle.job.path.iterdir():
        os.utime(file, (0, 0))
    evict(factory, ttl=60, per_workspace=1)
    assert recovery.outcome(handle.job) is None
    gate.write_text("go\n")
    assert wait(handle)["status"] == "completed"


def test_a_dead_run_is_kept_like_any_result_nobody_fetched(factory: JobFactory) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    assert wait(handle)["error"]["code"] == "process_died"
    evict(factory, ttl=60)
    assert handle.job.path.exists()
    for file in handle.job.path.iterdir():
        os.utime(file, (0, 0))
    evict(factory)
    with pytest.raises(CounselError) as caught:
        factory.store.job(handle.job.id)
    assert caught.value.details["session_id"] == THREAD


def test_evicting_happens_at_most_once_a_minute(factory: JobFactory) -> None:
    factory.store.prepare()
    retention.evict(factory.store, 60, 50)
    old = finished_job(factory, delivered=True, days=2)
    retention.evict(factory.store, 60, 50)
    assert old.path.exists()


def test_two_that_evict_at_once_and_a_reader_do_no_harm(factory: JobFactory) -> None:
    for _ in range(6):
        finished_job(factory, delivered=True, days=2)
    kept = finished_job(factory, delivered=True)
    with ThreadPoolExecutor(6) as pool:
        evicting = [pool.submit(evict, factory) for _ in range(3)]
        reading = [pool.submit(factory.store.rows) for _ in range(3)]
        assert all(
            row["status"] == "completed"
            for future in reading
            for row in future.result()
        )
        assert [future.result() for future in evicting] == [None] * 3
    assert [row["job_id"] for row in factory.store.rows()] == [kept.id]


def test_an_interrupted_removal_and_old_tombstones_are_cleared_later(
    factory: JobFactory,
) -> None:
    factory.store.prepare()
    trash, stone = (
        factory.store.directory / f".trash-{'0' * 32}",
        factory.store.state / "gone" / f"{'0' * 32}.json",
    )
    trash.mkdir()
    stone.write_text("{}")
    os.utime(trash, (0, 0))
    os.utime(stone, (0, 0))
    evict(factory)
    assert not trash.exists()
    assert not stone.exists()


def test_a_consumed_result_is_returned_and_then_gone(factory: JobFactory) -> None:
    job = finished_job(factory, delivered=False)
    counsel = factory.world.counsel()
    wire = counsel.job_consume(parse(JobConsume, {"job_id": job.id}))
    assert wire["answer"] == "It is fine."
    assert not job.path.exists()
    with pytest.raises(CounselError, match="any more"):
        counsel.job_result(parse(JobResult, {"job_id": job.id}))
    assert counsel.job_list(parse(JobList, {})).get("data") == {"jobs": []}


def test_a_long_result_is_consumed_only_with_its_last_page(factory: JobFactory) -> None:
    answer = "ab\\u00e9\\n" * 30_000
    message = (
        '{"type":"item.completed","item":{"id":"i","type":"agent_message","text":"'
        + answer
        + '"}}'
    )
    file = factory.world.base / "said"
    file.write_text(message + "\n", "utf-8")
    handle = factory.launch(f"{printing(STARTED)}; cat {file}; {printing(COMPLETED)}")
    whole = wait(handle)["answer"]
    counsel, pages, cursor = factory.world.counsel(), [], None
    while True:
        wire = counsel.job_consume(
            parse(JobConsume, {"job_id": handle.job.id, "cursor": cursor})
        )
        pages.append(wire["answer"])
        cursor = wire["meta"].get("next_cursor")
        if cursor is None:
            break
        assert handle.job.path.exists()
        assert not handle.job.is_delivered()
    assert len(pages) > 2
    assert "".join(pages) == whole
    assert not handle.job.path.exists()


@pytest.mark.parametrize(("mark", "kept"), [(False, True), (True, False)])
def test_a_diff_is_kept_until_it_was_applied_although_it_was_delivered(
    factory: JobFactory, *, mark: bool, kept: bool
) -> None:
    job = finished_job(factory, delivered=True, days=2)
    (job.path / "diff.patch").write_text("diff --git a/x b/x\n")
    if mark:
        (job.path / "applied").write_text("done")
    evict(factory)
    assert job.path.exists() == kept


def test_a_clock_that_was_set_back_does_not_switch_evicting_off(
    factory: JobFactory,
) -> None:
    factory.store.prepare()
    retention.evict(factory.store, 60, 50)
    old = finished_job(factory, delivered=True, days=2)
    os.utime(factory.store.state / "evicted", (time.time() + DAY,) * 2)
    retention.evict(factory.store, 60, 50)
    assert not old.path.exists()


def test_a_finished_run_that_is_handed_over_is_given_in_pages_and_marked_with_the_last(
    factory: JobFactory,
) -> None:
    counsel = factory.world.counsel()
    short = finished_job(factory, delivered=False)
    assert counsel.detach(Handle(short))["answer"] == "It is fine."
    assert short.is_delivered()
    long = finished_job(factory, delivered=False)
    stored = json.loads((long.path / "result.json").read_text("utf-8"))
    (long.path / "result.json").write_text(
        json.dumps({**stored, "answer": "x" * 90_000}), "utf-8"
    )
    assert "next_cursor" in counsel.detach(Handle(long))["meta"]
    assert not long.is_delivered()


def test_a_list_of_jobs_ends_at_the_budget_and_goes_on_at_its_cursor(
    factory: JobFactory,
) -> None:
    first = finished_job(factory, delivered=True)
    for number in range(119):
        copy = first.path.with_name(f"{number:032x}")
        shutil.copytree(first.path, copy, ignore=shutil.ignore_patterns("control"))
        spec = json.loads((copy / "spec.json").read_text("utf-8")) | {
            "job_id": copy.name,
            "subject": "é" * 200,
        }
        (copy / "spec.json").write_text(json.dumps(spec), "utf-8")
    counsel, ids, cursor, lists = factory.world.counsel(), set(), None, 0
    while cursor or not lists:
        wire = counsel.job_list(parse(JobList, {"limit": 200, "cursor": cursor}))
        assert len(json.dumps(wire, ensure_ascii=False).encode()) <= 42_000
        ids |= {row["job_id"] for row in wire["data"]["jobs"]}
        cursor, lists = wire["meta"].get("next_cursor"), lists + 1
    assert (len(ids), lists > 1) == (120, True)
