"""What a client and a node agree on."""

from __future__ import annotations

PROTOCOL = 1
"""Of the calls of `node.py`. Client and node must have the same."""
RESOURCE = "codex"
"""The Dask resource that says how many runs a worker takes at once."""
INLINE = 1_000_000
"""Bytes of a pack or result that come with a call; a larger one is sent in parts."""
PART = 4_000_000
"""Bytes of a part."""
CALL_SECONDS = 30.0
"""For an answer to a call that does little."""
SEND_SECONDS = 300.0
"""For a part of a file, and for the repository that is made of a foundation."""
