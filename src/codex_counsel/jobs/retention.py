"""What is kept, how long, and what is remembered of what went.

A record is old when it is old by two clocks, the wall clock and the count of `clock`:
one clock that is set wrong drops nothing.

- A result that was delivered is kept for the time that the settings say, a workspace's newest ones only.
- One whose diff nobody applied is kept for 30 days.
- One that nobody fetched has no age: the oldest go when there are more than 10,000, or when they fill 1 GB.
- One that was consumed is kept for a minute, because its reader may not have got it, and may ask again.
- One that another job started is kept as long as that one, and counts as a part of it. One whose diff is half in a tree
  stays, and is then judged by itself.

A dropped record leaves a tombstone, `<state>/gone/<job id>.json`, which remembers the
thread. All this is done by `evictor`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.errors import CounselError
from codex_counsel.jobs import clock, summary, taken, threads
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store, row_of
from codex_counsel.system.files import (
    lock_file,
    read_json,
    read_regular,
    remove_tree,
    write_atomically,
)

READER_SECONDS = 60.0
"""How long a result is kept at least after it was given out: the reply may not have reached its reader."""
UNAPPLIED_SECONDS = 30 * 86_400
UNDELIVERED_COUNT = 10_000
UNDELIVERED_BYTES = 1_000_000_000
MAX_TOMBSTONES = 10_000
REMAINS_SECONDS = 3600
"""How old a directory must be to be what an interrupted launch or removal left."""
LEFTOVER_SECONDS = 5.0
"""For removing what a run left behind: the next run waits for this."""
EVICT_SECONDS = 10.0
"""Time that one look may take. What it did not come to is for the next one."""
SENT = "sent"
"""The directory of the state directory with a note of each pack that was made here: see `packs/sent.py`."""
SENT_SECONDS = 90 * 86_400
"""How long a pack is remembered."""
TOMBSTONE_FIELDS = ("job_id", "session_id", "tool", "status", "started")


def evict(store: Store, ttl: int, per_workspace: int) -> None:
    """Drop what need not be kept. `ttl` (seconds) and `per_workspace` (jobs) bound what was delivered."""
    clock.advance(store.state)
    drop_consumed(store)
    deadline = time.monotonic() + EVICT_SECONDS
    _evict_records(store, _Kept(ttl, per_workspace), deadline)
    _remove_remains(store, ".birth-*")
    _remove_remains(store, ".trash-*")
    _remove_oldest_tombstones(store)
    _remove_unused_keys(store, deadline)
    _remove_unused_threads(store, deadline)
    _remove_old_sessions(store, deadline)
    _remove_old_notes_of_packs(store, deadline)


# --- records


@dataclass
class _Kept:
    """What is kept so far, when the records are looked at from the newest to the oldest."""

    ttl: int
    per_workspace: int
    delivered: Counter[object] = field(default_factory=Counter)
    undelivered: int = 0
    undelivered_bytes: int = 0
    parts_bytes: Counter[str] = field(default_factory=Counter)

    def add_part(self, job: Job, parent: str) -> None:
        """Count a job as a part of the one that started it, which is looked at later: it is older."""
        self.parts_bytes[parent] += _stored_bytes(job)

    def add(self, job: Job, row: summary.Row) -> bool:
        """Count an ended job; returns whether it is kept."""
        age = _delivered_age(job)
        if age is None:
            return self._has_room(job)
        if job.has_unapplied_diff():
            return self._has_room(job) and age <= UNAPPLIED_SECONDS
        workspace = row.get("workspace")
        self.delivered[workspace] += 1
        if age <= READER_SECONDS:
            return True
        return age <= self.ttl and self.delivered[workspace] <= self.per_workspace

    def _has_room(self, job: Job) -> bool:
        """Whether there is room for one that nobody fetched or applied."""
        self.undelivered += 1
        self.undelivered_bytes += _stored_bytes(job) + self.parts_bytes[job.id]
        too_many = self.undelivered > UNDELIVERED_COUNT
        return not too_many and self.undelivered_bytes <= UNDELIVERED_BYTES


def _stored_bytes(job: Job) -> int:
    stored = summary.read(job)
    if stored is None:
        return 0
    _, size = stored
    return size


def _evict_records(store: Store, kept: _Kept, deadline: float) -> None:
    for job in store.newest_first():
        if time.monotonic() > deadline:
            return
        row = row_of(job)
        if row is None or row["status"] in ("queued", "running"):
            continue
        parent = row.get("parent")
        if parent and (store.directory / parent).is_dir():
            kept.add_part(job, parent)
            continue
        if not kept.add(job, row):
            drop(store, job)


def _delivered_age(job: Job) -> float | None:
    """Seconds since the result was delivered; None if it was not."""
    try:
        return clock.age(job.path / "delivered", job.state_directory)
    except OSError:
        return None


def drop(store: Store, job: Job) -> None:
    """Remove a record, with those of the jobs that it started, and leave a tombstone of each.

    One stays whose diff is being applied.
    """
    for part in (*_parts(store, job), job):
        with _no_apply(part) as is_unused:
            if is_unused:
                _drop_one(store, part)


@contextlib.contextmanager
def _no_apply(job: Job) -> Iterator[bool]:
    """Whether no call applies or undoes the diff of this job just now; none begins to while the block lasts."""
    lock: int | None = -1
    with contextlib.suppress(OSError):  # as where the record is read-only
        if (job.path / "diff.patch").exists():
            lock = lock_file(job.path / "apply.lock")
    try:
        yield lock is not None
    finally:
        if lock is not None and lock >= 0:
            os.close(lock)


def _parts(store: Store, job: Job) -> list[Job]:
    """The jobs that it started, but for one that still runs, or whose diff is half in a tree."""
    parts = []
    with contextlib.suppress(CounselError):  # without a spec there are none to find
        for job_id in job.spec().children:
            part = Job(store.directory / job_id)
            if not part.is_running() and not part.is_half_way():
                parts.append(part)
    return parts


def _drop_one(store: Store, job: Job) -> None:
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
    if spec.has_tree or job.id not in Path(spec.scratch).name:
        return None
    return Path(spec.scratch)


# --- consumed results: `<state>/consumed/<job id>`, stamped when the result was given out


def mark_consumed(store: Store, job: Job) -> None:
    """Note that the record may go. Raises OSError, or as `Store.check`."""
    store.prepare()
    clock.advance(store.state)
    clock.stamp(store.state / "consumed" / job.id, store.state)


def drop_consumed(store: Store) -> None:
    """Drop the records that were consumed more than a minute ago.

    One stays whose diff is half in a tree, or that is a part of a run that goes on.
    """
    for path in _files(store.state / "consumed"):
        try:
            age = clock.age(path, store.state)
            if age < READER_SECONDS:
                continue
            job = store.job(path.name)
        except OSError:  # another process was faster
            continue
        except CounselError:
            job = None
        if job and (job.is_half_way() or _is_awaited(store, job)):
            continue
        if job:
            drop(store, job)
            if job.path.exists():
                continue
        with contextlib.suppress(OSError):
            path.unlink()


def _is_awaited(store: Store, job: Job) -> bool:
    """Whether the job that started it has not ended: its result is made of those of its parts."""
    try:
        parent = job.spec().parent
        return parent is not None and Job(store.directory / parent).is_running()
    except CounselError:  # no record names one that runs
        return False


# --- the rest of the state directory


def _files(directory: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from directory.iterdir()


def _remove_remains(store: Store, pattern: str) -> None:
    """Remove what an interrupted launch or removal left."""
    for path in store.directory.glob(pattern):
        if _is_old(path):
            taken.roll_back(store.state, path)
            remove_tree(path)


def _is_old(path: Path) -> bool:
    """Whether nobody can be at work on it any more."""
    try:
        return time.time() - path.stat().st_mtime > REMAINS_SECONDS
    except OSError:
        return False


def _remove_oldest_tombstones(store: Store) -> None:
    files: list[tuple[float, Path]] = []
    for path in _files(store.state / "gone"):
        with contextlib.suppress(OSError):
            files.append((path.stat().st_mtime, path))
    files.sort(reverse=True)
    for _, path in files[MAX_TOMBSTONES:]:
        with contextlib.suppress(OSError):
            path.unlink()


def _remove_unused_keys(store: Store, deadline: float) -> None:
    """Remove the notes of idempotency keys whose job is gone, with their locks."""
    names: set[str] = set()
    for path in _files(store.state / "keys"):
        name, _, _ = path.name.partition(".")
        if name:
            names.add(name)
        elif _is_old(path):  # the draft of a call that was killed
            with contextlib.suppress(OSError):
                path.unlink()
    # In no order: those that this look does not come to must have their turn some time.
    for name in random.sample(sorted(names), len(names)):
        if time.monotonic() > deadline:
            return
        note = store.state / "keys" / name
        if _is_unused(store, note):
            with contextlib.suppress(OSError):
                _remove_key(store, note)


def _is_unused(store: Store, note: Path) -> bool:
    try:
        if not note.is_file():
            return True
        entry = read_json(note)
    except (FileNotFoundError, ValueError):
        return True
    except OSError:  # what cannot be read now may name a run
        return False
    if not isinstance(entry, dict):
        return True
    return not (store.directory / str(entry.get("job_id"))).is_dir()


def _remove_key(store: Store, note: Path) -> None:
    """Raises OSError. The key is held meanwhile, so no call is about to start its run."""
    lock = note.with_name(f"{note.name}.lock")
    descriptor = lock_file(lock)
    if descriptor is None:
        return
    try:
        if _is_unused(store, note):
            note.unlink(missing_ok=True)
            lock.unlink()
    finally:
        os.close(descriptor)


def _remove_old_sessions(store: Store, deadline: float) -> None:
    """Remove the notes of threads that nobody continued for a long time."""
    oldest = time.time() - threads.KEPT_SECONDS
    for path in _files(store.state / "sessions"):
        if time.monotonic() > deadline:
            return
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < oldest:
                _remove_session(path)


def _remove_session(path: Path) -> None:
    """Raises OSError. The lock of a call that was killed is removed like a note, one that is held stays."""
    if path.suffix != ".lock":
        path.unlink()
        return
    descriptor = lock_file(path)
    if descriptor is not None:
        path.unlink()
        os.close(descriptor)


def _remove_old_notes_of_packs(store: Store, deadline: float) -> None:
    oldest = time.time() - SENT_SECONDS
    for path in _files(store.state / SENT):
        if time.monotonic() > deadline:
            return
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < oldest:
                path.unlink()


def _remove_unused_threads(store: Store, deadline: float) -> None:
    """Remove the notes of threads whose last review is gone."""
    for path in _files(store.state / "threads"):
        if time.monotonic() > deadline:
            return
        with contextlib.suppress(OSError):
            noted = read_regular(path, threads.MAX_BYTES) or b""
            job_id = noted.decode("ascii", "replace")
            if not job_id or not (store.directory / job_id).is_dir():
                path.unlink()
