"""What a batch came to, as the documents `summary.md`, `summary.html` and `summary.sarif` in its directory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.batch.rows import REVIEWS, STATES, UNKNOWN, Row, State
from codex_counsel.batch.summary import Summary
from codex_counsel.cli import formats
from codex_counsel.cli.formats.html import html
from codex_counsel.cli.formats.markdown import finding_lines
from codex_counsel.cli.inert_markdown import code_span, inline
from codex_counsel.cli.review_text import counted, coverage_lines, place_of, title_of
from codex_counsel.cli.words import repair_of
from codex_counsel.contract.envelope import Failure, Finding
from codex_counsel.errors import Code, error_of
from codex_counsel.system.files import write_atomically
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.jobs.store import Store

MARKDOWN = "summary.md"
PAGE = "summary.html"
SARIF = "summary.sarif"
MAX_ROWS = 1_000
"""Rows of the table; a site that shows Markdown takes no more than a million bytes."""
MAX_FINDINGS = 50
"""Findings with all that is known of them."""
MAX_LISTED = 500
"""Further findings, one line each."""
MAX_NAMED = 50
"""Items named for one reason of failing."""
MAX_COVERAGE = 50
"""Lines about what was sent."""
NEXT_STEPS: dict[State, str] = {
    "lost": "Resume the batch with --retry-lost to run them anew; without it, their nodes are asked once more.",
    "missing": "Resume the batch: `codex-counsel batch --resume DIRECTORY`.",
    "failed": "Mend the causes, then resume the batch with --retry-failed: it runs all of them anew, and pays again.",
    "cancelled": "Resume the batch with --retry-failed to run them anew, or leave them out.",
}
"""What helps beside, or instead of, what the error itself says."""
_BARE_BAR = re.compile(r"(?<!\\)\|")


def write_files(directory: Path, summary: Summary, store: Store) -> list[str]:
    """Write the documents into the directory of the batch, each in one step, and return their names.

    Without anything to review there is only the Markdown. `store` has the jobs, for the code
    beside the findings. Raises `storage_failed`.
    """
    texts = {MARKDOWN: markdown(summary)}
    if summary.has_reviews:
        texts[PAGE] = html(summary.review, summary.code(store))
        texts[SARIF] = formats.render(summary.review, "sarif")
    for name, text in texts.items():
        path = directory / name
        try:
            write_atomically(path, text)
        except OSError as error:
            message = f"{path} cannot be written; no result is lost by it"
            raise error_of(Code.STORAGE_FAILED, message, error) from None
    return list(texts)


def written(directory: Path) -> list[str]:
    """The names of the documents that are there."""
    return [name for name in (MARKDOWN, PAGE, SARIF) if (directory / name).is_file()]


def markdown(summary: Summary) -> str:
    """The batch as Markdown. No text of a model, a name or an id is active in it."""
    review = summary.review
    lines = [f"# Codex batch: {inline(review.summary)}", ""]
    lines += [f"Exit code {summary.exit_code}: {inline(summary.reason)}.", ""]
    lines += [_totals(summary), ""]
    for state in UNKNOWN:
        lines += _unknown(state, [row for row in summary.rows if row.state == state])
    lines += _findings(review.findings or [])
    if summary.has_reviews:
        lines += ["## What was sent", ""]
        sent = coverage_lines(review)
        lines += [f"- {inline(line)}" for line in sent[:MAX_COVERAGE]]
        if len(sent) > MAX_COVERAGE:
            lines.append(f"- {len(sent) - MAX_COVERAGE:,} more lines")
        lines += [f"- {inline(f'note: {note}')}" for note in review.meta.warnings]
        lines.append("")
    lines += _table(summary.rows)
    return "\n".join(lines) + "\n"


def _totals(summary: Summary) -> str:
    tokens = sum(row.tokens for row in summary.rows)
    minutes = (summary.review.meta.elapsed_ms or 0) / 60_000
    return f"{tokens:,} tokens, {minutes:,.1f} minutes of all runs together."


# --- what is not known


def _unknown(state: State, rows: list[Row]) -> list[str]:
    """Those without a result, one paragraph for each reason."""
    if not rows:
        return []
    lines = [f"## {STATES[state].capitalize()}: {counted(len(rows), 'item')}", ""]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(_reason(row.error), []).append(row)
    for (code, repair), group in groups.items():
        lines += _group(code, repair, group)
    step = NEXT_STEPS.get(state)
    if step:
        lines += [f"What to do: {step}", ""]
    return lines


def _reason(error: Failure | None) -> tuple[str, str]:
    if error is None:
        return "", ""
    return error.code, repair_of(error)


def _group(code: str, repair: str, rows: list[Row]) -> list[str]:
    lines = []
    if code:
        lines += [f"### {code_span(code)}: {counted(len(rows), 'item')}", ""]
    for row in rows[:MAX_NAMED]:
        words = code_span(row.id)
        if row.error:
            words += f": {inline(row.error.message, 300)}"
        lines.append(f"- {words}")
    if len(rows) > MAX_NAMED:
        lines.append(f"- and {len(rows) - MAX_NAMED:,} more")
    lines.append("")
    if repair:
        lines += [f"What to do: {inline(repair)}", ""]
    return lines


# --- findings


def _findings(findings: Iterable[Finding]) -> list[str]:
    """The gravest with everything, others on one line."""
    rows = list(findings)
    if not rows:
        return []
    lines = ["## Findings", ""]
    for finding in rows[:MAX_FINDINGS]:
        lines += finding_lines(finding)
    rest = rows[MAX_FINDINGS:]
    if rest:
        lines += [f"### {counted(len(rest), 'further finding')}", ""]
    for finding in rest[:MAX_LISTED]:
        place = code_span(place_of(finding))
        lines.append(f"- {finding.severity}: {inline(title_of(finding), 200)} {place}")
    if len(rest) > MAX_LISTED:
        lines.append(f"- and {len(rest) - MAX_LISTED:,} more: see results.jsonl")
    if rest:
        lines.append("")
    return lines


# --- the table


def _table(rows: list[Row]) -> list[str]:
    """A row for each item. Where these are too many, those first that need a look."""
    with_repository = any(row.repository for row in rows)
    titles = ["item", "kind", "state", "result", "findings", "tokens", "time", "job"]
    if with_repository:
        titles.insert(1, "repository")
    lines = ["## Items", ""]
    if any(row.job_id for row in rows):
        lines += ["See all of one with `codex-counsel result JOB`.", ""]
    if any(row.has_diff for row in rows):
        lines += ["Apply a diff with `codex-counsel apply JOB`.", ""]
    lines += [_cells(titles), _cells(["---"] * len(titles))]
    shown = rows
    if len(rows) > MAX_ROWS:
        shown = sorted(rows, key=_urgency)[:MAX_ROWS]
    for row in shown:
        cells = _cells_of(row)
        if with_repository:
            cells.insert(1, _cell(row.repository))
        lines.append(_cells(cells))
    if len(rows) > len(shown):
        more = f"{len(rows) - len(shown):,} more items are not listed"
        lines += [
            "",
            f"{more}: those that need a look come first. results.jsonl has all.",
        ]
    return lines


def _urgency(row: Row) -> tuple[int, int]:
    order = (*UNKNOWN, "completed", "nothing")
    return order.index(row.state), -row.counted


def _cells_of(row: Row) -> list[str]:
    findings = ""
    if row.kind in REVIEWS and row.state == "completed":
        findings = str(row.findings)
    seconds = ""
    if row.elapsed_ms is not None:
        seconds = f"{row.elapsed_ms / 1000:,.0f} s"
    return [
        code_span(_for_table(row.id)),
        row.kind,
        STATES[row.state],
        _result(row),
        findings,
        f"{row.tokens:,}",
        seconds,
        code_span((row.job_id or "")[:8]),
    ]


def _result(row: Row) -> str:
    if row.error:
        return code_span(row.error.code)
    if row.verdict:
        return row.verdict
    parts = []
    if row.check:
        parts.append(f"check {row.check.replace('_', ' ')}")
    if row.summary:
        parts.append(_cell(row.summary))
    return ": ".join(parts)


def _cell(text: str) -> str:
    return inline(_for_table(text), 200)


def _cells(cells: list[str]) -> str:
    # A bar would end its cell, in a code span too. The backslash before it is taken away
    # before the cell is read.
    escaped = [_BARE_BAR.sub(r"\\|", cell) for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _for_table(text: str) -> str:
    """The text without a bar that follows a backslash: sites differ in whether an escape behind one holds."""
    return visible(text).replace("\\|", "\\/")
