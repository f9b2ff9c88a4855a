"""What becomes of a consultation."""

from __future__ import annotations

import sys
from typing import Any

from codex_counsel.contract.envelope import Envelope
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import EndedRun, failure, remove_scratch
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line
from codex_counsel.system.time_limit import TimeLimitExceeded, time_limit

VALIDATION_SECONDS = 5
"""A caller's `pattern` may take for ever."""


def conclude(ended: EndedRun) -> Envelope:
    """Raises `incomplete` for a reply that does not match the caller's schema."""
    remove_scratch(ended)
    if ended.error:
        return failure(ended, ended.error)
    answer, masked = mask(ended.answer or "")
    if masked:
        ended.meta.warnings.append(f"{masked} token-like strings were masked in the answer")
    data = None
    if ended.details["output_schema"]:
        data = _validated(answer, ended.details["output_schema"], ended.details["library"])
    return Envelope(
        ok=True,
        status="completed",
        tool=ended.tool,
        summary=one_line(answer, 400),
        answer=answer,
        data=data,
        meta=ended.meta,
    )


def _validated(answer: str, schema: dict[str, Any], library: str | None) -> Any:
    if library and library not in sys.path:
        sys.path.append(library)
    from codex_counsel.contract import output_schema as schemas

    try:
        with time_limit(VALIDATION_SECONDS):
            return schemas.read(answer, schema)
    except TimeLimitExceeded:
        words = f"The reply could not be held against output_schema within {VALIDATION_SECONDS:g} seconds"
        raise CounselError(Code.INCOMPLETE, words) from None
    except ValueError as error:
        raise CounselError(Code.INCOMPLETE, one_line(str(error), 1000)) from None
