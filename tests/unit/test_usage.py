"""What runs took, added up: since when, by what, and how it is shown."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.cli.page import Look, Page, columns
from codex_counsel.cli.render import add_envelope
from codex_counsel.cli.usage import csv_text
from codex_counsel.contract.envelope import Envelope, EnvelopeDict
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import ledger
from codex_counsel.jobs.store import Store
from codex_counsel.services import usage
from codex_counsel.services.usage import moment_of, report, this_month

HOUR = 3600
DAY = 24 * HOUR


class Book:
    """A ledger that a test writes."""

    def __init__(self, state: Path) -> None:
        self.store = Store(state)
        self.count = 0

    def add(self, seconds_ago: float = 0, **changes: Any) -> None:
        self.count += 1
        ended = time.gmtime(time.time() - seconds_ago)
        line = {
            "job_id": f"{self.count:032x}",
            "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", ended),
            "tool": "codex_consult",
            "status": "completed",
            "workspace": "/home/me/project",
            "model": "gpt-6",
            "elapsed_ms": 60_000,
            "tokens": {"input": 100, "cached_input": 40, "output": 10, "reasoning": 5},
            **changes,
        }
        ledger.append(
            self.store.state, {key: value for key, value in line.items() if value}
        )

    def report(self, by: str = "day", since: str = "7d") -> EnvelopeDict:
        return report(self.store, by, since)

    def rows(self, by: str = "day", since: str = "7d") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.report(by, since)["data"]["rows"]
        return rows


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "state")


# --- since when

NOW = datetime.fromisoformat("2026-11-21T15:30:00+01:00")
SINCE = {
    "1h": "2026-11-21T14:30:00+01:00",
    "24h": "2026-11-20T15:30:00+01:00",
    "1d": "2026-11-21T00:00:00+01:00",
    "7d": "2026-11-15T00:00:00+01:00",
    "1w": "2026-11-15T00:00:00+01:00",
    "4w": "2026-10-25T00:00:00+02:00",
    "2026-11-01": "2026-11-01T00:00:00+01:00",
    "2026-07-01": "2026-07-01T00:00:00+02:00",
    "0001-01-01": "1970-01-02T00:00:00+01:00",
    "99999w": "1970-01-02T00:00:00+01:00",
    "99999d": "1970-01-02T00:00:00+01:00",
}


@pytest.mark.parametrize(("since", "begin"), SINCE.items())
def test_the_begin_is_a_moment_of_local_time(
    zone: Callable[[str], None], since: str, begin: str
) -> None:
    zone("Europe/Berlin")
    assert moment_of(since, NOW) == datetime.fromisoformat(begin)


@pytest.mark.parametrize(
    "since",
    [
        "",
        "7",
        "d",
        "0d",
        "-1d",
        "7 d",
        "7D",
        "\uff17d",
        "7m",
        "1.5d",
        "100000d",
        "999999999999999999999d",
        "2026-02-30",
        "2026-13-01",
        "20261121",
        "2026-11-21T00:00",
        "2026-11-22",
        "9999-12-31",
        "yesterday",
        "\x00",
    ],
)
def test_a_begin_that_is_none_is_refused_with_what_can_be_given(since: str) -> None:
    with pytest.raises(CounselError, match=r"--since: .*24h, 7d, 4w") as refusal:
        moment_of(since, NOW)
    assert refusal.value.code == Code.INVALID_ARGUMENTS


def test_a_day_without_a_midnight_begins_at_one(zone: Callable[[str], None]) -> None:
    zone("America/Sao_Paulo")
    now = datetime(2018, 11, 6, 12).astimezone()
    for since in ("2018-11-04", "3d"):
        assert moment_of(since, now).isoformat() == "2018-11-04T01:00:00-02:00"


def test_a_day_is_one_of_local_time(book: Book, zone: Callable[[str], None]) -> None:
    book.add(ended="2026-11-20T22:30:00Z")
    zone("Europe/Berlin")
    assert book.rows(since="2026-11-20")[0]["day"] == "2026-11-20"
    zone("Asia/Tokyo")
    assert book.rows(since="2026-11-20")[0]["day"] == "2026-11-21"


# --- added up


def test_runs_are_added_up_with_their_outcomes(book: Book) -> None:
    book.add()
    book.add(status="failed", code="timeout")
    book.add(status="failed", code="timeout", tokens=None)
    book.add(status="failed", code="stalled", model=None)
    book.add(status="failed", code=None)
    book.add(status="cancelled", code="cancelled", elapsed_ms=0)
    (row,) = book.rows("workspace")
    assert row == {
        "workspace": "/home/me/project",
        "runs": 6,
        "completed": 1,
        "failed": {"timeout": 2, "stalled": 1, "unknown": 1},
        "cancelled": 1,
        "tokens": {"input": 500, "cached_input": 200, "output": 50, "reasoning": 25},
        "minutes": 5.0,
    }
    total = book.report()["data"]["total"]
    assert total == {key: value for key, value in row.items() if key != "workspace"}


def test_lines_are_made_by_what_was_asked_for(book: Book) -> None:
    book.add(tool="codex_consult", model="a", workspace="/x")
    book.add(tool="codex_review_changes", model="b", workspace="/y")
    book.add(tool="codex_review_plan", model="b", workspace="/y")
    book.add(tool="codex_delegate", model=None, workspace="/x")
    book.add(tool="codex_delegate", model="b", workspace="/y")
    assert [row["kind"] for row in book.rows("kind")] == [
        "delegate",
        "consult",
        "plan",
        "review",
    ]
    assert [(row.get("model"), row["runs"]) for row in book.rows("model")] == [
        ("b", 3),
        (None, 1),
        ("a", 1),
    ]
    assert [row["workspace"] for row in book.rows("workspace")] == ["/y", "/x"]


def test_days_come_in_their_order_and_older_runs_not_at_all(book: Book) -> None:
    for days in (2, 0, 1, 6.99, 8, 40):
        tokens = {"input": int(100 - days), "cached_input": 0, "output": 0}
        book.add(days * DAY, tokens={**tokens, "reasoning": 0})
    shown = [row["day"] for row in book.rows()]
    assert shown == sorted(shown)
    assert book.report()["data"]["total"]["runs"] in (3, 4)
    assert book.report(since="10d")["data"]["total"]["runs"] == 5
    assert book.report(since="9w")["data"]["total"]["runs"] == 6


def test_of_rows_with_the_same_tokens_that_of_more_runs_comes_first(
    book: Book,
) -> None:
    for model in ("a", "b", "b"):
        book.add(model=model, tokens=None)
    assert [row["model"] for row in book.rows("model")] == ["b", "a"]


def test_a_run_of_the_last_hour_counts_and_one_before_does_not(book: Book) -> None:
    book.add(HOUR - 60)
    book.add(HOUR + 60)
    assert book.report(since="1h")["data"]["total"]["runs"] == 1


def test_the_month_is_that_of_today(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One moment for all: a month may end while the test runs.
    moment = time.time()

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Stopped:
            return cls.fromtimestamp(moment, tz)

    monkeypatch.setattr("time.time", lambda: moment)
    monkeypatch.setattr(usage, "datetime", Stopped)
    book.add()
    book.add(40 * DAY)
    assert this_month(book.store) == {
        "month": time.strftime("%Y-%m", time.localtime(moment)),
        "runs": 1,
        "tokens": 110,
        "minutes": 1.0,
    }


def test_the_month_begins_on_its_first_day(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Today(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Today:
            return cls(2026, 11, 21, 12, tzinfo=tz)

    monkeypatch.setattr(usage, "datetime", Today)
    book.add(ended="2026-11-02T12:00:00Z")
    book.add(ended="2026-10-30T12:00:00Z")
    month = this_month(book.store)
    assert (month["month"], month["runs"]) == ("2026-11", 1)


def test_a_month_that_cannot_be_read_is_told(book: Book) -> None:
    book.add()
    (file,) = (book.store.state / "usage").iterdir()
    moved = file.rename(book.store.state / "moved")
    file.symlink_to(moved)
    wire = book.report()
    assert wire["data"]["total"]["runs"] == 0
    assert wire["meta"]["warnings"] == [
        "files of the ledger that cannot be read, not counted: 1"
    ]


def test_damaged_lines_are_told(book: Book) -> None:
    book.add()
    (file,) = (book.store.state / "usage").iterdir()
    with file.open("a") as stream:
        stream.write("x\ny\n")
    wire = book.report()
    assert wire["meta"]["warnings"] == ["damaged lines of the ledger, not counted: 2"]
    assert wire["data"]["total"]["runs"] == 1


# --- shown


def page(wire: EnvelopeDict, width: int | None = None, **look: Any) -> list[str]:
    shown = Page(Look(width, **look))
    add_envelope(shown, Envelope.parse(wire))
    return str(shown).splitlines()


def fill(book: Book) -> None:
    book.add(tokens={"input": 10**9, "cached_input": 1, "output": 1, "reasoning": 1})
    book.add(
        workspace="/home/me/日本語のプロジェクト" * 20, status="failed", code="timeout"
    )
    book.add(workspace="/=1+1", model="\x1b[31mred\u202e")
    book.add(workspace="\n::error::x", model="=cmd|' /C calc'!A0")


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("by", ["day", "workspace", "kind", "model"])
def test_the_table_fits_the_width_and_ends_with_the_total(
    book: Book, by: str, width: int
) -> None:
    fill(book)
    lines = page(book.report(by), width)
    assert max(map(columns, lines)) <= width
    assert lines[0].split()[1] == "RUNS"
    table = lines[: 2 + len(book.rows(by))]
    assert table[-1].startswith("total")
    assert len({columns(line) for line in table}) == 1
    assert "MINUTES" in lines[0]
    # A directory gets room before the last number does.
    is_wide = width == 120 or (width == 80 and by in ("day", "kind"))
    assert ("REASONING" in lines[0]) == is_wide
    assert "  failed: timeout 1" in lines
    assert ("INPUT" in lines[0]) == ("1000.0M" in table[-1])
    assert "INPUT" in lines[0] or width == 40


def test_a_terminal_that_is_too_narrow_for_the_table_shows_it_all_the_same(
    book: Book,
) -> None:
    fill(book)
    assert page(book.report(), 5)[0].split()[:2] == ["DAY", "RUNS"]


def test_a_pipe_gets_whole_paths(book: Book) -> None:
    long = "/home/me/" + "x" * 300
    book.add(workspace=long)
    assert any(line.startswith(f"{long}  ") for line in page(book.report("workspace")))


def test_quiet_leaves_the_rows(book: Book) -> None:
    book.add(status="failed", code="timeout")
    lines = page(book.report("kind"), quiet=True)
    assert [line.split()[0] for line in lines] == ["consult", "total"]


def test_nothing_is_said_in_a_sentence(book: Book) -> None:
    (line,) = page(book.report(since="2026-11-01"))
    assert line == "No run has ended since 2026-11-01."


def rows_of_csv(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_csv_has_a_line_of_titles_and_no_formula(book: Book) -> None:
    fill(book)
    titles, *rows = rows_of_csv(csv_text(book.report("model")))
    assert titles == [
        *("model", "runs", "completed", "failed", "cancelled", "failed_codes"),
        *("input", "cached_input", "output", "reasoning", "minutes"),
    ]
    names = [row[0] for row in rows]
    assert "'=cmd|' /C calc'!A0" in names
    assert not any("\x1b" in name or "\u202e" in name for name in names)
    by_name = dict(zip(names, rows, strict=True))
    assert by_name["gpt-6"][1:6] == ["2", "1", "1", "0", "timeout 1"]
    assert by_name["gpt-6"][6] == str(10**9 + 100)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\n", "\uff1d"])
def test_no_cell_is_a_formula(book: Book, sign: str) -> None:
    book.add(workspace=f"{sign}1+1", status="failed", code=f"{sign}2")
    _, row = rows_of_csv(csv_text(book.report("workspace")))
    assert row[0] == f"'{sign}1+1"
    assert not row[5].startswith(sign)


def test_a_run_without_a_model_has_an_empty_cell(book: Book) -> None:
    book.add(model=None)
    _, row = rows_of_csv(csv_text(book.report("model")))
    assert row[0] == ""
    assert page(book.report("model"))[1].split()[0] == "-"


def test_the_report_is_json_whatever_stands_in_the_ledger(book: Book) -> None:
    book.add(workspace="\ud800", model="\udfff")
    text = json.dumps(book.report("model"))
    assert "\\ud" not in text


def test_runs_there_is_no_time_for_are_told(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "UNNOTED_SECONDS", -1)
    (book.store.directory / ("a" * 32)).mkdir(parents=True)
    (warning,) = book.report()["meta"]["warnings"]
    assert "not counted yet: 1" in warning
