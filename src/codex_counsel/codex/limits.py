"""Usage limits that a run met, remembered for all sessions of this user and account until they reset."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from codex_counsel.contract.envelope import Failure
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import (
    changing,
    read_json_or_none,
    write_atomically,
)

MAX_LIMIT_SECONDS = 35 * 86_400
"""A limit lasts at most so long: no plan has a longer window, and a wrong date must not block an account for years."""

_LIMIT_OF_ONE_MODEL = re.compile(r"hit your usage limit for ")


@dataclass(frozen=True)
class Limit:
    """A limit that was met at `met` and is in force until `until` (epoch seconds).

    `code` and `message` are those of the failure that told of it.
    `reset_known` is false where nothing told when it ends: then `until` is the next try.
    """

    code: str
    message: str
    until: float
    reset_known: bool = True
    met: float = 0.0


class Limits:
    """The file `limits/<account>.json`: one per account, so that one account never blocks another."""

    def __init__(self, state: Path, account: str) -> None:
        self._file = state / "limits" / f"{account}.json"

    def in_force(self) -> Limit | None:
        """The limit that is in force now. A missing, damaged or expired file is no limit."""
        try:
            limit = Limit(**read_json_or_none(self._file))
            remaining = limit.until - time.time()
        except TypeError:
            # Other fields, or other types, than those that `remember` writes.
            return None
        return limit if 0 < remaining <= MAX_LIMIT_SECONDS else None

    def check(self) -> None:
        """Raise `backing_off` while a limit is in force."""
        limit = self.in_force()
        if limit is None:
            return
        remaining = max(limit.until - time.time(), 0)
        when = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(limit.until))
        until = f"lasts until {when}"
        if not limit.reset_known:
            until = f"names no end; the next try can be made at {when}"
        raise CounselError(
            Code.BACKING_OFF,
            f"An earlier run met a limit that {until}: {limit.message}",
            retry_after_ms=int(remaining * 1000),
            details={"limit": limit.code, "until": math.ceil(limit.until)},
        )

    def remember(
        self, failure: Failure, *, default_seconds: float, began: float
    ) -> None:
        """Keep the limit that ended a run which `began` then (epoch seconds).

        A limit of one model alone is not kept, nor a rate limit that names no time, nor one
        that ends before another that was met meanwhile: runs end in another order than
        they were answered.
        `default_seconds` is how long a usage limit lasts that names no time either.
        """
        now = time.time()
        until = _end_of(failure)
        reset_known = until is not None
        if until is None:
            until = now + default_seconds
        if until <= now:
            return
        limit = Limit(
            code=failure.code,
            message=failure.message,
            until=min(until, now + MAX_LIMIT_SECONDS - 1),
            reset_known=reset_known,
            met=now,
        )
        # If it cannot be written, the next call meets the limit itself.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with changing(self._file):
                stored = self.in_force()
                is_older = stored is not None and stored.met < began
                if stored is None or is_older or stored.until < limit.until:
                    write_atomically(self._file, json.dumps(asdict(limit)))

    def forget_met_before(self, moment: float) -> None:
        """Forget a limit that was met before `moment` (epoch seconds), when a run began that has succeeded.

        One that another run met since stays: the success may have been answered before it.
        """
        # Most runs find none, and need no lock.
        if not self._was_met_before(moment):
            return
        with contextlib.suppress(OSError), changing(self._file):
            if self._was_met_before(moment):
                self.clear()

    def _was_met_before(self, moment: float) -> bool:
        try:
            limit = Limit(**read_json_or_none(self._file))
            is_before = limit.met < moment
        except TypeError:
            return False
        return is_before

    def clear(self) -> bool:
        """Forget the limit; true if there was one."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True


def add_exact_reset(error: CounselError, resets_at: float | None) -> None:
    """Let the error of a usage limit name the exact reset (epoch seconds), where Codex recorded one.

    Its message tells at best the minute. A reset that is over is that of another window.
    """
    if error.code != Code.USAGE_LIMIT or not resets_at or _is_of_one_model(error):
        return
    seconds = resets_at - time.time()
    if 0 < seconds < float("inf"):
        error.details["until"] = math.ceil(resets_at)
        error.retry_after_ms = int(min(seconds, MAX_LIMIT_SECONDS) * 1000)


def _is_of_one_model(failure: CounselError | Failure) -> bool:
    return bool(_LIMIT_OF_ONE_MODEL.search(failure.message))


def _end_of(failure: Failure) -> float | None:
    """Epoch seconds of the reset; 0 for a failure that says nothing about the next run, None for an unknown reset."""
    if failure.code == Code.RATE_LIMITED and failure.retry_after_ms is None:
        return 0
    if _is_of_one_model(failure):
        return 0
    until = (failure.details or {}).get("until")
    if failure.code == Code.USAGE_LIMIT and isinstance(until, int):
        return until
    if failure.retry_after_ms is not None:
        return time.time() + failure.retry_after_ms / 1000
    return None
