"""How far a batch has come, on standard error: a line that is rewritten on a terminal, few plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from codex_counsel.batch.progress import Progress
from codex_counsel.cli.progress import LINE

PLAIN_SECONDS = 10.0
"""Between two plain lines at least."""
ALIVE_SECONDS = 60.0
"""Between two plain lines at most, where something changed meanwhile."""
PLAIN_SHARE = 0.1
"""Of the items that end from one plain line to the next, unless that takes longer."""


class Display:
    """Shows progress and events, unless it is quiet. What nobody reads any more is left out, and the batch goes on."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.is_muted = quiet
        self._shown = ""
        self._shown_ended = 0
        self._shown_at = time.monotonic()

    def update(self, progress: Progress, events: list[str]) -> None:
        """Show where the batch stands now, and what happened since the last call."""
        if self.is_muted:
            return
        with self._muted_by_failure():
            for event in events:
                self._print(event)
            self._show(progress)

    def say_each(self, sentences: Iterable[str]) -> None:
        """Show sentences, each on a line."""
        if self.is_muted:
            return
        with self._muted_by_failure():
            for words in sentences:
                self._print(words)

    def end(self) -> None:
        """Clear the line."""
        if self.is_muted:
            return
        with self._muted_by_failure():
            LINE.erase()

    @contextmanager
    def _muted_by_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            # A terminal that was closed, a pipe without a reader, a full disk.
            self.is_muted = True
            LINE.quiet = True
            # What is left in its buffer must not choose the exit code.
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115

    def _print(self, words: str) -> None:
        LINE.erase()
        print(f"batch: {words}", file=sys.stderr, flush=True)

    def _show(self, progress: Progress) -> None:
        text = progress.text()
        if sys.stderr.isatty():
            LINE.say(text)
            return
        if text == self._shown or not self._is_due(progress):
            return
        self._shown, self._shown_ended = text, progress.totals.ended
        self._shown_at = time.monotonic()
        self._print(text)

    def _is_due(self, progress: Progress) -> bool:
        passed = time.monotonic() - self._shown_at
        more = progress.totals.ended - self._shown_ended
        if passed < PLAIN_SECONDS:
            return False
        return passed >= ALIVE_SECONDS or more >= progress.total * PLAIN_SHARE
