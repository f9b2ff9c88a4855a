"""The progress line of the terminal."""

from __future__ import annotations

import os
import sys
from typing import Self

from codex_counsel.cli.output import print_own
from codex_counsel.cli.page import terminal_width
from codex_counsel.contract.envelope import Progress, progress_line
from codex_counsel.system.text import one_line

ERASE = "\r\x1b[K"
"""Go back to the beginning of the line and clear it."""


class ProgressLine:
    """One line on stderr, rewritten by each call and erased at the end; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self.quiet = False
        self._is_shown = False

    def __enter__(self) -> Self:
        return self

    def update(self, progress: Progress) -> None:
        """Show where the run stands now."""
        self.say(progress_line(progress))

    def say(self, words: str) -> None:
        """Show these words."""
        if self.quiet or not sys.stderr.isatty():
            return
        width = terminal_width(sys.stderr, os.environ)
        print_own(ERASE, sys.stderr, end="")
        print(one_line(words, width - 1), end="", file=sys.stderr, flush=True)
        self._is_shown = True

    def erase(self) -> None:
        """Clear the line, before something else is printed."""
        if self._is_shown:
            print_own(ERASE, sys.stderr, end="")
        self._is_shown = False

    def __exit__(self, *_: object) -> None:
        self.erase()


LINE = ProgressLine()
"""The line of this process: a terminal has one."""
