"""When a run is refused for the reserve, and what the refusal says of each window."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from codex_counsel.codex.binary import Codex
from codex_counsel.codex.limits import MAX_LIMIT_SECONDS
from codex_counsel.codex.windows import Reading, Window
from codex_counsel.prepare.reserve import Reserve, of_reading, read

HOUR = 3600


def window(used: float, hours: float | None = 1, minutes: float | None = 300) -> Window:
    """A window that is reset after so many hours: `from_now` says from when."""
    resets_at = None if hours is None else hours * HOUR
    return Window("primary", used, minutes, resets_at)


def from_now(windows: list[Window]) -> tuple[Window, ...]:
    """These windows, their hours counted from now, which may be long after the tests were collected."""
    now = time.time()
    return tuple(
        window
        if window.resets_at is None
        else replace(window, resets_at=now + window.resets_at)
        for window in windows
    )


RESERVES: dict[str, tuple[list[Window], list[float]]] = {
    "enough": ([window(80), window(0)], []),
    "just too little": ([window(80.1)], [19.9]),
    "in one of two": ([window(10), window(95, minutes=10_080)], [5]),
    "in both": ([window(100), window(95)], [0, 5]),
    "used beyond all": ([window(1e308)], [0]),
    "reset since": ([window(100, -0.01)], []),
    "reset at an unknown time": ([window(100, None)], [0]),
    "no window": ([], []),
}


@pytest.mark.parametrize(("windows", "left"), RESERVES.values(), ids=RESERVES.keys())
def test_a_run_is_refused_where_a_window_has_less_left(
    windows: list[Window], left: list[float]
) -> None:
    refusal = Reserve(20, from_now(windows)).refusal()
    if not left:
        assert refusal is None
        return
    assert refusal
    told = refusal.details["windows"]
    assert [row["left_percent"] for row in told] == left
    assert refusal.message.count("% left") == len(left)


RESETS: dict[str, tuple[list[Window], float | None]] = {
    "the later one": ([window(99, 1), window(99, 2)], 2 * HOUR),
    "one that has enough does not count": ([window(99, 1), window(1, 2)], HOUR),
    "one is unknown": ([window(99, 1), window(99, None)], None),
    "in many years": ([window(99, 1e6)], MAX_LIMIT_SECONDS),
    "beyond all clocks": ([window(99, 1e300)], MAX_LIMIT_SECONDS),
}


@pytest.mark.parametrize(("windows", "seconds"), RESETS.values(), ids=RESETS.keys())
def test_the_next_try_is_after_the_last_reset_that_is_needed(
    windows: list[Window], seconds: float | None
) -> None:
    refusal = Reserve(20, from_now(windows)).refusal()
    assert refusal
    json.dumps(refusal.details, allow_nan=False)
    if seconds is None:
        assert refusal.retry_after_ms is None
        return
    assert refusal.retry_after_ms
    assert seconds - HOUR / 2 < refusal.retry_after_ms / 1000 <= seconds


def test_a_codex_that_cannot_be_started_leaves_the_reserve_unchecked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cannot_start(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("codex_counsel.codex.account.rate_limits", cannot_start)
    codex = Codex(Path("/bin/codex"), (), "0.169.0", "PATH")
    assert read(codex, {}).problem == "/bin/codex: Cannot allocate memory"


def test_a_reading_without_windows_is_a_reserve_that_was_not_checked() -> None:
    for reading, reason in (
        (Reading(0), "Codex told of no usage windows"),
        (Reading(0, problem="no network"), "no network"),
    ):
        reserve = of_reading(20, reading)
        assert reserve.refusal() is None
        assert reserve.report() == {"percent": 20, "problem": reason}
        assert reserve.warnings() == (f"the reserve of 20 % was not checked: {reason}",)
    assert of_reading(20, Reading(0, from_now([window(1)]))).warnings() == ()


def test_a_check_by_what_was_told_earlier_is_called_so() -> None:
    known = Reading(0, (Window("primary", 50.0),), "no network")
    assert of_reading(20, known).warnings() == (
        "the reserve of 20 % was checked by what Codex told earlier: no network",
    )
