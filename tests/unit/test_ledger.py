"""The ledger: one line for each run, appended whole, read whatever else stands in the file."""

from __future__ import annotations

import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.envelope import Usage
from codex_counsel.jobs import ledger
from codex_counsel.jobs.ledger import Entry
from tests.specs import SPEC

JOB = "0123456789abcdef0123456789abcdef"
NOVEMBER = 1_795_247_733.0
OUTCOME = {
    "status": "completed",
    "meta": {
        "model": "gpt-6",
        "effort": "high",
        "elapsed_ms": 90_000,
        "usage": {"input": 100, "cached_input": 40, "output": 10, "reasoning": 5},
    },
}


def line(number: int = 0, **changes: Any) -> dict[str, Any]:
    spec = replace(SPEC, job_id=f"{number:032x}", workspace="/home/me/project")
    return {**ledger.line_of(spec, OUTCOME, NOVEMBER), **changes}


def file_of(state: Path) -> Path:
    return state / "usage" / "2026-11.jsonl"


def test_a_run_is_read_as_it_was_appended(tmp_path: Path) -> None:
    ledger.append(tmp_path, line(7))
    found = ledger.read(tmp_path, NOVEMBER)
    assert found.damaged == 0
    assert list(found.entries.values()) == [
        Entry(
            job_id=f"{7:032x}",
            ended=NOVEMBER,
            tool="codex_consult",
            status="completed",
            workspace="/home/me/project",
            model="gpt-6",
            effort="high",
            code=None,
            elapsed_ms=90_000,
            usage=Usage(input=100, cached_input=40, output=10, reasoning=5),
        )
    ]


def test_the_ledger_is_plain_text_for_its_owner_alone_without_words_of_the_user(
    tmp_path: Path,
) -> None:
    spec = replace(
        SPEC, subject="A secret question", workspace="/日本/\u202e\x9b\udcff"
    )
    ledger.append(tmp_path, ledger.line_of(spec, OUTCOME, NOVEMBER))
    data = file_of(tmp_path).read_bytes()
    assert data.isascii()
    assert data.count(b"\n") == 1
    assert b"secret" not in data
    assert file_of(tmp_path).stat().st_mode & 0o777 == 0o600
    assert file_of(tmp_path).parent.stat().st_mode & 0o777 == 0o700


FAILURES: dict[str, tuple[dict[str, Any], str | None, int]] = {
    "failed": ({"error": {"code": "timeout"}}, "timeout", 90_000),
    "a damaged error": ({"error": "x"}, None, 90_000),
    "the clock was set back": ({"meta": {"elapsed_ms": -5}}, None, 0),
    "a damaged time": ({"meta": {"elapsed_ms": "long"}}, None, 0),
    "nothing known": ({"meta": {}}, None, 0),
}


@pytest.mark.parametrize(
    ("changes", "code", "elapsed"), FAILURES.values(), ids=FAILURES.keys()
)
def test_an_outcome_with_less_in_it_makes_a_line_too(
    tmp_path: Path, changes: dict[str, Any], code: str | None, elapsed: int
) -> None:
    outcome = {**OUTCOME, "status": "failed", **changes}
    ledger.append(tmp_path, ledger.line_of(SPEC, outcome, NOVEMBER))
    (entry,) = ledger.read(tmp_path, 0).entries.values()
    assert (entry.status, entry.code, entry.elapsed_ms) == ("failed", code, elapsed)


