"""What a batch came to: a row for each item, all findings as one review, and an exit code.

Results are read one after the other, and none is kept whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from codex_counsel.batch.all_findings import MAX_NAMES, AllFindings, listed
from codex_counsel.batch.model import Item
from codex_counsel.batch.names import Names, repository_name
from codex_counsel.batch.rows import (
    REVIEWS,
    STATES,
    UNKNOWN,
    Row,
    damaged,
    exit_of,
    items_sentence,
    row_of,
)
from codex_counsel.batch.sources import SELF
from codex_counsel.contract.envelope import (
    Coverage,
    Envelope,
    EnvelopeDict,
    Finding,
    Meta,
    Omission,
    Resolved,
    Usage,
)
from codex_counsel.contract.vocabulary import SEVERITIES, Verdict
from codex_counsel.jobs.store import Store
from codex_counsel.services.checking import Bar
from codex_counsel.services.code_context import Snippet, snippets
from codex_counsel.system.json_values import JsonObject

TOOL = "codex-counsel batch"
MAX_OMITTED = 500
"""Omitted files that are listed."""
MAX_RESOLVED = 500
MAX_WARNINGS = 20
CODE_SECONDS = 20.0
"""After so much time no further job's repository is read for the code beside findings."""


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
    collector = _Collector(items, bar or Bar())
    for item_id, wire in results:
        collector.add(item_id, wire)
    return collector.summary()


class _Collector:
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
        self._findings = AllFindings()
        self._resolved: dict[tuple[int, str], Resolved] = {}
        self._verdicts: Counter[Verdict] = Counter()
        self._doubtful: list[str] = []
        self._coverage = Coverage()
        self._omitted = 0
        self._usage: Usage | None = None
        self._usage_proofs: Usage | None = None
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
            self._rows[item_id] = damaged(row)
            return
        self._rows[item_id] = row_of(row, envelope, wire, self._bar)
        self._add_usage(envelope.meta)
        is_whole = envelope.ok and envelope.status == "completed"
        if row.kind in REVIEWS and is_whole:
            self._add_review(item_id, envelope)

    def _add_usage(self, meta: Meta) -> None:
        self._usage = _sum(self._usage, meta.usage)
        self._usage_proofs = _sum(self._usage_proofs, meta.usage_proofs)
        self._elapsed += meta.elapsed_ms or 0

    def _add_review(self, item_id: str, review: Envelope) -> None:
        verdict = review.verdict or "unknown"
        self._verdicts[verdict] += 1
        self._add_coverage(item_id, review)
        is_complete = review.coverage is None or review.coverage.complete
        is_cut = review.meta.budget_reached or review.meta.next_cursor
        if verdict == "unknown" or is_cut or not is_complete:
            self._doubtful.append(item_id)
        self._add_findings(item_id, review)

    def _add_findings(self, item_id: str, review: Envelope) -> None:
        """What it has found, and what it has found resolved."""
        root = self._roots[item_id]
        file = review.meta.project_file
        for finding in review.findings or ():
            if file and file.fail_on and not finding.fail_on:
                # All findings together have no project file.
                finding.fail_on = file.fail_on
            self._findings.add(
                finding,
                repository=root,
                shown_file=self._named(root, finding.file),
                item_id=item_id,
                job_id=review.meta.job_id or "",
            )
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

    def _named(self, root: int, file: str | None) -> str | None:
        """The file with the name of its repository, where there are several."""
        if file is None or len(self._names) < 2:
            return file
        return f"{self._names[root]}/{file}"

    # --- at the end

    def summary(self) -> Summary:
        """All of it. An item without a result is `missing`."""
        rows = [self._with_repository(row) for row in self._rows.values()]
        code, reason = exit_of(rows, self._bar)
        reported = self._findings.gravest()
        shown = [one.with_items() for one in reported]
        code_from = [
            (finding, one.job_id, one.file)
            for finding, one in zip(shown, reported, strict=True)
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
            data=_counts(rows) | {"exit_code": code, "reason": reason},
            meta=Meta(
                scope={"kind": "batch"},
                usage=self._usage,
                usage_proofs=self._usage_proofs,
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
        return [
            one for key, one in self._resolved.items() if not self._findings.has(*key)
        ]

    def _words(self, rows: list[Row], findings: list[Finding], verdict: Verdict) -> str:
        sentence = items_sentence(rows)
        if not any(row.kind in REVIEWS for row in rows):
            return sentence
        counts = Counter(self._findings.open_left_out)
        counts.update(one.severity for one in findings if not one.is_settled)
        parts = [f"{counts[name]} {name}" for name in SEVERITIES if counts[name]]
        return f"{verdict}: {', '.join(parts) or 'no findings'}. {sentence}"

    def _warnings(self, unknown: list[Row]) -> Iterator[str]:
        for row in unknown[:MAX_WARNINGS]:
            yield f"{row.id}: {STATES[row.state]}; nothing is known of what it was to review"
        if len(unknown) > MAX_WARNINGS:
            more = len(unknown) - MAX_WARNINGS
            yield f"{more} more reviews have no result; results.jsonl has them"
        if self._doubtful:
            names = listed(self._doubtful[:MAX_NAMES], len(self._doubtful))
            yield f"reviews without a verdict, or that did not see all of their change: {names}"
        left_out = self._findings.left_out
        if left_out:
            yield f"{left_out} findings are only counted here, the least grave ones; results.jsonl has them"
        if self._omitted > MAX_OMITTED:
            more = self._omitted - MAX_OMITTED
            yield f"{more} more files that were not sent are not listed"


def _counts(rows: list[Row]) -> JsonObject:
    """How many items there are, how many ended in each state, and the tokens of all."""
    states = Counter(row.state for row in rows)
    counts: JsonObject = {"items": len(rows)}
    for state in STATES:
        counts[state] = states[state]
    counts["tokens"] = sum(row.tokens for row in rows)
    return counts


def _name_of(item: Item) -> str:
    source = item.source
    if source == SELF:
        source = str(item.root)
    return repository_name(source)


def _sum(total: Usage | None, usage: Usage | None) -> Usage | None:
    return Usage.total(one for one in (total, usage) if one)
