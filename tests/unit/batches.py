"""Batches for tests: items, envelopes, what they come to, and a place that runs items as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codex_counsel.batch.model import Ended, Item, Kind, Load
from codex_counsel.batch.record import BatchOptions, Record
from codex_counsel.batch.summary import Summary, summarize
from codex_counsel.contract.envelope import (
    Envelope,
    EnvelopeDict,
    Meta,
    Usage,
    completed,
    failed,
)
from codex_counsel.contract.request import Delegate, ReviewChanges
from codex_counsel.contract.vocabulary import Verdict
from codex_counsel.errors import Code, CounselError
from codex_counsel.services.checking import Bar

USAGE = {"input": 1_000, "cached_input": 100, "output": 50, "reasoning": 10}


def item(name: str, kind: Kind = "review", root: str = "/srv/shop") -> Item:
    return Item(name, kind, {}, Path(root), ".", "0" * 32)


def items(record: Record, count: int) -> Iterator[Item]:
    """Questions of which no two are the same."""
    for number in range(count):
        arguments = {"question": f"Question {number}?"}
        yield Item(f"item-{number}", "consult", arguments, Path("/"), "here", record.id)


def begun(directory: Path, count: int = 3) -> Record:
    """The record of a new batch."""
    record = Record.create(directory)
    record.begin(items(record, count), BatchOptions())
    return record


def answer(text: str = "Yes.", tokens: int = 10) -> EnvelopeDict:
    """The envelope of a question that was answered."""
    usage = Usage(input=tokens, cached_input=0, output=0, reasoning=0)
    return completed("codex_consult", text, None, Meta(usage=usage)).wire()


def failure(code: Code, message: str = "It failed.", **fields: Any) -> EnvelopeDict:
    """The envelope of a run that failed; of items of any kind, as a batch does not look at its tool."""
    return failed("codex_consult", CounselError(code, message, **fields)).wire()


def finding(**changes: Any) -> dict[str, Any]:
    return {
        "id": "0123456789abcdef",
        "severity": "medium",
        "title": "Off by one",
        "category": "logic",
        "known": "new",
        "file": "src/app.py",
        "line": 3,
        "evidence": "range(n + 1)",
        "risk": "Reads past the end.",
        "grounded": "verified",
    } | changes


def review(
    *findings: dict[str, Any], verdict: Verdict | None = "pass", **changes: Any
) -> EnvelopeDict:
    """The envelope of a review that was completed."""
    fields: dict[str, Any] = {
        "ok": True,
        "status": "completed",
        "tool": ReviewChanges.tool,
        "summary": "Read it.",
        "verdict": verdict,
        "findings": list(findings),
        "coverage": {"files": 2, "bytes": 10, "complete": True},
        "meta": {"job_id": "a" * 32, "usage": USAGE, "elapsed_ms": 1_500},
    }
    return Envelope.parse(fields | changes).wire()


def task(check: str | None) -> EnvelopeDict:
    """The envelope of a task that was completed, with a check of this status."""
    envelope = completed(Delegate.tool, "Done.", None, Meta(job_id="b" * 32)).wire()
    if check:
        envelope["check"] = {"command": "make test", "status": check}
    return envelope


def summary_of(
    results: Mapping[str, EnvelopeDict | None],
    bar: Bar | None = None,
    kind: Kind = "review",
) -> Summary:
    """The summary of items with these results; None for an item without one."""
    items = [item(name, kind) for name in results]
    ended = [(name, wire) for name, wire in results.items() if wire is not None]
    return summarize(items, ended, bar)


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
