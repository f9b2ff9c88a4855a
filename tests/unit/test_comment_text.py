"""The text of the comment on a pull request: what is new first, everything counted, nothing active."""

from __future__ import annotations

from typing import Any

import pytest

from codex_counsel.cli.comment_text import MAX_ENTRIES, comment_text
from codex_counsel.contract.envelope import Envelope, Meta, failed
from codex_counsel.errors import Code, CounselError
from codex_counsel.hub.comments import MAX_CHARACTERS, Stamp
from tests import hostile
from tests.unit.test_formats import COVERAGE, CUT_SHORT, META, PROVEN, review
from tests.unit.test_formats_hostile import FIELDS
from tests.unit.test_inert_markdown import ALLOWED, OURS, assert_inert, tokens

ROOM = MAX_CHARACTERS["github"]
RESOLVED = {
    "id": "f00",
    "state": "fixed",
    "severity": "high",
    "title": "Gone",
    "file": "gone.py",
}
OF_COMMENT = ALLOWED | OURS | {"html_block", "hr"}
OUR_HTML = ("<details><summary>", "</details>")
HEAD, BASE = "a1" * 20, "b2" * 20


def text_of(given: Envelope, room: int = ROOM, newest: str | None = None) -> str:
    text = comment_text(given, room, newest)
    assert len(text) <= room
    return text


def place(text: str, words: str) -> int:
    """Where the words are; fails where they are not, or are twice."""
    assert text.count(words) == 1, text
    return text.index(words)


def test_new_findings_come_first_in_full_and_the_others_in_brief() -> None:
    text = text_of(
        review(
            {"title": "Old", "known": "open", "risk": "Risk of old"},
            {"title": "Carried", "carried": True, "risk": "Risk of carried"},
            {"title": "Denied", "known": "rejected", "reason": "fine (by me)"},
            {"title": "Fresh", "known": "new", "risk": "Risk of fresh"},
            {"title": "Back", "known": "returned", "risk": "Risk of back"},
            {"title": "Plain", "risk": "Risk of plain"},
            PROVEN
            | {
                "title": "Shown wrong",
                "proof": {"status": "refuted", "reason": "It passes."},
            },
            resolved=[RESOLVED],
            questions=["Why so?"],
        )
    )
    place(text, "2 new · 2 open · 1 returned · 1 rejected · 1 refuted · 1 resolved")
    order = [
        "### high: Fresh",
        "### high: Back",
        "### high: Plain",
        "**Raised before, and still there**",
        "- high: Old",
        "- high: Carried",
        "**Resolved since the last review**",
        "- fixed: Gone · high · gone.py",
        "<details><summary>2 findings rejected or refuted: they decide nothing</summary>",
        "- high: Denied",
        "- high: Shown wrong",
        "<details><summary>Questions</summary>",
        "- Why so?",
        "- left out: a_b.png",
        "- note: pass became concerns",
    ]
    places = [place(text, words) for words in order]
    assert places == sorted(places)
    assert "fine (by me)" in text
    for name in ("old", "carried"):
        assert f"Risk of {name}" not in text
    for name in ("fresh", "back", "plain"):
        assert f"Risk of {name}" in text


def test_commits_are_named_and_a_newer_one_is_said() -> None:
    coverage = COVERAGE | {"head_sha": HEAD, "base_sha": BASE}
    given = review({}, coverage=coverage)
    text = text_of(given)
    assert f"Commit `{HEAD[:12]}`, compared with `{BASE[:12]}`." in text
    assert "newest" not in text
    text = text_of(given, newest="c3" * 20)
    assert "**The newest commit is `c3c3c3c3c3c3`: this review does not know it" in text


def test_what_is_no_commit_is_not_shown_as_one() -> None:
    coverage = COVERAGE | {"head_sha": "@all", "base_sha": "x" * 40}
    text = text_of(review({}, coverage=coverage))
    assert "Commit" not in text
    assert "@all" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"coverage": COVERAGE | {"complete": False}},
            "Not all of the change was seen",
        ),
        ({"meta": META | CUT_SHORT}, "it used up its 1,000 tokens"),
        ({"verdict": "unknown"}, "The review has no verdict"),
        ({"verdict": "fail"}, "The verdict is fail, and no finding says why."),
    ],
)
def test_a_review_that_is_not_clean_says_so_in_bold(
    changes: dict[str, Any], words: str
) -> None:
    text = text_of(review(**{"verdict": "pass", **changes}))
    (bold,) = [line for line in text.splitlines() if line.startswith("**")]
    assert words in bold


def test_a_clean_review_is_short() -> None:
    text = text_of(review(verdict="pass", summary="pass: nothing found."))
    assert text.startswith("## Codex review: pass\n\npass: nothing found.\n\n")
    assert "**" not in text
    assert "findings reject" not in text


