"""The caller's `output_schema`: refused before anything is spent if it cannot work; the reply is validated with it.

Codex checks neither. The API takes in strict mode, the mode that Codex asks for: an
object at the root, every object closed and with all its properties required, no
composition but `anyOf`, references within the schema only.

Imports jsonschema, so it is imported only where there is such a schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import jsonschema
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry

from codex_counsel.system.json_values import MAX_DEPTH, Json, JsonObject, too_deep

MAX_CHARACTERS = 120_000
MAX_VALUES = 5000
"""All values in the schema: keywords, names, members of an `enum`. The API itself takes 1000 members."""
MAX_SCHEMAS = 1500
"""Of these values, objects and booleans: each may be a schema. Checking a schema with its draft takes about half a
millisecond, and the server answers nobody meanwhile."""
MAX_PATTERN = 1000
"""Characters of one `pattern`."""
MAX_REFERENCES = 32
"""References that lead from one to the next. Each takes a few levels of Python's stack."""
INLINE_FLAGS = re.compile(r"\(\?[aiLmsux-]")
"""No part of the regular expressions of JSON Schema. With `(?i)` a range takes Python 16 ms to compile."""
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
        _check_size(schema)
        _check_against_its_draft(schema)
        _check_against_the_api(schema)
        _check_for_loops(schema)
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


def _check_size(schema: Schema) -> None:
    """Bound what all other checks cost."""
    waiting: list[Json] = [schema]
    values = 0
    schemas = 0
    while waiting:
        value = waiting.pop()
        values += 1
        schemas += isinstance(value, dict | bool)
        if isinstance(value, dict):
            _check_patterns(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        if values > MAX_VALUES or schemas > MAX_SCHEMAS:
            raise ValueError(
                f"has more than {MAX_VALUES} values, or {MAX_SCHEMAS} objects and booleans"
            )


def _check_patterns(part: JsonObject) -> None:
    for pattern in (part.get("pattern"), *(part.get("patternProperties") or ())):
        if not isinstance(pattern, str):
            continue
        if len(pattern) > MAX_PATTERN:
            raise ValueError(f"has a pattern of more than {MAX_PATTERN} characters")
        if INLINE_FLAGS.search(pattern):
            raise ValueError(
                "has a pattern with flags such as (?i), which JSON Schema does not know"
            )


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
        if len(seen) >= MAX_REFERENCES:
            return f"more than {MAX_REFERENCES} references lead from one to the next"
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


def _check_for_loops(root: Schema) -> None:
    """Raise where a schema applies itself to the very same value: validating a reply would never end."""
    checked: set[int] = set()
    for place, part in _parts(root, "#"):
        # The schemas on the way from `part` to the one looked at, with those still to be
        # visited below each.
        way = [(id(part), iter(_applied_in_place(part, root)))]
        entered = {id(part)}
        while way:
            current, following = way[-1]
            step = next(following, None)
            if step is None:
                way.pop()
                entered.discard(current)
                checked.add(current)
            elif id(step) in entered:
                raise ValueError(f"{place}: the schema applies itself without end")
            elif id(step) not in checked:
                entered.add(id(step))
                way.append((id(step), iter(_applied_in_place(step, root))))


def _applied_in_place(part: Schema, root: Schema) -> list[Schema]:
    """The schemas that a value must fulfil, or may, because it has to fulfil `part`."""
    applied = [*(part.get("anyOf") or ()), *(part.get("oneOf") or ())]
    if "$ref" in part:
        applied.append(_target(part["$ref"], root))
    return [schema for schema in applied if isinstance(schema, dict)]


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
    try:
        error = best_match(validator.iter_errors(data))
    except RecursionError:
        raise ValueError(
            "The reply cannot be validated: output_schema or the reply is nested too deeply"
        ) from None
    if error:
        place = "/".join(str(part) for part in error.absolute_path) or "the reply"
        raise ValueError(
            f"The reply breaks output_schema at {place}: {error.message[:500]}"
        )
    return data
