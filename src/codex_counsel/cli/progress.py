"""The progress line of a terminal."""

from __future__ import annotations

import sys
from typing import Self

from codex_counsel.cli.output import print_own
from codex_counsel.contract.envelope import Progress, progress_line
from codex_counsel.system.text import one_line

WIDTH = 78
ERASE = "\r\x1b[K"
"""Go back to the beginning of the line and clear it."""


class ProgressLine:
    """One line on stderr, rewritten by each `update` and erased at the end; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def update(self, progress: Progress) -> None:
        """Show where the run stands now."""
        if self._is_terminal:
            print_own(ERASE, sys.stderr, end="")
            line = one_line(progress_line(progress), WIDTH)
            print(line, end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._is_terminal:
            print_own(ERASE, sys.stderr, end="")