def test_a_failure_says_what_to_do_and_has_no_verdict() -> None:
    error = CounselError(Code.AUTH_REQUIRED, "No login", repair="Pass use_reserve.")
    given = failed(
        "codex_review_changes", error, Meta(scope={"head_sha": HEAD, "base_sha": BASE})
    )
    text = text_of(given)
    assert text.startswith("## Codex review: failed\n")
    assert "neither that the change is good nor that it is bad" in text
    assert "auth_required: No login" in text
    assert "What to do: Pass --use-reserve." in text
    assert f"Commit `{HEAD[:12]}`" in text


def test_an_answer_that_is_no_list_of_findings_is_shown() -> None:
    given = review(answer="I could not decide.", verdict="unknown", findings=None)
    assert "I could not decide." in text_of(given)


def test_the_footer_names_job_model_tokens_and_how_to_reject() -> None:
    usage = {"input": 1234, "cached_input": 0, "output": 56, "reasoning": 0}
    meta = META | {"job_id": "0" * 32, "model": "gpt-9", "usage": usage}
    last = text_of(review({}, meta=meta)).splitlines()[-1]
    assert last == (
        f"codex-counsel · job `{'0' * 32}` · gpt-9 · 1,234 tokens in, 56 out · a finding does not hold? "
        '`codex-counsel findings reject ID --reason "..."`'
    )


# --- room


def test_findings_that_do_not_fit_are_in_the_list_and_then_counted() -> None:
    findings = [{"title": f"Fault {n:04}", "risk": "x" * 2000} for n in range(1000)]
    meta = META | {"job_id": "0" * 32}
    text = text_of(review(*findings, resolved=[RESOLVED], meta=meta))
    in_full = text.count("### high: Fault")
    in_brief = text.count("- high: Fault")
    assert 10 < in_full < 40
    assert in_brief == MAX_ENTRIES
    left_out = 1000 - in_full - in_brief
    whole = f"`codex-counsel result {'0' * 32}` shows all."
    assert f"Not shown here: {left_out} findings. {whole}" in text
    assert "- fixed: Gone" in text
    assert text.splitlines()[-1].startswith("codex-counsel · job")


def test_one_finding_without_end_is_named_and_those_after_it_are_whole() -> None:
    text = text_of(
        review({"title": "Endless", "risk": "x " * 90_000}, {"risk": "End."})
    )
    assert "- high: Endless" in text
    assert "End." in text


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("words", ["*" * 300_000, "@a " * 100_000, "<\n" * 100_000])
def test_no_text_makes_it_longer_than_its_room(field: str, words: str) -> None:
    text = text_of(FIELDS[field](words))
    assert text.splitlines()[-1].startswith("codex-counsel")


@pytest.mark.parametrize("name", ["known", "resolved", "warnings", "omitted"])
def test_every_list_is_bounded(name: str) -> None:
    many = range(5000)
    long = "y" * 600
    changes: dict[str, Any] = {}
    findings: list[dict[str, Any]] = [{}]
    if name == "known":
        findings = [{"known": "open", "title": f"{n} {long}"} for n in many]
    if name == "resolved":
        changes["resolved"] = [RESOLVED | {"title": f"{n} {long}"} for n in many]
    if name == "warnings":
        changes["meta"] = META | {"warnings": [f"{n} {long}" for n in many]}
    if name == "omitted":
        omitted = [{"path": f"{n} {long}", "reason": "binary"} for n in many]
        changes["coverage"] = COVERAGE | {"omitted": omitted}
    text = text_of(review(*findings, **changes))
    assert "Not shown here: 4," in text


# --- inert


@pytest.mark.parametrize("field", FIELDS)
def test_no_text_of_a_review_is_active(field: str) -> None:
    text = text_of(FIELDS[field](hostile.ALL))
    plain = text_of(FIELDS[field]("plain words"))
    assert_inert(text, OF_COMMENT)
    html = [token.content for token in tokens(text) if token.type == "html_block"]
    for block in html:
        assert block.startswith(OUR_HTML)
    assert len(html) == len(
        [token for token in tokens(plain) if token.type == "html_block"]
    )
    heads = [token.tag for token in tokens(text) if token.type == "heading_open"]
    plain_heads = [token.tag for token in tokens(plain) if token.type == "heading_open"]
    assert heads == plain_heads


# Twelve characters of a commit are shown: what the judge takes for a beginning is no address.
@pytest.mark.parametrize("field", [name for name in FIELDS if name != "seen.head_sha"])
def test_each_text_that_deceives_is_inert_everywhere(field: str) -> None:
    for text in hostile.TEXTS.values():
        assert_inert(text_of(FIELDS[field](text)), OF_COMMENT)


def test_a_marker_in_a_text_is_no_marker() -> None:
    marker = Stamp(HEAD, "2026-01-01T00:00:00+00:00", completed=True).marker
    for given in (
        review({"title": marker, "evidence": marker}, summary=marker),
        failed("codex_review_changes", CounselError(Code.INTERNAL, marker)),
    ):
        text = text_of(given)
        assert Stamp.of(text) is None
        kinds = {token.type for token in tokens(text)}
        assert "html_inline" not in kinds
