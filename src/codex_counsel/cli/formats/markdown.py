"""A review as Markdown, for a comment on a pull request or a job summary."""

from __future__ import annotations

from codex_counsel.cli.inert_markdown import code_block, code_span, inline, prose
from codex_counsel.cli.proof_text import (
    apply_command,
    exits_of,
    offers_test,
    output_of,
)
from codex_counsel.cli.review_text import (
    MAX_ENTRY,
    coverage_lines,
    doubt_about,
    lists_of,
    place_of,
    reason_of,
    record_line,
    replacement_lines,
    resolved_lines,
    rule_line,
    suggestion_line,
    title_of,
)
from codex_counsel.cli.words import repair_of
from codex_counsel.contract.envelope import Envelope, Failure, Finding, Proof

MAX_TEST = 4_000
"""Characters of a test, as a patch; a longer one is left out."""


def markdown(review: Envelope) -> str:
    """The review as Markdown, for a comment on a pull request. No text of the model is active in it."""
    if review.error:
        return _markdown_of_failure(review, review.error)
    return _markdown_of_review(review)


def _markdown_of_review(review: Envelope) -> str:
    lines = [f"## Codex: {inline(review.summary)}", ""]
    problem = doubt_about(review)
    if problem:
        lines += [f"**{inline(problem)}**", ""]
    for finding in review.findings or ():
        lines += finding_lines(finding)
    if review.answer is not None:
        lines += [prose(review.answer), ""]
    lists = {"resolved": resolved_lines(review), **lists_of(review)}
    for name, entries in lists.items():
        if not entries:
            continue
        title = name.replace("_", " ")
        lines += [f"**{title}**", ""]
        for entry in entries:
            lines.append(f"- {inline(entry, MAX_ENTRY)}")
        lines.append("")

    for line in coverage_lines(review):
        lines.append(f"- {inline(line)}")
    for warning in review.meta.warnings:
        note = inline(f"note: {warning}")
        lines.append(f"- {note}")
    return "\n".join(lines)


def finding_lines(finding: Finding) -> list[str]:
    """Everything about a finding, below a heading of the third level."""
    lines = [f"### {finding.severity}: {inline(title_of(finding))}", ""]
    lines += [code_span(place_of(finding)), ""]
    if finding.evidence:
        lines += [code_block(finding.evidence), ""]
    if finding.risk:
        lines += [prose(finding.risk), ""]
    if finding.recommendation:
        lines += [prose(finding.recommendation), ""]
    suggestion = finding.suggestion
    if suggestion:
        lines += [suggestion_line(suggestion), ""]
    if suggestion and suggestion.replacement:
        lines += [code_block(replacement_lines(suggestion)), ""]
    if finding.proof:
        lines += _markdown_of_proof(finding.proof)
    if finding.rule:
        lines += [inline(rule_line(finding), MAX_ENTRY), ""]
    if record_line(finding):
        lines += [inline(record_line(finding), MAX_ENTRY), ""]
    return lines


def _markdown_of_proof(proof: Proof) -> list[str]:
    words = inline(proof.reason, MAX_ENTRY)
    lines = [f"**{proof.status}**: {words}", ""]
    if proof.command:
        lines += [f"test: {code_span(proof.command)}{exits_of(proof)}", ""]
    if offers_test(proof):
        lines += [f"the test: {code_span(apply_command(proof))}", ""]
    output = output_of(proof)
    if output:
        lines += [code_block(output), ""]
    if offers_test(proof) and proof.patch and len(proof.patch) <= MAX_TEST:
        lines += [code_block(proof.patch.rstrip("\n")), ""]
    return lines


def _markdown_of_failure(review: Envelope, error: Failure) -> str:
    lines = [
        "## Codex: nothing was reviewed",
        "",
        prose(reason_of(error)),
        "",
        prose(f"What to do: {repair_of(error)}"),
    ]
    if review.answer:
        lines += ["", "**interim message, no finished review**", ""]
        lines.append(prose(review.answer))
    return "\n".join(lines)
