"""What a batch of many items costs the process that runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_ten_thousand_items_fit_into_150_megabytes(tmp_path: Path) -> None:
    """With questions and answers of 5,000 characters, which are more than that together."""
    argv = [sys.executable, "-m", "tests.e2e.batch.many", str(tmp_path), "10000"]
    result = subprocess.run(
        argv, capture_output=True, text=True, timeout=110, check=True
    )
    report = json.loads(result.stdout)
    assert (report["left"], report["ended"]) == (0, 10_000)
    assert report["bytes"] <= 150_000_000
