"""Results that fit the client: a byte budget, the whole kept on disk, pages that joined are the stored text."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.text import cut, size

BUDGETS = {"full": 40_000, "summary": 6_000}
"""Bytes of one envelope as compact JSON. Claude Code shows 50,000 characters of a result inline."""
PAGED = ("answer", "findings", "diff", "data", "files", "ignored", "checks", "questions", "next_steps", "assumptions")
_SMALL = 1_000
_RESERVE = 300
_FEW = 10
_CUT = "… [cut here: too long for a page; detail full shows more, result.json in the job's directory all of it]"


def fit(wire: EnvelopeDict, detail: str) -> EnvelopeDict:
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


def _shortened(coverage: EnvelopeDict) -> EnvelopeDict:
    """The first omissions and how many more there are: `detail: full` lists them."""
    listed = coverage.get("omitted", [])
    if len(listed) <= _FEW:
        return coverage
    rest = {"path": f"(and {len(listed) - _FEW} more, with detail full)", "reason": "listing"}
    return {**coverage, "omitted": [*listed[:_FEW], rest]}


def page(wire: EnvelopeDict, cursor: str, detail: str) -> EnvelopeDict:
    """The page a cursor names; `invalid_arguments` for one that does not belong to this result."""
    name, offset = _parse(wire, cursor)
    long = _long_fields(wire)
    kept = {"job_id", "session_id", "server_version"}
    meta = {key: value for key, value in wire["meta"].items() if key in kept}
    page = {key: wire[key] for key in ("ok", "status", "tool")} | {"summary": f"further part: {name}", "meta": meta}
    rest = long[long.index(name) :] if name in long else [name]
    return _filled(page, wire, rest[:1], offset=offset, budget=BUDGETS[detail], later=rest[1:])


def _filled(
    page: EnvelopeDict, wire: EnvelopeDict, long: list[str], *, offset: int, budget: int, later: Sequence[str] = ()
) -> EnvelopeDict:
    left, room = budget - _bytes(page) - _RESERVE, budget - _SMALL
    for index, name in enumerate(long):
        part, end = _prefix(wire[name], offset, left, room)
        page[name] = part
        if end is not None:
            return _continued(page, f"{name}:{end}:{_mark(wire[name])}")
        left -= _bytes(part)
        following = long[index + 1 :]
        if following and left < _SMALL:
            return _continued(page, f"{following[0]}:0:{_mark(wire[following[0]])}")
        offset = 0
    if later:
        return _continued(page, f"{later[0]}:0:{_mark(wire[later[0]])}")
    lists = [wire[name] for name in _long_fields(wire) if isinstance(wire[name], list)]
    if any(_bytes(item) >= room for items in lists for item in items):
        page["meta"]["truncated"] = True
    return page


def _continued(page: EnvelopeDict, cursor: str) -> EnvelopeDict:
    page["meta"] |= {"truncated": True, "next_cursor": cursor}
    return page


def _prefix(value: Any, offset: int, budget: int, room: int) -> tuple[Any, int | None]:
    """As much of the value from `offset` on as fits, and where to go on; None when that is the end."""
    if isinstance(value, list):
        return _some_items(value, offset, budget, room)
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


def leading(rows: list[Any]) -> list[Any]:
    """As many of the rows as one page of a list holds."""
    room = BUDGETS["full"] - _SMALL
    return _some_items(rows, 0, room, room)[0]


def _some_items(items: list[Any], offset: int, left: int, room: int) -> tuple[list[Any], int | None]:
    """What is too long for what is left goes to the next page; what is too long for any page is cut."""
    taken: list[Any] = []
    for item in items[offset:]:
        shown = item if _bytes(item) < room else _cut_down(item, room)
        left -= _bytes(shown) + 1
        if left < 0:
            return taken, offset + len(taken)
        taken.append(shown)
    return taken, None


def _cut_down(item: Any, room: int) -> Any:
    """The item with its long strings cut and marked; as the begin of its JSON where that does not help."""
    room = limit = room - 1
    while limit > len(_CUT):
        limit //= 2
        if _bytes(shorter := _trimmed(item, limit)) <= room:
            return shorter
    return _shrunk(_text(item), room - size(_CUT) - 2) + _CUT


def _trimmed(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return value if size(value) <= limit else cut(value, limit) + _CUT
    if isinstance(value, dict):
        return {name: _trimmed(item, limit) for name, item in value.items()}
    return [_trimmed(item, limit) for item in value] if isinstance(value, list) else value


def _long_fields(wire: EnvelopeDict) -> list[str]:
    return [name for name in PAGED if name in wire and _bytes(wire[name]) > _SMALL]


def _parse(wire: EnvelopeDict, cursor: str) -> tuple[str, int]:
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
