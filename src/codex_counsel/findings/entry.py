"""What is on record of one finding, as plain immutable data: a line of the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from codex_counsel.contract.reading import read
from codex_counsel.contract.vocabulary import Category, FindingState, Known, Severity
from codex_counsel.system.json_values import Json, JsonObject


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A review that raised the finding. `time` is UTC, `head` the commit that was checked out, None before the first.

    `known` is what the review found it to be, for a result that has to be made again.
    """

    time: str
    job: str
    thread: str | None = None
    head: str | None = None
    known: Known = "new"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finding. `file` is its path from the root, `line` where it was seen last.

    `words` are what its id rests on, as they were shown: the lines of the file that it
    quotes, or else a section or title; `quotes` tells which. `ordinal` is that of the
    id. `branch` is the one that was checked out, None for a detached HEAD; `plan` the
    name of the reviewed plan. `reason` and `by` are the words of whoever changed the
    state, at `changed` (UTC).
    """

    id: str
    state: FindingState = "open"
    severity: Severity
    category: Category
    title: str
    file: str | None = None
    line: int | None = None
    words: str = ""
    quotes: bool = False
    ordinal: int = 1
    branch: str | None = None
    plan: str | None = None
    first: Sighting
    last: Sighting
    reason: str | None = None
    by: str | None = None
    changed: str | None = None

    def to_json(self) -> JsonObject:
        """Without what does not apply."""
        values = asdict(self)
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, raw: Json) -> Entry:
        """The reverse of `to_json`. Raises ValueError."""
        entry: Entry = read(cls, raw, "finding")
        return entry
