"""Each run that has ended is in the ledger once, however it ended, and whatever becomes of its record."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import JobConsume, parse
from codex_counsel.errors import CounselError
from codex_counsel.jobs import clock, launcher, ledger, recovery, retention
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.launcher import NewJob
from codex_counsel.jobs.ledger import Entry
from codex_counsel.loopback import Account, Loopback, http_error, say
from codex_counsel.loopback import Usage as ReportedUsage
from codex_counsel.services.usage import report
from tests.conftest import World, consult, until, wait
from tests.e2e.jobs.conftest import STARTED, JobFactory
from tests.e2e.runs import command_line, fetch, kill_worker, worker_of

Model = Callable[..., Loopback]


def entries(state: Path) -> list[Entry]:
    found = ledger.read(state, 0)
    assert found.damaged == 0
    return list(found.entries.values())


def lines(state: Path) -> list[dict[str, Any]]:
    text = "".join(file.read_text() for file in (state / "usage").glob("*"))
    return [json.loads(line) for line in text.splitlines()]


def total(factory: JobFactory) -> dict[str, Any]:
    added_up: dict[str, Any] = report(factory.store, "day", "7d")["data"]["total"]
    return added_up


def test_a_run_is_noted_before_its_caller_has_the_result(
    each_release: World, each_model: Model
) -> None:
    usage = ReportedUsage(input=1000, cached=400, output=100, reasoning=50)
    each_model([say("It is fine.").but(usage=usage)])
    wire = consult(each_release.counsel(), model="gpt-x", effort="low")
    (line,) = lines(each_release.state)
    assert abs(time.time() - ledger.parse(line).ended) < 60
    assert line == {
        "job_id": wire["meta"]["job_id"],
        "ended": line["ended"],
        "tool": "codex_consult",
        "status": "completed",
        "workspace": str(each_release.workspace),
        "model": "gpt-x",
        "effort": "low",
        "elapsed_ms": wire["meta"]["elapsed_ms"],
        "tokens": {
            "input": 1000,
            "cached_input": 400,
            "output": 100,
            "reasoning": 50,
        },
    }


def test_a_failed_run_is_noted_with_its_code(
    each_release: World, each_model: Model
) -> None:
    each_model(http_error(400, {"error": {"message": "No such model."}}))
    code = consult(each_release.counsel())["error"]["code"]
    (entry,) = entries(each_release.state)
    assert (entry.status, entry.code) == ("failed", code)


def test_a_cancelled_run_is_noted_and_one_that_goes_on_is_not(
    factory: JobFactory,
) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    assert total(factory)["runs"] == 0
    factory.store.cancel(handle.job)
    (entry,) = entries(factory.store.state)
    assert (entry.status, entry.code) == ("cancelled", "cancelled")
    assert total(factory)["cancelled"] == 1


def test_a_run_whose_launch_was_refused_is_none(world: World) -> None:
    with pytest.raises(CounselError, match="not logged in"):
        consult(world.counsel())
    assert not (world.state / "usage").exists()


def test_a_run_whose_worker_was_killed_is_counted_once(factory: JobFactory) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    kill_worker(handle.job)
    for _ in range(2):
        assert total(factory)["failed"] == {"process_died": 1}
    recovery.outcome(handle.job)
    assert len(lines(factory.store.state)) == 1


def test_whoever_concludes_a_dead_run_makes_its_line(factory: JobFactory) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    kill_worker(handle.job)
    recovery.outcome(handle.job)
    (entry,) = entries(factory.store.state)
    assert (entry.job_id, entry.code) == (handle.job.id, "process_died")
    retention.drop(factory.store, handle.job)
    assert total(factory)["failed"] == {"process_died": 1}


def test_a_run_that_is_noted_twice_counts_once(factory: JobFactory) -> None:
    wait(factory.launch())
    (line,) = lines(factory.store.state)
    ledger.append(factory.store.state, line)
    assert total(factory)["runs"] == 1


def test_a_worker_killed_between_result_and_line_loses_no_run(
    factory: JobFactory,
) -> None:
    wait(factory.launch())
    (file,) = (factory.store.state / "usage").iterdir()
    file.unlink()
    assert total(factory)["completed"] == 1
    # From now on the run is known without its record.
    assert len(lines(factory.store.state)) == 1


def test_runs_from_before_the_ledger_are_counted_and_then_noted(
    factory: JobFactory,
) -> None:
    jobs = [factory.launch() for _ in range(3)]
    for handle in jobs:
        wait(handle)
    (file,) = (factory.store.state / "usage").iterdir()
    file.unlink()
    file.parent.rmdir()
    old = jobs[0].job.path
    month_ago = time.time() - 40 * 86_400
    os.utime(old / "result.json", (month_ago, month_ago))
    assert total(factory)["runs"] == 2
    assert {line["job_id"] for line in lines(factory.store.state)} == {
        handle.job.id for handle in jobs[1:]
    }
    later = report(factory.store, "day", "2026-01-01")["data"]["total"]
    assert later["runs"] == 3


def test_a_damaged_record_is_no_run_and_no_reason_to_fail(factory: JobFactory) -> None:
    for name, text in (
        ("result.json", "{"),
        (
            "result.json",
            '{"ok":true,"status":"completed","tool":"x","summary":"","meta":{"model":7}}',
        ),
        ("spec.json", "[]"),
    ):
        handle = factory.launch()
        wait(handle)
        worker = worker_of(handle.job)
        until(lambda worker=worker: not worker.alive())  # type: ignore[misc]
        (handle.job.path / name).write_text(text)
    (file,) = (factory.store.state / "usage").iterdir()
    file.unlink()
    assert total(factory)["runs"] == 0


def test_a_dropped_and_a_consumed_record_stay_counted(factory: JobFactory) -> None:
    counsel = factory.world.counsel()
    jobs: list[Job] = []
    for _ in range(2):
        handle = factory.launch()
        wait(handle)
        worker = worker_of(handle.job)
        until(lambda worker=worker: not worker.alive())  # type: ignore[misc]
        jobs.append(handle.job)
    retention.drop(factory.store, jobs[0])
    fetch(counsel, parse(JobConsume, {"job_id": jobs[1].id}))
    note = factory.store.state / "consumed" / jobs[1].id
    note.write_text(repr(clock.running_seconds(factory.store.state) - 3600))
    hour_ago = time.time() - 3600
    os.utime(note, (hour_ago, hour_ago))
    retention.drop_consumed(factory.store)
    assert list(factory.store.directory.iterdir()) == []
    assert total(factory)["runs"] == 2


def test_retention_leaves_the_ledger_alone(factory: JobFactory) -> None:
    wait(factory.launch())
    before = lines(factory.store.state)
    for _ in range(2):
        retention.evict(factory.store, 60, 1)
    assert lines(factory.store.state) == before


def test_a_run_that_is_not_stored_is_noted_where_the_state_directory_allows_it(
    factory: JobFactory,
) -> None:
    spec = factory.spec()
    env = {"PATH": os.environ["PATH"], "CODEX_COUNSEL_JOB": spec.job_id}
    reason = OSError(errno.ENOSPC, "No space left on device")
    handle = launcher._launch_private(
        factory.store, NewJob(spec, "Is it fine?", None, env), reason
    )
    factory.handles.append(handle)
    assert wait(handle)["ok"]
    assert not factory.store.directory.exists()
    (entry,) = entries(factory.store.state)
    assert (entry.job_id, entry.status) == (spec.job_id, "completed")


def test_where_the_ledger_cannot_be_written_the_result_arrives(
    factory: JobFactory,
) -> None:
    factory.store.state.mkdir(mode=0o700)
    (factory.store.state / "usage").write_text("")
    handle = factory.launch()
    assert wait(handle)["ok"]
    assert total(factory)["runs"] == 1


def test_a_line_holds_nothing_that_was_asked_or_answered(
    world: World, model: Model
) -> None:
    model([say("The secret answer.")])
    consult(world.counsel(), "A secret question?")
    (file,) = (world.state / "usage").iterdir()
    assert "ecret" not in file.read_text()


def test_the_windows_of_the_account_are_left_by_a_failed_run_too(world: World) -> None:
    reset = str(int(time.time()) + 3600)
    headers = {
        "x-codex-primary-used-percent": "90",
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": reset,
    }
    with Loopback(say("").but(headers=headers), Account()) as server:
        (world.codex_home / "auth.json").write_text(server.account.auth_json())
        world.configure(
            f'openai_base_url = "{server.base_url}"\nchatgpt_base_url = "{server.chatgpt_base_url}"\n'
            "[features]\nenable_request_compression = false\n"
        )
        assert consult(world.counsel())["error"]["code"] == "empty_output"
    (file,) = (world.state / "windows").glob("*.json")
    assert json.loads(file.read_text())["windows"][0]["used_percent"] == 90


def test_status_has_the_line_of_this_month(world: World, model: Model) -> None:
    model([say("Yes.")])
    consult(world.counsel())
    assert "this month    1 run, " in command_line(world, "status").stdout


APPEND_MANY = """
import sys
from codex_counsel.jobs import ledger
first = int(sys.argv[2])
sys.stdin.readline()
for number in range(first, first + 50):
    line = {"job_id": f"{number:032x}", "ended": "2026-11-21T07:55:33Z", "tool": "codex_consult",
            "status": "completed", "workspace": "/" + "x" * (number % 4_000)}
    ledger.append(sys.argv[1], line)
"""


def test_forty_processes_append_at_once_and_no_line_is_lost(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", APPEND_MANY, str(tmp_path), str(number * 50)],
            stdin=subprocess.PIPE,
        )
        for number in range(40)
    ]
    for writer in writers:
        assert writer.stdin
        writer.stdin.write(b"go\n")
        writer.stdin.close()
    assert Counter(writer.wait(60) for writer in writers) == {0: 40}
    found = ledger.read(tmp_path, 0)
    assert sorted(int(job_id, 16) for job_id in found.entries) == list(range(2_000))
    assert found.damaged == 0
