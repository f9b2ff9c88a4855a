"""A review in the format of its reader, whatever the reviewer wrote."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

import pytest

from codex_counsel.cli.comment_text import comment_text
from codex_counsel.cli.formats import render
from codex_counsel.cli.formats.github import github
from codex_counsel.cli.formats.markdown import MAX_TEST, markdown
from codex_counsel.cli.formats.sarif import sarif
from codex_counsel.cli.page import Page
from codex_counsel.cli.proof_text import MAX_OUTPUT, output_of, proof_lines
from codex_counsel.cli.render import DOCUMENTS, Output, add_envelope
from codex_counsel.cli.review_text import record_line
from codex_counsel.cli.verb_table import FORMATS
from codex_counsel.contract.envelope import Envelope, failed
from codex_counsel.contract.vocabulary import CATEGORIES, SEVERITIES
from codex_counsel.errors import Code, CounselError
from codex_counsel.services.checking import Bar, judge

FINDING: dict[str, Any] = {
    "severity": "high",
    "title": "Off by one",
    "file": "src/app.py",
    "line": 3,
    "line_end": 5,
    "evidence": "x = 1",
    "risk": "Wrong results.",
    "recommendation": "Count from 0.",
    "grounded": "verified",
    "in_diff": True,
}
META = {
    "elapsed_ms": 1500,
    "codex": {"path": "/bin/codex", "version": "0.163.0"},
    "session_id": "s",
    "warnings": ["pass became concerns"],
}
COVERAGE = {
    "files": 2,
    "bytes": 100,
    "omitted": [{"path": "a_b.png", "reason": "binary", "bytes": 7}],
    "complete": True,
    "redactions": 0,
}


CUT_SHORT = {"budget_reached": {"limit": 1000, "used": 1200}}


def review(*findings: dict[str, Any], **changes: Any) -> Envelope:
    wire = {
        "ok": True,
        "status": "completed",
        "tool": "codex_review_changes",
        "summary": "concerns: 1 high. Look.",
    }
    values = {
        "verdict": "concerns",
        "findings": [FINDING | finding for finding in findings],
        "coverage": COVERAGE,
    }
    return Envelope.parse({**wire, **values, "meta": META, **changes})


HOSTILE = "a%b\r\n::error file=x::boom\n::set-output name=a::b\n`` ``` # <b>, c: d"


# --- for a terminal


def terminal_text(result: Envelope) -> str:
    page = Page()
    add_envelope(page, result)
    return str(page)


def in_format(result: Envelope, name: str) -> str:
    if name == "text":
        return terminal_text(result)
    return render(result, name)


def test_text_shows_the_finding_its_place_and_what_was_left_out() -> None:
    output = terminal_text(review({}, questions=["Why?"]))
    assert (
        "HIGH  Off by one\n  src/app.py:3-5 (verified)\n  | x = 1\n  Wrong results.\n  -> Count from 0.\n"
        in output
    )
    assert "questions: Why?" in output
    assert (
        "  2 files, 100 bytes sent; all of the change was seen\n  left out: a_b.png (binary, 7 bytes)"
        in output
    )
    assert "note: pass became concerns" in output


RECORD: dict[str, Any] = {
    "id": "0123456789abcdef",
    "category": "error_handling",
    "known": "rejected",
    "reason": "It cannot be empty. (said by somebody)",
    "suggestion": {"start_line": 3, "end_line": 5, "replacement": "x = 2\ny = 3\n"},
}
RECORD_LINE = (
    "id 0123456789abcdef · error handling · rejected before: "
    "It cannot be empty. (said by somebody)"
)
RESOLVED = {
    "id": "00112233445566ff",
    "state": "fixed",
    "severity": "low",
    "title": "Was wrong",
    "file": "src/old.py",
}
SEEN_EARLIER = {
    "job_id": "f" * 32,
    "ended": "2026-11-22T10:00:00Z",
    "head_sha": "a" * 40,
    "files": 3,
}


def test_text_tells_what_is_on_record_and_what_is_proposed() -> None:
    recorded = review(
        RECORD, resolved=[RESOLVED], coverage=COVERAGE | {"seen": [SEEN_EARLIER]}
    )
    text = terminal_text(recorded)
    assert (
        "  replace lines 3 to 5 by:\n  + x = 2\n  + y = 3\n"
        f"  {RECORD_LINE}\n\n"
        "fixed: Was wrong · low · src/old.py · id 00112233445566ff\n"
    ) in text
    seen = f"seen earlier: 3 files, by job {'f' * 32} of 2026-11-22T10:00:00Z at {'a' * 12}\n"
    assert seen in text


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, ""),
        ({"known": "new"}, "new"),
        ({"known": "open", "carried": True}, "carried over · raised before"),
        ({"known": "returned"}, "was gone and is there again"),
        (
            {"id": "0123456789abcdef", "category": "logic"},
            "id 0123456789abcdef · logic",
        ),
    ],
)
def test_the_line_of_the_record_has_what_is_known(
    changes: dict[str, Any], line: str
) -> None:
    (finding,) = review(changes).findings or []
    assert record_line(finding) == line


def test_a_removal_is_called_so() -> None:
    removal = {"start_line": 4, "end_line": 4, "replacement": ""}
    given = review({"suggestion": removal})
    assert "  remove line 4\n" in terminal_text(given)
    assert "\nremove line 4\n" in markdown(given)


def test_markdown_tells_what_is_on_record_and_what_is_proposed() -> None:
    text = markdown(review(RECORD, resolved=[RESOLVED]))
    assert "\nreplace lines 3 to 5 by:\n\n```\nx = 2\ny = 3\n```\n" in text
    assert "\nid `0123456789abcdef` · error handling · rejected before: It " in text
    assert (
        "**resolved**\n\n"
        "- fixed: Was wrong · low · src/old.py · id `00112233445566ff`\n"
    ) in text


def test_annotations_tell_what_is_on_record_and_a_rejected_one_is_a_notice() -> None:
    first, last = github(review(RECORD, resolved=[RESOLVED])).splitlines()
    assert first.startswith("::notice file=src/app.py,line=3,endLine=5,")
    assert ",title=high%2C error handling%2C rejected%3A Off by one::" in first
    assert first.endswith(
        f"%0Areplace lines 3 to 5 by:%0Ax = 2%0Ay = 3%0A{RECORD_LINE}"
    )
    assert last.endswith("%0Afixed: Was wrong · low · src/old.py · id 00112233445566ff")


RULE = {"rule": {"file": "api/AGENTS.md", "quote": "Never\nlog a <b>password</b>."}}
RULE_LINES = {
    "html": "api/AGENTS.md",
    "rdjson": "rule of api/AGENTS.md: Never log a &lt;b&gt;password&lt;/b&gt;.",
    "gitlab": " — rule of api/AGENTS.md: Never log a <b>password</b>.",
    "junit": "\nrule of api/AGENTS.md: Never log a &lt;b&gt;password&lt;/b&gt;.",
    "text": "  rule of api/AGENTS.md: Never log a <b>password</b>.\n",
    "markdown": "rule of api/AGENTS.md: Never log a &lt;b&gt;password",
    "github": "%0Arule of api/AGENTS.md: Never log a <b>password</b>.",
    "json": '"file": "api/AGENTS.md"',
    "sarif": '"file": "api/AGENTS.md"',
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_names_the_rule_that_a_finding_rests_on(name: str) -> None:
    named, plain = (in_format(review(finding), name) for finding in (RULE, {}))
    assert RULE_LINES[name] in named
    assert "AGENTS.md" not in plain


def test_sarif_has_the_rule_among_the_properties_of_its_result() -> None:
    (result,) = sarif(review(RULE))["runs"][0]["results"]
    assert result["properties"]["rule"] == RULE["rule"]
    assert result["ruleId"] == "codex/other"


PROVEN: dict[str, Any] = {
    "grounded": "proven",
    "proof": {
        "status": "proven",
        "reason": "it fails here with an assertion, and passes on the base",
        "command": "pytest -q tests/test_app_proof.py",
        "exit_head": 1,
        "exit_other": 0,
        "other": "base",
        "patch": "diff --git a/t.py b/t.py\n+++ b/t.py\n+assert total([1]) == 1\n",
        "output_tail": "E   assert 0 == 1\n1 failed\n",
        "job_id": "5e" * 16,
    },
}
REFUTED: dict[str, Any] = {
    "severity": "nit",
    "proof": {
        "status": "refuted",
        "reason": "the test passes here",
        "command": "sh check.sh",
        "exit_head": 0,
    },
}
INCONCLUSIVE: dict[str, Any] = {
    "proof": {"status": "inconclusive", "reason": "the test never ended"}
}
PROOF_LINES = (
    "proven: it fails here with an assertion, and passes on the base",
    "test: pytest -q tests/test_app_proof.py (exit 1 on the reviewed state, 0 on the base)",
    f"the test: codex-counsel apply {'5e' * 16}",
)


def test_a_proof_says_what_was_run_how_it_ended_and_how_to_get_the_test() -> None:
    proven, refuted, inconclusive, plain = (
        review(PROVEN, REFUTED, INCONCLUSIVE, {}).findings or []
    )
    assert proof_lines(proven) == list(PROOF_LINES)
    assert proof_lines(refuted) == [
        "refuted: the test passes here",
        "test: sh check.sh (exit 0 on the reviewed state)",
    ]
    assert proof_lines(inconclusive) == ["inconclusive: the test never ended"]
    assert proof_lines(plain) == []


def test_a_test_that_needed_the_replacement_to_pass_says_so() -> None:
    (finding,) = review(in_proof(other="patched")).findings or []
    assert "0 with the proposed replacement)" in proof_lines(finding)[1]


def test_a_test_that_is_no_patch_of_a_job_is_not_offered() -> None:
    for missing in ("patch", "job_id"):
        (finding,) = review(in_proof(**{missing: None})).findings or []
        assert proof_lines(finding) == list(PROOF_LINES[:2])


def in_proof(**changes: Any) -> dict[str, Any]:
    return PROVEN | {"proof": PROVEN["proof"] | changes}


def test_documents_have_the_end_of_a_long_output() -> None:
    (finding,) = review(in_proof(output_tail=f"begins{'x' * 9_000}ends")).findings or []
    assert finding.proof
    output = output_of(finding.proof)
    assert (output[0], output[-4:], len(output)) == ("…", "ends", MAX_OUTPUT + 1)


def test_markdown_has_the_output_of_the_test_and_the_test() -> None:
    text = markdown(review(PROVEN))
    assert (
        "\n**proven**: it fails here with an assertion, and passes on the base\n\n"
        "test: `pytest -q tests/test_app_proof.py` "
        "(exit 1 on the reviewed state, 0 on the base)\n\n"
        f"the test: `codex-counsel apply {'5e' * 16}`\n\n"
        "```\nE   assert 0 == 1\n1 failed\n```\n\n"
        "```\ndiff --git a/t.py b/t.py\n+++ b/t.py\n+assert total([1]) == 1\n```\n"
    ) in text
    assert "`src/app.py:3-5 (proven)`" in text


def test_markdown_leaves_out_a_long_test_and_one_that_proves_nothing() -> None:
    for changes in ({"patch": f"+{'x' * MAX_TEST}"}, {"status": "inconclusive"}):
        text = markdown(review(in_proof(**changes)))
        assert "\n+" not in text
    assert "\n+" in markdown(review(in_proof(patch=f"\n+{'x' * 3_000}")))


def test_annotations_name_the_proof_in_their_title_and_a_refuted_one_is_a_notice() -> (
    None
):
    first, second, _ = github(
        review(PROVEN, REFUTED | {"severity": "high"})
    ).splitlines()
    assert first.startswith("::error ")
    assert ",title=high%2C proven%3A Off by one::" in first
    assert first.endswith(f"%0A(proven)%0A{'%0A'.join(PROOF_LINES)}")
    assert second.startswith("::notice ")
    assert ",title=high%2C refuted%3A Off by one::" in second


def test_sarif_has_the_whole_proof_and_a_refuted_finding_is_a_note() -> None:
    security = {"category": "security", "severity": "high"}
    (run,) = sarif(review(PROVEN, REFUTED | security))["runs"]
    proven, refuted = run["results"]
    assert proven["properties"]["proof"] == PROVEN["proof"]
    assert proven["properties"]["grounded"] == "proven"
    assert proven["message"]["text"].endswith("\n\n" + "\n".join(PROOF_LINES))
    assert (proven["level"], refuted["level"]) == ("error", "note")
    nits = sarif(review(REFUTED | security | {"severity": "critical"}))["runs"][0]
    rules = nits["tool"]["driver"]["rules"]
    (rule,) = (rule for rule in rules if rule["id"] == "codex/security")
    assert rule["properties"]["security-severity"] == "7.0"


def test_junit_skips_a_refuted_finding_and_shows_what_the_test_wrote() -> None:
    text = in_format(review(PROVEN, REFUTED), "junit")
    assert 'tests="2" failures="1"' in text
    assert text.count("<skipped>") == 1
    assert "<system-err>E   assert 0 == 1\n1 failed</system-err>" in text


def test_reviewdog_gets_a_refuted_finding_as_information() -> None:
    document = in_format(review(PROVEN, REFUTED | {"severity": "high"}), "rdjson")
    diagnostics = json.loads(document)["diagnostics"]
    assert [entry["severity"] for entry in diagnostics] == ["ERROR", "INFO"]


def test_gitlab_begins_with_the_status_of_the_proof() -> None:
    entries = json.loads(in_format(review(PROVEN, REFUTED), "gitlab"))
    descriptions = [entry["description"] for entry in entries]
    assert descriptions[0].startswith(f"high: Off by one — {PROOF_LINES[0]} — Wrong")
    assert descriptions[1].startswith("nit: Off by one — refuted: the test passes here")
    high = json.loads(in_format(review(REFUTED | {"severity": "high"}), "gitlab"))
    assert high[0]["severity"] == "info"


@pytest.mark.parametrize("name", [*DOCUMENTS, "json"])
def test_every_format_says_what_a_proof_came_to(name: str) -> None:
    for finding in (PROVEN, REFUTED, INCONCLUSIVE):
        output = in_format(review(finding), name)
        assert finding["proof"]["status"] in output
        assert finding["proof"]["reason"] in output
    assert "5e" * 16 in in_format(review(PROVEN), name)


RULE_FILES = [
    {"path": "AGENTS.md", "folder": "./", "bytes": 120, "changed": True},
    {"path": "REVIEW.md", "folder": "./", "bytes": 9, "omitted": "partial"},
    {"path": "a/REVIEW.md", "folder": "a/", "bytes": 0, "omitted": "secret_file"},
    {
        "path": "b/REVIEW.md",
        "folder": "b/",
        "bytes": 0,
        "omitted": "new",
        "changed": True,
    },
    {"path": "(and 3 more)", "folder": "", "bytes": 0, "omitted": "listing"},
]
RULE_FILE_LINES = (
    "review rules: AGENTS.md (for ./), 120 bytes sent, as they were before the change",
    "review rules: REVIEW.md (for ./), 9 bytes sent, not all of them",
    "review rules: a/REVIEW.md (for a/), not sent: secret file",
    "review rules: b/REVIEW.md (for b/), not in force: the change brings them",
    "review rules: (and 3 more), not sent: listing",
)


def test_text_and_markdown_list_the_rule_files() -> None:
    listed = review(coverage=COVERAGE | {"rules": RULE_FILES})
    text = terminal_text(listed)
    for line in RULE_FILE_LINES:
        assert f"  {line}\n" in text
    assert markdown(listed).count("- review rules: ") == len(RULE_FILES)


def test_a_review_of_a_plan_lists_its_rule_files_and_no_change() -> None:
    coverage = {"bytes": 10, "complete": True, "rules": RULE_FILES}
    text = terminal_text(review(tool="codex_review_plan", coverage=coverage))
    assert RULE_FILE_LINES[0] in text
    assert "of the change was seen" not in text


PLACES: dict[str, tuple[dict[str, Any], str]] = {
    "one line": ({"line_end": 3}, "src/app.py:3 (verified)"),
    "no line": ({"line": None, "line_end": None}, "src/app.py (verified)"),
    "elsewhere": (
        {"grounded": "moved", "in_diff": False},
        "src/app.py:3-5 (moved, outside the change)",
    ),
    "a plan": (
        {"file": None, "section": "Step 2", "in_diff": None},
        "Step 2 (verified)",
    ),
    "nothing": (
        {"file": None, "grounded": None, "in_diff": None},
        "no place named (unverified)",
    ),
}


@pytest.mark.parametrize(("changes", "place"), PLACES.values(), ids=PLACES.keys())
def test_the_place_of_a_finding_says_how_sure_it_is(
    changes: dict[str, Any], place: str
) -> None:
    finding = {
        name: value for name, value in (FINDING | changes).items() if value is not None
    }
    wire = review(findings=[finding])
    assert f"  {place}\n" in terminal_text(wire)
    assert f"`{place}`\n" in markdown(wire)


@pytest.mark.parametrize("name", ["text", "markdown"])
def test_an_answer_without_a_verdict_is_shown_whole(name: str) -> None:
    wire = review(verdict="unknown", answer="I could not\nsay.", findings=None)
    assert "I could not\nsay." in in_format(wire, name)


@pytest.mark.parametrize(
    ("finding", "named"),
    [
        ({"id": "0123456789abcdef", "known": "new"}, True),
        (RECORD, False),
        # An earlier release stored it.
        ({}, False),
    ],
)
def test_text_names_the_command_that_rejects_what_counts(
    finding: dict[str, Any], named: bool
) -> None:
    text = terminal_text(review(finding))
    assert ("codex-counsel findings reject ID --reason TEXT" in text) == named


def test_part_of_a_change_is_called_so() -> None:
    wire = review(coverage=COVERAGE | {"complete": False})
    assert "NOT all of the change was seen" in terminal_text(wire)
    assert "NOT all of the change was seen" in markdown(wire)


# --- for a pull request


def test_markdown_has_a_section_for_each_finding() -> None:
    output = markdown(review({}, next_steps=["Mend it."]))
    assert output.startswith(
        "## Codex: concerns: 1 high. Look.\n\n### high: Off by one\n\n`src/app.py:3-5 (verified)`\n"
    )
    assert "```\nx = 1\n```\n\nWrong results.\n\nCount from 0.\n" in output
    assert "**next steps**\n\n- Mend it.\n" in output
    assert (
        "\n- left out: a_b.png (binary, 7 bytes)\n- note: pass became concerns"
        in output
    )


@pytest.mark.parametrize("ticks", [1, 3, 4, 30])
def test_the_fence_is_longer_than_any_in_the_evidence(ticks: int) -> None:
    evidence = f"{'`' * ticks}\n# Not a heading\n{'`' * ticks}"
    output = markdown(review({"evidence": evidence}))
    fence = "`" * max(3, ticks + 1)
    assert f"\n{fence}\n{evidence}\n{fence}\n" in output


def test_a_title_and_a_name_stay_on_their_line() -> None:
    output = markdown(review({"title": "a\n\n# Heading", "file": "a`b\n# c.py"}))
    assert "### high: a # Heading\n" in output
    assert "`` a`b # c.py:3-5 (verified) ``\n" in output
    assert not re.search("^# ", output, re.MULTILINE)
    assert "HIGH  a # Heading\n" in terminal_text(review({"title": "a\n\n# Heading"}))


# --- for a workflow log


def test_annotations_name_file_lines_and_severity() -> None:
    rows = github(
        review({}, {"severity": "medium"}, {"severity": "nit", "line_end": None})
    ).splitlines()
    words = "Wrong results.%0ACount from 0."
    assert rows == [
        f"::error file=src/app.py,line=3,endLine=5,title=high%3A Off by one::{words}",
        f"::warning file=src/app.py,line=3,endLine=5,title=medium%3A Off by one::{words}",
        f"::notice file=src/app.py,line=3,title=nit%3A Off by one::{words}",
        "::notice title=Codex review::concerns: 1 high. Look.",
    ]


def test_no_text_of_a_reviewer_becomes_a_workflow_command() -> None:
    hostile = dict.fromkeys(
        ("title", "file", "evidence", "risk", "recommendation"), HOSTILE
    )
    rows = github(review(hostile, summary=f"concerns: {HOSTILE}")).split("\n")
    assert [row.partition(" ")[0] for row in rows] == ["::error", "::notice"]
    assert not any("\r" in row for row in rows)
    properties = rows[0].removeprefix("::error ").partition("::")[0]
    found = dict(part.split("=", 1) for part in properties.split(","))
    assert set(found) == {"file", "line", "endLine", "title"}
    assert unquote(found["file"]) == HOSTILE
    assert unquote(found["title"]) == f"high: {HOSTILE}"
    assert (
        unquote(rows[0].partition("::")[2].partition("::")[2])
        == f"{HOSTILE}\n{HOSTILE}"
    )


def test_an_annotation_holds_no_command_of_a_runner_that_looks_anywhere_in_a_line() -> (
    None
):
    hostile = "x ##[group]y ##vso[task.setvariable variable=z]1"
    output = github(review({"title": hostile, "risk": hostile}, summary=hostile))
    assert "##[" not in output
    assert "##vso[" not in output


def test_an_annotation_says_when_its_evidence_was_not_found() -> None:
    bare = {name: FINDING[name] for name in ("severity", "title")}
    assert (
        github(review({"grounded": "unverified"}))
        .splitlines()[0]
        .endswith("Count from 0.%0A(unverified)")
    )
    assert (
        github(review(findings=[bare])).splitlines()[0]
        == "::error title=high%3A Off by one::Off by one%0A(unverified)"
    )


def test_a_review_without_a_verdict_is_a_warning() -> None:
    assert (
        github(review(verdict="unknown", summary="unknown: prose"))
        == "::warning title=Codex review::unknown: prose%0AThe review has no verdict."
    )


def test_a_review_that_was_cut_short_is_a_warning() -> None:
    cut_short = review(verdict="concerns", meta=CUT_SHORT)
    assert github(cut_short).startswith("::warning title=Codex review::")


# --- for code scanning


def test_sarif_has_what_the_format_requires() -> None:
    log = sarif(
        review(
            {},
            {"severity": "nit", "line": None, "line_end": None},
            {"file": "a b/ü%.py", "line_end": None},
        )
    )
    assert (log["version"], log["$schema"]) == (
        "2.1.0",
        "https://json.schemastore.org/sarif-2.1.0.json",
    )
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "codex-counsel"
    assert driver["version"]
    rules = [rule["id"] for rule in driver["rules"]]
    assert rules == [f"codex/{category}" for category in CATEGORIES]
    assert all(rule["shortDescription"]["text"] for rule in driver["rules"])
    for result in run["results"]:
        assert result["ruleId"] in rules
        assert result["level"] in {"none", "note", "warning", "error"}
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert re.fullmatch(
            r"[\w./%-]+", location["physicalLocation"]["artifactLocation"]["uri"]
        )
    regions = [
        result["locations"][0]["physicalLocation"].get("region")
        for result in run["results"]
    ]
    assert regions == [
        {"startLine": 3, "endLine": 5},
        None,
        {"startLine": 3, "endLine": 3},
    ]
    assert (
        unquote(
            run["results"][2]["locations"][0]["physicalLocation"]["artifactLocation"][
                "uri"
            ]
        )
        == "a b/ü%.py"
    )
    assert run["invocations"][0]["executionSuccessful"] is True


def test_sarif_of_a_finding_without_a_file_has_a_location_that_says_so() -> None:
    (result,) = sarif(review(findings=[{"severity": "low", "title": "t"}]))["runs"][0][
        "results"
    ]
    (location,) = result["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {
            "uri": "no-file-named",
            "description": {"text": "The finding names no file."},
        }
    }
    assert (result["level"], result["message"]["text"]) == ("note", "t")


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"verdict": "unknown"}, "The review has no verdict."),
        ({"verdict": "fail"}, "The verdict is fail, and no finding says why."),
        ({"coverage": COVERAGE | {"complete": False}}, "Not all of the change"),
        ({"meta": META | CUT_SHORT}, "The review was cut short: it used up its 1,000"),
    ],
)
def test_what_the_gate_finds_inconclusive_says_so_wherever_it_is_shown(
    changes: dict[str, Any], doubt: str
) -> None:
    given = review(**{"verdict": "concerns", "summary": "All is well", **changes})
    assert judge(given, Bar()).outcome == "inconclusive"
    assert f"**{doubt}" in markdown(given)
    assert f"**{doubt}" in comment_text(given, 60_000)
    assert github(given).startswith("::warning ")
    assert doubt in github(given)
    (run,) = sarif(given)["runs"]
    assert run["invocations"][0]["executionSuccessful"] is False


def test_sarif_of_a_review_without_a_verdict_is_not_a_clean_one() -> None:
    wire = review(
        verdict="unknown", summary="unknown: prose", findings=None, coverage=None
    )
    (run,) = sarif(wire)["runs"]
    (invocation,) = run["invocations"]
    assert (run["results"], invocation["executionSuccessful"]) == ([], False)
    assert invocation["toolExecutionNotifications"][0] == {
        "level": "error",
        "message": {"text": "unknown: prose"},
    }


def test_sarif_of_a_review_that_was_cut_short_is_not_a_whole_one() -> None:
    (run,) = sarif(review({}, verdict="concerns", meta=CUT_SHORT))["runs"]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert len(run["results"]) == 1


# --- all of them


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_every_format_takes_every_severity_and_hostile_text(
    name: str, severity: str
) -> None:
    hostile = dict.fromkeys(
        ("title", "file", "section", "evidence", "risk", "recommendation"), HOSTILE
    )
    rule = {"file": HOSTILE, "quote": HOSTILE}
    finding = {**hostile, "severity": severity, "rule": rule}
    hostile_review = review(finding, questions=[HOSTILE])
    output = in_format(hostile_review, name)
    assert severity in output.lower() or name == "github"
    if name in ("json", "sarif"):
        assert json.loads(output)
    if name == "github":
        assert len(output.splitlines()) == 2


FAILURE = failed(
    "codex_review_changes",
    CounselError(Code.JOB_RUNNING, f"workspace_root: {HOSTILE}"),
)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_of_a_failure_names_it_and_what_to_do(name: str) -> None:
    output = in_format(FAILURE, name)
    assert "job_running" in output
    if name != "json":
        assert "codex-counsel result --wait JOB" in output
        assert "workspace_root" not in output
    if name == "github":
        assert output.startswith("::error title=Codex review::job_running: -C: a%25b")
        assert "\n" not in output


def test_sarif_of_a_failure_is_a_run_that_did_not_succeed() -> None:
    log = sarif(FAILURE)
    (run,) = log["runs"]
    (invocation,) = run["invocations"]
    levels = [note["level"] for note in invocation["toolExecutionNotifications"]]
    assert (log["version"], run["results"], invocation["executionSuccessful"]) == (
        "2.1.0",
        [],
        False,
    )
    assert levels == ["error", "error"]


def test_a_result_with_what_only_another_release_knows_is_printed_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wire = {
        "ok": True,
        "status": "completed",
        "tool": "codex_review_changes",
        "summary": "Read it all.",
        "verdict": "splendid",
        "meta": {"server_version": "9"},
    }
    Output().show(wire)
    assert json.loads(capsys.readouterr().out) == wire
