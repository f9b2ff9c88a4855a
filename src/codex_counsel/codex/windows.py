"""The usage windows of a ChatGPT account: how much of each is left, as Codex told last.

`<state>/windows/<account>.json` holds the newest reading of an account. Every run leaves one
there for free, so that a launch seldom has to ask.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from codex_counsel.system.files import (
    changing,
    lock_file,
    read_regular,
    write_atomically,
)
from codex_counsel.system.json_values import Json, JsonObject

FRESH_SECONDS = 60
"""How old a reading may be that a launch goes by."""
LOCK_SECONDS = 4.0
"""How long a launch waits for the reading of another one; longer than a reading may take."""
MAX_BYTES = 10_000
"""Of the stored reading."""
NAMES = ("primary", "secondary")
IN_APP_SERVER = ("usedPercent", "windowDurationMins", "resetsAt")
IN_RECORD = ("used_percent", "window_minutes", "resets_at")
"""The fields of a window in an answer of the app server, and in Codex's record of a thread (0.148 to 0.169)."""
TITLES = {300: "5-hour", 1440: "daily", 10_080: "weekly"}


@dataclass(frozen=True)
class Window:
    """`name` is primary or secondary; `resets_at` is in epoch seconds. None where Codex does not tell."""

    name: str
    used_percent: float
    minutes: float | None = None
    resets_at: float | None = None

    @property
    def title(self) -> str:
        """The window in the words of a person, such as `5-hour`."""
        if self.minutes is None:
            return self.name
        return TITLES.get(round(self.minutes), f"{self.minutes:g}-minute")

    def left_percent(self) -> float:
        """How much is left now: of a window that has been reset since, all."""
        if self.resets_at is not None and self.resets_at <= time.time():
            return 100.0
        return min(max(100.0 - self.used_percent, 0.0), 100.0)


@dataclass(frozen=True)
class Reading:
    """What was told at `taken` (epoch seconds).

    `problem` is why nothing was; then the windows are those told before, as far as they
    are not reset: none of them has more left since.
    """

    taken: float
    windows: tuple[Window, ...] = ()
    problem: str = ""


def parse(limits: Json, names: tuple[str, str, str]) -> tuple[Window, ...]:
    """The windows of an object with `primary` and `secondary`, whose fields have these `names`.

    A window that is missing, or without a number of used per cent, is left out.
    """
    windows = []
    for name in NAMES:
        window = limits.get(name) if isinstance(limits, dict) else None
        if not isinstance(window, dict):
            continue
        used, minutes, resets_at = (_number(window.get(key)) for key in names)
        if used is not None:
            windows.append(Window(name, used, minutes, resets_at))
    return tuple(windows)


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


class Readings:
    """The stored reading of one account. A file that is missing or damaged is no reading."""

    def __init__(self, state: Path, account: str) -> None:
        self._file = state / "windows" / f"{account}.json"

    def fresh(self) -> Reading | None:
        """The reading, where it is at most a minute old."""
        reading = self._stored()
        # One of the future is from before the clock was set back.
        if reading and 0 <= time.time() - reading.taken <= FRESH_SECONDS:
            return reading
        return None

    def keep(self, reading: Reading) -> None:
        """Store it, unless a newer one is there. What cannot be stored is read again by the next launch."""
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with changing(self._file):
                stored = self._stored()
                if stored and reading.taken < stored.taken <= time.time():
                    return
                write_atomically(self._file, json.dumps(asdict(reading)))

    def fresh_or(self, read: Callable[[], Reading]) -> Reading:
        """A fresh reading; where there is none, that of `read`. Of several callers at once one reads.

        One with a problem keeps the windows that are known.
        """
        reading = self.fresh()
        if reading:
            return reading
        with self._turn() as is_ours:
            reading = self.fresh()
            if reading:
                return reading
            if not is_ours:
                problem = "another call is still reading"
                return self.with_known(Reading(time.time(), problem=problem))
            reading = self.with_known(read())
            self.keep(reading)
            return reading

    def with_known(self, reading: Reading) -> Reading:
        """The reading; one with a problem gets the windows of the last one, however old, that will be reset later."""
        if not reading.problem:
            return reading
        stored = self._stored()
        if stored is None:
            return reading
        now = time.time()
        later = [
            window
            for window in stored.windows
            if window.resets_at is not None and window.resets_at > now
        ]
        return replace(reading, windows=tuple(later))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Wait for the callers before us; false where one of them does not end."""
        lock: int | None = None
        is_ours = True
        # Where no lock can be had, nothing can be stored for others either.
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._file.with_suffix(".lock")
            lock = lock_file(path, patience=LOCK_SECONDS)
            is_ours = lock is not None
        try:
            yield is_ours
        finally:
            if lock is not None:
                os.close(lock)

    def _stored(self) -> Reading | None:
        try:
            raw = json.loads(read_regular(self._file, MAX_BYTES) or b"")
        except (ValueError, RecursionError):
            return None
        match raw:
            case {"taken": taken, "windows": list(windows), "problem": str(problem)}:
                return _reading(taken, windows, problem)
        return None


def _reading(taken: Json, raw: list[Json], problem: str) -> Reading | None:
    moment = _number(taken)
    if moment is None:
        return None
    windows = []
    for window in raw:
        if not isinstance(window, dict):
            return None
        # Each was written under its name, and is read with the fields that it was written with.
        names = ("used_percent", "minutes", "resets_at")
        parsed = parse({str(window.get("name")): window}, names)
        if len(parsed) != 1:
            return None
        windows.append(parsed[0])
    return Reading(moment, tuple(windows), problem)


def of_app_server(limits: Mapping[str, Json]) -> Reading:
    """The reading in an answer of the app server, taken now."""
    return Reading(time.time(), parse(dict(limits), IN_APP_SERVER))


def of_record(note: tuple[float, JsonObject] | None) -> Reading | None:
    """The reading in Codex's record of a thread, see `rollout.rate_limits`; None where it holds no window."""
    if note is None:
        return None
    moment, limits = note
    windows = parse(limits, IN_RECORD)
    if not windows:
        return None
    return Reading(min(moment, time.time()), windows)
