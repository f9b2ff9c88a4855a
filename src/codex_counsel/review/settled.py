"""What a reviewer is told of earlier findings: which were rejected, and why, and which are open. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from codex_counsel.prepare.prompt_parts import (
    Material,
    fence,
    join_prompt,
    prompt_file,
)
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line, size, visible

if TYPE_CHECKING:
    from codex_counsel.findings.entry import Entry

MAX_BYTES = 8_000
"""Of the findings listed; what is left out is counted."""
MAX_TEXT = 300
"""Characters of a title, a reason or a quoted line."""


def settled_findings(
    entries: Iterable[Entry],
    *,
    files: Collection[str] = (),
    branch: str | None = None,
    plan: str | None = None,
) -> str:
    """The part of a prompt that tells of findings on record; empty where there are none to tell of.

    Open ones come first, of these and of the rejected ones those in `files` of the change,
    then the newest. Open ones are told of if they
    are in such a file or of this branch; those of a plan only to a review of this plan.
    """
    told = [entry for entry in entries if _is_told(entry, files, branch, plan)]
    told.sort(key=lambda entry: entry.last.time, reverse=True)
    told.sort(key=lambda entry: entry.file not in files)
    # A rejected finding that is raised again is known by its id all the same.
    told.sort(key=lambda entry: entry.state == "rejected")
    if not told:
        return ""

    rows: list[str] = []
    bytes_left = MAX_BYTES
    for entry in told:
        row = _row(entry)
        bytes_left -= size(row) + 1
        if bytes_left < 0:
            break
        rows.append(row)
    if len(told) > len(rows):
        rows.append(f"… and {len(told) - len(rows)} more")
    listed = fence(Material("findings on record", "\n".join(rows)))
    return join_prompt(prompt_file("settled"), listed)


def _is_told(
    entry: Entry, files: Collection[str], branch: str | None, plan: str | None
) -> bool:
    if entry.plan != plan:
        return False
    if entry.state == "rejected":
        return True
    is_near = plan is not None or entry.file in files or entry.branch == branch
    return entry.unsettled and is_near


def _row(entry: Entry) -> str:
    """One line; no text in it can begin another."""
    state = "open"
    if entry.state == "rejected":
        state = "rejected"
    place = entry.file or entry.plan or "(no file)"
    if entry.line:
        place = f"{place}:{entry.line}"
    parts = [f"{state} | {entry.category} | {_shown(place)} | {_shown(entry.title)}"]
    if entry.quotes:
        first_line, _, _ = entry.words.strip().partition("\n")
        parts.append(f"quoted: {_shown(first_line)}")
    if state == "rejected":
        parts.append(f"reason: {_shown(entry.reason or 'none was given')}")
    return " | ".join(parts)


def _shown(text: str) -> str:
    masked, _ = mask(visible(text))
    return one_line(masked, MAX_TEXT)
