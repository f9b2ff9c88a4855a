"""The stored reading of an account's usage windows: parsed from two sources, fresh for a minute, newest first."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex import windows
from codex_counsel.codex.windows import IN_RECORD, Reading, Readings, Window

ACCOUNT = "0123456789abcdef"
HOUR = 3600
PRIMARY = {"used_percent": 55.5, "window_minutes": 300, "resets_at": 4_000_000_000}


def readings(tmp_path: Path) -> Readings:
    return Readings(tmp_path, ACCOUNT)


def reading(seconds_ago: float = 0, used: float = 10) -> Reading:
    return Reading(
        time.time() - seconds_ago,
        (Window("primary", used, 300.0, time.time() + HOUR),),
    )


WINDOWS: dict[str, tuple[Any, list[tuple[str, float]]]] = {
    "both": (
        {"primary": PRIMARY, "secondary": {"used_percent": 12}},
        [("primary", 55.5), ("secondary", 12.0)],
    ),
    "one": ({"primary": None, "secondary": PRIMARY}, [("secondary", 55.5)]),
    "none": ({"primary": None, "secondary": None, "credits": {}}, []),
    "no number": ({"primary": {"used_percent": "12"}}, []),
    "a truth for a number": ({"primary": {"used_percent": True}}, []),
    "no finite number": ({"primary": {"used_percent": float("nan")}}, []),
    "beyond a float": ({"primary": {"used_percent": 10**400}}, []),
    "a list": ([], []),
    "nothing": (None, []),
    "a window that is none": ({"primary": [1, 2]}, []),
}


@pytest.mark.parametrize(("limits", "used"), WINDOWS.values(), ids=WINDOWS.keys())
def test_the_windows_with_a_number_are_read(
    limits: Any, used: list[tuple[str, float]]
) -> None:
    parsed = windows.parse(limits, IN_RECORD)
    assert [(window.name, window.used_percent) for window in parsed] == used


@pytest.mark.parametrize(
    ("used", "resets_in", "left"),
    [
        (30, HOUR, 70),
        (100, HOUR, 0),
        (130, HOUR, 0),
        (-5, HOUR, 100),
        (30, None, 70),
        (99, -1, 100),
    ],
)
def test_what_is_left_is_what_was_not_used_and_all_after_the_reset(
    used: float, resets_in: float | None, left: float
) -> None:
    resets_at = None if resets_in is None else time.time() + resets_in
    assert Window("primary", used, 300, resets_at).left_percent() == left


@pytest.mark.parametrize(
    ("minutes", "title"),
    [
        (300, "5-hour"),
        (10_080, "weekly"),
        (1440, "daily"),
        (90, "90-minute"),
        (None, "primary"),
    ],
)
def test_a_window_is_named_by_its_length(minutes: float | None, title: str) -> None:
    assert Window("primary", 0, minutes).title == title


def test_a_reading_is_stored_whole_and_for_us_alone(tmp_path: Path) -> None:
    kept = reading(used=55.5)
    readings(tmp_path).keep(kept)
    assert readings(tmp_path).fresh() == kept
    file = tmp_path / "windows" / f"{ACCOUNT}.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_the_reading_of_another_account_is_none(tmp_path: Path) -> None:
    Readings(tmp_path, "fedcba9876543210").keep(reading())
    assert readings(tmp_path).fresh() is None


@pytest.mark.parametrize(
    ("seconds_ago", "is_fresh"), [(0, True), (59, True), (61, False), (-1, False)]
)
def test_a_reading_is_fresh_for_a_minute_and_never_from_the_future(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds_ago: float,
    is_fresh: bool,
) -> None:
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now)
    readings(tmp_path).keep(reading(seconds_ago))
    assert (readings(tmp_path).fresh() is not None) is is_fresh


def test_an_older_reading_does_not_replace_a_newer_one_but_one_of_the_future(
    tmp_path: Path,
) -> None:
    newer = reading(5)
    readings(tmp_path).keep(newer)
    readings(tmp_path).keep(reading(20))
    assert readings(tmp_path).fresh() == newer
    readings(tmp_path).keep(reading(-HOUR))
    present = reading(1)
    readings(tmp_path).keep(present)
    assert readings(tmp_path).fresh() == present


def test_a_newer_reading_that_comes_while_an_older_one_is_kept_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.system.files.CHANGE_PATIENCE", 60.0)
    late, newer = readings(tmp_path), reading(5)
    others: list[threading.Thread] = []

    def stored_before() -> None:
        others.append(threading.Thread(target=readings(tmp_path).keep, args=(newer,)))
        others[0].start()
        # It waits for its turn, or else it is stored by then.
        others[0].join(0.5)

    monkeypatch.setattr(late, "_stored", stored_before)
    late.keep(reading(20))
    others[0].join()
    assert readings(tmp_path).fresh() == newer


DAMAGED = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "no time": b'{"taken": null, "windows": [], "problem": ""}',
    "a word for a time": b'{"taken": "now", "windows": [], "problem": ""}',
    "no end": b'{"taken": NaN, "windows": [], "problem": ""}',
    "a word for a window": b'{"taken": NOW, "windows": ["x"], "problem": ""}',
    "a window without a name": b'{"taken": NOW, "windows": [{"used_percent": 9}], "problem": ""}',
    "a window of another name": b'{"taken": NOW, "windows": [{"name": "third", "used_percent": 9}], "problem": ""}',
    "bottomless": b"[" * 9_000,
    "bytes": b"\xff\x00",
    "huge": b'{"taken": NOW, "windows": [], "problem": "' + b"x" * 20_000 + b'"}',
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_no_reading_and_is_replaced(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "windows").mkdir()
    file = tmp_path / "windows" / f"{ACCOUNT}.json"
    file.write_bytes(data.replace(b"NOW", repr(time.time()).encode()))
    assert readings(tmp_path).fresh() is None
    kept = reading()
    assert readings(tmp_path).fresh_or(lambda: kept) == kept
    assert readings(tmp_path).fresh() == kept


def test_where_nothing_can_be_written_each_launch_reads(tmp_path: Path) -> None:
    (tmp_path / "windows").write_text("")
    asked = []

    def read() -> Reading:
        asked.append(1)
        return reading()

    for _ in range(2):
        assert readings(tmp_path).fresh_or(read).windows
    assert len(asked) == 2


def test_of_many_launches_at_once_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, none may take the reader for one that hangs.
    monkeypatch.setattr(windows, "LOCK_SECONDS", 60.0)
    asked = []
    found: list[Reading] = []

    def read() -> Reading:
        asked.append(1)
        time.sleep(0.2)
        return reading()

    def launch() -> None:
        found.append(readings(tmp_path).fresh_or(read))

    threads = [threading.Thread(target=launch) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1
    assert len(found) == 12
    assert len(set(found)) == 1


def test_a_failed_reading_is_not_repeated_within_the_minute(tmp_path: Path) -> None:
    asked = []

    def read() -> Reading:
        asked.append(1)
        return Reading(time.time(), problem="no network")

    for _ in range(3):
        assert readings(tmp_path).fresh_or(read).problem == "no network"
    assert len(asked) == 1


def test_what_is_known_counts_until_its_reset_where_nobody_can_tell(
    tmp_path: Path,
) -> None:
    known = Window("primary", 95, 300.0, time.time() + HOUR)
    over = Window("secondary", 95, 10_080.0, time.time() - 1)
    readings(tmp_path).keep(Reading(time.time() - HOUR, (known, over)))

    def fail() -> Reading:
        return Reading(time.time(), problem="no network")

    for _ in range(2):
        found = readings(tmp_path).fresh_or(fail)
        assert (found.windows, found.problem) == ((known,), "no network")

    endless = Window("primary", 95, 300.0)
    readings(tmp_path).keep(Reading(time.time(), (endless,)))
    assert readings(tmp_path).with_known(fail()).windows == ()
    assert readings(tmp_path).with_known(reading(used=1)).windows[0].used_percent == 1


def test_a_launch_that_hangs_holds_nobody_up_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LOCK_SECONDS", 0.1)
    known = Window("primary", 95, 300.0, time.time() + HOUR)
    readings(tmp_path).keep(Reading(time.time() - HOUR, (known,)))
    go_on = threading.Event()
    began = threading.Event()

    def hang() -> Reading:
        began.set()
        go_on.wait(60)
        return reading()

    other = threading.Thread(target=readings(tmp_path).fresh_or, args=(hang,))
    other.start()
    assert began.wait(60)
    found = readings(tmp_path).fresh_or(reading)
    assert (found.windows, found.problem) == (
        (known,),
        "another call is still reading",
    )
    go_on.set()
    other.join()


def test_the_note_of_a_thread_becomes_a_reading_of_its_time() -> None:
    taken = windows.of_record((1_700_000_000.0, {"primary": PRIMARY}))
    assert taken == Reading(
        1_700_000_000.0, (Window("primary", 55.5, 300.0, 4_000_000_000.0),)
    )
    future = windows.of_record((time.time() + HOUR, {"primary": PRIMARY}))
    assert future
    assert future.taken <= time.time()


@pytest.mark.parametrize("noted", [None, (1.0, {}), (1.0, {"primary": None})])
def test_a_note_without_windows_is_no_reading(
    noted: tuple[float, dict[str, Any]] | None,
) -> None:
    assert windows.of_record(noted) is None


def test_a_stored_reading_is_what_is_documented(tmp_path: Path) -> None:
    readings(tmp_path).keep(Reading(5.0, (Window("primary", 1.0),), ""))
    stored = json.loads((tmp_path / "windows" / f"{ACCOUNT}.json").read_text())
    assert stored == {
        "taken": 5.0,
        "windows": [
            {"name": "primary", "used_percent": 1.0, "minutes": None, "resets_at": None}
        ],
        "problem": "",
    }
