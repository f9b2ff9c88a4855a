"""Results that fit the client: a byte budget, the whole kept on disk, pages that joined are the stored text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from codex_counsel.envelope import Wire
from codex_counsel.errors import Code, CounselError
from codex_counsel.text import cut, size

BUDGETS = {"full": 40_000, "summary": 6_000}
"""Bytes of one envelope as compact JSON. Claude Code shows 50,000 characters of a result inline."""
PAGED = ("answer", "findings", "diff", "data", "files", "ignored", "checks", "questions", "next_steps", "assumptions")
_SMALL = 1_000
_RESERVE = 300
_FEW = 10


def fit(wire: Wire, detail: str) -> Wire:
    """The first page: everything small, then the long fields in their order as far as the budget goes."""
    budget = BUDGETS[detail]
    if _bytes(wire) <= budget:
        return wire
    long = _long_fields(wire)
    page = {name: value for name, value in wire.items() if name not in long}
    page["meta"] = dict(page["meta"])
    if detail == "summary" and "coverage" in page:
        page["coverage"] = _shortened(page["coverage"])
    return _filled(page, wire, long, offset=0, budget=budget)


def _shortened(coverage: Wire) -> Wire:
    """The first omissions and how many more there are: `detail: full` lists them."""
    listed = coverage.get("omitted", [])
    if len(listed) <= _FEW:
        return coverage
    rest = {"path": f"(and {len(listed) - _FEW} more, with detail full)", "reason": "listing"}
    return {**coverage, "omitted": [*listed[:_FEW], rest]}


def page(wire: Wire, cursor: str, detail: str) -> Wire:
    """The page a cursor names; `invalid_arguments` for one that does not belong to this result."""
    name, offset = _parse(wire, cursor)
    long = _long_fields(wire)
    kept = {"job_id", "session_id", "server_version"}
    meta = {key: value for key, value in wire["meta"].items() if key in kept}
    page = {key: wire[key] for key in ("ok", "status", "tool")} | {"summary": f"further part: {name}", "meta": meta}
    rest = long[long.index(name) :] if name in long else [name]
    return _filled(page, wire, rest[:1], offset=offset, budget=BUDGETS[detail], later=rest[1:])


def _filled(page: Wire, wire: Wire, long: list[str], *, offset: int, budget: int, later: Sequence[str] = ()) -> Wire:
    left = budget - _bytes(page) - _RESERVE
    for index, name in enumerate(long):
        part, end = _prefix(wire[name], offset, left)
        page[name] = part
        if end is not None:
            return _continued(page, f"{name}:{end}:{_mark(wire[name])}")
        left -= _bytes(part)
        following = long[index + 1 :]
        if following and left < _SMALL:
            return _continued(page, f"{following[0]}:0:{_mark(wire[following[0]])}")
        offset = 0
    return _continued(page, f"{later[0]}:0:{_mark(wire[later[0]])}") if later else page


def _continued(page: Wire, cursor: str) -> Wire:
    page["meta"] |= {"truncated": True, "next_cursor": cursor}
    return page


def _prefix(value: Any, offset: int, budget: int) -> tuple[Any, int | None]:
    """As much of the value from `offset` on as fits, and where to go on; None when that is the end."""
    if isinstance(value, list):
        return _some_items(value, offset, budget)
    if not isinstance(value, str):
        if not offset and _bytes(value) <= budget:
            return value, None
        value = _text(value)
    rest = value[offset:]
    part = rest if _bytes(rest) <= budget else _shrunk(rest, budget)
    return part, None if len(part) == len(rest) else offset + len(part)


def _shrunk(text: str, budget: int) -> str:
    part = cut(text, max(budget, 200))
    while _bytes(part) > budget and len(part) > 100:
        part = part[: max(int(len(part) * budget / _bytes(part)) - 8, 100)]
    return part


def _some_items(items: list[Any], offset: int, budget: int) -> tuple[list[Any], int | None]:
    taken: list[Any] = []
    for item in items[offset:]:
        budget -= _bytes(item) + 1
        if budget < 0 and taken:
            return taken, offset + len(taken)
        taken.append(item)
    return taken, None


def _long_fields(wire: Wire) -> list[str]:
    return [name for name in PAGED if name in wire and _bytes(wire[name]) > _SMALL]


def _parse(wire: Wire, cursor: str) -> tuple[str, int]:
    name, _, rest = cursor.partition(":")
    offset, _, mark = rest.partition(":")
    if name not in PAGED or name not in wire or not re.fullmatch("[0-9]{1,12}", offset) or mark != _mark(wire[name]):
        raise CounselError(Code.INVALID_ARGUMENTS, "cursor: belongs to no page of this result")
    return name, int(offset)


def _mark(value: Any) -> str:
    return hashlib.sha256(_text(value).encode("utf-8", "replace")).hexdigest()[:8]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _bytes(value: Any) -> int:
    return size(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
