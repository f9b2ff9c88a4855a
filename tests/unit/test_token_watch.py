"""The tokens of a run while it goes on: counted from what is appended to Codex's record of the thread."""

from __future__ import annotations

import io
import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from codex_counsel.codex import rollout, token_watch
from codex_counsel.codex.token_watch import TokenWatch

THREAD = "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f"


def usage(total: int) -> dict[str, int]:
    """Counts of which a tenth is output."""
    return {"input_tokens": total - total // 10, "output_tokens": total // 10}


def line(kind: str, **payload: Any) -> bytes:
    row = {"timestamp": "2026-11-21T07:55:33.971Z", "type": kind, "payload": payload}
    return json.dumps(row).encode() + b"\n"


def count(total: int, **more: Any) -> bytes:
    info = {"total_token_usage": usage(total), "last_token_usage": usage(1)}
    return line("event_msg", type="token_count", info=info, **more)


def response(tokens: int, total: int | None = None) -> bytes:
    """The line of a response, which comes before that of the total."""
    of_thread = usage(total or tokens)
    return line(
        "token_usage_record",
        thread_id=THREAD,
        usage=usage(tokens),
        thread_token_usage=of_thread,
    )


NO_INFO = line("event_msg", type="token_count", info=None, rate_limits={"primary": 1})
SAID = line("response_item", type="message", text='a "token_count" in a text')
DAMAGED = b'{"type":"event_msg","payload":{"type":"token_count","info":{"total\n'
FULL = count(0)
CALLED_LIKE_IT = line(
    "response_item", type="function_call", name="token_count", info=usage(9000)
)
LYING = line("event_msg", type="token_count", info={"total_token_usage": "many"})
LONG = line("response_item", type="function_call_output", output="x" * 300_000)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    folder = tmp_path / "sessions/2026/11/21"
    folder.mkdir(parents=True)
    return folder / f"rollout-2026-11-21T07-55-33-{THREAD}.jsonl"


def append(record: Path, *lines: bytes) -> None:
    with record.open("ab") as file:
        file.write(b"".join(lines))


@pytest.mark.parametrize(
    ("lines", "used"),
    [
        ([], 0),
        ([count(1000)], 1000),
        ([count(1000), count(2500)], 2500),
        ([response(1000)], 1000),
        ([response(1000), count(1000), response(1000, 2000)], 2000),
        ([response(2000), count(1000)], 2000),
        ([count(1000), count(2500), FULL, count(400)], 2900),
        ([response(1000), count(1000), FULL, response(400, 1400), count(400)], 1400),
        ([CALLED_LIKE_IT, count(1000)], 1000),
        ([count(1000), NO_INFO], 1000),
        ([count(1000, rate_limits={"primary": {"used_percent": 12.5}})], 1000),
        ([SAID, count(1000), SAID, LONG], 1000),
        ([DAMAGED, LYING, b"\xff\n", b"\n", count(1000)], 1000),
        ([count(1000), count(1000), line("compacted"), count(1000)], 1000),
        ([count(1000), count(2000)[:-40]], 1000),
    ],
)
def test_the_total_of_a_new_thread_is_what_the_run_used(
    record: Path, tmp_path: Path, lines: list[bytes], used: int
) -> None:
    append(record, *lines)
    assert TokenWatch(tmp_path).look(THREAD) == used


def later(*lines: bytes) -> list[bytes]:
    """The same lines a minute later."""
    return [each.replace(b"T07:55:33.971Z", b"T07:56:33.971Z") for each in lines]


@pytest.mark.parametrize("block", [50, token_watch.BLOCK])
@pytest.mark.parametrize("already", [0, 7000])
def test_what_codex_added_before_anybody_looked_counts(
    record: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    already: int,
    block: int,
) -> None:
    monkeypatch.setattr(token_watch, "BLOCK", block)
    monkeypatch.setattr(token_watch, "MAX_BLOCKS", 100_000)
    total = already + 1000
    since = later(SAID, response(1000, total), DAMAGED, count(total), LONG, NO_INFO)
    append(record, SAID, *([count(already), SAID, DAMAGED] if already else []), *since)
    began = datetime.fromisoformat("2026-11-21T07:56:00Z").timestamp()
    watch = TokenWatch(tmp_path, THREAD, began)
    assert watch.look(THREAD) == 1000
    append(record, *later(count(total + 500)))
    assert watch.look(THREAD) == 1500


def test_what_was_written_before_the_clock_was_set_back_does_not_count(
    record: Path, tmp_path: Path
) -> None:
    ahead = count(7000).replace(b"2026-", b"2999-")
    append(record, ahead)
    watch = TokenWatch(tmp_path, THREAD, time.time() - 5)
    append(record, count(7500))
    assert watch.look(THREAD) == 500


@pytest.mark.parametrize(
    ("before", "already"),
    [
        ([], 0),
        ([count(7000)], 7000),
        ([count(5000), count(7000), NO_INFO, SAID], 7000),
        ([response(6000), count(6000), response(1000, 7000), LONG], 6000),
        ([response(7000), count(7000), FULL], 0),
        ([count(7000), DAMAGED, LYING, b"\xff\n"], 7000),
        ([count(7000), LONG, LONG, LONG, LONG], 7000),
        ([LONG, LONG, LONG, LONG], 0),
    ],
)
def test_what_a_continued_thread_had_before_does_not_count(
    record: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: list[bytes],
    already: int,
) -> None:
    append(record, *before)
    for block in (1 << 20, 1000, 7):
        if block == 7 and LONG in before:
            continue
        monkeypatch.setattr(token_watch, "BLOCK", block)
        monkeypatch.setattr(token_watch, "MAX_BLOCKS", 10**6)
        watch = TokenWatch(tmp_path, THREAD)
        assert watch.look(THREAD) == 0
        with record.open("ab") as file:
            size = file.tell()
            file.write(SAID + count(already + 400))
        assert watch.look(THREAD) == 400
        with record.open("rb+") as file:
            file.truncate(size)


def test_the_total_of_a_thread_that_was_full_once_is_not_that_of_this_run(
    record: Path, tmp_path: Path
) -> None:
    append(record, response(90_000), count(90_000), FULL)
    watch = TokenWatch(tmp_path, THREAD)
    append(record, FULL, response(500, 90_500))
    assert watch.look(THREAD) == 500
    append(record, count(500), count(500))
    assert watch.look(THREAD) == 500


def test_a_line_that_is_still_being_written_counts_once_it_is_whole(
    record: Path, tmp_path: Path
) -> None:
    record.touch()
    watch = TokenWatch(tmp_path)
    whole = count(1000)
    for index in range(0, len(whole), 20):
        assert watch.look(THREAD) == 0
        append(record, whole[index : index + 20])
    assert watch.look(THREAD) == 1000

    # The same for the line at which a continued thread was found.
    append(record, count(3000)[:50])
    continued = TokenWatch(tmp_path, THREAD)
    append(record, count(3000)[50:])
    assert continued.look(THREAD) == 2000


def test_a_record_that_comes_late_or_goes_away_is_no_reason_to_fail(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_watch, "SEARCH_PAUSE", 0.0)
    watch = TokenWatch(tmp_path)
    assert watch.look(None) == 0
    assert watch.look(THREAD) == 0
    append(record, count(1000))
    assert watch.look(THREAD) == 1000
    record.unlink()
    assert watch.look(THREAD) == 1000
    append(record, LONG, count(2000))
    assert watch.look(THREAD) == 2000


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_what_is_no_file_is_not_waited_for(
    record: Path, tmp_path: Path, kind: str
) -> None:
    append(record, count(1000))
    watch = TokenWatch(tmp_path)
    assert watch.look(THREAD) == 1000
    record.unlink()
    if kind == "fifo":
        os.mkfifo(record)
    elif kind == "device":
        record.symlink_to("/dev/zero")
    else:
        record.mkdir()
    assert watch.look(THREAD) == 1000
    assert TokenWatch(tmp_path, THREAD).look(THREAD) == 0
    assert rollout.last_turns(record) == rollout.TurnRecord()
    assert rollout.rate_limits(record) is None
    assert not rollout.holds_everything(tmp_path, THREAD)


def test_the_record_of_a_new_thread_is_not_searched_for_again_at_once(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_watch, "SEARCH_PAUSE", 3600)
    watch = TokenWatch(tmp_path)
    assert watch.look(THREAD) == 0
    append(record, count(1000))
    assert watch.look(THREAD) == 0
    assert TokenWatch(tmp_path).look(THREAD) == 1000


def test_a_look_reads_only_what_was_appended(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    class Counted(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            read.append(len(data))
            return data

    def open_counted(file: Path) -> BinaryIO:
        return Counted(io.FileIO(file))

    monkeypatch.setattr(token_watch, "open_regular", open_counted)
    append(record, *[LONG] * 700, count(5000))
    watch = TokenWatch(tmp_path, THREAD)
    assert 0 < sum(read) <= token_watch.BLOCK
    append(record, count(5100))
    assert watch.look(THREAD) == 100

    read.clear()
    for _ in range(100):
        assert watch.look(THREAD) == 100
    assert read == [0] * 100
    append(record, count(5200))
    assert watch.look(THREAD) == 200
    assert sum(read) == len(count(5200))


def test_what_a_command_prints_at_once_is_read_over_some_looks(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_watch, "BLOCK", 100_000)
    append(record, *[LONG] * 8, count(1000))
    watch = TokenWatch(tmp_path)
    assert watch.look(THREAD) == 0
    assert watch.look(THREAD) == 1000
