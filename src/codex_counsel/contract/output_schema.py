"""The caller's `output_schema`: refused before anything is spent if it cannot work; the reply is validated with it.

Codex checks neither. The API takes in strict mode, the mode that Codex asks for: an
object at the root, every object closed and with all its properties required, no
composition but `anyOf`, references within the schema only.

Imports jsonschema, so it is imported only where there is such a schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from codex_counsel.system.json_values import MAX_DEPTH, Json, JsonObject, too_deep

MAX_CHARACTERS = 120_000
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
MAPS = ("properties", "$defs", "definitions", "patternProperties")
LISTS = ("anyOf", "oneOf", "prefixItems")
SINGLE = (
    "items",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)
"""Keywords whose value holds schemas: by name, in a list, or one."""

Schema = JsonObject


# --- the schema


def check_schema(schema: Schema) -> Schema:
    """The schema itself; raises ValueError with the place and the rule it breaks."""
    if too_deep(schema):
        raise ValueError(f"is nested deeper than {MAX_DEPTH} levels")
    if len(_as_json(schema)) > MAX_CHARACTERS:
        raise ValueError(
            f"has more than {MAX_CHARACTERS} characters, the most that the API takes"
        )
    try:
        _check_against_its_draft(schema)
        _check_against_the_api(schema)
    except (TypeError, AttributeError):
        # A keyword that one draft does not know may have a value of any type, and the
        # walk below expects its type.
        raise ValueError("gives a keyword a value of the wrong kind") from None
    return schema


def _as_json(schema: Schema) -> str:
    try:
        text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        raise ValueError(
            "has a number or a character that JSON cannot express"
        ) from None
    return text


def _check_against_its_draft(schema: Schema) -> None:
    try:
        _validator_class(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        place = "/".join(["#", *map(str, error.absolute_path)])
        raise ValueError(
            f"is no JSON Schema at {place}: {error.message[:300]}"
        ) from None


def _validator_class(schema: Schema) -> type[Validator]:
    """The validator of the draft that the schema names, else of the draft 2020-12."""
    return validator_for(schema, default=jsonschema.Draft202012Validator)


def _check_against_the_api(schema: Schema) -> None:
    if schema.get("type") != "object" or "anyOf" in schema:
        raise ValueError('#: the root must be of type "object" and no anyOf')
    for place, part in _parts(schema, "#"):
        problem = _problem(part, schema)
        if problem:
            raise ValueError(f"{place}: {problem}")


def _parts(schema: Json, place: str) -> Iterator[tuple[str, Schema]]:
    """Every schema inside the schema, itself first, with its place as a JSON pointer."""
    if not isinstance(schema, dict):
        return
    yield place, schema
    for name in MAPS:
        for key, part in (schema.get(name) or {}).items():
            yield from _parts(part, f"{place}/{name}/{key}")
    for name in LISTS:
        for index, part in enumerate(schema.get(name) or ()):
            yield from _parts(part, f"{place}/{name}/{index}")
    for name in SINGLE:
        yield from _parts(schema.get(name), f"{place}/{name}")


def _problem(part: Schema, root: Schema) -> str | None:
    """The rule of the API that this part of the schema breaks, or None."""
    for name in REFUSED:
        if name in part:
            return f"{name} is not supported by the API"
    if "$ref" in part:
        return _reference_problem(part["$ref"], root)
    if not _is_object(part):
        return None

    if part.get("additionalProperties") is not False:
        return "an object needs additionalProperties: false"
    optional = set(part.get("properties") or {}) - set(part.get("required") or ())
    if optional:
        return f'required must list every property, also {min(optional)!r}; an optional one is ["T", "null"]'
    return None


def _is_object(part: Schema) -> bool:
    types = part.get("type")
    if "properties" in part or types == "object":
        return True
    return isinstance(types, list) and "object" in types


def _reference_problem(reference: Json, root: Schema) -> str | None:
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


def _target(reference: Json, root: Schema) -> Json:
    """What a reference like `#/$defs/name` means; None for any other place."""
    if reference != "#" and not str(reference).startswith("#/"):
        return None
    target: Json = root
    for step in str(reference).split("/")[1:]:
        if not isinstance(target, dict):
            return None
        name = step.replace("~1", "/").replace("~0", "~")
        target = target.get(name)
    return target


# --- the reply


def read_reply(reply: str, schema: Schema) -> Json:
    """The reply as data; raises ValueError with the place where it is not what the schema asks for."""
    try:
        data = json.loads(reply)
        json.dumps(data, allow_nan=False)
    except (ValueError, RecursionError):
        raise ValueError(
            "The reply is not the JSON that output_schema asks for"
        ) from None
    if too_deep(data):
        raise ValueError(f"The reply is nested deeper than {MAX_DEPTH} levels")

    # An empty registry: no reference makes this process fetch anything.
    validator = _validator_class(schema)(schema, registry=Registry())
    error = best_match(validator.iter_errors(data))
    if error:
        place = "/".join(str(part) for part in error.absolute_path) or "the reply"
        raise ValueError(
            f"The reply breaks output_schema at {place}: {error.message[:500]}"
        )
    return data
