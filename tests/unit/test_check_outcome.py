"""What the run of a check says about the state that it ran in."""

from __future__ import annotations

import pytest

from codex_counsel.contract.envelope import CheckResult
from codex_counsel.contract.vocabulary import CheckStatus
from codex_counsel.delegate.check_outcome import MAX_REASON, MAX_TAIL, outcome_of
from codex_counsel.delegate.conclude import check_line
from codex_counsel.kind import CommandRun
from tests.unit.test_failure_kind import KINDS, UNSAID, ended, recorded

NOT_STARTED = {
    "pytest_import": "No module named 'nothere'",
    "pytest_conftest": "conftest.py",
    "pytest_no_file": "nofile.py",
    "pytest_no_tests": "no tests",
    "pytest_missing": "No module named pytest",
    "unittest_import": "No module named 'nothere'",
    "python_no_file": "can't open file",
    "python_import": "No module named 'nothere'",
    "node_no_package": "Cannot find module 'nothere'",
    "node_test_no_package": "Cannot find module 'nothere'",
    "jest_no_package": "Cannot find module 'nothere'",
    "vitest_no_package": "Cannot find package 'nothere'",
    "npm_no_script": "Missing script",
    "npm_no_program": "nothere-lint: not found",
    "npx_no_package": "missing packages",
    "make_no_program": "nothere-prog: No such file",
    "make_recursive": "nothere-prog: No such file",
    "make_no_rule": "No rule to make target",
    "shell_not_executable": "cannot be executed",
    "bash_no_program": "command not found",
    "cargo_no_package": "no matching package named",
    "cargo_no_network": "failed to get `serde`",
    "java_no_class": "Could not find or load main class",
    "maven_no_project": "there is no POM",
    "perl_no_module": "Can't locate Nothere.pm",
}
"""Recorded outputs, with a part of the reason."""


@pytest.mark.parametrize("name", NOT_STARTED)
def test_a_check_that_lacks_something_is_not_red_and_says_what(name: str) -> None:
    outcome = outcome_of(recorded(name))
    assert outcome.status == "not_started"
    assert NOT_STARTED[name] in outcome.reason


RED = [
    name
    for name, (kind, _) in KINDS.items()
    if kind in ("assertion", "exception", "other")
]
RED += [
    *UNSAID,
    "pytest_syntax",
    "pytest_import_in_test",
    "pytest_import_continued",
    "pytest_import_and_syntax",
    "python_import_late",
    "unittest_mixed",
    "unittest_import_and_failure",
    "node_no_own_file",
    "cargo_compile",
    "java_compile",
    "c_compile",
]


@pytest.mark.parametrize("name", RED)
def test_a_check_that_began_and_failed_is_red_whatever_was_printed(name: str) -> None:
    outcome = outcome_of(recorded(name))
    assert (outcome.status, outcome.reason) == ("failed", "")


def test_exit_0_is_a_pass_whatever_was_printed() -> None:
    run = ended("bash: line 1: pytest: command not found\nFAILED (failures=1)\n", 0)
    assert outcome_of(run).status == "passed"


@pytest.mark.parametrize(
    ("how", "status", "part"),
    [
        ("timeout", "timed_out", "after 2 seconds"),
        ("unstarted", "not_started", "the sandbox could not be set up: bwrap: no"),
        ("quota", "not_run", "too much"),
        ("cancelled", "not_run", "cancelled"),
        ("abandoned", "not_run", "client"),
    ],
)
def test_a_run_that_was_ended_says_how(
    how: str, status: CheckStatus, part: str
) -> None:
    outcome = outcome_of(CommandRun("x", how, None, 2.2, b"bwrap: no\n"))
    assert outcome.status == status
    assert part in outcome.reason


def test_the_tail_is_the_end_of_the_output_and_is_masked() -> None:
    token = "ghp_0123456789abcdefghijABCDEFGHIJ012345"  # no real one
    text = "\x1b[31mred\x1b[0m\u202e \udcff" + "é" * MAX_TAIL + f"\n{token}\nend\n"
    run = CommandRun("x", "exited", 1, 1.0, text.encode("utf-8", "surrogateescape"))
    tail = outcome_of(run).tail
    assert len(tail) == MAX_TAIL
    assert tail.endswith("\nend\n")
    assert "ghp_" not in tail
    assert "\x1b" not in tail


def test_a_reason_is_one_short_masked_line() -> None:
    token = "ghp_0123456789abcdefghijABCDEFGHIJ012345"  # no real one
    output = f"{token}: {'x' * 10_000}: command not found\n"
    reason = outcome_of(ended(output, 127)).reason
    assert len(reason) <= MAX_REASON
    assert "ghp_" not in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("status", "base", "line"),
    [
        ("passed", "passed", "Check passed."),
        ("passed", "failed", "Check passed; it failed before the change."),
        ("passed", "not_started", "Check passed."),
        ("failed", "passed", "Check failed (exit 2); it passed before the change."),
        ("failed", "failed", "Check failed (exit 2); it failed before the change too."),
        ("failed", None, "Check failed (exit 2)."),
        ("timed_out", "passed", "Check timed out; it passed before the change."),
        ("not_run", None, "Check was not run."),
        ("not_started", "not_started", "Check could not start."),
    ],
)
def test_the_line_of_a_check_compares_it_with_the_start(
    status: CheckStatus, base: CheckStatus | None, line: str
) -> None:
    exit_code = {"failed": 2, "passed": 0}.get(status)
    check = CheckResult(command="x", status=status, exit=exit_code, base_status=base)
    assert check_line(check) == line
