"""The budget of tokens, without any process: which limit counts, and what a run tells that reached it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.cli.reports import _state
from codex_counsel.codex import events
from codex_counsel.codex.token_watch import TokenWatch
from codex_counsel.codex.transcript import Transcript
from codex_counsel.contract.envelope import BudgetReached, Meta
from codex_counsel.contract.request import Consult, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import turns
from codex_counsel.jobs.journal import Journal
from codex_counsel.jobs.run import conclude, recorded_transcript
from codex_counsel.jobs.turns import Exit
from codex_counsel.prepare import budget
from codex_counsel.prepare.context import Context
from tests.specs import SPEC

NOWHERE = Path("/nonexistent")
THREAD = "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f"
LIMITED = replace(SPEC, max_tokens=1000)
TOKENS = events.Tokens(1100, 500, 100, 0)
BEGAN = (events.ThreadStarted(THREAD), events.TurnStarted())
INTERIM = events.Message("Looking.")
ANSWER = events.Message("So far it is fine.")
COMPLETED = events.TurnCompleted(TOKENS)
FIRST = (*BEGAN, INTERIM)


def transcript(*said: events.Event) -> Transcript:
    found = Transcript()
    for event in said:
        found.add(event)
    return found


@pytest.mark.parametrize(
    ("setting", "argument", "limit"),
    [
        (None, None, None),
        ("5000", None, 5000),
        (None, 4000, 4000),
        ("5000", 4000, 4000),
        ("5000", 6000, 5000),
        ("5000", 1_000_000_000, 5000),
        ("10", 4000, 1000),  # what is out of bounds is clamped
        ("many", 4000, 4000),
    ],
)
def test_of_what_the_user_and_the_caller_allow_the_smaller_counts(
    setting: str | None, argument: int | None, limit: int | None
) -> None:
    variables = {}
    if setting is not None:
        variables["CODEX_COUNSEL_MAX_TOKENS"] = setting
    context = Context.of(variables)
    request = parse(Consult, {"question": "?", "max_tokens": argument})
    assert budget.of_run(context, request) == limit


@pytest.mark.parametrize("number", [999, 0, -1, 1_000_000_001, "many", 1000.5, True])
def test_a_limit_out_of_bounds_is_refused(number: Any) -> None:
    with pytest.raises(CounselError) as caught:
        parse(Consult, {"question": "?", "max_tokens": number})
    assert caught.value.code == Code.INVALID_ARGUMENTS
    assert caught.value.message.startswith("max_tokens: ")


def test_a_request_without_a_limit_is_the_same_as_in_releases_that_knew_none() -> None:
    plain = parse(Consult, {"question": "?"})
    limited = parse(Consult, {"question": "?", "max_tokens": 2000})
    assert "max_tokens" not in plain.canonical()
    assert '"max_tokens": 2000' in limited.canonical()


REACHED = BudgetReached(limit=1000, used=1200)
ENDS: dict[str, tuple[tuple[events.Event, ...], str, Any]] = {
    "it answered": ((*FIRST, *BEGAN, ANSWER, COMPLETED), "exited", None),
    "it said nothing": ((*FIRST, *BEGAN, COMPLETED), "exited", Code.BUDGET_REACHED),
    "it ended in the middle": ((*FIRST, *BEGAN), "exited", Code.BUDGET_REACHED),
    "its turn failed": (
        (*FIRST, *BEGAN, events.TurnFailed("stream disconnected")),
        "exited",
        Code.BUDGET_REACHED,
    ),
    "its answer was damaged": (
        (*FIRST, *BEGAN, events.Damaged(b"{"), COMPLETED),
        "exited",
        Code.BUDGET_REACHED,
    ),
    "it took too long": ((*FIRST, *BEGAN), "budget", Code.BUDGET_REACHED),
    "it was never asked": (FIRST, "budget", Code.BUDGET_REACHED),
    "a usage limit came": (
        (*FIRST, *BEGAN, events.TurnFailed("You've hit your usage limit.")),
        "exited",
        Code.USAGE_LIMIT,
    ),
    "it was cancelled": ((*FIRST, *BEGAN), "cancelled", Code.CANCELLED),
    "its worker was killed": ((*FIRST, *BEGAN), "died", Code.PROCESS_DIED),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_run_that_reached_its_limit_says_so_and_keeps_what_was_said(
    case: str,
) -> None:
    said, reason, code = ENDS[case]
    envelope = conclude(LIMITED, transcript(*said), Exit(reason, 1), NOWHERE)
    assert envelope.error is None if code is None else envelope.error
    if envelope.error is None:
        assert (envelope.answer, envelope.partial) == ("So far it is fine.", None)
        assert "Cut short" in envelope.summary
        assert "used up its 1000 tokens" in envelope.meta.warnings[0]
    else:
        assert envelope.error.code == code
        assert "Cut short" not in envelope.summary
        assert (envelope.answer, envelope.partial) == ("Looking.", True)
    reached = envelope.meta.budget_reached
    assert reached
    assert reached.limit == 1000
    if said[-1] == COMPLETED:
        assert reached == REACHED


@pytest.mark.parametrize("limit", [None, 1000])
def test_a_turn_that_codex_completed_before_the_stop_took_effect_is_simply_completed(
    limit: int | None,
) -> None:
    spec = replace(SPEC, max_tokens=limit)
    said = transcript(*BEGAN, ANSWER, COMPLETED)
    envelope = conclude(spec, said, Exit("budget", 0), NOWHERE)
    assert (envelope.ok, envelope.answer) == (True, "So far it is fine.")
    assert envelope.meta.budget_reached is None
    assert envelope.summary == "So far it is fine."
    assert envelope.meta.warnings == []


def count_line(total: int) -> str:
    usage = {"input_tokens": total, "output_tokens": 0}
    payload = {"type": "token_count", "info": {"total_token_usage": usage}}
    return json.dumps({"type": "event_msg", "payload": payload}) + "\n"


def test_the_first_look_above_the_limit_lets_a_turn_end_and_the_second_stops_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "sessions/2026/11/21"
    folder.mkdir(parents=True)
    record = folder / f"rollout-2026-11-21T07-55-33-{THREAD}.jsonl"
    spec = replace(LIMITED, codex_home=str(tmp_path), scratch=str(tmp_path))
    reading = turns._Reading(spec, Journal(str(tmp_path)))
    for event in FIRST:
        reading.transcript.add(event)

    def looks(total: int) -> list[str]:
        record.write_text(count_line(total))
        reading._tokens = TokenWatch(tmp_path)
        return [reading._reason_to_stop() for _ in range(3)]

    assert looks(999) == ["", "", ""]
    assert looks(1000) == ["", "budget", "budget"]
    assert looks(1500) == ["budget", "budget", "budget"]
    # The turn that answers gets a fifth of the limit, or 20,000 tokens more than were
    # used by then.
    reading.allow_answer()
    assert looks(21_500) == ["", "budget", "budget"]
    assert looks(21_499) == ["", "", ""]
    # What comes on record while the first turn ends is no part of that.
    with record.open("a") as file:
        file.write(count_line(60_000))
    reading.allow_answer()
    assert looks(79_999) == ["", "", ""]
    assert looks(80_000) == ["", "budget", "budget"]
    reading.transcript.add(COMPLETED)
    assert looks(80_000) == ["", "", ""]


def test_a_limit_that_could_not_be_kept_is_reported() -> None:
    spec = replace(LIMITED, session_id=THREAD)
    said = transcript(*BEGAN, ANSWER, COMPLETED)
    (warning,) = conclude(spec, said, Exit("exited", 0), NOWHERE).meta.warnings
    assert "max_tokens may not have been kept" in warning


def test_a_run_that_never_began_is_not_said_to_have_no_count_of_its_tokens() -> None:
    envelope = conclude(LIMITED, transcript(), Exit("exited", 1), NOWHERE)
    assert not envelope.ok
    assert envelope.meta.warnings == []


def test_a_command_that_the_stop_interrupted_does_not_keep_the_answer_alive() -> None:
    said = transcript(*BEGAN, events.CommandStarted("i", "make"))
    assert said.phase == "command"
    said.add(BEGAN[0])
    assert (said.phase, said.open_commands, said.turns) == ("answering", {}, 1)
    assert [(each.command, each.exit_code) for each in said.commands] == [
        ("make", None)
    ]
    assert not said.sandbox_broken


STARTED = b'{"type":"thread.started","thread_id":"%s"}' % THREAD.encode()
SAID = b'{"type":"item.completed","item":{"id":"1","type":"agent_message","text":"Looking."}}'
ENDED = b'{"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":1}}'


@pytest.mark.parametrize("room", [10**6, len(STARTED) + 1])
def test_in_the_record_too_a_message_of_the_first_turn_is_no_answer_of_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr("codex_counsel.jobs.journal.MAX_EVENTS", room)
    journal = Journal(str(tmp_path))
    journal.add_event(STARTED, begins_thread=True)
    journal.add_event(SAID, decides_answer=True)
    journal.add_event(STARTED, begins_thread=True)
    journal.add_event(ENDED, ends_turn=True)
    said = recorded_transcript(tmp_path)
    assert (said.is_last_turn, said.completed, said.answer) == (True, True, None)
    envelope = conclude(LIMITED, said, Exit("died"), NOWHERE)
    assert envelope.error
    assert envelope.error.code == Code.BUDGET_REACHED
    assert envelope.meta.budget_reached


def test_a_list_of_runs_shows_which_were_cut_short() -> None:
    assert _state({"status": "completed", "cut_short": True}) == "cut short"
    assert _state({"status": "completed"}) == "done"
    assert _state({"status": "completed", "cut_short": True, "verdict": "unknown"}) == (
        "unknown"
    )
    assert Meta().budget_reached is None
