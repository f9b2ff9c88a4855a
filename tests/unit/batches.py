"""Batches for tests: items, envelopes, and a place that runs items as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codex_counsel.batch.model import Ended, Item, Load
from codex_counsel.batch.record import Options, Record
from codex_counsel.contract.envelope import EnvelopeDict, Meta, Usage, completed, failed
from codex_counsel.errors import Code, CounselError


def items(record: Record, count: int) -> Iterator[Item]:
    """Questions of which no two are the same."""
    for number in range(count):
        arguments = {"question": f"Question {number}?"}
        yield Item(f"item-{number}", "consult", arguments, Path("/"), "here", record.id)


def begun(directory: Path, count: int = 3) -> Record:
    """The record of a new batch."""
    record = Record.create(directory)
    record.begin(items(record, count), Options())
    return record


def answer(text: str = "Yes.", tokens: int = 10) -> EnvelopeDict:
    """The envelope of a run that was completed."""
    usage = Usage(input=tokens, cached_input=0, output=0, reasoning=0)
    return completed("codex_consult", text, None, Meta(usage=usage)).wire()


def failure(code: Code, message: str = "It failed.", **fields: Any) -> EnvelopeDict:
    """The envelope of a run that failed."""
    return failed("codex_consult", CounselError(code, message, **fields)).wire()


class ScriptedPool:
    """Ends each item at the first look, as `play` says: with an envelope, or by an error that prevents its start."""

    def __init__(
        self, play: Callable[[Item], EnvelopeDict | CounselError], room: int = 4
    ) -> None:
        self.started: list[str] = []
        self._play = play
        self._room = room
        self._runs: list[Ended] = []
        self.most = 0

    def load(self) -> Load:
        count = len(self._runs)
        return Load(count, 0, self._room - count)

    def start(self, item: Item) -> None:
        played = self._play(item)
        if isinstance(played, CounselError):
            raise played
        self.started.append(item.id)
        self._runs.append(Ended(item, played))
        self.most = max(self.most, len(self._runs))

    def ended(self, seconds: float) -> list[Ended]:  # all end at once
        ended, self._runs = self._runs, []
        return ended

    def cancel(self) -> list[str]:
        self._runs = []
        return []

    def notices(self) -> list[str]:
        return []

    def close(self) -> None:
        pass
