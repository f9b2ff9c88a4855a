"""The team's own review rules as plain immutable data: those that are sent, and the files that were looked at."""

from __future__ import annotations

from dataclasses import dataclass

from codex_counsel.contract.envelope import RuleFile
from codex_counsel.system.json_values import JsonObject


@dataclass(frozen=True)
class Rules:
    """The rules of one file that are in force: where they are, the folder they hold for, and their text as sent."""

    file: str
    folder: str
    text: str

    def to_json(self) -> JsonObject:
        """The keys of `spec.json`."""
        return {"file": self.file, "text": self.text}


@dataclass(frozen=True)
class Criteria:
    """`rules` are sent, the nearest folder's first. `files` has a row for each file that was looked at and has rules.

    `changed` are the files whose rules the change touches.
    """

    rules: tuple[Rules, ...] = ()
    files: tuple[RuleFile, ...] = ()
    changed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


NO_CRITERIA = Criteria()
