"""Findings on record, and the outcome of a check, as a person wants to read them."""

from __future__ import annotations

from collections.abc import Sequence

from codex_counsel.cli.page import Page, Style, columns, fitted
from codex_counsel.cli.review_text import SEVERITY_STYLES, add_warnings
from codex_counsel.contract.envelope import Envelope
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

COLUMNS = ("ID", "STATE", "SEVERITY", "LAST", "PLACE")
DROPPED = ("LAST", "PLACE")
"""The columns that go, the first one first, where a narrow terminal has no room for them."""
MIN_TITLE = 24
PLACE_SHARE = 0.3
"""How much of the width a place may take; the title is worth more."""
STATE_STYLES: dict[str, Style] = {
    "open": "yellow",
    "accepted": "yellow",
    "rejected": "dim",
    "fixed": "green",
    "stale": "dim",
}
OUTCOME_STYLES: dict[str, Style] = {
    "pass": "green",
    "fail": "red",
    "inconclusive": "yellow",
}
DETAILS = (
    "id",
    "category",
    "risk",
    "recommendation",
    "branch",
    "plan",
    "state",
    "reason",
    "by",
    "changed",
)
"""What is shown of a finding below its words, in this order."""


def add_findings(page: Page, envelope: Envelope) -> None:
    """Add a list, one finding with all that is on record of it, or what was changed."""
    data: JsonObject = envelope.data
    if "counts" in data:
        _add_list(page, envelope)
    elif "before" in data:
        page.add(envelope.summary, "green")
        add_warnings(page, envelope)
    else:
        for finding in data["findings"]:
            _add_finding(page, finding)
        page.note(f"on record in: {data['ledger']}")


def add_check(page: Page, envelope: Envelope) -> None:
    """Add the outcome and its reason, on one line."""
    outcome = envelope.data["outcome"]
    page.add_spans(
        (outcome, OUTCOME_STYLES.get(outcome, "")),
        (f": {one_line(envelope.data['reason'], 500)}", ""),
    )


# --- a list


def _add_list(page: Page, envelope: Envelope) -> None:
    data: JsonObject = envelope.data
    rows: list[JsonObject] = data["findings"]
    if rows:
        _add_table(page, rows, data["id_digits"])
    page.note(envelope.summary)
    if data["shown"] < data["fitting"]:
        page.note(f"all that match: --limit {data['fitting']}")
    if data["in_other_states"]:
        page.note(f"in other states: {data['in_other_states']}, with --state all")
    add_warnings(page, envelope)


def _add_table(page: Page, rows: Sequence[JsonObject], id_digits: int) -> None:
    """A line for each finding. On a terminal it fits the width and ids are shortened."""
    table = [_cells(row, id_digits, page.look.width) for row in rows]
    widths = {}
    for name in COLUMNS:
        widths[name] = max(columns(cells[name]) for cells in ({name: name}, *table))
    shown = list(COLUMNS)
    room = None
    if page.look.width is not None:
        room = page.look.width - sum(widths[name] + 2 for name in shown)
        for name in DROPPED:
            if room < MIN_TITLE:
                shown.remove(name)
                room += widths[name] + 2

    if not page.look.quiet:
        titles = "".join(_padded(name, widths[name]) for name in shown)
        page.add_spans((fitted(f"{titles}TITLE", page.look.width), "dim"))
    for row, cells in zip(rows, table, strict=True):
        spans: list[tuple[str, Style]] = []
        for name in shown:
            spans.append((_padded(cells[name], widths[name]), _style(name, row)))
        page.add_spans(*spans, (fitted(str(row["title"]), room), ""))


def _cells(row: JsonObject, id_digits: int, width: int | None) -> dict[str, str]:
    place = _place(row)
    name = str(row["id"])
    if width is not None:
        place = _end_of(place, int(width * PLACE_SHARE))
        name = name[:id_digits]
    return {
        "ID": name,
        "STATE": str(row["state"]),
        "SEVERITY": str(row["severity"]),
        "LAST": str(row["last"])[:10],
        "PLACE": place,
    }


def _place(row: JsonObject) -> str:
    place = one_line(visible(str(row.get("file") or row.get("plan") or "-")), 500)
    if row.get("line"):
        place += f":{row['line']}"
    return place


def _end_of(text: str, width: int) -> str:
    """The text without its beginning where it is too long: the end of a path tells more."""
    if columns(text) <= width:
        return text
    while columns(text) > width - 1:
        text = text[1:]
    return f"…{text}"


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - columns(cell) + 2)


def _style(column: str, row: JsonObject) -> Style:
    if column == "STATE":
        return STATE_STYLES.get(row["state"], "")
    if column == "SEVERITY":
        return SEVERITY_STYLES.get(row["severity"], "")
    return ""


# --- one finding


def _add_finding(page: Page, finding: JsonObject) -> None:
    severity = str(finding["severity"])
    page.add_spans(
        (severity.upper(), SEVERITY_STYLES.get(finding["severity"], "")),
        (f"  {one_line(visible(str(finding['title'])), 300)}", "bold"),
    )
    page.add(_place(finding), "cyan", indent="  ")
    for line in visible(str(finding.get("words", ""))).splitlines():
        page.add(line, "dim", indent="  | ")
    page.add()
    for name in DETAILS:
        if finding.get(name):
            _add_detail(page, name, str(finding[name]))
    for name in ("first", "last"):
        _add_detail(page, f"{name} seen", _sighting(finding[name]))


def _add_detail(page: Page, name: str, words: str) -> None:
    page.add_labelled(f"  {name:<16}", one_line(visible(words), 2_000))


def _sighting(sighting: JsonObject) -> str:
    """When, in which state of the repository, and by which run."""
    parts = [str(sighting["time"])]
    for name, title in (
        ("head", "at commit"),
        ("job", "by job"),
        ("thread", "in thread"),
    ):
        if sighting.get(name):
            parts.append(f"{title} {sighting[name]}")
    return ", ".join(parts)
