"""What a reviewer may reply, and the verdict that each reply earns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from codex_counsel.contract import output_schema as schemas
from codex_counsel.contract.envelope import Finding, Rule
from codex_counsel.contract.vocabulary import CATEGORIES, SEVERITIES
from codex_counsel.prepare.prompt_parts import prompt_file
from codex_counsel.review.reply import (
    MAX_LISTED,
    ReviewReply,
    parse_reply,
    reply_schema,
)
from codex_counsel.review.verdict import final_verdict

PLAIN: dict[str, Any] = {
    "severity": "high",
    "category": "logic",
    "title": "Off by one",
    "file": "app.py",
    "line": 3,
    "line_end": 4,
    "evidence": "x = 1",
    "risk": "Wrong results.",
    "recommendation": "Count from 0.",
}
FINDING = PLAIN | {"replace_from": None, "replace_to": None, "replacement": None}
REPLY: dict[str, Any] = {
    "summary": "One fault.",
    "verdict": "fail",
    "confidence": "high",
    "findings": [FINDING],
    "questions": ["Why?"],
    "assumptions": [],
    "next_steps": ["Mend it."],
}


def reply_with(**changes: Any) -> ReviewReply:
    """The sound reply with these changes, parsed."""
    reply = parse_reply(json.dumps(REPLY | changes))
    assert reply
    return reply


def finding_with(**changes: Any) -> Finding:
    """The only finding, with these changes."""
    (finding,) = reply_with(findings=[FINDING | changes]).findings
    return finding


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)


@pytest.mark.parametrize("plan", [False, True])
def test_the_schema_is_one_that_the_provider_takes_in_strict_mode(plan: bool) -> None:
    schema = reply_schema(plan=plan)
    assert schemas.check_schema(schema) is schema
    assert all(part["additionalProperties"] is False for part in objects(schema))
    assert all(part["required"] == list(part["properties"]) for part in objects(schema))
    assert len(list(objects(schema))) == 2


RULE = {"rule_file": "AGENTS.md", "rule_quote": "Never log."}


@pytest.mark.parametrize("plan", [False, True])
def test_only_where_rules_were_sent_a_finding_names_one(plan: bool) -> None:
    without, with_rules = (
        reply_schema(plan=plan, rules=rules)["properties"]["findings"]["items"]
        for rules in (False, True)
    )
    assert schemas.check_schema(reply_schema(plan=plan, rules=True))
    assert set(with_rules["properties"]) - set(without["properties"]) == set(RULE)
    assert with_rules["required"] == list(with_rules["properties"])


@pytest.mark.parametrize(
    ("named", "rule"),
    [
        (RULE, Rule(file="AGENTS.md", quote="Never log.")),
        ({"rule_file": None, "rule_quote": None}, None),
        (RULE | {"rule_quote": None}, Rule(file="AGENTS.md", quote="")),
        (RULE | {"rule_file": ""}, Rule(file="", quote="Never log.")),
    ],
)
def test_the_rule_of_a_finding_is_read(
    named: dict[str, Any], rule: Rule | None
) -> None:
    text = json.dumps(REPLY | {"findings": [FINDING | named]})
    reply = parse_reply(text, rules=True)
    assert reply
    assert (reply.findings[0].rule, reply.matches_schema) == (rule, True)


def test_a_rule_breaks_the_schema_where_none_were_sent_or_it_is_missing() -> None:
    named = json.dumps(REPLY | {"findings": [FINDING | RULE]})
    for text, rules in ((named, False), (json.dumps(REPLY), True)):
        reply = parse_reply(text, rules=rules)
        assert reply
        assert not reply.matches_schema


def test_only_findings_on_a_plan_name_its_section() -> None:
    changes, plan = (
        next(iter(list(objects(reply_schema(plan=plan)))[1:])) for plan in (False, True)
    )
    assert set(plan["properties"]) - set(changes["properties"]) == {"section"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(REPLY),
        json.dumps(REPLY, indent=2),
        f"```json\n{json.dumps(REPLY)}\n```",
        f"  ```\n{json.dumps(REPLY)}\n```\n\n",
        f"```JSON \r\n{json.dumps(REPLY)}\r\n```",
    ],
    ids=[
        "plain",
        "indented",
        "fenced",
        "fenced without a language",
        "fenced with CRLF",
    ],
)
def test_a_reply_that_matches_the_schema_is_read_whole(text: str) -> None:
    reply = parse_reply(text)
    assert reply == ReviewReply(
        summary="One fault.",
        verdict="fail",
        confidence="high",
        findings=[Finding(**PLAIN)],
        questions=["Why?"],
        next_steps=["Mend it."],
    )


def test_a_section_belongs_to_the_schema_of_plans_only() -> None:
    text = json.dumps(REPLY | {"findings": [PLAIN | {"section": "Step 2"}]})
    as_plan, as_changes = parse_reply(text, plan=True), parse_reply(text)
    assert as_plan
    assert as_changes
    assert (as_plan.matches_schema, as_changes.matches_schema) == (True, False)
    assert as_plan.findings[0].section == as_changes.findings[0].section == "Step 2"


PROSE = {
    "prose": "I looked at it and everything is fine. pass",
    "nothing": "",
    "truncated": json.dumps(REPLY)[:-20],
    "a list": json.dumps([REPLY]),
    "a string": '"pass"',
    "null": "null",
    "no findings": '{"verdict": "pass"}',
    "findings that are no list": json.dumps(REPLY | {"findings": {"0": FINDING}}),
    "two replies": json.dumps(REPLY) * 2,
    "JSON inside prose": f"Here it is: {json.dumps(REPLY)}",
    "an unclosed fence": f"```json\n{json.dumps(REPLY)}",
    "deeper than any parser goes": "[" * 100_000,
    "deeper than any reply needs": json.dumps(REPLY)[:-1]
    + ', "x": '
    + "[" * 400
    + "]" * 400
    + "}",
    "a number of 10,000 digits": json.dumps(REPLY).replace(
        ": 3,", f": {'9' * 10_000},"
    ),
}


@pytest.mark.parametrize("text", PROSE.values(), ids=PROSE.keys())
def test_what_is_not_the_json_asked_for_is_no_reply(text: str) -> None:
    assert parse_reply(text) is None


@pytest.mark.parametrize("name", [name for name in REPLY if name != "findings"])
def test_a_missing_field_is_warned_of_and_breaks_the_schema(name: str) -> None:
    reply = parse_reply(
        json.dumps({key: value for key, value in REPLY.items() if key != name})
    )
    assert reply
    assert (reply.matches_schema, reply.warnings, len(reply.findings)) == (
        False,
        [f"the reply lacks {name}"],
        1,
    )


@pytest.mark.parametrize("name", FINDING)
def test_a_finding_that_lacks_a_field_is_kept_and_breaks_the_schema(name: str) -> None:
    reply = reply_with(
        findings=[{key: value for key, value in FINDING.items() if key != name}]
    )
    assert f"the reply: findings 1 lacks {name}" in reply.warnings
    assert (reply.matches_schema, len(reply.findings)) == (False, 1)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a verdict of another kind": (
        {"verdict": "approve"},
        "the reply: verdict is 'approve', none of pass, concerns, fail, unknown",
    ),
    "a verdict in a list": (
        {"verdict": ["pass"]},
        "the reply: verdict is ['pass'], not string",
    ),
    "no verdict": ({"verdict": None}, "the reply: verdict is None, not string"),
    "confidence as a number": (
        {"confidence": 0.9},
        "the reply: confidence is 0.9, not string",
    ),
    "a summary as a list": (
        {"summary": ["a"]},
        "the reply: summary is ['a'], not string",
    ),
    "questions as text": (
        {"questions": "Why?"},
        "the reply: questions is 'Why?', not array",
    ),
    "a question as a number": (
        {"questions": [1]},
        "the reply: questions 1 is 1, not string",
    ),
    "a line as a boolean": (
        {"findings": [FINDING | {"line": True}]},
        "the reply: findings 1: line is True, not integer or null",
    ),
    "a field of its own": ({"score": 10}, "the reply has an unknown 'score'"),
}


@pytest.mark.parametrize(("changes", "warning"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_type_is_warned_of_and_breaks_the_schema(
    changes: dict[str, Any], warning: str
) -> None:
    reply = reply_with(**changes)
    assert (reply.matches_schema, reply.warnings, len(reply.findings)) == (
        False,
        [warning],
        1,
    )


def test_no_verdict_is_made_of_a_word_that_is_none() -> None:
    words: list[Any] = ["approve", "PASS", ["pass"], None, {}, True]
    assert {reply_with(verdict=word).verdict for word in words} == {"unknown"}
    assert reply_with(confidence="very").confidence is None


def test_text_in_the_place_of_a_list_is_kept() -> None:
    reply = reply_with(
        questions="Why?",
        assumptions=[1, None, "", "b"],
        next_steps={"do": "it"},
        summary=["a", "ü"],
    )
    assert (reply.questions, reply.assumptions, reply.next_steps) == (
        ["Why?"],
        ["1", "b"],
        ['{"do": "it"}'],
    )
    assert reply.summary == '["a", "ü"]'


@pytest.mark.parametrize(
    ("severity", "expected"),
    [
        ("blocker", "critical"),
        ("P0", "critical"),
        ("Major", "high"),
        ("warning", "medium"),
        ("p3", "low"),
        ("info", "nit"),
        ("spooky", "medium"),
        ("", "medium"),
        (None, "medium"),
        (5, "medium"),
        (["high"], "medium"),
        ({"level": "high"}, "medium"),
    ],
)
def test_an_unknown_severity_is_kept_mapped_and_warned_of(
    severity: Any, expected: str
) -> None:
    reply = reply_with(verdict="concerns", findings=[FINDING | {"severity": severity}])
    assert (
        reply.findings[0].severity,
        reply.findings[0].title,
        reply.matches_schema,
    ) == (
        expected,
        "Off by one",
        False,
    )
    assert (
        f"unknown severities were counted: {severity!r} as {expected}" in reply.warnings
    )


@pytest.mark.parametrize("severity", ["SEV-1 blocker", "", None, 5])
def test_an_unknown_severity_below_a_fail_is_high(severity: Any) -> None:
    reply = reply_with(
        verdict="fail",
        findings=[FINDING | {"severity": severity}, FINDING | {"severity": "low"}],
    )
    assert [finding.severity for finding in reply.findings] == ["high", "low"]
    assert f"unknown severities were counted: {severity!r} as high" in reply.warnings


@pytest.mark.parametrize("word", SEVERITIES)
def test_a_severity_in_capitals_means_what_it_says(word: str) -> None:
    assert finding_with(severity=f" {word.upper()} ").severity == word


@pytest.mark.parametrize(
    ("first", "last", "lines"),
    [
        (3, None, (3, None)),
        (3, 5, (3, 5)),
        (3, 3, (3, 3)),
        (None, None, (None, None)),
        (None, 5, (5, None)),
        (5, 3, (5, None)),
        (True, False, (None, None)),
        (-1, -1, (None, None)),
        (0, 0, (None, None)),
        ("12", "14", (12, 14)),
        ("L12", "twelve", (None, None)),
        (12.0, 14.5, (12, None)),
        (10**30, 10**400, (None, None)),
        ([3], {"line": 3}, (None, None)),
    ],
)
def test_lines_are_positive_numbers_in_order_or_none(
    first: Any, last: Any, lines: tuple[int | None, int | None]
) -> None:
    finding = finding_with(line=first, line_end=last)
    assert (finding.line, finding.line_end) == lines


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e400", "-0.0"])
def test_a_line_that_is_no_number_of_mathematics_is_none(word: str) -> None:
    reply = parse_reply(json.dumps(REPLY).replace(": 3,", f": {word},"))
    assert reply
    assert (reply.findings[0].line, reply.matches_schema) == (4, False)


@pytest.mark.parametrize(
    ("item", "title"),
    [
        ("The lock is never released", "The lock is never released"),
        (7, "7"),
        (None, "(no title)"),
        (["a", "b"], '["a", "b"]'),
    ],
)
def test_a_finding_that_is_no_object_is_kept_as_a_title(item: Any, title: str) -> None:
    reply = reply_with(verdict="concerns", findings=[item, FINDING])
    assert [(finding.severity, finding.title) for finding in reply.findings] == [
        ("medium", title),
        ("high", "Off by one"),
    ]
    assert not reply.matches_schema


def test_a_finding_of_no_words_is_still_a_finding() -> None:
    reply = reply_with(findings=[{}, {"risk": "Data is lost."}])
    assert [finding.title for finding in reply.findings] == [
        "(no title)",
        "Data is lost.",
    ]


@pytest.mark.parametrize("plan", [False, True])
def test_the_schema_asks_for_the_kind_of_each_fault_by_a_closed_list(
    plan: bool,
) -> None:
    finding = reply_schema(plan=plan)["properties"]["findings"]["items"]
    assert finding["properties"]["category"]["enum"] == list(CATEGORIES)
    prompt = prompt_file("plan" if plan else "review")
    assert [word for word in CATEGORIES if word not in prompt] == []


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_is_read_as_it_is_and_in_capitals(category: str) -> None:
    assert finding_with(category=category).category == category
    assert finding_with(category=f" {category.upper()} ").category == category


@pytest.mark.parametrize(
    ("category", "matches_schema"),
    [("style", True), ("", True), (None, True), (5, False), (["logic"], False)],
)
def test_an_unknown_category_is_other_and_warned_of(
    category: Any, *, matches_schema: bool
) -> None:
    reply = reply_with(verdict="concerns", findings=[FINDING | {"category": category}])
    assert reply.findings[0].category == "other"
    assert reply.matches_schema is matches_schema
    warning = f"unknown categories were taken as other: {category!r}"
    assert warning in reply.warnings


def test_a_finding_without_a_category_is_other_and_breaks_the_schema() -> None:
    without = {name: value for name, value in FINDING.items() if name != "category"}
    reply = reply_with(findings=[without, "a mere sentence"])
    assert [finding.category for finding in reply.findings] == ["other", "other"]
    assert not reply.matches_schema


def test_fields_of_wrong_types_are_kept_as_text() -> None:
    finding = finding_with(
        title=["a"],
        file={"path": "x"},
        evidence=["x = 1", "y = 2"],
        risk=3,
        recommendation=None,
    )
    assert (finding.title, finding.file, finding.evidence) == (
        '["a"]',
        '{"path": "x"}',
        '["x = 1", "y = 2"]',
    )
    assert (finding.risk, finding.recommendation) == ("3", None)


def test_ten_thousand_broken_findings_are_all_kept_and_told_of_in_few_words() -> None:
    broken = [
        FINDING | {"severity": f"odd {number}", "extra": 1} for number in range(10_000)
    ]
    reply = reply_with(findings=broken)
    assert len(reply.findings) == 10_000
    assert len(reply.warnings) == MAX_LISTED + 2
    assert sum(map(len, reply.warnings)) < 2_000


def reply_of(
    verdict: Any, *severities: Any, matches_schema: bool = True
) -> ReviewReply:
    findings = [Finding(severity=severity, title="t") for severity in severities]
    return ReviewReply(
        summary="",
        verdict=verdict,
        confidence=None,
        findings=findings,
        matches_schema=matches_schema,
    )


RULES: dict[str, tuple[ReviewReply, bool, str, str]] = {
    "sound, complete, nothing found": (reply_of("pass"), True, "pass", ""),
    "nothing grave found": (reply_of("pass", "medium", "low", "nit"), True, "pass", ""),
    "a critical finding": (
        reply_of("pass", "nit", "critical"),
        True,
        "concerns",
        "critical or high",
    ),
    "a high finding": (reply_of("pass", "high"), True, "concerns", "critical or high"),
    "a high finding in part of the change": (
        reply_of("pass", "high"),
        False,
        "concerns",
        "critical or high",
    ),
    "part of the change": (reply_of("pass"), False, "unknown", "not all of the change"),
    "a broken schema": (
        reply_of("pass", matches_schema=False),
        True,
        "unknown",
        "breaks the schema",
    ),
    "a broken schema with a grave finding": (
        reply_of("pass", "high", matches_schema=False),
        True,
        "concerns",
        "high",
    ),
    "concerns": (
        reply_of("concerns", "critical", matches_schema=False),
        False,
        "concerns",
        "",
    ),
    "fail without findings": (reply_of("fail"), True, "fail", ""),
    "fail in part of the change": (reply_of("fail", "low"), False, "fail", ""),
    "unknown": (reply_of("unknown"), True, "unknown", ""),
}


@pytest.mark.parametrize(
    ("reply", "complete", "verdict", "reason"), RULES.values(), ids=RULES.keys()
)
def test_a_verdict_is_earned(
    reply: ReviewReply, complete: bool, verdict: str, reason: str
) -> None:
    stands, reasons = final_verdict(reply, complete=complete)
    assert stands == verdict
    assert bool(reasons) == bool(reason)
    assert reason in "".join(reasons)


def judged(
    verdict: Any,
    rejected: tuple[Any, ...] = (),
    others: tuple[Any, ...] = (),
    carried: tuple[Any, ...] = (),
    **changes: Any,
) -> str:
    """What remains of a verdict beside findings of these severities."""
    reply = reply_of(verdict, *rejected, *others)
    for finding in reply.findings[: len(rejected)]:
        finding.known = "rejected"
    still_there = [Finding(severity=severity, title="t") for severity in carried]
    options: dict[str, Any] = {"complete": True, "carried": still_there} | changes
    stands, reasons = final_verdict(reply, **options)
    assert bool(reasons) == (stands != verdict)
    return stands


@pytest.mark.parametrize(
    ("verdict", "rejected", "others", "expected"),
    [
        ("fail", ("high",), (), "pass"),
        ("fail", ("high",), ("nit",), "pass"),
        ("fail", ("medium",), (), "pass"),
        ("fail", ("high",), ("medium",), "concerns"),
        ("fail", ("critical", "low"), ("low",), "concerns"),
        ("fail", ("high",), ("high",), "fail"),
        ("fail", ("medium",), ("medium",), "fail"),
        ("fail", ("nit",), (), "fail"),
        ("concerns", ("low",), (), "pass"),
        ("concerns", ("high",), ("low",), "concerns"),
        ("concerns", ("nit",), (), "concerns"),
        ("unknown", ("high",), (), "unknown"),
        ("pass", ("critical",), (), "pass"),
        ("pass", ("critical",), ("high",), "concerns"),
    ],
)
def test_what_was_rejected_earlier_decides_no_verdict(
    verdict: Any, rejected: Any, others: Any, expected: str
) -> None:
    assert judged(verdict, rejected, others) == expected


def test_a_pass_that_is_left_by_rejected_findings_has_to_be_justified_as_well() -> None:
    doubts: list[dict[str, Any]] = [
        {"complete": False},
        {"cut_short": True},
        {"blind": True},
    ]
    for changes in doubts:
        assert judged("fail", ("high",), **changes) == "unknown"


@pytest.mark.parametrize(
    ("verdict", "carried", "expected"),
    [
        ("pass", ("critical",), "fail"),
        ("pass", ("low", "medium"), "concerns"),
        ("pass", ("nit",), "pass"),
        ("concerns", ("high",), "fail"),
        ("concerns", ("medium",), "concerns"),
        ("unknown", ("medium",), "unknown"),
        ("unknown", ("high",), "fail"),
        ("fail", ("low",), "fail"),
    ],
)
def test_what_is_carried_over_makes_a_verdict_worse_and_never_better(
    verdict: Any, carried: Any, expected: str
) -> None:
    assert judged(verdict, carried=carried) == expected


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("pass", "unknown"),
        ("concerns", "unknown"),
        ("fail", "fail"),
        ("unknown", "unknown"),
    ],
)
def test_only_a_fail_stays_where_open_findings_could_not_be_looked_up(
    verdict: Any, expected: Any
) -> None:
    assert judged(verdict, blind=True) == expected


def test_a_pass_that_was_read_from_a_broken_reply_does_not_stand() -> None:
    assert final_verdict(reply_with(verdict="pass", findings=[]), complete=True) == (
        "pass",
        [],
    )
    broken = reply_with(verdict="pass", findings=[{**FINDING, "severity": "harmless"}])
    assert final_verdict(broken, complete=True)[0] == "unknown"
