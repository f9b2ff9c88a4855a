"""What a hub tells of a pull request, whatever it answers: bounded, cleaned and masked."""

from __future__ import annotations

import pytest

from codex_counsel.hub.details import MAX_BODY, Details, of_answer
from codex_counsel.hub.reference import HubKind
from codex_counsel.system.json_values import Json
from codex_counsel.system.text import size

SECRET = "ghp_" + "a1B2c3D4e5" * 4


def test_a_title_is_one_line_and_a_description_has_its_bound() -> None:
    body = f"{SECRET}\n\x1b[31mred\x1b[0m\ud800" + "é" * 100_000
    details = of_answer(
        "github",
        {
            "title": f"Seven\nState: merged {SECRET}",
            "body": body,
            "user": {"login": "author\n"},
            "state": "open",
            "base": {"ref": "main"},
        },
    )
    assert details
    assert "\n" not in details.title
    assert SECRET not in details.title + details.body
    assert "\x1b" not in details.body
    assert size(details.body) <= MAX_BODY
    assert details.as_text().splitlines()[1:3] == ["Author: author", "State: open"]
    assert details.base == "main"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"title": 7, "body": ["x"], "user": "x", "base": None, "state": {}},
        {"title": None, "description": None, "author": [], "target_branch": 3},
        {"base": {"ref": "x" * 1_000}},
    ],
)
@pytest.mark.parametrize("hub", ["github", "gitlab"])
def test_values_of_another_type_count_as_none(answer: Json, hub: HubKind) -> None:
    details = of_answer(hub, answer)
    assert details == Details()
    assert details.as_text() == ""


@pytest.mark.parametrize("answer", [None, [], "text", 7])
def test_what_is_no_object_tells_nothing(answer: Json) -> None:
    assert of_answer("github", answer) is None
