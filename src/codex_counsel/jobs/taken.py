"""Jobs that ran on another machine: how their directories are published, and how they are told from others.

Invariants: a taken job has `taken.json`. It is built with the jobs that it started below
`jobs/.birth-<token>/`, each in a directory of its name. They are renamed into place
under the lock `taken.lock`, the jobs that it started first and the job itself last: with
it, all are there. What a killed call left is what lies below the hidden name, and jobs
without the one that started them; `roll_back` removes both.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codex_counsel.contract.reading import read_file
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.files import (
    lock_file,
    remove_tree,
    write_atomically,
)

NAME = "taken.json"
"""The file of the job directory that holds an `Origin`."""
LOCK = "taken.lock"
"""The file of the state directory whose lock is held while jobs are renamed into place."""
LOCK_PATIENCE = 30.0
"""Seconds that a call waits for another one that publishes."""
PREFIX = ".birth-"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a job came from: the pack, its job id on the machine that ran it, and a digest of what was taken.

    `parts` are the jobs that it started, by their ids here.
    """

    pack: str
    job: str
    digest: str
    parts: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path) -> Origin | None:
        """That in this job directory; None where the job ran here, or nothing can be read."""
        return read_file(cls, directory / NAME)

    def store(self, directory: Path) -> None:
        """Raises OSError."""
        write_atomically(directory / NAME, json.dumps(asdict(self)))


def was_taken(directory: Path) -> bool:
    """Whether the job in this directory ran on another machine: its thread is not on this one."""
    return (directory / NAME).exists()


@contextlib.contextmanager
def staging(jobs: Path) -> Iterator[Path]:
    """A hidden directory beside the jobs, in which one is built; removed at the end. Raises OSError."""
    hidden = jobs / f"{PREFIX}{secrets.token_hex(8)}"
    hidden.mkdir(mode=0o700)
    try:
        yield hidden
    finally:
        remove_tree(hidden)


def publish(state: Path, hidden: Path, job_id: str, parts: Sequence[str]) -> bool:
    """Rename the jobs of `hidden` into place. Returns False where the job is there already, and then changes nothing.

    Raises OSError, and `session_busy` where other calls publish for long.
    """
    jobs = hidden.parent
    with _publishing(state):
        if (jobs / job_id).exists():
            return False
        for part in parts:
            # One that is there already was left by a call that was killed here.
            remove_tree(jobs / part)
            (hidden / part).rename(jobs / part)
        (hidden / job_id).rename(jobs / job_id)
        _flush(jobs)
    return True


def roll_back(state: Path, hidden: Path) -> None:
    """Remove the jobs that a killed call had published before the one that started them. Never raises."""
    with contextlib.suppress(OSError, CounselError), _publishing(state):
        for staged in hidden.iterdir():
            origin = Origin.load(staged)
            is_published = (hidden.parent / staged.name).exists()
            if origin and not is_published:
                _remove_parts(hidden.parent, origin)


def _remove_parts(jobs: Path, origin: Origin) -> None:
    for part in origin.parts:
        # A path is made of it.
        if re.fullmatch(JOB_ID, part) and was_taken(jobs / part):
            remove_tree(jobs / part)


@contextlib.contextmanager
def _publishing(state: Path) -> Iterator[None]:
    """Hold the lock. Raises OSError and `session_busy`."""
    lock = lock_file(state / LOCK, patience=LOCK_PATIENCE)
    if lock is None:
        raise CounselError(
            Code.SESSION_BUSY,
            "Other calls have been putting results into the state directory for long",
            repair="Make the same call again: what was taken is not taken twice.",
        )
    try:
        yield
    finally:
        os.close(lock)


def _flush(directory: Path) -> None:
    """Wait until the names in a directory are on disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
