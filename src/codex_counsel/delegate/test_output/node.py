"""Node itself, its test runner, Jest, Vitest and Mocha."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from codex_counsel.delegate.test_output.model import (
    BROKEN,
    OTHER,
    FailureKind,
    Output,
    of_exception,
    quoted,
)

_ERROR = re.compile(
    r"(?:Uncaught |Exception during run: )?([A-Z]\w*(?:Error|Exception)|Error)(?: \[\w+\])?(?:: |$)"
)
_EXPECT = re.compile(r"expect\(")
_MISSING = re.compile(r"Cannot find (?:module|package) '([^']+)'")
_NO_LIST = re.compile(r"\s*requireStack: \[\]")
_CRASH = re.compile(r"Node\.js v\d+\.")
_MODULE_CODE = re.compile(r"\s*code: '(?:ERR_)?MODULE_NOT_FOUND'")

_RUNNER_FAILED = re.compile(r"(?:#|ℹ) fail [1-9]\d*$")  # noqa: RUF001  # the runner's own letter
_RUNNER_LIST = re.compile(r"✖ failing tests:$")
_RUNNER_NAME = re.compile(r"\s+name: '(\w+)'$")
_RUNNER_CRASH = re.compile(r"\s+(?:error: )?'test failed'$")

_JEST_END = re.compile(r"Tests: +(.*\btotal)$")
_JEST_NONE = re.compile(r"No tests found, exiting with code 1$")
_JEST_TITLE = re.compile(r"  ● ")
_VITEST_END = re.compile(r" Test Files  .*\bfailed\b")
_VITEST_NO_TESTS = re.compile(r" {2,}Tests  no tests$")
_VITEST_NONE = re.compile(r"No test files found, exiting with code 1$")
_VITEST_LIST = re.compile(r"⎯+ Failed (?:Tests|Suites) \d+ ⎯+$")
_MOCHA_END = re.compile(r"  \d+ failing$")
NEAR = 20


def runner(output: Output) -> FailureKind | None:
    """A run of `node --test`, in either of its two formats."""
    is_spec = bool(output.after_last(_RUNNER_LIST))
    failed = output.near_end(_RUNNER_FAILED, len(output.lines) if is_spec else NEAR)
    if output.exit != 1 or not failed:
        return None
    if is_spec:
        kind = _first(output.after_last(_RUNNER_LIST))
        if kind != OTHER:
            return kind
    for line in output.lines:
        name = _RUNNER_NAME.match(line)
        if name:
            return of_exception(name[1])
    if output.near_end(_RUNNER_CRASH, len(output.lines)):
        # The file of the test itself could not be run; its output is shown as comments.
        return _loading([line.removeprefix("# ") for line in output.lines])
    return OTHER


def jest(output: Output) -> FailureKind | None:
    """A run of Jest."""
    if output.exit == 1 and output.near_end(_JEST_NONE, NEAR):
        return FailureKind("broken_test", obstacle="Jest found no tests")
    end = output.near_end(_JEST_END, 8)
    if output.exit != 1 or not end:
        return None
    titles = [n for n, line in enumerate(output.lines) if _JEST_TITLE.match(line)]
    body = output.lines[titles[0] + 1 :] if titles else ()
    if end[1] == "0 total":
        return _loading(body)
    return _first(body)


def vitest(output: Output) -> FailureKind | None:
    """A run of Vitest."""
    if output.exit == 1 and output.near_end(_VITEST_NONE, NEAR):
        return FailureKind("broken_test", obstacle="Vitest found no tests")
    if output.exit != 1 or not output.near_end(_VITEST_END, 8):
        return None
    body = output.after_last(_VITEST_LIST)
    if output.near_end(_VITEST_NO_TESTS, 8):
        return _loading(body)
    return _first(body)


def mocha(output: Output) -> FailureKind | None:
    """A run of Mocha; its exit code is the number of failures."""
    body = output.after_last(_MOCHA_END)
    return _first(body) if body else None


def program(output: Output) -> FailureKind | None:
    """A program that Node ended because of an exception that nobody caught."""
    is_missing = output.near_end(_MODULE_CODE, 6)
    if output.exit != 1 or not (is_missing or output.near_end(_CRASH, 1)):
        return None
    if is_missing:
        return _loading(output.lines)
    found = OTHER
    for line in output.lines:
        error = _ERROR.match(line)
        if error:
            found = of_exception(error[1])
    return found


def _first(lines: Iterable[str]) -> FailureKind:
    """The first failure in these lines, which a runner wrote as its list."""
    for line in lines:
        text = line.strip()
        if _EXPECT.match(text):
            return FailureKind("assertion", "AssertionError")
        error = _ERROR.match(text)
        if error:
            return of_exception(error[1])
    return OTHER


def _loading(lines: Sequence[str]) -> FailureKind:
    """A file with tests that could not be loaded."""
    for line in lines:
        missing = _MISSING.search(line)
        if missing:
            # A path names a file of the project itself: that is no lack of the copy, unless
            # it is the file that the command names.
            is_entry = any(_NO_LIST.match(other) for other in lines)
            is_package = not missing[1].startswith((".", "/"))
            obstacle = quoted(line) if is_package or is_entry else ""
            return FailureKind("broken_test", "Error", obstacle)
        error = _ERROR.match(line.strip())
        if error and error[1] in BROKEN:
            return FailureKind("broken_test", error[1])
    return FailureKind("broken_test")
