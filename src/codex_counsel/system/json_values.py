"""Parsed JSON: names for the types of its values, and a limit on how deep they are nested."""

from __future__ import annotations

from typing import Any

Json = Any
"""A value of parsed JSON, as it comes from outside: its shape is checked where it is used."""
JsonObject = dict[str, Json]

MAX_DEPTH = 64
"""Levels of lists and objects that are looked at; the API itself takes ten levels of objects."""


def too_deep(value: Json, levels: int = MAX_DEPTH) -> bool:
    """Whether lists and objects are nested deeper than `levels`."""
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    else:
        return False
    if levels == 0:
        return True
    return any(too_deep(item, levels - 1) for item in inner)
