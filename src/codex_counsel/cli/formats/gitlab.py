"""A review as a Code Quality report of GitLab: the JSON of `artifacts:reports:codequality`."""

from __future__ import annotations

import hashlib
from collections import Counter

from codex_counsel.cli.formats.rules import rule_id
from codex_counsel.cli.proof_text import proof_lines
from codex_counsel.cli.review_text import (
    record_line,
    rule_line,
    title_of,
    why_not_clean,
)
from codex_counsel.contract.envelope import Envelope, Finding
from codex_counsel.contract.vocabulary import Severity
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

GITLAB_SEVERITIES: dict[Severity, str] = {
    "critical": "blocker",
    "high": "critical",
    "medium": "major",
    "low": "minor",
    "nit": "info",
}
NO_FILE = "."
"""The path of what belongs to no file: GitLab takes no entry without one."""
MAX_DESCRIPTION = 1_000


def gitlab(review: Envelope) -> list[JsonObject]:
    """One entry per finding. A review that has no verdict has a `blocker` that says so, because `[]` means clean."""
    entries = []
    fingerprints: Counter[str] = Counter()
    for finding in review.findings or ():
        entry = _entry(finding)
        entry["fingerprint"] = _unique(entry["fingerprint"], fingerprints)
        entries.append(entry)

    problem = why_not_clean(review)
    if problem:
        entries.append(
            {
                "description": one_line(visible(problem), MAX_DESCRIPTION),
                "check_name": "codex/review",
                "fingerprint": _unique(_hash("codex/review"), fingerprints),
                "severity": "blocker",
                "location": {"path": NO_FILE, "lines": {"begin": 1}},
            }
        )
    return entries


def _entry(finding: Finding) -> JsonObject:
    lines = {"begin": finding.line or 1}
    if finding.line_end:
        lines["end"] = finding.line_end
    path = visible(finding.file or NO_FILE)
    severity = GITLAB_SEVERITIES[finding.severity]
    if finding.is_settled:
        severity = "info"
    return {
        "description": _description(finding),
        "check_name": rule_id(finding),
        "fingerprint": visible(finding.id or _identity(finding)),
        "severity": severity,
        "location": {"path": path, "lines": lines},
    }


def _description(finding: Finding) -> str:
    parts = [f"{finding.severity}: {title_of(finding)}"]
    if finding.section and not finding.file:
        parts.append(finding.section)
    # First of all, because a long description is cut.
    parts += proof_lines(finding)[:1]
    parts += [finding.risk or "", rule_line(finding), record_line(finding)]
    parts += proof_lines(finding)[1:]
    words = " — ".join(part for part in parts if part)
    return one_line(visible(words), MAX_DESCRIPTION)


def _identity(finding: Finding) -> str:
    """For a finding that an earlier release stored without an id."""
    parts = (finding.file, finding.section, finding.title, finding.evidence)
    return _hash("\0".join(part or "" for part in parts))


def _unique(fingerprint: str, taken: Counter[str]) -> str:
    """The fingerprint, with a number where the report has it already: GitLab drops the second of two."""
    while taken[fingerprint]:
        taken[fingerprint] += 1
        fingerprint = f"{fingerprint}-{taken[fingerprint]}"
    taken[fingerprint] += 1
    return fingerprint


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
