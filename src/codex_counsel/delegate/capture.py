"""Capture what a run left in its shadow: a patch that was verified to apply, the base for later merges, a file list."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from codex_counsel.delegate.sensitive import (
    LINK,
    ChangedPath,
    TreeLinks,
    sensitive_paths,
)
from codex_counsel.delegate.shadow import (
    Bounds,
    RefusedFileError,
    Shadow,
    ShadowTimeoutError,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.system.files import open_private, write_atomically
from codex_counsel.system.tree_walk import (
    Entry,
    TreeWalk,
    make_accessible,
    remove_tree,
)

MAX_LISTED = 200
GIT_DIRECTORIES = (b".git", b"git~1")
"""Names, in lower case, that git takes for its own directory on some file system and never adds to an index."""
MAX_BASE = 200_000_000
"""Bytes of file contents in `base.tar`."""
BOUNDS = Bounds(file_bytes=50_000_000, total_bytes=500_000_000, files=20_000)
"""What is captured of a run that put too much into its tree."""
MAX_VERIFIED = 1_000_000_000
"""Bytes of a patch that can still be verified: it is held in memory."""
ONLY_LARGE_FILES = Bounds(
    file_bytes=MAX_VERIFIED, total_bytes=sys.maxsize, files=sys.maxsize
)
"""What is captured of a tree with a file that git could not read in time: a sparse one takes no room on the disk."""
SPECIAL_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""Kinds of files that git does not store. In place of a tracked file it stores nothing at all because of one."""

LineCounts = tuple[int | None, int | None]
"""Added and deleted lines; None for a binary file."""


class TooLargeError(CounselError):
    """The patch has more than MAX_VERIFIED bytes."""


class CapturedFile(NamedTuple):
    """One file of the patch.

    `status` is git's letter (A, M, D, R, T). `old_name` is the name before a rename.
    `mode` is git's mode after the change; `old_mode` and `old_id` (the blob) are from
    before it, all zeros for a new file. `added` and `deleted` count lines, None for a
    binary file.
    """

    status: str
    name: bytes
    old_name: bytes | None
    mode: str
    old_mode: str
    old_id: str
    added: int | None
    deleted: int | None


@dataclass
class Capture:
    """`patch_path` is the patch with the exact bytes.

    `preview` is the beginning of the same for people, in which binary files are only
    named. `diffstat` is git's summary line, empty without a change. `sensitive` are
    names that must be accepted by name. `ignored` are ignored files that the run made.
    `suspicious` are git directories and special files that were removed, and links that
    git refuses, lead out of the tree or end nowhere. `left_out` are changed files over
    the bounds and those that git cannot store, `unreachable` is the number of
    directories that git cannot read: their paths are too long.
    """

    patch_path: Path
    preview: bytes
    files: list[CapturedFile]
    sensitive: frozenset[bytes] = frozenset()
    ignored: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unreachable: int = 0
    diffstat: str = ""


def capture_tree(
    shadow: Shadow,
    base_tree: str,
    store: Path,
    preview_limit: int,
    bounds: Bounds | None = None,
) -> Capture:
    """Capture the shadow's tree and verify that applying diff.patch to `base_tree` yields the captured tree.

    Writes `diff.patch` and `base.tar` into `store`. The preview has up to
    `preview_limit` + 1 bytes, so that a cut one is recognised. Where not all of the work
    can be stored, that within BOUNDS is, and `left_out` names the rest. Raises
    `worktree_failed` where git fails or the patch cannot be verified, OSError on a full
    disk.
    """
    make_accessible(shadow.tree)
    suspicious, unreachable = _remove_git_directories(shadow)
    uncaptured, has_large_file = _remove_what_git_refuses(shadow)
    suspicious += uncaptured
    if bounds is None and has_large_file:
        bounds = ONLY_LARGE_FILES

    patch_path = store / "diff.patch"
    new_tree, left_out = _store_patch(shadow, base_tree, patch_path, bounds)
    links = _links(shadow)
    capture = _capture_of(shadow, (base_tree, new_tree), store, preview_limit, links)
    capture.ignored = _ignored_names(shadow)
    capture.suspicious = [*suspicious, *capture.suspicious][:MAX_LISTED]
    capture.unreachable = unreachable
    capture.left_out = [display_name(name) for name in left_out[:MAX_LISTED]]
    return capture


