"""What becomes of a run when it has ended, without any process: transcript and ending in, envelope out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from codex_counsel.codex import events
from codex_counsel.codex.transcript import Transcript
from codex_counsel.contract.envelope import Check, Envelope, Meta, Usage
from codex_counsel.delegate.conclude import add_result
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.kinds import KINDS, Kind
from codex_counsel.jobs.run import conclude
from codex_counsel.jobs.turns import Exit, seconds_since_other_activity
from codex_counsel.kind import EndedRun, failed_run
from tests.specs import SPEC

TOKEN = "ghp_" + "a1B2c3D4e5" * 4
NOWHERE = Path("/nonexistent")
ANSWERED = (
    events.Message("The answer."),
    events.TurnCompleted(events.Tokens(1, 0, 1, 0)),
)


def transcript(*said: events.Event) -> Transcript:
    found = Transcript()
    for event in said:
        found.add(event)
    return found


def test_a_cancel_that_came_after_a_message_keeps_it() -> None:
    envelope = conclude(SPEC, transcript(ANSWERED[0]), Exit("cancelled"), NOWHERE)
    assert (envelope.status, envelope.answer, envelope.partial) == (
        "cancelled",
        "The answer.",
        True,
    )


@pytest.mark.parametrize(
    "record",
    [
        (events.Message("Looking."), events.Damaged(b"{"), ANSWERED[1]),
        (events.Damaged(b"{"), ANSWERED[1]),
        (events.Message("Looking."), events.Damaged(b"{")),
    ],
    ids=["a message", "the only message", "the end of the turn"],
)
def test_an_interim_message_is_not_the_answer_where_a_later_line_was_damaged(
    record: tuple[events.Event, ...],
) -> None:
    envelope = conclude(SPEC, transcript(*record), Exit("exited", 0), NOWHERE)
    assert envelope.error
    assert envelope.error.code == Code.INCOMPLETE
    interim = None
    if isinstance(record[0], events.Message):
        interim = "Looking."
    assert (envelope.ok, envelope.answer) == (False, interim)


def test_tokens_in_what_codex_and_its_commands_say_are_masked() -> None:
    record = transcript(
        events.ItemWarning(f"bad key {TOKEN}"),
        events.CommandStarted("i", f"curl -u {TOKEN}"),
        *ANSWERED,
    )
    assert TOKEN not in (record.last_command or "")
    record.add(events.CommandEnded("i", f"curl -u {TOKEN}", 0, ""))
    assert TOKEN not in (record.last_command or "")
    (warning,) = conclude(SPEC, record, Exit("exited", 0), NOWHERE).meta.warnings
    assert "[masked:" in warning
    assert TOKEN not in warning


def test_tokens_in_the_reason_for_a_failure_are_masked() -> None:
    began = events.ThreadStarted("t")
    for said, ending in (
        ((began, events.Notice(f"Reconnecting with {TOKEN}")), Exit("timeout")),
        ((began, events.Notice(f"Reconnecting with {TOKEN}")), Exit("exited", 1)),
        ((began,), Exit("exited", 1, f"Error: {TOKEN}")),
        ((), Exit("exited", 1, f"Error: {TOKEN}")),
        ((began, events.TurnFailed(f"no {TOKEN}")), Exit("exited", 1)),
    ):
        error = conclude(SPEC, transcript(*said), ending, NOWHERE).error
        assert error
        assert "[masked:" in error.message
        assert TOKEN not in error.message


def test_a_token_that_a_control_character_divides_is_masked_in_a_tasks_commands() -> (
    None
):
    envelope = Envelope(
        ok=True, status="completed", tool="codex_delegate", summary="", meta=Meta()
    )
    add_result(envelope, None, [(f"curl {TOKEN[:9]}\x07{TOKEN[9:]}", 0)])
    assert envelope.checks == [Check(command="curl [masked:github-token]", exit_code=0)]


def test_a_task_that_never_started_lists_no_commands_at_all() -> None:
    envelope = Envelope(
        ok=False, status="failed", tool="codex_delegate", summary="", meta=Meta()
    )
    add_result(envelope, None, ())
    assert envelope.checks is None


LOG = "2026-11-21T19:58:52.033103Z ERROR codex_core::session: "


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        (f"{LOG}it is shut: No file descriptors (os error 24)\n", "resource_limit"),
        ("memory allocation of 4194304 bytes failed", "resource_limit"),
        (f"{LOG}Resource temporarily unavailable (os error 11)", "network_unavailable"),
        ("", "network_unavailable"),
    ],
)
def test_a_network_that_fails_for_want_of_descriptors_or_memory_is_named_so(
    stderr: str, code: str
) -> None:
    failed = events.TurnFailed("Connection failed: error sending request")
    envelope = conclude(SPEC, transcript(failed), Exit("exited", 1, stderr), NOWHERE)
    assert envelope.error
    assert envelope.error.code == code
    assert "ERROR" not in envelope.error.message


def test_little_memory_is_named_where_codex_died_without_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (200 << 20, 200 << 20))
    codes = []
    for ending in (Exit("exited", -11), Exit("timeout"), Exit("died")):
        envelope = conclude(SPEC, transcript(), ending, NOWHERE)
        assert envelope.error
        codes.append(envelope.error.code)
    assert codes == [Code.RESOURCE_LIMIT, Code.RESOURCE_LIMIT, Code.PROCESS_DIED]


def test_a_token_in_what_was_said_before_a_failure_is_masked() -> None:
    said = (
        events.ThreadStarted("t"),
        events.Message(f"use {TOKEN}"),
        events.TurnFailed("no"),
    )
    envelope = conclude(SPEC, transcript(*said), Exit("exited", 1), NOWHERE)
    masked = "use [masked:github-token]"
    assert envelope.error
    assert envelope.error.details
    assert (envelope.answer, envelope.error.details["last_message"]) == (masked, masked)


@pytest.mark.parametrize(
    "reason",
    [
        "timeout",
        "stalled",
        "quota",
        "cancelled",
        "abandoned",
        "died",
        "unsaved",
    ],
)
def test_an_answer_stands_though_codex_had_to_be_ended_after_its_turn(
    reason: str,
) -> None:
    envelope = conclude(SPEC, transcript(*ANSWERED), Exit(reason), NOWHERE)
    assert (envelope.ok, envelope.answer) == (True, "The answer.")


def test_processes_that_could_not_be_ended_are_named_with_a_result_and_a_failure() -> (
    None
):
    success = conclude(
        SPEC, transcript(*ANSWERED), Exit("exited", 0, survivors=(4711,)), NOWHERE
    )
    assert success.ok
    assert success.meta.warnings == ["processes that could not be ended: [4711]"]
    failed = conclude(
        SPEC, transcript(), Exit("cancelled", survivors=(4711,)), NOWHERE
    ).error
    assert failed
    assert failed.details == {"survivors": [4711]}


def test_a_record_of_the_thread_that_grows_and_a_running_command_are_signs_of_life(
    tmp_path: Path,
) -> None:
    thread = "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f"
    spec = replace(SPEC, codex_home=str(tmp_path))
    told = transcript(events.ThreadStarted(thread))
    assert seconds_since_other_activity(spec, told) == float("inf")
    day = tmp_path / "sessions/2026/01/01"
    day.mkdir(parents=True)
    (day / f"rollout-2026-01-01T00-00-00-{thread}.jsonl").touch()
    assert seconds_since_other_activity(spec, told) < float("inf")
    told.add(events.CommandStarted("i", "make"))
    assert seconds_since_other_activity(spec, told) == 0


def test_tokens_of_a_continued_thread_are_not_those_of_its_last_turn() -> None:
    told = transcript(events.ThreadStarted("t"), *ANSWERED)
    first = conclude(SPEC, told, Exit("exited", 0), NOWHERE)
    assert first.meta.usage == Usage(input=1, cached_input=0, output=1, reasoning=0)
    continued = replace(SPEC, session_id="t")
    assert conclude(continued, told, Exit("exited", 0), NOWHERE).meta.usage is None


def test_a_run_without_a_shell_needs_no_host_of_code_mode() -> None:
    record = transcript(
        events.ItemWarning("Code Mode is unavailable because the host was not found."),
        *ANSWERED,
    )
    envelope = conclude(
        replace(SPEC, argv=("codex", "-c", "features.shell_tool=false")),
        record,
        Exit("exited", 0),
        NOWHERE,
    )
    blind = conclude(SPEC, record, Exit("exited", 0), NOWHERE)
    assert envelope.answer == "The answer."
    assert blind.error
    assert (blind.error.code, blind.partial) == (Code.SANDBOX_UNAVAILABLE, True)


def test_what_a_kind_refuses_is_concluded_by_that_kind_as_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def conclude_kind(ended: EndedRun) -> Envelope:
        if ended.error:
            return failed_run(ended, ended.error)
        raise CounselError(Code.INCOMPLETE, "It does not match.")

    monkeypatch.setitem(KINDS, "consult", Kind(conclude_kind))
    envelope = conclude(
        SPEC,
        transcript(events.ThreadStarted("t"), *ANSWERED),
        Exit("exited", 0),
        NOWHERE,
    )
    assert envelope.error
    assert (envelope.error.code, envelope.error.message) == (
        Code.INCOMPLETE,
        "It does not match.",
    )
    assert envelope.error.details == {"session_id": "t", "last_message": "The answer."}
    assert (envelope.answer, envelope.partial) == ("The answer.", True)


def test_a_defect_of_a_kind_costs_nobody_what_codex_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def conclude_kind(_: EndedRun) -> Envelope:
        raise ZeroDivisionError

    monkeypatch.setitem(KINDS, "consult", Kind(conclude_kind))
    envelope = conclude(SPEC, transcript(*ANSWERED), Exit("exited", 0), NOWHERE)
    assert envelope.error
    assert envelope.error.code == Code.INTERNAL
    assert "ZeroDivisionError" in envelope.error.message
    assert (envelope.answer, envelope.partial) == ("The answer.", True)


def test_a_reason_that_only_the_caller_knows_comes_before_what_the_transcript_shows() -> (
    None
):
    unstartable = CounselError(Code.STORAGE_FAILED, "The disk is full.")
    envelope = conclude(SPEC, transcript(), Exit("exited"), NOWHERE, unstartable)
    assert envelope.error
    assert (envelope.error.code, envelope.answer) == (Code.STORAGE_FAILED, None)


def test_a_kind_gets_the_last_commands_that_ended_and_those_that_still_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[EndedRun] = []

    def conclude_kind(ended: EndedRun) -> Envelope:
        runs.append(ended)
        raise CounselError(Code.INCOMPLETE, "")

    monkeypatch.setitem(KINDS, "consult", Kind(conclude_kind))
    commands = [events.CommandEnded(str(n), f"make {n}", 0, "") for n in range(60)]
    running = events.CommandStarted("last", "make all")
    conclude(SPEC, transcript(*commands, running), Exit("timeout"), NOWHERE)
    assert [command for command, _ in runs[0].commands] == [
        *(f"make {n}" for n in range(10, 60)),
        "make all",
    ]
    assert runs[0].commands[-1] == ("make all", None)


@pytest.mark.parametrize("ending", [Exit("exited", 0), Exit("timeout")], ids=str)
def test_a_token_divided_by_a_control_character_is_masked(ending: Exit) -> None:
    divided = events.Message(f"{TOKEN[:8]}\x07{TOKEN[8:]}")
    done = ANSWERED[1:] if ending.reason == "exited" else ()
    envelope = conclude(SPEC, transcript(divided, *done), ending, NOWHERE)
    assert envelope.answer == "[masked:github-token]"
