"""What many results come to: one review of all findings, a row for each item, an exit code."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping

import pytest

from codex_counsel.batch import all_findings
from codex_counsel.batch.summary import summarize
from codex_counsel.contract.envelope import EnvelopeDict, Finding
from codex_counsel.contract.vocabulary import Verdict
from codex_counsel.errors import DONE, FAILED, FOUND, NOTHING, Code
from codex_counsel.services import checking
from codex_counsel.services.checking import Bar
from tests.unit.batches import (
    USAGE,
    failure,
    finding,
    item,
    review,
    summary_of,
    task,
)


def findings_of(results: Mapping[str, EnvelopeDict]) -> list[Finding]:
    return summary_of(results).review.findings or []


def verdict_of(*results: EnvelopeDict | None) -> Verdict | None:
    by_number = {str(number): wire for number, wire in enumerate(results)}
    return summary_of(by_number).review.verdict


# --- the verdict, and that a pass is never a false one


def test_a_batch_passes_where_every_review_passed() -> None:
    result = summary_of({"a": review(), "b": review()})
    assert result.review.verdict == "pass"
    assert result.review.summary == "pass: no findings. 2 items: 2 completed."
    assert result.exit_code == DONE
    assert result.review.coverage
    assert result.review.coverage.complete
    assert result.review.coverage.files == 4


@pytest.mark.parametrize(
    "other",
    [
        None,
        failure(Code.TIMEOUT),
        failure(Code.WORKER_LOST),
        failure(Code.PROCESS_DIED),
        failure(Code.CANCELLED),
        review(verdict="unknown"),
        review(verdict=None),
        review(coverage={"files": 1, "complete": False}),
        review(meta={"budget_reached": {"limit": 5, "used": 6}}),
        review(meta={"next_cursor": "more"}),
        {"ok": True},
        {},
        review(status="running"),
    ],
)
def test_a_review_that_says_nothing_makes_the_batch_unknown_and_no_pass(
    other: EnvelopeDict | None,
) -> None:
    result = summary_of({"a": review(), "b": other})
    assert result.review.verdict == "unknown"
    assert result.review.coverage
    assert not result.review.coverage.complete
    assert result.exit_code == FAILED
    assert "b" in " ".join(result.review.meta.warnings)


def test_the_gravest_verdict_is_that_of_the_batch() -> None:
    fail = review(finding(severity="high"), verdict="fail")
    concerns = review(finding(severity="low"), verdict="concerns")
    assert verdict_of(review(), concerns) == "concerns"
    assert verdict_of(review(), concerns, fail) == "fail"
    assert verdict_of(fail, None) == "fail"
    assert verdict_of(concerns, None) == "unknown"


def test_an_item_with_nothing_to_review_takes_no_pass_away() -> None:
    nothing = failure(Code.NOTHING_TO_REVIEW)
    result = summary_of({"a": review(), "empty": nothing})
    assert (result.review.verdict, result.exit_code) == ("pass", DONE)
    assert summary_of({"empty": nothing}).exit_code == NOTHING
    assert summary_of({"empty": nothing}).review.verdict == "unknown"


def test_a_batch_of_tasks_alone_has_no_verdict() -> None:
    result = summary_of({"a": task("passed"), "b": task(None)}, kind="delegate")
    assert result.review.verdict is None
    assert result.review.findings is None
    assert not result.has_reviews
    assert result.exit_code == DONE


# --- the exit code


def test_findings_at_or_above_the_bar_decide_before_what_failed() -> None:
    high = review(finding(severity="high"), verdict="fail")
    results = {"a": high, "b": failure(Code.TIMEOUT)}
    assert summary_of(results).exit_code == FOUND
    assert summary_of(results, Bar("critical")).exit_code == FAILED
    assert summary_of({"a": high}, Bar("critical")).exit_code == DONE
    assert summary_of({"a": high}, Bar("never")).exit_code == DONE
    assert summary_of(results, Bar("never")).exit_code == FAILED


def test_findings_that_somebody_rejected_decide_nothing() -> None:
    rejected = finding(severity="critical", known="rejected")
    result = summary_of({"a": review(rejected)})
    assert result.exit_code == DONE
    assert result.rows[0].findings == 0


def test_a_task_whose_check_did_not_pass_counts_like_a_finding() -> None:
    for status in ("failed", "timed_out", "not_run", "not_started"):
        result = summary_of({"a": task("passed"), "b": task(status)}, kind="delegate")
        assert result.exit_code == FOUND
        assert result.reason == "1 item whose check did not pass"


def test_the_summary_judged_as_a_review_comes_to_the_same() -> None:
    high = review(finding(severity="high"), verdict="fail")
    for results in (
        {"a": review()},
        {"a": high},
        {"a": high, "b": None},
        {"a": review(), "b": None},
        {"a": review(finding(severity="low"), verdict="concerns")},
    ):
        result = summary_of(results)
        assert checking.exit_code(result.review.wire()) == result.exit_code


def test_the_bar_that_a_project_file_sets_holds_for_the_findings_of_its_repository() -> (
    None
):
    strict = {"project_file": {"revision": "a" * 40, "used": [], "fail_on": "low"}}
    low = finding(severity="low", id="1" * 16)
    other = finding(severity="low", id="2" * 16)
    results = {
        "a": review(low, verdict="concerns", meta=strict),
        "b": review(other, verdict="concerns"),
    }
    result = summary_of(results)
    assert [row.counted for row in result.rows] == [1, 0]
    assert result.exit_code == FOUND
    assert [one.fail_on for one in findings_of(results)] == ["low", None]
    assert checking.exit_code(result.review.wire()) == FOUND


# --- findings


def test_a_finding_of_two_items_is_one_and_names_both() -> None:
    result = summary_of({"a": review(finding()), "b": review(finding())})
    (found,) = findings_of({"a": review(finding()), "b": review(finding())})
    assert found.risk == "Reads past the end.\n\nItems: a, b"
    assert result.review.summary.startswith("pass: 1 medium. ")
    assert [row.findings for row in result.rows] == [1, 1]


def test_a_finding_of_very_many_items_names_the_first_of_them() -> None:
    results = {f"i{number}": review(finding()) for number in range(40)}
    (found,) = findings_of(results)
    assert str(found.risk).endswith("Items: i0, i1, i2, i3, i4 and 35 more")


def test_where_two_items_differ_about_a_finding_the_graver_one_counts() -> None:
    mild = finding(severity="low", known="rejected", reason="It is meant.")
    grave = finding(severity="high", known="open", title="Worse")
    for results in (
        {"a": review(mild), "b": review(grave)},
        {"b": review(grave), "a": review(mild)},
    ):
        (found,) = findings_of(results)
        assert (found.severity, found.known, found.title) == ("high", "open", "Worse")


def test_findings_without_an_id_are_one_only_where_they_say_the_same() -> None:
    one, other = finding(id=None), finding(id=None, line=9)
    result = summary_of({"a": review(one, other), "b": review(one)})
    assert len(result.review.findings or ()) == 2


def test_the_gravest_finding_comes_first() -> None:
    ids = {"low": "1" * 16, "critical": "2" * 16, "medium": "3" * 16}
    rows = [finding(id=name, severity=severity) for severity, name in ids.items()]
    rows.append(finding(id="4" * 16, severity="critical", known="rejected"))
    result = summary_of({"a": review(*rows)})
    assert [found.id for found in result.review.findings or ()] == [
        "2" * 16,
        "3" * 16,
        "1" * 16,
        "4" * 16,
    ]


def test_in_several_repositories_files_have_their_names_and_findings_stay_apart() -> (
    None
):
    items = [
        item("a", root="/one/shop"),
        item("b", root="/two/shop"),
        item("c", root="/cart"),
    ]
    part = {"path": "logo.png", "reason": "binary"}
    cover = {"files": 1, "complete": True, "omitted": [part]}
    gone = [
        {"id": "f" * 16, "state": "fixed", "severity": "low", "title": "x", "file": "y"}
    ]
    wire = review(finding(), coverage=cover, resolved=gone)
    result = summarize(items, [(name, wire) for name in "abc"])
    names = ["shop", "shop-2", "cart"]
    assert [row.repository for row in result.rows] == names
    found = result.review.findings or ()
    assert [one.file for one in found] == [f"{name}/src/app.py" for name in names]
    coverage = result.review.coverage
    assert coverage
    assert [one.path for one in coverage.omitted] == [
        f"{name}/logo.png" for name in names
    ]
    assert [one.file for one in result.review.resolved or ()] == [
        f"{name}/y" for name in names
    ]
    assert [file for _, _, file in result.code_from] == ["src/app.py"] * 3


def test_what_another_item_still_finds_is_not_resolved() -> None:
    gone = {"id": finding()["id"], "state": "fixed", "severity": "low", "title": "x"}
    result = summary_of({"a": review(finding()), "b": review(resolved=[gone])})
    assert result.review.resolved is None


def test_findings_that_were_left_out_are_counted_only_where_nobody_rejected_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(all_findings, "MAX_FINDINGS", 1)
    rejected = finding(id="1" * 16, severity="critical", known="rejected")
    gone = {"id": "1" * 16, "state": "fixed", "severity": "low", "title": "x"}
    result = summary_of(
        {"a": review(finding(), rejected), "b": review(resolved=[gone])}
    )
    assert len(result.review.findings or ()) == 1
    assert result.review.summary.startswith("pass: 1 medium. ")
    assert result.review.resolved is None
    assert "1 findings are only counted here" in str(result.review.meta.warnings)


def test_only_the_gravest_findings_are_kept_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(all_findings, "MAX_FINDINGS", 3)
    results: dict[str, EnvelopeDict | None] = {}
    for number in range(20):
        severity = "high" if number in (7, 19) else "low"
        one = finding(id=f"{number:016x}", severity=severity)
        results[str(number)] = review(one, one, verdict="fail")
    result = summary_of(results)
    shown = [found.severity for found in result.review.findings or ()]
    assert shown == ["high", "high", "low"]
    assert result.review.summary.startswith("fail: 2 high, 18 low. ")
    assert "17 findings are only counted here" in " ".join(result.review.meta.warnings)


def test_long_texts_of_a_finding_are_cut() -> None:
    long = "x" * 100_000
    suggestion = {"start_line": 1, "end_line": 1, "replacement": long}
    proof = {"status": "proven", "reason": long, "patch": long, "output_tail": long}
    one = finding(
        title=long, risk=long, evidence=long, suggestion=suggestion, proof=proof
    )
    (found,) = findings_of({"a": review(one)})
    assert len(str(found)) < 15_000
    assert found.suggestion is None
    assert found.proof
    assert found.proof.status == "proven"


def test_thousands_of_repositories_of_one_name_have_names_of_their_own() -> None:
    items = [item(str(number), root=f"/{number}/shop") for number in range(20_000)]
    rows = summarize(items, []).rows
    assert rows[-1].repository == "shop-20000"
    assert len({row.repository for row in rows}) == 20_000


# --- rows


def test_each_item_has_a_row_in_the_order_of_the_requests() -> None:
    items = [item("c"), item("a"), item("b", "delegate"), item("d")]
    results = [
        ("a", failure(Code.WORKER_LOST, "The node n1 did not come back")),
        ("b", task("failed")),
        ("c", review(finding(severity="high"), verdict="fail")),
        ("stranger", review()),
    ]
    rows = summarize(items, results).rows
    assert [(row.id, row.state) for row in rows] == [
        ("c", "completed"),
        ("a", "lost"),
        ("b", "completed"),
        ("d", "missing"),
    ]
    first = rows[0]
    assert (first.verdict, first.findings, first.counted) == ("fail", 1, 1)
    assert (first.tokens, first.elapsed_ms, first.job_id) == (1_050, 1_500, "a" * 32)
    assert rows[1].error
    assert rows[1].error.message == "The node n1 did not come back"
    assert rows[1].error.repair
    assert rows[2].check == "failed"


def test_tokens_and_time_are_added_up_those_of_proofs_too() -> None:
    proofs = {"usage": USAGE, "usage_proofs": USAGE, "elapsed_ms": 500}
    result = summary_of({"a": review(), "b": review(meta=proofs)})
    meta = result.review.meta
    assert meta.usage
    assert meta.usage_proofs
    assert (meta.usage.input, meta.usage_proofs.input) == (2_000, 1_000)
    assert meta.elapsed_ms == 2_000
    assert result.review.data["tokens"] == 3_150


def test_the_counts_of_a_batch_are_data() -> None:
    data = summary_of(
        {"a": review(), "b": None, "c": failure(Code.TIMEOUT)}
    ).review.data
    assert data == {
        "items": 3,
        "completed": 1,
        "nothing": 0,
        "failed": 1,
        "cancelled": 0,
        "lost": 0,
        "missing": 1,
        "tokens": 1_050,
        "exit_code": FAILED,
        "reason": "2 items without a result that counts",
    }


def test_a_damaged_result_is_a_failure_of_its_item_alone() -> None:
    result = summary_of({"a": {"ok": "yes"}, "b": review()})
    assert result.rows[0].error
    assert result.rows[0].error.code == Code.JOB_CORRUPT
    assert result.rows[1].state == "completed"


def test_thousands_of_results_are_added_up_in_little_memory() -> None:
    count = 4_000
    items = [item(f"pr-{number}") for number in range(count)]
    risk = "r" * 5_000
    wire = review(finding(risk=risk), finding(risk=risk), verdict="concerns")

    def results() -> Iterator[tuple[str, EnvelopeDict]]:
        for number in range(count):
            rows = []
            for part, one in enumerate(wire["findings"]):
                # Texts of their own, as from a file.
                name = f"{number:08x}{part:08x}"
                rows.append(one | {"id": name, "risk": name + risk})
            yield f"pr-{number}", wire | {"findings": rows}

    tracemalloc.start()
    try:
        result = summarize(items, results())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(result.review.findings or ()) == all_findings.MAX_FINDINGS
    assert result.review.summary.startswith("concerns: 8000 medium.")
    # Whole, the texts of the findings alone would be 40 MB.
    assert peak < 25_000_000
