"""What a worker writes: the end of a run in every way that a program in place of Codex cannot bring about."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex import events
from codex_counsel.codex.transcript import Transcript
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.jobs import run, turns
from codex_counsel.jobs import worker as worker_module
from codex_counsel.jobs.journal import LAST_PROMPT, Journal
from codex_counsel.jobs.run import (
    conclude_defect,
    conclude_unstarted,
    finish,
    recorded_transcript,
)
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.turns import Exit, Starter
from codex_counsel.jobs.worker import Worker
from codex_counsel.system.supervisor import Supervisor
from tests.e2e.jobs.conftest import (
    COMPLETED,
    MESSAGE,
    STARTED,
    THREAD,
    TURN,
    JobFactory,
    printing,
)


@pytest.fixture
def spec(factory: JobFactory) -> Spec:
    return factory.spec()


@pytest.fixture
def journal(factory: JobFactory, spec: Spec) -> Journal:
    """That of a job directory in which a whole turn is recorded."""
    factory.store.prepare()
    directory = factory.store.directory / spec.job_id
    directory.mkdir()
    Path(spec.scratch).mkdir()
    journal = Journal(str(directory))
    for line in (STARTED, MESSAGE, COMPLETED):
        journal.add_event(line.encode())
    return journal


def transcript(*lines: str) -> Transcript:
    """That of a whole turn, or of these lines."""
    folded = Transcript()
    for line in lines or TURN:
        folded.add(events.parse(line.encode()))
    return folded


def result(journal: Journal) -> dict[str, Any]:
    envelope: dict[str, Any] = json.loads(
        (Path(journal.directory) / "result.json").read_text("utf-8")
    )
    return envelope


@pytest.mark.parametrize("reason", ["exited", "cancelled", "abandoned"])
def test_a_cancel_between_the_end_of_a_turn_and_the_commit_costs_nobody_the_answer(
    spec: Spec, journal: Journal, reason: str
) -> None:
    (Path(journal.directory) / "cancel").touch()
    finish(spec, transcript(), Exit(reason, 0), journal)
    envelope = result(journal)
    assert (envelope["status"], envelope["answer"]) == ("completed", "It is fine.")
    assert not Path(spec.scratch).exists()


def test_a_cancel_before_the_commit_wins_over_any_other_failure(
    spec: Spec, journal: Journal
) -> None:
    (Path(journal.directory) / "cancel").touch()
    finish(spec, transcript(STARTED, MESSAGE), Exit("exited", 1), journal)
    envelope = result(journal)
    assert (envelope["status"], envelope["answer"], envelope["partial"]) == (
        "cancelled",
        "It is fine.",
        True,
    )


def test_a_cancel_does_not_make_a_task_whole_that_was_ended_for_its_size(
    spec: Spec, journal: Journal
) -> None:
    delegate = DelegateSpec(
        spec.workspace, spec.workspace, git_timeout=10, diff_limit=1000, denied=()
    )
    spec = replace(spec, delegate=asdict(delegate))
    (Path(journal.directory) / "cancel").touch()
    finish(spec, transcript(), Exit("quota", 0, detail="too much"), journal)
    envelope = result(journal)
    assert (envelope["status"], envelope["error"]["code"]) == (
        "failed",
        "quota_exceeded",
    )


def test_a_second_result_does_not_replace_the_first(
    spec: Spec, journal: Journal, capfd: pytest.CaptureFixture[str]
) -> None:
    finish(spec, transcript(), Exit("exited", 0), journal)
    first = capfd.readouterr().out
    finish(spec, transcript(), Exit("timeout"), journal)
    assert result(journal)["status"] == "completed"
    assert capfd.readouterr().out == first


def worker_for(factory: JobFactory, spec: Spec) -> Worker:
    """A worker in this process, with the directory that a launcher would have made."""
    factory.store.prepare()
    directory = factory.store.directory / spec.job_id
    directory.mkdir()
    (directory / "spec.json").write_text(json.dumps(spec.to_json()))
    (directory / "prompt").touch()
    return Worker(str(directory))


def test_a_signal_that_came_before_codex_was_supervised_ends_it(
    factory: JobFactory,
) -> None:
    worker = worker_for(factory, factory.spec("exec sleep 600", detached=True))
    codex = worker._start()
    worker.on_signal(signal.SIGTERM, None)
    worker._supervise(codex)
    assert result(worker.journal)["status"] == "cancelled"


def last_turn_of(worker: Worker) -> Supervisor | None:
    (Path(worker.directory) / LAST_PROMPT).write_text("Answer now.")
    return worker.start_last_turn(["/bin/cat"], 10)


def test_the_turn_that_answers_gets_its_own_prompt(factory: JobFactory) -> None:
    worker = worker_for(factory, factory.spec(detached=True))
    supervisor = last_turn_of(worker)
    assert supervisor is worker.supervisor
    assert supervisor
    state = json.loads((Path(worker.directory) / "state.json").read_text())
    assert (state["phase"], state["codex"][0]) == ("answering", supervisor.child.pid)
    assert list(supervisor.lines()) == [b"Answer now."]


@pytest.mark.parametrize("end", ["a signal", "a cancel", "the launcher goes"])
def test_no_turn_that_answers_begins_where_the_run_is_to_end(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    pipe, launcher_end = os.pipe()
    monkeypatch.setattr(worker_module, "LIFETIME_PIPE", pipe)
    worker = worker_for(factory, factory.spec())
    if end == "a signal":
        worker.on_signal(signal.SIGTERM, None)
    elif end == "a cancel":
        (Path(worker.directory) / "cancel").touch()
    else:
        os.close(launcher_end)
    assert last_turn_of(worker) is None
    expected = "abandoned" if end == "the launcher goes" else "cancelled"
    assert (worker.end_reason, worker.supervisor) == (expected, None)
    os.close(pipe)
    if end != "the launcher goes":
        os.close(launcher_end)


def test_a_launcher_that_hands_the_run_over_between_the_turns_may_go(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, launcher_end = os.pipe()
    monkeypatch.setattr(worker_module, "LIFETIME_PIPE", pipe)
    worker = worker_for(factory, factory.spec())
    os.write(launcher_end, b"d")
    os.close(launcher_end)
    supervisor = last_turn_of(worker)
    assert supervisor
    assert worker.detached
    assert list(supervisor.lines()) == [b"Answer now."]
    assert supervisor.reason == "exited"
    os.close(pipe)


def test_a_codex_that_hangs_after_its_turn_is_ended_before_its_time_is_up(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.system.supervisor.LINGER", 0.0)
    program = f"{printing(*TURN)}; exec sleep 600"
    worker = worker_for(factory, factory.spec(program, detached=True, total=60))
    worker._supervise(worker._start())
    assert worker.supervisor
    assert worker.supervisor.reason == "exited"
    assert result(worker.journal)["answer"] == "It is fine."


def test_a_defect_while_codex_runs_ends_in_an_envelope_too(
    factory: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Spec, supervisor: Supervisor, _1: Journal, _2: Starter) -> None:
        assert list(supervisor.lines())
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(turns, "read", read)
    worker = worker_for(factory, factory.spec(detached=True))
    with pytest.raises(ZeroDivisionError):
        worker._supervise(worker._start())
    assert result(worker.journal)["error"]["code"] == "internal"


def test_events_beyond_the_limit_are_not_kept(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_file = Path(journal.directory) / "events.jsonl"
    kept = events_file.read_bytes()
    room = len(b"{}\n")
    monkeypatch.setattr("codex_counsel.jobs.journal.MAX_EVENTS", len(kept) + room)
    journal.add_event(b"{}")
    journal.add_event(b"{}")
    assert events_file.read_bytes() == kept + b"{}\n"
    # Only what decides the answer follows, when the turn ends.
    for line in (b"interim", b"answer"):
        journal.add_event(line, decides_answer=True)
    journal.add_event(b"{}")
    assert events_file.read_bytes() == kept + b"{}\n"
    journal.add_event(b"end", ends_turn=True)
    assert events_file.read_bytes() == kept + b"{}\nanswer\nend\n"


def test_nothing_follows_in_the_record_after_a_line_that_could_not_be_written(
    spec: Spec, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    events_file = Path(journal.directory) / "events.jsonl"
    kept = events_file.read_bytes()
    real_write = os.write

    def write(descriptor: int, data: bytes) -> int:
        return real_write(descriptor, data[:5])

    with monkeypatch.context() as patched:
        patched.setattr("os.write", write)
        journal.add_event(b"the answer")
    journal.add_event(COMPLETED.encode(), ends_turn=True)
    assert events_file.read_bytes() == kept + b"the a"


def test_events_that_would_not_make_enough_room_are_not_given_up_for_it(
    spec: Spec, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link_result(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("codex_counsel.jobs.journal.link_result", link_result)
    meta = {"warnings": ["x" * 10_000]}
    (Path(journal.directory) / "prompt").touch()
    journal.commit({"ok": True, "status": "completed", "meta": meta})
    assert recorded_transcript(Path(journal.directory)).completed
    journal.commit({"ok": True, "status": "completed", "meta": {}})
    assert not (Path(journal.directory) / "events.jsonl").exists()


def test_a_defect_ends_in_an_envelope_with_what_was_recorded(
    spec: Spec, journal: Journal
) -> None:
    conclude_defect(spec, journal, ZeroDivisionError("by zero"))
    envelope = result(journal)
    assert envelope["error"]["code"] == "internal"
    assert "ZeroDivisionError: by zero" in envelope["error"]["message"]
    assert (envelope["answer"], envelope["partial"]) == ("It is fine.", True)
    assert (envelope["meta"]["job_id"], envelope["meta"]["session_id"]) == (
        spec.job_id,
        THREAD,
    )


def test_a_defect_in_the_conclusion_itself_ends_in_a_plain_envelope(
    spec: Spec, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(*_: object) -> None:
        raise KeyError("again")

    monkeypatch.setattr(run, "finish", finish)
    conclude_defect(spec, journal, ZeroDivisionError("by zero"))
    envelope = result(journal)
    assert "ZeroDivisionError: by zero" in envelope["error"]["message"]
    assert envelope["meta"]["job_id"] == spec.job_id
    assert not Path(spec.scratch).exists()


@pytest.mark.parametrize(
    ("error", "is_defect"),
    [(FileNotFoundError(2, "No such file", "codex"), False), (KeyError("x"), True)],
    ids=["no Codex", "a defect"],
)
def test_only_a_defect_asks_for_a_traceback(
    spec: Spec, journal: Journal, error: Exception, is_defect: bool
) -> None:
    assert conclude_unstarted(spec.to_json(), journal, "", error) is is_defect


@pytest.mark.parametrize(
    ("reason", "error", "code"),
    [
        ("cancelled", None, "cancelled"),
        ("abandoned", None, "cancelled"),
        ("", FileNotFoundError(2, "No such file", "codex"), "process_died"),
        ("", OSError(28, "No space left on device"), "storage_failed"),
        ("", ZeroDivisionError(), "internal"),
    ],
    ids=str,
)
def test_a_run_that_was_never_started_says_why(
    spec: Spec, journal: Journal, reason: str, error: Exception | None, code: str
) -> None:
    conclude_unstarted(spec.to_json(), journal, reason, error)
    envelope = result(journal)
    assert envelope["error"]["code"] == code
    assert "answer" not in envelope
    assert not Path(spec.scratch).exists()
