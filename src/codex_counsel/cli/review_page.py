"""A review for a terminal."""

from __future__ import annotations

from codex_counsel.cli.page import Page, Style
from codex_counsel.cli.proof_text import (
    OTHER_STATES,
    apply_command,
    offers_test,
)
from codex_counsel.cli.review_text import (
    MAX_ENTRY,
    SEVERITY_STYLES,
    add_footer,
    coverage_lines,
    lists_of,
    place_of,
    record_line,
    resolved_lines,
    rule_line,
    suggestion_line,
    title_of,
)
from codex_counsel.contract.envelope import Envelope, Finding, Proof
from codex_counsel.system.text import one_line, visible

VERDICT_STYLES: dict[str, Style] = {
    "pass": "green",
    "concerns": "yellow",
    "fail": "red",
    "unknown": "yellow",
}
REJECT = "if a finding is wrong: codex-counsel findings reject ID --reason TEXT"


def add_review(page: Page, review: Envelope) -> None:
    """Add the review: summary, findings, the reviewer's lists, what was sent, where it comes from.

    Findings that a test refuted come after the others.
    """
    page.add(review.summary, VERDICT_STYLES.get(review.verdict or "", "bold"))
    page.add()
    _add_findings(page, review.findings or [])
    if review.answer is not None:
        page.add_prose(review.answer)
        page.add()

    for name, entries in lists_of(review).items():
        for entry in entries:
            title = name.replace("_", " ")
            page.add(f"{title}: {one_line(entry, MAX_ENTRY)}")
    for line in resolved_lines(review):
        page.add(line, "green")
    for line in coverage_lines(review):
        page.note(line)
    if any(finding.id and not finding.is_settled for finding in review.findings or ()):
        page.note(REJECT)
    add_footer(page, review)


def _add_findings(page: Page, findings: list[Finding]) -> None:
    for finding in findings:
        if not finding.is_refuted:
            _add_finding(page, finding)
    refuted = [finding for finding in findings if finding.is_refuted]
    if refuted:
        page.add("refuted by a test that was run:", "bold")
    for finding in refuted:
        _add_finding(page, finding)


def _add_finding(page: Page, finding: Finding) -> None:
    style = SEVERITY_STYLES[finding.severity]
    # What was rejected or refuted does not count any more.
    if finding.is_settled:
        style = "dim"
    page.add_spans(
        (finding.severity.upper(), style), (f"  {title_of(finding)}", "bold")
    )
    page.add(place_of(finding), "cyan", indent="  ")
    if finding.proof:
        _add_proof(page, finding.proof)
    _add_prefixed(page, "  | ", finding.evidence, "dim")
    _add_prefixed(page, "  ", finding.risk)
    _add_prefixed(page, "  -> ", finding.recommendation)
    if finding.suggestion:
        page.add(suggestion_line(finding.suggestion), indent="  ")
        _add_prefixed(page, "  + ", finding.suggestion.replacement, "green")
    _add_prefixed(page, "  ", rule_line(finding), "dim")
    _add_prefixed(page, "  ", record_line(finding), "dim")
    page.add()


def _add_prefixed(
    page: Page, prefix: str, words: str | None, style: Style = ""
) -> None:
    for line in visible(words or "").splitlines():
        page.add(line, style, indent=prefix)


def _add_proof(page: Page, proof: Proof) -> None:
    """Add what came of the test, and how to get it."""
    reason = one_line(visible(proof.reason), MAX_ENTRY)
    if proof.status == "proven":
        page.add(f"proven: {_outcome(proof)}", "green", indent="  ")
    elif proof.status == "refuted":
        page.add(f"refuted: {reason}", "yellow", indent="  ")
    else:
        page.add(f"not proven: {reason}", "yellow", indent="  ")
    if offers_test(proof):
        page.add(f"add the test with: {apply_command(proof)}", indent="  ")


def _outcome(proof: Proof) -> str:
    """`pytest -q test_a.py fails here (exit 1) and passes on the base`."""
    command = one_line(visible(proof.command or "the test"), MAX_ENTRY)
    words = f"{command} fails here"
    if proof.exit_head is not None:
        words += f" (exit {proof.exit_head})"
    if proof.other:
        words += f" and passes {OTHER_STATES[proof.other]}"
    return words
