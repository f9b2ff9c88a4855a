"""The patterns of the two ids that callers pass."""

from __future__ import annotations

JOB_ID = r"^[0-9a-f]{32}$"
"""128 random bits; checked before any path is built of it."""
SESSION_ID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
"""A Codex thread."""
