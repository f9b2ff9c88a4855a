"""JSON back to dataclasses: fields of the wrong kind are refused, with the place where they are."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from codex_counsel.system.files import read_json_or_none
from codex_counsel.system.json_values import Json

T = TypeVar("T")


def read_file(kind: type[T], file: Path) -> T | None:
    """The dataclass that a file holds as JSON; None where it is missing, unreadable or damaged."""
    try:
        value: T = read(kind, read_json_or_none(file), file.name)
    except ValueError:
        return None
    return value


def read(kind: Any, value: Json, place: str) -> Any:
    """The value as an instance of the annotation `kind`. Unknown keys are ignored.

    Raises ValueError with the place of the value, whose beginning is `place`.
    """
    if kind is Any:
        return value
    if is_dataclass(kind):
        return _read_object(kind, value, place)

    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        matches = value in arguments
    elif origin is list:
        matches = isinstance(value, list)
    elif origin is dict:
        matches = isinstance(value, dict)
    elif NoneType in arguments:
        return None if value is None else read(arguments[0], value, place)
    else:
        # bool is a subclass of int, but `true` is no number.
        matches = isinstance(value, kind) and (
            kind is bool or not isinstance(value, bool)
        )

    if not matches:
        raise ValueError(f"{place} is of the wrong kind")
    if origin is list:
        return [
            read(arguments[0], item, f"{place}[{index}]")
            for index, item in enumerate(value)
        ]
    return value


def _read_object(kind: Any, value: Json, place: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{place} is of the wrong kind")  # noqa: TRY004  # what a caller of `parse` expects

    annotations = _annotations(kind)
    arguments = {}
    for item in fields(kind):
        if item.name in value:
            arguments[item.name] = read(
                annotations[item.name], value[item.name], f"{place}.{item.name}"
            )
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{place}.{item.name} is missing")
    return kind(**arguments)


_annotations = cache(get_type_hints)
