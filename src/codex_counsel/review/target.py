"""What a review of changes is about: the commits or files, and the revision whose rules and policy are in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.contract.vocabulary import DEFAULT_SCOPE
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare.boundary import Access
from codex_counsel.prepare.workspace import open_repository
from codex_counsel.review import policy, pull_request
from codex_counsel.review.changes.comparison import Comparison, comparison_of
from codex_counsel.review.changes.model import Scope

if TYPE_CHECKING:
    from codex_counsel.contract.request import ReviewChanges
    from codex_counsel.git.repo import Repo
    from codex_counsel.kind import Records
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.prompt_parts import Material
    from codex_counsel.prepare.workspace import ResolvedWorkspace
    from codex_counsel.review.policy import ReviewPolicy
    from codex_counsel.review.pull_request import FetchedPullRequest


@dataclass(frozen=True)
class Target:
    """`request` has the scope that was chosen, `repo` sees the commits of `comparison`.

    `accepted` is the commit of what the team has accepted, None before the first one; `team`
    is the project file of it.
    """

    request: ReviewChanges
    repo: Repo
    scope: Scope
    comparison: Comparison
    accepted: str | None
    team: ReviewPolicy
    pull: FetchedPullRequest | None

    @property
    def material(self) -> list[Material]:
        """What its author says of it."""
        if self.pull is None:
            return []
        return self.pull.material()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be learned of it."""
        if self.pull is None:
            return ()
        return self.pull.warnings

    def access(self, workspace: ResolvedWorkspace) -> Access:
        """A run that reviews what others propose needs no installed tools: nothing of that is to be executed."""
        if self.pull is None:
            return Access.to_repository(workspace, "toolchains")
        return Access.to_repository(workspace, objects=self.repo.objects)


def choose(
    request: ReviewChanges,
    workspace: ResolvedWorkspace,
    context: Context,
    records: Records,
    job_id: str,
) -> Target:
    """Resolve what the request names; a pull request is fetched, unless it came with the request.

    Raises `invalid_arguments`, `workspace_invalid`, `not_a_git_repo`, `unknown_ref`,
    `no_commits` or `project_file_invalid`, for a pull request `hub_failed` or
    `storage_failed` too.
    """
    repo = open_repository(workspace, context)
    chosen = policy.choose_scope(request, repo, context.settings)
    request = chosen.request
    check_scope(request)
    pull = None
    if request.pr:
        if context.pull is None:
            pull = pull_request.fetch(request, repo, context, records, job_id)
        else:
            pull = pull_request.from_json(context.pull, repo)
        repo = pull.repo
        scope = pull.scope(request.paths)
    else:
        scope = Scope(
            request.scope or DEFAULT_SCOPE,
            request.base,
            request.commit,
            request.range,
            request.paths,
        )
    comparison = comparison_of(repo, scope)
    # What the team has accepted by now, not when the author of a change began.
    accepted = pull.base_sha if pull else comparison.accepted
    team = policy.of_changes(repo, accepted, chosen, context.settings)
    return Target(request, repo, scope, comparison, accepted, team, pull)


def check_scope(request: ReviewChanges) -> None:
    """Refuse an argument of another scope: the caller did not mean it to be ignored."""
    if request.pr:
        _check_pull_request(request)
        return
    owners = (
        ("base", "branch", request.base),
        ("commit", "commit", request.commit),
        ("range", "range", request.range),
    )
    for argument, scope, value in owners:
        if value and request.scope != scope:
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"{argument}: belongs to scope {scope}; the scope is {request.scope}",
            )
    if request.since == "last" and request.scope not in ("branch", "range"):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"since: the value last belongs to the scopes branch and range; the scope is {request.scope}",
        )


def _check_pull_request(request: ReviewChanges) -> None:
    """Raise `invalid_arguments` for what does not go with `pr`."""
    others = [
        name for name in ("commit", "range") if getattr(request, name) is not None
    ]
    if request.scope is not None:
        others.append("scope")
    if others:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"{others[0]}: does not go with pr, which is a scope of its own",
        )
    if request.prove != "none":
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "prove: does not go with pr, because a proof runs code of the pull request",
            repair="Review without prove; prove findings on code that you have checked out and trust.",
        )
