"""What a batch came to: a row for each item, all findings as one review, and an exit code.

Results are read one after the other. Of a finding is kept what documents show, and of all
findings the gravest `MAX_FINDINGS`; the others are counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from codex_counsel.batch.generate import Names, repository_name
from codex_counsel.batch.model import LOST, Item, Kind
from codex_counsel.batch.sources import SELF
from codex_counsel.contract.envelope import (
    Coverage,
    Envelope,
    EnvelopeDict,
    Failure,
    Finding,
    Meta,
    Omission,
    Resolved,
    Usage,
)
from codex_counsel.contract.vocabulary import (
    GROUNDINGS,
    SEVERITIES,
    CheckStatus,
    Verdict,
)
from codex_counsel.errors import CATALOG, DONE, FAILED, FOUND, NOTHING, Code
from codex_counsel.jobs.store import Store
from codex_counsel.services.checking import Bar, exit_code, judge
from codex_counsel.services.code_context import Snippet, snippets
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line

TOOL = "codex-counsel batch"
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
MAX_FINDINGS = 2_000
MAX_OMITTED = 500
"""Omitted files that are listed."""
MAX_RESOLVED = 500
MAX_TEXT = 2_000
"""Characters of one text of a finding."""
MAX_REPLACEMENT = 4_000
"""Characters of a proposed replacement or a test; a longer one is left out."""
MAX_NAMES = 5
"""Items that a finding names."""
MAX_WARNINGS = 20
MAX_SUMMARY = 160
"""Characters of an answer in the row of its item."""
CODE_SECONDS = 20.0
"""After so much time no further job's repository is read for the code beside findings."""
_KNOWN = ("returned", "new", None, "open", "rejected")
"""States of a finding on record, the one first that says most for it."""


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


@dataclass(frozen=True)
class Summary:
    """`rows` are in the order of the requests. `review` is the review of all, as the writers of formats take it.

    `review.data` has the counts. `code_from` says for each shown finding which job reviewed
    it, as (the finding, the job, its file there).
    """

    rows: list[Row]
    review: Envelope
    exit_code: int
    reason: str
    code_from: list[tuple[Finding, str, str | None]] = field(repr=False)

    @property
    def has_reviews(self) -> bool:
        """Whether anything was to be reviewed: else there is no document but the list of items."""
        return any(row.kind in REVIEWS for row in self.rows)

    def code(self, store: Store) -> dict[str, Snippet]:
        """The code beside the findings, by `code_context.snippet_key`, as far as it can be read in `CODE_SECONDS`."""
        deadline = time.monotonic() + CODE_SECONDS
        by_job: dict[str, list[Finding]] = {}
        for finding, job_id, file in self.code_from:
            if finding.id:
                by_job.setdefault(job_id, []).append(replace(finding, file=file))
        found: dict[str, Snippet] = {}
        for job_id, findings in by_job.items():
            if time.monotonic() > deadline:
                break
            part = replace(
                self.review, findings=findings, meta=Meta(job_id=job_id), coverage=None
            )
            found |= snippets(store, part)
        return found


def summarize(
    items: Iterable[Item],
    results: Iterable[tuple[str, EnvelopeDict]],
    bar: Bar | None = None,
) -> Summary:
    """What a batch came to. `results` are whole envelopes by the ids of their items, each once, in any order."""
    totals = Totals(items, bar or Bar())
    for item_id, wire in results:
        totals.add(item_id, wire)
    return totals.summary()


@dataclass(slots=True)
class _Found:
    """A finding, as the gravest item has it, and who reported it."""

    finding: Finding
    file: str | None
    job_id: str
    items: list[str]
    count: int = 1


_Key = tuple[object, ...]


