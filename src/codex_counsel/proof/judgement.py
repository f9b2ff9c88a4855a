"""What several runs of a test say about a finding. Pure: the runs are made elsewhere.

A finding is `proven` where the test fails on the reviewed state, each time and as was
announced, and passes each time on another one. It is `refuted` where whoever wrote the
test found the claim wrong, the test passes each time, and depends on the code in
question. All else is `inconclusive`: neither a broken test nor a lazy one decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codex_counsel.contract.vocabulary import ComparedState, ProofStatus
from codex_counsel.proof.reply import ASSERTION

RUNS = 3
"""How often the test is run on one state: a test that passes or fails at random proves nothing."""

Result = Literal[
    "passed",
    "failed",
    "broken",
    "not_started",
    "timed_out",
    "killed",
    "tampered",
    "not_run",
]
"""What a run came to.

`failed`: by an assertion, an exception or otherwise. `broken`: an import or syntax
error, or no test at all. `killed`: by a signal. `tampered`: it changed files of the
state that it ran in.
"""

NEVER = (
    "ImportError",
    "ModuleNotFoundError",
    "SyntaxError",
    "IndentationError",
    "TabError",
)
"""Exceptions that say nothing of the code under test."""

PROBLEMS: dict[Result, str] = {
    "broken": "the test is broken: it could not be imported, compiled or collected",
    "not_started": "its command could not be started",
    "timed_out": "the test did not end in time",
    "killed": "the test was ended by a signal",
    "tampered": "running the test changed files of the repository",
    "not_run": "the run was ended before the test had",
}
"""Why a run on the reviewed state decides nothing."""


@dataclass(frozen=True)
class Observation:
    """One run. `failure` is `assertion` or the exception's name; None where it is neither, or unknown.

    `detail` says more of a run that did not get to the test.
    """

    result: Result
    failure: str | None = None
    detail: str = ""

    @property
    def decides(self) -> bool:
        """Whether the test ran to its end."""
        return self.result in ("passed", "failed")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The runs, each list on one state. A state on which the test was not run has none.

    `expected` is the announced failure. `says_wrong`: whoever wrote the test found the
    claim wrong. `without_test` is the same command on the reviewed state without the
    test, `disabled` the test with the code in question taken out.
    """

    expected: str | None
    says_wrong: bool
    head: Sequence[Observation]
    without_test: Observation | None = None
    base: Sequence[Observation] = ()
    patched: Sequence[Observation] = ()
    disabled: Observation | None = None


@dataclass(frozen=True)
class Judgement:
    """`other` is the state that the reviewed one was compared with last."""

    status: ProofStatus
    reason: str
    other: ComparedState | None = None


def always_passes(runs: Sequence[Observation]) -> bool:
    """Whether the test passed each time."""
    return bool(runs) and all(run.result == "passed" for run in runs)


def always_fails_as(runs: Sequence[Observation], expected: str | None) -> bool:
    """Whether the test failed each time, and as was announced."""
    return bool(runs) and all(_fails_as(run, expected) for run in runs)


def _fails_as(run: Observation, expected: str | None) -> bool:
    if run.result != "failed" or run.failure is None or expected is None:
        return False
    if ASSERTION in (run.failure, expected):
        return run.failure == expected
    name = _last_part(expected)
    return name == _last_part(run.failure) and name not in NEVER


def _last_part(name: str) -> str:
    return name.replace("::", ".").rpartition(".")[2]


def judge(evidence: Evidence) -> Judgement:
    """What the runs say."""
    head = evidence.head
    problem = _problem(head)
    if problem:
        return Judgement("inconclusive", problem)
    if always_passes(head):
        return _of_passing(evidence)
    return _of_failing(evidence)


def _problem(runs: Sequence[Observation]) -> str:
    """Why these runs decide nothing, or empty."""
    for run in runs:
        if not run.decides and run.detail:
            return f"{PROBLEMS[run.result]} ({run.detail})"
        if not run.decides:
            return PROBLEMS[run.result]
    results = {run.result for run in runs}
    if len(results) > 1:
        return "the test passes or fails at random"
    if not runs:
        return PROBLEMS["not_run"]
    return ""


def _of_passing(evidence: Evidence) -> Judgement:
    without_test, disabled = evidence.without_test, evidence.disabled
    if not evidence.says_wrong:
        reason = "the test passes on the reviewed state, so it shows no failure"
    elif without_test is None or without_test.result == "passed":
        reason = "the command passes without the new test too"
    elif disabled is None:
        reason = "whether the test depends on the code in question could not be tried"
    elif disabled.result == "passed":
        reason = "the test also passes with the code in question taken out: it does not depend on it"
    elif disabled.result not in ("failed", "broken"):
        reason = f"with the code in question taken out, {PROBLEMS[disabled.result]}"
    else:
        times = len(evidence.head)
        return Judgement(
            "refuted",
            f"a test of what it claims passes on the reviewed state, {times} times of {times}",
        )
    return Judgement("inconclusive", reason)


def _of_failing(evidence: Evidence) -> Judgement:
    if evidence.says_wrong:
        return Judgement(
            "inconclusive",
            "whoever wrote the test found the claim wrong, but the test fails",
        )
    if not always_fails_as(evidence.head, evidence.expected):
        return Judgement("inconclusive", _another_failure(evidence))
    without_test = evidence.without_test
    if without_test is None or _fails_as(without_test, evidence.expected):
        return Judgement(
            "inconclusive", "the command fails without the new test in the same way"
        )
    if always_passes(evidence.base):
        return Judgement(
            "proven",
            "the test fails on the reviewed state and passes on the base",
            "base",
        )
    if always_passes(evidence.patched):
        return Judgement(
            "proven",
            "the test fails on the reviewed state and passes with the proposed replacement",
            "patched",
        )
    return _without_passing_state(evidence)


def _another_failure(evidence: Evidence) -> str:
    if evidence.expected is None:
        return "the test fails, but no failure was announced"
    seen = [
        run.failure or "neither an assertion nor an exception" for run in evidence.head
    ]
    names = ", ".join(dict.fromkeys(seen))
    return f"the test fails, but not as announced ({evidence.expected}): {names}"


def _without_passing_state(evidence: Evidence) -> Judgement:
    """No other state tells that the test can pass."""
    patched = _problem(evidence.patched)
    base = _problem(evidence.base)
    other: ComparedState | None = None
    if evidence.patched:
        other = "patched"
        reason = "the test fails with the proposed replacement too"
        if patched:
            reason = f"with the proposed replacement, {patched}"
    elif evidence.base:
        other = "base"
        reason = "the test fails on the base too, and there is no replacement to compare with"
        if base:
            reason = f"on the base, {base}"
    else:
        reason = (
            "there is neither a base with this code nor a replacement to compare with"
        )
    return Judgement("inconclusive", reason, other)
