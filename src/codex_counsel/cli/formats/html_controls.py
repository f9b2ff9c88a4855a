"""What filters the findings of the page, and moves between them; shown only where JavaScript runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from codex_counsel.cli.formats.html_finding import Place
from codex_counsel.cli.formats.html_proof import UNTESTED, proof_status
from codex_counsel.cli.formats.markup import Content, Markup, element
from codex_counsel.contract.vocabulary import KNOWNS, PROOF_STATUSES, SEVERITIES
from codex_counsel.system.text import one_line


def controls(places: list[Place]) -> Content:
    """Filters; hidden until the script shows them. None where there is nothing to filter."""
    if len(places) < 2:
        return None
    severities = Counter(place.finding.severity for place in places)
    states = Counter(place.finding.known for place in places)
    groups: list[Content] = [
        toggles("severity", "Severity", severities, SEVERITIES, has_keys=True),
    ]
    if len(states) > 1:
        groups.append(toggles("known", "State", states, KNOWNS))
    proofs = Counter(proof_status(place.finding) for place in places)
    if len(proofs) > 1:
        order = (*PROOF_STATUSES, UNTESTED)
        groups.append(toggles("proof", "Proof", proofs, order))
    return bar(groups, _files(places))


def bar(groups: list[Content], files: Content) -> Markup:
    """The bar with these filters and a field for text; hidden until the script shows it."""
    return element(
        "div",
        *groups,
        files,
        element(
            "input",
            type="search",
            name="text",
            placeholder="Filter by text",
            aria_label="Filter by text",
            autocomplete="off",
            spellcheck="false",
            maxlength=200,
        ),
        element("output", class_="shown", aria_live="polite"),
        element("button", "Show all", type="button", class_="reset", hidden=True),
        element(
            "button", "?", type="button", class_="keys", aria_label="Keyboard shortcuts"
        ),
        class_="controls",
        role="search",
        aria_label="Filters",
        hidden=True,
    )


def toggles(
    name: str,
    label: str,
    counts: Mapping[Any, int],
    order: Iterable[str],
    *,
    has_keys: bool = False,
) -> Markup:
    """A button for each value that something has: it hides and shows what has it in its attribute `data-NAME`.

    With `has_keys` the values are reached with the keys 1, 2, ... too, by their place in
    `order`.
    """
    buttons = []
    for key, value in enumerate(order, 1):
        if counts[value]:
            number = element("span", str(counts[value]), class_="number")
            buttons.append(
                element(
                    "button",
                    f"{value} ",
                    number,
                    type="button",
                    class_=value,
                    aria_pressed="true",
                    data_filter=name,
                    data_value=value,
                    data_key=has_keys and key,
                )
            )
    return element("div", *buttons, class_="toggles", role="group", aria_label=label)


def _files(places: list[Place]) -> Content:
    options = {place.file_number: file_option(place) for place in places}
    if len(options) < 2:
        return None
    ordered = [options[number] for number in sorted(options)]
    every = element("option", "All files", value="")
    return element("select", every, *ordered, name="file", aria_label="File")


def file_option(place: Place) -> Markup:
    """The entry of a file in the list of files."""
    name = one_line(place.finding.file or "", 200) or "No file"
    return element("option", name, value=place.file_number)


def list_of_keys(noun: str, numbers: Mapping[str, str]) -> Markup:
    """The dialog that says what each key does. `noun` is what the page lists, `numbers` are the keys of its filters."""
    keys = {
        "j": f"next {noun}",
        "k": f"previous {noun}",
        **numbers,
        "/": "filter by text",
        "0": "show all",
        "?": "this list",
        "Esc": "leave the filter, close this list",
    }
    rows = []
    for key, meaning in keys.items():
        term = element("dt", element("kbd", key))
        rows.append(element("div", term, element("dd", meaning)))
    close = element("button", "Close", type="submit")
    return element(
        "dialog",
        element("h2", "Keys"),
        element("dl", *rows),
        element("form", close, method="dialog"),
        id="keys",
        aria_label="Keyboard shortcuts",
    )
