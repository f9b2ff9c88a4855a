"""What runs took, as a table and as CSV."""

from __future__ import annotations

import io

from codex_counsel.cli.page import Page, Style, columns, fitted
from codex_counsel.cli.review_text import add_warnings
from codex_counsel.contract.envelope import Envelope, EnvelopeDict
from codex_counsel.system.amounts import short_number
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line

TITLES = {"day": "DAY", "workspace": "DIRECTORY", "kind": "KIND", "model": "MODEL"}
COLUMNS = (
    "RUNS",
    "FAILED",
    "MINUTES",
    "INPUT",
    "OUTPUT",
    "CANCELLED",
    "CACHED",
    "REASONING",
)
"""The numbers, in the order of weight: a narrow terminal has no room for the last ones."""
MIN_NAME = 16
"""Columns for the name of a row."""
TOKENS = ("input", "cached_input", "output", "reasoning")
FORMULA_SIGNS = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20", "\t", "\r", "\n")
"""A spreadsheet takes a cell that begins so for a formula; the wide signs are those of East Asian ones."""


def add_usage(page: Page, envelope: Envelope) -> None:
    """Add a table with a line for each row of the report, and the total. On a terminal it fits the width."""
    data = envelope.data
    rows: list[JsonObject] = data["rows"]
    if not rows:
        page.add(f"{envelope.summary}.")
        add_warnings(page, envelope)
        return

    by = str(data["by"])
    lines = [(_name(row, by), _numbers(row)) for row in rows]
    lines.append(("total", _numbers(data["total"])))
    widths = {
        title: max(len(title), *(len(numbers[title]) for _, numbers in lines))
        for title in COLUMNS
    }
    name_width = max(columns(name) for name, _ in (*lines, (TITLES[by], {})))
    shown = list(COLUMNS)
    if page.look.width is not None:
        room = page.look.width - sum(widths[title] + 2 for title in shown)
        while room < min(name_width, MIN_NAME) and len(shown) > 1:
            room += widths[shown.pop()] + 2
        name_width = min(name_width, max(room, MIN_NAME))

    if not page.look.quiet:
        titles = "".join(f"  {title:>{widths[title]}}" for title in shown)
        page.add_spans((_padded(TITLES[by], name_width) + titles, "dim"))
    for name, numbers in lines:
        cells = "".join(f"  {numbers[title]:>{widths[title]}}" for title in shown)
        style: Style = ""
        if numbers is lines[-1][1]:
            style = "bold"
        page.add_spans((_padded(_tail(name, name_width), name_width) + cells, style))

    failed = data["total"]["failed"]
    if failed:
        codes = [f"{code} {count}" for code, count in failed.items()]
        page.note(f"failed: {', '.join(codes)}")
    add_warnings(page, envelope)


def _name(row: JsonObject, by: str) -> str:
    name = row.get(by)
    return "-" if name is None else one_line(str(name), 500)


def _numbers(row: JsonObject) -> dict[str, str]:
    tokens = row["tokens"]
    cells = (
        str(row["runs"]),
        str(sum(row["failed"].values())),
        f"{row['minutes']:.1f}",
        short_number(tokens["input"]),
        short_number(tokens["output"]),
        str(row["cancelled"]),
        short_number(tokens["cached_input"]),
        short_number(tokens["reasoning"]),
    )
    return dict(zip(COLUMNS, cells, strict=True))


def _tail(name: str, width: int) -> str:
    """The name cut to so many columns. Of a path the end tells more than the begin."""
    if columns(name) <= width or not name.startswith("/"):
        return fitted(name, width)
    while columns(name) > width - 1:
        name = name[1:]
    return f"…{name}"


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - columns(cell))


def csv_text(wire: EnvelopeDict) -> str:
    """The rows of the report, without the total, under a line of titles."""
    # Every verb that prints a report imports this module, and only one writes CSV.
    import csv

    data = wire["data"]
    by = data["by"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    outcomes = ("runs", "completed", "failed", "cancelled")
    writer.writerow([by, *outcomes, "failed_codes", *TOKENS, "minutes"])
    for row in data["rows"]:
        codes = [f"{code} {count}" for code, count in row["failed"].items()]
        numbers = {**row, "failed": sum(row["failed"].values())}
        writer.writerow(
            [
                _cell(row.get(by)),
                *(numbers[name] for name in outcomes),
                _cell("; ".join(codes)),
                *(row["tokens"][name] for name in TOKENS),
                row["minutes"],
            ]
        )
    return text.getvalue()


def _cell(value: str | None) -> str:
    """Text that no spreadsheet computes."""
    if value is None:
        return ""
    if value.startswith(FORMULA_SIGNS):
        return f"'{value}"
    return value
