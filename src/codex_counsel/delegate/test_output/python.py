"""pytest, unittest, and the Python interpreter itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from codex_counsel.delegate.test_output.model import (
    IMPORTS,
    OTHER,
    FailureKind,
    Output,
    most_telling,
    of_exception,
    quoted,
)

_COUNT = r"\d+ (?:failed|passed|skipped|deselected|xfailed|xpassed|errors?|warnings?)"
_PYTEST_END = re.compile(
    rf"(?:=+ )?(?:no tests ran|{_COUNT}(?:, {_COUNT})*) in \d+(?:\.\d+)?s(?: \([^()]*\))?(?: =+)?$"
)
_PYTEST_LISTS = re.compile(r"=+ (?:FAILURES|ERRORS) =+$")
_PYTEST_SUMMARY = re.compile(r"=+ short test summary info =+$")
_PYTEST_TITLE = re.compile(r"_+ (.*[^ _].*) _+$")
_PYTEST_CAPTURED = re.compile(r"-+ Captured .+ -+$")
_PYTEST_ERROR_LINE = re.compile(r"E(?: +(.*))?$")
_PYTEST_PLACE = re.compile(r"(\S.*?):\d+: ")
_PYTEST_FAILED = re.compile(r"FAILED \S.*? - (.*)")
_PYTEST_COLLECTION = re.compile(r"!+ Interrupted: \d+ errors? during collection !+$")
_PYTEST_CONFTEST = re.compile(r"ImportError while loading conftest ")
_PYTEST_USAGE = re.compile(r"ERROR: |.*: error: ")
_PYTEST_INTERNAL = re.compile(r"INTERNALERROR> (\S.*)")

_UNITTEST_END = re.compile(r"FAILED \([a-z ]+=\d+(?:, [a-z ]+=\d+)*\)$")
_UNITTEST_RAN = re.compile(r"Ran (\d+) tests? in ")
_UNITTEST_NONE = re.compile(r"NO TESTS RAN$")
_UNITTEST_SECTION = re.compile(r"={70}$")
_UNITTEST_TITLE = re.compile(r"(?:FAIL|ERROR): (.*)")
_UNITTEST_UNLOADED = "unittest.loader._FailedTest"

_EXCEPTION = re.compile(r"([^\W\d][\w.]*)(?:: .*)?$")
_FRAME = re.compile(r'  File "(.*)", line \d+(?:, in (.*))?$')
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):$")
_LIBRARY = re.compile(
    r"<frozen |.*/lib(?:64)?/python3?\.?\d*/(?!site-packages|dist-packages)"
)
_NO_MODULE = re.compile(r"\S*(?:python|pypy)[\d.]*: No module named \S+$")
_NO_FILE = re.compile(r"\S*(?:python|pypy)[\d.]*: can't open file ")
_SYNTAX = re.compile(r"(SyntaxError|IndentationError|TabError): ")
NEAR = 20
"""Lines after which a summary no longer counts as the end of the output: programs flush what they printed late."""


# --- pytest


def pytest(output: Output) -> FailureKind | None:
    """The failure of a run of pytest."""
    if output.exit == 4:
        return _pytest_usage(output)
    if not output.near_end(_PYTEST_END, NEAR):
        return None
    readers = {
        1: _pytest_failures,
        2: _pytest_collection,
        3: _pytest_internal,
        5: _pytest_nothing,
    }
    reader = readers.get(output.exit)
    return reader(output) if reader else OTHER


def _pytest_internal(output: Output) -> FailureKind:
    line = output.near_end(_PYTEST_INTERNAL, len(output.lines))
    reason = quoted(line[1]) if line else "an internal error"
    return FailureKind("not_started", obstacle=f"pytest says: {reason}")


def _pytest_nothing(_output: Output) -> FailureKind:
    return FailureKind("broken_test", obstacle="pytest found no tests")


def _pytest_usage(output: Output) -> FailureKind | None:
    if output.near_end(_PYTEST_CONFTEST, len(output.lines)):
        errors = [line for line in output.lines if _PYTEST_ERROR_LINE.match(line)]
        reason = _raised(errors)
        name = _name_of(reason) or "ImportError"
        return FailureKind("broken_test", name, f"conftest.py: {quoted(reason)}")
    usage = output.near_end(_PYTEST_USAGE, NEAR)
    if usage:
        return FailureKind(
            "not_started", obstacle=f"pytest says: {quoted(usage.string)}"
        )
    return None


def _pytest_collection(output: Output) -> FailureKind:
    """All errors come from the loading of tests: none has begun. Other interruptions tell nothing."""
    if not output.near_end(_PYTEST_COLLECTION, NEAR):
        return OTHER
    reasons = [_raised(body) for _, body in _pytest_sections(output)]
    kinds = [FailureKind("broken_test", _name_of(reason)) for reason in reasons]
    are_imports = bool(kinds) and all(kind.name in IMPORTS for kind in kinds)
    if are_imports:
        obstacle = f"a test cannot be imported: {quoted(reasons[0])}"
        return FailureKind("broken_test", kinds[0].name, obstacle)
    return most_telling(kinds) if kinds else FailureKind("broken_test")


def _pytest_failures(output: Output) -> FailureKind:
    kinds = []
    for title, body in _pytest_sections(output):
        kind = _pytest_kind(_raised(body))
        if title.startswith("ERROR collecting ") and kind.kind != "other":
            kind = FailureKind("broken_test", kind.name)
        if kind.name == "NameError" and output.is_test_file(_pytest_place(body)):
            kind = FailureKind("broken_test", kind.name)
        kinds.append(kind)
    if not kinds or all(kind == OTHER for kind in kinds):
        # `--tb=no` and `--tb=line` leave only this.
        for line in output.after_last(_PYTEST_SUMMARY):
            failed = _PYTEST_FAILED.match(line)
            if failed and not failed[1].endswith("..."):
                kinds.append(_pytest_kind(failed[1]))
        kinds = [kind for kind in kinds if kind != OTHER]
    return most_telling(kinds)


def _pytest_sections(output: Output) -> Iterator[tuple[str, Sequence[str]]]:
    """Each failure or error as its title and its lines, without what the test printed."""
    title: str | None = None
    body: list[str] = []
    is_list = is_captured = False
    for line in output.lines:
        if not is_list:
            is_list = bool(_PYTEST_LISTS.match(line))
            continue
        heading = _PYTEST_TITLE.match(line)
        is_end = bool(_PYTEST_SUMMARY.match(line) or _PYTEST_LISTS.match(line))
        if heading or is_end:
            if title is not None:
                yield title, body
            title = heading[1] if heading else None
            body = []
            is_captured = False
            continue
        is_captured = is_captured or bool(_PYTEST_CAPTURED.match(line))
        if not is_captured:
            body.append(line)
    if title is not None:
        yield title, body


def _raised(body: Sequence[str]) -> str:
    """The line with the exception in the lines of one failure, without the letter in front of it; or nothing."""
    block: list[str] = []
    last_block: list[str] = []
    for line in body:
        error = _PYTEST_ERROR_LINE.match(line)
        if error:
            block.append((error[1] or "").strip())
            last_block = block
        else:
            block = []
    if not last_block:
        return _exception_line(body)
    # A syntax error shows its place first.
    is_syntax_error = last_block[0].startswith('File "')
    return last_block[-1 if is_syntax_error else 0]


def _pytest_kind(reason: str) -> FailureKind:
    if reason == "assert" or reason.startswith("assert "):
        return FailureKind("assertion", "AssertionError")
    if reason.startswith("fixture '") and reason.endswith("' not found"):
        return FailureKind("broken_test")
    name = _name_of(reason)
    return of_exception(name) if name else OTHER


def _pytest_place(body: Sequence[str]) -> str:
    """The file that the exception was raised in."""
    place = ""
    for line in body:
        match = _PYTEST_PLACE.match(line)
        if match and not line.startswith("E "):
            place = match[1]
    return place


def _name_of(reason: str) -> str | None:
    match = _EXCEPTION.match(reason)
    return match[1].rpartition(".")[2] if match else None


# --- unittest


def unittest(output: Output) -> FailureKind | None:
    """The failure of a run of unittest."""
    if output.exit == 5 and output.near_end(_UNITTEST_NONE, NEAR):
        return FailureKind("broken_test", obstacle="unittest found no tests")
    # What tests print may come after it: stdout is flushed last.
    ran = output.near_end(_UNITTEST_RAN, len(output.lines))
    is_end = bool(output.near_end(_UNITTEST_END, len(output.lines)))
    if output.exit != 1 or not ran or not is_end:
        return None
    kinds = []
    unloaded = []
    for section in _unittest_sections(output):
        reason = _exception_line(section)
        kind = _unittest_kind(output, section, reason)
        if _UNITTEST_UNLOADED in section[0]:
            kind = FailureKind("broken_test", kind.name)
            unloaded.append((kind, reason))
        kinds.append(kind)
    is_nothing_loaded = bool(unloaded) and len(unloaded) == int(ran[1])
    if is_nothing_loaded and all(kind.name in IMPORTS for kind, _ in unloaded):
        kind, reason = unloaded[0]
        obstacle = f"a test cannot be imported: {quoted(reason)}"
        return FailureKind("broken_test", kind.name, obstacle)
    return most_telling(kinds)


def _unittest_kind(output: Output, section: Sequence[str], reason: str) -> FailureKind:
    if section[0].startswith("FAIL: "):
        return FailureKind("assertion", "AssertionError")
    name = _name_of(reason)
    if name == "NameError" and output.is_test_file(_innermost(section)[0]):
        return FailureKind("broken_test", name)
    return of_exception(name) if name else OTHER


def _unittest_sections(output: Output) -> Iterator[Sequence[str]]:
    """The lines of each failure, from its title on."""
    section: list[str] = []
    is_open = False
    for line in output.lines:
        if _UNITTEST_SECTION.match(line) or _UNITTEST_RAN.match(line):
            if section and _UNITTEST_TITLE.match(section[0]):
                yield section
            section = []
            is_open = bool(_UNITTEST_SECTION.match(line))
        elif is_open:
            section.append(line)


# --- the interpreter


def interpreter(output: Output) -> FailureKind | None:
    """A Python program that could not begin."""
    is_missing = output.exit == 1 and _NO_MODULE.match(output.last)
    if is_missing or (output.exit == 2 and _NO_FILE.match(output.last)):
        return FailureKind("not_started", obstacle=quoted(output.last))
    syntax = _SYNTAX.match(output.last)
    if syntax and output.exit == 1:
        return FailureKind("broken_test", syntax[1])
    return None


def uncaught(output: Output) -> FailureKind | None:
    """A Python program that ended with an exception."""
    traceback = output.after_last(_TRACEBACK)
    reason = _exception_line(traceback)
    name = _name_of(reason)
    if output.exit != 1 or name is None:
        return None
    rest = len(traceback) - list(traceback).index(reason) - 1
    if rest > NEAR:
        return None
    kind = of_exception(name)
    if kind.name in IMPORTS and rest == 0 and _is_loading(traceback):
        return FailureKind("broken_test", kind.name, quoted(reason))
    if kind.name == "NameError" and output.is_test_file(_innermost(traceback)[0]):
        return FailureKind("broken_test", kind.name)
    return kind


def _exception_line(lines: Sequence[str]) -> str:
    """The first line after the frames of the last traceback, or nothing."""
    found = ""
    is_in_frames = False
    for line in lines:
        if _FRAME.match(line):
            is_in_frames = True
        elif is_in_frames and line and not line.startswith(" "):
            found = line
            is_in_frames = False
    return found


def _innermost(lines: Sequence[str]) -> tuple[str, str]:
    """File and function of the last frame."""
    found = ("", "")
    for line in lines:
        frame = _FRAME.match(line)
        if frame:
            found = (frame[1], frame[2] or "")
    return found


def _is_loading(lines: Sequence[str]) -> bool:
    """Whether nothing but the loading of modules was going on: no function had been called."""
    for line in lines:
        frame = _FRAME.match(line)
        if frame and frame[2] != "<module>" and not _LIBRARY.match(frame[1]):
            return False
    return True
