"""The answers of a node, checked: it may be of another release, be broken, or lie.

Dask itself unpickles what a node sends, so these checks keep a batch from harm by mistakes, and not by a node that is
hostile: see SECURITY.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean, one_line

MAX_COUNT = 2**53
"""More than any count that a node has to tell."""
MAX_TEXT = 2_000
"""Characters of a text that is shown."""
MAX_DETAILS = 50

Answer = dict[str, Any]


class WrongAnswerError(Exception):
    """A node answered what no node of this release answers."""


def checked(answer: object) -> Answer:
    """The answer of a call. Raises the CounselError that it names in place of one, and WrongAnswerError."""
    if not isinstance(answer, dict):
        raise WrongAnswerError("its answer is none")
    if "error" in answer and "is" not in answer:
        raise error_from(answer["error"])
    return answer


def count(answer: Mapping[str, Any], name: str) -> int:
    """A number of an answer, not negative. Raises WrongAnswerError."""
    value = answer.get(name)
    # A bool is an int too.
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise WrongAnswerError(f"{name} is no count")
    return value


def text(answer: Mapping[str, Any], name: str) -> str:
    """A text of an answer, fit to be shown. Raises WrongAnswerError."""
    value = answer.get(name)
    if not isinstance(value, str):
        raise WrongAnswerError(f"{name} is no text")
    return one_line(clean(value), MAX_TEXT)


def texts(answer: Mapping[str, Any], name: str, most: int) -> list[str]:
    """At most so many texts of an answer, fit to be shown. Raises WrongAnswerError."""
    values = answer.get(name)
    if not isinstance(values, list):
        raise WrongAnswerError(f"{name} is no list")
    return [text({name: value}, name) for value in values[:most]]


def data(answer: Mapping[str, Any], name: str, size: int) -> bytes:
    """Bytes of an answer, so many. Raises WrongAnswerError."""
    value = answer.get(name)
    if not isinstance(value, bytes) or len(value) != size:
        raise WrongAnswerError(f"{name} has not as many bytes as were told")
    return value


def error_from(raw: Any) -> CounselError:
    """The error that a node names; one of its own release becomes `cluster_failed`."""
    match raw:
        case {"code": str(code), "message": str(message)}:
            pass
        case _:
            return CounselError(Code.CLUSTER_FAILED, "A node answered what it may not")
    message, repair = one_line(clean(message), MAX_TEXT), raw.get("repair")
    if isinstance(repair, str):
        repair = one_line(clean(repair), MAX_TEXT)
    else:
        repair = None
    try:
        known = Code(code)
    except ValueError:
        shown = one_line(clean(code), 80)
        return CounselError(Code.CLUSTER_FAILED, f"{shown}: {message}", repair=repair)
    return CounselError(
        known,
        message,
        repair=repair,
        retry_after_ms=_milliseconds(raw.get("retry_after_ms")),
        details=_details(raw.get("details")),
    )


def _milliseconds(value: object) -> int | None:
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        return None
    return value


def _details(value: Any) -> JsonObject:
    """Texts and numbers, by their names."""
    if not isinstance(value, dict) or len(value) > MAX_DETAILS:
        return {}
    details: JsonObject = {}
    for name, item in value.items():
        if not isinstance(name, str):
            continue
        if isinstance(item, str):
            details[clean(name)] = one_line(clean(item), MAX_TEXT)
        elif type(item) is int and abs(item) <= MAX_COUNT:
            details[clean(name)] = item
    return details
