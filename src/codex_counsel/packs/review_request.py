"""A review of changes as it travels: its names resolved to commits, and the commits that go along.

There, a name would mean something else. What the sender can tell to be no review at all is
refused before a pack is made.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from codex_counsel.contract.request import ReviewChanges
from codex_counsel.errors import Code, CounselError
from codex_counsel.git import refs
from codex_counsel.git.names import display_name, from_root
from codex_counsel.git.repo import Repo
from codex_counsel.jobs.store import Store
from codex_counsel.packs import bundle_writer, commits
from codex_counsel.packs.commits import Comparison
from codex_counsel.packs.foundation import MadeFoundation
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.workspace import ResolvedWorkspace, open_repository
from codex_counsel.review import pull_request
from codex_counsel.review import target as targets
from codex_counsel.review.target import Target
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean, one_line


@dataclass(frozen=True)
class FurtherCommits:
    """Commits that the foundation has not: a bundle of `count`, of which those of `shallow` lack their parents."""

    bundle: Path | None = None
    count: int = 0
    shallow: tuple[str, ...] = ()


NOTHING_FURTHER = FurtherCommits()


@dataclass(frozen=True)
class TravellingReview:
    """`request` has ids of commits in place of names. `pull` is as in `manifest.Pack`."""

    request: ReviewChanges
    pull: JsonObject | None = None
    further: FurtherCommits = NOTHING_FURTHER


@dataclass(frozen=True)
class ReviewPacking:
    """Where the review is of. `is_new`: the foundation is what is in the repository now."""

    context: Context
    workspace: ResolvedWorkspace
    foundation: MadeFoundation
    is_new: bool
    scratch: Path

    def resolve(self, request: ReviewChanges, pack_id: str) -> TravellingReview:
        """The review with ids, and what it needs. A pull request is fetched.

        Raises `nothing_to_review`, `invalid_arguments`, and as `target.choose` and
        `commits.needed`.
        """
        request = replace(
            request, paths=tuple(self._relative(path) for path in request.paths)
        )
        if request.scope in ("working_tree", "staged", "files"):
            self._check_work(request)
            return TravellingReview(request)
        if request.scope == "commit" and request.commit is None:
            request = replace(request, commit=self.foundation.about.head)
        store = Store(self.context.settings.state)
        target = targets.choose(request, self.workspace, self.context, store, pack_id)
        request = target.request
        if target.comparison.state != "commit":
            self._check_work(request)
            return TravellingReview(request)
        comparison = self._comparison(target)
        _check_change(target.repo, comparison, request)
        further = self._further_commits(target.repo, comparison)
        if target.pull is None:
            return TravellingReview(_with_ids(request, comparison), further=further)
        # The id of the pull request is in it; an address may hold a password.
        request = replace(request, pr=str(target.pull.pull.number), base=None)
        pull = pull_request.to_json(target.pull)
        return TravellingReview(request, pull, further)

    def _relative(self, path: str) -> str:
        """A path relative to the workspace, as it means the same elsewhere. Raises `invalid_arguments`."""
        root, top = self.workspace.root, self.workspace.outermost
        whole = Path(os.path.normpath(root / path))
        if Path(path).is_absolute() and not whole.is_relative_to(top):
            # The caller may know the repository by a link; a link at the end is meant itself.
            whole = Path(os.path.realpath(whole.parent), whole.name)
        if not whole.is_relative_to(top):
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"The path {one_line(clean(path))} leads out of the repository.",
                repair="Give paths relative to the workspace, inside its repository.",
            )
        if Path(path).is_absolute():
            return os.path.relpath(whole, root)
        return path

    def _check_paths(self, paths: tuple[str, ...]) -> None:
        """Raise `invalid_arguments` for a path that names neither a file on disk nor one that was deleted."""
        root = self.workspace.root
        missing = tuple(path for path in paths if not os.path.lexists(root / path))
        if not missing:
            return
        repo = open_repository(self.workspace, self.context)
        with_commit = f"--with-tree={self.foundation.about.head}"
        for path in from_root(repo, missing):
            if not repo.git("ls-files", "-z", with_commit, "--", path):
                raise CounselError(
                    Code.INVALID_ARGUMENTS,
                    f"No file matches {display_name(path)}.",
                    repair="Give existing files or folders relative to the workspace; patterns are not expanded.",
                )

    def _check_work(self, request: ReviewChanges) -> None:
        """Raise for what is surely no path, and `nothing_to_review` where there surely is no uncommitted work."""
        made = self.foundation
        if self.is_new:
            self._check_paths(request.paths)
        has_any = made.has_staged or (made.has_work and request.scope == "working_tree")
        if has_any or request.scope == "files":
            return
        where = "The index holds"
        if request.scope == "working_tree":
            where = "The working tree holds"
        message = f"{where} no change that travels."
        omitted = made.about.omitted
        if omitted:
            message += f" Not all files travel: {omitted[0][0]} ({omitted[0][1]}) does not, for one."
        raise CounselError(Code.NOTHING_TO_REVIEW, message)

    def _comparison(self, target: Target) -> Comparison:
        """The commits that are compared. That at HEAD is the foundation's, also where the user has gone on since."""
        found = target.comparison
        # Only a commit that is compared has the state "commit".
        head = found.head or self.foundation.about.head
        if target.pull:
            return Comparison(head, target.pull.merge_base, tip=target.pull.base_sha)
        if found.tip is None or head == self.foundation.about.head:
            return Comparison(head, found.base, tip=found.tip)
        head = self.foundation.about.head
        base = refs.merge_base(target.repo, found.tip, head)
        return Comparison(head, base, tip=found.tip)

    def _further_commits(self, repo: Repo, comparison: Comparison) -> FurtherCommits:
        """Put the commits that the foundation has not into a bundle."""
        found = commits.needed(repo, comparison, self.scratch)
        head = self.foundation.about.head
        ids = [commit for commit in found.ids if commit != head]
        if not ids:
            return NOTHING_FURTHER
        path = self.scratch / f"{secrets.token_hex(8)}.bundle"
        ends = [commit for commit in comparison.ends if commit != head]
        names = {f"refs/heads/more-{n}": commit for n, commit in enumerate(ends)}
        bundle_writer.write(repo, path, names, ids, without=[f"{head}^{{tree}}"])
        return FurtherCommits(path, len(ids), found.shallow)


def _check_change(repo: Repo, comparison: Comparison, request: ReviewChanges) -> None:
    """Raise `nothing_to_review` where both commits have the same files."""
    base = comparison.base or repo.empty_tree
    paths = from_root(repo, request.paths)
    code, _, _ = repo.try_git(
        "diff-tree", "--quiet", "-r", base, comparison.head, "--", *paths
    )
    if code == 0:
        between = f"{base[:12]} and {comparison.head[:12]}"
        raise CounselError(
            Code.NOTHING_TO_REVIEW,
            f"There is no change between {between} to be reviewed.",
        )


def _with_ids(request: ReviewChanges, comparison: Comparison) -> ReviewChanges:
    """The request with commits in place of names."""
    if request.scope == "branch":
        return replace(request, base=comparison.tip)
    if request.scope == "commit":
        return replace(request, commit=comparison.head)
    return replace(request, range=f"{comparison.base}..{comparison.head}")
