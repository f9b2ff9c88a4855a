"""Comparisons of tasks as the service makes them, written by hand."""

from __future__ import annotations

from typing import Any

from codex_counsel.contract.envelope import Envelope

DIFF = """diff --git a/app.py b/app.py
index 1..2 100644
--- a/app.py
+++ b/app.py
@@ -6,3 +6,3 @@ def total():
 six = 6
-seven = 70
+seven = 7
 eight = 8
"""
CHECK: dict[str, Any] = {
    "command": "make test",
    "status": "failed",
    "exit": 2,
    "seconds": 3.21,
    "output_tail": "one\ntwo\n",
    "base_exit": 0,
    "base_status": "passed",
}
JOB: dict[str, Any] = {
    "label": "1",
    "job_id": "a" * 32,
    "status": "completed",
    "subject": "Fix the sum.",
    "workspace": "/home/me/project",
    "rank": 1,
    "why": "check passed",
    "check": {"command": "make test", "status": "passed", "exit": 0},
    "diffstat": "2 files changed",
    "diff_path": "/state/diff.patch",
    "files": 2,
    "added": 2,
    "deleted": 1,
    "changed_lines": 3,
    "same_as": [],
    "shared_files": 1,
    "model": "gpt-a",
    "effort": "high",
    "usage": {"input": 1000, "cached_input": 0, "output": 500, "reasoning": 0},
    "elapsed_ms": 83_000,
}
OTHER_JOB = JOB | {
    "label": "2",
    "job_id": "b" * 32,
    "rank": 2,
    "why": "check failed",
    "check": CHECK,
    "model": "gpt-b",
    "files": 1,
}
LOST_JOB = {
    "label": "3",
    "job_id": "c" * 32,
    "status": "failed",
    "error": "timeout",
    "subject": "Fix the sum.",
    "workspace": "/home/me/project",
    "problem": "it left no diff",
    "rank": 3,
    "tie": True,
    "why": "no diff",
}
VERSION: dict[str, Any] = {
    "labels": ["1"],
    "status": "M",
    "added": 1,
    "deleted": 1,
    "diff": DIFF,
}
FILE: dict[str, Any] = {
    "path": "src/app.py",
    "same": False,
    "versions": [
        VERSION,
        VERSION
        | {
            "labels": ["2"],
            "diff": DIFF.replace("seven = 7\n", "seven = 77\n"),
            "build": True,
        },
    ],
    "untouched": [],
}
ONLY: dict[str, Any] = {
    "path": "docs/new.md",
    "same": False,
    "versions": [VERSION | {"status": "A", "omitted": "1,234 more bytes"}],
    "untouched": ["2"],
}
SAME: dict[str, Any] = {
    "path": "lib/util.py",
    "same": True,
    "versions": [VERSION | {"labels": ["1", "2"]}],
    "untouched": [],
}


def comparison(**changes: Any) -> Envelope:
    """The envelope; the changes are of its data."""
    data = {
        "jobs": [JOB, OTHER_JOB, LOST_JOB],
        "files": [ONLY, SAME, FILE],
        "differing": 2,
        "same": 1,
        "notes": [],
    }
    wire = {
        "ok": True,
        "status": "completed",
        "tool": "codex-counsel compare",
        "summary": "3 tasks, 3 changed files: 1 the same in all, 2 different",
        "data": {**data, **changes},
        "meta": {},
    }
    return Envelope.parse(wire)


def filled(value: Any, text: str) -> Any:
    """The comparison's data with this text in the place of every text that comes from elsewhere."""
    if isinstance(value, dict):
        return {key: _filled_field(key, item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, text) for item in value]
    return value


OURS = {"label", "labels", "status", "same_as", "untouched", "base_status"}


def _filled_field(key: str, value: Any, text: str) -> Any:
    if key in OURS:
        return value
    if isinstance(value, str):
        return text
    if key == "notes":
        return [text]
    return filled(value, text)