class Totals:
    """Adds up results as they come."""

    def __init__(self, items: Iterable[Item], bar: Bar) -> None:
        self._bar = bar
        self._rows: dict[str, Row] = {}
        self._roots: dict[str, int] = {}
        self._names: list[str] = []
        numbers: dict[Path, int] = {}
        names = Names()
        for item in items:
            number = numbers.setdefault(item.root, len(numbers))
            if number == len(self._names):
                self._names.append(names.free(_name_of(item)))
            self._roots[item.id] = number
            self._rows[item.id] = Row(item.id, item.kind)
        self._found: dict[_Key, _Found] = {}
        self._left_out = 0
        self._left_out_open: Counter[str] = Counter()
        self._seen: set[_Key] = set()
        self._resolved: dict[_Key, Resolved] = {}
        self._verdicts: Counter[Verdict] = Counter()
        self._doubtful: list[str] = []
        self._coverage = Coverage()
        self._omitted = 0
        self._usage: list[Usage] = []
        self._proofs: list[Usage] = []
        self._elapsed = 0

    # --- adding

    def add(self, item_id: str, wire: EnvelopeDict) -> None:
        """The result of one item. One of no item of this batch is left alone."""
        row = self._rows.get(item_id)
        if row is None:
            return
        try:
            envelope = Envelope.parse(wire)
        except (ValueError, RecursionError):
            self._rows[item_id] = replace(row, state="failed", error=_damaged())
            return
        self._rows[item_id] = self._row(row, envelope, wire)
        self._add_usage(envelope.meta)
        is_whole = envelope.ok and envelope.status == "completed"
        if row.kind in REVIEWS and is_whole:
            self._add_review(item_id, envelope)

    def _row(self, row: Row, envelope: Envelope, wire: EnvelopeDict) -> Row:
        meta = envelope.meta
        counted = 0
        if row.kind in REVIEWS:
            counted = len(self._bar.counted(envelope))
        check = envelope.check
        state = _state_of(envelope)
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
            exit_code=self._exit_code(row.kind, state, envelope, wire),
        )

    def _exit_code(
        self, kind: Kind, state: State, envelope: Envelope, wire: EnvelopeDict
    ) -> int:
        if state == "nothing":
            return NOTHING
        if state != "completed":
            return FAILED
        if kind not in REVIEWS:
            return exit_code(wire, self._bar)
        code = judge(envelope, self._bar).exit_code
        if code == DONE and envelope.meta.next_cursor:
            # The rest of the result is not here.
            return FAILED
        return code

    def _add_usage(self, meta: Meta) -> None:
        # One sum instead of a list of all.
        if meta.usage:
            self._usage = [_sum([*self._usage, meta.usage])]
        if meta.usage_proofs:
            self._proofs = [_sum([*self._proofs, meta.usage_proofs])]
        self._elapsed += meta.elapsed_ms or 0

    def _add_review(self, item_id: str, review: Envelope) -> None:
        verdict = review.verdict or "unknown"
        self._verdicts[verdict] += 1
        self._add_coverage(item_id, review)
        is_complete = review.coverage is None or review.coverage.complete
        is_cut = review.meta.budget_reached or review.meta.next_cursor
        if verdict == "unknown" or is_cut or not is_complete:
            self._doubtful.append(item_id)
        root = self._roots[item_id]
        file = review.meta.project_file
        for finding in review.findings or ():
            if file and file.fail_on and not finding.fail_on:
                # All findings together have no project file.
                finding.fail_on = file.fail_on
            self._add_finding(item_id, root, finding, review.meta.job_id or "")
        for resolved in review.resolved or ():
            if len(self._resolved) < MAX_RESOLVED:
                named = replace(resolved, file=self._named(root, resolved.file))
                self._resolved.setdefault((root, resolved.id), named)

    def _add_coverage(self, item_id: str, review: Envelope) -> None:
        coverage = review.coverage
        if coverage is None:
            return
        total = self._coverage
        total.files += coverage.files
        total.bytes += coverage.bytes
        total.redactions += coverage.redactions
        if coverage.skipped:
            total.skipped = (total.skipped or 0) + coverage.skipped
        for omission in coverage.omitted:
            self._omitted += 1
            if len(total.omitted) < MAX_OMITTED:
                path = self._named(self._roots[item_id], omission.path) or ""
                total.omitted.append(
                    Omission(path=path, reason=omission.reason, bytes=omission.bytes)
                )

    def _add_finding(
        self, item_id: str, root: int, finding: Finding, job_id: str
    ) -> None:
        key = _key(root, finding)
        known = self._found.get(key)
        if known is None:
            if key in self._seen:
                return
            self._seen.add(key)
            named = _trimmed(finding, self._named(root, finding.file))
            self._found[key] = _Found(named, finding.file, job_id, [item_id])
            if len(self._found) >= 2 * MAX_FINDINGS:
                self._keep_gravest()
            return
        known.count += 1
        if len(known.items) < MAX_NAMES:
            known.items.append(item_id)
        if _gravity(finding) < _gravity(known.finding):
            known.finding = _trimmed(finding, self._named(root, finding.file))
            known.file, known.job_id = finding.file, job_id

    def _keep_gravest(self) -> None:
        order = sorted(self._found, key=lambda key: _gravity(self._found[key].finding))
        for key in order[MAX_FINDINGS:]:
            finding = self._found.pop(key).finding
            self._left_out += 1
            if not finding.is_settled:
                self._left_out_open[finding.severity] += 1

    def _named(self, root: int, file: str | None) -> str | None:
        """The file with the name of its repository, where there are several."""
        if file is None or len(self._names) < 2:
            return file
        return f"{self._names[root]}/{file}"

    # --- at the end

    def summary(self) -> Summary:
        """All of it. An item without a result is `missing`."""
        self._keep_gravest()
        rows = [self._with_repository(row) for row in self._rows.values()]
        code, reason = _exit_of(rows, self._bar)
        found = sorted(self._found.values(), key=lambda one: _gravity(one.finding))
        shown = [_with_items(one) for one in found]
        code_from = [
            (finding, one.job_id, one.file)
            for finding, one in zip(shown, found, strict=True)
        ]
        review = self._review(rows, shown, code, reason)
        return Summary(rows, review, code, reason, code_from)

    def _with_repository(self, row: Row) -> Row:
        if len(self._names) < 2:
            return row
        return replace(row, repository=self._names[self._roots[row.id]])

    def _review(
        self, rows: list[Row], findings: list[Finding], code: int, reason: str
    ) -> Envelope:
        reviews = [row for row in rows if row.kind in REVIEWS]
        unknown = [row for row in reviews if row.state in UNKNOWN]
        is_complete = bool(reviews) and not unknown and not self._doubtful
        verdict = self._verdict(is_complete=is_complete)
        self._coverage.complete = is_complete
        states = Counter(row.state for row in rows)
        data: JsonObject = {"items": len(rows)}
        for state in STATES:
            data[state] = states[state]
        data["tokens"] = sum(row.tokens for row in rows)
        data |= {"exit_code": code, "reason": reason}
        is_reviewed = bool(reviews)
        return Envelope(
            ok=True,
            status="completed",
            tool=TOOL,
            summary=self._words(rows, findings, verdict),
            verdict=verdict if is_reviewed else None,
            findings=findings if is_reviewed else None,
            resolved=self._resolved_list() or None,
            coverage=self._coverage if is_reviewed else None,
            data=data,
            meta=Meta(
                scope={"kind": "batch"},
                usage=Usage.total(self._usage),
                usage_proofs=Usage.total(self._proofs),
                elapsed_ms=self._elapsed,
                warnings=list(self._warnings(unknown)),
            ),
        )

    def _verdict(self, *, is_complete: bool) -> Verdict:
        """A fault that was found is one, whatever was not seen; without one, what was not seen decides."""
        if self._verdicts["fail"]:
            return "fail"
        if not is_complete or not self._verdicts:
            return "unknown"
        if self._verdicts["concerns"]:
            return "concerns"
        return "pass"

    def _resolved_list(self) -> list[Resolved]:
        """Without those that another item has found."""
        return [one for key, one in self._resolved.items() if key not in self._seen]

    def _words(self, rows: list[Row], findings: list[Finding], verdict: Verdict) -> str:
        counts = Counter(self._left_out_open)
        counts.update(one.severity for one in findings if not one.is_settled)
        parts = [f"{counts[name]} {name}" for name in SEVERITIES if counts[name]]
        listed = ", ".join(parts) or "no findings"
        sentence = items_sentence(rows)
        if not any(row.kind in REVIEWS for row in rows):
            return sentence
        return f"{verdict}: {listed}. {sentence}"

    def _warnings(self, unknown: list[Row]) -> Iterator[str]:
        for row in unknown[:MAX_WARNINGS]:
            yield f"{row.id}: {STATES[row.state]}; nothing is known of what it was to review"
        if len(unknown) > MAX_WARNINGS:
            more = len(unknown) - MAX_WARNINGS
            yield f"{more} more reviews have no result; results.jsonl has them"
        if self._doubtful:
            names = _listed(self._doubtful[:MAX_NAMES], len(self._doubtful))
            yield f"reviews without a verdict, or that did not see all of their change: {names}"
        if self._left_out:
            yield f"{self._left_out} findings are only counted here, the least grave ones; results.jsonl has them"
        if self._omitted > MAX_OMITTED:
            more = self._omitted - MAX_OMITTED
            yield f"{more} more files that were not sent are not listed"


