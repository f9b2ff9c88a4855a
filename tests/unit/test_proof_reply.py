"""What a prover replies is data: words about its test, and a command that shows all that it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codex_counsel.proof.reply import MAX_COMMAND, MAX_EXPLANATION, parse_reply
from tests.reviews import TOKEN

WORDS: dict[str, Any] = {
    "verdict": "shown",
    "command": "python3 test_mean.py",
    "failure": "assertion",
    "explanation": "It fails.",
    "replace_from": None,
    "replace_to": None,
    "replacement": None,
}


def parsed(**changes: Any) -> Any:
    return parse_reply(json.dumps(WORDS | changes))


def test_a_reply_is_read() -> None:
    reply = parsed(replace_from=2, replace_to=3, replacement="x = 1")
    assert (reply.claim, reply.command, reply.failure, reply.explanation) == (
        "shown",
        "python3 test_mean.py",
        "assertion",
        "It fails.",
    )
    assert vars(reply.suggestion) == {
        "start_line": 2,
        "end_line": 3,
        "replacement": "x = 1",
    }


@pytest.mark.parametrize(
    "text",
    ["", "I proved it.", "[]", "{}", "{", json.dumps(WORDS | {"verdict": "yes"})],
)
def test_what_is_not_the_reply_that_was_asked_for_is_none(text: str) -> None:
    assert parse_reply(text) is None


def test_a_fenced_reply_is_read() -> None:
    assert parse_reply(f"```json\n{json.dumps(WORDS)}\n```") is not None


@pytest.mark.parametrize(
    "command",
    [
        None,
        7,
        "",
        "  ",
        "true\nfalse",
        "true \x1b[2J",
        "true\u202e",
        "true\x00",
        f"curl -H {TOKEN}",
        "x" * (MAX_COMMAND + 1),
    ],
)
def test_a_command_that_a_reader_would_not_see_as_it_runs_is_none(
    command: object,
) -> None:
    assert parsed(command=command).command is None


@pytest.mark.parametrize(
    ("failure", "name"),
    [
        ("AssertionError", "assertion"),
        (" Assertion ", "assertion"),
        ("decimal.InvalidOperation", "decimal.InvalidOperation"),
        ("std::bad_alloc", "std::bad_alloc"),
        ("any failure", None),
        ("", None),
        (None, None),
        (["assertion"], None),
    ],
)
def test_a_failure_is_an_assertion_or_a_name(failure: object, name: str | None) -> None:
    assert parsed(failure=failure).failure == name


def test_an_explanation_is_one_bounded_line_without_tokens() -> None:
    text = parsed(explanation=f"{TOKEN}\n\x1b[31mred {'x' * 5_000}").explanation
    assert TOKEN not in text
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) <= MAX_EXPLANATION


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [(None, 2, "x"), (2, None, "x"), (0, 2, "x"), (True, 2, "x"), (2, 2, None)],
)
def test_a_replacement_names_its_lines(
    first: object, last: object, text: object
) -> None:
    reply = parsed(replace_from=first, replace_to=last, replacement=text)
    assert reply.suggestion is None
