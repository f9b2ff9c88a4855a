"""Which finding is which, and what becomes of those that were not raised again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from codex_counsel.contract.vocabulary import FindingState, Known, Severity
from codex_counsel.findings import entry as entry_module
from codex_counsel.findings import identity, matching
from codex_counsel.findings.entry import MAX_TEXT, MAX_TITLE, Entry
from codex_counsel.findings.matching import (
    MAX_NEW,
    Raised,
    Review,
    Settlement,
    Standing,
    copies_needed,
    settle,
)

GONE = Standing(there=False, looked=True, in_change=True, sent=True)
THERE = Standing(there=True, line=9, in_change=True, sent=True, sent_whole=True)
UNSENT = replace(THERE, sent=False, sent_whole=False)


def raised(**changes: Any) -> Raised:
    finding = Raised(
        severity="high",
        category="logic",
        title="Off by one",
        file="app.py",
        line=7,
        words="seven = 70",
        quotes=True,
    )
    return replace(finding, **changes)


class Record:
    """Findings on record, and reviews that change them one after the other."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.number = 0

    def review(
        self,
        *findings: Raised,
        standing: Standing | None = None,
        same_line: bool = True,
        again: bool = False,
        **changes: Any,
    ) -> Settlement:
        """A review that raises these; `standing` is that of all others, `again` the same one once more."""
        if not again:
            self.number += 1
        ids = frozenset(self.entries)
        standings = {}
        if standing:
            standings = dict.fromkeys(ids, standing)
        review = Review(
            job=f"{self.number:032}",
            time=f"2026-01-01T00:00:{self.number:02}Z",
            branch="feature",
            line_of_history=ids if same_line else frozenset(),
            standings=standings,
        )
        settlement = settle(findings, self.entries, replace(review, **changes))
        for entry in settlement.changed:
            entry.check()
            self.entries[entry.id] = entry
        return settlement

    def decide(self, name: str, state: FindingState) -> None:
        entry = replace(self.entries[name], state=state, reason="No.")
        self.entries[name] = replace(entry, resolved_by="0" * 32)

    def reject(self, name: str) -> None:
        self.decide(name, "rejected")


def matched(settlement: Settlement) -> list[tuple[str, Known]]:
    return [(entry.id, known) for entry, known in settlement.raised]


def only(settlement: Settlement) -> tuple[str, Known]:
    (match,) = matched(settlement)
    return match


@pytest.fixture
def record() -> Record:
    return Record()


@pytest.mark.parametrize(
    ("state", "known", "after"),
    [
        ("open", "open", "open"),
        ("accepted", "open", "accepted"),
        ("rejected", "rejected", "rejected"),
        ("fixed", "returned", "open"),
        ("stale", "returned", "open"),
    ],
)
def test_what_is_raised_again_is_known_by_its_state(
    record: Record, state: FindingState, known: Known, after: FindingState
) -> None:
    first, new = only(record.review(raised()))
    assert new == "new"
    record.decide(first, state)
    assert only(record.review(raised(title="Other words", line=9))) == (first, known)
    entry = record.entries[first]
    assert (entry.state, entry.first.job, entry.last.job) == (
        after,
        f"{1:032}",
        f"{2:032}",
    )
    assert (entry.title, entry.line) == ("Other words", 9)
    assert (entry.reason is None) == (state in ("fixed", "stale"))


@pytest.mark.parametrize(
    "changes",
    [
        {"words": "seven = 71"},
        {"file": "other.py"},
        {"category": "crash"},
        {"removed": True},
    ],
)
def test_another_place_or_kind_of_fault_is_another_finding(
    record: Record, changes: dict[str, Any]
) -> None:
    first, _ = only(record.review(raised()))
    record.reject(first)
    second, known = only(record.review(raised(**changes)))
    assert second != first
    assert known == "new"


def test_findings_of_one_review_never_share_an_id(record: Record) -> None:
    twins = [raised(), raised(), raised(line=3), raised(title="Other")]
    for _ in range(2):
        ids = [name for name, _ in matched(record.review(*twins))]
        assert len(set(ids)) == len(twins)
    assert len(record.entries) == len(twins)


def test_new_findings_that_are_alike_are_counted_in_the_order_of_their_lines(
    record: Record,
) -> None:
    below, above = raised(line=9, copy=2, copies=2), raised(line=3, copies=2)
    settlement = record.review(below, above)
    assert [entry.ordinal for entry, _ in settlement.raised] == [2, 1]


