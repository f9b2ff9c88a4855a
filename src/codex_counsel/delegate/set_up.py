"""The working tree of a delegated task, made before Codex starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codex_counsel.delegate import record


@dataclass(frozen=True)
class Job:
    scratch: str
    delegate: Mapping[str, Any] | None


def set_up(details: Mapping[str, Any], scratch: Path, directory: Path) -> None:
    """Raises `worktree_failed`."""
    record.prepare(Job(str(scratch), details["delegate"]), directory)
