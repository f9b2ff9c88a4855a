"""A review in the Reviewdog Diagnostic Format, as one JSON object: for `reviewdog -f=rdjson`.

Reviewdog puts a message into a comment as it is, so messages are inert Markdown.
"""

from __future__ import annotations

from codex_counsel.cli.formats.rules import rule_id
from codex_counsel.cli.inert_markdown import prose
from codex_counsel.cli.proof_text import message_with_proof
from codex_counsel.cli.review_text import replacement_lines, why_not_clean
from codex_counsel.contract.envelope import Envelope, Finding
from codex_counsel.contract.vocabulary import Severity
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import visible

RDJSON_SEVERITIES: dict[Severity, str] = {
    "critical": "ERROR",
    "high": "ERROR",
    "medium": "WARNING",
    "low": "INFO",
    "nit": "INFO",
}
NO_FILE = "."
"""The path of what belongs to no file. Reviewdog shows it only where it filters nothing."""


def rdjson(review: Envelope) -> JsonObject:
    """A `DiagnosticResult`. Of a review that has no verdict, one of the diagnostics is an error that says so."""
    diagnostics = [_diagnostic(finding) for finding in review.findings or ()]
    problem = why_not_clean(review)
    if problem:
        diagnostics.append(
            {
                "message": prose(problem),
                "location": {"path": NO_FILE},
                "severity": "ERROR",
                "code": {"value": "codex/review"},
            }
        )
    return {"source": {"name": "codex-counsel"}, "diagnostics": diagnostics}


def _diagnostic(finding: Finding) -> JsonObject:
    location: JsonObject = {"path": visible(finding.file or NO_FILE)}
    if finding.file and finding.line:
        location["range"] = _range(finding.line, finding.line_end or finding.line)

    severity = RDJSON_SEVERITIES[finding.severity]
    if finding.is_settled:
        severity = "INFO"
    title = f"{finding.severity}: {finding.title}"
    message = message_with_proof(finding, with_suggestion=False)
    diagnostic: JsonObject = {
        "message": prose(f"{title}\n{message}"),
        "location": location,
        "severity": severity,
        "code": {"value": rule_id(finding)},
    }
    suggestion = finding.suggestion
    if suggestion:
        # Whole lines: neither the range nor the text holds the last line end.
        text = replacement_lines(suggestion)
        lines = _range(suggestion.start_line, suggestion.end_line)
        diagnostic["suggestions"] = [{"range": lines, "text": visible(text)}]
    return diagnostic


def _range(first: int, last: int) -> JsonObject:
    return {"start": {"line": first}, "end": {"line": last}}
