"""The material of a review: what changed, as much of its text as fits, and an honest list of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.attributes import attributes
from codex_counsel.git.names import below, from_root, shown
from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader
from codex_counsel.review.changes import snapshot as survey
from codex_counsel.review.changes import untracked as plain
from codex_counsel.review.changes.collector import Collector
from codex_counsel.review.changes.comparison import Comparison, sides
from codex_counsel.review.changes.history import history
from codex_counsel.review.changes.model import ChangedFile, Commit, Omitted, Scope
from codex_counsel.review.changes.snapshot import Snapshot, fingerprint, others_and_unmerged, whole_files
from codex_counsel.review.changes.tracked import Tracked, diff_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LISTED = 50


@dataclass(frozen=True)
class Changes:
    """`diff` is what is sent, in UTF-8, masked and within the budget; `entries` are all files of the change.

    `base_sha` and `head_sha` are commits; no head means the index or the working tree, no base that there was no commit
    before. `base_name` tells what a base that the caller did not name was found by.
    """

    scope: Scope
    frame: Comparison
    entries: tuple[ChangedFile, ...]
    diff: bytes
    omitted: tuple[Omitted, ...]
    redactions: int
    commits: tuple[Commit, ...]
    fingerprint: str

    @property
    def base_sha(self) -> str | None:
        return self.frame.base

    @property
    def head_sha(self) -> str | None:
        return self.frame.head

    @property
    def base_name(self) -> str | None:
        return self.frame.chosen

    @property
    def complete(self) -> bool:
        """Whether everything that a reviewer of text could have read was sent."""
        return not any(left_out.spoils for left_out in self.omitted)

    def moved(self, repo: Repo) -> bool:
        """Whether the reviewed files, the index, or what the names of the scope stand for changed since."""
        try:
            return self.fingerprint != _fingerprint_now(repo.opened_anew(), self.scope)
        except CounselError:
            return True


def gather(repo: Repo, scope: Scope, budget: int, denied: tuple[Path, ...] = ()) -> Changes:
    """Everything the scope says, prepared for sending; raises when there is nothing.

    Files at the places `denied`, which are absolute, are withheld.
    """
    frame, paths = sides(repo, scope), from_root(repo, scope.paths)
    with TreeReader(repo.root) as folder:
        gathering = Collector(repo, folder, budget, denied)
        mark = (_take_files if frame.whole else _take_changes)(gathering, frame, paths)
        _check_paths(gathering, frame, paths)
    entries, diff, omitted = gathering.finish()
    if not diff:
        raise _nothing(repo, scope, omitted)
    commits, masked = history(repo, frame)
    return Changes(scope, frame, entries, diff, omitted, gathering.redactions + masked, commits, mark)


def _take_files(to: Collector, frame: Comparison, paths: tuple[bytes, ...]) -> str:
    found = Snapshot(others=whole_files(to.repo, to.folder, paths))
    mark = fingerprint(to.folder, frame, found)
    plain.take(to, found.others, attributes(to.repo, found.others), plain.AUDITED)
    return mark


def _take_changes(to: Collector, frame: Comparison, paths: tuple[bytes, ...]) -> str:
    with diff_of(to, frame, paths) as stream:
        found = Snapshot(tuple(stream.changes), *others_and_unmerged(to.repo, frame, paths))
        mark = fingerprint(to.folder, frame, found)
        about = attributes(to.repo, found.names())
        tracked = Tracked(to, frame, about)
        blocked = tracked.blocked(found.changes)
        if not blocked:
            tracked.take(stream.texts(), found.unmerged)
    if blocked:
        with diff_of(to, frame, paths, without=blocked) as stream:
            tracked.take(stream.texts(), found.unmerged)
    tracked.list_unmerged(found.unmerged)
    plain.take(to, found.others, about, plain.UNTRACKED)
    return mark


def _fingerprint_now(repo: Repo, scope: Scope) -> str:
    frame, paths = sides(repo, scope), from_root(repo, scope.paths)
    with TreeReader(repo.root) as folder:
        found = Snapshot() if frame.state == "commit" else survey.again(repo, folder, frame, paths)
        return fingerprint(folder, frame, found)


def _check_paths(to: Collector, frame: Comparison, paths: tuple[bytes, ...]) -> None:
    """A path that nothing answers to is a slip of the caller's, not a clean file."""
    given = frozenset(paths)
    matched = {below(name, given) for name in to.names()}
    unknown = [path for path in paths if path not in matched and not _exists(to, frame, path)]
    if unknown:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"No file matches {_named(unknown)}.",
            repair="Give existing files or folders relative to the workspace; patterns are not expanded.",
        )


def _exists(to: Collector, frame: Comparison, path: bytes) -> bool:
    if to.folder.look(path):
        return True
    return any(to.repo.lookup(sha, path) for sha in (frame.base, frame.head) if sha)


def _named(paths: Iterable[bytes]) -> str:
    return ", ".join(shown(path) for path in paths)[:500]


def _nothing(repo: Repo, scope: Scope, omitted: tuple[Omitted, ...]) -> CounselError:
    where = f" under {', '.join(scope.paths)[:500]}" if scope.paths else ""
    if omitted:
        listed = [{"path": o.path, "reason": str(o.reason), "bytes": o.bytes} for o in omitted[:LISTED]]
        reasons = ", ".join(sorted({str(o.reason) for o in omitted}))
        message = f"Scope {scope.kind}{where} holds {len(omitted)} files, none of which can be shown ({reasons})."
        return CounselError(Code.NOTHING_TO_REVIEW, message, details={"omitted": listed})
    return CounselError(Code.NOTHING_TO_REVIEW, f"Scope {scope.kind} of {repo.root} holds no change{where}.")
