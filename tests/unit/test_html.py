"""A review as a page of HTML: what it shows, and that nothing in it is active but its own style and script."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from typing import Any

import pytest

from codex_counsel.cli.formats.html import MAX_PAGE, html
from codex_counsel.cli.output import GuardedStream
from codex_counsel.contract.envelope import Envelope, Usage, failed
from codex_counsel.contract.vocabulary import KNOWNS, SEVERITIES
from codex_counsel.errors import Code, CounselError
from codex_counsel.services.code_context import Snippet
from codex_counsel.system.json_values import Json
from codex_counsel.system.text import visible
from tests.hostile import ALL, ORDINARY, TEXTS, hidden_characters, obeyed_commands
from tests.pages import Node, parse_page
from tests.unit.test_formats import INCONCLUSIVE, PROVEN, REFUTED

ID = "0123456789abcdef"
FINDING: dict[str, Any] = {
    "id": ID,
    "severity": "high",
    "title": "Off by one",
    "category": "logic",
    "known": "new",
    "file": "src/app.py",
    "line": 3,
    "line_end": 4,
    "evidence": "x = 1",
    "risk": "Wrong results.\n\nSee `total` and **all** of it.",
    "recommendation": "Count from 0:\n```python\nx = 0 < 1\n```",
    "grounded": "verified",
    "in_diff": True,
}
META: dict[str, Any] = {
    "job_id": "4f" * 16,
    "session_id": "0199a213-81c0-7800-8aa1-bbab2a035a53",
    "model": "gpt-5.4-codex",
    "effort": "high",
    "elapsed_ms": 94_213,
    "codex": {"path": "/bin/codex", "version": "0.163.0"},
    "usage": {"input": 12_345, "cached_input": 2_000, "output": 678, "reasoning": 9},
    "scope": {"kind": "branch", "base": "origin/main", "paths": ["src", "docs"]},
    "warnings": ["pass became concerns"],
}
COVERAGE: dict[str, Any] = {
    "base_sha": "a" * 40,
    "head_sha": "b" * 40,
    "files": 2,
    "bytes": 1_234,
    "omitted": [{"path": "a_b.png", "reason": "secret_file", "bytes": 7}],
    "complete": False,
    "redactions": 1,
    "rules": [{"path": "AGENTS.md", "folder": "./", "bytes": 12}],
    "seen": [{"job_id": "5" * 32, "ended": "2026-11-20", "files": 9}],
}
SNIPPET = Snippet(2, ("a = 0", "x = 1", "y = 2", "", "\treturn"), "shown")


def review(*findings: dict[str, Any], **changes: Any) -> Envelope:
    wire = {
        "ok": True,
        "status": "completed",
        "tool": "codex_review_changes",
        "summary": f"concerns: {len(findings)} high. Look at it.",
        "verdict": "concerns",
        "confidence": "medium",
        "findings": [FINDING | finding for finding in findings],
        "coverage": COVERAGE,
        "meta": META,
    }
    return Envelope.parse(wire | changes)


def page_of(result: Envelope, **snippets: Snippet) -> Node:
    return parse_page(html(result, snippets))


def rows(figure: Node) -> list[tuple[str | None, str, list[str]]]:
    """Number, text and classes of each line of code."""
    return [
        (line.attributes.get("data-line"), line.text.rstrip("\n"), line.classes)
        for line in figure.all("span")
    ]


# --- what it shows


def facts_of(page: Node) -> dict[str, str]:
    rows = page.all("header")[0].one("dl").all("div")
    return {row.one("dt").text: row.one("dd").text for row in rows}


def test_the_tokens_of_proofs_stand_beside_those_of_the_review() -> None:
    usage = {"input": 9_000, "cached_input": 40, "output": 80, "reasoning": 5}
    envelope = review({})
    envelope.meta.usage_proofs = Usage(**usage)
    facts = facts_of(page_of(envelope))
    assert facts["Tokens of its proofs"] == "9,000 in (40 cached), 80 out"


def test_the_top_says_what_was_reviewed_by_whom_and_with_what_result() -> None:
    page = page_of(review({}, {"severity": "nit", "id": None}))
    top = page.all("header")[0]
    assert top.one("h1").text.startswith("concerns ")
    assert "medium confidence" in top.text
    assert top.one("p", "lead").text == "Look at it."
    assert [item.text for item in top.one("ul", "counts").all("li")] == [
        "1 high",
        "1 nit",
    ]
    assert facts_of(page) == {
        "Scope": "branch: src, docs",
        "Base": "origin/main aaaaaaaaaaaa",
        "Head": "bbbbbbbbbbbb",
        "Model": "gpt-5.4-codex",
        "Effort": "high",
        "Codex": "0.163.0",
        "Tokens": "12,345 in (2,000 cached), 678 out",
        "Time": "1 min 34 s",
    }
    assert META["job_id"] in page.one("footer").text
    assert META["session_id"] in page.one("footer").text


SUMMARIES = {
    "concerns: 1 high, 2 nit. Look.": "Look.",
    "pass: no findings. 3 files. Fine.": "3 files. Fine.",
    "fail: 1 high, 2 rejected earlier; resolved: 3. Look.": "Look.",
    "fail: 1 high; 1 proven, 2 refuted; resolved: 3. Look.": "Look.",
    "pass: no findings; 1 refuted. Look.": "Look.",
    "concerns: the reply is not JSON. 1 high. x": "the reply is not JSON. 1 high. x",
    "1 high. Look.": "1 high. Look.",
}


@pytest.mark.parametrize(("summary", "lead"), SUMMARIES.items())
def test_counts_that_the_top_shows_anyway_are_taken_out_of_the_summary(
    summary: str, lead: str
) -> None:
    page = page_of(review({}, summary=summary))
    assert page.one("p", "lead").text == lead


def test_a_rejected_finding_is_not_counted_among_those_that_are_raised() -> None:
    findings: list[dict[str, Any]] = [
        {"id": None, "known": "rejected"},
        {"id": None, "known": "returned"},
        {"id": None, "severity": "low", "known": "open", "carried": True},
    ]
    page = page_of(review(*findings, **FULL))
    assert [item.text for item in page.one("ul", "counts").all("li")] == [
        "1 high",
        "1 low",
        "1 returned",
        "1 carried over",
        "1 rejected",
        "1 resolved",
    ]


def test_a_finding_stands_beside_its_code_with_its_lines_marked() -> None:
    article = page_of(review({}), **{ID: SNIPPET}).one("article")
    assert article.one("h3").text == "Off by one"
    assert article.one("p", "place").text == "src/app.py:3-4verified"
    (figure,) = article.all("figure")
    assert rows(figure) == [
        ("2", "a = 0", []),
        ("3", "x = 1", ["hit"]),
        ("4", "y = 2", ["hit"]),
        ("5", "", []),
        ("6", "\treturn", []),
    ]
    assert article.attributes["id"] == f"f-{ID}"
    assert article.attributes["data-severity"] == "high"
    assert [tag.text for tag in article.one("p", "tags").all("span")] == [
        "high",
        "new",
        "logic",
    ]


def test_code_of_which_not_all_is_shown_says_so() -> None:
    article = page_of(review({"line_end": 90}), **{ID: SNIPPET}).one("article")
    assert article.one("figcaption").text.endswith(", to line 6 of 90")


NOTE = "there is no job any more"
QUOTED = {
    "no code": ({}, "Quoted by the reviewer", [None]),
    "why there is no code": (
        {ID: Snippet(note=NOTE)},
        f"Quoted by the reviewer; {NOTE}",
        [None],
    ),
    "other code": (
        {ID: Snippet(1, ("y",), "absent")},
        "Quoted by the reviewer",
        [None, "1"],
    ),
    "removed": ({ID: Snippet(evidence="removed")}, "Removed by the change", [None]),
}


@pytest.mark.parametrize(
    ("snippets", "title", "numbers"), QUOTED.values(), ids=QUOTED.keys()
)
def test_what_is_not_in_the_code_is_quoted(
    snippets: dict[str, Snippet], title: str, numbers: list[str | None]
) -> None:
    page = page_of(review({}), **snippets)
    figures = page.one("article").all("figure")
    assert figures[0].one("figcaption").text == title
    assert rows(figures[0]) == [(None, "x = 1", [])]
    shown = [number for figure in figures for number, _, _ in rows(figure)]
    assert shown == numbers
    assert (NOTE in page.one("section", "notes").text) == (NOTE in title)


def test_the_words_of_the_reviewer_keep_their_code_and_paragraphs() -> None:
    article = page_of(review({})).one("article")
    risk, recommendation = article.all("div", "words")
    assert [part.text for part in risk.all("p")] == [
        "Wrong results.",
        "See total and all of it.",
    ]
    assert (risk.one("code").text, risk.one("strong").text) == ("total", "all")
    assert recommendation.one("pre").text == "x = 0 < 1"
    assert recommendation.one("p").text == "Count from 0:"


SUGGESTIONS: dict[
    str, tuple[Any, tuple[str, ...] | None, str, list[tuple[str, str]]]
] = {
    "one line of three": (
        {"start_line": 2, "end_line": 4, "replacement": "a\nB\nc"},
        ("a", "b", "c"),
        "Suggestion: replace lines 2-4",
        [("", "a"), ("del", "b"), ("ins", "B"), ("", "c")],
    ),
    "lines that are not known": (
        {"start_line": 2, "end_line": 2, "replacement": "a\n"},
        None,
        "Suggestion: replace line 2",
        [("ins", "a")],
    ),
    "lines removed": (
        {"start_line": 2, "end_line": 3, "replacement": ""},
        ("a", "b"),
        "Suggestion: remove lines 2-3",
        [("del", "a"), ("del", "b")],
    ),
    "a line put between": (
        {"start_line": 2, "end_line": 3, "replacement": "a\nnew\na"},
        ("a", "a"),
        "Suggestion: replace lines 2-3",
        [("", "a"), ("ins", "new"), ("", "a")],
    ),
}


@pytest.mark.parametrize(
    ("suggestion", "replaced", "title", "expected"),
    SUGGESTIONS.values(),
    ids=SUGGESTIONS.keys(),
)
def test_a_suggestion_is_a_small_diff(
    suggestion: Any,
    replaced: tuple[str, ...] | None,
    title: str,
    expected: list[tuple[str, str]],
) -> None:
    snippet = Snippet(1, ("x",), "shown", replaced)
    page = page_of(review({"suggestion": suggestion}), **{ID: snippet})
    figure = page.one("figure", "diff")
    assert figure.one("figcaption").text == title
    assert [(" ".join(style), line) for _, line, style in rows(figure)] == expected


@pytest.mark.parametrize("known", KNOWNS)
def test_what_was_on_record_is_shown_with_the_reason(known: str) -> None:
    reason = "it is meant so (said by the caller)"
    page = page_of(review({"known": known, "reason": reason}))
    article = page.one("article")
    assert known in article.classes
    assert article.attributes["data-known"] == known
    assert article.one("p", "reason").text == f"{known.capitalize()}: {reason}"


def test_a_proof_shows_what_was_run_its_output_and_the_test() -> None:
    article = page_of(review(PROVEN)).one("article")
    assert article.one("p", "place").text == "src/app.py:3-4proven"
    assert article.attributes["data-proof"] == "proven"
    proof = article.one("div", "proof")
    assert proof.all("p")[0].text == f"proven {PROVEN['proof']['reason']}"
    facts = {
        entry.one("dt").text: entry.one("dd").text
        for entry in proof.one("dl").all("div")
    }
    assert facts == {
        "Test": "pytest -q tests/test_app_proof.py",
        "On the reviewed state": "exit 1",
        "On the base": "exit 0",
        "Job": "5e" * 16,
    }
    output, patch = proof.all("figure")
    assert [line for _, line, _ in rows(output)] == ["E   assert 0 == 1", "1 failed"]
    assert rows(patch) == [
        (None, "diff --git a/t.py b/t.py", []),
        (None, "+++ b/t.py", []),
        (None, "+assert total([1]) == 1", ["ins"]),
    ]
    hint = proof.one("details").one("p").text
    assert hint == f"Put it into your files: codex-counsel apply {'5e' * 16}"


def test_long_outputs_and_tests_are_shown_in_part_and_say_so() -> None:
    lines = "".join(f"{number}\n" for number in range(500))
    long = PROVEN["proof"] | {"output_tail": lines, "patch": lines}
    proof = page_of(review({"proof": long})).one("div", "proof")
    output, patch = proof.all("figure")
    assert output.one("figcaption").text.endswith("; the last 200 of 500 lines")
    assert [line for _, line, _ in rows(output)][-1] == "499"
    summary = proof.one("summary").text
    assert summary == "The test, as a patch; the first 200 of 500 lines"
    assert rows(patch)[0] == (None, "0", [])


def test_a_refuted_finding_is_not_counted_and_the_page_filters_by_proof() -> None:
    page = page_of(
        review(
            *({"id": None} | proof for proof in (PROVEN, REFUTED, INCONCLUSIVE, {})),
        )
    )
    counts = [item.text for item in page.one("ul", "counts").all("li")]
    assert counts == ["3 high", "1 proven", "1 refuted"]
    buttons = [
        button.text
        for button in page.all("button")
        if button.attributes.get("data-filter") == "proof"
    ]
    assert buttons == ["proven 1", "refuted 1", "inconclusive 1", "untested 1"]
    assert "refuted" in page.all("article")[1].classes


def test_lists_coverage_and_what_was_resolved_follow_the_findings() -> None:
    resolved = [{"id": ID, "state": "stale", "severity": "low", "title": "Old"}]
    page = page_of(
        review(
            {"rule": {"file": "AGENTS.md", "quote": "Count from 0."}},
            resolved=resolved,
            questions=["Why?"],
            next_steps=["Go on."],
        )
    )
    sections = {part.one("h2").text: part.text for part in page.all("section", "more")}
    assert list(sections) == ["Resolved", "Questions", "Next steps", "Coverage"]
    assert f"stalelowOld{ID}" in sections["Resolved"]
    assert (
        "2 files, 1,234 bytes sent. NOT all of the change was seen."
        in sections["Coverage"]
    )
    assert "a_b.png secret file, 7 bytes" in sections["Coverage"]
    assert "9 files, 2026-11-20, job 5555" in sections["Coverage"]
    assert "AGENTS.md (for ./), 12 bytes sent" in sections["Coverage"]
    assert page.one("p", "rule").text == "Rests on a rule of AGENTS.md: Count from 0."
    notes = page.one("section", "notes").text
    assert "NOT all of the change was seen" in notes
    assert "pass became concerns" in notes


def test_a_command_in_a_warning_is_shown_as_code() -> None:
    warnings = ["see `codex-counsel findings`, not <b>that</b>"]
    notes = page_of(review(meta=META | {"warnings": warnings})).one("section", "notes")
    assert [code.text for code in notes.all("code")] == ["codex-counsel findings"]
    assert "see codex-counsel findings, not <b>that</b>" in notes.text


def test_a_long_list_is_folded_and_whole() -> None:
    omitted = [{"path": f"f{number}", "reason": "budget"} for number in range(50)]
    page = page_of(review(coverage=COVERAGE | {"omitted": omitted}))
    assert page.one("details").one("summary").text == "38 more"
    assert [code.text for code in page.all("code")][:50] == [f"f{n}" for n in range(50)]


def test_a_failure_is_a_page_that_says_what_to_do() -> None:
    error = CounselError(Code.JOB_RUNNING, "It runs.", details={"job_id": "a"})
    page = page_of(failed("codex_review_changes", error, answer="So far so good."))
    assert page.one("h1").text == "Nothing was reviewed"
    assert "job_running: It runs." in page.text
    assert "codex-counsel result --wait JOB" in page.text
    assert "Interim message, no finished review" in page.text
    assert "So far so good." in page.text
    assert page.all("article") == []


def test_a_review_in_prose_is_shown_with_its_answer() -> None:
    page = page_of(
        review(verdict="unknown", findings=None, answer="It is *fine*.\n\nTruly.")
    )
    assert page.one("h1").text.startswith("unknown The review came to no verdict.")
    section = page.all("section", "more")[0]
    assert [part.text for part in section.all("p")] == ["It is *fine*.", "Truly."]
    assert page.all("ul", "counts") == []


def test_a_review_of_a_plan_names_sections_and_has_no_files() -> None:
    finding = {"section": "2. Roll out", "file": None, "line": None, "line_end": None}
    page = page_of(review(finding, tool="codex_review_plan", coverage=None))
    assert page.one("p", "place").one("code").text == "2. Roll out"
    assert page.one("p", "eyebrow").text == "Codex review of a plan"


def test_an_old_result_without_ids_has_anchors_all_the_same() -> None:
    old = {"id": None, "known": None, "category": None}
    page = page_of(review(old, old), **{"#1": SNIPPET})
    first, second = page.all("article")
    assert (first.attributes["id"], second.attributes["id"]) == ("f-1", "f-2")
    assert second.one("figure").one("figcaption").text == "Code as it was reviewed"
    assert page.all("div", "toggles") == [page.one("div", "toggles")]


def test_without_findings_there_is_nothing_to_filter() -> None:
    page = page_of(review(verdict="pass", findings=[]))
    assert page.one("ul", "counts").text == "No findings"
    assert page.all("div", "controls") == []


def test_filters_are_hidden_until_a_script_shows_them() -> None:
    page = page_of(review({}, {"id": None, "severity": "low", "file": "b.py"}))
    assert "hidden" in page.one("div", "controls").attributes
    assert [option.text for option in page.all("option")] == [
        "All files",
        "b.py",
        "src/app.py",
    ]
    assert [part.attributes.get("hidden", "shown") for part in page.all("article")] == [
        "shown"
    ] * 2


# --- nothing active


ELEMENTS = """
    html head meta title style script body a header p h1 h2 h3 h4 span ul ol li b dl dt dd div section nav main
    article code pre figure figcaption strong q wbr details summary footer dialog form button select option input
    output kbd
