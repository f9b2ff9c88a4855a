"""The search path for programs."""

from __future__ import annotations

import os
from pathlib import Path


def search_path(variable: str, without: Path | None = None) -> str:
    """The absolute entries of a PATH that do not lie in the directory `without`; the system's default if none is left.

    `without` is a workspace: its programs may be written by others than the user.
    """
    entries: list[str] = []
    for entry in variable.split(os.pathsep):
        if not entry.startswith("/"):
            continue
        if without and Path(entry).resolve().is_relative_to(without):
            continue
        entries.append(entry)
    return os.pathsep.join(entries) or os.defpath
