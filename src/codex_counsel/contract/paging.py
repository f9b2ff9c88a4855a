"""Results that fit the client: a byte budget per page; the whole result stays on disk.

A page is a wire envelope whose long fields are there in part. `meta.next_cursor` is
`FIELD:OFFSET:HASH`; the offset counts characters of a text or items of a list. The
parts of a field, joined over all pages, are its stored value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json
from codex_counsel.system.text import cut, size

BUDGETS = {"full": 40_000, "summary": 6_000}
"""Bytes of one envelope as compact JSON. Claude Code shows 50,000 characters of a result inline."""
PAGED = (
    "answer",
    "findings",
    "resolved",
    "attempts",
    "diff",
    "data",
    "files",
    "ignored",
    "checks",
    "questions",
    "next_steps",
    "assumptions",
)
"""The fields that may be cut, in the order in which they fill the pages."""
LONG_FIELD_BYTES = 1_000
"""A field of at most so many bytes is never cut."""
CURSOR_BYTES = 300
"""Kept free on every page for `truncated` and `next_cursor`."""
LATER_META = ("job_id", "session_id", "server_version")
"""What of `meta` all pages after the first repeat."""
SUMMARY_OMISSIONS = 10
CUT_MARK = "… [cut here: too long for a page; detail full shows more, result.json in the job's directory all of it]"


def first_page(wire: EnvelopeDict, detail: str) -> EnvelopeDict:
    """All short fields, then the long ones in the order of PAGED as far as the budget of `detail` goes."""
    byte_budget = BUDGETS[detail]
    if _bytes(wire) <= byte_budget:
        return wire

    page = {**wire, "meta": dict(wire["meta"])}
    long = _long_fields(wire)
    for name in long:
        del page[name]
    if detail == "summary" and "coverage" in page:
        page["coverage"] = _with_few_omissions(page["coverage"])
    return _fill(page, wire, long, offset=0, byte_budget=byte_budget)


def page_at(wire: EnvelopeDict, cursor: str, detail: str) -> EnvelopeDict:
    """The page that a cursor names; raises `invalid_arguments` for one that does not belong to this result."""
    name, offset = _parse_cursor(wire, cursor)
    long = _long_fields(wire)
    following: list[str] = []
    if name in long:
        following = long[long.index(name) + 1 :]

    meta = {key: value for key, value in wire["meta"].items() if key in LATER_META}
    page = {
        "ok": wire["ok"],
        "status": wire["status"],
        "tool": wire["tool"],
        "summary": f"further part: {name}",
        "meta": meta,
    }
    return _fill(
        page,
        wire,
        [name],
        offset=offset,
        byte_budget=BUDGETS[detail],
        following=following,
    )


def rows_of_one_page(rows: list[Json]) -> list[Json]:
    """As many of the leading rows as one page of a list holds."""
    byte_budget = BUDGETS["full"] - LONG_FIELD_BYTES
    leading, _ = _leading_items(rows, 0, byte_budget, byte_budget)
    return leading


# --- filling a page


def _with_few_omissions(coverage: EnvelopeDict) -> EnvelopeDict:
    """The first omissions and rule files, and how many more there are."""
    short = dict(coverage)
    for name, mark in (
        ("omitted", {"reason": "listing"}),
        ("rules", {"folder": "", "bytes": 0, "omitted": "listing"}),
    ):
        rows = coverage.get(name, [])
        more = len(rows) - SUMMARY_OMISSIONS
        if more > 0:
            last = {"path": f"(and {more} more, with detail full)", **mark}
            short[name] = [*rows[:SUMMARY_OMISSIONS], last]
    return short


def _fill(
    page: EnvelopeDict,
    wire: EnvelopeDict,
    names: list[str],
    *,
    offset: int,
    byte_budget: int,
    following: Sequence[str] = (),
) -> EnvelopeDict:
    """Put the long fields `names` on the page, the first from `offset` on. `following` are for later pages only."""
    remaining = byte_budget - _bytes(page) - CURSOR_BYTES
    largest = byte_budget - LONG_FIELD_BYTES

    for index, name in enumerate(names):
        part, end = _leading_part(wire[name], offset, remaining, largest)
        page[name] = part
        if end is not None:
            return _with_cursor(page, wire, name, end)

        remaining -= _bytes(part)
        later = names[index + 1 :]
        if later and remaining < LONG_FIELD_BYTES:
            return _with_cursor(page, wire, later[0], 0)
        offset = 0

    if following:
        return _with_cursor(page, wire, following[0], 0)
    if _has_cut_item(wire, largest):
        page["meta"]["truncated"] = True
    return page


def _with_cursor(
    page: EnvelopeDict, wire: EnvelopeDict, name: str, offset: int
) -> EnvelopeDict:
    page["meta"] |= {
        "truncated": True,
        "next_cursor": f"{name}:{offset}:{_hash(wire[name])}",
    }
    return page


def _has_cut_item(wire: EnvelopeDict, largest: int) -> bool:
    """Whether a list has an item that no page can show whole."""
    for name in _long_fields(wire):
        items = wire[name]
        if not isinstance(items, list):
            continue
        for item in items:
            if _bytes(item) >= largest:
                return True
    return False


# --- parts of a value


def _leading_part(
    value: Json, offset: int, remaining: int, largest: int
) -> tuple[Json, int | None]:
    """As much of the value from `offset` on as fits into `remaining` bytes, and the next offset; None at the end."""
    if isinstance(value, list):
        return _leading_items(value, offset, remaining, largest)
    if not isinstance(value, str):
        if offset == 0 and _bytes(value) <= remaining:
            return value, None
        value = _text(value)

    rest = value[offset:]
    if _bytes(rest) <= remaining:
        return rest, None
    part = _leading_text(rest, remaining)
    if len(part) == len(rest):
        return part, None
    return part, offset + len(part)


def _leading_text(text: str, remaining: int) -> str:
    """A prefix of at most `remaining` bytes as JSON, but of 100 characters at least."""
    part = cut(text, max(remaining, 200))
    # Quotes and line ends take two bytes as JSON, so a cut at `remaining` bytes of text
    # can still be too long.
    while _bytes(part) > remaining and len(part) > 100:
        shorter = int(len(part) * remaining / _bytes(part)) - 8
        part = part[: max(shorter, 100)]
    return part


def _leading_items(
    items: list[Json], offset: int, remaining: int, largest: int
) -> tuple[list[Json], int | None]:
    """Whole items. One that does not fit goes to the next page; one of more than `largest` bytes is cut."""
    leading: list[Json] = []
    for item in items[offset:]:
        whole_or_cut = item
        if _bytes(item) >= largest:
            whole_or_cut = _cut_item(item, largest - 1)
        remaining -= _bytes(whole_or_cut) + 1
        if remaining < 0:
            return leading, offset + len(leading)
        leading.append(whole_or_cut)
    return leading, None


def _cut_item(item: Json, byte_budget: int) -> Json:
    """The item with its long strings cut and marked; where that is not enough, the first part of its JSON."""
    limit = byte_budget
    while limit > len(CUT_MARK):
        limit //= 2
        shorter = _with_cut_strings(item, limit)
        if _bytes(shorter) <= byte_budget:
            return shorter
    return _leading_text(_text(item), byte_budget - size(CUT_MARK) - 2) + CUT_MARK


def _with_cut_strings(value: Json, limit: int) -> Json:
    if isinstance(value, str):
        if size(value) <= limit:
            return value
        return cut(value, limit) + CUT_MARK
    if isinstance(value, dict):
        return {name: _with_cut_strings(item, limit) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_cut_strings(item, limit) for item in value]
    return value


# --- names and sizes


def _long_fields(wire: EnvelopeDict) -> list[str]:
    long = []
    for name in PAGED:
        if name in wire and _bytes(wire[name]) > LONG_FIELD_BYTES:
            long.append(name)
    return long


def _parse_cursor(wire: EnvelopeDict, cursor: str) -> tuple[str, int]:
    unknown_page = CounselError(
        Code.INVALID_ARGUMENTS, "cursor: belongs to no page of this result"
    )
    name, _, rest = cursor.partition(":")
    offset, _, digest = rest.partition(":")
    if name not in PAGED or name not in wire:
        raise unknown_page
    if not re.fullmatch("[0-9]{1,12}", offset) or digest != _hash(wire[name]):
        raise unknown_page
    return name, int(offset)


def _hash(value: Json) -> str:
    # hashlib loads OpenSSL, and few results need a second page.
    import hashlib

    return hashlib.sha256(_text(value).encode("utf-8", "replace")).hexdigest()[:8]


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _bytes(value: Json) -> int:
    return size(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
