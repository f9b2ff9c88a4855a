"""The code in question taken out of a file, so that a test which depends on it cannot pass. Pure.

In Python an exception is raised where the finding points to, so a test that only imports
the file still passes. In other languages the file is emptied.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

MAX_SOURCE = 1_000_000
"""Bytes of a Python file that is parsed."""
RAISE = "raise BaseException('the code in question was reached')"
"""Few programs catch it."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def disabled(path: str, content: bytes, line: int | None) -> bytes:
    """The content of the file at this path with the code at this line taken out."""
    if path.endswith(".py") and line and len(content) <= MAX_SOURCE:
        try:
            return _raising(content.decode(), line)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass  # no Python of ours, or no function with this line
    return b""


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
