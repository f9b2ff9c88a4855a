"""The note of a thread's last review, and the threads of the server."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import anyio
import pytest
from anyio._backends._asyncio import WorkerThread

from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.retention import evict
from codex_counsel.jobs.store import Store
from codex_counsel.jobs.threads import (
    KEPT_SECONDS,
    MAX_TURN_BYTES,
    Turn,
    await_claim,
    claim_turn,
    last_review,
    latest_turn,
    note_review,
    note_turn,
)
from codex_counsel.server.threads import reserve_for_sdk
from codex_counsel.system.files import lock_file

THREAD = "01a1fd13-60ab-7632-8f92-823f89c4f967"
JOB = "0" * 32


def test_the_last_review_of_a_thread_is_known(tmp_path: Path) -> None:
    (tmp_path / "threads").mkdir()
    assert last_review(tmp_path, THREAD) is None
    note_review(tmp_path, THREAD, JOB)
    assert last_review(tmp_path, THREAD) == JOB


def test_what_is_no_thread_becomes_no_path(tmp_path: Path) -> None:
    (tmp_path / "threads").mkdir()
    note_review(tmp_path, "../escaped", JOB)
    assert not (tmp_path / "escaped").exists()
    (tmp_path / "escaped").write_text(JOB)
    assert last_review(tmp_path, "../escaped") is None


def test_a_damaged_note_names_no_job(tmp_path: Path) -> None:
    (tmp_path / "threads").mkdir()
    (tmp_path / "threads" / THREAD).write_text("../elsewhere")
    assert last_review(tmp_path, THREAD) is None


def test_threads_of_the_sdk_do_not_end_when_they_are_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WorkerThread, "MAX_IDLE_TIME", 10)
    anyio.run(reserve_for_sdk)
    assert math.isinf(WorkerThread.MAX_IDLE_TIME)


# --- the note of a turn


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with what a store makes in it."""
    Store(tmp_path / "state").prepare()
    return tmp_path / "state"


def test_the_latest_turn_of_a_thread_is_noted_for_its_owner_alone(state: Path) -> None:
    assert latest_turn(state, THREAD) is None
    turn = Turn(JOB, {"sandbox": "read-only"}, "1" * 32)
    note_turn(state, THREAD, turn)
    assert latest_turn(state, THREAD) == turn
    note = state / "sessions" / THREAD
    assert note.stat().st_mode & 0o777 == 0o600


def test_what_is_no_thread_becomes_no_note(state: Path) -> None:
    note_turn(state, "../escaped", Turn(JOB, {}))
    assert not (state / "escaped").exists()
    assert latest_turn(state, "../sessions") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"job_id": 1, "options": {}}',
        b'{"job_id": "0", "options": []}',
        b'{"options": {}}',
        b"[" * 200_000,
        b" " * MAX_TURN_BYTES + b'{"job_id": "0", "options": {}}',
    ],
    ids=lambda content: repr(content[:30]),
)
def test_a_note_that_makes_no_sense_is_none(state: Path, content: bytes) -> None:
    (state / "sessions" / THREAD).write_bytes(content)
    assert latest_turn(state, THREAD) is None


def test_a_note_that_is_no_file_is_none_and_not_waited_for(state: Path) -> None:
    note = state / "sessions" / THREAD
    os.mkfifo(note)
    assert latest_turn(state, THREAD) is None
    note.unlink()
    elsewhere = state / "elsewhere"
    elsewhere.write_text(json.dumps({"job_id": JOB, "options": {}}), "utf-8")
    note.symlink_to(elsewhere)
    assert latest_turn(state, THREAD) is None
    note.unlink()
    note.mkdir()
    assert latest_turn(state, THREAD) is None
    note_turn(state, THREAD, Turn(JOB, {}))
    assert latest_turn(state, THREAD) is None


def test_of_two_calls_that_begin_a_turn_of_a_thread_one_is_told_that_it_is_busy(
    state: Path,
) -> None:
    with claim_turn(state, THREAD):
        with pytest.raises(CounselError) as refused, claim_turn(state, THREAD):
            pass
        assert refused.value.code == Code.SESSION_BUSY
        with claim_turn(state, THREAD.replace("0", "1")):
            pass
    with claim_turn(state, THREAD):
        pass
    assert list((state / "sessions").iterdir()) == []


def test_a_call_that_only_looks_keeps_none_from_beginning_a_turn(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a call left that was killed.
    path = state / "sessions" / f"{THREAD}.lock"
    path.touch()
    look = lock_file(path, shared=True)
    assert look is not None
    monkeypatch.setattr(
        "codex_counsel.system.files.time.sleep", lambda _: os.close(look)
    )
    with claim_turn(state, THREAD):
        pass
    assert not path.exists()


def test_who_waits_while_a_turn_begins_for_too_long_is_told_so(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.jobs.threads.BEGIN_SECONDS", 0.0)
    await_claim(state, THREAD)
    with claim_turn(state, THREAD), pytest.raises(CounselError) as refused:
        await_claim(state, THREAD)
    assert refused.value.code == Code.SESSION_BUSY
    await_claim(state, THREAD)


def test_a_named_pipe_in_place_of_the_lock_is_not_waited_for(state: Path) -> None:
    os.mkfifo(state / "sessions" / f"{THREAD}.lock")
    await_claim(state, THREAD)


def test_without_a_state_directory_a_turn_is_begun_all_the_same(tmp_path: Path) -> None:
    with claim_turn(tmp_path / "missing", THREAD):
        pass


def test_old_notes_go_and_a_lock_that_is_held_stays(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One look is to come to all of them, on a slow disk too.
    monkeypatch.setattr("codex_counsel.jobs.retention.EVICT_SECONDS", 100.0)
    sessions = state / "sessions"
    old = time.time() - KEPT_SECONDS - 60
    names = [f"{number:08x}{THREAD[8:]}" for number in range(10_000)]
    for name in names:
        (sessions / name).write_text("{}", "utf-8")
        os.utime(sessions / name, (old, old))
    (sessions / "left.lock").touch()
    os.utime(sessions / "left.lock", (old, old))
    note_turn(state, THREAD, Turn(JOB, {}))
    with claim_turn(state, THREAD):
        os.utime(sessions / f"{THREAD}.lock", (old, old))
        evict(Store(state), ttl=60, per_workspace=10)
        left = {path.name for path in sessions.iterdir()}
        assert left == {THREAD, f"{THREAD}.lock"}
