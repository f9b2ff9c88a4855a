"""SECURITY.md lists the attacks that the tests try."""

from __future__ import annotations

from tests.e2e.escape.table import PAGE, attacks, page_with_table

COMMAND = "uv run python -m tests.e2e.escape.table"


def test_the_table_of_attacks_is_that_of_the_tests() -> None:
    page = PAGE.read_text("utf-8")
    assert page == page_with_table(page), f"run `{COMMAND}`"


def test_no_attack_is_listed_twice() -> None:
    sentences = [row.attack for row in attacks()]
    assert sorted(sentences) == sorted(set(sentences))
