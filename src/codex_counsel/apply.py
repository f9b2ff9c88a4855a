"""`codex_apply` for one job: claimed, planned, written, recorded; and taken back the same way."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codex_counsel import delegate, patching
from codex_counsel.delegate import Work
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.jobs.record import Job
from codex_counsel.request import Apply


def carry_out(job: Job, root: Path, request: Apply, timeout: float) -> dict[str, Any]:
    """Apply, check or undo; returns what was done. Raises `apply_conflict`, `already_applied`, `policy_refused`."""
    work, repo = _work(job), Repo.open(root, timeout)
    _check_repository(job, repo)
    with _scratch() as scratch:
        if request.undo:
            return _undo(job, repo, work, scratch)
        if (job.path / "applied").exists():
            raise CounselError(Code.ALREADY_APPLIED, f"The diff of job {job.id} was applied before")
        outcome = patching.plan(repo, work, job.path, scratch, request.allow_paths)
        shown = {"files": outcome.files, "merged": outcome.merged}
        if request.check_only:
            return {
                "summary": f"{len(outcome.files)} files can be changed; nothing was written",
                "applied": False,
                **shown,
            }
        _apply(job, repo, outcome, scratch)
    undo = {"tool": "codex_apply", "arguments": {"job_id": job.id, "undo": True}}
    done = f"{len(outcome.files)} files were changed; the index was left alone"
    return {"summary": done, "applied": True, **shown, "undo": undo, "undo_patch": str(job.path / "undo.patch")}


def _apply(job: Job, repo: Repo, outcome: patching.Outcome, scratch: Path) -> None:
    """The mark comes first: of two calls at once one applies."""
    undo = patching.undo_patch(repo, outcome, scratch / "undo")
    _claim(job)
    try:
        delegate.write_private(job.path / "undo.patch", undo)
        patching.write_all(repo.root, outcome)
    except BaseException:
        (job.path / "applied").unlink(missing_ok=True)
        raise


def _claim(job: Job) -> None:
    try:
        os.close(os.open(job.path / "applied", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise CounselError(Code.ALREADY_APPLIED, f"The diff of job {job.id} is being applied, or was before") from None


def _undo(job: Job, repo: Repo, work: Work, scratch: Path) -> dict[str, Any]:
    if not (job.path / "applied").exists():
        raise CounselError(Code.INVALID_ARGUMENTS, f"The diff of job {job.id} is not applied: there is nothing to undo")
    patch = (job.path / "undo.patch").read_bytes()
    outcome = patching.undone(repo, work, patch, scratch)
    patching.write_all(repo.root, outcome)
    (job.path / "applied").unlink()
    return {"summary": f"{len(outcome.files)} files were put back", "applied": False, "files": outcome.files}


def _work(job: Job) -> Work:
    if job.outcome() is None:
        raise CounselError(Code.JOB_RUNNING, f"Job {job.id} has not finished")
    work = delegate.load(job.path)
    if work is None:
        raise CounselError(Code.INVALID_ARGUMENTS, f"Job {job.id} has no diff: it is no delegate, or made no tree")
    if not work.files:
        raise CounselError(Code.INVALID_ARGUMENTS, f"Job {job.id} changed no files: there is nothing to apply")
    return work


def _check_repository(job: Job, repo: Repo) -> None:
    """A diff belongs to the repository it was made for: the same one, or a linked worktree of it."""
    made_for = Repo.open(Path(job.spec().workspace), repo.timeout)
    if made_for.common_dir != repo.common_dir:
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"The diff was made for {made_for.root}, which is another repository than {repo.root}",
        )


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="codex-counsel-apply-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
