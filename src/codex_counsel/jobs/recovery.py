"""The outcome of a job, also of one whose worker is gone: what that left running is ended, what it recorded is shown.

Invariants: the lock is probed before the result is looked for, because a worker commits
before it lets the lock go. That a run died is derived by every reader anew and never
stored. Where the conclusion changes files of the job, one reader at a time concludes,
under the job's lock.
"""

from __future__ import annotations

import os
from pathlib import Path

from codex_counsel.contract.envelope import Envelope, EnvelopeDict
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.kinds import KINDS
from codex_counsel.jobs.spec import Spec
from codex_counsel.system import process_tree
from codex_counsel.system.files import LockError, lock_file

LOCK_PATIENCE = 0.1
"""Seconds in which another reader's probe has let the lock go."""


def outcome(job: Job) -> EnvelopeDict | None:
    """The terminal envelope: the committed one, or one for a run whose worker is gone. None while the run lives.

    Raises `job_corrupt` for a damaged record, `job_not_found` for one that is gone.
    """
    alive = job.alive()
    result = job.result()
    if result or alive:
        return result
    return recover(job)


def recover(job: Job) -> EnvelopeDict | None:
    """End what a dead run left and conclude it. None while another process does so: for us the run has not ended."""
    spec = job.spec()
    if not KINDS[spec.kind].exclusive:
        return _conclude(job, spec).wire()

    try:
        lock = lock_file(job.path / "lock", create=False, patience=LOCK_PATIENCE)
    except LockError:
        raise
    except OSError:  # the record is being dropped, or was damaged
        return _conclude(job, spec).wire()
    if lock is None:
        return None
    try:
        return _conclude(job, spec).wire()
    finally:
        os.close(lock)


def _conclude(job: Job, spec: Spec) -> Envelope:
    # Most jobs are read as they were committed, and a list of them is to be on the
    # screen at once.
    from codex_counsel.jobs.run import Exit, conclude, recorded_transcript

    survivors = end_processes(job)
    transcript = recorded_transcript(job.path)
    transcript.thread_id = transcript.thread_id or job.state().thread_id
    exit_ = Exit(_reason(job), survivors=tuple(survivors))
    envelope = conclude(spec, transcript, exit_, job.path)

    ended = job.ended_at()
    envelope.meta.job_id = job.id
    elapsed = max(ended - spec.created, 0)
    envelope.meta.elapsed_ms = int(elapsed * 1000)
    envelope.meta.expires_at = spec.expiry(ended)
    return envelope


def _reason(job: Job) -> str:
    if (job.path / "unsaved").exists():
        return "unsaved"
    if job.cancel_requested():
        return "cancelled"
    return "died"


def end_processes(job: Job) -> list[int]:
    """End the processes of a run whose worker is gone; returns the pids of those that survived."""
    scratch = Path(job.spec().scratch)
    # MCP servers get no variables of ours: they are known by their TMPDIR, which is
    # `tmp` in a delegate's scratch.
    variables = (
        f"CODEX_COUNSEL_JOB={job.id}",
        f"TMPDIR={scratch}",
        f"TMPDIR={scratch / 'tmp'}",
    )
    return process_tree.end_stray(job.state().codex, variables)
