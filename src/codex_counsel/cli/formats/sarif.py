"""A review as SARIF 2.1.0, for an upload to code scanning."""

from __future__ import annotations

from urllib.parse import quote

from codex_counsel import __version__
from codex_counsel.cli.review_text import reason_of
from codex_counsel.cli.words import repair_of
from codex_counsel.contract.envelope import Envelope, Finding
from codex_counsel.contract.vocabulary import SEVERITIES, Severity
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import visible

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
SARIF_LEVELS: dict[Severity, str] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "note",
    "nit": "note",
}
SARIF_SCORES: dict[Severity, str] = {
    "critical": "9.0",
    "high": "7.0",
    "medium": "5.0",
    "low": "3.0",
    "nit": "1.0",
}
"""GitHub sorts its alerts by this property, `security-severity`."""


def sarif(review: Envelope) -> JsonObject:
    """SARIF 2.1.0, one rule per severity. A review without a verdict is a run that did not succeed, not a clean one."""
    driver = {
        "name": "codex-counsel",
        "version": __version__,
        "rules": [_rule(severity) for severity in SEVERITIES],
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(review)],
        "results": [_result(finding) for finding in review.findings or ()],
        "properties": {
            "verdict": review.verdict,
            "coverage": review.wire().get("coverage", {}),
        },
    }
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [run],
    }


def _rule(severity: Severity) -> JsonObject:
    return {
        "id": f"codex/{severity}",
        "shortDescription": {"text": f"{severity} finding"},
        "properties": {"security-severity": SARIF_SCORES[severity]},
    }


def _invocation(review: Envelope) -> JsonObject:
    is_whole = review.error is None and review.meta.budget_reached is None
    success = is_whole and review.verdict not in (None, "unknown")
    level = "note" if success else "error"
    notes = [review.summary]
    if review.error:
        notes = [reason_of(review.error), f"What to do: {repair_of(review.error)}"]
    notifications = []
    for note in (*notes, *review.meta.warnings):
        message = {"text": _without_links(note)}
        notifications.append({"level": level, "message": message})
    return {
        "executionSuccessful": success,
        "toolExecutionNotifications": notifications,
    }


def _result(finding: Finding) -> JsonObject:
    parts = [
        part for part in (finding.title, finding.risk, finding.recommendation) if part
    ]
    result: JsonObject = {
        "ruleId": f"codex/{finding.severity}",
        "level": SARIF_LEVELS[finding.severity],
        "message": {"text": _without_links("\n\n".join(parts))},
        "properties": {"grounded": finding.grounded or "unverified"},
    }
    if finding.rule:
        result["properties"]["rule"] = {
            "file": visible(finding.rule.file),
            "quote": visible(finding.rule.quote),
        }
    if finding.file:
        result["locations"] = [_location(finding, finding.file)]
    return result


def _without_links(text: str) -> str:
    """SARIF makes links of `[text](target)`, also in plain text."""
    return visible(text).replace("](", "] (")


def _location(finding: Finding, file: str) -> JsonObject:
    physical: JsonObject = {"artifactLocation": {"uri": quote(file)}}
    if finding.line:
        physical["region"] = {
            "startLine": finding.line,
            "endLine": finding.line_end or finding.line,
        }
    return {"physicalLocation": physical}
