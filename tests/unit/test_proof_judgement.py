"""What the runs of a test say about a finding."""

from __future__ import annotations

from dataclasses import replace

import pytest

from codex_counsel.contract.vocabulary import ComparedState, ProofStatus
from codex_counsel.proof.judgement import NEVER, Evidence, Observation, judge

PASSED = Observation("passed")
FAILED = Observation("failed", "assertion")
CRASHED = Observation("failed", "ZeroDivisionError")
BROKEN = Observation("broken", detail="No module named 'app'")
TIMED_OUT = Observation("timed_out")
TAMPERED = Observation("tampered")
NOT_RUN = Observation("not_run")
RED = Evidence(
    expected="assertion",
    says_wrong=False,
    head=(FAILED,) * 3,
    without_test=Observation("not_started"),
    base=(PASSED,) * 3,
)
GREEN = Evidence(
    expected="assertion",
    says_wrong=True,
    head=(PASSED,) * 3,
    without_test=Observation("not_started"),
    disabled=BROKEN,
)

Row = tuple[Evidence, ProofStatus, ComparedState | None, str]
ROWS: dict[str, Row] = {
    "red here and green on the base": (
        RED,
        "proven",
        "base",
        "the test fails on the reviewed state and passes on the base",
    ),
    "red by the named exception": (
        replace(RED, head=(CRASHED,) * 3, expected="ZeroDivisionError"),
        "proven",
        "base",
        "the test fails on the reviewed state and passes on the base",
    ),
    "red by an exception with its module": (
        replace(RED, head=(CRASHED,) * 3, expected="builtins.ZeroDivisionError"),
        "proven",
        "base",
        "the test fails on the reviewed state and passes on the base",
    ),
    "without a base, green with the replacement": (
        replace(RED, base=(), patched=(PASSED,) * 3),
        "proven",
        "patched",
        "the test fails on the reviewed state and passes with the proposed replacement",
    ),
    "red on the base, green with the replacement": (
        replace(RED, base=(FAILED,) * 3, patched=(PASSED,) * 3),
        "proven",
        "patched",
        "the test fails on the reviewed state and passes with the proposed replacement",
    ),
    "the base lacks what the test imports": (
        replace(RED, base=(BROKEN,), patched=(PASSED,) * 3),
        "proven",
        "patched",
        "the test fails on the reviewed state and passes with the proposed replacement",
    ),
    "green, and the claim found wrong": (
        GREEN,
        "refuted",
        None,
        "a test of what it claims passes on the reviewed state, 3 times of 3",
    ),
    "green at once": (
        replace(RED, head=(PASSED,) * 3),
        "inconclusive",
        None,
        "the test passes on the reviewed state, so it shows no failure",
    ),
    "at random here": (
        replace(RED, head=(FAILED, PASSED, FAILED)),
        "inconclusive",
        None,
        "the test passes or fails at random",
    ),
    "at random on the base": (
        replace(RED, base=(PASSED, FAILED, PASSED)),
        "inconclusive",
        "base",
        "on the base, the test passes or fails at random",
    ),
    "at random with the replacement": (
        replace(RED, base=(), patched=(PASSED, PASSED, FAILED)),
        "inconclusive",
        "patched",
        "with the proposed replacement, the test passes or fails at random",
    ),
    "at random although the claim was found wrong": (
        replace(GREEN, head=(PASSED, FAILED, PASSED)),
        "inconclusive",
        None,
        "the test passes or fails at random",
    ),
    "an assertion instead of the exception": (
        replace(RED, expected="ZeroDivisionError"),
        "inconclusive",
        None,
        "the test fails, but not as announced (ZeroDivisionError): assertion",
    ),
    "two kinds of failure": (
        replace(RED, head=(FAILED, CRASHED, FAILED)),
        "inconclusive",
        None,
        "the test fails, but not as announced (assertion): assertion, ZeroDivisionError",
    ),
    "no failure announced": (
        replace(RED, expected=None),
        "inconclusive",
        None,
        "the test fails, but no failure was announced",
    ),
    "a failure of no kind": (
        replace(RED, head=(Observation("failed"),) * 3),
        "inconclusive",
        None,
        "the test fails, but not as announced (assertion): neither an assertion nor an exception",
    ),
    "broken": (
        replace(RED, head=(BROKEN,)),
        "inconclusive",
        None,
        "the test is broken: it could not be imported, compiled or collected (No module named 'app')",
    ),
    "too slow": (
        replace(RED, head=(FAILED, TIMED_OUT)),
        "inconclusive",
        None,
        "the test did not end in time",
    ),
    "changes the code": (
        replace(RED, head=(TAMPERED,)),
        "inconclusive",
        None,
        "running the test changed files of the repository",
    ),
    "changes the code on the base": (
        replace(RED, base=(TAMPERED,)),
        "inconclusive",
        "base",
        "on the base, running the test changed files of the repository",
    ),
    "ended": (
        replace(RED, head=(NOT_RUN,)),
        "inconclusive",
        None,
        "the run was ended before the test had",
    ),
    "not run at all": (
        replace(RED, head=()),
        "inconclusive",
        None,
        "the run was ended before the test had",
    ),
    "red without the test": (
        replace(RED, without_test=FAILED),
        "inconclusive",
        None,
        "the command fails without the new test in the same way",
    ),
    "red on the base": (
        replace(RED, base=(FAILED,) * 3),
        "inconclusive",
        "base",
        "the test fails on the base too, and there is no replacement to compare with",
    ),
    "red with the replacement": (
        replace(RED, base=(), patched=(FAILED,) * 3),
        "inconclusive",
        "patched",
        "the test fails with the proposed replacement too",
    ),
    "nothing to compare with": (
        replace(RED, base=()),
        "inconclusive",
        None,
        "there is neither a base with this code nor a replacement to compare with",
    ),
    "red although the claim was found wrong": (
        replace(RED, says_wrong=True),
        "inconclusive",
        None,
        "whoever wrote the test found the claim wrong, but the test fails",
    ),
    "green without the test": (
        replace(GREEN, without_test=PASSED),
        "inconclusive",
        None,
        "the command passes without the new test too",
    ),
    "green with the code taken out": (
        replace(GREEN, disabled=PASSED),
        "inconclusive",
        None,
        "the test also passes with the code in question taken out: it does not depend on it",
    ),
    "too slow with the code taken out": (
        replace(GREEN, disabled=TIMED_OUT),
        "inconclusive",
        None,
        "with the code in question taken out, the test did not end in time",
    ),
    "no file to take it out of": (
        replace(GREEN, disabled=None),
        "inconclusive",
        None,
        "whether the test depends on the code in question could not be tried",
    ),
}


@pytest.mark.parametrize(
    ("evidence", "status", "other", "reason"), ROWS.values(), ids=ROWS.keys()
)
def test_runs_decide(
    evidence: Evidence, status: ProofStatus, other: ComparedState | None, reason: str
) -> None:
    judgement = judge(evidence)
    assert (judgement.status, judgement.other, judgement.reason) == (
        status,
        other,
        reason,
    )


@pytest.mark.parametrize("name", NEVER)
def test_an_exception_of_the_test_itself_proves_nothing_though_it_was_announced(
    name: str,
) -> None:
    raised = (Observation("failed", name),) * 3
    assert judge(replace(RED, head=raised, expected=name)).status == "inconclusive"
