"""The proof of a finding on the HTML page: what was run, how it ended, and the test."""

from __future__ import annotations

from codex_counsel.cli.formats.html_code import figure, row
from codex_counsel.cli.formats.markup import Content, Markup, element
from codex_counsel.cli.proof_text import (
    OTHER_STATES,
    apply_command,
    offers_test,
    output_of,
)
from codex_counsel.cli.review_text import MAX_ENTRY
from codex_counsel.contract.envelope import Finding, Proof
from codex_counsel.services.code_context import cut_line
from codex_counsel.system.text import one_line

MAX_LINES = 200
"""Lines of an output, and of a test."""


UNTESTED = "untested"
"""In place of the status of a proof, where there is none."""


def proof_status(finding: Finding) -> str:
    """The status of the proof, or `UNTESTED`: what the page filters by."""
    if finding.proof is None:
        return UNTESTED
    return finding.proof.status


def proof_section(proof: Proof | None) -> Content:
    """What running a test says about a finding; None where nothing was run."""
    if proof is None:
        return None
    status = element("span", proof.status, class_=f"tag {proof.status}")
    reason = element("span", one_line(proof.reason, MAX_ENTRY), dir="auto")
    return element(
        "div",
        element("h4", "Proof"),
        element("p", status, " ", reason),
        _facts(proof),
        _output(proof),
        _test(proof),
        class_="proof",
    )


def _facts(proof: Proof) -> Content:
    facts: dict[str, Content] = {}
    if proof.command:
        facts["Test"] = element("code", one_line(proof.command, MAX_ENTRY))
    if proof.exit_head is not None:
        facts["On the reviewed state"] = f"exit {proof.exit_head}"
    if proof.exit_other is not None and proof.other:
        state = OTHER_STATES[proof.other].capitalize()
        facts[state] = f"exit {proof.exit_other}"
    if proof.job_id:
        facts["Job"] = element("code", one_line(proof.job_id, 64))
    if not facts:
        return None
    rows = []
    for name, value in facts.items():
        term = element("dt", name)
        rows.append(element("div", term, element("dd", value)))
    return element("dl", *rows, class_="facts")


def _output(proof: Proof) -> Content:
    lines = output_of(proof).splitlines()
    if not lines:
        return None
    title = "Output on the reviewed state"
    if len(lines) > MAX_LINES:
        title += f"; the last {MAX_LINES} of {len(lines):,} lines"
    rows = [row(cut_line(line)) for line in lines[-MAX_LINES:]]
    return figure(title, rows)


def _test(proof: Proof) -> Content:
    """The test as a patch, folded."""
    lines = (proof.patch or "").splitlines()
    if not lines:
        return None
    title = "The test, as a patch"
    if len(lines) > MAX_LINES:
        title += f"; the first {MAX_LINES} of {len(lines):,} lines"
    rows: list[Markup] = []
    for line in lines[:MAX_LINES]:
        rows.append(row(cut_line(line), _style(line)))
    hint: Content = None
    if offers_test(proof):
        hint = element(
            "p", "Put it into your files: ", element("code", apply_command(proof))
        )
    return element(
        "details", element("summary", title), figure("Patch", rows, "code patch"), hint
    )


def _style(line: str) -> str:
    if line.startswith("+") and not line.startswith("+++"):
        return "ins"
    if line.startswith("-") and not line.startswith("---"):
        return "del"
    return ""