def _name_of(item: Item) -> str:
    source = item.source
    if source == SELF:
        source = str(item.root)
    return repository_name(source)


def items_sentence(rows: list[Row]) -> str:
    """How many items there are, and how they ended: `300 items: 290 completed, 10 lost`, with a full stop."""
    states = Counter(row.state for row in rows)
    parts = [f"{states[state]} {STATES[state]}" for state in STATES if states[state]]
    return f"{_items(len(rows))}: {', '.join(parts) or 'none'}."


def _items(count: int) -> str:
    noun = "item" if count == 1 else "items"
    return f"{count:,} {noun}"


def _exit_of(rows: list[Row], bar: Bar) -> tuple[int, str]:
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


def _damaged() -> Failure:
    meaning = CATALOG[Code.JOB_CORRUPT]
    return Failure(
        code=Code.JOB_CORRUPT,
        message="Its line in results.jsonl is no envelope",
        repair=meaning.repair,
        retryable=False,
    )


def _tokens(usage: Usage | None) -> int:
    if usage is None:
        return 0
    return usage.input + usage.output


def _sum(usages: list[Usage]) -> Usage:
    return Usage.total(usages) or usages[0]


def _key(root: int, finding: Finding) -> _Key:
    """What makes two findings one: a repository and the id; a finding without an id is what it says and where."""
    if finding.id:
        return root, finding.id
    return (
        root,
        None,
        finding.file,
        finding.section,
        finding.line,
        one_line(finding.title, 500),
    )