# --- a rejection holds for what was looked at, and for nothing else


def test_a_rejection_is_of_one_place_of_several(record: Record) -> None:
    (upper, _), (lower, _) = matched(
        record.review(raised(copies=2), raised(line=9, copy=2, copies=2))
    )
    record.reject(upper)
    assert only(record.review(raised(line=9, copy=2, copies=2))) == (lower, "open")
    assert only(record.review(raised(copies=2))) == (upper, "rejected")
    # Which of the two is left cannot be told, so it is the one that counts.
    assert only(record.review(raised())) == (lower, "open")


def test_a_rejection_does_not_move_to_a_place_that_was_added(record: Record) -> None:
    first, _ = only(record.review(raised()))
    record.reject(first)
    for copy in (1, 2):
        name, known = only(record.review(raised(copy=copy, copies=2)))
        assert (name != first, known) in [(True, "new"), (True, "open")]


def test_of_two_findings_at_one_place_the_title_tells_which_was_rejected(
    record: Record,
) -> None:
    first, second = raised(), raised(title="Another fault")
    (one, _), (two, _) = matched(record.review(first, second))
    record.reject(one)
    assert matched(record.review(second, first)) == [(two, "open"), (one, "rejected")]
    assert only(record.review(second)) == (two, "open")
    assert only(record.review(raised(title="In new words"))) == (two, "open")
    fresh = raised(title="A third fault")
    assert matched(record.review(fresh, first)) == [(two, "open"), (one, "rejected")]


@pytest.mark.parametrize("state", ["open", "rejected", "fixed"])
def test_what_quotes_no_code_is_the_same_on_one_line_of_history_only(
    record: Record, state: FindingState
) -> None:
    vague = raised(file=None, words="No tests", quotes=False)
    first, _ = only(record.review(vague))
    record.decide(first, state)
    elsewhere, known = only(record.review(vague, same_line=False))
    assert elsewhere != first
    assert known == "new"
    again, known = only(record.review(vague))
    assert again == first


def test_a_rejection_of_code_holds_on_every_branch(record: Record) -> None:
    first, _ = only(record.review(raised()))
    record.reject(first)
    assert only(record.review(raised(), same_line=False)) == (first, "rejected")


# --- renamed files, and quotations of another length


def test_the_findings_of_a_renamed_file_keep_their_ids(record: Record) -> None:
    first, _ = only(record.review(raised()))
    record.reject(first)
    renamed = raised(file="shop.py", old_file="app.py")
    assert only(record.review(renamed)) == (first, "rejected")
    # By now the base has the new name, and the change says of no other.
    assert only(record.review(raised(file="shop.py"))) == (first, "rejected")


def test_a_finding_under_the_new_name_comes_before_one_under_the_old(
    record: Record,
) -> None:
    record.review(raised())
    new_name, _ = only(record.review(raised(file="shop.py")))
    renamed = raised(file="shop.py", old_file="app.py")
    assert only(record.review(renamed)) == (new_name, "open")


LONG = "line_6 = 6\nseven = 70\nline_8 = 8"


@pytest.mark.parametrize(("before", "after"), [("seven = 70", LONG), (LONG, "seven = 70")])  # fmt: skip
def test_a_quotation_of_more_or_fewer_lines_is_of_the_same_open_finding(
    record: Record, before: str, after: str
) -> None:
    first, _ = only(record.review(raised(words=before)))
    assert only(record.review(raised(words=after))) == (first, "open")
    assert only(record.review(raised(words=after))) == (first, "open")


@pytest.mark.parametrize("state", ["rejected", "fixed", "stale"])
def test_a_settled_finding_is_not_found_by_a_part_of_its_lines(
    record: Record, state: FindingState
) -> None:
    first, _ = only(record.review(raised(words=LONG)))
    record.decide(first, state)
    assert only(record.review(raised()))[1] == "new"


def test_lines_that_stand_everywhere_and_two_candidates_make_no_match(
    record: Record,
) -> None:
    record.review(raised(words="}\nreturn total"))
    assert only(record.review(raised(words="}")))[1] == "new"
    record.review(raised(words="seven = 70\neight = 8"), raised(words="seven = 70\nsix = 6"))  # fmt: skip
    assert only(record.review(raised()))[1] == "new"


