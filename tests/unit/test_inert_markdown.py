"""Markdown that is made for posting: read by a parser of CommonMark, nothing of the reviewer's is active in it."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from codex_counsel.cli.formats.markdown import markdown
from codex_counsel.cli.inert_markdown import code_block, code_span, inline, prose
from tests import hostile
from tests.unit.test_formats import review

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
ALLOWED = {
    *("paragraph_open", "paragraph_close", "inline", "text", "softbreak"),
    *("code_inline", "fence", "text_special"),
}
OURS = {
    *("heading_open", "heading_close", "strong_open", "strong_close"),
    *("bullet_list_open", "bullet_list_close", "list_item_open", "list_item_close"),
}
ACTIVE = re.compile(
    r"@\w|https?:|ftp:|www\.|javascript:|(?:^|\W)#\d|GH-\d|(?:^|\W)!\d|\b[0-9a-f]{7,40}\b|\$\\"
    r'|[~%]"?[a-z]|\[\w+:|(?-i:\b[A-Z][A-Z]+-\d)',
    re.IGNORECASE,
)
"""What GitHub or GitLab looks for in text that was rendered, but not in code."""


def tokens(text: str) -> list[Token]:
    flat = []
    for token in PARSER.parse(text):
        flat.append(token)
        flat += token.children or []
    return flat


def rendered_text(text: str) -> list[str]:
    """The text outside code, one string for each paragraph, heading or item."""
    texts = []
    for token in PARSER.parse(text):
        if token.type != "inline":
            continue
        parts = []
        for child in token.children or []:
            if child.type == "softbreak":
                parts.append("\n")
            elif child.type == "code_inline":
                parts.append(" \x00 ")
            else:
                parts.append(child.content)
        texts.append("".join(parts))
    return texts


def assert_inert(text: str, allowed: set[str]) -> None:
    kinds = {token.type for token in tokens(text)}
    assert kinds <= allowed, text
    for rendered in rendered_text(text):
        assert not ACTIVE.search(rendered), text
    for line in text.split("\n"):
        assert not re.match(r"/\w", line), "a command of a bot"
    assert hostile.hidden_characters(text) <= {"\ufe0f", "\n"}


@pytest.mark.parametrize("text", hostile.TEXTS.values(), ids=hostile.TEXTS.keys())
def test_prose_of_a_reviewer_becomes_paragraphs_and_code_and_nothing_else(
    text: str,
) -> None:
    assert_inert(prose(text), ALLOWED)
    assert_inert(inline(text), ALLOWED)
    assert_inert(code_block(text), ALLOWED)
    assert "\n" not in inline(text) + code_span(text)


@pytest.mark.parametrize("text", [*hostile.TEXTS.values(), hostile.ALL])
def test_a_review_for_posting_has_only_our_headings_and_lists(text: str) -> None:
    hostile_finding = dict.fromkeys(
        ("title", "file", "section", "evidence", "risk", "recommendation"), text
    )
    output = markdown(
        review(
            hostile_finding,
            summary=text,
            questions=[text],
            assumptions=[text],
            next_steps=[text],
            answer=text,
            meta={"warnings": [text], "session_id": "s"},
            coverage={
                "files": 1,
                "bytes": 1,
                "redactions": 0,
                "complete": False,
                "omitted": [{"path": text, "reason": "binary", "bytes": 1}],
            },
        )
    )
    assert_inert(output, ALLOWED | OURS)
    headings = [token for token in tokens(output) if token.type == "heading_open"]
    assert [heading.tag for heading in headings] == ["h2", "h3"]


def test_the_end_of_a_sentence_is_no_part_of_what_stands_in_code() -> None:
    said = "The job 0123abcd: ask @somebody, or www.example.org!"
    assert prose(said) == "The job `0123abcd`: ask `@somebody`, or `www.example.org`!"
    assert_inert(prose(said), ALLOWED)


def test_code_stays_code_and_plain_words_stay_as_they_are() -> None:
    assert prose("Use `a_b(x)` and total_sum, not **that** (50 % less).") == (
        "Use `a_b(x)` and total_sum, not \\*\\*that\\*\\* (50 % less)."
    )
    assert prose("Do:\n```py\nx = [1]\n```\nthen go.") == (
        "Do:\n```\nx = [1]\n```\nthen go."
    )
    assert prose("ask @octocat, see https://example.org/x.") == (
        "ask `@octocat`, see `https://example.org/x`."
    )
    assert prose("- one\n- two\n\n1. three") == "\\- one\n\\- two\n\n1\\. three"
    assert prose("```\nopen <b>") == "```\nopen <b>\n```"


@pytest.mark.parametrize(
    "text",
    ["`" * 100_000, "` ``" * 25_000, "@" * 100_000, "_a" * 50_000, "``a" * 30_000],
)
def test_markup_without_end_is_escaped_in_time_that_grows_with_it(text: str) -> None:
    assert_inert(prose(text), ALLOWED)
