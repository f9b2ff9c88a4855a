"""Which of several attempts ranks first, and why."""

from __future__ import annotations

import itertools

import pytest

from codex_counsel.attempts.ranking import Candidate, Rank, is_test, rank
from codex_counsel.contract.vocabulary import CHECK_STATUSES


def order(*candidates: Candidate) -> list[tuple[int, int, str]]:
    return [(row.attempt, row.rank, row.why) for row in rank(candidates)]


def test_a_passed_check_outranks_the_judge_and_the_size() -> None:
    assert order(
        Candidate(1, "changed", "failed", 1, changed_lines=1, diff_bytes=10),
        Candidate(2, "changed", "passed", 2, changed_lines=90, diff_bytes=900),
    ) == [(2, 1, "check passed"), (1, 2, "check failed")]


def test_a_check_that_says_nothing_ranks_between_passed_and_failed() -> None:
    statuses = sorted(CHECK_STATUSES)
    ranks = rank(
        [
            Candidate(number, "changed", status)
            for number, status in enumerate(statuses, 1)
        ]
    )
    by_status = {statuses[row.attempt - 1]: row.rank for row in ranks}
    assert by_status == {
        "passed": 1,
        "not_run": 2,
        "not_started": 2,
        "timed_out": 2,
        "failed": 5,
    }


def test_the_judge_outranks_the_size() -> None:
    assert order(
        Candidate(1, "changed", "passed", 2, changed_lines=1),
        Candidate(2, "changed", "passed", 1, changed_lines=90),
    ) == [
        (2, 1, "the judge prefers it to attempt 1"),
        (1, 2, "the judge prefers attempt 2"),
    ]


def test_an_attempt_that_the_judge_left_out_comes_after_those_it_ranked() -> None:
    assert [
        row.attempt
        for row in rank(
            [Candidate(1, "changed"), Candidate(2, "changed", judge_rank=2)]
        )
    ] == [2, 1]


def test_fewer_changed_lines_outside_tests_win_then_fewer_bytes() -> None:
    assert order(
        Candidate(1, "changed", changed_lines=12, diff_bytes=100),
        Candidate(2, "changed", changed_lines=4, diff_bytes=500),
        Candidate(3, "changed", changed_lines=4, diff_bytes=300),
    ) == [
        (3, 1, "its diff has 300 bytes, that of attempt 2 has 500"),
        (2, 2, "its diff has 500 bytes, that of attempt 3 has 300"),
        (1, 3, "12 changed lines outside tests, attempt 2 has 4"),
    ]


def test_partial_work_ranks_by_its_check_and_then_last() -> None:
    assert order(
        Candidate(1, "changed", judge_rank=1, partial=True),
        Candidate(2, "changed", judge_rank=2),
        Candidate(3, "changed", "passed", partial=True),
    ) == [
        (3, 1, "check passed"),
        (2, 2, "check not run"),
        (1, 3, "its work is partial"),
    ]


def test_a_check_that_only_changed_tests_turned_green_is_worth_less() -> None:
    assert order(
        Candidate(1, "changed", "passed", by_tests_alone=True),
        Candidate(2, "changed", "passed", changed_lines=90),
        Candidate(3, "changed", "failed", changed_lines=1),
    ) == [
        (
            2,
            1,
            "it did not make the check pass by changing tests alone, as attempt 1 did",
        ),
        (1, 2, "the check passes since it changed the tests, and nothing else"),
        (3, 3, "check failed"),
    ]


def test_lines_that_git_does_not_count_do_not_make_a_diff_small() -> None:
    assert order(
        Candidate(1, "changed", uncounted=1), Candidate(2, "changed", changed_lines=90)
    ) == [
        (2, 1, "0 changed binary files outside tests, attempt 1 has 1"),
        (1, 2, "1 changed binary files outside tests, attempt 2 has 0"),
    ]


def test_what_did_not_end_well_comes_last_whatever_else_speaks_for_it() -> None:
    assert order(
        Candidate(1, "nothing", error="usage_limit"),
        Candidate(2, "cut_short", judge_rank=1, error="timeout"),
        Candidate(3, "unchanged", "passed"),
        Candidate(4, "changed", "failed", changed_lines=900),
    ) == [
        (4, 1, "it ended with a change"),
        (3, 2, "it changed nothing"),
        (2, 3, "it did not end well (timeout); what it had done is kept"),
        (1, 4, "it did not end well (usage_limit)"),
    ]


def test_equal_attempts_share_a_place_and_say_so() -> None:
    assert rank(
        [
            Candidate(1, "changed", changed_lines=9),
            Candidate(2, "changed", changed_lines=4),
            Candidate(3, "changed", changed_lines=4),
        ]
    ) == [
        Rank(2, 1, "4 changed lines outside tests, attempt 1 has 9", (3,)),
        Rank(3, 1, "4 changed lines outside tests, attempt 1 has 9", (2,)),
        Rank(1, 3, "9 changed lines outside tests, attempt 2 has 4"),
    ]


def test_nothing_tells_attempts_apart_that_are_all_equal() -> None:
    ranks = rank([Candidate(1, "changed"), Candidate(2, "changed")])
    assert [row.why for row in ranks] == ["nothing tells them apart"] * 2
    assert [row.tied_with for row in ranks] == [(2,), (1,)]


def test_the_order_in_which_attempts_are_given_decides_nothing() -> None:
    candidates = [
        Candidate(1, "changed", "passed", 3, 5, 50),
        Candidate(2, "changed", "passed", 2, 7, 70),
        Candidate(3, "changed", "failed", 1, 1, 10),
        Candidate(4, "nothing", error="cancelled"),
    ]
    for permutation in itertools.permutations(candidates):
        assert [row.attempt for row in rank(permutation)] == [2, 1, 3, 4]


@pytest.mark.parametrize(
    "path",
    [
        "tests/data.bin",
        "src/Test/java/X.java",
        "pkg/__tests__/a.ts",
        "test_app.py",
        "app_test.go",
        "app.test.ts",
        "app.spec.tsx",
        "conftest.py",
        "AppTest.java",
        "AppTests.cs",
        "user_spec.rb",
    ],
)
def test_the_names_of_tests_are_known(path: str) -> None:
    assert is_test(path)


@pytest.mark.parametrize(
    "path",
    [
        "app.py",
        "latest.py",
        "contest.py",
        "attestation.go",
        "src/testing.py",
        "fastest/a.c",
    ],
)
def test_names_that_only_contain_the_word_are_no_tests(path: str) -> None:
    assert not is_test(path)
