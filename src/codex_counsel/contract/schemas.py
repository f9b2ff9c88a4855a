"""The JSON Schemas of what is printed with --json, as the files in `schema/` have them. Each stands alone."""

from __future__ import annotations

import copy

from codex_counsel.contract.catalogue import TOOLS, envelope_schema
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.system.json_values import Json, JsonObject

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMESPACE = "urn:codex-counsel:schema:"


def documents() -> dict[str, JsonObject]:
    """Name of the file to its schema."""
    return {
        "envelope.json": _envelope(),
        "finding.json": _finding(),
        "result.json": _result(),
    }


def _envelope() -> JsonObject:
    """The schema that the server has as a resource."""
    return _document(
        "envelope",
        "What every tool returns, and every command prints with --json",
        envelope_schema(),
    )


def _finding() -> JsonObject:
    """A member of `findings`, with the definitions that it uses."""
    definitions: JsonObject = envelope_schema()["$defs"]
    used: list[str] = []
    _collect(definitions["Finding"], definitions, used)
    schema = {**definitions["Finding"]}
    if used:
        schema["$defs"] = {name: definitions[name] for name in sorted(used)}
    return _document("finding", "A finding of a review", schema)


def _result() -> JsonObject:
    """The envelope of a run that has ended: with `error`, or completed."""
    schema = copy.deepcopy(envelope_schema())
    runs = [tool.request.tool for tool in TOOLS if tool.runs_model]
    schema["properties"]["status"]["enum"] = list(TERMINAL)
    schema["properties"]["tool"]["enum"] = sorted(set(runs))
    schema["if"] = {"properties": {"ok": {"const": True}}}
    schema["then"] = {"properties": {"status": {"const": "completed"}}}
    schema["else"] = {
        "properties": {
            "status": {"enum": ["failed", "cancelled"]},
            "error": {"type": "object"},
        },
        "required": ["error"],
    }
    return _document("result", "What a run that has ended prints with --json", schema)


def _collect(value: Json, definitions: JsonObject, used: list[str]) -> None:
    """Add the names of the definitions that the value refers to, also by others."""
    if isinstance(value, list):
        for item in value:
            _collect(item, definitions, used)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key != "$ref":
            _collect(item, definitions, used)
            continue
        name = str(item).rpartition("/")[2]
        if name not in used:
            used.append(name)
            _collect(definitions[name], definitions, used)


def _document(name: str, title: str, schema: JsonObject) -> JsonObject:
    return {
        **schema,
        "$schema": DIALECT,
        "$id": f"{NAMESPACE}{name}",
        "title": title,
    }