""".split()  # noqa: SIM905  # a table
ATTRIBUTES = """
    lang charset http-equiv content name class href id dir tabindex aria-labelledby aria-label aria-live aria-pressed
    role hidden type placeholder autocomplete spellcheck maxlength value method title data-severity data-known
    data-proof data-file data-line data-filter data-value data-key data-same open
""".split()  # noqa: SIM905


def assert_is_inert(text: str) -> Node:
    """The page, if it is made of nothing but our own elements and attributes."""
    page = parse_page(text)
    nodes = page.all()
    assert {node.name for node in nodes} <= set(ELEMENTS)
    assert {name for node in nodes for name in node.attributes} <= set(ATTRIBUTES)
    for node in nodes:
        assert re.fullmatch(r"#[\w-]+", node.attributes.get("href") or "#x")
    assert len(page.all("style")) == len(page.all("script")) == 1
    return page


def replaced(value: Json, text: str, keep: tuple[str, ...]) -> Json:
    """The JSON value with every string replaced, but for the words of the contract."""
    if isinstance(value, str):
        return value if value in keep else text
    if isinstance(value, list):
        return [replaced(item, text, keep) for item in value]
    if isinstance(value, dict):
        return {name: replaced(item, text, keep) for name, item in value.items()}
    return value


FULL: dict[str, Any] = {
    "resolved": [
        {"id": ID, "state": "fixed", "severity": "low", "title": "Old", "file": "b.py"}
    ],
    "questions": ["?"],
    "assumptions": ["a"],
    "next_steps": ["n"],
    "answer": "prose",
}
RICH: dict[str, Any] = {
    "rule": {"file": "AGENTS.md", "quote": "No."},
    "reason": "because",
    "section": "s",
    "suggestion": {"start_line": 3, "end_line": 3, "replacement": "y"},
    "proof": PROVEN["proof"],
}
WORDS = (
    *SEVERITIES,
    *KNOWNS,
    "concerns",
    "medium",
    "completed",
    "fixed",
    "logic",
    "verified",
    "proven",
    "base",
)


def hostile_page(text: str) -> str:
    values = review(RICH, RICH | {"section": "t", "file": None}, **FULL).wire()
    hostile = replaced(values, text, (*WORDS, "codex_review_changes"))
    code = Snippet(2, (text, text), "absent", (text,), note=text)
    return html(Envelope.parse(hostile), {text: code, "#1": code})


@pytest.mark.parametrize(
    "text", [*TEXTS.values(), ALL, "</script></style><!--<script>", "\"'><x y=z>"]
)
def test_text_of_a_model_does_nothing_in_any_field(text: str) -> None:
    output = hostile_page(text)
    page = assert_is_inert(output)
    # What an emoji is made of stays.
    assert hidden_characters(output) <= hidden_characters(visible(text))
    assert obeyed_commands(output) == []
    shown = re.sub(r"\s+", "", page.text)
    line = visible(text).split("\n")[0].replace("`", "").replace("**", "")
    assert re.sub(r"\s+", "", line) in shown.replace("`", "").replace("**", "")


def test_a_failure_with_hostile_text_is_inert_too() -> None:
    error = CounselError(Code.INTERNAL, ALL, repair=ALL, details={ALL: ALL})
    output = html(failed("codex_review_changes", error, answer=ALL), {})
    assert_is_inert(output)
    assert obeyed_commands(output) == []


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY.keys())
def test_ordinary_text_of_any_script_stays_as_it_is(text: str) -> None:
    page = page_of(review({"risk": text}))
    risk = page.one("div", "risk").text.removeprefix("Risk")
    assert risk.splitlines() == visible(text).splitlines()


def test_the_policy_allows_the_style_and_the_script_of_the_page_alone() -> None:
    stream = io.StringIO()
    # As it is printed in a workflow, where commands are taken out of the output.
    GuardedStream(stream, in_workflow=True).write(html(review({}), {}))
    page = parse_page(stream.getvalue())
    first, policy = page.one("head").all("meta")[:2]
    assert first.attributes == {"charset": "utf-8"}
    assert policy.attributes["http-equiv"] == "Content-Security-Policy"
    rules = dict(
        rule.split(" ", 1) for rule in str(policy.attributes["content"]).split("; ")
    )
    assert rules == {
        "default-src": "'none'",
        "style-src": digest(page.one("style").text),
        "script-src": digest(page.one("script").text),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def digest(text: str) -> str:
    return (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    )


def test_style_and_script_name_nothing_outside_of_the_page() -> None:
    page = page_of(review({}))
    style, script = page.one("style").text, page.one("script").text
    assert re.findall(r"url\(|@import|https?:|//\w", style) == []
    assert (
        re.findall(
            r"https?:|fetch|XMLHttp|WebSocket|import\b|innerHTML|outerHTML|insertAdjacent|eval|Function\(|open\(",
            script,
        )
        == []
    )


# --- size


def test_a_thousand_findings_with_code_are_one_page_of_bounded_size() -> None:
    findings = [
        {"id": f"{number:016x}", "file": f"src/f{number % 40}.py"}
        for number in range(1000)
    ]
    code = Snippet(1, ("    value = compute(first, second)  # & so on",) * 14, "shown")
    output = html(review(*findings), {finding["id"]: code for finding in findings})
    assert len(output.encode()) < MAX_PAGE
    assert len(parse_page(output).all("figure")) == 1000
    assert "left out" not in output


def test_code_that_would_make_the_page_too_big_is_left_out_and_the_page_says_so() -> (
    None
):
    findings = [{"id": f"{number:016x}"} for number in range(1000)]
    code = Snippet(1, ("<" * 400,) * 20, "shown")
    output = html(review(*findings), {finding["id"]: code for finding in findings})
    assert len(output.encode()) < MAX_PAGE
    page = parse_page(output)
    kept = [figure for figure in page.all("figure") if "reviewed" in figure.text]
    assert 0 < len(kept) < 1000
    left_out = f"The code of {1000 - len(kept)} findings was left out"
    assert left_out in page.one("section", "notes").text
    assert len(page.all("article")) == 1000


def test_a_text_without_end_is_cut_and_says_so() -> None:
    page = page_of(review({"risk": "x" * 50_000}))
    assert page.one("div", "risk").text.endswith("(30,000 more characters)")


def test_a_quotation_without_end_is_cut_and_says_so() -> None:
    figure = page_of(review({"evidence": f"{'x' * 900}\n" * 900})).one("figure")
    assert len(rows(figure)) == 100
    assert {len(line) for _, line, _ in rows(figure)} == {400}
    assert "the first 100 of 900 lines" in figure.one("figcaption").text


def test_findings_without_end_are_left_out_and_the_page_says_so() -> None:
    findings = [{"id": None, "risk": "<" * 20_000} for _ in range(300)]
    output = html(
        review(*findings, questions=["?" * 3_000] * 500, answer="<" * 500_000), {}
    )
    assert len(output.encode()) < MAX_PAGE
    page = parse_page(output)
    shown = len(page.all("article"))
    assert 0 < shown < 300
    assert f"{300 - shown} findings were left out" in page.one("section", "notes").text
    assert len(page.one("nav", "index").all("li")) == shown
    assert "188 more, and others that are not listed here" in page.text


def test_the_page_is_the_same_in_every_encoding_of_a_terminal() -> None:
    page = page_of(review({}))
    assert (page.one("style").text + page.one("script").text).isascii()
