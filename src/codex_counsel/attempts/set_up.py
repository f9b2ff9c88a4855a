"""The start that all attempts have in common."""

from __future__ import annotations

from collections.abc import Mapping

from codex_counsel.system.json_values import Json


def set_up(details: Mapping[str, Json], scratch_path: str, job_path: str) -> None:
    """Make it."""
    raise NotImplementedError(details, scratch_path, job_path)
