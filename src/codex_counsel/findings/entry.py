"""What is on record of one finding, as plain immutable data: a line of the ledger."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field

from codex_counsel.contract.reading import read
from codex_counsel.contract.vocabulary import (
    FINDING_ID,
    UNSETTLED,
    Category,
    FindingState,
    Known,
    Severity,
)
from codex_counsel.findings.identity import (
    MAX_WORDS,
    kept,
    normalized,
    normalized_blocks,
)
from codex_counsel.system.json_values import Json, JsonObject

MAX_TITLE = 300
MAX_TEXT = 2_000
"""Characters of any other text but `words`."""
MAX_FILE = 4_096
MAX_BRANCHES = 10
MAX_NUMBER = 2**31 - 1
_ID = re.compile(FINDING_ID, re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A review that raised the finding, or found that its evidence still stands.

    `time` is UTC. `head` is the commit that was reviewed or, for uncommitted work, the
    one that was checked out; None before the first. `known` is what the review found the
    finding to be, for a result that has to be made again.
    """

    time: str
    job: str
    thread: str | None = None
    head: str | None = None
    known: Known = "new"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One finding. `file` is its path from the root, `line` where it was seen last.

    `words` are what its id rests on, as they were shown: the lines of the file (or plan)
    that it quotes, an empty line at each gap, or else a section or title; `quotes` tells
    which. `removed`: they are lines that the change removed. Of `copies` places with
    these lines it was about the one with the number `copy`. `ordinal` is that of the id.

    `branch` is the one that was reviewed, None where it has no name; `other_branches` are
    earlier ones that had it, the last first. `plan` is the name of the reviewed plan.
    `reason` and `by` are the words of whoever changed the state, at `changed` (UTC).
    `resolved_by` is the job that found the evidence gone, `refuted_by` the one whose test
    said that the claim is wrong, since the finding was raised last.
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
    removed: bool = False
    copy: int = 1
    copies: int = 1
    ordinal: int = 1
    risk: str | None = None
    recommendation: str | None = None
    branch: str | None = None
    other_branches: list[str] = field(default_factory=list)
    plan: str | None = None
    first: Sighting
    last: Sighting
    reason: str | None = None
    by: str | None = None
    changed: str | None = None
    resolved_by: str | None = None
    refuted_by: str | None = None

    @property
    def unsettled(self) -> bool:
        """Whether it counts against the code."""
        return self.state in UNSETTLED

    @property
    def is_gone(self) -> bool:
        """Whether its evidence was found gone."""
        return self.state in ("fixed", "stale")

    def branches_with(self, branch: str | None) -> list[str]:
        """The branches that have it beside this one, at most `MAX_BRANCHES`."""
        names = dict.fromkeys([self.branch, *self.other_branches])
        return [name for name in names if name and name != branch][:MAX_BRANCHES]

    @property
    def likeness(self) -> tuple[str | None, str, str]:
        """What findings have in common that only their ordinal tells apart."""
        return likeness(self.file or self.plan, self.category, self.words)

    @property
    def blocks(self) -> str:
        """The words as they are searched for."""
        return normalized_blocks(self.words)

    def to_json(self) -> JsonObject:
        """Without what does not apply."""
        values = asdict(self)
        return {
            name: value for name, value in values.items() if value not in (None, [])
        }

    @classmethod
    def from_json(cls, raw: Json) -> Entry:
        """The reverse of `to_json`. Raises ValueError, also for texts that are too long to be ours."""
        entry: Entry = read(cls, raw, "finding")
        entry.check()
        return entry

    def check(self) -> None:
        """Raise ValueError for what was not written by us."""
        if not _ID.fullmatch(self.id):
            raise ValueError("id is none of a finding")
        limits = {"title": MAX_TITLE, "words": MAX_WORDS, "file": MAX_FILE}
        for name, value in vars(self).items():
            if isinstance(value, str) and len(value) > limits.get(name, MAX_TEXT):
                raise ValueError(f"{name} is too long")
            if type(value) is int and not 0 < value <= MAX_NUMBER:
                raise ValueError(f"{name} is out of range")
        if any(len(branch) > MAX_TITLE for branch in self.other_branches):
            raise ValueError("other_branches are too long")
        for sighting in (self.first, self.last):
            for name, value in vars(sighting).items():
                if value is not None and len(value) > MAX_TITLE:
                    raise ValueError(f"{name} is too long")


def likeness(
    place: str | None, category: str, words: str
) -> tuple[str | None, str, str]:
    """`Entry.likeness` of these. `place` is the file, or else the plan."""
    return place, category, normalized(kept(words))
