"""The outcome of a job, also of one whose worker is gone: what that left running is ended, what it recorded is shown.

Invariants: the lock is probed before the result is looked for, because a worker commits
before it lets the lock go. One reader at a time concludes a dead run, under the job's
lock, and stores the conclusion as a worker does: the first result stands. Only where it
cannot be stored, every reader derives it anew from the same files.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from codex_counsel.contract.envelope import Envelope, EnvelopeDict
from codex_counsel.errors import CounselError
from codex_counsel.jobs import ledger
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.journal import link_result
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
    """End what a dead run left and conclude it.

    None while another process does so, or a job that it started has no outcome: for us the
    run has not ended.
    """
    spec = job.spec()
    if spec.children and _has_open_child(job, spec):
        return None
    try:
        lock = lock_file(job.path / "lock", create=False, patience=LOCK_PATIENCE)
    except LockError:
        raise
    except OSError:  # the record is read-only, damaged, or being dropped
        return _conclude(job, spec, end_processes(job)).wire()
    if lock is None:
        return None
    try:
        # Another reader may have been faster.
        return job.result() or _conclude_once(job, spec)
    finally:
        os.close(lock)


def _conclude_once(job: Job, spec: Spec) -> EnvelopeDict:
    survivors = end_processes(job)
    ended = job.ended_at()
    envelope = _conclude(job, spec, survivors).wire()
    if survivors or not _is_captured(job, spec):  # the next reader tries again
        return envelope
    try:
        # The record is as old as the run, not as its first reader.
        text = link_result(
            str(job.path), json.dumps(envelope, ensure_ascii=False), ended
        )
    except OSError:
        return envelope
    outcome = dict(json.loads(text))
    if spec.argv:
        ledger.append(spec.state, ledger.line_of(spec, outcome, ended))
    return outcome


def _has_open_child(job: Job, spec: Spec) -> bool:
    """Whether a job that it started lives, or is being concluded by another process."""
    # Few jobs have children, and most readers find a result.
    from codex_counsel.jobs import children

    return any(map(_is_open, children.started(spec, job.path)))


def _is_open(child: Job) -> bool:
    try:
        return outcome(child) is None
    except (CounselError, OSError):  # its record is gone or damaged
        return False


def needs_tree(job: Job) -> bool:
    """Whether a worker is still at the tree of a job, or the tree has what the record lacks. Raises CounselError."""
    from codex_counsel.delegate.record import WORK

    is_stored = not job.spec().has_tree or (job.path / WORK).is_file()
    return job.alive() or not is_stored


def _is_captured(job: Job, spec: Spec) -> bool:
    """Whether nothing of a task is left in its tree alone."""
    from codex_counsel.delegate.record import WORK

    if not spec.has_tree or (job.path / WORK).is_file():
        return True
    return not Path(spec.scratch).exists()


def _conclude(job: Job, spec: Spec, survivors: list[int]) -> Envelope:
    # Most jobs are read as they were committed, and a list of them is to be on the
    # screen at once.
    from codex_counsel.jobs.run import conclude, recorded_transcript
    from codex_counsel.jobs.turns import Exit

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
    if (job.path / "overdue").exists():
        return "timeout"
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
