"""What a result comes to: the exit code of each, and the gate over a stored review."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codex_counsel.cli.turn_review import blocking_findings
from codex_counsel.contract.envelope import CheckResult, Envelope, completed, failed
from codex_counsel.contract.vocabulary import (
    CHECK_STATUSES,
    CheckStatus,
    FailOn,
    FindingState,
)
from codex_counsel.errors import CATALOG, EXIT_CODES, Code, CounselError
from codex_counsel.jobs.store import Store
from codex_counsel.services import checking
from codex_counsel.services.checking import (
    Bar,
    as_decided,
    check,
    exit_code,
)

CUT_SHORT = {"budget_reached": {"limit": 1000, "used": 1200}}
HEAD = "0123456789abcdef0123456789abcdef01234567"
IN_PART = {"head_sha": HEAD, "complete": False}


def review(*findings: dict[str, Any], **changes: Any) -> Envelope:
    wire = {
        "ok": True,
        "status": "completed",
        "tool": "codex_review_changes",
        "summary": "Read it all.",
        "verdict": "concerns" if findings else "pass",
        "findings": [
            {"severity": "high", "title": "Off by one", **finding}
            for finding in findings
        ],
        "coverage": {"head_sha": HEAD, "complete": True},
        "meta": {},
    }
    return Envelope.parse({**wire, **changes})


REFUTED = {
    "severity": "nit",
    "proof": {"status": "refuted", "reason": "a test of it passes"},
}
FAILURE = failed("codex_review_changes", CounselError(Code.JOB_RUNNING, "Not yet"))
CODES: dict[str, tuple[Envelope, FailOn, int]] = {
    "nothing found": (review(), "high", 0),
    "at the severity": (review({}), "high", 1),
    "above the severity": (review({"severity": "critical"}), "high", 1),
    "below the severity": (review({"severity": "medium"}), "high", 0),
    "below critical": (review({}), "critical", 0),
    "any at all": (review({"severity": "nit"}), "nit", 1),
    "never": (review({"severity": "critical"}), "never", 0),
    "no verdict": (review(verdict="unknown"), "critical", 5),
    "not all seen": (review({"severity": "low"}, coverage=IN_PART), "high", 5),
    "not all seen, and a finding": (review({}, coverage=IN_PART), "high", 1),
    "not all seen, and never": (review(coverage=IN_PART), "never", 0),
    "no verdict and a finding": (review({}, verdict="unknown"), "high", 1),
    "no verdict and never": (review(verdict="unknown"), "never", 0),
    "a fail that names nothing": (review(verdict="fail"), "critical", 5),
    "a fail below the severity": (review({}, verdict="fail"), "critical", 0),
    "a pass with a finding": (review({}, verdict="pass"), "high", 1),
    "a fail and never": (review({}, verdict="fail"), "never", 0),
    "cut short": (review({"severity": "low"}, meta=CUT_SHORT), "high", 8),
    "cut short without a verdict": (
        review(verdict="unknown", meta=CUT_SHORT),
        "high",
        8,
    ),
    "cut short and grave": (review({}, verdict="fail", meta=CUT_SHORT), "high", 1),
    "cut short and never": (review(meta=CUT_SHORT), "never", 0),
    "not ended": (review(status="running", verdict=None), "high", 6),
    "a failed run": (FAILURE, "never", 6),
    "rejected": (review({"known": "rejected"}), "nit", 0),
    "rejected, and nothing else explains the verdict": (
        review({"known": "rejected"}, verdict="fail"),
        "high",
        5,
    ),
    "refuted": (review(REFUTED), "nit", 0),
    "refuted, and nothing else explains the verdict": (
        review(REFUTED, verdict="fail"),
        "high",
        5,
    ),
    "refuted beside another": (review(REFUTED, {}), "high", 1),
    "rejected beside another": (review({"known": "rejected"}, {}), "high", 1),
    "raised before": (review({"known": "open"}), "high", 1),
    "carried": (review({"known": "open", "carried": True}), "high", 1),
}


@pytest.mark.parametrize(("result", "fail_on", "code"), CODES.values(), ids=CODES)
def test_the_findings_decide_on_the_exit_code_of_a_review(
    result: Envelope, fail_on: FailOn, code: int
) -> None:
    assert exit_code(result.wire(), Bar(fail_on)) == code


@pytest.mark.parametrize(
    ("finding", "code"),
    [
        ({"known": "new"}, 1),
        ({"known": "returned"}, 1),
        ({}, 1),
        ({"known": "open"}, 0),
        ({"known": "rejected"}, 0),
        ({"known": "new", "carried": True}, 0),
    ],
)
def test_of_new_findings_alone_those_count_that_nobody_raised_before(
    finding: dict[str, Any], code: int
) -> None:
    wire = review(finding, verdict="concerns").wire()
    assert exit_code(wire, Bar(new_only=True)) == code


def test_a_fail_that_earlier_findings_explain_is_no_riddle_to_new_only() -> None:
    wire = review({"known": "open"}, verdict="fail").wire()
    assert exit_code(wire, Bar(new_only=True)) == 0


def test_a_failure_that_only_another_release_knows_has_an_exit_code() -> None:
    wire = FAILURE.wire()
    wire["error"]["code"] = "new_code"
    assert exit_code(wire) == 5


@pytest.mark.parametrize("status", CHECK_STATUSES)
def test_a_task_that_did_not_pass_its_check_has_the_code_1_whatever_the_reason(
    status: CheckStatus,
) -> None:
    check = CheckResult(command="make test", status=status)
    wire = replace(completed("codex_delegate", "Done.", None), check=check).wire()
    assert exit_code(wire) == int(status != "passed")
    del wire["check"]
    assert exit_code(wire) == 0


def test_a_check_that_only_another_release_understands_did_not_pass() -> None:
    wire = completed("codex_delegate", "Done.", None).wire()
    assert exit_code({**wire, "check": {"outcome": "fine"}}) == 1


def test_every_code_of_an_error_is_in_the_table_of_exit_codes() -> None:
    assert set(CATALOG) == set(Code)
    assert {meaning.exit_code for meaning in CATALOG.values()} <= set(EXIT_CODES)
    assert CATALOG[Code.NOTHING_TO_REVIEW].exit_code == 7
    assert CATALOG[Code.BUDGET_REACHED].exit_code == 8


def test_the_gate_at_the_end_of_a_turn_leaves_out_what_was_rejected() -> None:
    result = review(
        {"title": "Mine", "grounded": "verified"},
        {"title": "Settled", "grounded": "verified", "known": "rejected"},
        {"title": "Nowhere", "grounded": "unverified"},
        {"title": "Small", "grounded": "verified", "severity": "low"},
    )
    blocking = blocking_findings(result, "high")
    assert [finding["title"] for finding in blocking] == ["Mine"]


# --- the gate over a stored review


def outcome(result: Envelope, head: str | None = None, **bar: Any) -> tuple[str, int]:
    checked = check(result.wire(), Bar(**bar), head)
    assert checked.summary.startswith(f"{checked.data['outcome']}: ")
    return checked.data["outcome"], checked.data["exit_code"]


@pytest.mark.parametrize(("result", "fail_on", "code"), CODES.values(), ids=CODES)
def test_a_check_has_the_exit_code_of_the_review(
    result: Envelope, fail_on: FailOn, code: int
) -> None:
    words = {0: "pass", 1: "fail"}
    expected = (words.get(code, "inconclusive"), code)
    assert outcome(result, fail_on=fail_on) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (HEAD, ("pass", 0)),
        (HEAD[:7], ("pass", 0)),
        (HEAD[:12].upper(), ("pass", 0)),
        ("f" * 40, ("inconclusive", 5)),
        ("fffffff", ("inconclusive", 5)),
    ],
)
def test_the_review_of_another_commit_is_inconclusive(
    head: str, expected: tuple[str, int]
) -> None:
    assert outcome(review(), head) == expected


def test_a_finding_of_another_commit_is_no_finding_of_this_one() -> None:
    assert outcome(review({}), "f" * 40) == ("inconclusive", 5)


@pytest.mark.parametrize("coverage", [None, {"complete": True}])
def test_the_review_of_no_commit_is_inconclusive(coverage: Any) -> None:
    assert outcome(review(coverage=coverage), HEAD) == ("inconclusive", 5)


@pytest.mark.parametrize("head", ["", "012345", "main", f"{HEAD}\n", "0" * 65, "-q"])
def test_what_is_no_commit_id_is_refused(head: str) -> None:
    with pytest.raises(CounselError, match="--expect-head") as refusal:
        check(review().wire(), Bar(), head)
    assert refusal.value.code == Code.INVALID_ARGUMENTS


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": {"truncated": True, "next_cursor": "findings:3:0123abcd"}},
        {"verdict": None},
        {"verdict": None, "findings": None},
        {"status": "cancelled"},
        {"status": "failed"},
    ],
)
def test_a_part_of_a_review_never_passes(changes: dict[str, Any]) -> None:
    assert outcome(review(**changes)) == ("inconclusive", 5)


def test_a_check_says_what_it_counted() -> None:
    result = review(
        {"known": "new"}, {"known": "rejected"}, {"severity": "low"}, verdict="fail"
    )
    data = check(result.wire(), Bar()).data
    assert data == {
        "outcome": "fail",
        "reason": "1 finding of severity high or above",
        "exit_code": 1,
        "fail_on": "high",
        "new_only": False,
        "findings": 3,
        "counted": 1,
        "rejected": 1,
        "verdict": "fail",
        "head_sha": HEAD,
    }


DECISIONS: dict[str, tuple[Envelope, dict[str, FindingState], int]] = {
    "rejected since": (review({"id": "a"}), {"a": "rejected"}, 0),
    "rejected since, and all that a fail rested on": (
        review({"id": "a"}, verdict="fail"),
        {"a": "rejected"},
        0,
    ),
    "the same over a part of the change": (
        review({"id": "a"}, verdict="fail", coverage={"complete": False}),
        {"a": "rejected"},
        5,
    ),
    "a fail that named nothing before": (
        review(verdict="fail"),
        {"a": "rejected"},
        5,
    ),
    "another one rejected": (review({"id": "a"}), {"b": "rejected"}, 1),
    "one of two": (review({"id": "a"}, {"id": "b"}), {"a": "rejected"}, 1),
    "reopened since": (
        review({"id": "a", "known": "rejected"}, verdict="pass"),
        {"a": "open"},
        1,
    ),
    "accepted since": (
        review({"id": "a", "known": "rejected"}, verdict="pass"),
        {"a": "accepted"},
        1,
    ),
    "not on record": (review({"known": "rejected"}, verdict="pass"), {}, 0),
    "cut short": (review({"id": "a"}, meta=CUT_SHORT), {"a": "rejected"}, 8),
}


@pytest.mark.parametrize(
    ("result", "states", "code"), DECISIONS.values(), ids=DECISIONS
)
def test_what_was_decided_since_counts_where_that_is_asked_for(
    result: Envelope, states: dict[str, FindingState], code: int
) -> None:
    wire = as_decided(result.wire(), states)
    assert check(wire, Bar()).data["exit_code"] == code


# --- what is no stored review


def refused(store: Store, name: str) -> str:
    with pytest.raises(CounselError) as refusal:
        checking.read_review(store, name)
    assert refusal.value.code == Code.INVALID_ARGUMENTS
    assert "review --json" in str(refusal.value.repair)
    return refusal.value.message


WIRE = review({}).wire()
NO_REVIEWS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "blanks": (b" \n", "is empty"),
    "text": (b"concerns: 1 high.", "no JSON, or only a part"),
    "a part": (json.dumps(WIRE).encode()[:-9], "no JSON, or only a part"),
    "bytes": (b"\xff\xfe\x00", "no JSON, or only a part"),
    "depth": (b"[" * 200_000, "no JSON, or only a part"),
    "a list": (b"[]", "no envelope"),
    "a number": (b"7", "no envelope"),
    "another object": (b'{"version": "2.1.0", "runs": []}', "no envelope"),
    "an unknown severity": (
        json.dumps({**WIRE, "findings": [{"severity": "x", "title": ""}]}).encode(),
        "no envelope",
    ),
    "another tool": (
        json.dumps({**WIRE, "tool": "codex_consult"}).encode(),
        "a result of codex_consult, not of a review",
    ),
    "a hostile tool": (
        json.dumps({**WIRE, "tool": "a\n::error::x"}).encode(),
        "a result of a ::error::x, not of a review",
    ),
}


@pytest.mark.parametrize(("data", "words"), NO_REVIEWS.values(), ids=NO_REVIEWS)
def test_what_is_no_review_is_refused_with_what_it_is(
    tmp_path: Path, data: bytes, words: str
) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(data)
    message = refused(Store(tmp_path), str(file))
    assert words in message
    assert message.startswith(f"RESULT: {file}")
    assert "\n" not in message


def test_the_same_comes_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give(data: bytes) -> None:
        stdin = SimpleNamespace(buffer=io.BytesIO(data))
        monkeypatch.setattr("sys.stdin", stdin)

    give(json.dumps(WIRE).encode())
    assert checking.read_review(Store(tmp_path), "-")["findings"] == WIRE["findings"]
    give(b"{}")
    assert "standard input is no envelope" in refused(Store(tmp_path), "-")


@pytest.mark.parametrize("name", ["", "..", "absent.json", "a\0b", "/dev/zero", "abc"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    refused(Store(tmp_path), name)


def test_a_file_without_end_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "MAX_RESULT", 1000)
    file = tmp_path / "result.json"
    file.write_bytes(b" " * 1001)
    assert "more than 1,000 bytes" in refused(Store(tmp_path), str(file))


def test_a_name_that_may_begin_a_job_id_is_one(tmp_path: Path) -> None:
    (tmp_path / "abcd").write_text(json.dumps(WIRE))
    store = Store(tmp_path)
    with pytest.raises(CounselError, match="no job abcd"):
        checking.read_review(store, "abcd")
    assert checking.read_review(store, f"{tmp_path}/abcd")["tool"] == WIRE["tool"]
