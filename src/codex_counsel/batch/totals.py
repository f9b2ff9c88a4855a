"""What a batch counts of its results, and what it asks of an envelope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codex_counsel.batch.limits import PAID
from codex_counsel.batch.model import LOST
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code

NEVER_REPEATED = (*LOST, Code.NOTHING_TO_REVIEW, Code.PACK_INVALID, *PAID)
"""Codes of items without a job of which somebody may have a paid answer, or that have none to wait for."""

Retry = Literal["none", "lost", "failed"]
"""Which items a resume runs anew although they have ended: `failed` are all that ended with an error, lost ones too."""


@dataclass(frozen=True)
class Totals:
    """Of the results. `tokens` are input and output together.

    Lost items count as failed too, those with nothing to review do not.
    """

    ended: int = 0
    failed: int = 0
    lost: int = 0
    tokens: int = 0

    def plus(self, envelope: EnvelopeDict, count: int = 1) -> Totals:
        """With one more result; with `count=-1` without this one."""
        return Totals(
            self.ended + count,
            self.failed + count * is_failed(envelope),
            self.lost + count * is_lost(envelope),
            self.tokens + count * tokens_of(envelope),
        )


def code_of(envelope: EnvelopeDict) -> str | None:
    """The error code of a result; None where it has none."""
    error = envelope.get("error")
    if not isinstance(error, dict):
        return None
    return str(error.get("code"))


def is_failed(envelope: EnvelopeDict) -> bool:
    """Whether there is no answer, although there was something to ask about."""
    return not envelope["ok"] and code_of(envelope) != Code.NOTHING_TO_REVIEW


def is_lost(envelope: EnvelopeDict) -> bool:
    """Whether nobody knows if the model had answered."""
    return code_of(envelope) in LOST


def is_retried(envelope: EnvelopeDict, retry: Retry) -> bool:
    """Whether the item is to be run anew."""
    match retry:
        case "failed":
            return is_failed(envelope)
        case "lost":
            return is_lost(envelope)
        case "none":
            return False


def was_not_started(envelope: EnvelopeDict) -> bool:
    """Whether it is sure that there was no run, and something to run."""
    if envelope["ok"] or envelope["meta"].get("job_id"):
        return False
    return code_of(envelope) not in NEVER_REPEATED


def tokens_of(envelope: EnvelopeDict) -> int:
    """What a run used, input and output together, with the runs that it started."""
    total = 0
    for name in ("usage", "usage_proofs"):
        usage = envelope["meta"].get(name) or {}
        total += usage.get("input", 0) + usage.get("output", 0)
    return total
