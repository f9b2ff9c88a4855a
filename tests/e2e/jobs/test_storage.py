"""A state directory that takes nothing (more): the caller who waits gets the answer and is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.namespaces import NAMESPACE, skip_without_mounts


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> Any:
    """Run a case of `storage` and return its report; skip where no small file system can be mounted."""
    skip_without_mounts(tmp_path)

    def play(case: str) -> dict[str, Any]:
        argv = [
            *NAMESPACE,
            sys.executable,
            "-W",
            "error",
            "-m",
            "tests.e2e.jobs.storage",
            case,
            str(tmp_path),
        ]
        env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
        result = subprocess.run(
            argv,
            env=env,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=90,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        report: dict[str, Any] = json.loads(result.stdout)
        assert report.pop("leftovers") == []
        return report

    return play


@pytest.mark.parametrize("case", ["read_only", "full_before"])
def test_without_room_for_a_job_the_answer_still_comes_and_the_background_is_refused(
    on_a_small_disk: Any, case: str
) -> None:
    report = on_a_small_disk(case)
    assert report["wire"]["status"] == "completed"
    assert report["wire"]["answer"].startswith("The answer.")
    (warning,) = (
        text
        for text in report["wire"]["meta"]["warnings"]
        if "state directory cannot be written" in text
    )
    assert "is not stored" in warning
    assert report["background"][0] == "storage_failed"
    assert report["key"][0] == "storage_failed"


def test_a_disk_that_fills_meanwhile_costs_the_record_but_not_the_answer(
    on_a_small_disk: Any,
) -> None:
    report = on_a_small_disk("full_meanwhile")
    wire = report["wire"]
    assert wire["status"] == "completed"
    assert wire["answer"].endswith("And more.")
    assert "fetched again, it may be less" in wire["meta"]["warnings"][-1]
    assert report["later"] == "storage_failed"


def test_a_background_result_that_finds_no_room_is_reported_as_lost_with_its_thread(
    on_a_small_disk: Any,
) -> None:
    report = on_a_small_disk("full_background")
    assert (report["wire"]["error"]["code"], report["row"]) == (
        "storage_failed",
        "failed",
    )
    assert report["wire"]["meta"]["session_id"] == report["thread"]


def test_a_short_result_takes_the_room_of_its_events(on_a_small_disk: Any) -> None:
    report = on_a_small_disk("full_short")
    assert report["wire"]["answer"] == "Short."
    assert "warnings" not in report["wire"]["meta"]
    assert report["later"] == "completed"


def test_a_cancel_needs_no_room(on_a_small_disk: Any) -> None:
    report = on_a_small_disk("full_cancel")
    assert report["wire"]["data"]["cancelled"] is True
    assert report["later"] == "cancelled"
