"""The material of a review: what changed, as much of its text as fits, and a complete list of what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.contract.vocabulary import PROJECT_FILE
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.attributes import attributes
from codex_counsel.git.names import covering_path, display_name, from_root
from codex_counsel.git.patterns import matching
from codex_counsel.git.submodules import GITLINK, dirty_submodules
from codex_counsel.git.tree_reader import TreeReader
from codex_counsel.review.changes import untracked
from codex_counsel.review.changes.collector import Collector
from codex_counsel.review.changes.comparison import Comparison, comparison_of
from codex_counsel.review.changes.history import history
from codex_counsel.review.changes.model import (
    ChangedFile,
    Commit,
    Omitted,
    Reason,
    Scope,
)
from codex_counsel.review.changes.since import (
    NOTHING_SEEN,
    Earlier,
    look_up,
    named,
    newest_of_all,
    relied_on,
    states_of_file,
)
from codex_counsel.review.changes.snapshot import (
    Snapshot,
    compute_fingerprint,
    take_snapshot,
    untracked_and_unmerged,
    whole_files,
)
from codex_counsel.review.changes.tracked import TrackedFiles, diff_of
from codex_counsel.system.json_values import JsonObject

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from codex_counsel.contract.envelope import SeenEarlier
    from codex_counsel.findings.seen import PastReview
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.diff_stream import Change

MAX_NAMED = 10
"""Submodules that a note names."""
MAX_LISTED = 50
"""Omitted files in the details of an error."""


@dataclass(frozen=True)
class Changes:
    """`diff` is what is sent, in UTF-8, masked and within the budget. `entries` are all files of the change.

    `redactions` counts what was masked in the diff and in the messages of `commits`.
    `fingerprint` is that of the files when they were read. `seen` are the reviews that
    saw the files of which nothing is sent; None where everything was to be sent.
    `base_moved` are the paths of those of them that the base has changed since. `relied_on`
    are all reviews on which the rest of the change rests that is not sent, oldest first.
    """

    scope: Scope
    comparison: Comparison
    entries: tuple[ChangedFile, ...]
    diff: bytes
    omitted: tuple[Omitted, ...]
    redactions: int
    commits: tuple[Commit, ...]
    fingerprint: str
    seen: tuple[SeenEarlier, ...] | None = None
    base_moved: tuple[str, ...] = ()
    relied_on: tuple[PastReview, ...] = ()

    @property
    def base_sha(self) -> str | None:
        """The commit compared with; None if there was none before."""
        return self.comparison.base

    @property
    def head_sha(self) -> str | None:
        """The commit under review; None for the index or the working tree."""
        return self.comparison.head

    @property
    def base_name(self) -> str | None:
        """The name by which the base of a branch was found."""
        return self.comparison.base_name

    @property
    def complete(self) -> bool:
        """Whether everything that a reviewer of text could have read was sent."""
        return not any(omitted.makes_incomplete for omitted in self.omitted)

    @property
    def skipped(self) -> list[Omitted]:
        """What the project file leaves out."""
        return [item for item in self.omitted if item.reason is Reason.SKIPPED]

    @property
    def lacking(self) -> list[Omitted]:
        """What else is not sent."""
        return [item for item in self.omitted if item.reason is not Reason.SKIPPED]

    @property
    def unseen(self) -> list[ChangedFile]:
        """The files that no review has seen as they are now."""
        return [file for file in self.entries if not file.is_seen]

    def moved(self, repo: Repo) -> bool:
        """Whether the reviewed files, the index, or what the names of the scope stand for have changed since."""
        try:
            return self.fingerprint != _current_fingerprint(repo.reopen(), self.scope)
        except CounselError:
            # A name of the scope no longer resolves, or the repository is gone.
            return True


def gather(
    repo: Repo,
    scope: Scope,
    budget: int,
    denied: tuple[Path, ...] = (),
    *,
    reviews: Sequence[PastReview] | None = None,
    mended: Collection[str] = (),
    comparison: Comparison | None = None,
    skip: tuple[str, ...] = (),
) -> Changes:
    """Everything in the scope, prepared for sending within `budget` bytes.

    Files at or below the absolute paths `denied` are omitted. What `reviews`, oldest
    first, saw of a branch or range is not sent again; None: all is sent. `mended` is that
    of `since.look_up`. `comparison` is that of the scope, where it is known. `skip` are
    patterns of files that are not sent, unless `scope.paths` names them. Raises
    `nothing_to_review` when there is nothing to send, `invalid_arguments` for a path that
    names nothing, and what `comparison_of` raises.
    """
    comparison = comparison or comparison_of(repo, scope)
    paths = from_root(repo, scope.paths)
    earlier = NOTHING_SEEN
    with TreeReader(repo.root) as reader:
        collector = Collector(repo, reader, budget, denied)
        if comparison.whole_files:
            fingerprint = _collect_whole_files(collector, comparison, paths, skip)
        else:
            fingerprint, earlier = _collect_changes(
                collector,
                comparison,
                paths,
                scope,
                reviews=reviews or (),
                mended=mended,
                skip=skip,
            )
        _check_paths(collector, comparison, paths)
    entries, diff, omitted = collector.finish()
    seen = None
    if reviews is not None:
        seen = named(earlier.seen[file.path_bytes] for file in entries if file.is_seen)
    if not diff:
        if not seen:
            raise _nothing(repo, scope, omitted)
        states = {states_of_file(file)[1] for file in entries if file.is_seen}
        whole = newest_of_all(repo, scope, comparison, reviews or (), states)
        raise _nothing_new(scope, comparison, omitted, whole, len(states))
    base_moved = [
        file.path for file in entries if file.path_bytes in earlier.base_moved
    ]
    commits, redactions = history(repo, comparison, earlier.last_head)
    return Changes(
        scope=scope,
        comparison=comparison,
        entries=entries,
        diff=diff,
        omitted=omitted,
        redactions=collector.redactions + redactions,
        commits=commits,
        fingerprint=fingerprint,
        seen=seen,
        base_moved=tuple(base_moved),
        relied_on=relied_on(entries, earlier),
    )


def _collect_whole_files(
    collector: Collector,
    comparison: Comparison,
    paths: tuple[bytes, ...],
    skip: tuple[str, ...],
) -> str:
    """Returns the fingerprint, taken before anything was read."""
    names = whole_files(collector.repo, collector.reader, paths)
    collector.skipped = _skipped(collector.repo, skip, names, (), paths)
    fingerprint = compute_fingerprint(
        collector.reader, comparison, Snapshot(others=names)
    )
    about = attributes(collector.repo, names)
    untracked.collect(collector, names, about, untracked.NUMBERED_FILES)
    return fingerprint


def _collect_changes(
    collector: Collector,
    comparison: Comparison,
    paths: tuple[bytes, ...],
    scope: Scope,
    *,
    reviews: Sequence[PastReview],
    mended: Collection[str],
    skip: tuple[str, ...],
) -> tuple[str, Earlier]:
    """Returns the fingerprint, taken before anything but the list of changes was read, and what `reviews` saw."""
    with diff_of(collector, comparison, paths) as stream:
        others, unmerged = untracked_and_unmerged(collector.repo, comparison, paths)
        snapshot = Snapshot(tuple(stream.changes), others, unmerged)
        fingerprint = compute_fingerprint(collector.reader, comparison, snapshot)
        about = attributes(collector.repo, snapshot.names())
        submodules = _submodules(snapshot.changes)
        if comparison.state == "working_tree":
            dirty = dirty_submodules(collector.repo, paths)
            submodules += [submodule.path for submodule in dirty]
        names = {*snapshot.names(), *snapshot.unmerged}
        names.update(change.old for change in snapshot.changes)
        collector.skipped = _skipped(collector.repo, skip, names, submodules, paths)
        earlier = look_up(
            collector.repo,
            scope,
            comparison,
            reviews,
            snapshot.changes,
            mended=mended,
            budget=collector.budget,
        )
        tracked = TrackedFiles(collector, comparison, about, earlier)
        unreadable = tracked.omit_unreadable(snapshot.changes)
        if not unreadable:
            tracked.collect(stream.texts(), unmerged)
    # The first diff was ended unread: git stops at the first file that it cannot read.
    if unreadable:
        with diff_of(collector, comparison, paths, without=unreadable) as stream:
            tracked.collect(stream.texts(), unmerged)
    tracked.omit_unmerged(unmerged)
    untracked.collect(collector, others, about, untracked.NEW_FILES)
    for submodule in submodules:
        collector.omit_submodule(submodule)
    return fingerprint, earlier


def _submodules(changes: Iterable[Change]) -> list[bytes]:
    return [
        change.new
        for change in changes
        if change.status != "D" and GITLINK in change.modes
    ]


def _skipped(
    repo: Repo,
    skip: tuple[str, ...],
    names: Collection[bytes],
    submodules: Collection[bytes],
    paths: tuple[bytes, ...],
) -> frozenset[bytes]:
    """The names that are not sent. A path of the caller's that is itself left out is sent, with all below it.

    So is the project file: no pattern lets a change of the policy pass unseen.
    """
    if not skip:
        return frozenset()
    # To git a name is that of a file; whether it leaves out a folder shows in what is below.
    below = {name + b"/-": name for name in (*submodules, *paths)}
    found = matching(repo, skip, {*names, *submodules, *paths, *below})
    found |= {below[name] for name in found & below.keys()}
    wanted = {PROJECT_FILE.encode(), *found.intersection(paths)}
    return frozenset(name for name in found if not covering_path(name, wanted))


def _current_fingerprint(repo: Repo, scope: Scope) -> str:
    comparison = comparison_of(repo, scope)
    paths = from_root(repo, scope.paths)
    with TreeReader(repo.root) as reader:
        # Commits do not change: their ids are enough.
        snapshot = Snapshot()
        if comparison.state != "commit":
            snapshot = take_snapshot(repo, reader, comparison, paths)
        return compute_fingerprint(reader, comparison, snapshot)


def _check_paths(
    collector: Collector, comparison: Comparison, paths: tuple[bytes, ...]
) -> None:
    """Raise for a path that names nothing: it is a mistake of the caller's, not an unchanged file."""
    if not paths:
        return
    path_set = frozenset(paths)
    matching = {covering_path(name, path_set) for name in collector.names()}
    unknown = [
        path
        for path in paths
        if path not in matching and not _exists(collector, comparison, path)
    ]
    if unknown:
        names = ", ".join(map(display_name, unknown))[:500]
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"No file matches {names}.",
            repair="Give existing files or folders relative to the workspace; patterns are not expanded.",
        )


