"""A review as JUnit XML, for what shows the results of tests: each finding is a test case that failed."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from codex_counsel.cli.formats.rules import rule_id
from codex_counsel.cli.proof_text import message_with_proof, output_of
from codex_counsel.cli.review_text import (
    coverage_lines,
    place_of,
    title_of,
    why_not_clean,
)
from codex_counsel.contract.envelope import Envelope, Finding, Resolved
from codex_counsel.system.text import one_line, visible

NAME = "codex-counsel"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
"""ElementTree would declare the encoding of the locale."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no place for, not even as a reference."""
_ATTACHMENT = re.compile(r"\[(?=\[)")
"""Jenkins, GitLab and Azure attach the file that a line `[[ATTACHMENT|PATH]]` of an output names."""


def junit(review: Envelope) -> str:
    """One suite. A rejected or refuted finding is skipped, and a fixed one passes.

    A review without a verdict has a test case with an error.
    """
    cases = [_finding_case(finding) for finding in review.findings or ()]
    cases += [_resolved_case(resolved) for resolved in review.resolved or ()]
    problem = why_not_clean(review)
    if problem:
        case = _case("the review", NAME)
        _add(case, "error", problem, message=problem, type="codex/review")
        cases.append(case)
    elif not cases:
        cases.append(_case("the review", NAME))

    counts = {
        "tests": str(len(cases)),
        "failures": str(_count(cases, "failure")),
        "errors": str(_count(cases, "error")),
    }
    root = Element("testsuites", {"name": NAME, **counts})
    seconds = (review.meta.elapsed_ms or 0) / 1000
    attributes = {
        "name": "Codex review",
        **counts,
        "skipped": str(_count(cases, "skipped")),
        "time": f"{seconds:.3f}",
    }
    suite = SubElement(root, "testsuite", attributes)
    suite.append(_properties(review))
    suite.extend(cases)
    if review.ok:
        words = [review.summary, *coverage_lines(review)]
        _add(suite, "system-out", "\n".join(words))
    if review.meta.warnings:
        _add(suite, "system-err", "\n".join(review.meta.warnings))
    indent(root)
    return DECLARATION + tostring(root, encoding="unicode")


def _properties(review: Envelope) -> Element:
    coverage = review.coverage
    values: dict[str, object] = {
        "tool": review.tool,
        "verdict": review.verdict,
        "confidence": review.confidence,
        "job": review.meta.job_id,
        "thread": review.meta.session_id,
        "model": review.meta.model,
    }
    if coverage:
        values |= {
            "base": coverage.base_sha,
            "head": coverage.head_sha,
            "files": coverage.files,
            "bytes": coverage.bytes,
            "complete": str(coverage.complete).lower(),
            "left out": len(coverage.omitted),
        }
    properties = Element("properties")
    for name, value in values.items():
        if value is not None:
            attributes = {"name": name, "value": _xml_text(str(value))}
            SubElement(properties, "property", attributes)
    return properties


def _finding_case(finding: Finding) -> Element:
    name = f"{finding.severity}: {title_of(finding)}"
    case = _case(name, finding.file or finding.section or NAME)
    text = f"{place_of(finding)}\n{message_with_proof(finding)}"
    if finding.is_settled:
        _add(case, "skipped", text)
    else:
        _add(case, "failure", text, message=finding.title, type=rule_id(finding))
    if finding.evidence:
        _add(case, "system-out", finding.evidence)
    if finding.proof and finding.proof.output_tail:
        _add(case, "system-err", output_of(finding.proof))
    return case


def _resolved_case(resolved: Resolved) -> Element:
    """Stale ones are skipped: nobody looked at what stands there now."""
    name = f"{resolved.severity}: {one_line(resolved.title, 300)}"
    case = _case(name, resolved.file or NAME)
    words = f"{resolved.state}, id {resolved.id}"
    if resolved.state == "fixed":
        _add(case, "system-out", words)
    else:
        _add(case, "skipped", words)
    return case


def _case(name: str, group: str) -> Element:
    attributes = {
        "name": _xml_text(name),
        "classname": _xml_text(one_line(group, 500)),
        "time": "0",
    }
    return Element("testcase", attributes)


def _add(parent: Element, tag: str, text: str, **attributes: str) -> None:
    safe = {name: _xml_text(one_line(value)) for name, value in attributes.items()}
    SubElement(parent, tag, safe).text = _xml_text(text)


def _count(cases: list[Element], tag: str) -> int:
    return sum(case.find(tag) is not None for case in cases)


def _xml_text(text: str) -> str:
    return _NOT_XML.sub(_spelled_out, _ATTACHMENT.sub("[ ", visible(text)))


def _spelled_out(match: re.Match[str]) -> str:
    return f"<U+{ord(match[0]):04X}>"
