"""What applying a stored diff to the live tree, or taking it back, would write.

The content of every file is computed in a scratch directory before anything is written.
A patch is trusted only for files that are as they were when the run began: git finds
the place of a change by its context, which may occur several times in a file that
changed since. Such files are merged, or refused.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from codex_counsel.delegate.record import DelegateResult
from codex_counsel.delegate.sensitive import (
    LINK,
    ChangedPath,
    TreeLinks,
    sensitive_paths,
)
from codex_counsel.delegate.shadow import Shadow, ShadowGitError, git_environment
from codex_counsel.delegate.tree_writer import (
    FileState,
    FileStates,
    WorkTree,
    conflict_error,
    read_files,
    read_link,
    removals_first,
    write_file,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import extended
from codex_counsel.git.names import display_name
from codex_counsel.git.process import GitProcess, GitTimeout, find_git
from codex_counsel.git.repo import Repo
from codex_counsel.system.directory_descriptors import entries
from codex_counsel.system.files import remove_tree

ROOM = 4_000_000
"""Bytes that must be free after git failed; with less it may have failed for want of room."""


@dataclass(frozen=True)
class PatchPlan:
    """The files before and after, by name. `paths` and `merged_paths` are for display.

    Merged are files that changed since the run began and took the diff's change by a
    clean three-way merge.
    """

    before: FileStates
    after: FileStates
    paths: list[str]
    merged_paths: list[str]


@dataclass(frozen=True)
class Conflict:
    """There is no clean merge of a file. `lines` are about where in the live file, empty where it is not text."""

    lines: list[int] = field(default_factory=list)


def plan_apply(
    repo: Repo,
    tree: WorkTree,
    result: DelegateResult,
    directory: Path,
    scratch: Path,
    *,
    allow_paths: Iterable[str] | None,
) -> PatchPlan:
    """Plan applying the diff that lies in the job's `directory`. Writes only below `scratch`.

    Raises `apply_conflict`, `storage_failed` where there is no room for the plan, and
    `policy_refused` for sensitive paths that are not among `allow_paths`; None allows
    all.
    """
    names = _changed_names(result)
    patch = (directory / "diff.patch").read_bytes()
    live = read_files(tree, names)
    # A file that the archive lacks did not exist, or was too large to be stored.
    base: FileStates = dict.fromkeys(live)
    base |= read_base(directory / "base.tar")

    after = _apply_patch(repo, live, patch, scratch / "live")
    merged: list[bytes] = []
    if after is None or live != base:
        # This fails only where the archive lacks files.
        patched = _apply_patch(repo, base, patch, scratch / "base")
        if patched is not None:
            after, merged = _merge_files(repo, base, live, patched, scratch)
    if after is None:
        reason = "changed since the run began, and its baseline was too large to be kept for a merge"
        raise conflict_error(names, reason)
    if allow_paths is not None:
        _check_sensitive(result, _links_after(repo, tree, after), allow_paths)
    return PatchPlan(
        before=live,
        after=after,
        paths=[display_name(name) for name in names],
        merged_paths=[display_name(name) for name in merged],
    )


def plan_undo(
    repo: Repo,
    tree: WorkTree,
    result: DelegateResult,
    patch: bytes,
    scratch: Path,
    *,
    complete: PatchPlan | None,
) -> PatchPlan:
    """Plan taking a diff back with its undo patch. Raises `apply_conflict` where the files changed since.

    `complete` is the plan that finishes a diff of which some files are not written yet.
    """
    names = _changed_names(result)
    if complete is None:
        live = read_files(tree, names)
        applied = live
    else:
        live = complete.before
        applied = complete.after
    after = _apply_patch(repo, applied, patch, scratch / "undone")
    if after is None:
        raise conflict_error(names, "changed since the diff was applied")
    return PatchPlan(
        before=live,
        after=after,
        paths=[display_name(name) for name in names],
        merged_paths=[],
    )


def make_undo_patch(repo: Repo, plan: PatchPlan, scratch: Path) -> bytes:
    """The patch that leads back from `plan.after` to `plan.before`."""
    shadow = _create_shadow(repo, scratch)
    trees = []
    with WorkTree(shadow.tree) as tree:
        for files in (plan.after, plan.before):
            for name in removals_first(files):
                write_file(tree, name, files[name])
            shadow.git("add", "--all", "--force", "--", ".")
            trees.append(shadow.write_tree())
    chunks = shadow.diff(trees[0], trees[1], exact=True)
    patch = b"".join(chunks)
    remove_tree(scratch)
    return patch


def check_room(directory: Path) -> None:
    """Raise OSError where a file of a moderate size cannot be written to the directory."""
    probe = directory / "room"
    try:
        probe.write_bytes(b"\0" * ROOM)
    finally:
        probe.unlink(missing_ok=True)


def _create_shadow(repo: Repo, scratch: Path) -> Shadow:
    head = repo.head()
    if head is None:
        head = "0" * 40
    return Shadow.create(repo, scratch, head)


def _links_after(repo: Repo, tree: WorkTree, after: FileStates) -> TreeLinks:
    """The links of the live tree as they will be: those of the diff, those that git tracks, and those at the top."""

    def read(path: bytes) -> bytes | None:
        if path not in after:
            return read_link(tree, path)
        state = after[path]
        if state and state.mode == LINK:
            return state.data
        return None

    names: dict[bytes, None] = dict.fromkeys(after)
    output = repo.git("ls-files", "-z", "--stage")
    for record in output.split(b"\0"):
        about, _, name = record.partition(b"\t")
        if about.startswith(LINK.encode()):
            names[name] = None
    # Such as a CLAUDE.md that git ignores.
    for name, is_directory in entries(tree.descriptor):
        if not is_directory:
            names[name] = None
    return TreeLinks([name for name in names if read(name) is not None], read)


def _check_sensitive(
    result: DelegateResult, links: TreeLinks, allow_paths: Iterable[str]
) -> None:
    allowed = {os.path.normpath(path) for path in allow_paths}
    changed = []
    for name, old_name, mode in result.names:
        changed.append(
            ChangedPath(_to_bytes(name) or b"", _to_bytes(old_name), mode or "")
        )
    displayed = [display_name(path) for path in sensitive_paths(changed, links)]
    refused = [path for path in displayed if path not in allowed]
    if refused:
        raise CounselError(
            Code.POLICY_REFUSED,
            "Tools execute these files or follow them as instructions, or they are links that leave the tree "
            f"or lead to such a file: {', '.join(refused[:20])}; nothing was applied",
            repair="Look at each of them in the diff; then name those you accept in allow_paths.",
            details={"allow_paths": refused[:200]},
        )


def _changed_names(result: DelegateResult) -> list[bytes]:
    """Names of all files that the diff writes or removes, each once."""
    names: dict[bytes | None, None] = {}
    for name, old_name, _ in result.names:
        names[_to_bytes(name)] = None
        names[_to_bytes(old_name)] = None
    return [name for name in names if name is not None]


def _to_bytes(name: str | None) -> bytes | None:
    """A name as it stands in `work.json`, where Latin-1 keeps each byte."""
    if name is None:
        return None
    return name.encode("latin-1")


def read_base(archive_path: Path) -> FileStates:
    """The files of `base.tar`: those that the diff changes, as the run found them."""
    base: FileStates = {}
    with tarfile.open(archive_path) as archive:
        for member in archive:
            if not member.isfile():
                continue
            file = archive.extractfile(member)
            if file is None:
                continue
            name = os.fsencode(member.name)
            mode = member.pax_headers.get("git.mode", "100644")
            base[name] = FileState(file.read(), str(mode))
    return base


def _apply_patch(
    repo: Repo,
    files: FileStates,
    patch: bytes,
    scratch: Path,
) -> FileStates | None:
    """The files after the patch, applied in a new shadow that contains nothing else; None where it does not apply."""
    shadow = _create_shadow(repo, scratch)
    with WorkTree(shadow.tree) as tree:
        for name, state in files.items():
            if state:
                write_file(tree, name, state)
        try:
            if patch:
                shadow.git("apply", "--binary", "--whitespace=nowarn", "-", stdin=patch)
        except ShadowGitError:
            check_room(scratch)
            return None
        after = read_files(tree, list(files))
    for name, state in after.items():
        if state:
            # The file keeps the permissions of the live one, not those in the shadow.
            after[name] = replace(state, permissions=None)
    return after


# --- three-way merge


def _merge_files(
    repo: Repo,
    base: FileStates,
    live: FileStates,
    patched: FileStates,
    scratch: Path,
) -> tuple[FileStates, list[bytes]]:
    """Merge each file's change by the diff with its change since the run began.

    Returns the files, and the names of those that have both changes. Raises
    `apply_conflict`.
    """
    after: FileStates = {}
    merged: list[bytes] = []
    conflicts: dict[bytes, Conflict] = {}
    for name, current in live.items():
        original = base.get(name)
        changed = patched.get(name)
        result = _merge_file(repo, original, current, changed, scratch)
        if isinstance(result, Conflict):
            conflicts[name] = result
            continue
        after[name] = result
        has_both_changes = current not in (original, changed)
        if has_both_changes and result != current:
            merged.append(name)
    if conflicts:
        raise _merge_error(conflicts)
    return after, merged


def _merge_error(conflicts: dict[bytes, Conflict]) -> CounselError:
    hunks: list[str] = []
    for name, conflict in conflicts.items():
        hunks += [f"{display_name(name)}:{line}" for line in conflict.lines]
    return conflict_error(
        list(conflicts),
        "changed since the run began, in the same places",
        {
            "hunks": hunks[:50],
            "hint": "delegate again, or merge diff_path by hand",
        },
    )


def _merge_file(
    repo: Repo,
    base: FileState | None,
    live: FileState | None,
    patched: FileState | None,
    scratch: Path,
) -> FileState | Conflict | None:
    """One file after a three-way merge; None for no file."""
    if live in (base, patched):
        return patched
    if patched == base:
        return live
    if base is None or live is None or patched is None:
        return Conflict()
    if LINK in (base.mode, live.mode, patched.mode):
        return Conflict()
    data = _merge_text(repo, base.data, live.data, patched.data, scratch)
    if isinstance(data, Conflict):
        return data
    mode = live.mode
    if patched.mode != base.mode:
        mode = patched.mode
    return FileState(data, mode)


def _merge_text(
    repo: Repo,
    base: bytes,
    live: bytes,
    patched: bytes,
    scratch: Path,
) -> bytes | Conflict:
    live_path = scratch / "merge-live"
    base_path = scratch / "merge-base"
    patched_path = scratch / "merge-patched"
    live_path.write_bytes(live)
    base_path.write_bytes(base)
    patched_path.write_bytes(patched)

    # Keeps git from finding a repository around the scratch directory, and its
    # configuration.
    isolation = {"GIT_CEILING_DIRECTORIES": str(scratch.parent)}
    env = extended(git_environment(repo.env, repo.workspace), isolation)
    argv = [
        find_git(env),
        "merge-file",
        "-p",
        "-q",
        str(live_path),
        str(base_path),
        str(patched_path),
    ]
    try:
        with GitProcess(argv, env, scratch, repo.timeout) as process:
            merged = b"".join(process.chunks())
    except GitTimeout:
        return Conflict()
    # The number of conflicts, or the code of an error: git does not merge binary files.
    if process.code:
        return Conflict(_conflict_lines(merged, live))
    return merged


def _conflict_lines(merged: bytes, live: bytes) -> list[int]:
    """About where in the live file git put its conflict markers; 1-based."""
    live_lines = set(live.splitlines())
    conflict_lines = []
    line_number = 0
    in_patched_side = False
    for line in merged.splitlines():
        if line.startswith(b"<<<<<<< "):
            conflict_lines.append(line_number + 1)
        elif line == b"=======":
            in_patched_side = True
        elif line.startswith(b">>>>>>> "):
            in_patched_side = False
        elif not in_patched_side and line in live_lines:
            line_number += 1
    return conflict_lines
