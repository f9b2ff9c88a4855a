"""What is kept, how long, and what is remembered of what went."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import JobConsume, JobList, JobResult, parse
from codex_counsel.errors import CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.jobs import clock, evictor, recovery, retention, threads
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Loopback
from codex_counsel.system.files import lock_file
from tests.conftest import consult, until, wait
from tests.e2e.jobs.conftest import (
    COMPLETED,
    STARTED,
    THREAD,
    JobFactory,
    printing,
)
from tests.e2e.runs import fetch, worker_of
from tests.records import entry, put, sighting

DAY = 86_400


def finished_job(
    factory: JobFactory, *, delivered: bool, days: float = 0, **changes: Any
) -> Job:
    """A finished job of that age."""
    handle = factory.launch(**changes)
    wait(handle)
    worker = worker_of(handle.job)
    until(lambda: not worker.alive())
    if delivered:
        count = clock.running_seconds(factory.store.state) - days * DAY
        (handle.job.path / "delivered").write_text(repr(count))
    set_times(handle.job, time.time() - days * DAY)
    return handle.job


def set_times(job: Job, then: float) -> None:
    """What the wall clock shows for the age of the record."""
    for file in job.path.iterdir():
        os.utime(file, (then, then))


def evict(factory: JobFactory, ttl: int = DAY, per_workspace: int = 50) -> None:
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


def test_the_findings_of_a_run_outlive_its_record(factory: JobFactory) -> None:
    old = finished_job(factory, delivered=True, days=400)
    ledger = Ledger.of(factory.store.state, Path("/repository/.git"))
    put(ledger, entry(last=sighting(job=old.id)))
    evict(factory, ttl=60, per_workspace=1)
    assert not old.path.exists()
    assert [each.last.job for each in ledger.read().entries.values()] == [old.id]


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
    factory.world.settings["JOB_MAX_COUNT"] = "2"
    (factory.store.state / "evicted").unlink()
    assert consult(factory.world.counsel())["ok"]
    until(lambda: not old.path.exists())
    assert new.path.exists()


def test_results_nobody_fetched_are_kept_whatever_their_age(
    factory: JobFactory,
) -> None:
    jobs = [finished_job(factory, delivered=False, days=days) for days in (4000, 31, 2)]
    evict(factory, ttl=60, per_workspace=1)
    assert [job.path.exists() for job in jobs] == [True, True, True]


def test_results_nobody_fetched_go_oldest_first_when_there_are_too_many(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retention.UNDELIVERED_COUNT == 10_000
    monkeypatch.setattr(retention, "UNDELIVERED_COUNT", 2)
    jobs = [finished_job(factory, delivered=False, days=days) for days in (1, 3, 2)]
    finished_job(factory, delivered=True)
    evict(factory)
    assert [job.path.exists() for job in jobs] == [True, False, True]


@pytest.mark.parametrize(
    ("wall_days", "running_days"), [(400, 0.1), (0.1, 400), (-400, 0.1)]
)
def test_one_clock_that_is_wrong_drops_nothing(
    factory: JobFactory, wall_days: float, running_days: float
) -> None:
    job = finished_job(factory, delivered=True, days=running_days)
    set_times(job, time.time() - wall_days * DAY)
    evict(factory)
    assert job.path.exists()


def test_a_record_from_the_future_is_dropped_by_the_other_clock(
    factory: JobFactory,
) -> None:
    job = finished_job(factory, delivered=True, days=2)
    set_times(job, time.time() + 400 * DAY)
    evict(factory)
    assert not job.path.exists()


def test_a_record_from_before_the_count_began_anew_is_dropped_too(
    factory: JobFactory,
) -> None:
    job = finished_job(factory, delivered=True)
    (job.path / "delivered").write_text(repr(1000.0 * DAY))
    set_times(job, time.time() - 2 * DAY)
    clock.advance(factory.store.state)
    count = factory.store.state / "clock.json"
    count.write_text(json.dumps(json.loads(count.read_text()) | {"count": 2 * DAY}))
    evict(factory)
    assert not job.path.exists()


def test_a_result_is_kept_for_a_minute_after_its_delivery_whatever_the_limits(
    factory: JobFactory,
) -> None:
    jobs = [finished_job(factory, delivered=True) for _ in range(3)]
    evict(factory, ttl=60, per_workspace=1)
    assert all(job.path.exists() for job in jobs)


def test_a_result_that_is_read_again_is_kept_no_longer(factory: JobFactory) -> None:
    job = finished_job(factory, delivered=True, days=2)
    job.mark_delivered()
    evict(factory)
    assert not job.path.exists()


def test_a_mark_of_an_earlier_release_is_stamped_when_it_is_seen_first(
    factory: JobFactory,
) -> None:
    job = finished_job(factory, delivered=True, days=5)
    (job.path / "delivered").write_text("")
    set_times(job, time.time() - 5 * DAY)
    evict(factory)
    assert job.path.exists()
    assert float((job.path / "delivered").read_text()) >= 0


def test_results_nobody_fetched_go_oldest_first_when_they_fill_a_gigabyte(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retention.UNDELIVERED_BYTES == 1_000_000_000
    jobs = [finished_job(factory, delivered=False, days=days) for days in (3, 2, 1)]
    for job in jobs:
        os.truncate(job.path / "stderr.log", 400_000_000)  # a hole: no disk is used
        (job.path / "summary.json").unlink(
            missing_ok=True
        )  # it says how large the record was
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
    handle.job.mark_delivered()
    (handle.job.path / "delivered").write_text("-99999999")
    set_times(handle.job, 0)
    evict(factory)
    with pytest.raises(CounselError) as caught:
        factory.store.job(handle.job.id)
    assert caught.value.details["session_id"] == THREAD


def test_a_look_at_all_jobs_is_due_once_a_minute_and_later_after_one_that_took_long(
    factory: JobFactory,
) -> None:
    factory.store.prepare()
    marker = factory.store.state / "evicted"

    def is_due_after(seconds: float, took: str) -> bool:
        marker.write_text(took)
        os.utime(marker, (time.time() - seconds,) * 2)
        return evictor.is_due(str(factory.store.state))

    assert evictor.is_due(str(factory.store.state))
    assert not is_due_after(50, "0.1")
    assert is_due_after(70, "0.1")
    assert not is_due_after(190, "2.0")
    assert is_due_after(210, "2.0")
    # A clock that was set back does not switch evicting off.
    assert is_due_after(-DAY, "0.1")


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


def test_an_interrupted_removal_and_the_oldest_tombstones_are_cleared_later(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert retention.MAX_TOMBSTONES == 10_000
    monkeypatch.setattr(retention, "MAX_TOMBSTONES", 2)
    factory.store.prepare()
    trash = factory.store.directory / f".trash-{'0' * 32}"
    trash.mkdir()
    os.utime(trash, (0, 0))
    stones = [factory.store.state / "gone" / f"{name * 32}.json" for name in "abc"]
    for stone, then in zip(stones, (2, 1, 3), strict=True):
        stone.write_text("{}")
        os.utime(stone, (then, then))
    evict(factory)
    assert not trash.exists()
    assert [stone.exists() for stone in stones] == [True, False, True]


def test_notes_of_keys_and_threads_go_with_their_jobs(factory: JobFactory) -> None:
    job = finished_job(factory, delivered=False)
    state = factory.store.state
    gone = "f" * 32
    threads.note_review(state, THREAD, job.id)
    other_thread = THREAD.replace("0", "1")
    threads.note_review(state, other_thread, gone)
    for name, job_id in (("kept", job.id), ("unused", gone), ("torn", None)):
        (state / "keys" / name).write_text(json.dumps({"job_id": job_id}))
        (state / "keys" / f"{name}.lock").touch()
    (state / "keys" / "busy").write_text(json.dumps({"job_id": gone}))
    lock = lock_file(state / "keys" / "busy.lock")
    evict(factory)
    assert lock is not None
    os.close(lock)
    assert {path.name for path in (state / "keys").iterdir()} == {
        "busy",
        "busy.lock",
        "kept",
        "kept.lock",
    }
    assert [path.name for path in (state / "threads").iterdir()] == [THREAD]


def test_a_key_that_is_used_again_while_its_note_is_looked_at_is_kept(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished_job(factory, delivered=False)
    note = factory.store.state / "keys" / "name"
    note.write_text(json.dumps({"job_id": "f" * 32}))

    def after_another_call(path: Path) -> int | None:
        note.write_text(json.dumps({"job_id": job.id}))
        return lock_file(path)

    monkeypatch.setattr(retention, "lock_file", after_another_call)
    evict(factory)
    assert json.loads(note.read_text()) == {"job_id": job.id}


def test_records_for_which_there_is_no_time_are_left_to_the_next_look(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished_job(factory, delivered=True, days=2)
    with monkeypatch.context() as patch:
        patch.setattr(retention, "EVICT_SECONDS", -1.0)
        evict(factory)
    assert job.path.exists()
    evict(factory)
    assert not job.path.exists()


def test_drafts_and_fifos_among_the_notes_hold_nothing_up_and_go(
    factory: JobFactory,
) -> None:
    state = factory.store.state
    finished_job(factory, delivered=False)
    old, new = (state / "keys" / f".{'a' * 64}-{number}-1" for number in (1, 2))
    for draft in (old, new):
        draft.write_text('{"job_id')
    then = time.time() - retention.REMAINS_SECONDS - 60
    os.utime(old, (then, then))
    for name in ("keys", "threads", "consumed"):
        os.mkfifo(state / name / ("0" * 32))
    evict(factory)
    assert [path.name for path in (state / "keys").iterdir()] == [new.name]
    assert not (state / "keys.lock").exists()
    assert list((state / "threads").iterdir()) == []
    # It has a stamp now, and goes with its minute.
    assert [path.is_file() for path in (state / "consumed").iterdir()] == [True]


def test_a_note_that_cannot_be_read_for_want_of_descriptors_is_kept(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished_job(factory, delivered=False)
    note = factory.store.state / "keys" / ("a" * 64)
    note.write_text(json.dumps({"job_id": job.id}))

    def read_json(_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(retention, "read_json", read_json)
    evict(factory)
    assert note.exists()


def open_at(path: Path) -> list[int]:
    """The descriptors of this process for the file."""
    descriptors = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if link.samefile(path):
                descriptors.append(int(link.name))
    return descriptors


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_at_the_new_file(
    factory: JobFactory,
) -> None:
    factory.store.prepare()
    path = factory.store.state / "keys" / "name.lock"
    first = lock_file(path)
    assert first is not None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lock_file, path, patience=20)
        until(lambda: len(open_at(path)) == 2)
        path.unlink()
        os.close(first)
        second = waiting.result()
    assert second is not None
    assert lock_file(path) is None
    os.close(second)


def consumed_long_ago(factory: JobFactory, job: Job) -> None:
    """Let both clocks show two minutes since the result was consumed."""
    mark = factory.store.state / "consumed" / job.id
    mark.write_text(repr(clock.running_seconds(factory.store.state) - 120))
    os.utime(mark, (time.time() - 120,) * 2)


def test_a_consumed_result_is_returned_again_for_a_minute_and_then_gone(
    factory: JobFactory,
) -> None:
    job = finished_job(factory, delivered=False)
    counsel = factory.world.counsel()
    wire = fetch(counsel, parse(JobConsume, {"job_id": job.id}))
    assert wire["answer"] == "It is fine."
    counsel.drop_consumed()
    evict(factory)
    assert fetch(counsel, parse(JobConsume, {"job_id": job.id})) == wire
    assert fetch(counsel, parse(JobResult, {"job_id": job.id})) == wire

    consumed_long_ago(factory, job)
    half_way = factory.store.state / "applying" / f"{job.id}.json"
    half_way.parent.mkdir()
    half_way.write_text("{}")
    counsel.drop_consumed()
    assert job.path.exists()
    half_way.unlink()
    counsel.drop_consumed()
    assert not job.path.exists()
    assert list((factory.store.state / "consumed").iterdir()) == []
    with pytest.raises(CounselError, match="any more"):
        fetch(counsel, parse(JobResult, {"job_id": job.id}))
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
        wire = fetch(
            counsel, parse(JobConsume, {"job_id": handle.job.id, "cursor": cursor})
        )
        pages.append(wire["answer"])
        cursor = wire["meta"].get("next_cursor")
        if cursor is None:
            break
        assert handle.job.path.exists()
        assert not handle.job.is_delivered()
    assert len(pages) > 2
    assert "".join(pages) == whole
    consumed_long_ago(factory, handle.job)
    counsel.drop_consumed()
    assert not handle.job.path.exists()


@pytest.mark.parametrize(("mark", "kept"), [(False, True), (True, False)])
def test_a_delivered_diff_is_kept_until_it_was_applied(
    factory: JobFactory, *, mark: bool, kept: bool
) -> None:
    job = finished_job(factory, delivered=True, days=29)
    (job.path / "diff.patch").write_text("diff --git a/x b/x\n")
    if mark:
        (job.path / "applied").write_text("done")
    evict(factory)
    assert job.path.exists() == kept


def test_a_diff_that_nobody_applied_goes_thirty_days_after_its_delivery(
    factory: JobFactory,
) -> None:
    job = finished_job(factory, delivered=True, days=31)
    (job.path / "diff.patch").write_text("diff --git a/x b/x\n")
    evict(factory)
    assert not job.path.exists()


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
        shutil.copytree(
            first.path, copy, ignore=shutil.ignore_patterns("control", ".*")
        )
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


# --- jobs that a job started


def family(factory: JobFactory, size: int, *, delivered: bool = True) -> list[Job]:
    """A finished job and those that it started, which are younger."""
    ids = tuple(secrets.token_hex(16) for _ in range(size))
    parent = finished_job(factory, delivered=delivered, children=ids)
    children = []
    for job_id in ids:
        child = finished_job(
            factory, delivered=delivered, job_id=job_id, parent=parent.id
        )
        children.append(child)
    return [parent, *children]


def grow_old(factory: JobFactory, jobs: list[Job], days: float) -> None:
    """Let both clocks show so many days since these were delivered."""
    count = clock.running_seconds(factory.store.state) - days * DAY
    for job in jobs:
        (job.path / "delivered").write_text(repr(count))
        set_times(job, time.time() - days * DAY)


def existing(jobs: list[Job]) -> list[bool]:
    return [job.path.exists() for job in jobs]


def test_the_jobs_that_a_job_started_go_with_it_and_leave_their_threads(
    factory: JobFactory,
) -> None:
    old, young = family(factory, 2), family(factory, 2)
    grow_old(factory, old, 1.1)
    grow_old(factory, young, 0.9)
    evict(factory)
    assert existing(old) == [False] * 3
    assert existing(young) == [True] * 3
    for job in old:
        with pytest.raises(CounselError) as caught:
            factory.store.job(job.id)
        assert caught.value.details["session_id"] == THREAD


def test_a_job_with_many_parts_takes_the_room_of_one(factory: JobFactory) -> None:
    other = finished_job(factory, delivered=True, days=0.02)
    parts = family(factory, 5)
    grow_old(factory, parts, 0.01)
    evict(factory, per_workspace=2)
    assert existing([other, *parts]) == [True] * 7
    evict(factory, per_workspace=1)
    assert existing([other, *parts]) == [False] + [True] * 6


def test_a_diff_of_a_part_that_nobody_applied_is_kept_as_long_as_the_job(
    factory: JobFactory,
) -> None:
    jobs = family(factory, 2)
    (jobs[1].path / "diff.patch").write_text("a diff")
    grow_old(factory, jobs, 1.1)
    evict(factory)
    assert existing(jobs) == [False] * 3


def test_an_unapplied_diff_of_a_job_keeps_its_parts(factory: JobFactory) -> None:
    jobs = family(factory, 2)
    (jobs[0].path / "diff.patch").write_text("a diff")
    grow_old(factory, jobs, 1.1)
    evict(factory)
    assert existing(jobs) == [True] * 3


def test_a_part_whose_diff_is_half_in_a_tree_outlives_its_job(
    factory: JobFactory,
) -> None:
    jobs = family(factory, 2)
    (jobs[1].path / "diff.patch").write_text("a diff")
    record = factory.store.state / "applying" / f"{jobs[1].id}.json"
    record.parent.mkdir()
    record.write_text("{}")
    grow_old(factory, jobs, 1.1)
    for _ in range(2):
        evict(factory)
    assert existing(jobs) == [False, True, False]


def test_the_room_that_unfetched_results_take_is_counted_with_their_parts(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = finished_job(factory, delivered=False, days=0.02)
    jobs = family(factory, 2, delivered=False)
    (jobs[1].path / "diff.patch").write_text("x" * 100_000)
    monkeypatch.setattr(retention, "UNDELIVERED_BYTES", 90_000)
    evict(factory)
    assert existing([older, *jobs]) == [False] * 4


def test_a_consumed_job_takes_its_parts_along(factory: JobFactory) -> None:
    jobs = family(factory, 2)
    fetch(factory.world.counsel(), parse(JobConsume, {"job_id": jobs[0].id}))
    consumed_long_ago(factory, jobs[0])
    retention.drop_consumed(factory.store)
    assert existing(jobs) == [False] * 3
