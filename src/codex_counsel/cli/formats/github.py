"""A review as workflow commands of GitHub Actions: annotations on the lines of a pull request."""

from __future__ import annotations

from codex_counsel.cli.output import without_hash_commands
from codex_counsel.cli.proof_text import message_with_proof
from codex_counsel.cli.review_text import doubt_about, resolved_lines, why_not_clean
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
        problem = _escape(why_not_clean(review))
        return f"::error title=Codex review::{problem}"

    lines = [_annotation(finding) for finding in review.findings or ()]
    command = "notice"
    words = [review.summary]
    doubt = doubt_about(review)
    if doubt:
        command = "warning"
        words.append(doubt)
    message = _escape("\n".join([*words, *resolved_lines(review)]))
    lines.append(f"::{command} title=Codex review::{message}")
    return "\n".join(lines)


def _annotation(finding: Finding) -> str:
    values = {
        "file": finding.file,
        "line": finding.line,
        "endLine": finding.line_end,
        "title": _title(finding),
    }
    properties = []
    for name, value in values.items():
        if value:
            properties.append(f"{name}={_escape_property(value)}")

    command = GITHUB_COMMANDS[finding.severity]
    if finding.is_settled:
        command = "notice"
    message = message_with_proof(finding)
    # Some places show an annotation without its title.
    if not (finding.risk or finding.recommendation):
        message = f"{finding.title}\n{message}"
    message = _escape(message.rstrip("\n"))
    return f"::{command} {','.join(properties)}::{message}"


def _title(finding: Finding) -> str:
    """`high, logic, new, proven: Off by one`."""
    words: list[str] = [finding.severity]
    if finding.category:
        words.append(finding.category.replace("_", " "))
    if finding.known:
        words.append(finding.known)
    if finding.proof:
        words.append(finding.proof.status)
    return f"{', '.join(words)}: {finding.title}"


def _escape(value: object) -> str:
    text = without_hash_commands(visible(str(value)))
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(value: object) -> str:
    return _escape(value).replace(":", "%3A").replace(",", "%2C")
