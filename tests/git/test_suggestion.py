"""What a reviewer proposes to put in place of lines is shown only where it applies to the reviewed state."""

from __future__ import annotations

from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.findings.replacement import MAX_CHARACTERS, MAX_LINES
from codex_counsel.review.record import ReviewRecord
from tests.conftest import World
from tests.git.test_review_record import PLAN, conclude_review, of_changes
from tests.repositories import numbered_lines
from tests.reviews import TOKEN, reply

DROPPED = "1 proposed replacements do not apply to the reviewed state: they were dropped, the findings stay"
PROPOSED = {"replace_from": 7, "replace_to": 7, "replacement": "seven = 7"}


def suggest(world: World, content: str | bytes, **changes: Any) -> EnvelopeDict:
    """The review of this uncommitted content of app.py, with one finding that proposes a replacement."""
    world.repository.begin()
    world.repository.write("app.py", content)
    answer = reply(PROPOSED | changes, verdict="concerns")
    return conclude_review(of_changes(world), answer)


def apply(world: World, wire: EnvelopeDict) -> bytes:
    """The file with the suggestion in it, as a program would put it there."""
    (finding,) = wire["findings"]
    suggestion = finding["suggestion"]
    text = (world.workspace / finding["file"]).read_bytes().decode()
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1].removesuffix("\n")
    first, last = suggestion["start_line"], suggestion["end_line"]
    lines[first - 1 : last] = [suggestion["replacement"]]
    return "".join(lines).encode()


def assert_dropped(wire: EnvelopeDict) -> None:
    (finding,) = wire["findings"]
    assert "suggestion" not in finding
    assert DROPPED in wire["meta"]["warnings"]


CHANGED = numbered_lines(l7="seven = 70")
APPLIED: dict[str, tuple[str, dict[str, Any], str]] = {
    "one line": (CHANGED, {}, numbered_lines(l7="seven = 7")),
    "with a line end": (
        CHANGED,
        {"replacement": "seven = 7\n"},
        numbered_lines(l7="seven = 7"),
    ),
    "several lines for several": (
        CHANGED,
        {"replace_from": 6, "replace_to": 8, "replacement": "a = 1\n\nb = 2"},
        numbered_lines(l6="a = 1", l7="", l8="b = 2"),
    ),
    "an empty line": (CHANGED, {"replacement": "\n"}, numbered_lines(l7="")),
    "removed": (
        CHANGED,
        {"replacement": ""},
        CHANGED.replace("seven = 70\n", ""),
    ),
    "the line beside the evidence": (
        CHANGED,
        {"replace_from": 8, "replace_to": 8, "replacement": "x = 8"},
        numbered_lines(l7="seven = 70", l8="x = 8"),
    ),
    "only its first line named": (
        CHANGED,
        {"replace_to": None},
        numbered_lines(l7="seven = 7"),
    ),
    "evidence that moved": (
        f"new = 0\nnew = 1\n{CHANGED}",
        {},
        f"new = 0\nnew = 1\n{numbered_lines(l7='seven = 7')}",
    ),
    "no line named": (CHANGED, {"line": None}, numbered_lines(l7="seven = 7")),
    "CRLF": (
        CHANGED.replace("\n", "\r\n"),
        {"replacement": "seven = 7\nx = 0\n"},
        numbered_lines(l7="seven = 7\nx = 0").replace("\n", "\r\n"),
    ),
    "no line end at the end": (
        "a = 1\r\nseven = 70",
        {
            "line": 2,
            "replace_from": 2,
            "replace_to": 2,
            "replacement": "b = 7\nc = 8\n",
        },
        "a = 1\r\nb = 7\r\nc = 8",
    ),
    "letters of every script": (
        CHANGED,
        {"replacement": "seven = 'ü שלום ภาษา'\t# 7"},
        numbered_lines(l7="seven = 'ü שלום ภาษา'\t# 7"),
    ),
}


@pytest.mark.parametrize(
    ("content", "changes", "expected"), APPLIED.values(), ids=APPLIED.keys()
)
def test_a_suggestion_that_is_shown_gives_the_file_that_was_meant(
    world: World, content: str, changes: dict[str, Any], expected: str
) -> None:
    wire = suggest(world, content, **changes)
    assert apply(world, wire) == expected.encode()
    assert wire["findings"][0]["grounded"] in ("verified", "moved")
    assert wire["meta"].get("warnings", []) == []


