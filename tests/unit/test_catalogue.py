"""The catalogue: the published names, and the fingerprint that every run records."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from codex_counsel.contract import catalogue, vocabulary


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    catalogue.fingerprint.cache_clear()
    yield
    catalogue.fingerprint.cache_clear()


def test_the_fingerprint_is_the_same_in_every_process_and_costs_no_pydantic() -> None:
    program = "import sys; from codex_counsel.contract import catalogue as c; print(c.fingerprint(), *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    found, *modules = done.stdout.split()
    assert found == catalogue.fingerprint()
    assert re.fullmatch("[0-9a-f]{12}", found)
    assert "pydantic" not in modules


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
