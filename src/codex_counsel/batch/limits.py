"""What an error means for the other items of a batch: nothing, wait, or stop."""

from __future__ import annotations

import time
from collections.abc import Mapping

from codex_counsel.contract.settings import Settings
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json

PAUSES = (
    Code.USAGE_LIMIT,
    Code.RATE_LIMITED,
    Code.BACKING_OFF,
    Code.QUOTA_RESERVED,
)
"""All runs of the account meet them until the reset. The item that met one is asked again then."""
STOPS = (
    Code.AUTH_REQUIRED,
    Code.CODEX_NOT_FOUND,
    Code.CODEX_TOO_OLD,
    Code.CODEX_CONFIG_INVALID,
    Code.SANDBOX_UNAVAILABLE,
    Code.UNSUPPORTED_PLATFORM,
    Code.RESOURCE_LIMIT,
    Code.STORAGE_FAILED,
    Code.CLUSTER_FAILED,
)
"""All runs would fail with them until somebody mends the cause."""
PAID = (Code.RESOURCE_LIMIT, Code.STORAGE_FAILED)
"""Those of `STOPS` that can end a run which the model has answered: it is not repeated by itself."""
MIN_SECONDS = 1.0
MAX_SECONDS = 8 * 86_400
"""A pause lasts at most so long: then the next try tells."""


def pauses(code: str | None) -> bool:
    """Whether nothing is to be started until a reset."""
    return code in PAUSES


def stops(code: str | None) -> bool:
    """Whether nothing is to be started any more."""
    return code in STOPS


def is_no_result(code: str | None) -> bool:
    """Whether an item that ended with this code is to be asked again, by this batch or when it is resumed."""
    return pauses(code) or (stops(code) and code not in PAID)


def seconds_until_reset(error: Mapping[str, Json], settings: Settings) -> float:
    """How long to wait after the `error` of an envelope: until its reset, else `BACKOFF_SECONDS`."""
    seconds = _seconds_told(error)
    if seconds is None:
        seconds = settings.backoff_seconds
    return min(max(seconds, MIN_SECONDS), MAX_SECONDS)


def seconds_of(error: CounselError, settings: Settings) -> float:
    """The same for an item that could not be started."""
    return seconds_until_reset(
        {"retry_after_ms": error.retry_after_ms, "details": error.details}, settings
    )


def _seconds_told(error: Mapping[str, Json]) -> float | None:
    """Those until the moment that the error names, else those that it counts."""
    details = error.get("details")
    until = details.get("until") if isinstance(details, dict) else None
    if isinstance(until, int):
        return until - int(time.time())
    told = error.get("retry_after_ms")
    if isinstance(told, int):
        # A result of another machine may name any number.
        return min(max(told, 0), 1000 * MAX_SECONDS) / 1000
    return None
