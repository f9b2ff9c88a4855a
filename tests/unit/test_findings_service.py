"""The findings on record, as they are listed."""

from __future__ import annotations

import pytest

from codex_counsel.services.findings import digits_that_differ


@pytest.mark.parametrize(
    ("ids", "digits"),
    [
        ([], 4),
        (["0123456789abcdef"], 4),
        (["0123456789abcdef", "fedcba9876543210"], 4),
        (["0123456789abcdef", "ff", "0123456789abcdee"], 16),
    ],
)
def test_as_many_digits_of_an_id_are_shown_as_tell_it_from_all_others(
    ids: list[str], digits: int
) -> None:
    assert digits_that_differ(ids) == digits
