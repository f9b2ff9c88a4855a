"""Usage limits that a run met, remembered for all sessions of this user and account until they reset."""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from codex_counsel.codex import rollout
from codex_counsel.contract.envelope import Failure
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import read_json_or_none, write_atomically

MAX_LIMIT_SECONDS = 35 * 86_400
"""A limit lasts at most so long: no plan has a longer window, and a wrong date must not block an account for years."""

_LIMIT_OF_ONE_MODEL = re.compile(r"hit your usage limit for ")


@dataclass(frozen=True)
class Limit:
    """A limit in force until `until` (epoch seconds). `code` and `message` are those of the failure that told of it.

    `reset_known` is false where nothing told when it ends: then `until` is the next try.
    """

    code: str
    message: str
    until: float
    reset_known: bool = True


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
            details={"limit": limit.code, "until": int(limit.until)},
        )

    def remember(
        self,
        failure: Failure,
        *,
        codex_home: Path,
        default_seconds: float,
        thread_id: str | None,
    ) -> None:
        """Keep the limit that ended a run.

        A limit of one model alone is not kept, nor a rate limit that names no time.
        `default_seconds` is how long a usage limit lasts that names no time either.
        Codex's own record of the thread tells the exact reset where there is one.
        """
        now = time.time()
        until = _end_of(failure, codex_home, thread_id)
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
        )
        # If it cannot be written, the next call meets the limit itself.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._file, json.dumps(asdict(limit)))

    def clear(self) -> bool:
        """Forget the limit; true if there was one."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True


def _end_of(failure: Failure, codex_home: Path, thread_id: str | None) -> float | None:
    """Epoch seconds of the reset; 0 for a failure that says nothing about the next run, None for an unknown reset."""
    if failure.code == Code.RATE_LIMITED and failure.retry_after_ms is None:
        return 0
    if _LIMIT_OF_ONE_MODEL.search(failure.message):
        return 0
    if failure.code == Code.USAGE_LIMIT and thread_id:
        record = rollout.last_turns(rollout.find(codex_home, thread_id))
        if record.resets_at:
            return record.resets_at
    if failure.retry_after_ms is not None:
        return time.time() + failure.retry_after_ms / 1000
    return None
