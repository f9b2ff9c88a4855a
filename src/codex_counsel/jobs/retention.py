"""What is kept, how long, and what is remembered of what went.

A delivered result is kept for the time that the settings say, a workspace's newest ones
only. One that nobody fetched, or whose diff nobody applied, is kept for 30 days or
until such results fill 1 GB; the oldest go first. A dropped record leaves a tombstone,
`<state>/gone/<job id>.json`, which remembers the thread.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from pathlib import Path

from codex_counsel.errors import CounselError
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store, row_of
from codex_counsel.system.files import remove_tree, write_atomically

UNDELIVERED_SECONDS = 30 * 86_400
UNDELIVERED_BYTES = 1_000_000_000
TOMBSTONE_SECONDS = 3 * UNDELIVERED_SECONDS
REMAINS_SECONDS = 3600
"""How old a directory must be to be what an interrupted launch or removal left."""
LEFTOVER_SECONDS = 5.0
"""For removing what a run left behind: the next run waits for this."""
EVICT_INTERVAL = 60
"""Seconds between two looks at all jobs, for all processes together."""
TOMBSTONE_FIELDS = ("job_id", "session_id", "tool", "status", "started")


def evict(store: Store, ttl: int, per_workspace: int) -> None:
    """Drop what need not be kept. `ttl` (seconds) and `per_workspace` (jobs) bound what was delivered."""
    if not _due(store):
        return
    ended = [job for job in store.jobs() if not job.alive()]
    ended.sort(key=Job.ended_at, reverse=True)

    done: list[Job] = []
    wanted: list[Job] = []
    for job in ended:
        if job.is_delivered() and not job.has_unapplied_diff():
            done.append(job)
        else:
            wanted.append(job)
    _evict_done(store, done, ttl, per_workspace)
    _evict_wanted(store, wanted)

    _remove_old(store, "jobs/.birth-*", REMAINS_SECONDS)
    _remove_old(store, "jobs/.trash-*", REMAINS_SECONDS)
    _remove_old(store, "gone/*.json", TOMBSTONE_SECONDS)


def _due(store: Store) -> bool:
    marker = store.state / "evicted"
    try:
        age = time.time() - marker.stat().st_mtime
    except OSError:
        age = EVICT_INTERVAL
    # A negative age is that of a marker from before the clock was set back.
    if 0 <= age < EVICT_INTERVAL:
        return False
    with contextlib.suppress(OSError):
        marker.touch(0o600)
    return True


def _evict_done(
    store: Store, newest_first: list[Job], ttl: int, per_workspace: int
) -> None:
    jobs_in: Counter[str | None] = Counter()
    for job in newest_first:
        row = row_of(job) or {}
        workspace = row.get("workspace")
        jobs_in[workspace] += 1
        too_old = _age(job) > ttl
        too_many = jobs_in[workspace] > per_workspace
        if too_old or too_many:
            drop(store, job)


def _evict_wanted(store: Store, newest_first: list[Job]) -> None:
    total_bytes = 0
    for job in newest_first:
        total_bytes += _size(job)
        too_old = _age(job) > UNDELIVERED_SECONDS
        too_large = total_bytes > UNDELIVERED_BYTES
        if too_old or too_large:
            drop(store, job)


def _age(job: Job) -> float:
    return time.time() - job.ended_at()


def _size(job: Job) -> int:
    """Bytes of the record."""
    total = 0
    for file in job.path.glob("*"):
        with contextlib.suppress(OSError):  # it vanished meanwhile
            total += file.lstat().st_size
    return total


def _remove_old(store: Store, pattern: str, seconds: float) -> None:
    for path in store.state.glob(pattern):
        with contextlib.suppress(OSError):
            age = time.time() - path.stat().st_mtime
            if age <= seconds:
                continue
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink()


def drop(store: Store, job: Job) -> None:
    """Remove a record and leave a tombstone."""
    row = row_of(job)
    if row is None:  # another process was faster, and the tombstone is that one's
        return
    tombstone = {name: row[name] for name in TOMBSTONE_FIELDS if name in row}
    path = store.state / "gone" / f"{job.id}.json"
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(tombstone))

    leftover = _leftover(job)
    # Renamed first: a reader sees the whole record or none.
    hidden = store.directory / f".trash-{job.id}"
    with contextlib.suppress(OSError):
        job.path.rename(hidden)
    remove_tree(hidden)
    if leftover is not None:
        remove_tree(leftover, LEFTOVER_SECONDS)


def _leftover(job: Job) -> Path | None:
    """The private directory of a run, where its worker was killed while it was removing it.

    That of a delegate is left to the sweep of the trees.
    """
    try:
        spec = job.spec()
    except CounselError:
        return None
    if spec.kind == "delegate" or job.id not in Path(spec.scratch).name:
        return None
    return Path(spec.scratch)
