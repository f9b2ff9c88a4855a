"""What becomes of a run when it has ended, without any process: transcript and ending in, envelope out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from codex_counsel.codex import events
from codex_counsel.codex.transcript import Transcript
from codex_counsel.contract.envelope import Envelope
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.kinds import KINDS, Kind
from codex_counsel.jobs.run import Exit, conclude
from codex_counsel.jobs.spec import Spec
from codex_counsel.kind import EndedRun, failure

TOKEN = "ghp_" + "a1B2c3D4e5" * 4
SPEC = Spec(
    job_id="j",
    tool="codex_consult",
    subject="Is it fine?",
    created=0,
    argv=("codex",),
    cwd="/",
    codex_home="/nonexistent",
    state="/nonexistent",
    scratch="/nonexistent",
    total=60,
    idle=60,
    slots=1,
    account="account",
    backoff=60,
    ttl=60,
    workspace="/",
    meta={},
)
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


def test_a_cancel_that_came_after_the_answer_keeps_it() -> None:
    envelope = conclude(SPEC, transcript(*ANSWERED), Exit("cancelled"), NOWHERE)
    assert (envelope.status, envelope.answer, envelope.partial) == (
        "cancelled",
        "The answer.",
        True,
    )


def test_tokens_in_what_codex_and_its_commands_say_are_masked() -> None:
    told = transcript(
        events.ItemWarning(f"bad key {TOKEN}"),
        events.CommandStarted("i", f"curl -u {TOKEN}"),
        *ANSWERED,
    )
    assert TOKEN not in (told.last_command or "")
    told.add(events.CommandEnded("i", f"curl -u {TOKEN}", 0, ""))
    assert TOKEN not in (told.last_command or "")
    (warning,) = conclude(SPEC, told, Exit("exited", 0), NOWHERE).meta.warnings
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


def test_a_run_without_a_shell_needs_no_host_of_code_mode() -> None:
    told = transcript(
        events.ItemWarning("Code Mode is unavailable because the host was not found."),
        *ANSWERED,
    )
    seen = conclude(
        replace(SPEC, argv=("codex", "-c", "features.shell_tool=false")),
        told,
        Exit("exited", 0),
        NOWHERE,
    )
    blind = conclude(SPEC, told, Exit("exited", 0), NOWHERE)
    assert seen.answer == "The answer."
    assert blind.error
    assert (blind.error.code, blind.partial) == (Code.SANDBOX_UNAVAILABLE, True)


def test_what_a_kind_refuses_is_concluded_by_that_kind_as_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def conclude_kind(ended: EndedRun) -> Envelope:
        if ended.error:
            return failure(ended, ended.error)
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
