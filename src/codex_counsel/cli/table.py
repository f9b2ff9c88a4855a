"""Tables for people: without the columns that tell nothing, and as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codex_counsel.cli.page import Page, Span, columns, fitted

NOTHING = "-"
"""The cell of a row that has no such value."""
MIN_LAST = 16
"""Columns of a terminal for the last cell of a row."""
SHORT_ID = 8
FULL_ID = 32


@dataclass(frozen=True)
class Heading:
    """A column. `is_kept`: it is there on every terminal. `is_constant_told`: also where all rows have the same."""

    title: str
    is_kept: bool = False
    is_constant_told: bool = True

    def tells(self, cells: Sequence[str]) -> bool:
        """Whether these cells of the column say something."""
        if self.is_kept or len(set(cells)) > 1:
            return True
        return self.is_constant_told and NOTHING not in cells


def add_table(
    page: Page,
    headings: Sequence[Heading],
    rows: Sequence[Sequence[Span]],
    *,
    indent: str = "",
) -> None:
    """Add a line for each row, below the titles; with --quiet without these.

    The last column has the rest of the line, and is cut. Where that is too little, columns
    that are not kept are left out, the last one first.
    """
    *fixed, last = headings
    cells = [[text for text, _ in row] for row in rows]
    widths = {}
    for number, heading in enumerate(fixed):
        column = [row[number] for row in cells]
        if heading.tells(column):
            widths[number] = max(map(columns, (heading.title, *column)))

    room = None
    if page.look.width is not None:
        room = page.look.width - columns(indent)
        room -= sum(width + 2 for width in widths.values())
        for number in reversed(list(widths)):
            if room < MIN_LAST and not fixed[number].is_kept:
                room += widths.pop(number) + 2

    if not page.look.quiet:
        titles = [
            _padded(fixed[number].title, width) for number, width in widths.items()
        ]
        line = f"{indent}{''.join(titles)}{last.title}".rstrip()
        page.add_spans((fitted(line, page.look.width), "dim"))
    for row in rows:
        spans: list[Span] = [(indent, "")]
        for number, width in widths.items():
            text, style = row[number]
            spans.append((_padded(text, width), style))
        text, style = row[-1]
        page.add_spans(*spans, (fitted(text, room), style))


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - columns(cell) + 2)


def short_length(ids: Sequence[str]) -> int:
    """How many digits tell these ids apart, at least eight."""
    length = SHORT_ID
    while len({name[:length] for name in ids}) < len(set(ids)):
        length += 1
    return length


def short_ids(page: Page, ids: Sequence[str]) -> list[str]:
    """The ids as a table has them: on a terminal as many digits as tell them apart, else whole."""
    length = FULL_ID
    if page.look.width is not None:
        length = short_length(ids)
    return [name[:length] for name in ids]
