r"""The two streams of the command line: everything that it prints goes through a `GuardedStream`.

`print`, argparse, tracebacks and logging all write to `sys.stdout` or `sys.stderr`, so
the guard is these objects themselves: no caller can forget it. It takes out what a
terminal would obey and, in a workflow, what its runner would:

- GitHub: `::name ...::` at the beginning of a line, behind any white space, and
  `##[name]` anywhere in a line, on either stream;
- Azure, TeamCity: `##vso[...]`, `##teamcity[...]` anywhere in a line;
- GitLab: `section_start:` and `section_end:`.

A backslash is put into each, where it shows. JSON cannot take one, so `json_text`
writes the same characters as escapes beforehand, in a workflow and elsewhere.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO, cast

from codex_counsel.system.json_values import Json
from codex_counsel.system.text import clean, json_escaped

WORKFLOW_VARIABLES = (
    "GITHUB_ACTIONS",
    "TF_BUILD",
    "GITLAB_CI",
    "TEAMCITY_VERSION",
    "CI",
)
"""A runner sets its own to `true`, `True` or a version."""

PRINT_AGAIN = "`codex-counsel result` prints the newest result of this directory again."
"""What helps where something could not be printed."""
GIVE_AGAIN = "Name a file that can be written, and give the command again."
"""The same for a command whose result is that of no run."""

_AT_LINE_START = re.compile(r"^(\s*):(?=:|\Z)")
_ANYWHERE = re.compile(r"#(?=#\w{0,30}\[)")
_PERHAPS_LATER = re.compile(r"#(?=#\w{0,30}\Z)")
_AFTER_HASH = re.compile(r"#\w{0,30}(?:\[|\Z)")
_SECTION = re.compile("section_(?=(?:start|end):)")


class UnwrittenError(OSError):
    """A standard stream took no more, for another reason than that its reader is gone: a full disk, mostly."""

    repair = PRINT_AGAIN
    """What helps; a verb may know better."""


class GuardedStream:
    """A text stream that passes no terminal sequence on, and in a workflow no command. All else is the stream's own.

    A command may come in several writes, such as `print("##", "[x]", sep="")` makes:
    what could become one with the next write is treated as if it had.

    `title` is given for a standard stream, and makes its failures `UnwrittenError`.
    """

    def __init__(
        self, stream: TextIO, *, in_workflow: bool, title: str | None = None
    ) -> None:
        self.in_workflow = in_workflow
        self._title = title
        self._stream = stream
        self._is_line_blank = True
        self._ends_with_hash = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text of any origin. Returns the number of its characters."""
        safe = clean(text)
        if self.in_workflow:
            safe = self._without_commands(safe)
        self.write_own(safe)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def write_own(self, text: str) -> int:
        """Write terminal sequences or workflow commands of ours. Nothing foreign may be in them unescaped."""
        with self._failures_named():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what the buffer holds."""
        with self._failures_named():
            self._stream.flush()

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._title is None:
                raise
            message = f"{self._title}: {error.strerror}"
            raise UnwrittenError(error.errno, message) from None

    def _without_commands(self, text: str) -> str:
        *lines, rest = text.split("\n")
        safe_lines = []
        for line in lines:
            safe_lines.append(self._without_command(line))
            self._is_line_blank = True
            self._ends_with_hash = False

        safe_rest = _PERHAPS_LATER.sub(r"#\\", self._without_command(rest))
        if rest:
            self._is_line_blank = self._is_line_blank and rest.isspace()
            self._ends_with_hash = safe_rest.endswith("#")
        return "\n".join([*safe_lines, safe_rest])

    def _without_command(self, text: str) -> str:
        """What goes on with the present line."""
        if self._is_line_blank:
            text = _AT_LINE_START.sub(r"\1\\:", text)
        if self._ends_with_hash and _AFTER_HASH.match(text):
            text = f"\\{text}"
        return without_hash_commands(text)


def without_hash_commands(text: str) -> str:
    r"""The text without the commands that are obeyed anywhere in a line: `#\#[error]` for `##[error]`."""
    return _SECTION.sub(r"section\\_", _ANYWHERE.sub(r"#\\", text))


def open_missing_streams() -> None:
    """Open the null device for each standard stream that this process was started without.

    Python has None for such a stream, and the next file that is opened would take its
    number.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # They stay open for the rest of the process.
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def guard(env: Mapping[str, str], argv: list[str]) -> None:
    """Guard the streams of this process. Workflow commands are escaped in a workflow, and if `argv` has its format."""
    # Asked before the arguments are parsed: the parser's own errors repeat them.
    asks_for_github = any(word.rpartition("=")[2] == "github" for word in argv)
    in_workflow = is_workflow(env) or asks_for_github
    titles = {"stdout": "standard output", "stderr": "standard error"}
    for name, title in titles.items():
        stream = getattr(sys, name)
        if stream is None:
            continue
        if isinstance(stream, GuardedStream):
            stream.in_workflow = in_workflow
            continue
        # A character that the encoding lacks is printed as an escape, not raised as an
        # error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        guarded = GuardedStream(stream, in_workflow=in_workflow, title=title)
        setattr(sys, name, cast("TextIO", guarded))


def is_workflow(env: Mapping[str, str]) -> bool:
    """Whether a runner of workflows reads what this process prints."""
    values = [env.get(name, "").lower() for name in WORKFLOW_VARIABLES]
    return any(value not in ("", "0", "false") for value in values)


def json_text(value: Json, *, indent: int | None = 2) -> str:
    """The value as JSON that holds no hidden character and no command: it is printed as it stands."""
    text = json_escaped(json.dumps(value, ensure_ascii=False, indent=indent))
    return _SECTION.sub(r"section\\u005f", _ANYWHERE.sub(r"\\u0023", text))


def write_styled(stream: TextIO, text: str, sequence: str) -> None:
    """Write text of any origin in the style that the parameters of a terminal sequence begin."""
    write_own = stream.write
    if isinstance(stream, GuardedStream):
        write_own = stream.write_own
    write_own(f"\x1b[{sequence}m")
    stream.write(text)
    write_own("\x1b[0m")


def print_own(text: str, stream: TextIO, end: str = "\n") -> None:
    """Print terminal sequences or workflow commands of ours, as `GuardedStream.write_own`, and flush."""
    if isinstance(stream, GuardedStream):
        stream.write_own(text + end)
    else:
        stream.write(text + end)
    stream.flush()
