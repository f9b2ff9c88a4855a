"""`codex_apply` for one job: lock, plan, write, record; and the same for taking the diff back.

The file `applied` in the job directory is empty or contains `begun` or `done`. Whoever
writes the live tree holds its lock. A file with `begun` that is not locked is what a
killed process left: some files are new and others old. Applying again finishes it,
because each file either is as it was or as it is to become.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.contract.request import Apply
from codex_counsel.delegate.apply_plan import (
    PatchPlan,
    make_undo_patch,
    plan_apply,
    plan_undo,
)
from codex_counsel.delegate.record import DelegateResult, DelegateSpec
from codex_counsel.delegate.tree_writer import HalfWrittenError, WorkTree, replace_files
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.system.files import lock_file, write_atomically


@dataclass(frozen=True)
class StoredDiff:
    """The diff of an ended delegate job. `repository` is the common git directory that it was made for."""

    job_id: str
    directory: Path
    result: DelegateResult
    repository: str

    @classmethod
    def load(
        cls, job_id: str, directory: Path, spec: DelegateSpec | None
    ) -> StoredDiff:
        """Read it from the job's directory; `spec` is None for a job that is no delegate.

        Raises `invalid_arguments` where the job has no diff, or an empty one. The
        caller checks that the job has ended.
        """
        result = DelegateResult.load(directory)
        if spec is None or result is None:
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"Job {job_id} has no diff: it is not a delegate, or made no tree",
            )
        if not result.files:
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"Job {job_id} changed no files: there is nothing to apply",
            )
        return cls(job_id, directory, result, spec.repository)

    @property
    def undo_patch_path(self) -> Path:
        """The patch that leads back, written before the diff is applied."""
        return self.directory / "undo.patch"

    @property
    def kept(self) -> Path:
        """Where earlier contents go of files that the user edits while the diff is applied."""
        return self.directory / "kept"


class AppliedMark:
    """The content of a job's file `applied`, which its caller has locked."""

    def __init__(self, job_id: str, descriptor: int) -> None:
        self._job_id = job_id
        self._descriptor = descriptor

    @property
    def state(self) -> bytes:
        """`begun`, `done`, or empty."""
        return os.pread(self._descriptor, 16, 0)

    def write(self, state: bytes) -> None:
        """Store the state durably. Raises OSError."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, state, 0)
        os.fsync(self._descriptor)

    def check_unapplied(self) -> None:
        """Raise `already_applied` where the diff was applied completely."""
        if self.state == b"done":
            raise CounselError(
                Code.ALREADY_APPLIED,
                f"The diff of job {self._job_id} was applied before",
            )

    def check_applied(self) -> None:
        """Raise `invalid_arguments` unless the diff was applied completely."""
        if self.state == b"begun":
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"Applying or undoing the diff of job {self._job_id} was interrupted half-way",
                repair="Apply it again, which finishes the files that were not reached; then undo.",
            )
        if self.state != b"done":
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"The diff of job {self._job_id} is not applied: there is nothing to undo",
            )


def apply_diff(
    diff: StoredDiff,
    root: Path,
    request: Apply,
    timeout: float,
    env: Mapping[str, str],
) -> dict[str, object]:
    """Apply a diff to the repository around `root`, check it, or take it back, as the request says.

    `timeout` is in seconds, for each git command. Returns `summary`, `applied` and
    `files`; with `merged` unless it was taken back, and with `undo` (a tool call) and
    `undo_patch` (a path) when it was applied.

    Raises `workspace_invalid` for another repository, `policy_refused`,
    `apply_conflict`, `already_applied`, `invalid_arguments` for an undo that is not
    possible, and `storage_failed`.
    """
    repo = Repo.open(root, timeout, env=env)
    try:
        tree = WorkTree(repo.root)
    except OSError as error:
        raise CounselError(
            Code.WORKSPACE_INVALID, f"{repo.root} cannot be opened: {error.strerror}"
        ) from None
    with tree:
        return _apply_in_tree(repo, tree, diff, request)


def _apply_in_tree(
    repo: Repo,
    tree: WorkTree,
    diff: StoredDiff,
    request: Apply,
) -> dict[str, object]:
    # Any working tree of the repository will do, the main one or a linked one.
    if diff.repository != str(repo.common_dir):
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"The diff was made for {diff.repository}, which is another repository than {repo.root}",
        )
    with (
        tempfile.TemporaryDirectory(
            prefix="codex-counsel-apply-", ignore_cleanup_errors=True
        ) as temporary,
        _locked_mark(diff) as mark,
    ):
        scratch = Path(temporary).resolve()
        if request.undo:
            return _undo(repo, tree, diff, scratch, mark)
        return _apply(repo, tree, diff, request, mark, scratch=scratch)


@contextlib.contextmanager
def _locked_mark(diff: StoredDiff) -> Iterator[AppliedMark]:
    """Hold the lock of the job's file `applied`. A second caller gets `already_applied`."""
    descriptor = lock_file(diff.directory / "applied")
    if descriptor is None:
        raise CounselError(
            Code.ALREADY_APPLIED,
            f"The diff of job {diff.job_id} is being applied by another call just now",
        )
    try:
        yield AppliedMark(diff.job_id, descriptor)
    finally:
        os.close(descriptor)


