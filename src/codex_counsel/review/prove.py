"""Proofs of findings."""

from __future__ import annotations

from codex_counsel.kind import EndedRun, Steps


def follow_up(ended: EndedRun, steps: Steps) -> None:
    """Start them."""
    raise NotImplementedError(ended, steps)