def test_another_line_of_history_lends_no_finding_to_a_part_of_its_lines(
    record: Record,
) -> None:
    record.review(raised(words=LONG))
    assert only(record.review(raised(), same_line=False))[1] == "new"


# --- what was not raised again


@pytest.mark.parametrize(
    ("standing", "state"),
    [
        (GONE, "fixed"),
        (replace(GONE, looked=False), "stale"),
        (THERE, "open"),
        (None, "open"),
    ],
)
def test_an_open_finding_is_resolved_when_its_evidence_is_gone(
    record: Record, standing: Standing | None, state: FindingState
) -> None:
    first, _ = only(record.review(raised()))
    settlement = record.review(standing=standing)
    assert record.entries[first].state == state
    assert bool(settlement.resolved) == (state != "open")


@pytest.mark.parametrize("changes", [{"resolves": False}, {"same_line": False}])
def test_nothing_is_resolved_by_a_review_that_cannot_tell(
    record: Record, changes: dict[str, Any]
) -> None:
    first, _ = only(record.review(raised()))
    assert record.review(standing=GONE, **changes).resolved == []
    assert record.entries[first].state == "open"


def test_a_rejected_finding_is_not_resolved(record: Record) -> None:
    first, _ = only(record.review(raised()))
    record.reject(first)
    assert record.review(standing=GONE, carries=True).resolved == []
    assert record.entries[first].state == "rejected"


@pytest.mark.parametrize(
    ("state", "standing", "known"),
    [
        ("open", THERE, "open"),
        ("accepted", THERE, "open"),
        ("open", UNSENT, "open"),
        ("open", replace(THERE, in_change=False), None),
        ("fixed", UNSENT, "returned"),
        ("stale", UNSENT, "returned"),
        ("fixed", THERE, None),
        ("rejected", UNSENT, None),
    ],
)
def test_what_still_stands_is_carried_where_only_what_is_new_was_sent(
    record: Record, state: FindingState, standing: Standing, known: Known | None
) -> None:
    first, _ = only(record.review(raised()))
    record.decide(first, state)
    assert record.review(standing=standing).carried == []
    record.decide(first, state)
    carried = record.review(standing=standing, carries=True).carried
    assert [known for _, known, _ in carried] == [known] * bool(known)
    if known == "returned":
        entry = record.entries[first]
        assert (entry.state, entry.resolved_by) == ("open", None)


def test_what_quotes_nothing_is_carried_until_its_file_is_sent_again(
    record: Record,
) -> None:
    record.review(raised(quotes=False))
    assert len(record.review(standing=UNSENT, carries=True).carried) == 1
    relied_on = frozenset(record.entries)
    in_part = replace(THERE, sent_whole=False)
    for standing, ids, count in (
        (in_part, relied_on, 1),
        (in_part, frozenset(), 0),
        (THERE, relied_on, 0),
    ):
        settlement = record.review(standing=standing, relied_on=ids, carries=True)
        assert len(settlement.carried) == count


@pytest.mark.parametrize("place", [{"file": None}, {"file": "other.py"}])
@pytest.mark.parametrize("same_line", [True, False])
def test_what_a_review_found_counts_for_those_that_rest_on_it(
    record: Record, place: dict[str, Any], same_line: bool
) -> None:
    first, _ = only(record.review(raised(quotes=False, words="No tests", **place)))
    standing = None
    if place["file"]:
        standing = Standing(there=True)
    settings: dict[str, Any] = {"standing": standing, "same_line": same_line}
    assert record.review(**settings, carries=True).carried == []
    relied_on = frozenset([first])
    assert record.review(**settings, relied_on=relied_on).carried == []
    review = record.review(**settings, relied_on=relied_on, carries=True)
    assert [entry.id for entry, _, _ in review.carried] == [first]
    record.reject(first)
    review = record.review(**settings, relied_on=relied_on, carries=True)
    assert review.carried == []


def test_what_is_gone_here_is_not_resolved_on_another_line_of_history(
    record: Record,
) -> None:
    first, _ = only(record.review(raised()))
    settings: dict[str, Any] = {"relied_on": frozenset([first]), "carries": True}
    record.review(standing=GONE, same_line=False, **settings)
    assert record.entries[first].state == "open"


def test_what_is_open_and_was_not_raised_is_counted(record: Record) -> None:
    record.review(raised(), raised(file=None, words="No tests", quotes=False))
    assert record.review(standing=THERE).not_raised == 2
    assert record.review(carries=True).not_raised == 1


