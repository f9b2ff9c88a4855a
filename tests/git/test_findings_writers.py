"""Many processes write the ledger of findings, and some of them are killed: what was reported is on record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from codex_counsel.findings.ledger import Ledger
from tests.unit.test_findings_ledger import entry_of

PUT_MANY = """
import sys
from pathlib import Path
from codex_counsel.findings import ledger as ledgers
from codex_counsel.findings.ledger import Ledger
from tests.unit.test_findings_ledger import entry_of
# However long the other writer holds the lock, none of the findings may be given up.
ledgers.LOCK_PATIENCE = 60.0
# Snapshots come soon and often.
ledgers.SPARE_LINES = 10
ledger, first = Ledger(Path(sys.argv[1])), int(sys.argv[2])
for number in range(first, first + int(sys.argv[3])):
    with ledger.changing() as changing:
        changing.put(entry_of(number, words="x" * 3000))
        for line in range(number + 1, number + 5):
            changing.put(entry_of(first, words="x" * 3000, line=line))
    print(number, flush=True)
"""


def writer(ledger: Ledger, first: int, count: int) -> subprocess.Popen[str]:
    """A process that puts findings one by one, and says the number of each that is on record."""
    arguments = [sys.executable, "-c", PUT_MANY]
    arguments += [str(ledger.directory), str(first), str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_two_writers_lose_nothing_that_was_reported_though_one_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "findings" / "shop")
    steady = writer(ledger, 100_000, 60)
    reported: set[int] = set()
    for round_ in range(8):
        hasty = writer(ledger, round_ * 1_000, 500)
        assert hasty.stdout
        lines = [hasty.stdout.readline() for _ in range(5 + round_)]
        os.kill(hasty.pid, signal.SIGKILL)
        rest, _ = hasty.communicate()
        said = "".join(lines) + rest
        reported.update(int(line) for line in said.splitlines() if line)
    out, _ = steady.communicate(timeout=100)
    reported.update(map(int, out.split()))
    assert len(reported) >= 60 + sum(range(5, 13))
    with ledger.changing() as changing:
        changing.put(entry_of(200_000))
    for line in ledger.file.read_bytes().splitlines():
        assert isinstance(json.loads(line), dict)
    read = ledger.read()
    assert read.damaged == 0
    assert {entry_of(number).id for number in reported} <= set(read.entries)


KILLED_AT_A_SNAPSHOT = """
import os, signal, sys
from pathlib import Path
from codex_counsel.findings.ledger import Ledger
from tests.unit.test_findings_ledger import entry_of
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
while True:
    with Ledger(Path(sys.argv[1])).changing() as changing:
        for line in range(1, 300):
            changing.put(entry_of(1, line=line))
"""


def test_a_writer_that_is_killed_at_a_snapshot_leaves_its_draft_to_the_next_one(
    tmp_path: Path,
) -> None:
    ledger = Ledger(tmp_path / "findings" / "shop")
    for _ in range(2):
        arguments = [sys.executable, "-c", KILLED_AT_A_SNAPSHOT, str(ledger.directory)]
        assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
        names = {path.name for path in ledger.directory.iterdir()}
        assert len(names - {"ledger.jsonl", "lock"}) == 1
    while ledger.read().lines > 1:
        with ledger.changing() as changing:
            for line in range(1, 300):
                changing.put(entry_of(1, line=line))
    names = {path.name for path in ledger.directory.iterdir()}
    assert names == {"ledger.jsonl", "lock"}
