"""The note of a thread's last review, and the threads of the server."""

from __future__ import annotations

import math
from pathlib import Path

import anyio
import pytest
from anyio._backends._asyncio import WorkerThread

from codex_counsel.jobs.threads import last_review, note_review
from codex_counsel.server.threads import reserve_for_sdk

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
