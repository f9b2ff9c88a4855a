"""Birth and death of a job, as a reader sees them who looks at any moment."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codex_counsel.errors import CounselError
from codex_counsel.jobs import recovery, retention
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from tests.conftest import living, until, wait
from tests.e2e.jobs.conftest import COMPLETED, SAID, STARTED, THREAD, Nursery, worker_of

READER = """
import sys
from pathlib import Path
from codex_counsel.jobs.store import Store
store, stop = Store(Path(sys.argv[1])), Path(sys.argv[2])
seen = set()
print("up", flush=True)
while not stop.exists():
    seen |= {row["status"] for row in store.rows()}
print(*seen)
"""


def test_a_reader_that_races_births_sees_no_half_made_and_no_falsely_dead_job(nursery: Nursery) -> None:
    stop, over = nursery.world.base / "stop", threading.Event()
    seen: set[str] = set()
    argv = [sys.executable, "-c", READER, str(nursery.store.state), str(stop)]
    readers = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, encoding="utf-8") for _ in range(2)]
    for reader in readers:
        assert reader.stdout
        assert reader.stdout.readline() == "up\n"

    def look() -> None:
        while not over.is_set():
            seen.update(row["status"] for row in nursery.store.rows())

    with ThreadPoolExecutor(6) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        handles = list(pool.map(lambda _: nursery.born(), range(40)))
        results = [wait(handle)["status"] for handle in handles]
        over.set()
        [future.result() for future in looking]
    stop.touch()
    for reader in readers:
        seen.update(reader.communicate(timeout=30)[0].split())
    assert results == ["completed"] * 40
    assert seen <= {"queued", "running", "completed"}
    assert {row["status"] for row in nursery.store.rows()} == {"completed"}
    assert not list(nursery.store.directory.glob(".*"))


def test_the_launchers_own_lock_keeps_a_job_alive_until_its_worker_holds_it(nursery: Nursery) -> None:
    handle, gate = nursery.held(STARTED)
    assert handle.job.alive()
    assert recovery.outcome(handle.job) is None
    until(lambda: handle.job.state().thread_id == THREAD)
    gate.write_text("go\n")
    assert wait(handle)["status"] == "completed"
    until(lambda: not handle.job.alive())


def test_probes_do_not_take_each_other_for_a_worker(nursery: Nursery) -> None:
    handle = nursery.born()
    wait(handle)
    until(lambda: not handle.job.alive())
    other = os.open(handle.job.path / "lock", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    try:
        assert not handle.job.alive()
        with ThreadPoolExecutor(8) as pool:
            assert not any(pool.map(lambda _: handle.job.alive(), range(2000)))
    finally:
        os.close(other)


def test_a_birth_that_fails_leaves_no_record(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(CounselError, match="No job can be started"):
        nursery.born()
    assert list(nursery.store.directory.iterdir()) == []
    assert list(nursery.world.temp.iterdir()) == []


def test_a_launcher_killed_in_the_middle_of_a_birth_leaves_nothing_that_is_listed(nursery: Nursery) -> None:
    nursery.store.prepare()
    remains = nursery.store.directory / f".birth-{'0' * 32}"
    remains.mkdir()
    (remains / "spec.json").write_text("{")
    assert nursery.store.rows() == []
    retention.evict(nursery.store, 60, 50)
    assert remains.exists()
    hours_ago = time.time() - 7200
    os.utime(remains, (hours_ago, hours_ago))
    os.utime(nursery.store.state / "evicted", (hours_ago, hours_ago))
    retention.evict(nursery.store, 60, 50)
    assert not remains.exists()


def test_the_first_result_to_be_linked_is_the_one_that_stands(nursery: Nursery) -> None:
    handle, gate = nursery.held(STARTED)
    until(lambda: handle.job.state().thread_id)
    first = {"ok": False, "status": "failed", "tool": "codex_consult", "summary": "another writer", "meta": {}}
    (handle.job.path / "result.json").write_text(json.dumps(first))
    gate.write_text("go\n")
    assert wait(handle) == first
    assert recovery.outcome(handle.job) == first


def test_a_killed_worker_is_seen_in_the_next_read_with_what_it_had_recorded(nursery: Nursery) -> None:
    handle, _ = nursery.held(STARTED, SAID)
    until(lambda: handle.job.state().thread_id)
    until(lambda: "fine" in (handle.job.path / "events.jsonl").read_text())
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    wire = wait(handle)
    assert wire["error"]["code"] == "process_died"
    assert (wire["meta"]["session_id"], wire["meta"]["job_id"]) == (THREAD, handle.job.id)
    assert (wire["answer"], wire["partial"]) == ("It is fine.", True)
    assert recovery.outcome(Job(handle.job.path)) == wire
    assert living(handle.job.id) == []
    assert list(nursery.world.temp.iterdir()) == []
    assert list(handle.job.path.glob("result.json")) == []


def test_a_turn_that_was_complete_when_its_worker_died_is_no_success(nursery: Nursery) -> None:
    handle = nursery.born(f"printf '%s\\n' '{STARTED}' '{SAID}' '{COMPLETED}'; exec sleep 600")
    until(lambda: handle.job.state().phase == "finishing")
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    wire = wait(handle)
    assert (wire["status"], wire["error"]["code"], wire["answer"]) == ("failed", "process_died", "It is fine.")


@pytest.mark.parametrize("missing", ["the program", "the workspace"])
def test_what_vanished_before_codex_could_start_is_named(nursery: Nursery, missing: str) -> None:
    absent = {"argv": ("/nonexistent/codex",)} if missing == "the program" else {"cwd": "/nonexistent/workspace"}
    handle = nursery.born(**absent)
    wire = wait(handle)
    assert (wire["status"], wire["error"]["code"]) == ("failed", "process_died")
    assert "/nonexistent/" in wire["error"]["message"]
    assert handle.job.result() == wire
    assert list(nursery.world.temp.iterdir()) == []


def test_a_launcher_that_goes_before_its_worker_is_up_leaves_no_run(nursery: Nursery) -> None:
    handle, _ = nursery.held()
    handle.release()
    wire = until(lambda: recovery.outcome(handle.job))
    assert (wire["status"], wire["error"]["code"]) == ("cancelled", "cancelled")
    until(lambda: not handle.job.alive())
    assert living(handle.job.id) == []


def test_someone_who_joins_before_the_worker_listens_keeps_the_run(nursery: Nursery) -> None:
    handle, gate = nursery.held()
    handle.job.ask_stay()
    handle.release()
    until(lambda: handle.job.state().detached)
    gate.write_text("go\n")
    assert until(lambda: recovery.outcome(handle.job))["status"] == "completed"


def test_a_run_that_was_handed_over_outlives_its_launcher(nursery: Nursery) -> None:
    handle, gate = nursery.held(STARTED)
    handle.detach()
    handle.release()
    until(lambda: handle.job.state().detached)
    assert handle.job.running().status in ("queued", "running")
    gate.write_text("go\n")
    assert until(lambda: recovery.outcome(Store(nursery.store.state).job(handle.job.id)))["answer"] == "It is fine."


def test_paths_that_are_no_job_ids_are_refused_before_any_path_is_built(nursery: Nursery) -> None:
    nursery.store.prepare()
    for name in ("../../etc", "", "0" * 31, "0" * 33, "G" * 32, "0" * 32 + "\n", "." * 32):
        with pytest.raises(CounselError, match="no job id"):
            nursery.store.job(name)
    with pytest.raises(CounselError, match="There is no job"):
        nursery.store.job("0" * 32)
    assert not (Path(nursery.store.state) / "etc").exists()


def test_looking_at_a_run_whose_worker_ended_its_output_but_still_lives_holds_nobody_up(nursery: Nursery) -> None:
    handle, _ = nursery.held(STARTED)
    until(lambda: handle.job.state().thread_id)
    read, write = os.pipe()
    os.close(write)
    os.dup2(read, handle.descriptor)
    os.close(read)
    began = time.monotonic()
    assert handle.collect() is None
    assert time.monotonic() - began < 2
    assert wait(handle)["status"] == "cancelled"
