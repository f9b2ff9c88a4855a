"""Which files a scope is about, before any is read, and a fingerprint by which later changes are noticed."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.review.changes.diff_stream import LIST_ONLY, Change, DiffStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codex_counsel.git.repo import Repo
    from codex_counsel.git.tree_reader import TreeReader
    from codex_counsel.review.changes.comparison import Comparison


@dataclass(frozen=True)
class Snapshot:
    """`others` are files that git does not compare: the untracked ones, or in scope `files` all files."""

    changes: tuple[Change, ...] = ()
    others: tuple[bytes, ...] = ()
    unmerged: frozenset[bytes] = frozenset()

    def names(self) -> Iterator[bytes]:
        """The present name of every file."""
        for change in self.changes:
            yield change.new
        yield from self.others


def take_snapshot(
    repo: Repo,
    reader: TreeReader,
    comparison: Comparison,
    paths: tuple[bytes, ...],
) -> Snapshot:
    """The files as they are now."""
    if comparison.whole_files:
        return Snapshot(others=whole_files(repo, reader, paths))
    with repo.stream(*LIST_ONLY, *comparison.arguments(repo), "--", *paths) as chunks:
        changes = DiffStream(chunks).changes
    others, unmerged = untracked_and_unmerged(repo, comparison, paths)
    return Snapshot(tuple(changes), others, unmerged)


def untracked_and_unmerged(
    repo: Repo, comparison: Comparison, paths: tuple[bytes, ...]
) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    """Untracked files, where the scope has any, and files with conflicts. One git process, however many there are."""
    if comparison.state == "commit":
        return (), frozenset()
    options = ["-z", "-t", "--unmerged"]
    if comparison.state == "working_tree":
        options += ["--others", "--exclude-standard"]
    output = repo.git("ls-files", *options, "--", *paths)

    untracked: list[bytes] = []
    unmerged: set[bytes] = set()
    for record in output.split(b"\0"):
        if record.startswith(b"? "):
            untracked.append(record[2:])
        elif record:
            unmerged.add(record.partition(b"\t")[2])
    return tuple(untracked), frozenset(unmerged)


def whole_files(
    repo: Repo, reader: TreeReader, paths: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    """Tracked and untracked files. A file that the caller names itself is among them even if git ignores it."""
    output = repo.git(
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        *paths,
    )
    names = dict.fromkeys(name for name in output.split(b"\0") if name)
    for path in paths:
        if path in names:
            continue
        status = reader.lstat(path)
        if status and not stat.S_ISDIR(status.st_mode):
            names[path] = None
    return tuple(names)


def compute_fingerprint(
    reader: TreeReader, comparison: Comparison, snapshot: Snapshot
) -> str:
    """Two are equal as long as nobody touched the reviewed files, the index of staged changes, or HEAD."""
    if comparison.state == "commit":
        snapshot = Snapshot()
    start = (comparison.base, comparison.head, sorted(snapshot.unmerged))
    digest = hashlib.sha256(repr(start).encode())
    on_disk = comparison.state == "working_tree"
    for change in snapshot.changes:
        object_ids: tuple[str, ...] = change.object_ids
        if on_disk:
            # Git may or may not know the id of a file on disk.
            object_ids = object_ids[:1]
        record = (change.modes, object_ids, change.status, change.old, change.new)
        digest.update(repr(record).encode())
    if not on_disk:
        return digest.hexdigest()
    for name in snapshot.names():
        status = reader.lstat(name)
        state: tuple[int, ...] | None = None
        if status:
            state = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino)
        digest.update(repr((name, state)).encode())
    return digest.hexdigest()
