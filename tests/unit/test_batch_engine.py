"""What a batch does about each way in which an item can end, with a place of the tests' own."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codex_counsel.batch import engine, limits
from codex_counsel.batch.engine import Control, Outcome
from codex_counsel.batch.model import Item
from codex_counsel.batch.progress import Progress
from codex_counsel.batch.record import BatchOptions, Record
from codex_counsel.batch.totals import code_of
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.settings import Settings
from codex_counsel.errors import (
    FAILED,
    INTERRUPTED,
    OVER_BUDGET,
    UNAVAILABLE,
    Code,
    CounselError,
)
from tests.unit.batches import ScriptedPool, answer, begun, failure, items

Play = Callable[[Item], EnvelopeDict | CounselError]


class Stage:
    """A batch, and what was told of it."""

    def __init__(self, base: Path, count: int = 6) -> None:
        self.directory = base / "batch"
        self.options = engine.EngineOptions(Settings(state_dir=str(base / "state")))
        begun(self.directory, count).close()
        self.control = Control()
        self.events: list[str] = []
        self.progress: list[Progress] = []
        self.on_progress: Callable[[Progress], None] = lambda _: None

    def run(self, pool: ScriptedPool) -> Outcome:
        with Record.open(self.directory) as record:
            return engine.run(record, pool, self.options, self._tell, self.control)

    def _tell(self, progress: Progress, events: list[str]) -> None:
        self.events += events
        self.progress.append(progress)
        self.on_progress(progress)

    @property
    def results(self) -> dict[str, str | None]:
        """The error codes of the items that have ended, None for an answer."""
        with Record.open(self.directory) as record:
            pairs = list(record.results())
        assert len(dict(pairs)) == len(pairs)
        return {item_id: code_of(envelope) for item_id, envelope in pairs}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(limits, "MIN_SECONDS", 0.01)
    return Stage(tmp_path)


def ids(*numbers: int) -> list[str]:
    return [f"item-{number}" for number in numbers]


def once(code: Code, at: int = 2, *, starts: bool = True) -> Play:
    """Answers; the item with this number fails with the code, the first time."""
    met: list[str] = []

    def play(item: Item) -> EnvelopeDict | CounselError:
        if item.id == f"item-{at}" and not met:
            met.append(item.id)
            if starts:
                return failure(code, "As the test says.", retry_after_ms=1)
            return CounselError(code, "As the test says.", retry_after_ms=1)
        return answer()

    return play


def test_each_item_runs_once_in_order_and_a_resume_repeats_none(stage: Stage) -> None:
    pool = ScriptedPool(lambda _: answer(), room=2)
    assert stage.run(pool) == Outcome(None, 0)
    assert (pool.started, pool.most <= 2) == (ids(0, 1, 2, 3, 4, 5), True)
    assert stage.progress[-1].totals.ended == 6

    again = ScriptedPool(lambda _: answer())
    assert (stage.run(again), again.started) == (Outcome(None, 0), [])


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("code", [Code.TIMEOUT, Code.UNKNOWN_REF, Code.EMPTY_OUTPUT])
def test_a_failure_is_a_result_and_the_others_go_on(
    stage: Stage, code: Code, *, starts: bool
) -> None:
    outcome = stage.run(ScriptedPool(once(code, starts=starts)))
    assert outcome == Outcome(None, 0)
    assert stage.results == {**dict.fromkeys(ids(0, 1, 3, 4, 5)), "item-2": code}


@pytest.mark.parametrize(
    ("code", "is_repeated"),
    [
        (Code.WORKSPACE_INVALID, True),
        (Code.UNKNOWN_REF, True),
        (Code.NOTHING_TO_REVIEW, False),
        (Code.PACK_INVALID, False),
        (Code.WORKER_LOST, False),
    ],
)
def test_an_item_that_could_not_be_started_is_tried_again_by_a_resume(
    stage: Stage, code: Code, *, is_repeated: bool
) -> None:
    stage.run(ScriptedPool(once(code, starts=False)))
    assert stage.results["item-2"] == code
    again = ScriptedPool(lambda _: answer())
    assert stage.run(again) == Outcome(None, 0)
    assert again.started == (["item-2"] if is_repeated else [])


def test_an_item_that_could_not_be_started_is_not_tried_again_while_a_node_has_it(
    stage: Stage,
) -> None:
    with Record.open(stage.directory) as record:
        record.note_place("item-2", "node/ticket")
    stage.run(ScriptedPool(once(Code.INVALID_ARGUMENTS, starts=False)))
    again = ScriptedPool(lambda _: answer())
    assert (stage.run(again), again.started) == (Outcome(None, 0), [])


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize(
    "code",
    [Code.USAGE_LIMIT, Code.RATE_LIMITED, Code.BACKING_OFF, Code.QUOTA_RESERVED],
)
def test_a_limit_pauses_the_batch_until_its_reset_and_fails_no_item(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, code: Code, *, starts: bool
) -> None:
    # A clock that goes on when it is looked at: a slow machine must not miss the pause.
    looks = itertools.count(1_000_000)
    monkeypatch.setattr(engine, "_seconds", lambda: next(looks) / 1000)
    monkeypatch.setattr(limits, "MIN_SECONDS", 1.0)
    pool = ScriptedPool(once(code, starts=starts), room=1)
    assert stage.run(pool) == Outcome(None, 0)
    assert stage.results == dict.fromkeys(ids(0, 1, 2, 3, 4, 5))
    assert pool.started.count("item-2") == 1 + starts
    (event,) = stage.events
    assert event.startswith("paused until 20")
    assert event.endswith("As the test says.")
    assert max(one.paused_seconds for one in stage.progress) > 0


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize(
    "code",
    [
        Code.AUTH_REQUIRED,
        Code.CODEX_NOT_FOUND,
        Code.CODEX_TOO_OLD,
        Code.SANDBOX_UNAVAILABLE,
        Code.CLUSTER_FAILED,
    ],
)
def test_what_all_runs_would_meet_stops_the_batch_and_a_resume_goes_on(
    stage: Stage, code: Code, *, starts: bool
) -> None:
    pool = ScriptedPool(once(code, starts=starts), room=1)
    outcome = stage.run(pool)
    assert outcome.stop
    assert (outcome.stop.exit_code, outcome.left) == (UNAVAILABLE, 4)
    assert outcome.stop.reason == f"{code}: As the test says."
    assert stage.results == dict.fromkeys(ids(0, 1))

    assert stage.run(ScriptedPool(lambda _: answer())) == Outcome(None, 0)
    assert stage.results == dict.fromkeys(ids(0, 1, 2, 3, 4, 5))


def test_a_paid_answer_that_could_not_be_stored_is_a_result_and_stops_the_batch(
    stage: Stage,
) -> None:
    outcome = stage.run(ScriptedPool(once(Code.STORAGE_FAILED), room=1))
    assert outcome.stop
    assert stage.results["item-2"] == Code.STORAGE_FAILED
    assert outcome.left == 3


def test_the_tokens_of_the_batch_are_bounded_over_its_resumes(stage: Stage) -> None:
    stage.options = replace(stage.options, max_tokens=25)
    for _ in range(2):
        outcome = stage.run(ScriptedPool(lambda _: answer(tokens=10), room=1))
        assert outcome.stop
        assert (outcome.stop.exit_code, outcome.left) == (OVER_BUDGET, 3)
        assert "30 tokens; --max-tokens is 25" in outcome.stop.reason


def test_tokens_of_a_run_that_met_a_limit_count(stage: Stage) -> None:
    limit = failure(Code.RATE_LIMITED, retry_after_ms=1)
    limit["meta"]["usage"] = {"input": 20, "output": 10}
    stage.options = replace(stage.options, max_tokens=30)
    outcome = stage.run(ScriptedPool(lambda _: limit, room=1))
    assert outcome.stop
    assert (outcome.stop.exit_code, outcome.left) == (OVER_BUDGET, 6)


def test_the_failures_of_the_batch_are_bounded(stage: Stage) -> None:
    stage.options = replace(stage.options, max_failures=2)
    pool = ScriptedPool(lambda _: failure(Code.TIMEOUT), room=1)
    outcome = stage.run(pool)
    assert outcome.stop
    assert (outcome.stop.exit_code, outcome.left, pool.started) == (
        FAILED,
        4,
        ids(0, 1),
    )


@pytest.mark.parametrize("code", [Code.WORKER_LOST, Code.PROCESS_DIED])
def test_a_lost_item_is_named_and_only_repeated_where_that_is_asked_for(
    stage: Stage, code: Code
) -> None:
    assert stage.run(ScriptedPool(once(code))) == Outcome(None, 0)
    assert stage.results["item-2"] == code
    assert stage.events == ["item-2 is lost: As the test says."]

    again = ScriptedPool(lambda _: answer())
    assert (stage.run(again), again.started) == (Outcome(None, 0), [])

    stage.options = replace(stage.options, retry="lost")
    assert (stage.run(again), again.started) == (Outcome(None, 0), ["item-2"])
    assert stage.results == dict.fromkeys(ids(0, 1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    "code",
    [
        Code.TIMEOUT,
        Code.PROCESS_DIED,
        Code.WORKER_LOST,
        Code.EMPTY_OUTPUT,
        Code.INVALID_ARGUMENTS,
        Code.PACK_INVALID,
        Code.STORAGE_FAILED,
    ],
)
def test_what_failed_is_repeated_where_that_is_asked_for_and_no_answer_is(
    stage: Stage, code: Code
) -> None:
    stage.run(ScriptedPool(once(code, at=5)))
    assert stage.results["item-5"] == code
    stage.options = replace(stage.options, retry="failed")
    again = ScriptedPool(once(Code.TIMEOUT, at=5))
    assert (stage.run(again), again.started) == (Outcome(None, 0), ["item-5"])
    assert stage.results == {**dict.fromkeys(ids(0, 1, 2, 3, 4)), "item-5": "timeout"}

    assert (stage.run(again), again.started) == (Outcome(None, 0), ["item-5"] * 2)
    assert stage.results == dict.fromkeys(ids(0, 1, 2, 3, 4, 5))
    assert stage.run(again) == Outcome(None, 0)
    assert len(again.started) == 2


def test_what_failed_runs_used_counts_though_they_are_repeated(stage: Stage) -> None:
    late = failure(Code.TIMEOUT)
    late["meta"]["usage"] = {"input": 20, "output": 10}
    stage.run(ScriptedPool(lambda item: late if item.id == "item-5" else answer()))
    # 50 of the answers, 30 of the run that failed.
    stage.options = replace(stage.options, retry="failed", max_tokens=80)
    outcome = stage.run(ScriptedPool(lambda _: answer()))
    assert outcome.stop
    assert (outcome.stop.exit_code, outcome.left) == (OVER_BUDGET, 1)


def test_an_item_that_was_sent_to_a_node_is_asked_for_there_before_others_start(
    stage: Stage,
) -> None:
    stage.run(ScriptedPool(once(Code.WORKER_LOST, at=5)))
    with Record.open(stage.directory) as record:
        record.note_place("item-5", "node-a")
    found = ScriptedPool(lambda _: answer("Found."))
    assert (stage.run(found), found.started) == (Outcome(None, 0), ["item-5"])
    assert stage.results == dict.fromkeys(ids(0, 1, 2, 3, 4, 5))


def test_after_an_interrupt_what_runs_ends_and_nothing_more_is_started(
    stage: Stage,
) -> None:
    def play(item: Item) -> EnvelopeDict:
        if item.id == "item-2":
            stage.control.ask_to_end()
        return answer()

    outcome = stage.run(ScriptedPool(play, room=1))
    assert outcome.stop
    assert (outcome.stop.exit_code, outcome.left) == (INTERRUPTED, 3)
    assert stage.results == dict.fromkeys(ids(0, 1, 2))
    told = [event for event in stage.events if "Ctrl-C again" in event]
    assert len(told) == 1


def test_after_a_second_interrupt_what_runs_is_ended_and_has_no_result(
    stage: Stage,
) -> None:
    def play(item: Item) -> EnvelopeDict:
        if item.id == "item-2":
            stage.control.ask_to_end()
            stage.control.ask_to_end()
            return failure(Code.CANCELLED)
        return answer()

    outcome = stage.run(ScriptedPool(play, room=1))
    assert outcome.stop
    assert outcome.stop.exit_code == INTERRUPTED
    assert "item-3" not in stage.results


def test_an_item_that_cannot_be_started_because_of_an_interrupt_has_no_result(
    stage: Stage,
) -> None:
    def play(item: Item) -> EnvelopeDict | CounselError:
        if item.id == "item-1":
            stage.control.ask_to_end()
            return CounselError(Code.HUB_FAILED, "git was interrupted")
        return answer()

    assert stage.run(ScriptedPool(play, room=1)).left == 5
    assert stage.results == dict.fromkeys(ids(0))


def test_results_that_cannot_be_written_stop_the_batch_and_lose_no_run(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(item: Item) -> EnvelopeDict:
        if item.id == "item-2":
            monkeypatch.setattr("os.fdatasync", full)
        return answer()

    outcome = stage.run(ScriptedPool(play, room=1))
    monkeypatch.undo()
    assert outcome.stop
    assert outcome.stop.reason.startswith("storage_failed: The batch in ")
    assert (outcome.left, stage.results) == (4, dict.fromkeys(ids(0, 1)))


def full(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_names_of_items_reach_no_terminal_unescaped(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    directory = tmp_path / "hostile"
    with Record.create(directory) as record:
        (item,) = items(record, 1)
        record.begin([replace(item, id="a\x1b[2Jb")], BatchOptions())
    stage.directory = directory
    stage.run(ScriptedPool(lambda _: failure(Code.WORKER_LOST, "gone\x1b[2J")))
    assert "\x1b" not in "".join(stage.events)


@pytest.mark.parametrize("told", [10**400, -(10**400), float("nan"), True, "7"])
def test_whatever_a_result_says_of_a_reset_the_batch_goes_on(told: object) -> None:
    for error in (
        {"retry_after_ms": told, "message": "x"},
        {"details": {"until": told}, "message": "x"},
        {"details": told, "message": "x"},
    ):
        seconds = limits.seconds_until_reset(error, Settings())
        assert limits.MIN_SECONDS <= seconds <= limits.MAX_SECONDS


def test_the_moment_of_a_reset_goes_before_the_minute_that_a_message_names() -> None:
    until = int(time.time()) + 600
    error = {"retry_after_ms": 660_000, "details": {"until": until}, "message": "x"}
    assert 500 < limits.seconds_until_reset(error, Settings()) <= 600
