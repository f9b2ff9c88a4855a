"""A damaged record is shown as damaged, answers with a typed error, and harms no other."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import (
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
    parse,
)
from codex_counsel.errors import CounselError
from codex_counsel.jobs import recovery, retention, summary
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.system import files
from codex_counsel.system.files import LockError
from tests.conftest import World, until, wait
from tests.e2e.jobs.conftest import STARTED, TURN, JobFactory, printing
from tests.e2e.runs import cancel_run, fetch

Spoil = Callable[[Path], object]
DEEP = "[" * 100_000


def with_fields(**fields: Any) -> Spoil:
    """The JSON file with these fields set anew."""

    def spoil(path: Path) -> None:
        path.write_text(
            json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8"
        )

    return spoil


def text(content: str) -> Spoil:
    return lambda path: path.write_text(content, "utf-8")


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nonexistent")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


EITHER: dict[str, Spoil] = {
    "empty": text(""),
    "half": lambda path: path.write_text(path.read_text("utf-8")[:-40], "utf-8"),
    "a list": text("[]"),
    "a number": text("7"),
    "null": text("null"),
    "too deep": text(DEEP),
    "no UTF-8": lambda path: path.write_bytes(b'{"\xff": 1}'),
    "zeros": lambda path: path.write_bytes(b"\0" * 4096),
    "a directory": directory,
}
SPEC: dict[str, Spoil] = EITHER | {
    "another format": with_fields(format=99),
    "an unknown field": with_fields(novelty=1),
    "a number for text": with_fields(subject=5),
    "text for a number": with_fields(created="yesterday"),
    "endless time": with_fields(created=float("inf")),
    "no time": with_fields(created=float("nan")),
    "words for argv": with_fields(argv=7),
    "a list for meta": with_fields(meta=[]),
    "removed": Path.unlink,
    "a link to nowhere": link_to_nowhere,
}
RESULT: dict[str, Spoil] = EITHER | {
    "no envelope": text("{}"),
    "a list for meta": with_fields(meta=[]),
    "a status that is not terminal": with_fields(status="running"),
    "an unhashable status": with_fields(status=[]),
    "a number for ok": with_fields(ok=1),
}


def rows(world: World) -> dict[str, str]:
    wire = world.counsel().job_list(parse(JobList, {}))
    json.dumps(wire)
    return {row["job_id"]: row["status"] for row in wire["data"]["jobs"]}


def ended(factory: JobFactory, program: str = printing(*TURN)) -> Handle:
    """A run whose worker is gone: one that lives is taken for a run that goes on, where there is no result."""
    handle = factory.launch(program)
    wait(handle)
    until(lambda: not handle.job.alive())
    return handle


@pytest.mark.parametrize(
    ("name", "how"),
    [("spec.json", how) for how in SPEC] + [("result.json", how) for how in RESULT],
)
def test_a_damaged_record_is_listed_as_corrupt_and_harms_no_other(
    factory: JobFactory, name: str, how: str
) -> None:
    whole, spoiled = factory.launch(), factory.launch()
    wire = wait(whole)
    wait(spoiled)
    {"spec.json": SPEC, "result.json": RESULT}[name][how](spoiled.job.path / name)
    assert rows(factory.world) == {whole.job.id: "completed", spoiled.job.id: "corrupt"}
    counsel = factory.world.counsel()
    ask = {"job_id": spoiled.job.id}
    if name == "result.json":
        calls: list[Callable[[], object]] = [
            lambda: fetch(counsel, parse(JobResult, ask)),
            lambda: counsel.job_status(parse(JobStatus, ask)),
            lambda: cancel_run(counsel, parse(JobCancel, ask)),
        ]
        for call in calls:
            with pytest.raises(CounselError) as caught:
                call()
            assert caught.value.code == "job_corrupt"
    else:
        assert fetch(counsel, parse(JobResult, ask))["answer"] == "It is fine."
    assert fetch(counsel, parse(JobResult, {"job_id": whole.job.id})) == wire
    retention.evict(factory.store, 60, 50)
    assert rows(factory.world) == {whole.job.id: "completed", spoiled.job.id: "corrupt"}


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "null",
        DEEP,
        '{"phase": 7}',
        '{"codex": [1], "worker": {"a": 1}}',
        '{"heard": "now", "thread_id": 5}',
    ],
    ids=lambda text: text[:20] or "empty",
)
def test_a_damaged_state_costs_nothing_but_what_it_said(
    factory: JobFactory, state: str
) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    other, _ = factory.launch_waiting(STARTED)
    (handle.job.path / "state.json").write_text(state)
    assert set(rows(factory.world)) == {handle.job.id, other.job.id}
    assert handle.job.running().ok
    gate.write_text("go\n")
    assert wait(handle)["status"] == "completed"
    assert rows(factory.world)[handle.job.id] == "completed"


@pytest.mark.parametrize(
    "events",
    [
        b"",
        b"\xff\xfe\0",
        b"{",
        DEEP.encode(),
        b"7\nnull\n[]\n",
        b'{"type": "thread.started"}\n',
        b"x" * 5_000_000,
    ],
)
def test_damaged_events_of_a_dead_run_tell_less_but_still_tell(
    factory: JobFactory, events: bytes
) -> None:
    handle = ended(factory)
    (handle.job.path / "result.json").unlink()
    (handle.job.path / "events.jsonl").write_bytes(events)
    wire = recovery.outcome(handle.job)
    assert wire
    assert wire["error"]["code"] == "process_died"
    assert wire["meta"]["session_id"] == handle.job.state().thread_id
    assert rows(factory.world) == {handle.job.id: "failed"}


def test_what_is_no_directory_at_all_is_listed_as_corrupt(factory: JobFactory) -> None:
    whole = factory.launch()
    wait(whole)
    (factory.store.directory / ("a" * 32)).write_text("a file")
    (factory.store.directory / ("b" * 32)).mkdir()
    (factory.store.directory / ("c" * 32)).symlink_to("/nonexistent")
    (factory.store.directory / "notes.txt").write_text("not ours")
    found = rows(factory.world)
    assert found.pop(whole.job.id) == "completed"
    assert found == {"a" * 32: "corrupt", "b" * 32: "corrupt"}


def test_a_record_that_vanishes_while_it_is_read_is_not_listed(
    factory: JobFactory,
) -> None:
    handle = ended(factory)
    jobs = factory.store.jobs()
    job = next(jobs)
    shutil.rmtree(handle.job.path)
    with pytest.raises(CounselError, match="There is no job"):
        job.spec()
    assert factory.store.rows() == []


def test_a_record_that_vanishes_before_its_summary_is_kept_is_listed_once(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = ended(factory)
    keep = summary.store

    def removed_before(job: Job, row: summary.Row) -> None:
        shutil.rmtree(job.path)
        keep(job, row)

    monkeypatch.setattr(summary, "store", removed_before)
    assert rows(factory.world) == {handle.job.id: "completed"}
    assert rows(factory.world) == {}


def test_a_scratch_path_that_is_not_of_this_job_is_never_removed(
    factory: JobFactory,
) -> None:
    precious = factory.world.base / "precious"
    precious.mkdir()
    handle = ended(factory)
    (handle.job.path / "result.json").unlink()
    with_fields(scratch=str(precious))(handle.job.path / "spec.json")
    assert recovery.outcome(handle.job)
    assert precious.is_dir()


def test_a_corrupt_record_cannot_be_consumed_and_goes_only_for_space(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = factory.launch()
    wait(handle)
    (handle.job.path / "result.json").write_text("{")
    with pytest.raises(CounselError, match="cannot be read"):
        fetch(factory.world.counsel(), parse(JobConsume, {"job_id": handle.job.id}))
    assert handle.job.path.exists()
    long_ago = 1_000_000_000
    for file in handle.job.path.iterdir():
        os.utime(file, (long_ago, long_ago))
    retention.evict(factory.store, 60, 50)
    assert handle.job.path.exists()
    monkeypatch.setattr(retention, "UNDELIVERED_COUNT", 0)
    retention.evict(factory.store, 60, 50)
    assert not handle.job.path.exists()


def test_a_lock_that_cannot_be_taken_ends_no_run(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    codex = until(lambda: handle.job.state().codex)

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", flock)
        with pytest.raises(LockError):
            recovery.outcome(handle.job)
    assert codex.alive()
    gate.write_text("go\n")
    assert wait(handle)["status"] == "completed"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_lock_that_there_is_no_descriptor_for_ends_no_run(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    handle, gate = factory.launch_waiting(STARTED)
    codex = until(lambda: handle.job.state().codex)

    def open_private(*_: object) -> None:
        raise OSError(number, "None left")

    with monkeypatch.context() as patched:
        patched.setattr(files, "open_private", open_private)
        with pytest.raises(LockError):
            recovery.outcome(handle.job)
    assert codex.alive()
    gate.write_text("go\n")
    assert wait(handle)["status"] == "completed"


def test_a_dead_record_of_a_newer_release_is_read_and_listed(
    factory: JobFactory,
) -> None:
    handle = ended(factory, f"{printing(STARTED)}; exit 3")
    (handle.job.path / "result.json").unlink()
    path = handle.job.path / "spec.json"
    spec = json.loads(path.read_text("utf-8"))
    newer = {"meta": {"something_new": 1, "warnings": None}}
    path.write_text(json.dumps(spec | newer), "utf-8")
    assert rows(factory.world) == {handle.job.id: "failed"}
