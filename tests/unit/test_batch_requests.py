"""What a line of a batch may hold, and what is said of one that is wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from codex_counsel.batch import requests
from codex_counsel.batch.requests import Line, lines_of, read_requests
from codex_counsel.cli.words import in_terminal_words
from codex_counsel.errors import Code, CounselError


def line(**changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "id": "one",
        "kind": "review",
        "arguments": {"scope": "branch"},
    }
    return json.dumps(fields | changes).encode() + b"\n"


def read(*lines: bytes) -> list[Line]:
    return list(read_requests(lines, "requests.jsonl"))


def refusal(*lines: bytes) -> CounselError:
    with pytest.raises(CounselError) as raised:
        read(*lines)
    return raised.value


def test_each_line_is_a_request_and_blank_lines_are_none() -> None:
    consult = line(
        id="two", kind="consult", arguments={"question": "Why?"}, repo="../b"
    )
    assert read(line(), b"\n", b"  \r\n", consult) == [
        Line("one", "review", {"scope": "branch"}),
        Line("two", "consult", {"question": "Why?"}, "../b"),
    ]


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_a_request() -> None:
    first = b"\xef\xbb\xbf" + line().replace(b"\n", b"\r\n")
    assert [request.id for request in read(first, line(id="two")[:-1])] == [
        "one",
        "two",
    ]


def test_a_request_may_leave_arguments_and_repository_to_their_defaults() -> None:
    assert read(b'{"id": "1", "kind": "review", "repo": null}') == [Line("1", "review")]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "is no JSON"),
        (b"nothing", "is no JSON"),
        (b'{"id": "a"} {"id": "b"}', "is no JSON"),
        (b"[1]", "is no JSON object"),
        (b'"text"', "is no JSON object"),
        (b"\xff\xfe{", "is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"id":' * 5_000, "is nested too deeply"),
        (
            line(arguments={"output_schema": json.loads("[" * 99 + "]" * 99)}),
            "too deep",
        ),
        (b'{"id": NaN}', "NaN is no number"),
        (b'{"id": -Infinity}', "-Infinity is no number"),
        (b'{"id": 1e999}', "a number that is too large"),
        (b'{"id": ' + b"9" * 5_000 + b"}", "is no JSON"),
        (b'{"id": "a", "id": "b"}', "id stands in it twice"),
        (b'{"id": "\\ud800"}', "surrogate"),
        (line(note="x"), "note is not a field of a request"),
        (line(id=7), "id: is missing or no text"),
        (line(id=None), "id: is missing or no text"),
        (line(id=" "), "id: is blank"),
        (line(id="x" * 201), "id: has more than 200"),
        (line(id="a\nb"), "id: has control"),
        (line(id="a\x1b[2Jb"), "id: has control"),
        (line(id="a\u202eb"), "id: has control"),
        (line(id="a "), "id: has control"),
        (line(kind="apply"), "kind: is none of consult, review, plan, delegate"),
        (line(kind=None), "kind: is none of"),
        (line(kind=["review"]), "kind: is none of"),
        (line(arguments=[]), "arguments: is no object"),
        (line(arguments={"scope": "all"}), "arguments: scope: "),
        (line(arguments={"task": "x"}), "arguments: task is not an argument"),
        (line(kind="delegate", arguments={}), "arguments: task: "),
        (
            line(arguments={"workspace_root": "/x"}),
            "name the repository in the field repo",
        ),
        (line(arguments={"idempotency_key": "k"}), "the batch makes one"),
        (line(repo=7), "repo: is no text"),
        (line(repo=""), "repo: is blank"),
        (line(repo="a\0b"), "repo: has control"),
        (line(repo="x" * 4_097), "repo: has more than"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number_and_what_is_wrong(
    raw: bytes, said: str
) -> None:
    error = refusal(line(id="good"), raw)
    assert error.code is Code.INVALID_ARGUMENTS
    assert "requests.jsonl has a wrong line; nothing was started." in error.message
    assert said in error.message.splitlines()[1]
    assert error.message.splitlines()[1].startswith("line 2: ")
    assert error.repair


def test_no_value_of_a_line_reaches_the_message_unbounded_or_active() -> None:
    name = "x\x1b[2J" + "y" * 10_000
    error = refusal(line(**{name: 1}))
    assert "\x1b" not in error.message
    assert len(error.message) < 500


@pytest.mark.parametrize(
    "arguments",
    [
        {"question": "x", "workspace_root": "/x"},
        {"question": "x", "extra_context": ""},
        {"question": "x", "images": [1], "timeout_seconds": 1},
    ],
)
def test_a_wrong_argument_is_named_as_it_stands_in_the_line(
    arguments: dict[str, Any],
) -> None:
    error = refusal(line(kind="consult", arguments=arguments))
    # The command line tells of flags where an argument is not in quotes.
    shown = "\n".join(map(in_terminal_words, error.message.splitlines()))
    assert "--" not in shown
    assert " -C " not in shown
    wrong = [name for name, value in arguments.items() if value != "x"]
    assert all(name in shown for name in wrong)


def test_two_lines_with_one_id_are_refused_with_both_numbers() -> None:
    error = refusal(line(), line(id="two"), line())
    assert "line 3: id: line 1 has the same one" in error.message


def test_all_wrong_lines_are_named_at_once_up_to_twenty() -> None:
    error = refusal(*[line(id=str(number), kind="x") for number in range(1, 4)])
    assert "3 wrong lines;" in error.message
    assert len(error.message.splitlines()) == 4

    error = refusal(*[line(id=str(number), kind="x") for number in range(1, 40)])
    assert "20 wrong lines or more;" in error.message
    assert error.message.splitlines()[-1].startswith("line 20: ")


def test_a_source_without_a_request_is_refused() -> None:
    for lines in ([], [b"\n", b" \n"], [b"\xef\xbb\xbf"]):
        assert "holds no request" in refusal(*lines).message


def test_a_line_that_is_too_long_is_refused_before_the_rest_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "MAX_LINE", 1_000)
    endless = io.BytesIO(b"x" * 1_000_000)
    with pytest.raises(
        CounselError, match="line 1 has more than 1,000 bytes"
    ) as raised:
        list(read_requests(lines_of(endless), "-"))
    assert raised.value.code is Code.INPUT_TOO_LARGE
    assert endless.tell() < 2_000


def test_a_line_of_exactly_the_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = line().strip()
    monkeypatch.setattr(requests, "MAX_LINE", len(raw))
    file = io.BytesIO(raw + b"\r\n" + raw.replace(b"one", b"two"))
    assert [item.id for item in read_requests(lines_of(file), "-")] == ["one", "two"]


def test_more_requests_than_a_batch_may_have_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "MAX_REQUESTS", 2)
    assert len(read(line(id="1"), line(id="2"), b"\n")) == 2
    error = refusal(line(id="1"), line(id="2"), line(id="3"))
    assert error.code is Code.INPUT_TOO_LARGE


def test_an_endless_source_ends_at_the_twentieth_wrong_line() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"{}\n"

    with pytest.raises(CounselError, match="line 20"):
        list(read_requests(endless(), "-"))
