"""What the pages of the documentation show in fenced blocks."""

from __future__ import annotations


def fences(page: str, language: str) -> list[str]:
    """The text of each fenced block of one language; "" is for those without one."""
    found: list[str] = []
    shown: str | None = None
    for line in page.splitlines(keepends=True):
        if not line.startswith("```"):
            if shown == language:
                found[-1] += line
        elif shown is None:
            shown = line[3:].strip()
            if shown == language:
                found.append("")
        else:
            shown = None
    return found
