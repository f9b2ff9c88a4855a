"""Which files a scope is about, before any is read, and a fingerprint by which a tree that moved is noticed."""

from __future__ import annotations

import hashlib
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
    """`others` are files that git does not compare: the untracked ones, or in scope `files` all."""

    changes: tuple[Change, ...] = ()
    others: tuple[bytes, ...] = ()
    unmerged: frozenset[bytes] = frozenset()

    def names(self) -> Iterator[bytes]:
        yield from (change.new for change in self.changes)
        yield from self.others


def others_and_unmerged(
    repo: Repo, frame: Comparison, paths: tuple[bytes, ...]
) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    """Untracked files, where the scope has any, and files with conflicts: one process, however many there are."""
    if frame.state == "commit":
        return (), frozenset()
    untracked = ("--others", "--exclude-standard") if frame.state == "working_tree" else ()
    output = repo.git("ls-files", "-z", "-t", "--unmerged", *untracked, "--", *paths)
    records = [record for record in output.split(b"\0") if record]
    unmerged = frozenset(record.partition(b"\t")[2] for record in records if not record.startswith(b"? "))
    return tuple(record[2:] for record in records if record.startswith(b"? ")), unmerged


def whole_files(repo: Repo, folder: TreeReader, paths: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Tracked and untracked files; one that is named outright also when git ignores it."""
    output = repo.git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths)
    listed = dict.fromkeys(name for name in output.split(b"\0") if name)
    named = (path for path in paths if path not in listed and _is_no_folder(folder, path))
    return tuple(dict.fromkeys([*listed, *named]))


def _is_no_folder(folder: TreeReader, path: bytes) -> bool:
    seen = folder.look(path)
    return seen is not None and seen.st_mode & 0o170000 != 0o040000


def again(repo: Repo, folder: TreeReader, frame: Comparison, paths: tuple[bytes, ...]) -> Snapshot:
    """The survey as it would be now."""
    if frame.whole:
        return Snapshot(others=whole_files(repo, folder, paths))
    with repo.stream(*LIST_ONLY, *frame.arguments(repo), "--", *paths) as chunks:
        changes = DiffStream(chunks).changes
    return Snapshot(tuple(changes), *others_and_unmerged(repo, frame, paths))


def fingerprint(folder: TreeReader, frame: Comparison, survey: Snapshot) -> str:
    """Two are equal as long as nobody touched the files looked at, the index of staged changes, or HEAD."""
    if frame.state == "commit":
        survey = Snapshot()
    digest = hashlib.sha256(repr((frame.base, frame.head, sorted(survey.unmerged))).encode())
    on_disk = frame.state == "working_tree"
    for change in survey.changes:
        sides = change.sides[:1] if on_disk else change.sides
        digest.update(repr((change.modes, sides, change.status, change.old, change.new)).encode())
    for name in survey.names() if on_disk else ():
        seen = folder.look(name)
        state = seen and (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ino)
        digest.update(repr((name, state)).encode())
    return digest.hexdigest()
