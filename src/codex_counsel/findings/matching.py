"""What a review makes of the findings on record. Pure: the record is read before and written afterwards.

**Which finding is which.** Findings are alike that have file, category and the lines they
quote in common. A finding that is like one on record is that one, if both are about the
same of several places with these lines; and where nothing is on record of its place, it is
any other like it. A wrong match with a rejected one would approve what nobody looked at, so
there the place has to be the same, of two at one place the title as well, and what quotes
no lines of a file is compared with findings of the same line of history only.

Else it is the one unsettled finding of the same line of history, file and category whose
quoted lines contain its own, or the reverse: a reviewer quotes more one time than another.

**Resolved.** An unsettled finding that was not raised again is gone with the lines that it
quoted: `fixed` if a review was sent what stands there now, else `stale`.

The same review may be settled again, when its result was lost after the record was written:
it comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import NamedTuple

from codex_counsel.contract.vocabulary import SEVERITIES, Category, Known, Severity
from codex_counsel.findings.entry import (
    MAX_FILE,
    MAX_TEXT,
    MAX_TITLE,
    Entry,
    Sighting,
    likeness,
)
from codex_counsel.findings.identity import finding_id, kept, normalized
from codex_counsel.system.text import one_line

MIN_SHARED = 8
"""Characters that two quotations have in common if one is said to contain the other: `}` stands everywhere."""

MAX_NEW = 500
"""New findings of one review that go on record, the gravest."""
MAX_COMPARED = 500
"""Findings of one review whose quotations are compared with others by their single lines."""


@dataclass(frozen=True, kw_only=True)
class Raised:
    """A finding that a review raised. `old_file` is the name of its file before the change renamed it.

    The other fields are those of `Entry`.
    """

    severity: Severity
    category: Category
    title: str
    file: str | None = None
    old_file: str | None = None
    line: int | None = None
    words: str = ""
    quotes: bool = False
    removed: bool = False
    copy: int = 1
    copies: int = 1
    risk: str | None = None
    recommendation: str | None = None
    plan: str | None = None

    @property
    def place(self) -> str | None:
        """What its id names as its path."""
        place = self.file or self.plan
        return place and place[:MAX_FILE]

    def quoting(self, words: str, *, copy: int, copies: int, removed: bool) -> Raised:
        """The same, whose evidence was found."""
        return replace(
            self,
            words=words,
            quotes=True,
            copy=copy,
            copies=copies,
            removed=removed,
        )


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the reviewed state says of a finding on record.

    `there`: its evidence still stands, at `line` to `line_end` where these are known.
    `looked`: reviewers were sent what is in its file now. `in_change`: its file is one of
    the change. `sent`: this review was sent a part of the file, `sent_whole`: all that the
    change does to it.
    """

    there: bool
    line: int | None = None
    line_end: int | None = None
    looked: bool = False
    in_change: bool = False
    sent: bool = False
    sent_whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Review:
    """The review that is settled.

    `line_of_history` has the ids of the findings on record that belong to what was
    reviewed, `relied_on` those of unsettled findings of reviews that saw what this one was
    not sent. `carries`: only what is new was sent, and what else is open still counts.
    `resolves`: findings may be found gone.
    """

    job: str
    time: str
    thread: str | None = None
    head: str | None = None
    branch: str | None = None
    line_of_history: frozenset[str] = frozenset()
    relied_on: frozenset[str] = frozenset()
    standings: Mapping[str, Standing] = field(default_factory=dict)
    carries: bool = False
    resolves: bool = True

    def sighting(self, known: Known) -> Sighting:
        """This review, as it is on record."""
        return Sighting(
            time=self.time,
            job=self.job,
            thread=self.thread,
            head=self.head,
            known=known,
        )


