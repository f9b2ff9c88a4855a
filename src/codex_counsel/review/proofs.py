"""What proofs say about the findings of a review, put beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from codex_counsel.contract.envelope import (
    Envelope,
    Finding,
    Proof,
    Suggestion,
    Usage,
)
from codex_counsel.kind import ChildOutcome, EndedRun
from codex_counsel.proof.record import UNFINISHED, Assignments, ProofRecord
from codex_counsel.review.quotations import LineRange
from codex_counsel.system.text import one_line

MAX_ERROR = 300
"""Characters of the message of a proof that failed."""


def add_proofs(findings: Sequence[Finding], ended: EndedRun) -> list[str]:
    """Give the findings what came of their proofs, and return the warnings. They are in the order of the sorted reply.

    A proof that did not end is inconclusive, with the reason. Severities stay: see
    `lower_refuted`.
    """
    assignments = Assignments.load(ended.directory)
    if assignments is None:
        return ["nothing was proven: the review was ended before its proofs began"]
    outcomes = {outcome.job_id: outcome for outcome in ended.children}
    for assignment in assignments.jobs:
        outcome = outcomes.get(assignment.job_id)
        record = _record_of(assignment.job_id, outcome)
        finding = findings[assignment.finding]
        finding.proof = record.proof
        if record.proof.status == "proven" and finding.grounded != "unverified":
            finding.grounded = "proven"
        if record.suggestion and _touches(record.suggestion, finding):
            finding.suggestion = record.suggestion
    return assignments.notes


def tokens_of(outcomes: Sequence[ChildOutcome]) -> Usage | None:
    """The tokens of all proofs; None where there were none. What a damaged record says is not counted."""
    usages = []
    for outcome in outcomes:
        with contextlib.suppress(ValueError):
            usages.append(Envelope.parse(outcome.envelope).meta.usage)
    return Usage.total(filter(None, usages))


def lower_refuted(findings: Sequence[Finding]) -> None:
    """Make refuted findings nits: they decide nothing. Their severity on record stays."""
    for finding in findings:
        if finding.is_refuted:
            finding.severity = "nit"


def _record_of(job_id: str, outcome: ChildOutcome | None) -> ProofRecord:
    if outcome is None:
        return _unfinished(job_id, "there is no result of its run")
    record = ProofRecord.load(outcome.directory)
    if record:
        return record
    if outcome.ok:
        return _unfinished(job_id, UNFINISHED)
    error = outcome.envelope.get("error") or {}
    message = one_line(str(error.get("message") or "no reason"), MAX_ERROR)
    return _unfinished(job_id, f"the run that was to write a test failed: {message}")


def _unfinished(job_id: str, reason: str) -> ProofRecord:
    return ProofRecord(proof=Proof(status="inconclusive", reason=reason, job_id=job_id))


def _touches(suggestion: Suggestion, finding: Finding) -> bool:
    """Whether it can be shown beside the finding: in its lines, or directly beside them."""
    if finding.line is None or finding.suggestion is not None:
        return False
    place = LineRange.of_finding(finding.line, finding.line_end)
    proposed = LineRange(suggestion.start_line, suggestion.end_line)
    return proposed.distance(place) <= 1
