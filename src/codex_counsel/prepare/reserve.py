"""The part of a ChatGPT account's usage windows that the user keeps for himself: CODEX_COUNSEL_RESERVE."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from codex_counsel.codex import account
from codex_counsel.codex.limits import MAX_LIMIT_SECONDS
from codex_counsel.codex.windows import Reading, Readings, Window, of_app_server
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import JsonObject

if TYPE_CHECKING:
    from codex_counsel.codex.account import Login
    from codex_counsel.codex.binary import Codex
    from codex_counsel.prepare.context import Context

READ_SECONDS = 3.0
"""How long a launch waits for Codex to tell the windows; it takes 0.2 s as a rule."""
WITHOUT_WINDOWS = {
    "api_key": "an API key has no usage windows",
    "provider": "your own model provider has no usage windows",
}


@dataclass(frozen=True)
class Reserve:
    """How much is to be left of each window, in per cent, and what is left.

    `problem` is why that is not known now; then the windows are those known from before.
    """

    percent: int
    windows: tuple[Window, ...] = ()
    problem: str = ""

    def report(self) -> JsonObject:
        """For an envelope: `percent`, and `windows`, `problem` or both."""
        report: JsonObject = {"percent": self.percent}
        if self.problem:
            report["problem"] = self.problem
        if self.windows or not self.problem:
            report["windows"] = [_described(window) for window in self.windows]
        return report

    def warnings(self) -> tuple[str, ...]:
        """A sentence for a reserve that could not be checked, or only by what was told before."""
        if not self.problem:
            return ()
        check = "was not checked"
        if self.windows:
            check = "was checked by what Codex told earlier"
        return (f"the reserve of {self.percent} % {check}: {self.problem}",)

    def refusal(self) -> CounselError | None:
        """`quota_reserved` where a window has less left than the reserve, else None."""
        short = [
            window for window in self.windows if window.left_percent() < self.percent
        ]
        if not short:
            return None
        sentences = [_sentence(window) for window in short]
        retry_after_ms = None
        resets = [window.resets_at for window in short]
        known = [moment for moment in resets if moment is not None]
        if len(known) == len(short):
            # All of them must have room again.
            seconds = min(max(known) - time.time(), MAX_LIMIT_SECONDS)
            retry_after_ms = max(int(seconds * 1000), 0)
        return CounselError(
            Code.QUOTA_RESERVED,
            f"{'; '.join(sentences)}. {self.percent} % are kept in reserve (CODEX_COUNSEL_RESERVE)",
            retry_after_ms=retry_after_ms,
            details={
                "reserve": self.percent,
                "windows": [_described(window) for window in short],
            },
        )


def _described(window: Window) -> JsonObject:
    described: JsonObject = {
        "window": window.title,
        "left_percent": round(window.left_percent(), 1),
    }
    if window.resets_at is not None:
        described["resets_at"] = _utc(window.resets_at)
    return described


def _utc(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return None


def _sentence(window: Window) -> str:
    sentence = f"The {window.title} window of your ChatGPT account has {window.left_percent():.3g} % left"
    if window.resets_at is None:
        return sentence
    try:
        reset = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(window.resets_at))
    except (ValueError, OverflowError, OSError):
        return sentence
    return f"{sentence} and resets at {reset}"


def of_account(
    context: Context, codex: Codex, env: Mapping[str, str], login: Login
) -> Reserve | None:
    """What is left to this login, from a reading that is at most a minute old; None where nothing is reserved.

    Nobody is asked then. No model is asked in any case.
    """
    percent = context.settings.reserve
    if not percent:
        return None
    unchecked = without_windows(percent, login)
    if unchecked:
        return unchecked
    readings = Readings(context.settings.state, login.identity)
    return of_reading(percent, readings.fresh_or(lambda: read(codex, env)))


def without_windows(percent: int, login: Login) -> Reserve | None:
    """The reserve of a login that has no usage windows; None for one that may have some."""
    problem = WITHOUT_WINDOWS.get(login.kind)
    return Reserve(percent, problem=problem) if problem else None


def of_reading(percent: int, reading: Reading) -> Reserve:
    """The reserve, and what this reading tells about it."""
    problem = reading.problem
    if not problem and not reading.windows:
        problem = "Codex told of no usage windows"
    return Reserve(percent, reading.windows, problem)


def read(codex: Codex, env: Mapping[str, str]) -> Reading:
    """Have Codex ask for the windows. Never raises for what fails there."""
    try:
        return of_app_server(account.rate_limits(codex, env, seconds=READ_SECONDS))
    except CounselError as error:
        return Reading(time.time(), problem=error.message)
    except OSError as error:
        return Reading(time.time(), problem=f"{codex.path}: {error.strerror}")
