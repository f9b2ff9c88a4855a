"""What came of each item of a batch: its row, the words for it, and what the rows together end with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from codex_counsel.batch.model import LOST, Kind
from codex_counsel.contract.envelope import Envelope, EnvelopeDict, Failure, Usage
from codex_counsel.contract.vocabulary import CheckStatus, Verdict
from codex_counsel.errors import CATALOG, DONE, FAILED, FOUND, NOTHING, Code
from codex_counsel.services.checking import Bar, exit_code, judge
from codex_counsel.system.text import one_line

State = Literal["completed", "nothing", "failed", "cancelled", "lost", "missing"]
"""`nothing`: there was nothing to review. `lost`: nobody knows whether the model had answered.
`missing`: it has no result yet."""
STATES: dict[State, str] = {
    "completed": "completed",
    "nothing": "nothing to review",
    "failed": "failed",
    "cancelled": "cancelled",
    "lost": "lost",
    "missing": "not run",
}
"""In the words of people."""
UNKNOWN: tuple[State, ...] = ("lost", "failed", "cancelled", "missing")
"""Items of which the batch says nothing, those first that need a decision."""
REVIEWS: tuple[Kind, ...] = ("review", "plan")
MAX_SUMMARY = 160
"""Characters of an answer in the row of its item."""


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one item. `repository` is for people; empty where all items have the same.

    `findings` are those that nobody rejected and no test refuted, `counted` those of them
    at or above the bar. `tokens` are input and output together. `summary` is the beginning
    of an answer, or what a task has changed; empty for reviews. `exit_code` is what the item
    alone would end with.
    """

    id: str
    kind: Kind
    repository: str = ""
    state: State = "missing"
    verdict: Verdict | None = None
    check: CheckStatus | None = None
    findings: int = 0
    counted: int = 0
    tokens: int = 0
    elapsed_ms: int | None = None
    job_id: str | None = None
    summary: str = ""
    has_diff: bool = False
    error: Failure | None = None
    exit_code: int = FAILED


def row_of(row: Row, envelope: Envelope, wire: EnvelopeDict, bar: Bar) -> Row:
    """The row of an item that had none, with its result: `wire` as it is stored, and parsed."""
    meta = envelope.meta
    state = _state_of(envelope)
    counted = 0
    if row.kind in REVIEWS:
        counted = len(bar.counted(envelope))
    check = envelope.check
    return replace(
        row,
        state=state,
        verdict=envelope.verdict,
        check=check.status if check else None,
        findings=sum(not one.is_settled for one in envelope.findings or ()),
        counted=counted,
        tokens=_tokens(meta.usage) + _tokens(meta.usage_proofs),
        elapsed_ms=meta.elapsed_ms,
        job_id=meta.job_id or envelope.job_id,
        summary=_short_summary(row.kind, envelope),
        has_diff=bool(envelope.files),
        error=_short(envelope.error),
        exit_code=_exit_code_of(row.kind, state, envelope, wire, bar),
    )


def damaged(row: Row) -> Row:
    """The row of an item whose stored result cannot be parsed."""
    meaning = CATALOG[Code.JOB_CORRUPT]
    error = Failure(
        code=Code.JOB_CORRUPT,
        message="Its line in results.jsonl is no envelope",
        repair=meaning.repair,
        retryable=False,
    )
    return replace(row, state="failed", error=error)


def items_sentence(rows: Sequence[Row]) -> str:
    """How many items there are, and how they ended: `300 items: 290 completed, 10 lost`, with a full stop."""
    states = Counter(row.state for row in rows)
    parts = [f"{states[state]} {STATES[state]}" for state in STATES if states[state]]
    return f"{_items(len(rows))}: {', '.join(parts) or 'none'}."


def exit_of(rows: Sequence[Row], bar: Bar) -> tuple[int, str]:
    """What the batch ends with, and why in half a sentence."""
    failing = [row for row in rows if row.exit_code == FOUND]
    checks = sum(row.kind not in REVIEWS for row in failing)
    reasons = []
    if len(failing) > checks:
        reasons.append(f"{_items(len(failing) - checks)} with findings that count")
    if checks:
        reasons.append(f"{_items(checks)} whose check did not pass")
    if reasons:
        return FOUND, " and ".join(reasons)
    unknown = [row for row in rows if row.exit_code not in (DONE, NOTHING)]
    if unknown:
        return FAILED, f"{_items(len(unknown))} without a result that counts"
    if not any(row.exit_code == DONE for row in rows):
        return NOTHING, "there was nothing to review"
    if not any(row.kind in REVIEWS for row in rows):
        return DONE, "every item was completed"
    if bar.fail_on == "never":
        return DONE, "every item ended, and no finding is to fail the batch"
    return DONE, "every item ended, without a finding that counts"


def _items(count: int) -> str:
    noun = "item" if count == 1 else "items"
    return f"{count:,} {noun}"


def _state_of(envelope: Envelope) -> State:
    error = envelope.error
    if envelope.ok and envelope.status == "completed":
        return "completed"
    if envelope.ok:
        return "missing"
    code = error.code if error else ""
    if code in LOST:
        return "lost"
    if code == Code.NOTHING_TO_REVIEW:
        return "nothing"
    if envelope.status == "cancelled":
        return "cancelled"
    return "failed"


def _short(error: Failure | None) -> Failure | None:
    """What a list shows of an error."""
    if error is None:
        return None
    return Failure(
        code=one_line(error.code, 80),
        message=one_line(error.message, 500),
        repair=one_line(error.repair, 500),
        retryable=error.retryable,
    )


def _short_summary(kind: Kind, envelope: Envelope) -> str:
    if kind in REVIEWS or not envelope.ok:
        return ""
    return one_line(envelope.summary, MAX_SUMMARY)


def _exit_code_of(
    kind: Kind, state: State, envelope: Envelope, wire: EnvelopeDict, bar: Bar
) -> int:
    if state == "nothing":
        return NOTHING
    if state != "completed":
        return FAILED
    if kind not in REVIEWS:
        return exit_code(wire, bar)
    code = judge(envelope, bar).exit_code
    if code == DONE and envelope.meta.next_cursor:
        # The rest of the result is not here.
        return FAILED
    return code


def _tokens(usage: Usage | None) -> int:
    if usage is None:
        return 0
    return usage.input + usage.output
