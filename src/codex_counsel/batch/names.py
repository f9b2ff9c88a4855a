"""Names for people: what a repository is called, and how equal names are told apart."""

from __future__ import annotations

import re
from pathlib import Path

from codex_counsel.system.text import one_line, visible


def repository_name(source: str) -> str:
    """The last part of a path or address, without `.git`: what people call the repository."""
    last = re.split(r"[/:]", source.rstrip("/"))[-1].removesuffix(".git")
    if last in ("", ".", ".."):
        last = Path(source).resolve().name
    return one_line(visible(last), 80).strip() or "repository"


class Names:
    """Gives out names, each once: `shop`, `shop-2`, `shop-3`."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}

    def free(self, wanted: str) -> str:
        """The name itself, or with the next free number."""
        name = wanted
        # Counted for each name: many may be the same.
        number = self._numbers.get(wanted, 1)
        while name in self._used:
            number += 1
            name = f"{wanted}-{number}"
        self._numbers[wanted] = number
        self._used.add(name)
        return name
