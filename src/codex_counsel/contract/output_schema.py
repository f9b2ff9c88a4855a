"""The caller's `output_schema`: refused before anything is spent where it cannot work, and the reply held against it.

Codex checks neither. What the API takes in strict mode, the mode that Codex asks for: an object at the root, every
object closed and with all its properties required, no composition but `anyOf`, references within the schema only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MAX_CHARACTERS = 120_000
MAX_DEPTH = 64
"""Levels of a schema or a reply that are looked at; the API itself takes ten levels of objects."""
REFUSED = (
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "$dynamicRef",
    "$recursiveRef",
)
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_SINGLE = ("items", "contains", "propertyNames", "unevaluatedItems", "unevaluatedProperties")

Schema = dict[str, Any]


def check(schema: Schema) -> Schema:
    """The schema itself; raises ValueError with the place and the rule it breaks."""
    if too_deep(schema):
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if len(_written(schema)) > MAX_CHARACTERS:
        raise ValueError(f"has more than {MAX_CHARACTERS} characters, the most that the API takes")
    try:
        _check_meaning(schema)
        _check_rules(schema)
    except (TypeError, AttributeError):  # drafts differ in what they say of each other's keywords
        raise ValueError("gives a keyword a value of the wrong kind") from None
    return schema


def _check_rules(schema: Schema) -> None:
    if schema.get("type") != "object" or "anyOf" in schema:
        raise ValueError('#: the root must be of type "object" and no anyOf')
    for place, part in _parts(schema, "#"):
        if problem := _problem(part, schema):
            raise ValueError(f"{place}: {problem}")


def _written(schema: Schema) -> str:
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        raise ValueError("holds a number or a character that JSON has no place for") from None
    return text


def _check_meaning(schema: Schema) -> None:
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        place = "/".join(["#", *map(str, error.absolute_path)])
        raise ValueError(f"is no JSON Schema at {place}: {error.message[:300]}") from None


def _parts(schema: Any, place: str) -> Iterator[tuple[str, Schema]]:
    """Every schema inside the schema, itself first, with its place as a JSON pointer."""
    if not isinstance(schema, dict):
        return
    yield place, schema
    for name in _MAPS:
        for key, part in (schema.get(name) or {}).items():
            yield from _parts(part, f"{place}/{name}/{key}")
    for name in _LISTS:
        for index, part in enumerate(schema.get(name) or ()):
            yield from _parts(part, f"{place}/{name}/{index}")
    for name in _SINGLE:
        yield from _parts(schema.get(name), f"{place}/{name}")


def _problem(part: Schema, root: Schema) -> str | None:
    if used := next((name for name in REFUSED if name in part), None):
        return f"{used} is not supported by the API"
    if "$ref" in part:
        return _reference_problem(part["$ref"], root)
    types = part.get("type")
    if "properties" not in part and types != "object" and not (isinstance(types, list) and "object" in types):
        return None
    if part.get("additionalProperties") is not False:
        return "an object needs additionalProperties: false"
    missing = sorted(set(part.get("properties") or {}) - set(part.get("required") or ()))
    return (
        f'required must list every property, also {missing[0]!r}; an optional one is ["T", "null"]' if missing else None
    )


def _reference_problem(reference: Any, root: Schema) -> str | None:
    seen = set()
    while reference not in seen:
        seen.add(reference)
        target = _target(reference, root)
        if target is None:
            return f"$ref {str(reference)[:100]!r} leads nowhere in this schema"
        if not isinstance(target, dict) or "$ref" not in target:
            return None
        reference = target["$ref"]
    return f"$ref {str(reference)[:100]!r} leads back to itself"


def _target(reference: Any, root: Schema) -> Any:
    """What a reference like `#/$defs/name` means; None for any other place."""
    if reference != "#" and not str(reference).startswith("#/"):
        return None
    found: Any = root
    for step in str(reference).split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def read(reply: str, schema: Schema) -> Any:
    """The reply as data; raises ValueError with where it is not what the schema asks for."""
    import jsonschema
    from referencing import Registry

    try:
        data = json.loads(reply)
        json.dumps(data, allow_nan=False)
    except (ValueError, RecursionError):
        raise ValueError("The reply is not the JSON that output_schema asks for") from None
    if too_deep(data):
        raise ValueError(f"The reply is nested deeper than {MAX_DEPTH} levels")
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    error = jsonschema.exceptions.best_match(validator(schema, registry=Registry()).iter_errors(data))
    if error:
        where = "/".join(str(part) for part in error.absolute_path) or "the reply"
        raise ValueError(f"The reply breaks output_schema at {where}: {error.message[:500]}")
    return data


def too_deep(value: Any, left: int = MAX_DEPTH) -> bool:
    """Whether lists and mappings are nested deeper than `left` levels."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return left == 0 or any(too_deep(item, left - 1) for item in inner)
