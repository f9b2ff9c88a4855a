"""The ledger of findings holds what was put there, whatever happens to its file, its writers and its disk."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.findings import ledger as ledgers
from codex_counsel.findings.entry import MAX_TITLE, Entry, Sighting
from codex_counsel.findings.identity import MAX_WORDS, finding_id, kept
from codex_counsel.findings.ledger import Ledger
from codex_counsel.system.files import lock_file


def entry_of(number: int, **changes: Any) -> Entry:
    name = finding_id(path="app.py", words=f"line {number}", category="logic")
    seen = Sighting(time=f"2026-01-01T00:00:{number % 60:02}Z", job="0" * 32)
    entry = Entry(
        id=name,
        severity="high",
        category="logic",
        title=f"Finding {number}",
        file="app.py",
        line=number + 1,
        words=f"line {number}",
        quotes=True,
        first=seen,
        last=seen,
    )
    return replace(entry, **changes)


def put(ledger: Ledger, *entries: Entry) -> None:
    with ledger.changing() as changing:
        for entry in entries:
            changing.put(entry)


def titles(ledger: Ledger) -> list[str]:
    return [entry.title for entry in ledger.read().entries.values()]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.of(tmp_path / "state", tmp_path / "shop" / ".git")


def test_what_was_put_is_read_back_whole_and_by_cat(ledger: Ledger) -> None:
    assert ledger.read().entries == {}
    entry = entry_of(
        1, reason="\x1b[2J\u202e meant", by="somebody", risk="R", plan="p.md"
    )
    put(ledger, entry)
    assert ledger.read().entries == {entry.id: entry}
    text = ledger.file.read_bytes()
    assert all(byte == 10 or 32 <= byte < 127 for byte in text)
    assert json.loads(text)["title"] == "Finding 1"
    assert [ledger.file.stat().st_mode & 0o777, ledger.directory.stat().st_mode & 0o777] == [0o600, 0o700]  # fmt: skip
    assert ledger.directory.name.startswith("shop-")


def test_the_last_line_of_a_finding_counts_and_what_is_forgotten_is_gone(
    ledger: Ledger,
) -> None:
    put(ledger, entry_of(1), entry_of(2))
    put(ledger, entry_of(1, state="rejected", reason="No."))
    with ledger.changing() as changing:
        changing.forget(entry_of(2).id)
        changing.forget("0" * 16)
    read = ledger.read()
    assert [entry.state for entry in read.entries.values()] == ["rejected"]
    assert (read.lines, read.damaged) == (4, 0)


def test_nothing_is_written_where_nothing_changes_or_the_change_fails(
    ledger: Ledger,
) -> None:
    put(ledger, entry_of(1))
    before = ledger.file.read_bytes()
    put(ledger, entry_of(1))

    def fail() -> None:
        with ledger.changing() as changing:
            changing.put(entry_of(2))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ledger.file.read_bytes() == before


DAMAGED: dict[str, bytes] = {
    "half a line": b'{"id": "',
    "no JSON": b"hello",
    "no object": b"[1]",
    "too deep": b"[" * 100_000,
    "not UTF-8": b"\xff\xfe",
    "an id of another form": b'{"id": "../../x", "title": "t"}',
    "a later state": json.dumps(entry_of(7).to_json() | {"state": "snoozed"}).encode(),
    "a long title": json.dumps(entry_of(7).to_json() | {"title": "x" * (MAX_TITLE + 1)}).encode(),
    "long words": json.dumps(entry_of(7).to_json() | {"words": "x" * (MAX_WORDS + 1)}).encode(),
    "line 0": json.dumps(entry_of(7).to_json() | {"line": 0}).encode(),
    "a line without a finding": b'{"id": "0123456789abcdef"}',
}  # fmt: skip


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_line_that_cannot_be_read_harms_no_other_and_outlives_a_snapshot(
    ledger: Ledger, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ledger, entry_of(1))
    with ledger.file.open("ab") as file:
        file.write(line + b"\n")
    put(ledger, entry_of(2))
    read = ledger.read()
    assert (titles(ledger), read.damaged) == (["Finding 1", "Finding 2"], 1)
    monkeypatch.setattr(ledgers, "SPARE_LINES", 0)
    for number in range(9, 12):
        put(ledger, entry_of(1, line=number))
    assert ledger.file.read_bytes().splitlines()[0] == line
    assert (sorted(titles(ledger)), ledger.read().damaged) == (["Finding 1", "Finding 2"], 1)  # fmt: skip


LINE = json.dumps(entry_of(2).to_json()).encode()


@pytest.mark.parametrize("torn", [b"{", LINE[:-1], b"\0" * 5000, LINE[:9] + b"\xff"])
def test_what_a_kill_left_of_a_line_counts_for_nothing_and_is_cut_off(
    ledger: Ledger, torn: bytes
) -> None:
    put(ledger, entry_of(1))
    before = ledger.file.read_bytes()
    with ledger.file.open("ab") as file:
        file.write(torn)
    assert (titles(ledger), ledger.read().damaged) == (["Finding 1"], 0)
    put(ledger, entry_of(2))
    assert ledger.file.read_bytes() == before + LINE + b"\n"


def test_a_last_line_without_its_end_is_read_and_kept(ledger: Ledger) -> None:
    put(ledger, entry_of(1))
    with ledger.file.open("ab") as file:
        file.write(LINE)
    assert titles(ledger) == ["Finding 1", "Finding 2"]
    put(ledger, entry_of(3))
    assert titles(ledger) == ["Finding 1", "Finding 2", "Finding 3"]


def test_keys_of_a_later_release_are_ignored(ledger: Ledger) -> None:
    put(ledger, entry_of(1))
    row = entry_of(2).to_json() | {"mood": "good"}
    with ledger.file.open("a", encoding="ascii") as file:
        file.write(json.dumps(row) + "\n")
    assert (titles(ledger), ledger.read().damaged) == (["Finding 1", "Finding 2"], 0)


def test_a_line_that_could_not_be_read_back_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="title"):
        put(ledger, entry_of(1, title="x" * (MAX_TITLE + 1)))
    assert titles(ledger) == []


def test_outdated_lines_are_dropped_by_a_snapshot(ledger: Ledger) -> None:
    put(ledger, *map(entry_of, range(10)))
    for number in range(60):
        put(ledger, *[entry_of(index, line=number + 100) for index in range(10)])
    read = ledger.read()
    assert len(read.entries) == 10
    assert read.lines < 10 + 2 * 10 + ledgers.SPARE_LINES
    assert {entry.line for entry in read.entries.values()} == {159}


def test_a_snapshot_removes_what_killed_writers_left(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "SPARE_LINES", 0)
    put(ledger, entry_of(1))
    (ledger.directory / ".ledger.jsonl-1-2").write_text("half", "utf-8")
    for line in range(2, 5):
        put(ledger, entry_of(1, line=line))
    names = sorted(path.name for path in ledger.directory.iterdir())
    assert names == ["ledger.jsonl", "lock"]


def test_of_too_many_findings_those_gone_for_the_longest_time_are_dropped(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "MAX_ENTRIES", 20)
    monkeypatch.setattr(ledgers, "SPARE_LINES", 5)
    kept_for_ever = [entry_of(number) for number in range(10)]
    kept_for_ever.append(entry_of(10, state="rejected"))
    gone = [entry_of(number, state="fixed") for number in range(20, 40)]
    put(ledger, *kept_for_ever, *reversed(gone))
    put(ledger, entry_of(41, state="stale"))
    left = ledger.read().entries
    assert len(left) == 21
    assert {entry.id for entry in kept_for_ever} <= set(left)
    newest = [entry for entry in left.values() if entry.state in ("fixed", "stale")]
    assert min(entry.last.time for entry in newest) > entry_of(30).last.time


def test_a_file_that_grew_too_large_is_refused_and_stays_as_it_is(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ledger, entry_of(1))
    size = ledger.file.stat().st_size
    monkeypatch.setattr(ledgers, "MAX_LEDGER", size + 10)
    with pytest.raises(CounselError) as refused:
        put(ledger, entry_of(2))
    assert refused.value.code == Code.STORAGE_FAILED
    assert titles(ledger) == ["Finding 1"]
    monkeypatch.setattr(ledgers, "MAX_LEDGER", size - 1)
    with pytest.raises(CounselError):
        ledger.read()
    with pytest.raises(CounselError):
        put(ledger, entry_of(2))
    assert ledger.file.stat().st_size == size


# --- what may lie in its place


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    target = path.parent.parent / "target"
    target.write_text("mine\n", "utf-8")
    path.symlink_to(target)


def make_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [make_fifo, make_link, make_directory])
def test_what_is_no_file_of_ours_is_neither_read_nor_written(
    ledger: Ledger, make: Callable[[Path], None]
) -> None:
    ledger.directory.mkdir(parents=True, mode=0o700)
    make(ledger.file)
    with pytest.raises(CounselError) as refused:
        put(ledger, entry_of(1))
    assert refused.value.code == Code.STORAGE_FAILED
    with pytest.raises(CounselError):
        ledger.read()
    target = ledger.directory.parent / "target"
    assert not target.exists() or target.read_text("utf-8") == "mine\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(ledger: Ledger) -> None:
    put(ledger, entry_of(1))
    os.chown(ledger.file, 12345, 12345)
    with pytest.raises(CounselError, match="12345"):
        put(ledger, entry_of(2))


def test_a_directory_that_others_may_write_is_refused(ledger: Ledger) -> None:
    ledger.directory.mkdir(parents=True)
    ledger.directory.chmod(0o777)
    with pytest.raises(CounselError, match="chmod go-w"):
        put(ledger, entry_of(1))


def test_who_waits_too_long_for_the_lock_is_told(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ledger, entry_of(1))
    monkeypatch.setattr(ledgers, "LOCK_PATIENCE", 0.05)
    lock = lock_file(ledger.directory / "lock")
    assert lock
    with pytest.raises(CounselError, match="Another process holds"):
        put(ledger, entry_of(2))
    os.close(lock)
    put(ledger, entry_of(2))
    assert titles(ledger) == ["Finding 1", "Finding 2"]


# --- full disks


def test_a_full_disk_takes_nothing_that_was_on_record(ledger: Ledger) -> None:
    put(ledger, entry_of(1))
    before = ledger.file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(CounselError) as refused:
            put(ledger, entry_of(2, words="x" * 3_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.code in (Code.STORAGE_FAILED, Code.RESOURCE_LIMIT)
    assert ledger.file.read_bytes() == before
    put(ledger, entry_of(2))
    assert (titles(ledger), ledger.read().damaged) == (["Finding 1", "Finding 2"], 0)


# --- words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("x" * MAX_WORDS, MAX_WORDS),
        ("x" * (MAX_WORDS + 1), MAX_WORDS),
        ("first\n" + "x" * MAX_WORDS, 5),
        ("line\n" * MAX_WORDS, MAX_WORDS - 1),
    ],
)
def test_of_long_words_whole_lines_are_kept(words: str, expected: int) -> None:
    assert len(kept(words)) == expected
    same = finding_id(path="a", words=words, category="logic")
    assert same == finding_id(path="a", words=kept(words), category="logic")
