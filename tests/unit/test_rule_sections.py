"""Which parts of AGENTS.md are rules for reviews."""

from __future__ import annotations

import time

import pytest

from codex_counsel.review.rule_sections import rules_of, without_rules

RULE = "Never log a password."

HEADINGS = [
    "# Code Review Rules",
    "## Code Review Rules",
    "###### review rules",
    "## REVIEW GUIDELINES ##",
    "##\tCode review   guidelines:",
    "## **Review guidelines**",
    "## _Review rules_:",
    "   ## `Review rules`",
    "Review guidelines\n---",
    "Code review rules\n=================",
    "**Review rules**\n-",
    "## Review rules\r",
    "Review rules\r\n----\r",
]
OTHERS = [
    "#Review rules",
    "    ## Review rules",
    "Review rules",
    "## Our review rules",
    "## Review rules for tests",
    "## Review",
    "####### Review rules",
    "- Review rules\n---",
    "> Review rules\n---",
    "| Review rules |\n---",
    "Review rules\n\n---",
    "<!--\n## Review rules\n-->",
    "```\n## Review rules\n```",
    "~~~~ sh\n```\n~~~\n## Review rules\n~~~~",
    "```\n## Review rules",
    "```\n``` sh\n## Review rules\n```",
    "- item\nReview rules\n---",
]


@pytest.mark.parametrize("heading", HEADINGS)
def test_a_section_of_rules_begins_at_its_heading(heading: str) -> None:
    text = f"# Project\n\nUse tabs.\n\n{heading}\n\n{RULE}\n"
    assert rules_of(text) == f"{heading}\n\n{RULE}"
    assert without_rules(text) == "# Project\n\nUse tabs.\n"


@pytest.mark.parametrize("heading", OTHERS)
def test_what_only_looks_like_such_a_heading_begins_none(heading: str) -> None:
    text = f"Use tabs.\n\n{heading}\n\n{RULE}\n"
    assert rules_of(text) == ""
    assert without_rules(text) == text


ENDS = ["## Build", "# Other", "Build\n-----", "Build\nand test\n====", "## "]
INSIDE = [
    "### Severe",
    "#### Review rules",
    "```sh\n# build\n```",
    "~~~\n## build\n~~~",
    "- one\n---",
    "<!-- ## no -->",
    "Words\n\n---",
    "`# code`",
]


@pytest.mark.parametrize("end", ENDS)
def test_a_section_ends_at_the_next_heading_of_its_level_or_a_higher_one(
    end: str,
) -> None:
    text = f"## Review rules\n{RULE}\n\n{end}\nmake\n"
    assert rules_of(text) == f"## Review rules\n{RULE}"
    assert without_rules(text) == f"{end}\nmake\n"


@pytest.mark.parametrize("part", INSIDE)
def test_a_section_goes_on_over_what_is_no_such_heading(part: str) -> None:
    text = f"## Review rules\n{RULE}\n\n{part}\nmore\n"
    assert rules_of(text) == text.rstrip()
    assert without_rules(text) == ""


def test_backticks_with_a_backtick_behind_them_open_no_fence() -> None:
    section = f"## Review rules\n{RULE}\n``` a`"
    assert rules_of(f"{section}\n## Build\nmake\n") == section


def test_all_sections_of_a_file_count_each_once() -> None:
    text = (
        "## Review rules\na\n### Review guidelines\nb\n## Build\nc\n"
        "## Review guidelines\nd\n# Code review rules\ne\n"
    )
    assert rules_of(text) == (
        "## Review rules\na\n### Review guidelines\nb\n\n## Review guidelines\nd\n\n# Code review rules\ne"
    )
    assert without_rules(text) == "## Build\nc"


@pytest.mark.parametrize("text", ["", "## Review rules", "## Review rules\n\n \n# X\n"])
def test_a_section_without_words_is_none(text: str) -> None:
    assert rules_of(text) == ""


def test_a_hostile_text_takes_no_longer_than_a_plain_one() -> None:
    texts = (
        "# Review rules\n" * 20_000,
        "#" * 300_000,
        "# " + " " * 300_000,
        "a\n" * 100_000 + "---\n",
        "`" * 300_000,
        "```\n" * 75_000,
        "<!--" * 75_000,
        "-\n" * 150_000,
        "# Review rules " + "#" * 300_000,
    )
    for text in texts:
        start = time.process_time()
        rules_of(text)
        without_rules(text)
        # What grows with the square of the size takes minutes.
        assert time.process_time() - start < 10
