"""A review as workflow commands of GitHub Actions: annotations on the lines of a pull request."""

from __future__ import annotations

from codex_counsel.cli.output import without_hash_commands
from codex_counsel.cli.review_text import reason_of, rule_line
from codex_counsel.cli.words import repair_of
from codex_counsel.contract.envelope import Envelope, Finding
from codex_counsel.contract.vocabulary import Severity
from codex_counsel.system.text import visible

GITHUB_COMMANDS: dict[Severity, str] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "notice",
    "nit": "notice",
}


def github(review: Envelope) -> str:
    """Workflow commands: annotations on the lines of a pull request. No text in them can become another command."""
    if review.error:
        words = f"{reason_of(review.error)}\nWhat to do: {repair_of(review.error)}"
        return f"::error title=Codex review::{_escape(words)}"

    lines = [_annotation(finding) for finding in review.findings or ()]
    command = "notice"
    if review.verdict == "unknown" or review.meta.budget_reached:
        command = "warning"
    lines.append(f"::{command} title=Codex review::{_escape(review.summary)}")
    return "\n".join(lines)


def _annotation(finding: Finding) -> str:
    values = {
        "file": finding.file,
        "line": finding.line,
        "endLine": finding.line_end,
        "title": f"{finding.severity}: {finding.title}",
    }
    properties = []
    for name, value in values.items():
        if value:
            properties.append(f"{name}={_escape_property(value)}")

    parts = [part for part in (finding.risk, finding.recommendation) if part]
    if not parts:
        parts = [finding.title]
    if finding.rule:
        parts.append(rule_line(finding))
    if finding.grounded != "verified":
        parts.append(f"({finding.grounded or 'unverified'})")

    command = GITHUB_COMMANDS[finding.severity]
    message = _escape("\n".join(parts))
    return f"::{command} {','.join(properties)}::{message}"


def _escape(value: object) -> str:
    text = without_hash_commands(visible(str(value)))
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(value: object) -> str:
    return _escape(value).replace(":", "%3A").replace(",", "%2C")
