"""What a batch came to, for a terminal: what needs a look, the beginnings of answers, and where all of it is."""

from __future__ import annotations

from collections.abc import Sequence

from codex_counsel.batch.rows import REVIEWS, STATES, Row
from codex_counsel.batch.summary import Summary
from codex_counsel.cli.page import Page, Span
from codex_counsel.cli.review_page import VERDICT_STYLES
from codex_counsel.cli.review_text import (
    SEVERITY_STYLES,
    place_of,
    reason_of,
    title_of,
)
from codex_counsel.cli.table import SHORT_ID, Heading, add_table
from codex_counsel.contract.envelope import Finding
from codex_counsel.errors import FAILED
from codex_counsel.system.text import one_line

MAX_LISTED = 10
"""Findings, failures and answers of each sort; the documents have the others."""
MAX_REASON = 200


def add_batch(
    page: Page, summary: Summary, *, is_stopped: bool, directory: str, names: list[str]
) -> None:
    """Add the batch. `names` are the files in its `directory` that a person reads."""
    review = summary.review
    page.add(review.summary, VERDICT_STYLES.get(review.verdict or "", "bold"))
    _add_findings(page, review.findings or [])
    _add_failures(page, summary.rows)
    _add_answers(page, summary.rows)
    if not is_stopped:
        page.add(f"exit code {summary.exit_code}: {summary.reason}")
    page.add(f"results: {directory}")
    page.add(" ".join(names), indent="  ")


def _add_findings(page: Page, findings: Sequence[Finding]) -> None:
    counting = [one for one in findings if not one.is_settled]
    headings = [Heading("SEVERITY", is_kept=True), Heading("PLACE"), Heading("FINDING")]
    rows: list[list[Span]] = []
    for one in counting[:MAX_LISTED]:
        severity: Span = (one.severity, SEVERITY_STYLES[one.severity])
        rows.append([severity, (place_of(one), "cyan"), (title_of(one), "")])
    _add_list(page, headings, rows, len(counting))


def _add_failures(page: Page, rows: Sequence[Row]) -> None:
    headings = [Heading("ITEM", is_kept=True), Heading("STATE"), Heading("REASON")]
    shown: list[list[Span]] = []
    bad = [row for row in rows if _reason(row)]
    for row in bad[:MAX_LISTED]:
        reason = one_line(_reason(row), MAX_REASON)
        shown.append([(row.id, ""), (STATES[row.state], "red"), (reason, "")])
    _add_list(page, headings, shown, len(bad))


def _reason(row: Row) -> str:
    """Why the item has no result that counts; empty where it has one, and where there was nothing to review."""
    if row.error and row.state != "nothing":
        return reason_of(row.error)
    if row.kind in REVIEWS and row.state == "completed" and row.exit_code == FAILED:
        command = f"codex-counsel result {(row.job_id or '')[:SHORT_ID]}"
        return f"no verdict, or not all of it was seen: {command}"
    return ""


def _add_answers(page: Page, rows: Sequence[Row]) -> None:
    headings = [
        Heading("ITEM", is_kept=True),
        Heading("JOB", is_kept=True),
        Heading("RESULT"),
    ]
    answered = [
        row for row in rows if row.kind not in REVIEWS and row.state == "completed"
    ]
    shown: list[list[Span]] = [
        [(row.id, ""), ((row.job_id or "")[:SHORT_ID], "dim"), (row.summary, "")]
        for row in answered[:MAX_LISTED]
    ]
    _add_list(page, headings, shown, len(answered))
    if answered:
        page.note("see all of one with: codex-counsel result JOB")
    if any(row.has_diff for row in answered):
        page.note("apply a diff with: codex-counsel apply JOB")


def _add_list(
    page: Page, headings: Sequence[Heading], rows: list[list[Span]], total: int
) -> None:
    if not rows:
        return
    add_table(page, headings, rows, indent="  ")
    if total > len(rows):
        page.add(f"  and {total - len(rows):,} more: see summary.md")