def _exists(collector: Collector, comparison: Comparison, path: bytes) -> bool:
    if collector.reader.lstat(path):
        return True
    commits = [sha for sha in (comparison.base, comparison.head) if sha]
    return any(collector.repo.lookup(sha, path) for sha in commits)


def _nothing(repo: Repo, scope: Scope, omitted: tuple[Omitted, ...]) -> CounselError:
    where = _under_paths(scope)
    if not omitted:
        place = "" if scope.title else f" of {repo.root}"
        return CounselError(
            Code.NOTHING_TO_REVIEW,
            f"{_begun(scope.name)}{place} holds no change{where}.",
        )
    reasons = ", ".join(sorted({item.reason.value for item in omitted}))
    repair = submodules_note(repo.root, omitted)
    if all(item.reason is Reason.SKIPPED for item in omitted):
        repair = f"{PROJECT_FILE} leaves them out of reviews; name one in `paths` to have it reviewed all the same."
    return CounselError(
        Code.NOTHING_TO_REVIEW,
        f"{_begun(scope.name)}{where} holds {len(omitted)} files, none of which can be shown ({reasons}).",
        repair=repair or None,
        details={"omitted": _listed(omitted)},
    )


def _nothing_new(
    scope: Scope,
    comparison: Comparison,
    omitted: tuple[Omitted, ...],
    whole: PastReview | None,
    files: int,
) -> CounselError:
    """The error where all that could be shown was seen: that many files. `whole` is a review of all of them."""
    where = f"{scope.name}{_under_paths(scope)}"
    noun = "file" if files == 1 else "files"
    message = f"Earlier reviews saw everything that {where} holds as it is now: {files} {noun}."
    # A caller that judges the earlier result must know which commit it would be for.
    details: JsonObject = {"files": files, "head_sha": comparison.head}
    repair = "No review on record judged all of it at once. To have a verdict on it, leave `since` out."
    if whole:
        details["job_id"] = whole.job
        repair = (
            f"codex_job_result has the result of the newest of them, job {whole.job}, "
            f"and `codex-counsel check {whole.job}` judges it. To review everything again, leave `since` out."
        )
    if omitted:
        message = f"{message} {len(omitted)} more files cannot be shown."
        details["omitted"] = _listed(omitted)
    return CounselError(
        Code.NOTHING_TO_REVIEW,
        message,
        repair=repair,
        details=details,
    )


def _begun(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def _under_paths(scope: Scope) -> str:
    if not scope.paths:
        return ""
    return f" under {', '.join(scope.paths)[:500]}"


def _listed(omitted: tuple[Omitted, ...]) -> list[JsonObject]:
    rows: list[JsonObject] = []
    for item in omitted[:MAX_LISTED]:
        row = {"path": item.path, "reason": item.reason.value, "bytes": item.bytes}
        rows.append(row)
    return rows


def submodules_note(root: Path, omitted: tuple[Omitted, ...]) -> str:
    """How to review the work in submodules, empty where none was left out."""
    paths = [item.path for item in omitted if item.reason is Reason.SUBMODULE]
    if not paths:
        return ""
    names = ", ".join(paths[:MAX_NAMED])
    return (
        f"What changed inside these {len(paths)} submodules is not part of this review: {names}. "
        f"Review each as a repository of its own, with {root / paths[0]} as workspace_root."
    )
