"""`codex_apply` for one job: lock, plan, write, record; and the same for taking the diff back.

Three files say where a job's diff stands. All are replaced or removed in one step, so
a process may be killed between any two lines:

- `applied` in the job directory: the diff is in the tree that the file names.
- `<state>/applying/<job id>.json`: files are being written, in the tree and under the
  names that it holds. Where nobody holds the lock, it is what a killed process left:
  some files are new and others old. It counts more than `applied`.
- `apply.lock` in the job directory: whoever writes or plans holds its lock. Plans are
  made in the directory `<state>/applying/<job id>.tmp`.

Applying again finishes what was begun, and so does undoing it, because each file either
is as it was or as it is to become.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codex_counsel.contract.request import Apply
from codex_counsel.delegate.apply_plan import (
    PatchPlan,
    check_room,
    make_undo_patch,
    plan_apply,
    plan_undo,
)
from codex_counsel.delegate.live_writer import (
    Drafts,
    HalfWrittenError,
    LiveWriter,
    digest,
)
from codex_counsel.delegate.record import DelegateResult, DelegateSpec
from codex_counsel.delegate.shadow import ShadowGitError
from codex_counsel.delegate.tree_writer import WorkTree
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.system.files import (
    lock_file,
    read_json_or_none,
    read_regular,
    remove_tree,
    write_atomically,
)
from codex_counsel.system.json_values import Json

APPLYING = "applying"
"""The directory of the state directory with a record of each diff that is being applied or undone."""
ABANDONED_SECONDS = 3600
"""Age from which a record without a job is nobody's."""
MAX_MARK = 65_536
"""Bytes of the file `applied`."""