def _gravity(finding: Finding) -> tuple[int, ...]:
    """The lower, the graver."""
    grounded = finding.grounded or "unverified"
    return (
        int(finding.is_settled),
        SEVERITIES.index(finding.severity),
        _KNOWN.index(finding.known),
        GROUNDINGS.index(grounded),
    )


def _trimmed(finding: Finding, file: str | None) -> Finding:
    """With what documents show of it, in a copy."""
    suggestion = finding.suggestion
    if suggestion and len(suggestion.replacement) > MAX_REPLACEMENT:
        suggestion = None
    proof = finding.proof
    if proof:
        is_long = len(proof.patch or "") > MAX_REPLACEMENT
        proof = replace(
            proof,
            reason=_cut(proof.reason) or "",
            patch=None if is_long else proof.patch,
            output_tail=_cut(proof.output_tail),
            command=_cut(proof.command),
        )
    return replace(
        finding,
        file=file,
        title=one_line(finding.title, 500),
        section=_cut(finding.section),
        evidence=_cut(finding.evidence),
        risk=_cut(finding.risk),
        recommendation=_cut(finding.recommendation),
        reason=_cut(finding.reason),
        suggestion=suggestion,
        proof=proof,
    )


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_TEXT:
        return text
    # An ellipsis would double the bytes of a text that is ASCII.
    return f"{text[:MAX_TEXT]} [...]"


def _with_items(found: _Found) -> Finding:
    """The finding, with the items that reported it in its text: no format has a field for them."""
    names = _listed(found.items, found.count)
    label = "Items" if found.count > 1 else "Item"
    sentence = f"{label}: {names}"
    risk = sentence
    if found.finding.risk:
        risk = f"{found.finding.risk}\n\n{sentence}"
    return replace(found.finding, risk=risk)


def _listed(names: list[str], count: int) -> str:
    text = ", ".join(names)
    if count > len(names):
        text += f" and {count - len(names)} more"
    return text