def capture_tree_object(
    shadow: Shadow, base_tree: str, new_tree: str, store: Path, preview_limit: int
) -> Capture:
    """As `capture_tree`, of a tree that git has stored: no file of it need be on disk, and nothing is removed."""
    patch_path = store / "diff.patch"
    with contextlib.closing(shadow.diff(base_tree, new_tree, exact=True)) as chunks:
        write_atomically(patch_path, chunks, durable=True)
    _verify(shadow, base_tree, new_tree, patch_path)
    links = _links_of_tree(shadow, new_tree)
    return _capture_of(shadow, (base_tree, new_tree), store, preview_limit, links)


def _capture_of(
    shadow: Shadow,
    trees: tuple[str, str],
    store: Path,
    preview_limit: int,
    links: TreeLinks,
) -> Capture:
    """What the trees before and after tell, of which `store` has the patch. Writes `base.tar` beside it."""
    base_tree, new_tree = trees
    files = _changed_files(shadow, base_tree, new_tree)
    _store_base(shadow, files, store / "base.tar")
    diffstat = shadow.git(
        "diff-tree",
        "-r",
        "--shortstat",
        "--find-renames",
        base_tree,
        new_tree,
    )
    changed = [ChangedPath(file.name, file.old_name, file.mode) for file in files]
    return Capture(
        patch_path=store / "diff.patch",
        preview=_read_preview(shadow, base_tree, new_tree, preview_limit + 1),
        files=files,
        sensitive=frozenset(sensitive_paths(changed, links)),
        suspicious=_links_leading_outside(files, links),
        diffstat=diffstat.decode().strip(),
    )


def _remove_git_directories(shadow: Shadow) -> tuple[list[str], int]:
    """Remove git directories that the run made, so that the files beside them are captured as files.

    Returns a line about each, and the number of directories that cannot be reached. The
    tree's own `.git` file stays.
    """
    tree = os.fsencode(shadow.tree)
    walk = TreeWalk(tree, enter=lambda entry: not _is_git_directory(entry.name))
    found = [entry.path for entry in walk if _is_git_directory(entry.name)]
    removed = []
    for name in found:
        path = os.path.join(tree, name)
        if shadow.is_own_git_file(path):
            continue
        if not remove_tree(path):
            # Git would not capture the files beside it.
            raise CounselError(
                Code.WORKTREE_FAILED, f"{display_name(name)} cannot be removed"
            )
        removed.append(f"{display_name(name)} (a git directory, removed)")
    return removed, walk.unread


def _remove_what_git_refuses(shadow: Shadow) -> tuple[list[str], bool]:
    """Remove entries because of which git would store nothing of the tree.

    Returns a line about each, and whether some file has more than MAX_VERIFIED bytes.
    """
    removed = []
    has_large_file = False
    for entry in TreeWalk(shadow.tree):
        if entry.is_folder:
            continue
        try:
            status = entry.stat()
            kind = _refused_kind(entry, status)
            if kind:
                os.unlink(entry.name, dir_fd=entry.folder.descriptor)
                removed.append(f"{display_name(entry.path)} ({kind}, removed)")
        except FileNotFoundError:
            continue
        if entry.is_file and status.st_size > MAX_VERIFIED:
            has_large_file = True
    return removed, has_large_file


def _refused_kind(entry: Entry, status: os.stat_result) -> str | None:
    # Git takes this name for its own in any case of its letters.
    if entry.is_link and entry.name.lower() == b".gitmodules":
        target = os.readlink(entry.name, dir_fd=entry.folder.descriptor)
        return f"a link to {display_name(target)} that git refuses"
    return SPECIAL_FILES.get(stat.S_IFMT(status.st_mode))


