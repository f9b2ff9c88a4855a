"""A delegated task on a terminal: its check comes first, its attempts in a table."""

from __future__ import annotations

from typing import Any

import pytest

from codex_counsel.cli.page import Look, Page, columns
from codex_counsel.cli.render import add_envelope
from codex_counsel.contract.envelope import Envelope
from tests.hostile import TEXTS, hidden_characters

JOB = "4f" * 16
CHECK: dict[str, Any] = {
    "command": "make test",
    "status": "failed",
    "exit": 2,
    "seconds": 3.21,
    "output_tail": "one\ntwo\n",
    "base_exit": 0,
    "base_status": "passed",
}
ATTEMPT: dict[str, Any] = {
    "attempt": 2,
    "rank": 1,
    "why": "check passed",
    "job_id": "a" * 32,
    "status": "completed",
    "files": ["app.py"],
    "changed_lines": 4,
    "model": "gpt-a",
    "usage": {"input": 1000, "cached_input": 0, "output": 500, "reasoning": 0},
}


def text(width: int | None = None, *, quiet: bool = False, **changes: Any) -> str:
    wire = {
        "ok": True,
        "status": "completed",
        "tool": "codex_delegate",
        "summary": "1 file changed. Done.",
        "answer": "Done.",
        "diff": "diff --git a/app.py b/app.py\n",
        "diffstat": "1 file changed",
        "files": [{"path": "app.py", "status": "M", "added": 1, "deleted": 1}],
        "meta": {"job_id": JOB},
    }
    page = Page(Look(width, quiet=quiet))
    add_envelope(page, Envelope.parse(wire | changes))
    return str(page)


# --- the check


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "check FAILED (exit 2): make test; it passed before the change"),
        (
            {"base_status": "failed", "base_exit": 2},
            "check FAILED (exit 2): make test; it failed before the change too",
        ),
        ({"base_status": None}, "check FAILED (exit 2): make test"),
        ({"base_status": "not_run"}, "check FAILED (exit 2): make test"),
        (
            {"base_status": "not_started"},
            "check FAILED (exit 2): make test; it could not be started before the change",
        ),
        (
            {"status": "not_started", "exit": 127, "reason": "a program was not found"},
            "check could NOT be started (exit 127): make test; a program was not found; it passed before the change",
        ),
        (
            {"status": "timed_out", "exit": None, "reason": "it did not end"},
            "check TIMED OUT: make test; it did not end; it passed before the change",
        ),
        (
            {"status": "not_run", "exit": None, "base_status": None, "reason": "x"},
            "check was NOT run: make test; x",
        ),
    ],
)
@pytest.mark.parametrize("quiet", [False, True])
def test_a_check_that_did_not_pass_is_the_first_line(
    changes: dict[str, Any], line: str, quiet: bool
) -> None:
    lines = text(check=CHECK | changes, quiet=quiet).splitlines()
    assert lines[:3] == [line, "", "Done."]


def test_a_check_is_shown_with_its_time_and_the_end_of_its_output() -> None:
    lines = text(check=CHECK).splitlines()
    line = "check FAILED (exit 2): make test; it passed before the change (3.2 s)"
    start = lines.index(line)
    assert lines[start : start + 4] == [line, "  | one", "  | two", "1 file changed"]


def test_of_a_long_output_the_last_lines_are_shown() -> None:
    output = "\n".join(f"line {number}" for number in range(100))
    shown = text(check=CHECK | {"output_tail": f"{output}\n\n"})
    assert ("line 84" in shown, "line 85" in shown, "line 99" in shown) == (
        False,
        True,
        True,
    )


def test_a_check_that_passed_is_said_after_the_diff_without_its_output() -> None:
    check = {"status": "passed", "exit": 0, "base_status": "failed"}
    lines = text(check=CHECK | check).splitlines()
    assert lines[0] == "Done."
    assert "check passed: make test; it failed before the change (3.2 s)" in lines
    assert not any(line.startswith("  | ") for line in lines)


