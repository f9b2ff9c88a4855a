"""What a batch of many items costs the process that runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from codex_counsel.batch.model import Ended, Item
from codex_counsel.batch.record import BatchOptions, Record
from codex_counsel.contract.envelope import EnvelopeDict
from tests.conftest import World
from tests.unit.batches import finding, review

MANY = 10_000
AT_ONCE = 500
PEAK = "tests.e2e.batch.peak"
ROOT = Path(__file__).parents[3]


def test_ten_thousand_items_fit_into_150_megabytes(tmp_path: Path) -> None:
    """With questions and answers of 5,000 characters, which are more than that together."""
    argv = [sys.executable, "-m", "tests.e2e.batch.many", str(tmp_path), str(MANY)]
    result = subprocess.run(
        argv, capture_output=True, text=True, timeout=110, check=True
    )
    report = json.loads(result.stdout)
    assert (report["left"], report["ended"]) == (0, MANY)
    assert report["bytes"] <= 150_000_000


def test_the_findings_of_ten_thousand_reviews_are_summed_up_in_150_megabytes(
    world: World,
) -> None:
    directory = world.base / "batch"
    with Record.create(directory) as record:
        items = [
            Item(f"item-{number}", "review", {}, world.workspace, ".", record.id)
            for number in range(MANY)
        ]
        record.begin(items, BatchOptions())
        for start in range(0, MANY, AT_ONCE):
            part = items[start : start + AT_ONCE]
            record.add_results([Ended(item, faulty(item)) for item in part])

    peak = world.base / "peak"
    ended = subprocess.run(
        [sys.executable, "-m", PEAK, str(peak), "batch", "--resume", str(directory)],
        env={**world.env, "PYTHONPATH": str(ROOT)},
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = ended.stdout + ended.stderr
    assert ended.returncode == 1, shown
    assert "fail: 10000 high, 20000 low. 10,000 items: 10000 completed." in shown
    assert int(peak.read_text()) <= 150_000_000


def faulty(item: Item) -> EnvelopeDict:
    """A review with three findings of its own."""
    findings = [
        finding(
            id=f"{item.key[:15]}{number}",
            file=f"src/{item.id}.py",
            severity=severity,
            risk="It reads past the end of its rows. " * 20,
            recommendation="Subtract one from the length. " * 20,
        )
        for number, severity in enumerate(("high", "low", "low"))
    ]
    return review(*findings, verdict="fail")
