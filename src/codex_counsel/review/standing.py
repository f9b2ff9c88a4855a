"""What the reviewed state says of findings on record: whether the lines that they quoted still stand there."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codex_counsel.findings.identity import recorded_path
from codex_counsel.findings.matching import Standing, copies_needed
from codex_counsel.findings.seen import REGULAR_MODES
from codex_counsel.git import refs
from codex_counsel.review.changes.comparison import Comparison
from codex_counsel.review.lineage import Lineage
from codex_counsel.system.time_limit import TimeLimitExceeded

if TYPE_CHECKING:
    from codex_counsel.findings.entry import Entry
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.model import ChangedFile
    from codex_counsel.review.grounding import ReviewedFiles
    from codex_counsel.review.quotations import PlanText
    from codex_counsel.review.record import ReviewRecord

MAX_ELSEWHERE = 200
"""Findings in files that are not part of the change which are looked for, those seen last."""


@dataclass
class Look:
    """What was found out about findings on record; what was not looked for is not in it.

    `relied_on` are unsettled findings of reviews that saw what this one was not sent again.
    `branch` and `head` are what was reviewed. `resolves`: it is the present state of that
    branch, so that what is gone from it is gone. `complete`: all that is on record of the
    files of the change was looked for, and all that is relied on.
    """

    branch: str | None = None
    head: str | None = None
    resolves: bool = False
    complete: bool = False
    line_of_history: frozenset[str] = frozenset()
    relied_on: frozenset[str] = frozenset()
    standings: dict[str, Standing] = field(default_factory=dict)


def reviewed_branch(record: ReviewRecord, repo: Repo | None) -> Look:
    """A look at nothing yet: the branch and the commit of the reviewed state.

    A commit that is not checked out belongs to no branch, unless it is the end of a range
    that names one.
    """
    if record.frame is None:
        return Look()
    comparison = Comparison.from_json(record.frame)
    is_checked_out = comparison.head == record.checked_out
    if comparison.state != "commit" or is_checked_out:
        return Look(record.branch, record.checked_out, resolves=True)
    scope = record.changes().scope
    if scope.kind == "range" and repo is not None:
        _, _, right = refs.split_range(scope.range or "")
        name = right.removeprefix("refs/heads/")
        # `rev-parse` would take `feature~1` as well.
        full_name = f"refs/heads/{name}"
        code, _, _ = repo.try_git("show-ref", "--verify", "--quiet", full_name)
        if code == 0:
            return Look(name, comparison.head, resolves=True)
    return Look(None, comparison.head)


def look_at_plan(
    look: Look, entries: Mapping[str, Entry], plan: PlanText, name: str | None
) -> None:
    """Look for the findings on the plan of this name that quote its own words."""
    own = [entry for entry in entries.values() if entry.plan == name]
    look.line_of_history = frozenset(entry.id for entry in own)
    look.resolves = True
    for entry in own:
        if entry.unsettled and entry.quotes and entry.file is None:
            is_there = plan.has(entry.words)
            look.standings[entry.id] = Standing(there=is_there, looked=True)


def look_at_files(
    look: Look,
    entries: Mapping[str, Entry],
    record: ReviewRecord,
    files: ReviewedFiles,
    deadline: float,
) -> None:
    """Look for the findings of the line of history under review, those in files of the change first.

    Raises TimeLimitExceeded at `deadline` (monotonic); what was found out until then stays.
    """
    candidates = [entry for entry in entries.values() if entry.plan is None]
    lineage = Lineage.of(files.repo, look.branch, look.head, candidates)
    if look.head != record.checked_out:
        # Another branch than the one checked out is known by its name alone.
        lineage = Lineage(look.branch, frozenset(), lineage.contained | lineage.later)
    own = [entry for entry in candidates if lineage.has(entry)]
    look.line_of_history = frozenset(entry.id for entry in own)
    changed = _changed_files(record)
    relied_on = _relied_on(candidates, look.line_of_history, record, changed)
    look.relied_on = frozenset(entry.id for entry in relied_on)
    needed = copies_needed(own)
    others = [entry for entry in relied_on if entry.id not in look.line_of_history]
    inside, elsewhere = _candidates([*own, *others], changed, look.relied_on)
    shared = _shared_names(record)
    for entry in inside:
        if entry.file in shared:
            # Which of them it was cannot be told, so nobody can say that it is gone.
            look.standings[entry.id] = Standing(there=entry.unsettled, in_change=True)
            continue
        _look_for(look, entry, changed.get(entry.file or ""), files, needed)
        _check_time(deadline)
    look.complete = True
    for entry in elsewhere:
        _look_for(look, entry, None, files, needed)
        _check_time(deadline)


def _relied_on(
    entries: Iterable[Entry],
    line_of_history: frozenset[str],
    record: ReviewRecord,
    changed: Mapping[str, ChangedFile],
) -> list[Entry]:
    """The unsettled findings of which a verdict must not forget that reviews it rests on raised them.

    What was seen counts by content, on whatever branch. So do the findings in these files,
    and all that those reviews raised or found to stand. Findings of a later time may rest
    on them in turn.
    """
    jobs = frozenset(record.relied_on)
    relied_on = []
    for entry in entries:
        file = changed.get(entry.file or "")
        is_of_theirs = not jobs.isdisjoint((entry.first.job, entry.last.job))
        is_later = entry.last.time > record.relied_since
        is_own = entry.id in line_of_history and is_later
        is_unsent = entry.quotes and file is not None and bool(file.prior)
        if jobs and entry.unsettled and (is_of_theirs or is_own or is_unsent):
            relied_on.append(entry)
    return relied_on


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeLimitExceeded


def _changed_files(record: ReviewRecord) -> dict[str, ChangedFile]:
    """The files of the change by the names that findings on record may have for them."""
    changed: dict[str, ChangedFile] = {}
    files = record.changes().entries
    for file in files:
        if file.status == "R" and file.old_path:
            changed[recorded_path(file.old_path)] = file
    for file in files:
        changed[recorded_path(file.path)] = file
    return changed


def _shared_names(record: ReviewRecord) -> set[str]:
    """Names on record that several files of the change have: what is written out or masked tells them apart no more."""
    names = Counter(recorded_path(file.path) for file in record.changes().entries)
    return {name for name, count in names.items() if count > 1}


def _candidates(
    entries: Iterable[Entry],
    changed: Mapping[str, ChangedFile],
    relied_on: frozenset[str],
) -> tuple[list[Entry], list[Entry]]:
    """What is looked for in any case, as in files of the change, and elsewhere: there, only what is not settled."""
    inside: list[Entry] = []
    elsewhere: list[Entry] = []
    for entry in entries:
        if entry.state == "rejected" or entry.file is None:
            continue
        if entry.file in changed or entry.id in relied_on:
            inside.append(entry)
        elif entry.unsettled:
            elsewhere.append(entry)
    # A file is read once, and few files are kept.
    inside.sort(key=lambda entry: entry.file or "")
    elsewhere.sort(key=lambda entry: entry.last.time, reverse=True)
    return inside, elsewhere[:MAX_ELSEWHERE]


def _look_for(
    look: Look,
    entry: Entry,
    file: ChangedFile | None,
    files: ReviewedFiles,
    needed: Mapping[str, int],
) -> None:
    standing = _standing(entry, file, files, needed.get(entry.id, 1))
    if standing:
        look.standings[entry.id] = standing


def _standing(
    entry: Entry, file: ChangedFile | None, files: ReviewedFiles, needed: int
) -> Standing | None:
    """None where nothing can be told."""
    path = entry.file or ""
    if file is not None:
        path = file.path
    is_sent = file is not None and not file.is_seen
    is_sent_whole = file is not None and not file.prior
    in_change = file is not None
    places = files.places_of(path, entry.words)
    if places is None and file is None:
        return None
    if places is None and file is not None and file.modes[1] not in REGULAR_MODES:
        # A link or a submodule has no lines.
        places = []
    if not entry.quotes or places is None:
        # Where no evidence can be looked for, none is gone; what was not sent again stands.
        return Standing(
            there=True,
            in_change=in_change,
            sent=is_sent,
            sent_whole=is_sent_whole,
        )
    if entry.removed:
        # It is mended when the lines are back.
        is_there = not places
    else:
        is_there = len(places) >= needed
    if not is_there:
        if not entry.removed and files.working_tree_has(path, entry.words):
            return None
        was_shown = file is not None and file.was_shown and file.status != "D"
        return Standing(there=False, looked=was_shown, in_change=in_change)
    standing = Standing(there=True, in_change=in_change, sent=is_sent)
    if entry.removed:
        return standing
    place = min(places, key=lambda place: abs(place.first - (entry.line or 0)))
    return Standing(
        there=True,
        line=place.first,
        line_end=place.last,
        in_change=in_change,
        sent=is_sent,
    )