# --- attempts


def attempts(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [ATTEMPT | change for change in changes]


PASSED = {"command": "make test", "status": "passed", "exit": 0}


def test_attempts_are_a_table_with_the_winner_first_and_what_to_do_next() -> None:
    rows = attempts(
        {
            "check": PASSED,
            "agrees": [{"attempt": 3, "files": ["app.py"], "all": False}],
        },
        {
            "attempt": 1,
            "rank": 2,
            "tie": True,
            "job_id": "b" * 32,
            "check": CHECK,
            "why": "check failed",
            "model": "gpt-b",
        },
        {
            "attempt": 3,
            "rank": 2,
            "tie": True,
            "job_id": "c" * 32,
            "status": "failed",
            "error": "timeout",
            "files": [],
            "changed_lines": None,
            "usage": None,
            "why": "no diff",
        },
    )
    lines = text(attempts=rows).splitlines()
    start = lines.index("attempts, the best one first:")
    table = [line.split() for line in lines[start + 1 : start + 5]]
    assert table == [
        [
            *("RANK", "ATTEMPT", "JOB", "CHECK", "STATE", "FILES", "LINES", "SAME"),
            *("MODEL", "TOKENS", "WHY"),
        ],
        [
            *("1", "2", "a" * 32, "passed", "done", "1", "4", "1", "file", "of", "3"),
            *("gpt-a", "1.5k", "check", "passed"),
        ],
        [
            *("2=", "1", "b" * 32, "failed", "(exit", "2)", "done", "1", "4", "-"),
            *("gpt-b", "1.5k", "check", "failed"),
        ],
        [
            "2=",
            "3",
            "c" * 32,
            "-",
            "timeout",
            "0",
            "-",
            "-",
            "gpt-a",
            "-",
            "no",
            "diff",
        ],
    ]
    assert lines[start + 5 : start + 7] == [
        f"apply it with: codex-counsel apply {JOB}",
        f"compare them: codex-counsel compare {JOB}",
    ]


def test_what_all_attempts_have_in_common_has_no_column() -> None:
    shown = text(attempts=attempts({}, {"attempt": 1, "job_id": "b" * 32}))
    (title,) = [line for line in shown.splitlines() if "RANK" in line]
    assert title.split() == [
        *("RANK", "ATTEMPT", "JOB", "CHECK", "FILES", "LINES", "TOKENS", "WHY")
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_fits_the_width_and_ids_are_long_enough_to_differ(width: int) -> None:
    rows = attempts(
        {"job_id": "a" * 31 + "b", "why": "x" * 500, "check": CHECK},
        {"job_id": "a" * 12, "judge_rank": 1, "judge_reason": "y" * 500},
    )
    lines = text(width, attempts=rows).splitlines()
    assert max(map(columns, lines)) <= width
    assert any("a" * 12 in line.split() for line in lines)


def test_attempts_of_a_failed_task_are_listed() -> None:
    error = {
        "code": "timeout",
        "message": "It took too long",
        "repair": "Call again.",
        "retryable": False,
    }
    shown = text(
        ok=False,
        status="failed",
        error=error,
        attempts=attempts({"status": "failed", "error": "timeout"}),
    )
    assert "attempts, the best one first:" in shown


@pytest.mark.parametrize("hostile", TEXTS.values(), ids=TEXTS.keys())
def test_hostile_text_of_checks_and_attempts_hides_nothing(hostile: str) -> None:
    check = CHECK | {"command": hostile, "reason": hostile, "output_tail": hostile}
    rows = attempts(
        {
            "why": hostile,
            "judge_reason": hostile,
            "model": hostile,
            "error": hostile,
            "status": "failed",
            "check": check,
        },
        {},
    )
    shown = text(80, check=check, attempts=rows)
    assert hidden_characters(shown) <= {"\n", "\t", "\ufe0f"}
