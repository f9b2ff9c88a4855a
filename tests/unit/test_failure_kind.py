"""What recorded outputs of real test runners say about why a run failed. See the folder `runner_outputs`.

The first line of each file there is the exit code.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.delegate.failure_kind import failure_kind
from codex_counsel.delegate.test_output.model import FailureKind
from codex_counsel.kind import CommandRun

OUTPUTS = Path(__file__).with_name("runner_outputs")


def recorded(name: str) -> CommandRun:
    """The run whose output is recorded under this name."""
    first, _, output = (OUTPUTS / f"{name}.txt").read_text("utf-8").partition("\n")
    return ended(output, int(first.removeprefix("exit ")))


def ended(output: str, code: int) -> CommandRun:
    return CommandRun("check", "exited", code, 0.1, output.encode())


ASSERTION = ("assertion", "AssertionError")
KINDS: dict[str, tuple[str, str | None]] = {
    "pytest_assert": ASSERTION,
    "pytest_assert_short": ASSERTION,
    "pytest_assert_line": ASSERTION,
    "pytest_assert_no_traceback": ASSERTION,
    "pytest_assert_native": ASSERTION,
    "pytest_exception": ("exception", "KeyError"),
    "pytest_own_exception": ("exception", "Broken"),
    "pytest_chained": ("exception", "RuntimeError"),
    "pytest_long": ("exception", "ValueError"),
    "pytest_raises": ("assertion", "Failed"),
    "pytest_name_error": ("exception", "NameError"),
    "pytest_syntax": ("broken_test", "SyntaxError"),
    "pytest_import": ("broken_test", "ModuleNotFoundError"),
    "pytest_import_and_pass": ("broken_test", "ModuleNotFoundError"),
    "pytest_import_continued": ("broken_test", "ModuleNotFoundError"),
    "pytest_import_and_syntax": ("broken_test", "ModuleNotFoundError"),
    "pytest_cannot_import": ("broken_test", "ImportError"),
    "pytest_collect_name": ("broken_test", "NameError"),
    "pytest_import_in_test": ("broken_test", "ModuleNotFoundError"),
    "pytest_fixture": ("broken_test", None),
    "pytest_forged": ASSERTION,
    "pytest_conftest": ("broken_test", "ModuleNotFoundError"),
    "pytest_no_file": ("not_started", None),
    "pytest_no_tests": ("broken_test", None),
    "pytest_usage": ("not_started", None),
    "pytest_missing": ("not_started", None),
    "unittest_assert": ASSERTION,
    "unittest_exception": ("exception", "KeyError"),
    "unittest_import": ("broken_test", "ModuleNotFoundError"),
    "unittest_import_and_failure": ("broken_test", "ModuleNotFoundError"),
    "unittest_mixed": ("broken_test", "ModuleNotFoundError"),
    "unittest_prints": ASSERTION,
    "unittest_syntax": ("broken_test", "SyntaxError"),
    "unittest_no_module": ("broken_test", "ModuleNotFoundError"),
    "python_assert": ASSERTION,
    "python_exception": ("exception", "KeyError"),
    "python_lines": ("exception", "ValueError"),
    "python_no_file": ("not_started", None),
    "python_syntax": ("broken_test", "SyntaxError"),
    "python_import": ("broken_test", "ModuleNotFoundError"),
    "python_import_late": ("broken_test", "ModuleNotFoundError"),
    "python_prints": ("other", None),
    "node_assert": ASSERTION,
    "node_exception": ("exception", "TypeError"),
    "node_no_package": ("broken_test", "Error"),
    "node_no_package_esm": ("broken_test", "Error"),
    "node_no_own_file": ("broken_test", "Error"),
    "node_no_entry": ("broken_test", "Error"),
    "node_syntax": ("broken_test", "SyntaxError"),
    "node_test_assert": ASSERTION,
    "node_test_assert_spec": ASSERTION,
    "node_test_exception": ("exception", "TypeError"),
    "node_test_no_package": ("broken_test", "Error"),
    "node_test_no_package_spec": ("broken_test", "Error"),
    "node_test_syntax": ("broken_test", "SyntaxError"),
    "jest_assert": ASSERTION,
    "jest_exception": ("exception", "TypeError"),
    "jest_no_package": ("broken_test", "Error"),
    "jest_syntax": ("broken_test", None),
    "jest_none": ("broken_test", None),
    "vitest_assert": ASSERTION,
    "vitest_exception": ("exception", "TypeError"),
    "vitest_no_package": ("broken_test", "Error"),
    "vitest_syntax": ("broken_test", None),
    "vitest_none": ("broken_test", None),
    "mocha_assert": ASSERTION,
    "mocha_exception": ("exception", "TypeError"),
    "mocha_no_package": ("broken_test", "Error"),
    "npm_no_script": ("not_started", None),
    "npm_no_program": ("not_started", None),
    "npm_assert": ASSERTION,
    "npx_no_package": ("not_started", None),
    "make_no_program": ("not_started", None),
    "make_not_executable": ("not_started", None),
    "make_recursive": ("not_started", None),
    "make_no_rule": ("not_started", None),
    "make_no_makefile": ("not_started", None),
    "make_false": ("other", None),
    "make_no_program_before": ("other", None),
    "make_pytest": ASSERTION,
    "shell_no_program": ("not_started", None),
    "shell_not_executable": ("not_started", None),
    "shell_no_interpreter": ("not_started", None),
    "shell_quotes": ("not_started", None),
    "shell_test": ("other", None),
    "bash_no_program": ("not_started", None),
    "cargo_assert": ("assertion", "panic"),
    "cargo_exception": ("exception", "panic"),
    "cargo_compile": ("broken_test", None),
    "cargo_no_package": ("not_started", None),
    "cargo_no_network": ("not_started", None),
    "cargo_no_manifest": ("not_started", None),
    "java_exception": ("exception", "ArrayIndexOutOfBoundsException"),
    "java_assert": ASSERTION,
    "java_compile": ("broken_test", None),
    "java_no_class": ("not_started", None),
    "maven_no_project": ("not_started", None),
    "c_assert": ("assertion", "assert"),
    "c_compile": ("broken_test", None),
    "c_fault": ("exception", "SIGSEGV"),
    "perl_no_module": ("broken_test", None),
    "perl_tap": ("assertion", None),
}
UNSAID = ("python_logs_import", "pytest_forged_open")
"""Outputs in which the program under test has the last word: their kind may be wrong, but they name no obstacle."""


@pytest.mark.parametrize("name", KINDS)
def test_what_made_a_run_fail_is_read_from_its_output(name: str) -> None:
    found = failure_kind(recorded(name))
    assert (found.kind, found.name) == KINDS[name]


def test_every_recorded_output_has_its_line_in_the_table() -> None:
    names = {path.stem for path in OUTPUTS.iterdir()}
    assert names == {*KINDS, *UNSAID}


BEGAN = {
    "pytest_import_continued",
    "pytest_import_and_syntax",
    "pytest_syntax",
    "pytest_collect_name",
    "pytest_import_in_test",
    "pytest_fixture",
    "unittest_import_and_failure",
    "unittest_mixed",
    "unittest_syntax",
    "python_syntax",
    "python_import_late",
    "python_logs_import",
    "node_no_own_file",
    "node_syntax",
    "node_test_syntax",
    "jest_syntax",
    "vitest_syntax",
    "cargo_compile",
    "java_compile",
    "c_compile",
}
"""Broken tests that lack nothing but a right text, or before which another one began."""


@pytest.mark.parametrize("name", [*KINDS, *UNSAID])
def test_an_obstacle_is_named_exactly_where_no_test_could_begin(name: str) -> None:
    found = failure_kind(recorded(name))
    could_begin = found.kind not in ("not_started", "broken_test") or name in BEGAN
    assert bool(found.obstacle) is not could_begin


GO_BUILD = """\
# example.org/p [example.org/p.test]
./p_test.go:6:2: undefined: nothing
FAIL\texample.org/p [build failed]
FAIL
"""
GO_TEST = """\
--- FAIL: TestAdd (0.00s)
    p_test.go:7: Add(1, 2) = 4
