"""A review as SARIF 2.1.0, for an upload to code scanning.

What GitHub makes of it decided some of what is in it:

- GitHub reads `security-severity` of a rule only, and lists all results of a rule that
  has it among the security alerts. So the rule `codex/security` alone has one: that of
  its gravest finding. The severity of every finding is its `level` and among its
  properties.
- It knows an alert again by `primaryLocationLineHash` and by no other fingerprint.
- It wants a location with a file for each result, and may refuse all results for one
  that has none. So a finding without a file gets one that says so.
- It would open an alert for every result. So what is resolved is a property of the run.
"""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import quote

from codex_counsel import __version__
from codex_counsel.cli.formats.rules import RULES, category_of, rule_id
from codex_counsel.cli.proof_text import proof_lines
from codex_counsel.cli.review_text import replacement_lines, why_not_clean
from codex_counsel.contract.envelope import Envelope, Finding, Proof, Suggestion
from codex_counsel.contract.vocabulary import (
    CATEGORIES,
    SEVERITIES,
    Category,
    Known,
    Severity,
)
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import visible

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINGERPRINT = "codexCounselFinding/v1"
NO_FILE = "no-file-named"
"""Stands for the place of a finding that names none."""
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
"""By GitHub's bounds, `security-severity` of 9.0 is critical, 7.0 high, 4.0 medium, and what is less low."""
BASELINE_STATES: dict[Known, str] = {
    "new": "new",
    "open": "unchanged",
    "rejected": "unchanged",
    "returned": "new",
}


def sarif(review: Envelope) -> JsonObject:
    """SARIF 2.1.0, one rule per category. A review without a verdict is a run that did not succeed, not a clean one."""
    findings = review.findings or []
    driver = {
        "name": "codex-counsel",
        "version": __version__,
        "rules": [_rule(category, findings) for category in CATEGORIES],
    }
    # By the specification, either all results of a run have a state or none has.
    is_on_record = all(finding.known for finding in findings)
    wire = review.wire()
    run = {
        "tool": {"driver": driver},
        "invocations": [_invocation(review)],
        "results": [_result(finding, is_on_record) for finding in findings],
        "properties": {
            "verdict": review.verdict,
            "coverage": wire.get("coverage", {}),
            "resolved": wire.get("resolved", []),
        },
    }
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [run],
    }


def _rule(category: Category, findings: list[Finding]) -> JsonObject:
    words = RULES[category]
    rule: JsonObject = {
        "id": f"codex/{category}",
        "name": words.name,
        "shortDescription": {"text": words.short},
        "fullDescription": {"text": words.full},
        "help": {"text": words.help, "markdown": words.help},
        "defaultConfiguration": {"level": "warning"},
        "properties": {"tags": [category]},
    }
    if category == "security":
        rule["properties"]["security-severity"] = SARIF_SCORES[_gravest(findings)]
    return rule


def _gravest(findings: list[Finding]) -> Severity:
    """The highest severity of a hole that nobody rejected and no test refuted; high where there is none."""
    severities = set()
    for finding in findings:
        if category_of(finding) == "security" and not finding.is_settled:
            severities.add(finding.severity)
    return min(severities, key=SEVERITIES.index, default="high")


def _invocation(review: Envelope) -> JsonObject:
    problem = why_not_clean(review)
    level = "error" if problem else "note"
    notes = [review.summary]
    if review.error:
        notes = problem.split("\n", 1)
    elif problem:
        notes.append(problem)
    notifications = []
    for note in (*notes, *review.meta.warnings):
        message = {"text": _without_links(note)}
        notifications.append({"level": level, "message": message})
    return {
        "executionSuccessful": not problem,
        "toolExecutionNotifications": notifications,
    }


def _result(finding: Finding, is_on_record: bool) -> JsonObject:
    texts = (
        finding.title,
        finding.risk,
        finding.recommendation,
        "\n".join(proof_lines(finding)),
    )
    parts = [text for text in texts if text]
    result: JsonObject = {
        "ruleId": rule_id(finding),
        "ruleIndex": CATEGORIES.index(category_of(finding)),
        "level": _level(finding),
        "message": {"text": _without_links("\n\n".join(parts))},
        "locations": [_location(finding)],
        "properties": _properties(finding),
    }
    if finding.id:
        result["partialFingerprints"] = {
            FINGERPRINT: visible(finding.id),
            "primaryLocationLineHash": visible(f"{finding.id}:1"),
        }
    if is_on_record and finding.known:
        result["baselineState"] = BASELINE_STATES[finding.known]
        # Without the list, nobody would know that the others were looked at.
        result["suppressions"] = _suppressions(finding)
    if finding.suggestion and finding.file:
        result["fixes"] = [_fix(finding.suggestion, finding.file)]
    return result


def _level(finding: Finding) -> str:
    if finding.is_settled:
        return "note"
    return SARIF_LEVELS[finding.severity]


def _suppressions(finding: Finding) -> list[JsonObject]:
    if not finding.is_rejected:
        return []
    suppression: JsonObject = {"kind": "external", "status": "accepted"}
    if finding.reason:
        suppression["justification"] = visible(finding.reason)
    return [suppression]


def _properties(finding: Finding) -> JsonObject:
    properties: JsonObject = {
        "severity": finding.severity,
        "security-severity": SARIF_SCORES[finding.severity],
        "grounded": finding.grounded or "unverified",
    }
    if finding.known:
        properties["known"] = finding.known
    if finding.carried:
        properties["carried"] = True
    if finding.section:
        properties["section"] = visible(finding.section)
    if finding.rule:
        rule = asdict(finding.rule)
        properties["rule"] = {name: visible(text) for name, text in rule.items()}
    if finding.proof:
        properties["proof"] = _proof(finding.proof)
    return properties


def _proof(proof: Proof) -> JsonObject:
    """All of the proof, as the envelope has it, without what does not apply."""
    values: JsonObject = {}
    for name, value in asdict(proof).items():
        if isinstance(value, str):
            values[name] = visible(value)
        elif value is not None:
            values[name] = value
    return values


def _without_links(text: str) -> str:
    """SARIF makes links of `[text](target)`, also in plain text."""
    return visible(text).replace("](", "] (")


def _location(finding: Finding) -> JsonObject:
    if not finding.file:
        description = {"text": "The finding names no file."}
        artifact = {"uri": NO_FILE, "description": description}
        return {"physicalLocation": {"artifactLocation": artifact}}
    physical: JsonObject = {"artifactLocation": {"uri": _uri(finding.file)}}
    if finding.line:
        physical["region"] = {
            "startLine": finding.line,
            "endLine": finding.line_end or finding.line,
        }
    return {"physicalLocation": physical}


def _uri(file: str) -> str:
    """A relative reference. A name that begins with slashes must not become the name of a host."""
    uri = quote(file, errors="replace")
    if uri.startswith("/"):
        return f".{uri}"
    return uri


def _fix(suggestion: Suggestion, file: str) -> JsonObject:
    # A region without columns ends before the line end of its last line.
    region = {"startLine": suggestion.start_line, "endLine": suggestion.end_line}
    text = replacement_lines(suggestion)
    if not suggestion.replacement:
        region = {
            "startLine": suggestion.start_line,
            "startColumn": 1,
            "endLine": suggestion.end_line + 1,
            "endColumn": 1,
        }
    replacement = {"deletedRegion": region, "insertedContent": {"text": visible(text)}}
    change = {
        "artifactLocation": {"uri": _uri(file)},
        "replacements": [replacement],
    }
    description = {"text": "What the reviewer proposes; check it before you apply it."}
    return {"description": description, "artifactChanges": [change]}
