"""What the readers of this package get and return."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from codex_counsel.system.text import clean

FailureType = Literal["assertion", "exception", "not_started", "broken_test", "other"]

MAX_QUOTED = 300
"""Characters of a line of output that an obstacle quotes."""
ASSERTIONS = frozenset(("AssertionError", "AssertionFailedError", "Failed"))
"""Exceptions that say that an expectation was not met. `Failed` is pytest's."""
BROKEN = frozenset(("SyntaxError", "IndentationError", "TabError"))
"""Exceptions of a file that is no program."""
IMPORTS = frozenset(("ImportError", "ModuleNotFoundError"))


@dataclass(frozen=True)
class FailureKind:
    """What made a run of a test fail.

    - `assertion`: an expectation of the test was not met;
    - `exception`: the exception `name` was raised, or for a program without exceptions the signal or panic;
    - `not_started`: the runner or an interpreter is missing, or was called in a wrong way;
    - `broken_test`: the test is no program, cannot be imported or compiled, or there is none;
    - `other`: none of these could be recognised.

    `obstacle` says in plain words what kept every test from beginning; it is empty where
    one began. `name` is the last part of a dotted name.
    """

    kind: FailureType
    name: str | None = None
    obstacle: str = ""


OTHER = FailureKind("other")


@dataclass(frozen=True)
class Output:
    """The end of what a failed run wrote, without styles and without blank lines at its end, and its exit code.

    `test_files` are the names of the files that hold the tests, where they are known.
    """

    lines: Sequence[str]
    exit: int
    test_files: Sequence[str] = ()

    @classmethod
    def of(cls, output: bytes, code: int, test_files: Sequence[str] = ()) -> Output:
        text = clean(output.decode("utf-8", "replace"))
        return cls(text.rstrip().splitlines(), code, test_files)

    @property
    def last(self) -> str:
        """The last line, or nothing."""
        return self.lines[-1] if self.lines else ""

    def near_end(self, pattern: re.Pattern[str], count: int) -> re.Match[str] | None:
        """The last match at the beginning of one of the last `count` lines."""
        for line in reversed(self.lines[-count:]):
            match = pattern.match(line)
            if match:
                return match
        return None

    def after_last(self, pattern: re.Pattern[str]) -> Sequence[str]:
        """The lines after the last one that matches; none where no line does."""
        for number in range(len(self.lines) - 1, -1, -1):
            if pattern.match(self.lines[number]):
                return self.lines[number + 1 :]
        return ()

    def is_test_file(self, path: str) -> bool:
        """Whether the path, absolute or not, is that of a file with tests."""
        return any(
            path == name or path.endswith(f"/{name}") for name in self.test_files
        )


def quoted(line: str) -> str:
    """A line of the output, as an obstacle quotes it."""
    return line.strip()[:MAX_QUOTED]


def of_exception(name: str) -> FailureKind:
    """The failure of a test that ended with the exception of this name, which may be dotted."""
    name = name.rpartition(".")[2]
    if name in ASSERTIONS:
        return FailureKind("assertion", name)
    if name in BROKEN or name in IMPORTS:
        return FailureKind("broken_test", name)
    return FailureKind("exception", name)


def most_telling(kinds: Iterator[FailureKind] | Sequence[FailureKind]) -> FailureKind:
    """That of several failures that stands for all: a broken test, else the first one."""
    found = list(kinds)
    for kind in found:
        if kind.kind == "broken_test":
            return kind
    return found[0] if found else OTHER