FAIL
FAIL\texample.org/p\t0.002s
FAIL
"""
GO_PANIC = """\
--- FAIL: TestAdd (0.00s)
panic: runtime error: index out of range [1] with length 0 [recovered]

goroutine 18 [running]:
FAIL\texample.org/p\t0.004s
FAIL
"""
GO_PACKAGE = """\
p.go:3:8: no required module provides package example.org/q; to add it:
\tgo get example.org/q
FAIL\texample.org/p [setup failed]
FAIL
"""
SUREFIRE = """\
[ERROR] Tests run: 1, Failures: {failures}, Errors: {errors}, Skipped: 0, Time elapsed: 0.02 s <<< FAILURE!
[ERROR]   PTest.adds:9 {what}
[INFO]
[ERROR] Tests run: 1, Failures: {failures}, Errors: {errors}, Skipped: 0
[ERROR] Failed to execute goal org.apache.maven.plugins:maven-surefire-plugin:3.0.0:test
"""


@pytest.mark.parametrize(
    ("output", "code", "kind"),
    [
        (GO_TEST, 1, FailureKind("assertion")),
        (GO_PANIC, 1, FailureKind("exception", "panic")),
        (GO_BUILD, 1, FailureKind("broken_test")),
        (
            GO_PACKAGE,
            1,
            FailureKind(
                "broken_test",
                obstacle="p.go:3:8: no required module provides package example.org/q; to add it:",
            ),
        ),
        (
            SUREFIRE.format(failures=1, errors=0, what="expected: <1> but was: <2>"),
            1,
            FailureKind("assertion", "AssertionError"),
        ),
        (
            SUREFIRE.format(failures=0, errors=1, what="» NullPointer null"),
            1,
            FailureKind("exception", "NullPointer"),
        ),
    ],
)
def test_what_runners_print_that_are_not_at_hand_here(
    output: str, code: int, kind: FailureKind
) -> None:
    assert failure_kind(ended(output, code)) == kind


@pytest.mark.parametrize(
    ("name", "file"),
    [("pytest_name_error", "test_name.py"), ("pytest_name_error", "py/test_name.py")],
)
def test_an_undefined_name_in_a_known_test_is_a_broken_test(
    name: str, file: str
) -> None:
    if "/" in file:
        assert failure_kind(recorded(name), (file,)).kind == "exception"
    else:
        assert failure_kind(recorded(name), (file,)).kind == "broken_test"


@pytest.mark.parametrize("how", ["timeout", "quota", "cancelled", "abandoned"])
def test_a_run_that_was_ended_tells_nothing(how: str) -> None:
    output = b"E   assert 1 == 2\n"
    assert failure_kind(CommandRun("x", how, None, 1.0, output)).kind == "other"


def test_a_run_without_a_sandbox_was_not_started() -> None:
    run = CommandRun("x", "unstarted", None, 0.0, b"")
    assert failure_kind(run).kind == "not_started"
    assert failure_kind(ended("FAILED (failures=1)", 0)).kind == "other"


@pytest.mark.parametrize(
    "unit",
    ["E ", "_ ", "= ", "  File ", "1 failed, ", "FAIL: ", "npm error ", "● ", "a: "],
)
def test_the_longest_output_is_read_at_once(unit: str) -> None:
    """A pattern that looks at some part of a line again and again takes minutes for these."""
    for output in (unit * 30_000, f"{unit}\n" * 15_000):
        for code in (1, 2, 4, 101, 127, 134):
            failure_kind(ended(output, code))
