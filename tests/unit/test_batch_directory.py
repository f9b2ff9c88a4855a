"""Where a batch is kept of which nobody says where."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codex_counsel.batch.record import Record
from codex_counsel.cli import batch, parser


def test_batches_that_begin_in_the_same_second_have_directories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    moment = time.gmtime(0)
    monkeypatch.setattr(time, "gmtime", lambda: moment)
    arguments = parser.parse(["batch", "requests.jsonl"])

    def begin(_: int) -> Record:
        return Record.create(batch._new_directory(arguments))

    with ThreadPoolExecutor(4) as threads:
        records = list(threads.map(begin, range(4)))
    name = "codex-counsel-batch-19700101T000000Z"
    expected = [name, *(f"{name}-{number}" for number in (2, 3, 4))]
    assert sorted(record.directory.name for record in records) == expected
    for record in records:
        record.close()
