"""A review as a document: for a pull request, a code-scanning upload, a workflow log."""

from __future__ import annotations

from urllib.parse import quote

from codex_counsel import __version__
from codex_counsel.cli.inert_markdown import code_block, code_span, inline, prose
from codex_counsel.cli.output import json_text, without_hash_commands
from codex_counsel.cli.review_text import (
    MAX_ENTRY,
    coverage_lines,
    lists_of,
    place_of,
    reason_of,
    rule_line,
    title_of,
)
from codex_counsel.cli.words import repair_of
from codex_counsel.contract.envelope import Envelope, Failure, Finding
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
GITHUB_COMMANDS: dict[Severity, str] = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "notice",
    "nit": "notice",
}


def render(review: Envelope, name: str) -> str:
    """The review, or the failure of one, in a format of `parser.FORMATS` other than `text`."""
    match name:
        case "markdown":
            return markdown(review)
        case "json":
            return json_text(review.wire())
        case "sarif":
            return json_text(sarif(review))
        case "github":
            return github(review)
    raise ValueError(f"there is no format {name!r}")


# --- for a pull request


def markdown(review: Envelope) -> str:
    """The review as Markdown, for a comment on a pull request. No text of the model is active in it."""
    if review.error:
        return _markdown_of_failure(review, review.error)
    return _markdown_of_review(review)


def _markdown_of_review(review: Envelope) -> str:
    lines = [f"## Codex: {inline(review.summary)}", ""]
    for finding in review.findings or ():
        lines += _markdown_of_finding(finding)
    if review.answer is not None:
        lines += [prose(review.answer), ""]
    for name, entries in lists_of(review).items():
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


def _markdown_of_finding(finding: Finding) -> list[str]:
    lines = [f"### {finding.severity}: {inline(title_of(finding))}", ""]
    lines += [code_span(place_of(finding)), ""]
    if finding.evidence:
        lines += [code_block(finding.evidence), ""]
    if finding.risk:
        lines += [prose(finding.risk), ""]
    if finding.recommendation:
        lines += [prose(finding.recommendation), ""]
    if finding.rule:
        lines += [inline(rule_line(finding), MAX_ENTRY), ""]
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


# --- for a workflow log


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


# --- for code scanning


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