def _apply(
    repo: Repo,
    tree: WorkTree,
    diff: StoredDiff,
    request: Apply,
    mark: AppliedMark,
    *,
    scratch: Path,
) -> dict[str, object]:
    mark.check_unapplied()
    plan = plan_apply(
        repo,
        tree,
        diff.result,
        diff.directory,
        scratch,
        allow_paths=request.allow_paths,
    )
    count = len(plan.paths)
    if request.check_only:
        files = "1 file" if count == 1 else f"{count} files"
        return {
            "summary": f"{files} can be changed; nothing was written",
            "applied": False,
            "diffstat": diff.result.diffstat,
            "files": plan.paths,
            "merged": plan.merged_paths,
        }

    # After an interrupted call some files are new already: only its own undo patch
    # leads back to the beginning.
    if mark.state != b"begun":
        undo_patch = make_undo_patch(repo, plan, scratch / "undo")
        write_atomically(diff.undo_patch_path, undo_patch)
    _write(tree, plan, diff, mark, final_state=b"done")
    return {
        "summary": f"{_files_were(count)} changed; the index was left alone",
        "applied": True,
        "files": plan.paths,
        "merged": plan.merged_paths,
        "undo": {
            "tool": "codex_apply",
            "arguments": {"job_id": diff.job_id, "undo": True},
        },
        "undo_patch": str(diff.undo_patch_path),
    }


def _undo(
    repo: Repo,
    tree: WorkTree,
    diff: StoredDiff,
    scratch: Path,
    mark: AppliedMark,
) -> dict[str, object]:
    mark.check_applied()
    undo_patch = diff.undo_patch_path.read_bytes()
    plan = plan_undo(repo, tree, diff.result, undo_patch, scratch)
    _write(tree, plan, diff, mark, final_state=b"")
    return {
        "summary": f"{_files_were(len(plan.paths))} put back",
        "applied": False,
        "files": plan.paths,
    }


def _write(
    tree: WorkTree,
    plan: PatchPlan,
    diff: StoredDiff,
    mark: AppliedMark,
    final_state: bytes,
) -> None:
    """Write the files between the marks `begun` and `final_state`. A failure that was put back restores the mark."""
    initial_state = mark.state
    mark.write(b"begun")
    try:
        replace_files(tree, plan.before, plan.after, diff.kept)
    except HalfWrittenError:
        raise
    except BaseException:
        mark.write(initial_state)
        raise
    mark.write(final_state)


def _files_were(count: int) -> str:
    return "1 file was" if count == 1 else f"{count} files were"
