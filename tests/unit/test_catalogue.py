"""The catalogue: the published names, and the fingerprint that every run records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from codex_counsel.contract import catalogue, vocabulary


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    catalogue.fingerprint.cache_clear()
    yield
    catalogue.fingerprint.cache_clear()


def test_the_fingerprint_changes_with_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    before = catalogue.fingerprint()
    first, *others = catalogue.TOOLS
    monkeypatch.setattr(
        catalogue, "TOOLS", (replace(first, description="Another."), *others)
    )
    catalogue.fingerprint.cache_clear()
    assert catalogue.fingerprint() != before


def test_the_fingerprint_changes_with_the_words_of_the_wire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = catalogue.fingerprint()
    monkeypatch.setattr(vocabulary, "VERDICTS", ("pass", "fail"))
    catalogue.fingerprint.cache_clear()
    assert catalogue.fingerprint() != before


def test_docstrings_of_the_code_are_not_published() -> None:
    schema = catalogue.envelope_schema()
    assert "description" not in schema
    assert ["description" in part for part in schema["$defs"].values()] == [
        False
    ] * len(schema["$defs"])
