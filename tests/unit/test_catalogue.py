"""The catalogue: the published names, and the fingerprint that every run records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from codex_counsel.contract import catalogue, vocabulary
from codex_counsel.contract.catalogue import TOOLS, ToolDescription, parameters


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


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_the_published_arguments_are_what_pydantic_derives(
    tool: ToolDescription,
) -> None:
    derived = TypeAdapter(tool.request).json_schema()
    published = parameters(tool.request)
    assert published.get("required") == derived.get("required")
    assert published["additionalProperties"] is derived["additionalProperties"] is False
    described = derived.get("properties", {})
    assert list(published["properties"]) == list(described)
    for name, argument in published["properties"].items():
        assert argument.items() <= not_null(described[name]).items()


def not_null(argument: dict[str, Any]) -> dict[str, Any]:
    """The argument as the one type that it has besides null; of a list, what its items are."""
    types = [part for part in argument.get("anyOf", ()) if part["type"] != "null"]
    whole = argument | types[0] if types else argument
    if "items" in whole:
        whole = whole | {"items": {"type": whole["items"]["type"]}}
    return whole
