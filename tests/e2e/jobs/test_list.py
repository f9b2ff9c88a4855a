"""What a list of jobs shows, and what it reads for that."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import JobList, parse
from codex_counsel.jobs import recovery
from codex_counsel.jobs import store as stores
from codex_counsel.jobs.job import Job
from codex_counsel.services import choosing
from tests.conftest import until, wait
from tests.e2e.jobs.conftest import STARTED, THREAD, JobFactory
from tests.e2e.runs import kill_worker, worker_of


def finished(factory: JobFactory, count: int, **changes: Any) -> list[Job]:
    """Finished jobs without summaries, the newest first."""
    jobs: list[Job] = []
    for number in range(count):
        handle = factory.launch(**changes)
        wait(handle)
        then = time.time() - 1000 + number
        os.utime(handle.job.path / "spec.json", (then, then))
        jobs.insert(0, handle.job)
    return jobs


def listed(factory: JobFactory, **arguments: object) -> EnvelopeDict:
    return factory.world.counsel().job_list(parse(JobList, arguments))


def ids(wire: EnvelopeDict) -> list[str]:
    return [row["job_id"] for row in wire["data"]["jobs"]]


def have_summaries(jobs: list[Job]) -> list[bool]:
    return [(job.path / "summary.json").exists() for job in jobs]


def test_a_row_of_an_ended_job_says_when_it_ended_and_what_it_took(
    factory: JobFactory,
) -> None:
    (job,) = finished(factory, 1)
    (row,) = listed(factory)["data"]["jobs"]
    assert row["ended"] == time.strftime(
        "%Y-%m-%dT%H:%M:%SZ", time.gmtime(job.ended_at())
    )
    assert row["elapsed_ms"] >= 0
    assert row["tokens"] == {"input": 1, "output": 1}
    assert row["session_id"] == THREAD
    assert "verdict" not in row
    assert listed(factory)["data"]["jobs"] == [row]


def test_a_verdict_is_in_the_row(factory: JobFactory) -> None:
    (job,) = finished(factory, 1)
    result = json.loads((job.path / "result.json").read_text("utf-8"))
    (job.path / "result.json").write_text(json.dumps(result | {"verdict": "pass"}))
    assert listed(factory)["data"]["jobs"][0]["verdict"] == "pass"


def test_a_list_reads_only_what_it_shows(factory: JobFactory) -> None:
    jobs = finished(factory, 4)
    wire = listed(factory, limit=2)
    assert ids(wire) == [job.id for job in jobs[:2]]
    assert wire["summary"] == "4 jobs, 2 shown"
    assert have_summaries(jobs) == [True, True, False, False]
    wire = listed(factory, limit=2, cursor=wire["meta"]["next_cursor"])
    assert ids(wire) == [job.id for job in jobs[2:]]
    assert "next_cursor" not in wire["meta"]


def test_a_listed_result_is_read_once(factory: JobFactory) -> None:
    (job,) = finished(factory, 1)
    before = listed(factory)["data"]
    result = job.path / "result.json"
    info = result.stat()
    result.write_text("x" * info.st_size)
    os.utime(result, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert listed(factory)["data"] == before


@pytest.mark.parametrize("name", ["spec.json", "result.json"])
def test_a_record_that_was_damaged_after_it_was_listed_is_listed_as_corrupt(
    factory: JobFactory, name: str
) -> None:
    (job,) = finished(factory, 1)
    assert listed(factory)["data"]["jobs"][0]["status"] == "completed"
    (job.path / name).write_text("{")
    assert listed(factory)["data"]["jobs"][0]["status"] == "corrupt"


def test_a_dead_run_is_concluded_once_for_all_lists(factory: JobFactory) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    until(lambda: not handle.job.alive())
    before = listed(factory)["data"]
    assert before["jobs"][0]["status"] == "failed"
    (handle.job.path / "events.jsonl").unlink()
    (handle.job.path / "cancel").touch()
    assert listed(factory)["data"] == before


def test_a_list_that_sees_a_dead_run_the_moment_it_is_concluded_tells_its_end(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    kill_worker(handle.job)
    os.utime(handle.job.path / "events.jsonl", (1_000_000_000, 1_000_000_000))
    real = os.link
    seen: list[EnvelopeDict] = []

    def link_and_look(source: str, target: str) -> None:
        real(source, target)
        seen.append(listed(factory)["data"])

    monkeypatch.setattr("os.link", link_and_look)
    assert recovery.outcome(handle.job)
    assert seen == [listed(factory)["data"]]
    assert seen[0]["jobs"][0]["ended"] == "2001-09-09T01:46:40Z"


def test_a_running_job_has_no_summary(factory: JobFactory) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    assert listed(factory)["data"]["jobs"][0]["status"] in ("queued", "running")
    assert have_summaries([handle.job]) == [False]
    gate.write_text("go\n")
    wait(handle)
    assert listed(factory)["data"]["jobs"][0]["status"] == "completed"


def test_a_filter_finds_every_match_page_by_page(factory: JobFactory) -> None:
    there = factory.world.base / "there"
    there.mkdir()
    wanted, other = [], []
    for _ in range(3):
        other += finished(factory, 1)
        wanted += finished(factory, 1, workspace=str(there))
    found: list[str] = []
    cursor = None
    while cursor or not found:
        wire = listed(factory, workspace_root=str(there), limit=1, cursor=cursor)
        found += ids(wire)
        cursor = wire["meta"].get("next_cursor")
    assert sorted(found) == sorted(job.id for job in wanted)
    assert listed(factory, status="failed")["summary"] == "0 jobs match, 0 shown"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"row": {}, "bytes": 1, "of": []}'])
def test_a_damaged_summary_is_made_again(factory: JobFactory, damage: str) -> None:
    (job,) = finished(factory, 1)
    before = listed(factory)["data"]
    (job.path / "summary.json").write_text(damage)
    assert listed(factory)["data"] == before
    assert json.loads((job.path / "summary.json").read_text("utf-8"))["row"]


def test_a_list_that_must_read_too_much_goes_on_at_its_cursor(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "LIST_SECONDS", 0.0)
    jobs = finished(factory, 3)
    wire = listed(factory, status="failed")
    assert (ids(wire), wire["meta"]["truncated"]) == ([], True)
    assert have_summaries(jobs) == [True, False, False]
    wire = listed(factory, status="failed", cursor=wire["meta"]["next_cursor"])
    assert have_summaries(jobs) == [True, True, False]


def test_a_state_directory_that_cannot_be_written_can_still_be_listed(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    (job,) = finished(factory, 1)
    monkeypatch.setattr("codex_counsel.jobs.summary.write_atomically", refuse)
    assert ids(listed(factory)) == [job.id]


def test_a_search_for_a_run_goes_on_after_the_first_page(factory: JobFactory) -> None:
    jobs = finished(factory, 3)
    found = choosing.rows(factory.store, JobList(limit=1))
    assert [row["job_id"] for row in found] == [job.id for job in jobs]
