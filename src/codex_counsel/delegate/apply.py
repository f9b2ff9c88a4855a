"""`codex_apply` for one job: claimed, planned, written, recorded; and taken back the same way.

The mark `applied` in the job directory is empty or says `begun` or `done`; whoever works on it holds its lock. A mark
that says `begun` and is not locked is what a killed process left: some files changed, others not. Applying again then
finishes it, because each file either is as it was or as it was to become.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_counsel.contract.request import Apply
from codex_counsel.delegate import patch as patching
from codex_counsel.delegate import record as delegate
from codex_counsel.delegate.record import DelegateResult
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.jobs.job import Job


class AppliedMark:
    """The mark, locked."""

    def __init__(self, job: Job, descriptor: int) -> None:
        self._job, self._descriptor = job, descriptor

    @property
    def word(self) -> bytes:
        return os.pread(self._descriptor, 16, 0)

    def write(self, word: bytes) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, word, 0)
        os.fsync(self._descriptor)

    def check_unapplied(self) -> None:
        if self.word == b"done":
            raise CounselError(Code.ALREADY_APPLIED, f"The diff of job {self._job.id} was applied before")

    def check_applied(self) -> None:
        if self.word == b"begun":
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"Applying or undoing the diff of job {self._job.id} was interrupted half-way",
                repair="Apply it again, which finishes the files that were not reached; then undo.",
            )
        if self.word != b"done":
            raise CounselError(
                Code.INVALID_ARGUMENTS, f"The diff of job {self._job.id} is not applied: there is nothing to undo"
            )


@contextlib.contextmanager
def _marked(job: Job) -> Iterator[AppliedMark]:
    """Of two calls at once one goes on."""
    descriptor = os.open(job.path / "applied", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(job, descriptor)
        yield AppliedMark(job, descriptor)
    finally:
        os.close(descriptor)


def _lock(job: Job, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = f"The diff of job {job.id} is being applied by another call just now"
        raise CounselError(Code.ALREADY_APPLIED, words) from None


def carry_out(job: Job, root: Path, request: Apply, timeout: float) -> dict[str, Any]:
    """Apply, check or undo; returns what was done. Raises `apply_conflict`, `already_applied`, `policy_refused`."""
    work, repo = _work(job), Repo.open(root, timeout, env=os.environ)
    _check_repository(job, repo)
    with _scratch() as scratch, _marked(job) as mark:
        if request.undo:
            return _undo(job, repo, work, scratch, mark)
        mark.check_unapplied()
        outcome = patching.plan(repo, work, job.path, scratch, request.allow_paths)
        shown = {"files": outcome.files, "merged": outcome.merged}
        if request.check_only:
            said = f"{_count(outcome.files)} can be changed; nothing was written"
            return {"summary": said, "applied": False, **shown}
        _apply(job, repo, outcome, scratch, mark)
    undo = {"tool": "codex_apply", "arguments": {"job_id": job.id, "undo": True}}
    done = f"{_count(outcome.files, 'was', 'were')} changed; the index was left alone"
    return {"summary": done, "applied": True, **shown, "undo": undo, "undo_patch": str(job.path / "undo.patch")}


def _count(files: list[str], one: str = "", many: str = "") -> str:
    return f"1 file {one}".strip() if len(files) == 1 else f"{len(files)} files {many}".strip()


def _apply(job: Job, repo: Repo, outcome: patching.PatchPlan, scratch: Path, mark: AppliedMark) -> None:
    """The way back of an interrupted call leads from the same end to the same beginning: it is kept."""
    if mark.word != b"begun":
        undo = patching.undo_patch(repo, outcome, scratch / "undo")
        delegate.write_private(job.path / "undo.patch", undo)
    _write(repo, outcome, mark, b"done")


def _write(repo: Repo, outcome: patching.PatchPlan, mark: AppliedMark, then: bytes) -> None:
    before = mark.word
    mark.write(b"begun")
    try:
        patching.write_all(repo.root, outcome)
    except patching.HalfWrittenError:
        raise
    except BaseException:
        mark.write(before)
        raise
    mark.write(then)


def _undo(job: Job, repo: Repo, work: DelegateResult, scratch: Path, mark: AppliedMark) -> dict[str, Any]:
    mark.check_applied()
    outcome = patching.undone(repo, work, (job.path / "undo.patch").read_bytes(), scratch)
    _write(repo, outcome, mark, b"")
    return {"summary": f"{_count(outcome.files, 'was', 'were')} put back", "applied": False, "files": outcome.files}


def _work(job: Job) -> DelegateResult:
    if job.outcome() is None:
        raise CounselError(Code.JOB_RUNNING, f"Job {job.id} has not finished")
    work = delegate.load(job.path)
    if work is None:
        raise CounselError(Code.INVALID_ARGUMENTS, f"Job {job.id} has no diff: it is no delegate, or made no tree")
    if not work.files:
        raise CounselError(Code.INVALID_ARGUMENTS, f"Job {job.id} changed no files: there is nothing to apply")
    return work


def _check_repository(job: Job, repo: Repo) -> None:
    """A diff belongs to the repository it was made for: its main working tree, or a linked one."""
    made_for = delegate.errand_of(job.spec()).repository
    if made_for != str(repo.common_dir):
        raise CounselError(
            Code.WORKSPACE_INVALID, f"The diff was made for {made_for}, which is another repository than {repo.root}"
        )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="codex-counsel-apply-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
