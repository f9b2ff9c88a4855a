"""How many tokens a run may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codex_counsel.contract.request import RunRequest
    from codex_counsel.prepare.context import Context


def of_run(context: Context, request: RunRequest) -> int | None:
    """The smaller of what the user and the caller allow: a caller cannot lift the user's limit. None for no limit."""
    limits = [
        limit
        for limit in (context.settings.max_tokens, request.max_tokens)
        if limit is not None
    ]
    return min(limits, default=None)