@dataclass
class Settlement:
    """What a review makes of the record.

    `raised` are the entries of the findings in their order, each with what it was known
    as. `carried` and `resolved` are findings of earlier reviews. `not_raised` counts others
    that are still open: those in files of the change or, if such are carried, those without
    a file.
    """

    raised: list[tuple[Entry, Known]] = field(default_factory=list)
    carried: list[tuple[Entry, Known, Standing]] = field(default_factory=list)
    resolved: list[Entry] = field(default_factory=list)
    not_raised: int = 0

    @property
    def changed(self) -> list[Entry]:
        """Every entry as it is to be on record; of new findings, the first `MAX_NEW`."""
        new = [entry for entry, known in self.raised if known == "new"]
        return [
            *(entry for entry, known in self.raised if known != "new"),
            *new[:MAX_NEW],
            *(entry for entry, _, _ in self.carried),
            *self.resolved,
        ]


class _Match(NamedTuple):
    """A finding, its id and its ordinal."""

    finding: Raised
    id: str
    ordinal: int


class _Rows(NamedTuple):
    """A finding on record, and the lines that it quotes as they are compared."""

    entry: Entry
    rows: frozenset[str]


def settle(
    raised: Sequence[Raised], entries: Mapping[str, Entry], review: Review
) -> Settlement:
    """Match the findings of a review with those on record, and tell what became of the others."""
    matches = _Matching(entries, review).match(raised)
    settlement = Settlement()
    for match in matches:
        earlier = entries.get(match.id)
        known = _known(earlier, review)
        entry = _raised_entry(match, earlier, review.sighting(known), review.branch)
        if review.carries and earlier and earlier.unsettled:
            # Who was sent a part cannot take back what was found in the whole.
            entry = replace(entry, severity=_graver(earlier.severity, entry.severity))
        settlement.raised.append((entry, known))
    raised_ids = {match.id for match in matches}
    for entry in entries.values():
        if entry.id not in raised_ids:
            _settle_other(settlement, entry, review)
    return settlement


def _graver(one: Severity, other: Severity) -> Severity:
    return min(one, other, key=SEVERITIES.index)


def _known(earlier: Entry | None, review: Review) -> Known:
    """What the finding was before this review, also where this very review put it on record."""
    if earlier is None:
        return "new"
    if earlier.state == "rejected":
        return "rejected"
    if earlier.last.job == review.job:
        return earlier.last.known
    if earlier.is_gone:
        return "returned"
    return "open"


def _raised_entry(
    match: _Match, earlier: Entry | None, sighting: Sighting, branch: str | None
) -> Entry:
    """The finding as it is on record from now on."""
    finding = match.finding
    file = finding.file
    if file is not None:
        file = file[:MAX_FILE]
    entry = Entry(
        id=match.id,
        severity=finding.severity,
        category=finding.category,
        title=one_line(finding.title, MAX_TITLE),
        file=file,
        line=finding.line,
        words=kept(finding.words),
        quotes=finding.quotes,
        removed=finding.removed,
        copy=finding.copy,
        copies=finding.copies,
        ordinal=match.ordinal,
        risk=_bounded(finding.risk),
        recommendation=_bounded(finding.recommendation),
        branch=branch,
        plan=finding.plan,
        first=sighting,
        last=sighting,
    )
    if earlier is None:
        return entry
    entry = replace(entry, first=earlier.first)
    if earlier.is_gone:
        return entry
    return replace(
        entry,
        state=earlier.state,
        other_branches=earlier.branches_with(branch),
        reason=earlier.reason,
        by=earlier.by,
        changed=earlier.changed,
    )


