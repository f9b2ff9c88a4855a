"""Write the table of attacks in SECURITY.md from the tests: `uv run python -m tests.e2e.escape.table`."""

from __future__ import annotations

from pathlib import Path

# They fill the registries.
from tests.e2e import (  # noqa: F401
    test_boundary,
    test_escape,
    test_escape_tree,
    test_project_tests,
)
from tests.e2e.compat import test_in_place  # noqa: F401
from tests.e2e.escape.attacks import ATTACKS, Attack
from tests.e2e.escape.attempts import ATTEMPTS
from tests.e2e.escape.traps import TRAPS

PAGE = Path(__file__).parents[3] / "SECURITY.md"
BEGIN = "<!-- attacks: written by `uv run python -m tests.e2e.escape.table` -->\n"
END = "<!-- end of attacks -->\n"
HEAD = ("Attack", "Consult and review", "Delegate", "How it is tested")


def attacks() -> list[Attack]:
    """All rows: what is tried in every run, the traps, and the tests that stand alone."""
    rows = []
    for attempt in ATTEMPTS:
        name = attempt.tries.__name__
        rows.append(Attack(attempt.attack, "held", "held", f"attempt `{name}`"))
    for name, row in TRAPS.items():
        rows.append(Attack(row.attack, "held", "held", f"trap `{name}`"))
    # They are registered in the order in which the modules happen to be imported.
    return rows + sorted(ATTACKS, key=lambda row: row.attack)


def page_with_table(page: str) -> str:
    """The text of SECURITY.md with the table as it has to be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [HEAD, ("---",) * len(HEAD)]
    for row in attacks():
        lines.append((row.attack, row.read_only, row.delegate, row.tested))
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return before + BEGIN + table + END + after


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