@dataclass(frozen=True)
class StoredDiff:
    """The diff of an ended delegate job. `repository` is the common git directory that it was made for.

    `records` is the directory for what is being applied.
    """

    job_id: str
    directory: Path
    result: DelegateResult
    repository: str
    records: Path

    @classmethod
    def load(
        cls, job_id: str, directory: Path, spec: DelegateSpec | None, state: Path
    ) -> StoredDiff:
        """Read it from the job's directory; `spec` is None for a job that is no delegate.

        `state` is the state directory. Raises `invalid_arguments` where the job has no
        diff, or an empty one. The caller checks that the job has ended.
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
        return cls(job_id, directory, result, spec.repository, state / APPLYING)

    @property
    def undo_patch_path(self) -> Path:
        """The patch that leads back, written before the diff is applied."""
        return self.directory / "undo.patch"

    @property
    def mark(self) -> AppliedMark:
        """Where the diff stands."""
        return AppliedMark(
            self.job_id, self.directory, self.records / f"{self.job_id}.json"
        )


@dataclass(frozen=True)
class TreePlace:
    """The working tree that a diff went to. It is still the same one after it was moved: see `device` and `inode`."""

    root: str
    device: int
    inode: int

    @classmethod
    def of(cls, tree: WorkTree) -> TreePlace:
        """The place of an open tree."""
        status = os.fstat(tree.descriptor)
        return cls(str(tree.root), status.st_dev, status.st_ino)

    def is_same_directory(self, other: TreePlace) -> bool:
        """Whether both are one directory, wherever it was moved."""
        return (self.device, self.inode) == (other.device, other.inode)


@dataclass(frozen=True)
class ApplyRecord:
    """What a call writes: the tree, the token of its drafts, and of each file its name in Latin-1 and two digests.

    `submodules` are those in the tree that it may write, in Latin-1 too.
    """

    place: TreePlace
    token: str
    submodules: list[str]
    files: list[tuple[str, str | None, str | None]]

    @classmethod
    def of(cls, tree: WorkTree, plan: PatchPlan) -> ApplyRecord:
        """The record of a new call."""
        files = []
        for name, state in plan.after.items():
            before = digest(plan.before[name])
            files.append((name.decode("latin-1"), before, digest(state)))
        submodules = [name.decode("latin-1") for name in sorted(tree.repositories)]
        return cls(TreePlace.of(tree), secrets.token_hex(8), submodules, files)

    @classmethod
    def parse(cls, raw: Json) -> ApplyRecord | None:
        """From JSON; None for what is no record."""
        try:
            files = [(name, before, after) for name, before, after in raw["files"]]
            submodules = list(raw["submodules"])
            for name in (*submodules, *(name for name, _, _ in files)):
                _to_bytes(name)
            place = TreePlace(**raw["place"])
            if b"\0" in os.fsencode(place.root):
                return None
            return cls(place, str(raw["token"]), submodules, files)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    @property
    def drafts(self) -> Drafts:
        """The names of the drafts of the call."""
        return Drafts(self.token, [name for name, _, _ in self._digests()])

    def remove_drafts(self, tree: WorkTree, kept: Path) -> list[str]:
        """Remove what a killed call left in the tree. Returns where contents are that somebody else had saved."""
        writer = LiveWriter(tree, self.drafts, kept)
        writer.remove_drafts(self._digests())
        return writer.stored

    def _digests(self) -> list[tuple[bytes, str | None, str | None]]:
        return [(_to_bytes(name), before, after) for name, before, after in self.files]


class AppliedMark:
    """Where the diff of a job stands. Only who holds the job's lock may write."""

    def __init__(self, job_id: str, directory: Path, record_path: Path) -> None:
        self._job_id = job_id
        self._applied = directory / "applied"
        self._record = record_path

    @property
    def state(self) -> str:
        """`begun`, `done`, or empty."""
        if self._record.exists():
            return "begun"
        content = read_regular(self._applied, MAX_MARK)
        # What earlier versions wrote.
        if content == b"begun":
            return "begun"
        return "done" if content else ""

    @property
    def record(self) -> ApplyRecord | None:
        """What a killed call was writing; None where nothing was begun, or nobody knows."""
        return ApplyRecord.parse(read_json_or_none(self._record))

    @property
    def place(self) -> TreePlace | None:
        """The tree that the diff is in, or half in. None where it is in none, or nobody knows."""
        record = self.record
        if record:
            return record.place
        try:
            return TreePlace(**read_json_or_none(self._applied))
        except TypeError:
            return None

    def begin(self, record: ApplyRecord) -> None:
        """Store that files are being written. Raises OSError."""
        write_atomically(self._record, json.dumps(asdict(record)), durable=True)

    def finish(self, place: TreePlace | None) -> None:
        """Store that all files are written: the diff is in this tree, or in none. Raises OSError."""
        if place is None:
            self._applied.unlink(missing_ok=True)
        else:
            write_atomically(self._applied, json.dumps(asdict(place)), durable=True)
        self.give_up()

    def give_up(self) -> None:
        """Store that no file is being written, and what was written was put back. Raises OSError."""
        self._record.unlink(missing_ok=True)

    def check_unapplied(self) -> None:
        """Raise `already_applied` where the diff was applied completely."""
        if self.state == "done":
            raise CounselError(
                Code.ALREADY_APPLIED,
                f"The diff of job {self._job_id} was applied before",
            )

    def check_applied(self) -> None:
        """Raise `invalid_arguments` unless the diff was applied, completely or in part."""
        if not self.state:
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
    `files`; with `merged` unless it was taken back, with `undo` (a tool call) and
    `undo_patch` (a path) when it was applied, and with `changed_since` and `kept` where
    somebody saved files meanwhile.

    Raises `workspace_invalid` for another repository, `policy_refused`,
    `apply_conflict`, `already_applied`, `invalid_arguments` for an undo that is not
    possible, and `storage_failed`.
    """
    repo = Repo.open(root, timeout, env=env)
    try:
        tree = WorkTree(repo.root, map(_to_bytes, diff.result.submodules))
    except OSError as error:
        raise CounselError(
            Code.WORKSPACE_INVALID, f"{repo.root} cannot be opened: {error.strerror}"
        ) from None
    with tree:
        try:
            return _apply_in_tree(repo, tree, diff, request)
        except OSError as error:
            raise _storage_error(
                error, "No file of the working tree was changed by this call"
            ) from None


def _storage_error(error: OSError, outcome: str) -> CounselError:
    place = f": {error.filename}" if error.filename else ""
    return CounselError(
        Code.STORAGE_FAILED,
        f"The record of the diff cannot be read or written ({error.strerror}{place}). {outcome}",
        repair="Make room in the state directory, or give back its permissions; then make the same call again.",
    )


def _apply_in_tree(
    repo: Repo,
    tree: WorkTree,
    diff: StoredDiff,
    request: Apply,
) -> dict[str, object]:
    mark = diff.mark
    with _locked(diff):
        _check_place(repo, tree, diff, mark.place)
        with _scratch_directory(diff.records / f"{diff.job_id}.tmp") as scratch:
            call = _Call(repo, tree, diff, mark, scratch)
            if request.undo:
                return _undo(call)
            return _apply(call, request)


def _check_place(
    repo: Repo, tree: WorkTree, diff: StoredDiff, place: TreePlace | None
) -> None:
    """Raise `workspace_invalid` where the diff does not belong to this tree; `place` is where it is by now.

    It may go to any working tree of its repository, the main one or a linked one. What
    is in one of them is taken back there.
    """
    if place and place.is_same_directory(TreePlace.of(tree)):
        return
    if place and place.root != str(repo.root):
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"The diff of job {diff.job_id} was applied in {place.root}, and not in {repo.root}",
            repair=f"Name {place.root} as workspace_root; where that directory was moved, its present place.",
        )
    if diff.repository != str(repo.common_dir):
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"The diff was made for {diff.repository}, which is another repository than {repo.root}",
        )


@contextlib.contextmanager
def _locked(diff: StoredDiff) -> Iterator[None]:
    """Hold the lock of the job's diff. A second caller gets `already_applied`."""
    descriptor = lock_file(diff.directory / "apply.lock")
    if descriptor is None:
        raise CounselError(
            Code.ALREADY_APPLIED,
            f"The diff of job {diff.job_id} is being applied by another call just now",
        )
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _scratch_directory(path: Path) -> Iterator[Path]:
    """An empty directory; what a killed call left in it is removed first."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    scratch = path.resolve()
    remove_tree(scratch)
    scratch.mkdir(mode=0o700)
    try:
        yield scratch
    except ShadowGitError:
        # Git does not say with its exit code that there was no room.
        check_room(scratch)
        raise
    finally:
        remove_tree(scratch)


@dataclass(frozen=True)
class _Call:
    """What one call works with. `stored` are paths of contents that somebody else had saved."""

    repo: Repo
    tree: WorkTree
    diff: StoredDiff
    mark: AppliedMark
    scratch: Path
    stored: list[str] = field(default_factory=list)

    @property
    def kept(self) -> Path:
        """Where contents go that have no place in the tree any more."""
        return self.diff.directory / "kept"

    def remove_drafts(self) -> None:
        """Remove what a killed call left in the tree."""
        record = self.mark.record
        if record:
            self.stored.extend(record.remove_drafts(self.tree, self.kept))

    def plan_apply(self, allow_paths: Iterable[str] | None) -> PatchPlan:
        """Plan applying, or finishing that. None allows all paths."""
        return plan_apply(
            self.repo,
            self.tree,
            self.diff.result,
            self.diff.directory,
            self.scratch,
            allow_paths=allow_paths,
        )


def _apply(call: _Call, request: Apply) -> dict[str, object]:
    call.mark.check_unapplied()
    if not request.check_only:
        call.remove_drafts()
    plan = call.plan_apply(request.allow_paths)
    count = len(plan.paths)
    if request.check_only:
        files = "1 file" if count == 1 else f"{count} files"
        return {
            "summary": f"{files} can be changed; nothing was written",
            "applied": False,
            "diffstat": call.diff.result.diffstat,
            "files": plan.paths,
            "merged": plan.merged_paths,
        }

    # After an interrupted call some files are new already: only its own undo patch
    # leads back to the beginning.
    undo_path = call.diff.undo_patch_path
    if call.mark.state != "begun":
        undo_patch = make_undo_patch(call.repo, plan, call.scratch / "undo")
        write_atomically(undo_path, undo_patch, durable=True)
    changed_since = _write(call, plan, TreePlace.of(call.tree))
    return {
        "summary": f"{_files_were(count)} changed; the index was left alone{_meanwhile(changed_since, call.stored)}",
        "applied": True,
        "files": plan.paths,
        "merged": plan.merged_paths,
        "undo": {
            "tool": "codex_apply",
            "arguments": {"job_id": call.diff.job_id, "undo": True},
        },
        "undo_patch": str(undo_path),
        **_saved_by_others(changed_since, call.stored),
    }


def _undo(call: _Call) -> dict[str, object]:
    call.mark.check_applied()
    call.remove_drafts()
    undo_patch = call.diff.undo_patch_path.read_bytes()
    complete = None
    if call.mark.state == "begun":
        # The patch leads back from the complete diff, and some files lack it.
        complete = call.plan_apply(None)
    plan = plan_undo(
        call.repo,
        call.tree,
        call.diff.result,
        undo_patch,
        call.scratch,
        complete=complete,
    )
    changed_since = _write(call, plan, None)
    return {
        "summary": f"{_files_were(len(plan.paths))} put back{_meanwhile(changed_since, call.stored)}",
        "applied": False,
        "files": plan.paths,
        **_saved_by_others(changed_since, call.stored),
    }


def _write(call: _Call, plan: PatchPlan, place: TreePlace | None) -> list[str]:
    """Write the files, recorded before and after; `place` is where the diff is then.

    Returns the files that somebody changed again meanwhile. A failure after which every
    file was put back restores the record.
    """
    mark = call.mark
    was_begun = mark.state == "begun"
    record = ApplyRecord.of(call.tree, plan)
    mark.begin(record)
    writer = LiveWriter(call.tree, record.drafts, call.kept)
    try:
        changed_since = writer.replace_files(plan.before, plan.after)
    except HalfWrittenError:
        raise
    except BaseException:
        if not was_begun:
            # With the record, a later call would find that there is nothing to finish.
            with contextlib.suppress(OSError):
                mark.give_up()
        raise
    call.stored.extend(writer.stored)
    try:
        mark.finish(place)
    except OSError as error:
        raise _storage_error(error, "Every file was written") from None
    return changed_since


def sweep_applying(state: Path) -> None:
    """Remove what killed calls left: their plans, and the drafts in users' trees that their records name. Never raises.

    The records stay: the next call for the job finishes it, or takes it back.
    """
    records = state / APPLYING
    try:
        job_ids = {path.stem for path in records.iterdir()}
    except OSError:
        return
    for job_id in sorted(job_ids):
        with contextlib.suppress(OSError, CounselError):
            _sweep_job(records, job_id, state / "jobs" / job_id)


def _sweep_job(records: Path, job_id: str, directory: Path) -> None:
    record_path = records / f"{job_id}.json"
    plan = records / f"{job_id}.tmp"
    if not directory.is_dir():
        # The job was removed, and with it what could finish this. Whoever did that did
        # not look for a call that may still be writing.
        newest = max(path.stat().st_mtime for path in records.glob(f"{job_id}.*"))
        if time.time() - newest > ABANDONED_SECONDS:
            _remove_recorded(record_path, records / f"{job_id}.kept")
            record_path.unlink(missing_ok=True)
            remove_tree(plan)
        return
    lock = lock_file(directory / "apply.lock")
    if lock is None:
        return
    try:
        remove_tree(plan)
        _remove_recorded(record_path, directory / "kept")
    finally:
        os.close(lock)


def _remove_recorded(path: Path, kept: Path) -> None:
    """Remove the drafts of one record, if there is one."""
    record = ApplyRecord.parse(read_json_or_none(path))
    if record is None:
        return
    root = Path(record.place.root)
    with WorkTree(root, map(_to_bytes, record.submodules)) as tree:
        if record.place == TreePlace.of(tree):
            record.remove_drafts(tree, kept)


def _to_bytes(name: str) -> bytes:
    """A name as it stands in our records, where Latin-1 keeps each byte."""
    return name.encode("latin-1")


def _saved_by_others(changed_since: list[str], stored: list[str]) -> dict[str, object]:
    fields: dict[str, object] = {}
    if changed_since:
        fields["changed_since"] = changed_since
    if stored:
        fields["kept"] = stored
    return fields


def _meanwhile(changed_since: list[str], stored: list[str]) -> str:
    """The end of a summary: what somebody else did to the files while they were written."""
    text = ""
    if changed_since:
        text += (
            f"; somebody changed these again meanwhile: {', '.join(changed_since[:20])}"
        )
    if stored:
        text += f"; what somebody saved while an earlier call was killed is in {', '.join(stored[:5])}"
    return text


def _files_were(count: int) -> str:
    return "1 file was" if count == 1 else f"{count} files were"
