"""Attempts."""

from __future__ import annotations

from codex_counsel.kind import EndedRun, Steps


def follow_up(ended: EndedRun, steps: Steps) -> None:
    """Run them."""
    raise NotImplementedError(ended, steps)