def _is_git_directory(name: bytes) -> bool:
    return name.lower() in GIT_DIRECTORIES


def _store_patch(
    shadow: Shadow, base_tree: str, patch_path: Path, bounds: Bounds | None
) -> tuple[str, list[bytes]]:
    """Write the verified patch. Returns the id of the captured tree and the names that it lacks.

    What cannot be stored as a whole is stored within BOUNDS. Where even that takes too
    long, the patterns that the run made are not followed.
    """
    index = shadow.read_index()
    try:
        return _store_patch_within(shadow, base_tree, patch_path, bounds)
    except (RefusedFileError, ShadowTimeoutError, TooLargeError):
        shadow.restore_index(index)
    try:
        return _store_patch_within(shadow, base_tree, patch_path, BOUNDS)
    except ShadowTimeoutError:
        shadow.restore_index(index)
    patterns = shadow.reset_patterns()
    new_tree, left_out = _store_patch_within(shadow, base_tree, patch_path, BOUNDS)
    return new_tree, [*patterns, *left_out]


def _store_patch_within(
    shadow: Shadow, base_tree: str, patch_path: Path, bounds: Bounds | None
) -> tuple[str, list[bytes]]:
    left_out: list[bytes] = []
    if bounds is None:
        new_tree = shadow.snapshot()
    else:
        new_tree, left_out = shadow.bounded_snapshot(bounds)
    with contextlib.closing(shadow.diff(base_tree, new_tree, exact=True)) as chunks:
        write_atomically(patch_path, chunks, durable=True)
    _verify(shadow, base_tree, new_tree, patch_path)
    return new_tree, left_out


def _verify(shadow: Shadow, base_tree: str, new_tree: str, patch_path: Path) -> None:
    size = patch_path.stat().st_size
    if size > MAX_VERIFIED:
        raise TooLargeError(
            Code.WORKTREE_FAILED,
            f"The diff has {size} bytes, too many to be verified",
        )
    result_tree = shadow.apply_to_tree(base_tree, patch_path.read_bytes())
    if result_tree != new_tree:
        raise CounselError(
            Code.WORKTREE_FAILED,
            "The diff does not reproduce the result; it is stored, but must not be relied on",
        )


def _read_preview(shadow: Shadow, old: str, new: str, limit: int) -> bytes:
    preview = bytearray()
    with contextlib.closing(shadow.diff(old, new, exact=False)) as chunks:
        for chunk in chunks:
            preview += chunk
            if len(preview) >= limit:
                break
    return bytes(preview[:limit])


def _changed_files(shadow: Shadow, old: str, new: str) -> list[CapturedFile]:
    counts = _line_counts(shadow, old, new)
    files = []
    fields = _fields_of_changes(shadow, "--raw", old, new)
    for header in fields:
        # :OLD_MODE NEW_MODE OLD_ID NEW_ID STATUS, where a score may follow the letter
        # of the status.
        columns = header.decode().removeprefix(":").split(" ")
        old_mode, mode, old_id, _, status = columns
        letter = status[0]
        old_name = None
        name = next(fields)
        if letter in "RC":
            old_name = name
            name = next(fields)
        added, deleted = counts.get(name, (None, None))
        file = CapturedFile(
            status=letter,
            name=name,
            old_name=old_name,
            mode=mode,
            old_mode=old_mode,
            old_id=old_id,
            added=added,
            deleted=deleted,
        )
        files.append(file)
    return files


def _line_counts(shadow: Shadow, old: str, new: str) -> dict[bytes, LineCounts]:
    """Added and deleted lines of each changed file by its new name."""
    counts = {}
    fields = _fields_of_changes(shadow, "--numstat", old, new)
    for header in fields:
        added, deleted, name = header.split(b"\t", 2)
        if not name:
            # A rename: the old name and the new one follow as fields of their own.
            next(fields)
            name = next(fields)
        counts[name] = (_line_count(added), _line_count(deleted))
    return counts


