"""What a concluded review makes of the ledger, where the state of the repository decides."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.envelope import BudgetReached, EnvelopeDict, Meta
from codex_counsel.findings.ledger import Ledger
from codex_counsel.findings.matching import MAX_NEW
from codex_counsel.findings.seen import ReviewLog
from codex_counsel.git.repo import Repo
from codex_counsel.kind import EndedRun
from codex_counsel.review import conclude
from codex_counsel.review.changes.changes import gather
from codex_counsel.review.changes.model import Scope
from codex_counsel.review.record import ReviewRecord
from codex_counsel.system.files import lock_file
from tests.git.conftest import Project
from tests.repositories import numbered_lines
from tests.reviews import reply
from tests.unit.test_findings_ledger import entry_of, put

BUDGET = 100_000


class Reviews:
    """Reviews of a repository that are concluded one after the other, without a run of Codex."""

    def __init__(self, project: Project, state: Path) -> None:
        self.project = project
        self.ledger = Ledger.of(state, project.root / ".git")
        self.number = 0

    def record(self, **changes: Any) -> ReviewRecord:
        scope = Scope(**({"kind": "working_tree"} | changes))
        repo = Repo.open(self.project.root, env=os.environ)
        record = ReviewRecord.of_changes(repo, gather(repo, scope, BUDGET))
        return replace(record, ledger=str(self.ledger.directory))

    def conclude(
        self,
        record: ReviewRecord,
        answer: dict[str, Any] | str,
        meta: Meta | None = None,
    ) -> EnvelopeDict:
        self.number += 1
        text = answer if isinstance(answer, str) else json.dumps(answer)
        details = {"review": json.loads(json.dumps(record.to_json()))}
        job = Path(f"{self.number:032x}")
        ended = EndedRun(
            "codex_review_changes",
            job,
            Path("scratch"),
            details,
            meta or Meta(),
            answer=text,
        )
        return conclude.conclude(ended).wire()

    def review(
        self, *findings: dict[str, Any], meta: Meta | None = None, **scope: Any
    ) -> EnvelopeDict:
        return self.conclude(self.record(**scope), reply(*findings), meta)

    def states(self) -> list[str]:
        return [entry.state for entry in self.ledger.read().entries.values()]


@pytest.fixture
def reviews(empty: Project, tmp_path: Path) -> Reviews:
    empty.write("app.py", numbered_lines())
    empty.commit()
    empty.write("app.py", numbered_lines(l7="seven = 70"))
    return Reviews(empty, tmp_path / "state")


def test_a_finding_on_removed_lines_is_open_until_they_are_back(
    reviews: Reviews,
) -> None:
    removed = {"evidence": "-line_7 = 7"}
    first = reviews.review(removed)["findings"][0]
    assert "resolved" not in reviews.review()
    assert reviews.review(removed)["findings"][0]["id"] == first["id"]
    reviews.project.write("app.py", numbered_lines(l9="nine = 9"))
    assert [item["state"] for item in reviews.review()["resolved"]] == ["fixed"]


def test_a_range_of_another_branch_resolves_nothing_of_the_one_checked_out(
    reviews: Reviews,
) -> None:
    reviews.review({})
    git = reviews.project.git
    git("checkout", "--quiet", "--force", "-b", "feature")
    reviews.project.write("app.py", numbered_lines(l9="nine = 9"))
    reviews.project.commit()
    git("checkout", "--quiet", "main")
    assert "resolved" not in reviews.review(kind="range", range="main..feature")
    assert reviews.states() == ["open"]


@pytest.mark.parametrize(
    ("right", "branch"),
    [("feature", "feature"), ("refs/heads/feature", "feature"), ("feature~1", None)],
)
def test_a_range_belongs_to_the_branch_that_it_ends_with(
    reviews: Reviews, right: str, branch: str | None
) -> None:
    git = reviews.project.git
    git("checkout", "--quiet", "-b", "feature")
    reviews.project.commit()
    reviews.project.commit()
    git("checkout", "--quiet", "main")
    reviews.review({}, kind="range", range=f"main..{right}")
    (entry,) = reviews.ledger.read().entries.values()
    assert entry.branch == branch
    assert entry.last.head == git("rev-parse", right)


def test_a_ledger_that_is_held_for_too_long_costs_no_result(
    reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reviews.review({})["findings"][0]["id"]
    monkeypatch.setattr("codex_counsel.findings.ledger.LOCK_PATIENCE", 0.05)
    lock = lock_file(reviews.ledger.directory / "lock")
    assert lock
    wire = reviews.review({})
    os.close(lock)
    (finding,) = wire["findings"]
    assert (finding["id"], finding.get("known")) == (expected, None)
    (warning,) = wire["meta"]["warnings"]
    assert "not on record" in warning
    assert reviews.review({})["findings"][0]["known"] == "open"


def test_code_that_is_put_back_elsewhere_still_stands(reviews: Reviews) -> None:
    reviews.review({})
    reviews.project.write("app.py", "seven = 70\n" + numbered_lines())
    assert "resolved" not in reviews.review()
    assert reviews.states() == ["open"]


def test_of_two_equal_places_one_is_resolved_when_one_is_left(reviews: Reviews) -> None:
    twice = {"l7": "seven = 70", "l9": "seven = 70"}
    reviews.project.write("app.py", numbered_lines(**twice))
    reviews.review({}, {"line": 9})
    reviews.project.write("app.py", numbered_lines(l9="seven = 70"))
    assert len(reviews.review()["resolved"]) == 1
    assert sorted(reviews.states()) == ["fixed", "open"]


@pytest.mark.parametrize("answer", ["It is fine.", "{", '{"findings": 1}'])
def test_prose_leaves_the_ledger_as_it_was(reviews: Reviews, answer: str) -> None:
    reviews.review({})
    before = reviews.ledger.file.read_bytes()
    reviews.project.write("app.py", numbered_lines(l9="nine = 9"))
    assert "resolved" not in reviews.conclude(reviews.record(), answer)
    assert reviews.ledger.file.read_bytes() == before


def test_a_review_that_was_cut_short_keeps_its_findings_and_resolves_none(
    reviews: Reviews,
) -> None:
    reviews.review({})
    reviews.project.write("app.py", numbered_lines(l9="nine = 9"))
    meta = Meta(budget_reached=BudgetReached(limit=1, used=2))
    wire = reviews.review({"evidence": "nine = 9", "line": 9}, meta=meta)
    assert "resolved" not in wire
    assert reviews.states() == ["open", "open"]


def test_a_record_of_an_earlier_release_is_concluded_with_ids_alone(
    reviews: Reviews,
) -> None:
    record = reviews.record().to_json()
    new = {
        "ledger",
        "since",
        "branch",
        "checked_out",
        "plan_name",
        "base_ref",
        "focused",
    }
    old = ReviewRecord(
        **{name: value for name, value in record.items() if name not in new}
    )
    (finding,) = reviews.conclude(old, reply({}))["findings"]
    assert len(finding["id"]) == 16
    assert "known" not in finding
    assert not reviews.ledger.file.exists()


def test_no_ledger_whose_lines_lie_costs_a_result(reviews: Reviews) -> None:
    hostile = entry_of(1, file="app.py\x1b[2J", words="\n\n\n", branch="main")
    odd = entry_of(2, file="../../etc/passwd", branch="main")
    nowhere = entry_of(3, file="\udcff", words="", branch="main")
    put(reviews.ledger, hostile, odd, nowhere)
    wire = reviews.review({})
    assert wire["ok"]
    assert wire["findings"][0]["known"] == "new"


def since_last(reviews: Reviews) -> ReviewRecord:
    """The record of a review of the branch that was sent only what is new."""
    reviews.project.git("checkout", "--quiet", "-b", "feature")
    reviews.project.commit()
    return replace(reviews.record(kind="branch", base="main"), since="last")


def link_away(reviews: Reviews) -> None:
    reviews.ledger.directory.mkdir(parents=True)
    reviews.ledger.file.symlink_to("/nowhere")


@pytest.mark.parametrize(
    ("trouble", "verdict"), [(link_away, "unknown"), (None, "pass")]
)
def test_no_pass_where_open_findings_could_not_be_looked_up(
    reviews: Reviews, trouble: Callable[[Reviews], None] | None, verdict: str
) -> None:
    record = since_last(reviews)
    if trouble:
        trouble(reviews)
    wire = reviews.conclude(record, reply())
    assert (wire["ok"], wire["verdict"]) == (True, verdict)


def test_a_finding_that_another_branch_has_too_is_carried_on_both(
    reviews: Reviews,
) -> None:
    git = reviews.project.git

    def branch_review(branch: str, *findings: dict[str, Any]) -> EnvelopeDict:
        git("checkout", "--quiet", branch)
        record = reviews.record(kind="branch", base="main")
        return reviews.conclude(replace(record, since="last"), reply(*findings))

    git("checkout", "--quiet", "-b", "below")
    reviews.project.commit()
    branch_review("below", {})
    git("checkout", "--quiet", "-b", "above")
    reviews.project.write("new.py", "new = 1\n")
    reviews.project.commit()
    branch_review("above", {})
    (entry,) = reviews.ledger.read().entries.values()
    assert (entry.branch, entry.other_branches) == ("above", ["below"])
    for branch in ("below", "above", "below"):
        wire = branch_review(branch)
        assert [finding["carried"] for finding in wire["findings"]] == [True]
        assert wire["verdict"] == "concerns"


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ('{"id": "0123456789abcdef", "state": "undecided"}', "unknown"),
        ('{"id": "0123456789abcdef", "sta', "pass"),
    ],
)
def test_no_pass_beside_a_finding_that_only_another_release_understands(
    reviews: Reviews, line: str, verdict: str
) -> None:
    record = since_last(reviews)
    reviews.ledger.directory.mkdir(parents=True, mode=0o700)
    reviews.ledger.file.write_text(f"{line}\n", "ascii")
    assert reviews.conclude(record, reply())["verdict"] == verdict


def in_turn(reviews: Reviews, *findings: dict[str, Any]) -> EnvelopeDict:
    """The next review of the branch that is sent only what is new, after a commit."""
    reviews.project.commit()
    record = replace(reviews.record(kind="branch", base="main"), since="last")
    return reviews.conclude(record, reply(*findings))


def test_what_is_found_in_a_file_whose_name_another_one_shares_is_never_gone(
    reviews: Reviews,
) -> None:
    since_last(reviews)
    # Both are shown as `a\\xff.py`.
    reviews.project.write(b"a\xff.py", "seven = 70\n")
    reviews.project.write("a\\xff.py", "harmless = 1\n")
    finding = {"file": "a\\xff.py", "line": 1, "severity": "high"}
    in_turn(reviews, finding)
    reviews.project.write("more.py", "more = 1\n")
    wire = in_turn(reviews)
    assert (wire["verdict"], wire["findings"][0]["carried"]) == ("fail", True)
    assert reviews.states() == ["open"]


def test_what_cannot_be_looked_for_is_not_gone(reviews: Reviews) -> None:
    since_last(reviews)
    reviews.project.write("note.txt", "seven = 70\n")
    in_turn(reviews, {"file": "note.txt", "line": 1, "severity": "high"})
    reviews.project.write("note.txt", b"seven = 70\n\0")
    wire = in_turn(reviews)
    assert (wire["verdict"], wire["findings"][0]["carried"]) == ("fail", True)
    assert reviews.states() == ["open"]


def test_a_nit_about_the_same_line_hides_no_graver_finding(reviews: Reviews) -> None:
    since_last(reviews)
    in_turn(reviews, {"severity": "critical"})
    reviews.project.write("more.py", "more = 1\n")
    wire = in_turn(reviews, {"severity": "nit", "title": "Name it better"})
    assert [finding["severity"] for finding in wire["findings"]] == ["critical"]
    assert wire["verdict"] == "concerns"


def test_a_link_has_no_lines(reviews: Reviews) -> None:
    since_last(reviews)
    in_turn(reviews, {})
    (reviews.project.root / "app.py").unlink()
    (reviews.project.root / "app.py").symlink_to("other.py")
    assert len(in_turn(reviews)["resolved"]) == 1


def test_what_was_seen_is_on_record_only_where_its_findings_are(
    reviews: Reviews,
) -> None:
    record = since_last(reviews)
    link_away(reviews)
    reviews.conclude(record, reply({}))
    assert ReviewLog(reviews.ledger.directory).read() == []
    reviews.ledger.file.unlink()
    reviews.conclude(record, reply({}))
    assert len(ReviewLog(reviews.ledger.directory).read()) == 1


def test_what_was_seen_is_sent_again_where_not_all_findings_are_on_record(
    reviews: Reviews,
) -> None:
    record = since_last(reviews)
    findings = [{"title": f"Fault {number}"} for number in range(MAX_NEW + 1)]
    reviews.conclude(record, reply(*findings))
    assert len(reviews.states()) == MAX_NEW
    assert ReviewLog(reviews.ledger.directory).read() == []


def test_many_reviews_at_once_lose_no_finding(
    reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine all of them together may take longer than one is given.
    monkeypatch.setattr("codex_counsel.review.conclude.GROUNDING_SECONDS", 100)
    for module in ("ledger", "seen"):
        monkeypatch.setattr(f"codex_counsel.findings.{module}.LOCK_PATIENCE", 100.0)
    lines = {f"l{number}": f"odd_{number} = 0" for number in range(1, 9)}
    reviews.project.write("app.py", numbered_lines(**lines))
    record = reviews.record()
    threads = [
        threading.Thread(
            target=reviews.conclude,
            args=(record, reply({"line": number, "evidence": f"odd_{number} = 0"})),
        )
        for number in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reviews.states() == ["open"] * 8