DAMAGED: dict[str, bytes] = {
    "half a line": b'{"job_id": "0123',
    "no JSON": b"nothing to see",
    "a list": b"[]",
    "a number": b"7",
    "bottomless": b"[" * 60_000,
    "bytes": b"\xff\xfe\x00",
    "a huge number": json.dumps(line(3)).encode().replace(b"90000", b"9" * 5_000),
    "too many tokens": json.dumps(line(3, elapsed_ms=10**30)).encode(),
    "negative": json.dumps(line(3, elapsed_ms=-1)).encode(),
    "a truth for a number": json.dumps(line(3, elapsed_ms=True)).encode(),
    "a part of a number": json.dumps(line(3, elapsed_ms=0.5)).encode(),
    "no job id": json.dumps(line(3, job_id="../../etc")).encode(),
    "no time": json.dumps(line(3, ended="soon")).encode(),
    "after time": json.dumps(line(3, ended="9999-01-01T00:00:00Z")).encode(),
    "a model that is none": json.dumps(line(3, model=[])).encode(),
    "tokens that are none": json.dumps(line(3, tokens=[])).encode(),
    "tokens of words": json.dumps(line(3, tokens={"input": "x"})).encode(),
    "no finite number": json.dumps(line(3, elapsed_ms=float("inf"))).encode(),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_line_is_counted_and_harms_no_other(
    tmp_path: Path, data: bytes
) -> None:
    ledger.append(tmp_path, line(1))
    with file_of(tmp_path).open("ab") as file:
        file.write(data)
    # After a line without its end, such as a full disk leaves.
    ledger.append(tmp_path, line(2))
    found = ledger.read(tmp_path, 0)
    assert sorted(found.entries) == [f"{1:032x}", f"{2:032x}"]
    assert found.damaged == 1


def test_a_line_without_an_end_is_read_in_parts(tmp_path: Path) -> None:
    ledger.append(tmp_path, line(1))
    with file_of(tmp_path).open("ab") as file:
        file.truncate(3_000_000)
    ledger.append(tmp_path, line(2))
    found = ledger.read(tmp_path, 0)
    assert len(found.entries) == 2
    assert found.damaged > 1


def test_the_first_line_of_a_job_counts(tmp_path: Path) -> None:
    for status in ("completed", "failed"):
        ledger.append(tmp_path, line(1, status=status))
    (entry,) = ledger.read(tmp_path, 0).entries.values()
    assert entry.status == "completed"


def test_only_the_months_that_are_needed_are_read(tmp_path: Path) -> None:
    for month in ("2025-12", "2026-01", "2026-10", "2026-11"):
        number = int(month.replace("-", ""))
        ledger.append(tmp_path, line(number, ended=f"{month}-28T00:00:00Z"))
    folder = tmp_path / "usage"
    for name in ("2026-11.jsonl.bak", "x.jsonl", "\uff12026-11.jsonl"):
        (folder / name).write_text("damaged\n")
    # A file that cannot be read would be noticed.
    (folder / "2026-10.jsonl").write_text("damaged\n")
    found = ledger.read(tmp_path, NOVEMBER)
    assert [int(job_id, 16) for job_id in found.entries] == [202611]
    assert found.damaged == 0


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "folder"])
def test_what_is_no_file_of_ours_is_neither_read_nor_written(
    tmp_path: Path, kind: str
) -> None:
    target = tmp_path / "target"
    target.write_text(json.dumps(line(1)) + "\n")
    folder = tmp_path / "usage"
    if kind == "folder":
        (tmp_path / "other").mkdir()
        folder.symlink_to(tmp_path / "other")
    else:
        folder.mkdir(mode=0o700)
    if kind == "link":
        file_of(tmp_path).symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(file_of(tmp_path))
    elif kind == "directory":
        file_of(tmp_path).mkdir()
    before = target.read_text()
    ledger.append(tmp_path, line(2))
    assert ledger.read(tmp_path, 0).entries == {}
    assert target.read_text() == before
    assert list(tmp_path.glob("other/*")) == []


def test_runs_that_ended_before_are_left_out_to_the_second(tmp_path: Path) -> None:
    for number in range(3):
        spec = replace(SPEC, job_id=f"{number:032x}")
        ended = NOVEMBER + number
        ledger.append(tmp_path, ledger.line_of(spec, OUTCOME, ended))
    found = ledger.read(tmp_path, NOVEMBER + 1)
    assert [int(job_id, 16) for job_id in found.entries] == [1, 2]


def test_where_nothing_can_be_written_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ledger.append(tmp_path / "file", line(1))
    assert ledger.read(tmp_path / "file", 0).entries == {}
    assert ledger.read(tmp_path / "absent", 0).entries == {}


def test_a_disk_that_is_full_in_the_middle_of_a_line_costs_that_line_alone(
    tmp_path: Path,
) -> None:
    ledger.append(tmp_path, line(1))
    size = file_of(tmp_path).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))
        ledger.append(tmp_path, line(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file_of(tmp_path).stat().st_size == size + 40
    ledger.append(tmp_path, line(3))
    found = ledger.read(tmp_path, 0)
    assert sorted(found.entries) == [f"{1:032x}", f"{3:032x}"]
    assert found.damaged == 1


def test_a_year_of_a_thousand_runs_a_day_is_quick_to_read_for_a_week(
    tmp_path: Path,
) -> None:
    lines = []
    for number in range(30_000):
        ended = f"2026-MM-{number % 28 + 1:02}T12:00:00Z"
        lines.append(json.dumps(line(number, ended=ended)))
    (tmp_path / "usage").mkdir()
    for month in range(1, 13):
        # Job ids of months differ in their first digit.
        text = "\n".join(lines).replace("2026-MM", f"2026-{month:02}")
        text = text.replace('"0000', f'"{month:04}')
        (tmp_path / f"usage/2026-{month:02}.jsonl").write_text(text)
    begin = time.process_time()
    found = ledger.read(tmp_path, NOVEMBER - 21 * 86_400)
    took = time.process_time() - begin
    assert len(found.entries) == 60_000
    # Twice the lines of a month are read, and not those of the other ten months.
    begin = time.process_time()
    for _ in range(2):
        assert len([json.loads(line) for line in lines]) == 30_000
    least = time.process_time() - begin
    print(f"60,000 lines: {took:.2f} s, of which {least:.2f} s to parse them")
    # In parts of what this machine needs at least, however slow it is.
    assert took < 8 * least
