"""The turns of a run without any process: when a second one begins, and how the run then ended."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from codex_counsel.jobs import turns
from codex_counsel.jobs.journal import Journal
from codex_counsel.jobs.spec import THREAD
from codex_counsel.jobs.threads import Turn, latest_turn, note_turn
from codex_counsel.jobs.turns import Exit
from codex_counsel.system.supervisor import Supervisor
from tests.conftest import until
from tests.specs import SPEC

ID = "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f"
BEGAN = ({"type": "thread.started", "thread_id": ID}, {"type": "turn.started"})
SAID = {
    "type": "item.completed",
    "item": {"id": "1", "type": "agent_message", "text": "So far it is fine."},
}
TOKENS = {"input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 1}
COMPLETED = {"type": "turn.completed", "usage": TOKENS}


class Ended:
    """A supervisor of a Codex that has printed its events and ended for a reason."""

    def __init__(
        self,
        events: Sequence[Any],
        reason: str,
        *,
        seconds_left: float = 60.0,
        survivors: Sequence[int] = (),
    ) -> None:
        self._events = events
        self.reason = reason
        self.returncode = 0
        self.stderr = b""
        self.survivors = survivors
        self.seconds_left = seconds_left

    def lines(self) -> Iterator[bytes]:
        for event in self._events:
            yield json.dumps(event).encode()

    def note_activity(self) -> None:
        pass

    def expect_end(self) -> None:
        pass


class Starter:
    """The worker, with what it starts for the answer: nothing where the run is to end."""

    end_reason = "cancelled"

    def __init__(self, second: Ended | OSError | None = None) -> None:
        self._second = second
        self.started: list[tuple[Sequence[str], float]] = []

    def start_last_turn(self, argv: Sequence[str], seconds: float) -> Supervisor | None:
        self.started.append((argv, seconds))
        if isinstance(self._second, OSError):
            raise self._second
        return cast("Supervisor | None", self._second)


def read(directory: Path, first: Ended, starter: Starter) -> Exit:
    spec = replace(
        SPEC,
        codex_home=str(directory),
        scratch=str(directory),
        max_tokens=1000,
        last_turn=("codex", "resume", THREAD),
    )
    supervisor = cast("Supervisor", first)
    _, exit_ = turns.read(spec, supervisor, Journal(str(directory)), starter)
    return exit_


def failed(message: str) -> dict[str, Any]:
    return {"type": "turn.failed", "error": {"message": message}}


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ((*BEGAN, SAID, COMPLETED), "budget"),
        ((*BEGAN, SAID, failed("stream disconnected")), "exited"),
        ((*BEGAN, failed("")), "exited"),
        ((), "budget"),
    ],
    ids=["it completed", "it failed", "it failed without a word", "it had no thread"],
)
def test_a_turn_that_codex_ended_by_itself_or_never_began_is_not_asked_for_again(
    tmp_path: Path, events: Sequence[Any], reason: str
) -> None:
    starter = Starter()
    assert read(tmp_path, Ended(events, "budget"), starter).reason == reason
    assert starter.started == []


@pytest.mark.parametrize("reason", ["exited", "cancelled", "timeout", "stalled"])
def test_only_the_budget_begins_a_second_turn(tmp_path: Path, reason: str) -> None:
    starter = Starter()
    assert read(tmp_path, Ended(BEGAN, reason), starter).reason == reason
    assert starter.started == []


@pytest.mark.parametrize(
    ("left", "seconds"), [(1000.0, 120.0), (60.0, 60.0), (5.0, 5.0), (4.9, None)]
)
def test_the_answer_gets_two_minutes_of_what_the_run_has_left(
    tmp_path: Path, left: float, seconds: float | None
) -> None:
    starter = Starter(Ended((*BEGAN, SAID, COMPLETED), "exited"))
    exit_ = read(tmp_path, Ended(BEGAN, "budget", seconds_left=left), starter)
    if seconds is None:
        assert (exit_.reason, starter.started) == ("budget", [])
        assert "no time was left" in exit_.detail
    else:
        assert exit_.reason == "exited"
        assert starter.started == [(("codex", "resume", ID), seconds)]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("exited", ("exited", "")),
        ("cancelled", ("cancelled", "")),
        ("abandoned", ("abandoned", "")),
        ("timeout", ("budget", "asked to answer, Codex did not within 60 seconds")),
        ("stalled", ("budget", "asked to answer, Codex was silent")),
        ("budget", ("budget", "asked to answer, Codex went on using tokens")),
    ],
)
def test_only_a_limit_of_the_answer_leaves_the_budget_as_the_reason(
    tmp_path: Path, reason: str, told: tuple[str, str]
) -> None:
    second = Ended(BEGAN, reason, survivors=(8,))
    first = Ended(BEGAN, "budget", survivors=(7,))
    exit_ = read(tmp_path, first, Starter(second))
    assert (exit_.reason, exit_.detail) == told
    assert exit_.survivors == (7, 8)


def test_a_run_that_is_to_end_gets_no_second_turn(tmp_path: Path) -> None:
    assert read(tmp_path, Ended(BEGAN, "budget"), Starter()).reason == "cancelled"


def test_a_codex_that_cannot_be_started_again_leaves_the_budget_as_the_reason(
    tmp_path: Path,
) -> None:
    starter = Starter(OSError(8, "Exec format error"))
    exit_ = read(tmp_path, Ended(BEGAN, "budget"), starter)
    assert exit_.reason == "budget"
    assert exit_.detail == "Codex could not be started again: Exec format error"


# --- the note of a thread


def test_a_new_thread_is_noted_before_anybody_can_know_its_id(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    events_file = tmp_path / "events.jsonl"
    # The worker waits for a reader of the first event, and goes on from there.
    os.mkfifo(events_file)
    thread = threading.Thread(target=read_thread, args=(tmp_path, None))
    thread.start()
    try:
        until(lambda: latest_turn(tmp_path, ID))
        assert not (tmp_path / "state.json").exists()
    finally:
        descriptor = os.open(events_file, os.O_RDONLY | os.O_NONBLOCK)
        thread.join()
        os.close(descriptor)
    noted = latest_turn(tmp_path, ID)
    assert noted == Turn(SPEC.job_id, {"sandbox": "read-only"})
    assert (tmp_path / "state.json").exists()


def test_a_continued_thread_keeps_the_note_of_its_caller(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    noted = Turn("1" * 32, {}, "2" * 32)
    note_turn(tmp_path, ID, noted)
    read_thread(tmp_path, ID)
    assert latest_turn(tmp_path, ID) == noted


def test_no_other_run_leaves_a_note(tmp_path: Path) -> None:
    (tmp_path / "sessions").mkdir()
    read(tmp_path, Ended([*BEGAN, SAID, COMPLETED], "exited"), Starter())
    assert list((tmp_path / "sessions").iterdir()) == []


def read_thread(directory: Path, session_id: str | None) -> None:
    """Read a run of a thread that `codex` began, to its end."""
    spec = replace(
        SPEC,
        state=str(directory),
        codex_home=str(directory),
        scratch=str(directory),
        session_id=session_id,
        thread={"sandbox": "read-only"},
    )
    first = Ended([*BEGAN, SAID, COMPLETED], "exited")
    journal = Journal(str(directory))
    turns.read(spec, cast("Supervisor", first), journal, Starter())
