"""The runner of the tests: what it reads and evaluates, it does as GitHub's; what it does not know, it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.runner import (
    Expression,
    InvalidFileError,
    Runner,
    UnknownExpressionError,
    as_text,
    kill_tracked,
    parse_file,
)

CONTEXTS: dict[str, Any] = {
    "inputs": {"comment": "true", "fail-on": ""},
    "steps": {"review": {"outputs": {"review": "reviewed"}, "outcome": "success"}},
}
STATUS = {"success": True, "failure": False, "cancelled": False, "always": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.comment", "true"),
        ("inputs.fail-on", ""),
        ("inputs.absent", ""),
        ("steps.review.outputs.review", "reviewed"),
        ("steps.absent.outputs.x", ""),
        ("inputs.comment == 'TRUE'", "true"),
        ("inputs.comment != 'true'", "false"),
        ("!cancelled() && inputs.comment == 'true'", "true"),
        ("failure() || (success() && 'it''s')", "it's"),
        ("inputs.fail-on || 'high'", "high"),
    ],
)
def test_an_expression_has_the_value_that_it_has_for_the_runner(
    text: str, value: str
) -> None:
    assert as_text(Expression(text, CONTEXTS, STATUS).value()) == value


@pytest.mark.parametrize(
    "text",
    [
        "secrets.KEY",
        "contains(inputs.comment, 'x')",
        "hashFiles('x')",
        "inputs[comment]",
        "inputs.comment > 1",
        "inputs.comment 'x'",
        "(inputs.comment",
        "steps.review",
        "",
    ],
)
def test_an_expression_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(UnknownExpressionError):
        Expression(text, CONTEXTS, STATUS).value()


def test_a_file_of_a_step_has_lines_and_texts_of_several_lines() -> None:
    text = "a=1=2\nb<<END\nx\ny=z\nEND\n\nc=\n"
    assert parse_file(text) == {"a": "1=2", "b": "x\ny=z", "c": ""}


@pytest.mark.parametrize("text", ["a\n", "=x\n", "a<<END\nx\n", "<<END\nEND\n"])
def test_a_line_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidFileError):
        parse_file(text)


def test_a_job_that_ends_ends_no_process_of_another(tmp_path: Path) -> None:
    processes = []
    for name in ("one", "other"):
        runner = Runner(tmp_path / name, tmp_path, {}, tmp_path / "caches", {})
        env = {"RUNNER_TRACKING_ID": runner.tracking}
        process = subprocess.Popen(["/bin/sleep", "600"], env=env)
        processes.append((runner, process))
    (one, first), (other, second) = processes
    kill_tracked(one.tracking)
    assert first.wait(60) == -9
    assert second.poll() is None
    kill_tracked(other.tracking)
    assert second.wait(60) == -9
