"""The blind judge: it is shown the diffs as A, B, C ... and says which is best. Pure.

It learns neither who made them nor what the check said. Whoever calls this has put them
in an order that means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from codex_counsel.prepare.prompt_parts import fenced, join_prompt
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean, cut, one_line, size

LETTERS = "ABCDE"
MAX_BYTES = 300_000
"""Of all the diffs together that the judge is shown."""
MAX_REASON = 600
"""Characters of a reason that a result shows."""
SCHEMA: JsonObject = {
    "type": "object",
    "additionalProperties": False,
    "required": ["ranking"],
    "properties": {
        "ranking": {
            "type": "array",
            "description": "all attempts, the best first",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["attempt", "reason"],
                "properties": {
                    "attempt": {"type": "string", "description": "its letter"},
                    "reason": {"type": "string"},
                },
            },
        }
    },
}


@dataclass(frozen=True)
class Opinion:
    """Where the judge puts an attempt (1 is the best), and why."""

    rank: int
    reason: str


def prompt(start: str, diffs: Sequence[str]) -> str:
    """What the judge is asked: `start`, then the diffs under their letters, each cut to an equal share of the room."""
    share = MAX_BYTES // max(len(diffs), 1)
    parts = []
    for letter, diff in zip(LETTERS, diffs, strict=False):
        attributes = {"letter": letter}
        if size(diff) > share:
            attributes["cut"] = f"the first {share} of {size(diff)} bytes"
        parts.append(fenced("attempt", cut(diff, share), attributes))
    return join_prompt(start, *parts)


def opinions(answer: str, shown: Sequence[int]) -> dict[int, Opinion]:
    """What the judge's answer says of each attempt, by its number. `shown` are the numbers in the order of the letters.

    Letters that mean nothing and repetitions are passed over. Raises ValueError for an
    answer that ranks nothing.
    """
    try:
        rows = list(json.loads(answer)["ranking"])
    except (KeyError, TypeError, RecursionError):
        raise ValueError("it has no ranking") from None
    numbers = dict(zip(LETTERS, shown, strict=False))
    found: dict[int, Opinion] = {}
    for row in rows:
        match row:
            case {"attempt": str(letter), "reason": str(reason)}:
                number = numbers.pop(letter.strip().upper(), None)
            case _:
                continue
        if number is not None:
            text = one_line(clean(reason), MAX_REASON)
            found[number] = Opinion(len(found) + 1, text)
    if not found:
        raise ValueError("it ranks none of the attempts")
    return found
