"""Text for a person: wrapped and coloured on a terminal, plain anywhere else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TextIO

from codex_counsel.cli.output import write_styled
from codex_counsel.system.json_values import Json

Style = Literal["", "bold", "dim", "red", "green", "yellow", "cyan", "alarm"]
SEQUENCES: dict[Style, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
    "alarm": "1;31",
}
"""Parameters of the terminal sequence that begins a style; the user's own palette decides on the colour."""
Span = tuple[str, Style]
MIN_WIDTH = 40

HANG = r"\s*(?:[-*+>|] |-> |\d{1,3}[.)] )?"
"""What later lines of an item are indented by."""
WORDS = r"\S+\s*|\s+"


@dataclass(frozen=True)
class Look:
    """How a stream is to be written. `width` is in columns; None: nothing is wrapped or cut. `quiet`: results alone."""

    width: int | None = None
    colour: bool = False
    quiet: bool = False

    @classmethod
    def of(
        cls,
        stream: TextIO,
        env: Mapping[str, str],
        colour: str = "auto",
        *,
        quiet: bool = False,
    ) -> Look:
        """What suits the stream. `colour` is `auto`, `always` or `never`; NO_COLOR and TERM=dumb count for `auto`."""
        is_terminal = stream.isatty()
        wants_none = bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
        look = cls(quiet=quiet, colour=colour == "always")
        if colour == "auto":
            look = replace(look, colour=is_terminal and not wants_none)
        if is_terminal:
            look = replace(look, width=terminal_width(stream, env))
        return look


def terminal_width(stream: TextIO, env: Mapping[str, str]) -> int:
    """The columns of the terminal that the stream writes to, at least `MIN_WIDTH`; COLUMNS goes first."""
    columns = env.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit():
        return max(int(columns), MIN_WIDTH)
    try:
        return max(os.get_terminal_size(stream.fileno()).columns, MIN_WIDTH)
    except (OSError, ValueError):
        return 80


class Page:
    """Lines, each of one or more styled parts. `str` is the text alone."""

    def __init__(self, look: Look | None = None) -> None:
        self.look = look or Look()
        self.lines: list[list[Span]] = []

    def add(self, text: str = "", style: Style = "", *, indent: str = "") -> None:
        """Add the lines of a text, each wrapped with its own indentation and `indent`."""
        for line in text.split("\n"):
            for part in wrapped(f"{indent}{line}".rstrip(), self.look.width):
                self.lines.append([(part, style)])

    def add_labelled(self, label: str, text: str) -> None:
        """Add a label of a table of two columns, and the text beside it."""
        width = None
        if self.look.width is not None:
            width = max(self.look.width - len(label), MIN_WIDTH // 2)
        for index, part in enumerate(wrapped(text, width)):
            before = label if index == 0 else " " * len(label)
            self.lines.append([(before, "dim"), (part, "")])

    def add_spans(self, *spans: Span) -> None:
        """Add one line as it is."""
        self.lines.append(list(spans))

    def add_prose(self, text: str) -> None:
        """Add Markdown: code and tables stay as they are, other lines are wrapped."""
        fence = ""
        for line in text.rstrip("\n").split("\n"):
            mark = line.lstrip()[:3]
            is_code = bool(fence) or line.startswith(("    ", "\t", "|"))
            if mark in ("```", "~~~") and fence in ("", mark):
                fence = "" if fence else mark
                is_code = True
            if is_code:
                self.add_spans((line, ""))
            else:
                self.add(line)

    def add_diff(self, diff: str) -> None:
        """Add a patch, coloured by the kind of its lines and never wrapped."""
        in_hunk = False
        for line in diff.split("\n"):
            if line.startswith("diff --git "):
                in_hunk = False
            if line.startswith("@@"):
                in_hunk = True
            self.add_spans((line, _style_of_diff(line, in_hunk=in_hunk)))

    def note(self, text: str, style: Style = "dim") -> None:
        """Add what is no part of the result; nothing with --quiet."""
        if not self.look.quiet:
            self.add(text, style, indent="  ")

    def __str__(self) -> str:
        return "\n".join("".join(text for text, _ in line) for line in self.lines)

    def print(self, stream: TextIO | None = None) -> None:
        """Write the lines. Every text passes the guard of the stream; only the colours are ours."""
        stream = stream or sys.stdout
        for line in self.lines:
            for text, style in line:
                if style and self.look.colour and text:
                    write_styled(stream, text, SEQUENCES[style])
                else:
                    stream.write(text)
            stream.write("\n")


def _style_of_diff(line: str, *, in_hunk: bool) -> Style:
    if line.startswith("@@"):
        return "cyan"
    if not in_hunk:
        return "bold"
    if line.startswith("+"):
        return "green"
    if line.startswith("-"):
        return "red"
    return ""


def wrapped(line: str, width: int | None) -> list[str]:
    """The line in parts of at most `width` columns, cut between words; later parts begin below the first word."""
    if width is None or columns(line) <= width:
        return [line]
    hang = re.match(HANG, line)
    prefix = hang[0] if hang else ""
    indent = " " * min(columns(prefix), width // 2)
    parts = []
    part = prefix
    is_empty = True
    for word in re.findall(WORDS, line[len(prefix) :]):
        if not is_empty and columns((part + word).rstrip()) > width:
            parts.append(part.rstrip())
            part = indent
        part += word
        is_empty = False
    parts.append(part.rstrip())
    return parts


def flat(value: Json) -> str:
    """A value of unknown shape on one line."""
    if isinstance(value, list):
        return ", ".join(flat(item) for item in value)
    if not isinstance(value, dict):
        return str(value)
    parts = []
    for name, item in value.items():
        if item is not None:
            parts.append(f"{name.replace('_', ' ')} {flat(item)}")
    return ", ".join(parts)


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    # Most texts do without it.
    from unicodedata import combining, east_asian_width

    count = 0
    for character in text:
        if combining(character):
            continue
        count += 2 if east_asian_width(character) in "WF" else 1
    return count


def fitted(text: str, width: int | None) -> str:
    """The text cut to so many columns, with an ellipsis where something is missing."""
    if width is None or columns(text) <= width:
        return text
    if width < 1:
        return ""
    while text and columns(text) > width - 1:
        text = text[:-1]
    return f"{text.rstrip()}…"