def _bounded(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_TEXT:
        return text
    return text[: MAX_TEXT - 1] + "…"


def _settle_other(settlement: Settlement, entry: Entry, review: Review) -> None:
    """What becomes of a finding on record that was not raised."""
    if entry.is_gone and entry.resolved_by == review.job:
        settlement.resolved.append(entry)
        return
    is_own = entry.id in review.line_of_history
    is_relied_on = review.carries and entry.id in review.relied_on
    standing = review.standings.get(entry.id)
    if standing is None and entry.file is None and is_relied_on:
        # Without a place, nobody can tell but a reviewer who is sent everything.
        standing = Standing(there=True)
    if standing is None:
        if is_own and review.carries and entry.unsettled and entry.file is None:
            settlement.not_raised += 1
    elif standing.there:
        if is_relied_on or (is_own and standing.in_change):
            _settle_standing(settlement, entry, standing, review)
    elif is_own and entry.unsettled and review.resolves:
        settlement.resolved.append(_gone(entry, standing, review))


def _settle_standing(
    settlement: Settlement, entry: Entry, standing: Standing, review: Review
) -> None:
    """What becomes of a finding that may count and was not raised, whose evidence still stands."""
    if review.carries and _is_carried(entry, standing, review):
        known = _known(entry, review)
        carried = replace(
            entry,
            state=entry.state if entry.unsettled else "open",
            line=standing.line or entry.line,
            branch=review.branch,
            other_branches=entry.branches_with(review.branch),
            last=review.sighting(known),
            resolved_by=None,
        )
        settlement.carried.append((carried, known, standing))
    elif entry.unsettled and not review.carries:
        settlement.not_raised += 1


def _is_carried(entry: Entry, standing: Standing, review: Review) -> bool:
    """Whether the finding counts though it was not raised.

    What quotes nothing, and what is back that was gone, counts only if the reviewer was not
    sent the file again; of a part of it, what a review found that was sent the other part.
    """
    if entry.state == "rejected":
        return False
    if entry.unsettled and (entry.quotes or entry.id in review.relied_on):
        return entry.quotes or not standing.sent_whole
    return not standing.sent


def _gone(entry: Entry, standing: Standing, review: Review) -> Entry:
    return replace(
        entry,
        state="fixed" if standing.looked else "stale",
        changed=review.time,
        resolved_by=review.job,
    )


class _Matching:
    """Finds the entry of each finding. None is taken twice."""

    def __init__(self, entries: Mapping[str, Entry], review: Review) -> None:
        self._review = review
        self._alike: dict[tuple[str | None, str, str], list[Entry]] = {}
        self._by_place: dict[tuple[str | None, str], list[_Rows]] = {}
        self._used = set(entries)
        self._taken: set[str] = set()
        self._ordinals: dict[tuple[str | None, str, str], Iterator[int]] = {}
        for entry in entries.values():
            like = entry.likeness
            self._alike.setdefault(like, []).append(entry)
            if self._may_overlap(entry):
                path, category, words = like
                rows = _Rows(entry, frozenset(words.splitlines()))
                self._by_place.setdefault((path, category), []).append(rows)

    def match(self, raised: Sequence[Raised]) -> list[_Match]:
        """The findings in the order given, each with its id."""
        # Ids of new findings that are alike are given in the order of their lines.
        order = sorted(range(len(raised)), key=lambda index: raised[index].line or 0)
        self._twins = _twins(raised)
        found: dict[int, _Match] = {}
        for find in (self._same_with_title, self._same, self._alike_elsewhere):
            for index in order:
                if index not in found:
                    self._note(found, index, raised[index], find(index, raised[index]))
        for index in order[:MAX_COMPARED]:
            if index not in found:
                finding = raised[index]
                self._note(found, index, finding, self._overlapping(finding))
        for index in order:
            if index not in found:
                found[index] = self._new(raised[index])
        return [found[index] for index in range(len(raised))]

    def _note(
        self,
        found: dict[int, _Match],
        index: int,
        finding: Raised,
        entry: Entry | None,
    ) -> None:
        if entry is not None:
            self._taken.add(entry.id)
            found[index] = _Match(finding, entry.id, entry.ordinal)

    def _new(self, finding: Raised) -> _Match:
        """An id that is not in use, with the smallest ordinal there is."""
        like = likeness(finding.place, finding.category, finding.words)
        ordinals = self._ordinals.setdefault(like, count(1))
        while True:
            ordinal = next(ordinals)
            name = finding_id(
                path=finding.place,
                words=finding.words,
                category=finding.category,
                ordinal=ordinal,
            )
            if name not in self._used:
                self._used.add(name)
                return _Match(finding, name, ordinal)

    def _same_with_title(self, _index: int, finding: Raised) -> Entry | None:
        """The finding on record that is like this one, at the same place, and has its title."""
        title = one_line(finding.title, MAX_TITLE)
        for entry in self._free(finding):
            if entry.title == title and _is_at_same_place(entry, finding):
                return entry
        return None

    def _same(self, index: int, finding: Raised) -> Entry | None:
        """The finding on record that is like this one, at the same place."""
        here = [
            entry for entry in self._free(finding) if _is_at_same_place(entry, finding)
        ]
        is_ambiguous = index in self._twins or len(here) > 1
        for entry in here:
            if entry.state != "rejected" or not is_ambiguous:
                return entry
        return None

    def _alike_elsewhere(self, _index: int, finding: Raised) -> Entry | None:
        for entry in self._free(finding):
            if entry.state != "rejected":
                return entry
        return None

    def _free(self, finding: Raised) -> list[Entry]:
        """The entries like this finding that are not taken: under the name of its file, or else under its old one."""
        for place in dict.fromkeys((finding.place, finding.old_file or finding.place)):
            like = likeness(place, finding.category, finding.words)
            free = [
                entry
                for entry in self._alike.get(like, ())
                if entry.id not in self._taken and self._may_be(entry, finding)
            ]
            if free:
                return free
        return []

    def _may_be(self, entry: Entry, finding: Raised) -> bool:
        """Whether the two can be compared: by code, or else only on one line of history."""
        if entry.quotes and finding.quotes:
            return entry.removed == finding.removed
        return entry.id in self._review.line_of_history

    def _may_overlap(self, entry: Entry) -> bool:
        is_here = entry.id in self._review.line_of_history
        return is_here and entry.unsettled and entry.quotes

    def _overlapping(self, finding: Raised) -> Entry | None:
        """The only unsettled finding whose quotation contains this one's, or is contained in it."""
        if not finding.quotes:
            return None
        ours = frozenset(normalized(finding.words).splitlines())
        candidates: list[Entry] = []
        for place in (finding.file, finding.old_file):
            if place is None:
                continue
            on_record = self._by_place.get((place, finding.category), ())
            candidates += [
                entry
                for entry, theirs in on_record
                if self._is_comparable(entry, finding) and _overlap(ours, theirs)
            ]
        if len(candidates) != 1:
            return None
        return candidates[0]

    def _is_comparable(self, entry: Entry, finding: Raised) -> bool:
        return entry.removed == finding.removed and entry.id not in self._taken


def _overlap(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    """Whether the lines of one quotation contain those of the other, and these say enough."""
    if ours <= theirs:
        shared = ours
    elif theirs <= ours:
        shared = theirs
    else:
        return False
    return sum(map(len, shared)) >= MIN_SHARED


def _twins(raised: Sequence[Raised]) -> set[int]:
    """The positions of findings that are alike and about the same place."""
    places: dict[object, list[int]] = {}
    for index, finding in enumerate(raised):
        like = likeness(finding.place, finding.category, finding.words)
        places.setdefault((like, finding.copy), []).append(index)
    twins: set[int] = set()
    for indexes in places.values():
        if len(indexes) > 1:
            twins.update(indexes)
    return twins


def _is_at_same_place(entry: Entry, finding: Raised) -> bool:
    """Whether the two are about the same of several places; both counts must be equal to tell."""
    return (entry.copy, entry.copies) == (finding.copy, finding.copies)


def copies_needed(entries: Iterable[Entry]) -> dict[str, int]:
    """How many places with its lines must be left for each unsettled finding to stand, by ids.

    Of findings that are alike, each has a place of its own; which of them is gone cannot
    be told, so the last one is.
    """
    alike: dict[tuple[str | None, str, str], list[Entry]] = {}
    for entry in entries:
        if entry.unsettled:
            alike.setdefault(entry.likeness, []).append(entry)
    needed: dict[str, int] = {}
    for group in alike.values():
        places = sorted({entry.copy for entry in group})
        for entry in group:
            needed[entry.id] = places.index(entry.copy) + 1
    return needed