MIXED = CHANGED.replace("line_6 = 6\n", "line_6 = 6\r\n")
UNFIT: dict[str, tuple[str | bytes, dict[str, Any]]] = {
    "what stands there": (CHANGED, {"replacement": "seven = 70"}),
    "lines beyond the end": (CHANGED, {"replace_to": 21}),
    "lines the wrong way round": (CHANGED, {"replace_to": 6}),
    "no lines": (CHANGED, {"replace_from": None, "replace_to": None}),
    "other lines than those of the evidence": (
        CHANGED,
        {"replace_from": 10, "replace_to": 10},
    ),
    "evidence that is not there": (CHANGED, {"evidence": "eight = 80"}),
    "no evidence": (CHANGED, {"evidence": None}),
    "a removed line": (CHANGED, {"evidence": "line_7 = 7"}),
    "evidence of another length that moved": (
        f"new = 0\nnew = 1\n{CHANGED}",
        {"line": 2, "line_end": 4},
    ),
    "its first line, of evidence of another length that moved": (
        f"new = 0\nnew = 1\n{CHANGED}",
        {"line": 2, "line_end": 4, "replace_from": 2, "replace_to": 2},
    ),
    "a line that is not beside the evidence": (
        CHANGED,
        {"replace_from": 9, "replace_to": 9},
    ),
    "no such file": (CHANGED, {"file": "absent.py"}),
    "no file": (CHANGED, {"file": None}),
    "too many lines": (CHANGED, {"replacement": "x = 1\n" * (MAX_LINES + 1)}),
    "too many characters": (CHANGED, {"replacement": "x" * (MAX_CHARACTERS + 1)}),
    "a terminal sequence": (CHANGED, {"replacement": "x = 1 # \x1b[2K"}),
    "a NUL": (CHANGED, {"replacement": "x = '\0'"}),
    "a carriage return": (CHANGED, {"replacement": "x = 1 #\rimport os"}),
    "a bidirectional mark": (CHANGED, {"replacement": "x = '\u202e'"}),
    "a lone surrogate": (CHANGED, {"replacement": "x = '\ud800'"}),
    "a hidden character written out": (CHANGED, {"replacement": "x = '<U+202E>'"}),
    "a word out of sight": (CHANGED, {"replacement": f"x = 1;{' ' * 60}import os"}),
    "a line out of sight": (CHANGED, {"replacement": f"x = 1\n{' ' * 99}import os"}),
    "a token": (CHANGED, {"replacement": f"x = '{TOKEN}'"}),
    "a masked token": (CHANGED, {"replacement": "x = '[masked:github-token]'"}),
    "a token in the lines": (
        numbered_lines(l7=f"seven = 70 # {TOKEN}"),
        {},
    ),
    "a hidden character in the lines": (
        numbered_lines(l7="seven = 70 # \u202e"),
        {},
    ),
    "line ends of both kinds": (MIXED, {"replace_from": 6}),
    "another encoding": (CHANGED.encode() + b"# caf\xe9\n", {}),
    "a binary file": (CHANGED.encode() + b"\0", {}),
}


@pytest.mark.parametrize(("content", "changes"), UNFIT.values(), ids=UNFIT.keys())
def test_what_does_not_fit_is_dropped_with_a_warning_and_the_finding_stays(
    world: World, content: str | bytes, changes: dict[str, Any]
) -> None:
    world.repository.begin()
    world.repository.write("other.py", "x = 1\n")
    world.repository.write("app.py", content)
    answer = reply(PROPOSED | changes, verdict="concerns")
    assert_dropped(conclude_review(of_changes(world), answer))


def test_a_range_of_too_many_lines_is_dropped(world: World) -> None:
    content = "x = 1\n" * 300
    wire = suggest(
        world, content, line=1, evidence="x = 1", replace_from=1, replace_to=201
    )
    assert_dropped(wire)


def test_nothing_is_suggested_for_a_secret_file(world: World) -> None:
    world.repository.begin_changed()
    world.repository.write(".env", CHANGED)
    answer = reply(PROPOSED | {"file": ".env"}, verdict="concerns")
    assert_dropped(conclude_review(of_changes(world), answer))


def test_a_review_of_a_plan_suggests_nothing(world: World) -> None:
    world.repository.begin_changed()
    record = ReviewRecord(str(world.workspace), plan=PLAN)
    answer = reply(verdict="concerns")
    answer["findings"] = [{**PROPOSED, "title": "t", "file": "app.py", "line": 7}]
    assert_dropped(conclude_review(record, answer))


def test_the_state_that_was_reviewed_counts_and_not_the_working_tree(
    world: World,
) -> None:
    world.repository.begin_changed()
    world.repository.commit()
    world.repository.write("app.py", "seven = 7\n")
    answer = reply(PROPOSED, verdict="concerns")
    (finding,) = conclude_review(of_changes(world, kind="commit"), answer)["findings"]
    assert finding["suggestion"] == {
        "start_line": 7,
        "end_line": 7,
        "replacement": "seven = 7\n",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"replacement": None},
        {"replacement": 7},
        {"replacement": "", "replace_from": None, "replace_to": None},
    ],
)
def test_without_a_text_there_is_no_proposal(
    world: World, changes: dict[str, Any]
) -> None:
    wire = suggest(world, CHANGED, **changes)
    assert "suggestion" not in wire["findings"][0]
    assert DROPPED not in wire["meta"].get("warnings", [])
