"""Tests that stand alone as rows of the table of attacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True)
class Attack:
    """A row. `read_only` and `delegate` are "held", or say what happens instead."""

    attack: str
    read_only: str
    delegate: str
    tested: str


ATTACKS: list[Attack] = []
"""Those of tests that stand alone; those of the matrix are in `ATTEMPTS` and `TRAPS`."""
Test = TypeVar("Test", bound=Callable[..., Any])


def attack(
    sentence: str, *, read_only: str = "held", delegate: str = "held"
) -> Callable[[Test], Test]:
    """Make a test a row of the table."""

    def add(test: Test) -> Test:
        ATTACKS.append(Attack(sentence, read_only, delegate, f"`{test.__name__}`"))
        return test

    return add
