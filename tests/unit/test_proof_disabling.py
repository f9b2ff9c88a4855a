"""The code in question taken out of a file: where an exception is raised, or that nothing is left."""

from __future__ import annotations

import pytest

from codex_counsel.proof.disabling import MAX_SOURCE, RAISE, variants

SOURCE = '''\
LIMIT = 3


def first(x):
    """Say so."""
    if x > LIMIT:
        return 1
    elif x:
        return 2
    for y in range(x):
        x += (
            y
        )
    return x


class Thing:
    @property
    async def size(self):
        def inner():
            return 1

        @staticmethod
        def outer(): return inner()
        return outer
'''
LINES = SOURCE.splitlines()
BEFORE = {
    "a statement": (9, 9),
    "the header of a block": (6, 6),
    "a line of a statement of several": (12, 11),
    "an elif": (8, 6),
    "the header of a function": (4, 6),
    "a docstring": (5, 5),
    "a blank line of a function": (22, 20),
    "a function in a function": (21, 21),
    "a function on one line": (24, None),
    "a method": (25, 25),
    "the module": (1, None),
    "no line": (None, None),
    "a line behind the end": (99, None),
}


@pytest.mark.parametrize(("line", "before"), BEFORE.values(), ids=BEFORE.keys())
def test_an_exception_is_raised_before_the_statement_of_the_line(
    line: int | None, before: int | None
) -> None:
    contents = variants("src/a.py", SOURCE.encode(), line)
    if line is None:
        assert contents == []
        return
    (content,) = contents
    result = content.decode()
    if before is None:
        assert result == ""
        return
    text = LINES[before - 1]
    indent = text[: len(text) - len(text.lstrip())]
    expected = [*LINES[: before - 1], indent + RAISE, *LINES[before - 1 :]]
    assert result.splitlines() == expected


NOT_PARSED = {
    "only heads of functions": ("a.js", b"function f()\nfunction g() {\n"),
    "another Python": ("a.py", b"def f():\n    print 'x'\n"),
    "no UTF-8": ("a.py", b"def f():\n    return '\xff'\n"),
    "a NUL": ("a.py", b"def f():\n    return '\0'\n"),
    "no Python at all": ("a.py", b"(" * 100_000),
    "too much": ("a.py", b"def f():\n    return 1\n" + b"#" * MAX_SOURCE),
}


@pytest.mark.parametrize(
    ("path", "content"), NOT_PARSED.values(), ids=NOT_PARSED.keys()
)
def test_of_what_cannot_be_parsed_nothing_is_left(path: str, content: bytes) -> None:
    assert variants(path, content, 2) == [b""]


def test_tabs_and_line_ends_are_kept() -> None:
    content = b"def f():\r\n\tx = 1\r\n\treturn x\r\n"
    expected = f"def f():\r\n\tx = 1\r\n\t{RAISE}\n\treturn x\r\n".encode()
    assert variants("a.py", content, 3) == [expected]


def test_in_another_language_a_statement_stands_in_front_of_the_line_or_of_the_next() -> (
    None
):
    content = b"function f() {\n  let x = 1;\n\n  return x;\n}\n"
    assert variants("a.js", content, 1) == [
        b"function f() {\n  undefined_in_a_proof;\n  let x = 1;\n\n  return x;\n}\n",
        b"function f() {\n  let x = 1;\n\n  undefined_in_a_proof;\n  return x;\n}\n",
        b"function f() {\n  let x = 1;\n\n  return x;\nundefined_in_a_proof;\n}\n",
    ]
    assert variants("a.go", content, 4)[0].splitlines()[3] == b"  panic(0);"
