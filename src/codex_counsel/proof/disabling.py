"""The code in question taken out of a file, so that a test which depends on it cannot pass. Pure.

In Python an exception is raised where the finding points to, so a test that only imports
the file still passes. In other languages a statement that fails when it is run is put in
front of the finding's lines; where a file has no such place, it is emptied.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import PurePath

MAX_SOURCE = 1_000_000
"""Bytes of a Python file that is parsed."""
RAISE = "raise BaseException('the code in question was reached')"
"""Few programs catch it."""

MAX_PLACES = 4
"""Lines that are tried in other languages until a statement may stand in front of one."""
UNDEFINED = "undefined_in_a_proof;"
"""A statement of many languages, which fails when it is run."""
FAULTS = {
    ".go": "panic(0);",
    ".rs": "panic!();",
    ".java": "if (true) throw new RuntimeException();",
    ".kt": "throw RuntimeException();",
    ".cs": "throw new System.Exception();",
    ".pl": "die;",
    ".pm": "die;",
    ".sh": "exit 97;",
    ".bash": "exit 97;",
}
"""Such statements of languages that compile no undefined name, or go on after one, by the suffix of the file."""
_HEAD = re.compile(
    rb"\s*(?:@|(?:\w+\s+)*(?:def|class|function|func|fn)\b)|.*=>\s*\{?\s*$"
)
"""Lines in front of which a statement is run without a call: heads of functions and classes."""
MAX_HEAD = 200
"""Bytes of a line in which they are recognised."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def variants(path: str, content: bytes, line: int | None) -> list[bytes]:
    """The content of the file at this path with the code at this line taken out, the best first.

    The next one is for a program that cannot be compiled or loaded with the one before.
    None without a line.
    """
    if line is None:
        return []
    if len(content) > MAX_SOURCE:
        return [b""]
    if path.endswith(".py"):
        try:
            return [_raising(content.decode(), line)]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return [b""]  # no Python of ours, or no function with this line
    statement = FAULTS.get(PurePath(path).suffix, UNDEFINED)
    return _with_statement(content, line, statement.encode()) or [b""]


def _with_statement(content: bytes, line: int, statement: bytes) -> list[bytes]:
    """The statement in front of this line, or of one of the next."""
    lines = content.splitlines(keepends=True)
    contents = []
    for place in _lines_that_run(lines, line):
        text = lines[place]
        fault = text.replace(text.strip(), statement, 1)
        contents.append(b"".join([*lines[:place], fault, *lines[place:]]))
    return contents


def _lines_that_run(lines: Sequence[bytes], line: int) -> list[int]:
    """Positions of lines from this one on, in front of which a statement may stand that is run with them."""
    places: list[int] = []
    for place in range(line - 1, len(lines)):
        if len(places) == MAX_PLACES:
            break
        if lines[place].strip() and not _HEAD.match(lines[place][:MAX_HEAD]):
            places.append(place)
    return places


def _raising(source: str, line: int) -> bytes:
    """Raise in the innermost function with this line, as near before it as possible. Raises ValueError without one."""
    function = _innermost_function(_parsed(source), line)
    lines = source.splitlines(keepends=True)
    for statement in _places(function, line):
        text = lines[statement.lineno - 1]
        indent = text[: len(text) - len(text.lstrip())]
        if len(indent.encode()) != statement.col_offset:
            continue  # it does not begin its line
        changed = list(lines)
        changed.insert(statement.lineno - 1, f"{indent}{RAISE}\n")
        result = "".join(changed)
        try:
            _parsed(result)
        except SyntaxError:
            continue  # before an `elif`, or behind a decorator
        return result.encode()
    raise ValueError("no statement of this function begins a line")


def _parsed(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _innermost_function(module: ast.Module, line: int) -> _Function:
    """Raises ValueError where the line is in none."""
    found = None
    # The outer ones come first.
    for node in ast.walk(module):
        if isinstance(node, _Function) and _has(node, line):
            found = node
    if found is None:
        raise ValueError("the line is in no function")
    return found


def _places(function: _Function, line: int) -> Iterator[ast.stmt]:
    """The statements before which the exception may be raised, the nearest to the line first."""
    around = []
    for node in ast.walk(function):
        if node is not function and isinstance(node, ast.stmt) and _has(node, line):
            around.append(node)
    yield from reversed(around)
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    yield from body[:1]


def _has(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
