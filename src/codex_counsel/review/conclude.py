"""What becomes of a review."""

from __future__ import annotations

from codex_counsel.contract.envelope import Envelope
from codex_counsel.kind import EndedRun, failure, remove_scratch
from codex_counsel.review.record import ReviewRecord, answered


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of an ended review."""
    remove_scratch(ended)
    if ended.error:
        return failure(ended, ended.error)
    return answered(ended.tool, ended.answer or "", ReviewRecord(**ended.details["review"]), ended.meta)