def _line_count(text: bytes) -> int | None:
    if text.isdigit():
        return int(text)
    return None


def _fields_of_changes(
    shadow: Shadow, output_format: str, old: str, new: str
) -> Iterator[bytes]:
    """The NUL-terminated fields of git's output about the changed files, in the format of this option."""
    output = shadow.git(
        "diff-tree",
        "-r",
        "-z",
        output_format,
        "--find-renames",
        old,
        new,
    )
    fields = output.split(b"\0")
    return iter(fields[:-1])


def _store_base(shadow: Shadow, files: list[CapturedFile], path: Path) -> None:
    """Store the changed files as they were before the run, for a three-way merge when the diff is applied.

    Files that would take the archive over MAX_BASE bytes are left out. The PAX header
    `git.mode` holds git's mode.
    """
    changed = [file for file in files if file.status != "A"]
    sizes = shadow.git(
        "cat-file",
        "--batch-check=%(objectsize)",
        stdin=_id_lines(changed),
    )
    stored = []
    total = 0
    for file, digits in zip(changed, sizes.split(), strict=True):
        size = int(digits)
        if total + size <= MAX_BASE:
            total += size
            stored.append(file)

    contents = b""
    if stored:
        contents = shadow.git("cat-file", "--batch", stdin=_id_lines(stored))
    blobs = BytesIO(contents)
    with (
        open(path, "wb", opener=open_private) as output,
        tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in stored:
            # ID TYPE SIZE, a line end, as many bytes, and a line end.
            _, _, digits = blobs.readline().split()
            name = file.old_name or file.name
            entry = tarfile.TarInfo(os.fsdecode(name))
            entry.size = int(digits)
            entry.pax_headers = {"git.mode": file.old_mode}
            archive.addfile(entry, blobs)
            blobs.read(1)


def _id_lines(files: list[CapturedFile]) -> bytes:
    return b"".join(file.old_id.encode() + b"\n" for file in files)


def _ignored_names(shadow: Shadow) -> list[str]:
    """Ignored files that the run made: the seed contains none."""
    output = shadow.git(
        "ls-files",
        "-z",
        "--others",
        "--ignored",
        "--exclude-standard",
        "--directory",
    )
    names = [display_name(name) for name in output.split(b"\0") if name]
    return names[:MAX_LISTED]


def _links(shadow: Shadow) -> TreeLinks:
    """The links of the captured tree."""

    def read(path: bytes) -> bytes | None:
        try:
            return os.readlink(os.path.join(os.fsencode(shadow.tree), path))
        except OSError:
            return None

    names = []
    output = shadow.git("ls-files", "-z", "--stage")
    for record in output.split(b"\0"):
        about, _, name = record.partition(b"\t")
        if about.startswith(LINK.encode()):
            names.append(name)
    return TreeLinks(names, read)


def _links_of_tree(shadow: Shadow, tree: str) -> TreeLinks:
    """The links of a tree object."""
    ids: dict[bytes, bytes] = {}
    output = shadow.git("ls-tree", "-r", "-z", "--full-tree", tree)
    for record in output.split(b"\0"):
        about, _, name = record.partition(b"\t")
        if about.startswith(LINK.encode()):
            ids[name] = about.split()[2]
    contents: dict[bytes, bytes] = {}
    if ids:
        wanted = b"".join(object_id + b"\n" for object_id in ids.values())
        blobs = BytesIO(shadow.git("cat-file", "--batch", stdin=wanted))
        for name in ids:
            _, _, digits = blobs.readline().split()
            contents[name] = blobs.read(int(digits))
            blobs.read(1)
    return TreeLinks(list(ids), contents.get)


def _links_leading_outside(files: list[CapturedFile], links: TreeLinks) -> list[str]:
    lines = []
    for file in files:
        if file.mode != LINK or file.status == "D":
            continue
        target = links.read(file.name)
        if target is not None and links.destination(file.name) is None:
            displayed = display_name(file.name)
            lines.append(f"{displayed} (a link that leads to {display_name(target)})")
    return lines
