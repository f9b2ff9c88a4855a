"""How far a batch has come, in one line."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from codex_counsel.batch.model import Load
from codex_counsel.batch.progress import Progress
from codex_counsel.batch.totals import Totals
from codex_counsel.cli.batch_display import Display
from codex_counsel.cli.progress import LINE
from codex_counsel.system.amounts import duration, short_number

BEGINNING = Progress(300, Totals(), Load(4, 0, 0), ended_now=0, seconds=1.0)
HALF_WAY = Progress(
    300,
    Totals(ended=100, failed=3, lost=1, tokens=1_234_567),
    Load(4, 2, 0),
    ended_now=50,
    seconds=600,
)


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (BEGINNING, "0/300 done, 4 running, 0 tokens"),
        (
            HALF_WAY,
            "100/300 done, 40m left, 4 running, 2 queued, 2 failed, 1 lost, 1.2M tokens, 5.0/min",
        ),
        (
            replace(HALF_WAY, paused_seconds=7300.0),
            "100/300 done, paused for 2h 1m, 2h 41m left, 4 running, 2 queued, 2 failed, 1 lost, 1.2M tokens, 5.0/min",
        ),
        (
            replace(HALF_WAY, stopping=True),
            "100/300 done, stopping, 4 running, 2 queued, 2 failed, 1 lost, 1.2M tokens, 5.0/min",
        ),
    ],
)
def test_the_line_has_what_applies(progress: Progress, text: str) -> None:
    assert progress.text() == text


def test_durations_and_numbers_are_short() -> None:
    assert [duration(seconds) for seconds in (0, 59, 60, 3600, 86_400 * 2)] == [
        "0s",
        "59s",
        "1m",
        "1h 0m",
        "2d 0h",
    ]
    assert [short_number(number) for number in (0, 999, 1_000, 1_000_000)] == [
        "0",
        "999",
        "1.0k",
        "1.0M",
    ]


class Clock:
    """Stands for the time that passes between two calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def with_ended(count: int) -> Progress:
    return replace(BEGINNING, totals=Totals(ended=count))


def test_elsewhere_than_on_a_terminal_a_line_comes_each_ten_per_cent_and_each_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display()
    shown = {5: 3, 11: 3, 12: 31, 13: 90, 40: 91, 72: 92, 200: 92}
    for now, ended in shown.items():
        clock.now = now
        display.update(with_ended(ended), [])
    lines = [line.split("/")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["batch: 31", "batch: 91", "batch: 92"]


def test_events_are_shown_at_once_and_nothing_where_it_is_quiet(
    clock: Clock,  # no time passes
    capsys: pytest.CaptureFixture[str],
) -> None:
    Display().update(BEGINNING, ["item-1 is lost"])
    Display(quiet=True).update(BEGINNING, ["item-2 is lost"])
    assert capsys.readouterr().err == "batch: item-1 is lost\n"


def test_a_stream_that_takes_no_more_does_not_end_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(io.StringIO):
        def write(self, _text: str, /) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(LINE, "quiet", False)
    ways: list[Callable[[Display], None]] = [
        lambda display: display.update(BEGINNING, ["an event"]),
        lambda display: display.say_each(["a sentence"]),
    ]
    for show in ways:
        monkeypatch.setattr("sys.stderr", Full())
        display = Display()
        show(display)
        assert display.is_muted
        display.update(BEGINNING, ["another one"])
        display.end()
        # It leads nowhere now.
        sys.stderr.close()
