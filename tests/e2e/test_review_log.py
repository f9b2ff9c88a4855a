"""The record of what reviews were sent, under several processes: nothing is lost, and no part of a line stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from codex_counsel.findings.seen import PastReview, ReviewLog
from tests.conftest import until
from tests.unit.test_seen import review

WRITER = """
import sys
from pathlib import Path
from codex_counsel.findings import seen
from codex_counsel.findings.seen import PastReview, ReviewLog, State, Step

# Four writers and a slow disk: whoever comes last waits for a hundred writes.
seen.LOCK_PATIENCE = 90.0
log = ReviewLog(Path(sys.argv[1]))
first, count = int(sys.argv[2]), int(sys.argv[3])
steps = tuple(
    Step(State(f"f{n}", "100644:" + "1" * 40), State(f"f{n}", "100644:" + "2" * 40))
    for n in range(300)
)
for number in range(first, first + count):
    log.remember(
        PastReview(
            job=f"{number:032x}", ended="2026-11-22T02:30:00Z", scope="branch", sent=steps
        )
    )
    print(number, flush=True)
"""


def writer(log: ReviewLog, first: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(log.directory), str(first), str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path / "findings" / "project-1")
    writers = [writer(log, 1000 * number, 30) for number in range(4)]
    for each in writers:
        _, _ = each.communicate(timeout=90)
        assert each.returncode == 0
    jobs = {int(each.job, 16) for each in log.read()}
    assert jobs == {1000 * group + n for group in range(4) for n in range(30)}
    assert len(log.file.read_bytes().splitlines()) == 120


def test_a_process_that_is_killed_loses_nothing_and_leaves_no_part_of_a_line(
    tmp_path: Path,
) -> None:
    log = ReviewLog(tmp_path / "findings" / "project-1")
    reported: set[int] = set()
    for kill in range(6):
        before = len(log.read())
        # Together fewer than the record holds.
        process = writer(log, 1000 * kill, 30)
        wait_for(log, before + 3 * kill)
        os.kill(process.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        reported |= {int(word) for word in output.split()}
        last = review(9000 + kill)
        log.remember(last)
        reported.add(9000 + kill)
    assert reported <= {int(each.job, 16) for each in log.read()}
    for row in log.file.read_bytes().splitlines():
        PastReview.from_json(json.loads(row))


def wait_for(log: ReviewLog, count: int) -> None:
    until(lambda: len(log.read()) > count, seconds=90)
