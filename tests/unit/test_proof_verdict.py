"""What proofs do to the verdict of a review, and to its findings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codex_counsel.contract.envelope import Finding, Proof
from codex_counsel.contract.vocabulary import Severity, Verdict
from codex_counsel.review.proofs import lower_refuted
from codex_counsel.review.prove import choose, shares
from codex_counsel.review.reply import ReviewReply, parse_reply
from codex_counsel.review.verdict import final_verdict
from tests.reviews import reply

REFUTED = Proof(status="refuted", reason="a test of it passes")
PROVEN = Proof(status="proven", reason="its test fails")
UNDECIDED = Proof(status="inconclusive", reason="no test was written")

Told = tuple[Severity, Proof | None]


def replied(verdict: Verdict, *told: Told) -> ReviewReply:
    """A reply with findings of these severities, and what came of their proofs."""
    rows: list[dict[str, Any]] = [{"severity": severity} for severity, _ in told]
    parsed = parse_reply(json.dumps(reply(*rows, verdict=verdict)))
    assert parsed is not None
    for finding, (_, proof) in zip(parsed.findings, told, strict=True):
        finding.proof = proof
    return parsed


SAID = "the reviewer said"
VERDICTS: dict[str, tuple[ReviewReply, Verdict, list[str]]] = {
    "all refuted": (
        replied("fail", ("high", REFUTED)),
        "pass",
        [f"{SAID} fail, but what it rests on was refuted by a test: pass"],
    ),
    "the grave ones refuted": (
        replied("fail", ("high", REFUTED), ("low", None)),
        "concerns",
        [
            f"{SAID} fail, but the critical and high findings were refuted by a test: concerns"
        ],
    ),
    "one of two refuted": (
        replied("fail", ("high", REFUTED), ("high", UNDECIDED)),
        "fail",
        [],
    ),
    "proven": (replied("fail", ("high", PROVEN)), "fail", []),
    "proven beside a pass": (
        replied("pass", ("high", PROVEN)),
        "concerns",
        [f"{SAID} pass beside a critical or high finding: concerns"],
    ),
    "refuted beside a pass": (replied("pass", ("high", REFUTED)), "pass", []),
    "undecided": (replied("fail", ("high", UNDECIDED)), "fail", []),
}


@pytest.mark.parametrize(
    ("parsed", "verdict", "reasons"), VERDICTS.values(), ids=VERDICTS.keys()
)
def test_what_was_refuted_decides_nothing(
    parsed: ReviewReply, verdict: Verdict, reasons: list[str]
) -> None:
    assert final_verdict(parsed, complete=True) == (verdict, reasons)


def test_rejected_and_refuted_findings_are_told_together() -> None:
    parsed = replied("fail", ("high", REFUTED), ("high", None))
    parsed.findings[1].known = "rejected"
    _, reasons = final_verdict(parsed, complete=True)
    assert reasons == [
        f"{SAID} fail, but what it rests on was rejected earlier or refuted by a test: pass"
    ]


def test_only_refuted_findings_become_nits() -> None:
    parsed = replied("fail", ("high", REFUTED), ("high", UNDECIDED), ("low", PROVEN))
    lower_refuted(parsed.findings)
    assert [finding.severity for finding in parsed.findings] == ["nit", "high", "low"]


def finding(severity: Severity, file: str | None = "app.py", **more: Any) -> Finding:
    return Finding(severity=severity, title="It is wrong", file=file, **more)


def test_the_gravest_are_chosen_first_and_none_without_a_file_or_rejected() -> None:
    findings = [
        finding("high"),
        finding("critical", None),
        finding("low"),
        finding("critical"),
        finding("critical", known="rejected"),
    ]
    assert choose(findings, ["critical", "high"]) == [3, 0]
    assert choose(findings, ["critical", "high", "medium", "low", "nit"]) == [3, 0, 2]


@pytest.mark.parametrize(
    ("left", "wanted", "affordable", "each"),
    [
        (9_000, 3, 3, 3_000),
        (2_500, 3, 2, 1_250),
        (1_000, 1, 1, 1_000),
        (999, 1, 0, None),
        (-5, 2, 0, None),
    ],
)
def test_tokens_are_divided_among_as_many_proofs_as_they_are_enough_for(
    left: int, wanted: int, affordable: int, each: int | None
) -> None:
    assert shares(left, 1_000, wanted) == (affordable, each)