@pytest.mark.parametrize("carries", [False, True])
def test_a_review_that_is_settled_again_comes_to_the_same(
    record: Record, carries: bool
) -> None:
    (back, _), (gone, _), _ = matched(
        record.review(raised(words="a = 1"), raised(words="b = 2"), raised(words="c = 3"))
    )  # fmt: skip
    record.decide(back, "fixed")
    findings = [raised(words="a = 1"), raised(words="d = 4")]
    standings = {gone: GONE}
    standings |= dict.fromkeys(set(record.entries) - {gone, back}, UNSENT)
    changes: dict[str, Any] = {"carries": carries, "standings": standings}
    once = record.review(*findings, **changes)
    entries = dict(record.entries)
    twice = record.review(*findings, **changes, again=True)
    assert matched(once) == matched(twice)
    assert [known for _, known in matched(once)] == ["returned", "new"]
    assert [entry.id for entry in twice.resolved] == [gone]
    assert once.resolved == twice.resolved
    assert once.carried == twice.carried
    assert record.entries == entries


def test_the_branches_that_have_a_finding_are_kept_until_it_is_gone(
    record: Record,
) -> None:
    first, _ = only(record.review(raised()))
    for number in range(30):
        record.review(raised(), branch=f"b{number}")
    entry = record.entries[first]
    assert entry.branch == "b29"
    assert entry.other_branches == [f"b{number}" for number in range(28, 18, -1)]
    record.decide(first, "fixed")
    record.review(raised(), branch="last")
    assert record.entries[first].other_branches == []


# --- sizes


def test_texts_on_record_are_bounded(record: Record) -> None:
    long = raised(
        title="t" * 10_000,
        words="w" * 10_000,
        risk="r" * 10_000,
        file="f" * 10_000,
    )
    first, _ = only(record.review(long))
    entry = record.entries[first]
    assert (len(entry.title), len(entry.risk or "")) == (MAX_TITLE, MAX_TEXT)
    assert only(record.review(long)) == (first, "open")


def test_ten_thousand_findings_of_a_hostile_model_cost_little_and_a_part_is_kept(
    record: Record,
) -> None:
    alike = [raised() for _ in range(5_000)]
    others = [raised(words=f"other = {number}") for number in range(5_000)]
    settlement = record.review(*alike, *others)
    record.review(*alike, *others)
    assert len({name for name, _ in matched(settlement)}) == 10_000
    assert len(record.entries) == 2 * MAX_NEW


def test_each_open_finding_needs_a_place_of_its_own(record: Record) -> None:
    record.review(raised(copies=2), raised(line=9, copy=2, copies=2), raised(title="Same place", copies=2))  # fmt: skip
    needed = copies_needed(record.entries.values())
    assert sorted(needed.values()) == [1, 1, 2]


@pytest.mark.parametrize(
    ("carries", "state", "severity"),
    [
        (True, "open", "high"),
        (True, "accepted", "high"),
        (False, "open", "nit"),
        (True, "rejected", "nit"),
        (True, "fixed", "nit"),
    ],
)
def test_who_is_sent_a_part_makes_no_finding_less_grave(
    record: Record, carries: bool, state: FindingState, severity: Severity
) -> None:
    first, _ = only(record.review(raised()))
    record.decide(first, state)
    record.review(raised(title="Style", severity="nit"), carries=carries)
    assert record.entries[first].severity == severity


def test_the_work_grows_with_the_findings_and_not_with_their_square(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is locked meanwhile, and each quotation may have 4,000 characters."""
    compared = 0

    def counted(text: str) -> str:
        nonlocal compared
        compared += 1
        return identity.normalized(text)

    for module in (matching, entry_module):
        monkeypatch.setattr(module, "normalized", counted)
    record.review(*(raised(words=f"old_{number} = 1") for number in range(100)))
    compared = 0
    record.review(*(raised(words=f"new_{number} = 1") for number in range(100)))
    assert 0 < compared < 20 * 200


def test_a_quotation_of_removed_lines_is_no_part_of_one_of_present_lines(
    record: Record,
) -> None:
    first, _ = only(record.review(raised(words="seven = 70\neight = 80")))
    other, known = only(record.review(raised(words="seven = 70", removed=True)))
    assert (other != first, known) == (True, "new")
