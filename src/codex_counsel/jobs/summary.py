"""`summary.json`: what lists and retention need of an ended job, so that they read one small file of each.

Invariants: only an ended job has one, and an ended job does not change. It belongs to the
`spec.json` and `result.json` of the size and time that it names; for others, and where it
is missing or damaged, a reader derives the row from the record itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.spec import Spec
from codex_counsel.system.files import read_json_or_none, write_atomically
from codex_counsel.system.json_values import Json
from codex_counsel.system.text import one_line

NAME = "summary.json"
MAX_SUBJECT = 80
"""Characters of the request that a row shows."""

Row = dict[str, Json]
"""A job in a list: `job_id`, `status`, `tool`, `workspace`, `started` (UTC), `subject` and `session_id`.

`session_id` is absent until there is a thread. Of an ended job there are also `ended`
(UTC), `elapsed_ms` and, where they are known, `verdict` and `tokens` (`input`, `output`).
`cut_short` is true for a run that used up its tokens. One that another job started has
`parent`, the id of that one, and `kind`: see `jobs.kinds`.
Of a corrupt record there are only `job_id`, `status` and `error`.
"""


def running_row(job: Job, spec: Spec) -> Row:
    """The row of a job that has not ended."""
    state = job.state()
    status = "running"
    if state.phase == "queued":
        status = "queued"
    return _row(job, spec, status, state.thread_id)


def ended_row(job: Job, spec: Spec, outcome: EnvelopeDict) -> Row:
    """The row of an ended job, from its terminal envelope."""
    meta = outcome["meta"]
    session_id = meta.get("session_id") or job.state().thread_id
    row = _row(job, spec, str(outcome["status"]), session_id)
    row["ended"] = _utc(job.ended_at())
    if "verdict" in outcome:
        row["verdict"] = outcome["verdict"]
    if "elapsed_ms" in meta:
        row["elapsed_ms"] = meta["elapsed_ms"]
    if "budget_reached" in meta:
        row["cut_short"] = True
    match meta.get("usage"):
        case {"input": int(sent), "output": int(received)}:
            row["tokens"] = {"input": sent, "output": received}
    return row


def _row(job: Job, spec: Spec, status: str, session_id: str | None) -> Row:
    row: Row = {
        "job_id": job.id,
        "tool": spec.tool,
        "status": status,
        "workspace": spec.workspace,
        "started": _utc(spec.created),
        "subject": one_line(spec.subject, MAX_SUBJECT),
    }
    if session_id:
        row["session_id"] = session_id
    if spec.parent:
        row["parent"] = spec.parent
        row["kind"] = spec.kind
    return row


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def store(job: Job, row: Row) -> None:
    """Keep the row of an ended job, with the size of its record. Where that is impossible it is derived each time."""
    # It is impossible, too, where another process has just removed the record.
    with contextlib.suppress(OSError):
        summary = {"row": row, "bytes": _record_bytes(job), "of": _signature(job)}
        write_atomically(job.path / NAME, json.dumps(summary, ensure_ascii=False))


def read(job: Job) -> tuple[Row, int] | None:
    """The row and the bytes of the record; None where nothing valid is stored."""
    match read_json_or_none(f"{job.path}/{NAME}"):
        case {
            "row": {"job_id": job.id, "status": str()} as row,
            "bytes": int(size),
            "of": list(of),
        } if of == _signature(job):
            return row, size
    return None


def _signature(job: Job) -> list[list[int]]:
    """Size and time of change of the files that a row is made from; an empty list for one that is missing."""
    signature: list[list[int]] = []
    for name in ("spec.json", "result.json"):
        try:
            # Without a Path: this is called for every record.
            info = os.stat(f"{job.path}/{name}")  # noqa: PTH116
            signature.append([info.st_size, info.st_mtime_ns])
        except OSError:
            signature.append([])
    return signature


def _record_bytes(job: Job) -> int:
    total = 0
    with os.scandir(job.path) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it vanished meanwhile
                total += entry.stat(follow_symlinks=False).st_size
    return total
