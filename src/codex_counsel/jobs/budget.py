"""What a run that used up its tokens tells its caller."""

from __future__ import annotations

from codex_counsel.codex.transcript import Transcript
from codex_counsel.contract.envelope import BudgetReached, Envelope, Meta
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.turns import Exit
from codex_counsel.kind import CUT_SHORT
from codex_counsel.system.supervisor import BUDGET

OWN_REASONS = (
    Code.USAGE_LIMIT,
    Code.RATE_LIMITED,
    Code.AUTH_REQUIRED,
    Code.BUDGET_REACHED,
)
"""Failures of the turn that answers which matter more to a caller than the budget."""


def note(meta: Meta, spec: Spec, transcript: Transcript, exit_: Exit) -> None:
    """Set `budget_reached` where the run was cut short, and warn where its tokens could not be counted."""
    if spec.max_tokens is None:
        return
    if meta.usage is None and (transcript.is_over or transcript.is_last_turn):
        meta.warnings.append(
            "Codex left no count of the tokens of this run, so max_tokens may not have been kept"
        )
    was_stopped = exit_.reason == BUDGET and not transcript.completed
    if not was_stopped and not transcript.is_last_turn:
        return
    used = spec.max_tokens
    if meta.usage:
        used = meta.usage.input + meta.usage.output
    meta.budget_reached = BudgetReached(limit=spec.max_tokens, used=used)


def no_answer(
    error: CounselError, spec: Spec, transcript: Transcript, exit_: Exit
) -> CounselError:
    """The error of a run whose turn that answers failed by itself; any other error as it is."""
    ended_by_itself = exit_.reason == "exited" or transcript.completed
    if not transcript.is_last_turn or not ended_by_itself or error.code in OWN_REASONS:
        return error
    return CounselError(
        Code.BUDGET_REACHED,
        f"The run used up its {spec.max_tokens} tokens. Asked to answer, Codex gave none: {error.message}",
        details=error.details,
    )


def mark_cut_short(envelope: Envelope) -> Envelope:
    """Say of an answer that its run was cut short; any other envelope as it is."""
    reached = envelope.meta.budget_reached
    if not envelope.ok or not reached:
        return envelope
    envelope.summary += f" (Cut short: the run used up its {reached.limit} tokens.)"
    envelope.meta.warnings.append(
        f"the run used up its {reached.limit} tokens {CUT_SHORT}"
    )
    return envelope
