"""Findings on record, as reviews leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codex_counsel.findings.entry import Entry, Sighting
from codex_counsel.findings.identity import finding_id
from codex_counsel.findings.ledger import Ledger
from tests.conftest import World

HEAD = "0123456789abcdef0123456789abcdef01234567"
JOB = "0123456789abcdef0123456789abcdef"


def sighting(day: int = 1, **changes: Any) -> Sighting:
    values = {"time": f"2026-11-{day:02}T10:00:00Z", "job": JOB, "head": HEAD}
    return Sighting(**{**values, **changes})


def entry(words: str = "seven = 70", **changes: Any) -> Entry:
    """An open finding in app.py that rests on these words."""
    values: dict[str, Any] = {
        "id": finding_id(path="app.py", words=words, category="logic"),
        "severity": "high",
        "category": "logic",
        "title": "The seventh line is wrong",
        "file": "app.py",
        "line": 7,
        "words": words,
        "quotes": True,
        "branch": "main",
        "first": sighting(1),
        "last": sighting(2),
    }
    return Entry(**{**values, **changes})


def ledger_of(world: World, repository: Path | None = None) -> Ledger:
    """The ledger of the world's workspace, or of another repository."""
    return Ledger.of(world.state, (repository or world.workspace) / ".git")


def put(ledger: Ledger, *entries: Entry) -> None:
    """Put the findings on record."""
    with ledger.changing() as changing:
        for each in entries:
            changing.put(each)
