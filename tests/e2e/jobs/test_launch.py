"""Launch and end of a job, as a reader sees them who looks at any moment."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from codex_counsel.errors import CounselError
from codex_counsel.jobs import launcher, recovery, retention
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.launcher import NewJob, launch
from codex_counsel.jobs.store import Store
from codex_counsel.system.files import lock_file, write_atomically
from tests.conftest import living, until, wait
from tests.e2e.jobs.conftest import (
    MESSAGE,
    STARTED,
    THREAD,
    TURN,
    JobFactory,
    printing,
)
from tests.e2e.runs import kill_worker, worker_of

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


def test_a_reader_that_races_launches_sees_no_half_made_and_no_falsely_dead_job(
    factory: JobFactory,
) -> None:
    stop, over = factory.world.base / "stop", threading.Event()
    statuses: set[str] = set()
    argv = [sys.executable, "-c", READER, str(factory.store.state), str(stop)]
    readers = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        for _ in range(2)
    ]
    for reader in readers:
        assert reader.stdout
        assert reader.stdout.readline() == "up\n"

    def look() -> None:
        while not over.is_set():
            statuses.update(row["status"] for row in factory.store.rows())

    with ThreadPoolExecutor(6) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        handles = list(pool.map(lambda _: factory.launch(), range(40)))
        results = [wait(handle)["status"] for handle in handles]
        over.set()
        [future.result() for future in looking]
    stop.touch()
    for reader in readers:
        statuses.update(reader.communicate(timeout=30)[0].split())
    assert results == ["completed"] * 40
    assert statuses <= {"queued", "running", "completed"}
    assert {row["status"] for row in factory.store.rows()} == {"completed"}
    assert not list(factory.store.directory.glob(".*"))


def test_the_launchers_own_lock_keeps_a_job_alive_until_its_worker_holds_it(
    factory: JobFactory,
) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    assert handle.job.alive()
    assert recovery.outcome(handle.job) is None
    until(lambda: handle.job.state().thread_id == THREAD)
    gate.write_text("go\n")
    assert wait(handle)["status"] == "completed"
    until(lambda: not handle.job.alive())


def test_probes_do_not_take_each_other_for_a_worker(factory: JobFactory) -> None:
    handle = factory.launch()
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


def test_a_launch_that_fails_leaves_no_record(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(CounselError, match="No job can be started"):
        factory.launch()
    assert list(factory.store.directory.iterdir()) == []
    assert list(factory.world.temp.iterdir()) == []


def test_without_a_descriptor_a_run_is_refused_and_kept_nowhere_else(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write_atomically
    calls = []

    def write(path: Path, data: str) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        real(path, data)

    monkeypatch.setattr(launcher, "write_atomically", write)
    with pytest.raises(CounselError) as caught:
        factory.launch()
    assert caught.value.code == "resource_limit"
    assert list(factory.world.temp.iterdir()) == []


@pytest.mark.parametrize(
    "changes", [{"detached": True}, {"needs_directory": True}], ids=str
)
def test_a_run_that_needs_its_directory_is_refused_where_none_can_be_written(
    factory: JobFactory, changes: dict[str, bool]
) -> None:
    factory.store.state.write_text("a file where the directory should be")
    new = NewJob(factory.spec(detached="detached" in changes), "Is it fine?", None, {})
    with pytest.raises(CounselError) as caught:
        launch(
            factory.store, replace(new, needs_directory="needs_directory" in changes)
        )
    assert caught.value.code == "storage_failed"
    assert list(factory.world.temp.iterdir()) == []


def test_a_run_that_is_kept_nowhere_leaves_nothing_though_its_launcher_went_first(
    factory: JobFactory,
) -> None:
    factory.store.state.write_text("a file where the directory should be")
    handle, _ = factory.launch_waiting()
    handle.release()
    until(lambda: not list(factory.world.temp.iterdir()))


def test_a_run_that_is_kept_nowhere_leaves_nothing_though_its_worker_was_killed(
    factory: JobFactory,
) -> None:
    factory.store.state.write_text("a file where the directory should be")
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().codex)
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    assert wait(handle)["error"]["code"] == "process_died"
    assert list(factory.world.temp.iterdir()) == []


def test_a_launcher_killed_in_the_middle_of_a_launch_leaves_nothing_that_is_listed(
    factory: JobFactory,
) -> None:
    factory.store.prepare()
    remains = factory.store.directory / f".birth-{'0' * 32}"
    remains.mkdir()
    (remains / "spec.json").write_text("{")
    assert factory.store.rows() == []
    retention.evict(factory.store, 60, 50)
    assert remains.exists()
    hours_ago = time.time() - 7200
    os.utime(remains, (hours_ago, hours_ago))
    retention.evict(factory.store, 60, 50)
    assert not remains.exists()


def test_the_first_result_to_be_linked_is_the_one_that_stands(
    factory: JobFactory,
) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    first = {
        "ok": False,
        "status": "failed",
        "tool": "codex_consult",
        "summary": "another writer",
        "meta": {},
    }
    (handle.job.path / "result.json").write_text(json.dumps(first))
    gate.write_text("go\n")
    assert wait(handle) == first
    assert recovery.outcome(handle.job) == first


def test_a_killed_worker_is_seen_in_the_next_read_with_what_it_had_recorded(
    factory: JobFactory,
) -> None:
    handle, _ = factory.launch_waiting(STARTED, MESSAGE)
    until(lambda: handle.job.state().thread_id)
    until(lambda: "fine" in (handle.job.path / "events.jsonl").read_text())
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    wire = wait(handle)
    assert wire["error"]["code"] == "process_died"
    assert (wire["meta"]["session_id"], wire["meta"]["job_id"]) == (
        THREAD,
        handle.job.id,
    )
    assert (wire["answer"], wire["partial"]) == ("It is fine.", True)
    assert recovery.outcome(Job(handle.job.path)) == wire
    assert living(handle.job.id) == []
    assert list(factory.world.temp.iterdir()) == []
    assert handle.job.result() == wire


def finishing(factory: JobFactory) -> Handle:
    """A run whose turn is complete and recorded, and whose Codex does not end."""
    handle = factory.launch(f"trap '' INT; {printing(*TURN)}; exec sleep 600")
    until(lambda: handle.job.state().phase == "finishing")
    return handle


def cancel_and_kill_worker(job: Job) -> None:
    job.request_cancel()
    os.kill(worker_of(job).pid, signal.SIGKILL)


ENDS: dict[str, Callable[[JobFactory, Handle], object]] = {
    "worker killed": lambda _, handle: kill_worker(handle.job),
    "worker told to end": lambda _, handle: os.kill(
        worker_of(handle.job).pid, signal.SIGTERM
    ),
    "launcher gone": lambda _, handle: handle.release(),
    "cancel": lambda factory, handle: factory.store.cancel(handle.job),
    "cancel, worker killed": lambda _, handle: cancel_and_kill_worker(handle.job),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_turn_that_was_complete_is_delivered_as_such_whatever_ended_its_worker_then(
    factory: JobFactory, end: str
) -> None:
    handle = finishing(factory)
    ENDS[end](factory, handle)
    wire = until(lambda: recovery.outcome(handle.job))
    assert (wire["status"], wire["ok"], wire["answer"]) == (
        "completed",
        True,
        "It is fine.",
    )
    assert handle.job.result() == wire == factory.store.cancel(handle.job)
    assert living(handle.job.id) == []


def test_a_dead_run_is_concluded_once_and_is_as_old_as_it_was(
    factory: JobFactory,
) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until((handle.job.path / "events.jsonl").exists)
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    until(lambda: not handle.job.alive())
    long_ago = 1_000_000_000
    os.utime(handle.job.path / "events.jsonl", (long_ago, long_ago))
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(
            pool.map(lambda _: until(lambda: recovery.outcome(handle.job)), range(8))
        )
    assert outcomes == [handle.job.result()] * 8
    assert handle.job.ended_at() == long_ago
    (handle.job.path / "cancel").touch()
    assert recovery.outcome(handle.job) == outcomes[0]


def test_a_conclusion_that_cannot_be_stored_is_the_same_for_every_reader(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = finishing(factory)
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)
    until(lambda: not handle.job.alive())

    def link_result(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(recovery, "link_result", link_result)
        first, second = (recovery.outcome(handle.job) for _ in range(2))
    assert first
    assert (first, handle.job.result()) == (second, None)
    assert recovery.outcome(handle.job) == first == handle.job.result()


@pytest.mark.parametrize("missing", ["the program", "the workspace"])
def test_what_vanished_before_codex_could_start_is_named(
    factory: JobFactory, missing: str
) -> None:
    absent = (
        {"argv": ("/nonexistent/codex",)}
        if missing == "the program"
        else {"cwd": "/nonexistent/workspace"}
    )
    handle = factory.launch(**absent)
    wire = wait(handle)
    assert (wire["status"], wire["error"]["code"]) == ("failed", "process_died")
    assert "/nonexistent/" in wire["error"]["message"]
    assert handle.job.result() == wire
    assert list(factory.world.temp.iterdir()) == []


def test_a_launcher_that_goes_before_its_worker_is_up_leaves_no_run(
    factory: JobFactory,
) -> None:
    handle, _ = factory.launch_waiting()
    handle.release()
    wire = until(lambda: recovery.outcome(handle.job))
    assert (wire["status"], wire["error"]["code"]) == ("cancelled", "cancelled")
    until(lambda: not handle.job.alive())
    assert living(handle.job.id) == []


def test_an_orphan_in_a_session_of_its_own_does_not_survive_its_run(
    factory: JobFactory,
) -> None:
    orphan = "(setsid sleep 600 > /dev/null 2>&1 &)"
    handle = factory.launch(f"{orphan}; {printing(*TURN)}")
    assert wait(handle)["status"] == "completed"
    until(lambda: not handle.job.alive())
    assert living(handle.job.id) == []


def test_a_run_that_somebody_will_come_back_for_outlives_its_launcher(
    factory: JobFactory,
) -> None:
    handle, gate = factory.launch_waiting(stays=True)
    handle.release()
    until(lambda: handle.job.state().detached)
    gate.write_text("go\n")
    assert until(lambda: recovery.outcome(handle.job))["status"] == "completed"


def test_a_run_that_was_detached_outlives_its_launcher(factory: JobFactory) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    handle.detach()
    handle.release()
    until(lambda: handle.job.state().detached)
    assert handle.job.running().status in ("queued", "running")
    gate.write_text("go\n")
    assert (
        until(lambda: recovery.outcome(Store(factory.store.state).job(handle.job.id)))[
            "answer"
        ]
        == "It is fine."
    )


def test_paths_that_are_no_job_ids_are_refused_before_any_path_is_built(
    factory: JobFactory,
) -> None:
    factory.store.prepare()
    for name in (
        "../../etc",
        "",
        "0" * 31,
        "0" * 33,
        "G" * 32,
        "0" * 32 + "\n",
        "." * 32,
    ):
        with pytest.raises(CounselError, match="not a job id"):
            factory.store.job(name)
    with pytest.raises(CounselError, match="There is no job"):
        factory.store.job("0" * 32)
    assert not (Path(factory.store.state) / "etc").exists()


def test_looking_at_a_run_whose_worker_ended_its_output_but_still_lives_holds_nobody_up(
    factory: JobFactory,
) -> None:
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    read, write = os.pipe()
    os.close(write)
    os.dup2(read, handle.descriptor)
    os.close(read)
    began = time.monotonic()
    assert handle.collect() is None
    assert time.monotonic() - began < 2
    assert wait(handle)["status"] == "cancelled"


def test_a_dead_run_that_another_process_concludes_is_waited_for(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.jobs.handle.EXIT_PATIENCE", 0)
    handle, _ = factory.launch_waiting(STARTED)
    until(lambda: handle.job.state().thread_id)
    kill_worker(handle.job)
    lock = lock_file(handle.job.path / "lock")
    assert lock is not None
    assert [handle.collect() for _ in range(3)] == [None] * 3
    os.close(lock)
    assert wait(handle)["error"]["code"] == "process_died"
