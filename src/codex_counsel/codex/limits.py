"""Limits that were met, remembered for every session of this user and account until they reset."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from codex_counsel.codex import rollout
from codex_counsel.contract.envelope import Failure
from codex_counsel.errors import Code, CounselError

LONGEST = 35 * 86_400
"""Seconds a mark lasts at most: no plan has a longer window, and a wrong date must not block an account for years."""
_ONE_MODEL = re.compile(r"hit your usage limit for ")


@dataclass(frozen=True)
class Limit:
    """A limit in force until `until` (epoch seconds)."""

    code: str
    message: str
    until: float


class Limits:
    """`limits/<account>.json`: one file per account, so that one account never blocks another."""

    def __init__(self, state: Path, account: str) -> None:
        self._file = state / "limits" / f"{account}.json"

    def mark(self) -> Limit | None:
        """The limit in force, if one is; an unreadable mark blocks nobody."""
        try:
            found = Limit(**json.loads(self._file.read_text("utf-8")))
            return found if 0 < found.until - time.time() <= LONGEST else None
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def check(self) -> None:
        """Raise `backing_off` while a limit is in force."""
        if mark := self.mark():
            left = max(mark.until - time.time(), 0)
            when = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(mark.until))
            raise CounselError(
                Code.BACKING_OFF,
                f"An earlier run met a limit that lasts until {when}: {mark.message}",
                retry_after_ms=int(left * 1000),
                details={"limit": mark.code, "until": int(mark.until)},
            )

    def remember(self, failure: Failure, *, codex_home: Path, default_seconds: float, thread_id: str | None) -> None:
        """A usage limit unless it is one model's alone, a rate limit only when it names its own retry time."""
        until = _until(failure, codex_home, default_seconds, thread_id)
        if until <= time.time():
            return
        until = min(until, time.time() + LONGEST - 1)
        with contextlib.suppress(OSError):  # the caller has its answer; the next call will meet the limit itself
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}")
            draft.touch(0o600)
            draft.write_text(json.dumps(asdict(Limit(failure.code, failure.message, until))), "utf-8")
            draft.replace(self._file)

    def clear(self) -> bool:
        """Forget the limit; true if there was one."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True


def _until(failure: Failure, codex_home: Path, default_seconds: float, thread_id: str | None) -> float:
    if failure.code == Code.RATE_LIMITED and failure.retry_after_ms is None:
        return 0
    if _ONE_MODEL.search(failure.message):
        return 0
    exact = rollout.last_turn(rollout.find(codex_home, thread_id)).resets_at if thread_id else None
    told = failure.retry_after_ms / 1000 if failure.retry_after_ms is not None else default_seconds
    return exact if exact and failure.code == Code.USAGE_LIMIT else time.time() + told
