"""A comparison of tasks on a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from codex_counsel.cli.page import Look, Page, columns
from codex_counsel.cli.render import add_envelope
from tests.comparisons import (
    FILE,
    JOB,
    LOST_JOB,
    OTHER_JOB,
    SAME,
    comparison,
    filled,
)
from tests.hostile import TEXTS, hidden_characters


def text(width: int | None = None, **changes: Any) -> str:
    page = Page(Look(width))
    add_envelope(page, comparison(**changes))
    return str(page)


def test_a_table_has_a_line_for_each_task() -> None:
    lines = text().splitlines()
    assert lines[0] == "3 tasks, 3 changed files: 1 the same in all, 2 different"
    assert [line.split() for line in lines[1:5]] == [
        [
            *("TASK", "JOB", "RANK", "CHECK", "STATE", "FILES", "LINES", "SAME"),
            *("MODEL", "EFFORT", "TOKENS", "TOOK", "WHY"),
        ],
        [
            *("1", "a" * 32, "1", "passed", "done", "2", "+2", "-1"),
            *("1", "of", "2", "files", "gpt-a", "high", "1.5k", "83", "s"),
            *("check", "passed"),
        ],
        [
            *("2", "b" * 32, "2", "failed", "(exit", "2)", "done", "1", "+2", "-1"),
            *("1", "of", "1", "file", "gpt-b", "high", "1.5k", "83", "s"),
            *("check", "failed"),
        ],
        [
            *("3", "c" * 32, "3=", "-", "timeout", "-", "-", "-", "-", "-", "-", "-"),
            *("it", "left", "no", "diff"),
        ],
    ]


def test_tasks_with_the_same_diff_are_said_to_have_it() -> None:
    jobs = [JOB | {"same_as": ["2"]}, OTHER_JOB | {"same_as": ["1"]}]
    assert "all of 2" in text(jobs=jobs).splitlines()[2]


def test_a_check_that_did_not_pass_comes_with_the_end_of_its_output() -> None:
    lines = text().splitlines()
    start = lines.index("2:")
    assert lines[start + 1 : start + 4] == [
        "check FAILED (exit 2): make test; it passed before the change (3.2 s)",
        "  | one",
        "  | two",
    ]
    assert not any(line.startswith("check passed") for line in lines)
    jobs = [JOB | {"check": {"command": "make", "status": "not_run"}}, OTHER_JOB]
    assert "check was NOT run" not in text(jobs=jobs)


def test_each_version_of_a_file_is_shown_once_with_its_tasks() -> None:
    shown = text(files=[FILE])
    lines = shown.splitlines()
    start = lines.index("src/app.py  different")
    assert lines[start + 1] == "1:  M src/app.py +1 -1"
    second = lines.index(
        "2:  M src/app.py +1 -1  build: building or testing executes it"
    )
    assert "+seven = 7" in lines[start:second]
    assert "+seven = 77" in lines[second:]


def test_what_is_the_same_in_all_is_shown_once() -> None:
    lines = text(files=[SAME]).splitlines()
    assert "lib/util.py  the same in all" in lines
    assert "1, 2:  M lib/util.py +1 -1" in lines
    assert lines.count("+seven = 7") == 1


def test_who_left_a_file_alone_and_what_is_missing_is_said() -> None:
    lines = text().splitlines()
    start = lines.index("docs/new.md  different")
    end = lines.index("lib/util.py  the same in all")
    assert "2: not changed" in lines[start:end]
    assert "1,234 more bytes" in lines[start:end]
    assert "note: careful" in text(notes=["careful"]).splitlines()


def test_it_says_how_to_apply_one() -> None:
    assert text().endswith("  apply one of them with: codex-counsel apply JOB")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_fits_the_width(width: int) -> None:
    lines = text(width, files=[], jobs=[JOB, LOST_JOB]).splitlines()
    assert max(map(columns, lines)) <= width


@pytest.mark.parametrize("hostile", TEXTS.values(), ids=TEXTS.keys())
def test_hostile_text_hides_nothing(hostile: str) -> None:
    data = filled(comparison().data, hostile)
    assert hidden_characters(text(**data)) <= {"\n", "\t", "\r", "\ufe0f"}
