"""Which of several attempts is best, and why. Pure.

An attempt that ended with a change comes first; then what the check says; then one whose
work is whole; then the judge; then one that did not turn the check green by changing tests
alone; then fewer binary files and fewer changed lines outside tests; then the smaller diff.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from codex_counsel.contract.vocabulary import CheckStatus

Standing = Literal["changed", "unchanged", "cut_short", "nothing"]
"""What an attempt left: a completed turn with a diff, one without, a diff of an unfinished turn, or no diff at all."""
STANDINGS: tuple[Standing, ...] = ("changed", "unchanged", "cut_short", "nothing")
UNRANKED = 1_000
"""The place of an attempt that the judge did not rank, where it ranked others."""
TEST_FOLDERS = frozenset(
    ("test", "tests", "__tests__", "spec", "specs", "testing", "testdata", "fixtures")
)
TEST_FILE = re.compile(
    r"(test_.*|.*[_.-](test|tests|spec)\.[^.]+|conftest\.py|.*[a-z0-9](Test|Tests|Spec)\.[A-Za-z]+)"
)
"""Names that test runners look for: test_x.py, x_test.go, x.spec.ts, XTest.java."""


@dataclass(frozen=True)
class Candidate:
    """What the rank of an attempt depends on. `attempt` counts from 1.

    `check` is None where none was asked for, `judge_rank` where no judge ranked it.
    `changed_lines` are those added and deleted outside tests, `diff_bytes` the size of the
    patch. `error` is the code of an attempt that did not complete. `partial` marks one that
    completed, but used up its tokens before it was done, or whose diff lacks files.

    `by_tests_alone` is true where the check, which failed before, passes since tests were
    changed, and nothing else. `uncounted` are the files outside tests that git takes for
    binary: their lines are not among the changed ones.
    """

    attempt: int
    standing: Standing
    check: CheckStatus | None = None
    judge_rank: int | None = None
    changed_lines: int = 0
    diff_bytes: int = 0
    error: str | None = None
    partial: bool = False
    by_tests_alone: bool = False
    uncounted: int = 0


@dataclass(frozen=True)
class Rank:
    """The place of an attempt; equal ones share the place, and `tied_with` are the others there."""

    attempt: int
    rank: int
    why: str
    tied_with: tuple[int, ...] = ()


def is_test(path: str) -> bool:
    """Whether a file is one of the tests, by the names that most test runners go by."""
    *folders, name = path.split("/")
    if not TEST_FOLDERS.isdisjoint(folder.lower() for folder in folders):
        return True
    return TEST_FILE.fullmatch(name) is not None


def rank(candidates: Sequence[Candidate]) -> list[Rank]:
    """The attempts from the best to the worst; equal ones in the order of their numbers."""
    groups: dict[tuple[int, ...], list[Candidate]] = {}
    for candidate in sorted(candidates, key=_key):
        groups.setdefault(_key(candidate), []).append(candidate)

    ranks: list[Rank] = []
    ordered = list(groups.values())
    for index, group in enumerate(ordered):
        # The best is compared with the next one, every other with the one before it.
        neighbours = ordered[index - 1 : index] or ordered[1:2]
        place = len(ranks) + 1
        for candidate in group:
            others = tuple(other.attempt for other in group if other is not candidate)
            why = _why(candidate, [group[0] for group in neighbours])
            ranks.append(Rank(candidate.attempt, place, why, others))
    return ranks


def _key(candidate: Candidate) -> tuple[int, ...]:
    return tuple(place(candidate) for place, _ in CRITERIA)


def _why(candidate: Candidate, neighbours: Sequence[Candidate]) -> str:
    """The first criterion in which it differs from its neighbour."""
    for neighbour in neighbours:
        for place, words in CRITERIA:
            if place(candidate) != place(neighbour):
                return words(candidate, neighbour)
    return "nothing tells them apart"


# --- the criteria: the smaller number is better


def _by_standing(candidate: Candidate) -> int:
    return STANDINGS.index(candidate.standing)


def _standing(candidate: Candidate, _: Candidate) -> str:
    match candidate.standing:
        case "changed":
            return "it ended with a change"
        case "unchanged":
            return "it changed nothing"
        case "cut_short":
            return f"it did not end well ({candidate.error}); what it had done is kept"
    return f"it did not end well ({candidate.error})"


def _by_check(candidate: Candidate) -> int:
    match candidate.check:
        case "passed":
            return 0
        case "failed":
            return 2
    return 1


def _check(candidate: Candidate, _: Candidate) -> str:
    status = candidate.check or "not_run"
    return f"check {status.replace('_', ' ')}"


def _by_partial(candidate: Candidate) -> int:
    return int(candidate.partial)


def _partial(candidate: Candidate, other: Candidate) -> str:
    if candidate.partial:
        return "its work is partial"
    return f"its work is whole, that of attempt {other.attempt} is partial"


def _by_judge(candidate: Candidate) -> int:
    return candidate.judge_rank or UNRANKED


def _judge(candidate: Candidate, other: Candidate) -> str:
    if _by_judge(candidate) < _by_judge(other):
        return f"the judge prefers it to attempt {other.attempt}"
    return f"the judge prefers attempt {other.attempt}"


def _by_tests_alone(candidate: Candidate) -> int:
    return int(candidate.by_tests_alone)


def _tests_alone(candidate: Candidate, other: Candidate) -> str:
    if candidate.by_tests_alone:
        return "the check passes since it changed the tests, and nothing else"
    return f"it did not make the check pass by changing tests alone, as attempt {other.attempt} did"


def _by_uncounted(candidate: Candidate) -> int:
    return candidate.uncounted


def _uncounted(candidate: Candidate, other: Candidate) -> str:
    own, others = candidate.uncounted, other.uncounted
    return f"{own} changed binary files outside tests, attempt {other.attempt} has {others}"


def _by_lines(candidate: Candidate) -> int:
    return candidate.changed_lines


def _lines(candidate: Candidate, other: Candidate) -> str:
    own, others = candidate.changed_lines, other.changed_lines
    return f"{own} changed lines outside tests, attempt {other.attempt} has {others}"


def _by_bytes(candidate: Candidate) -> int:
    return candidate.diff_bytes


def _bytes(candidate: Candidate, other: Candidate) -> str:
    own, others = candidate.diff_bytes, other.diff_bytes
    return f"its diff has {own} bytes, that of attempt {other.attempt} has {others}"


CRITERIA: tuple[
    tuple[Callable[[Candidate], int], Callable[[Candidate, Candidate], str]], ...
] = (
    (_by_standing, _standing),
    (_by_check, _check),
    (_by_partial, _partial),
    (_by_judge, _judge),
    (_by_tests_alone, _tests_alone),
    (_by_uncounted, _uncounted),
    (_by_lines, _lines),
    (_by_bytes, _bytes),
)
"""Place and words of each, the weightiest first."""
