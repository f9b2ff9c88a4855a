"""A pull request as something to review: its commits are fetched, and nothing of it is checked out or executed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from codex_counsel.contract.reading import read
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.git import refs
from codex_counsel.git.fetch import ObjectStore, RemoteRefs
from codex_counsel.hub import details as hub_details
from codex_counsel.hub.details import Details
from codex_counsel.hub.reference import HubKind, PullRequest, of_argument
from codex_counsel.prepare.prompt_parts import Material
from codex_counsel.review.changes.model import Scope
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.contract.request import ReviewChanges
    from codex_counsel.git.repo import Repo
    from codex_counsel.kind import Records
    from codex_counsel.prepare.context import Context
    from codex_counsel.system.json_values import JsonObject

FOLDER = "pulls"
"""The directory of the state directory with a bare repository for each repository of the user."""
BRANCHES = "refs/heads/"
MATERIAL = "the pull request, in the words of its author"
MAX_NAME = 1_000
"""Characters of the names in a pull request that another machine has sent."""
MAX_WARNINGS = 20
_BRANCH = re.compile(
    r"(?!-|/|.*(?:\.\.|//|@\{|/$|\.$|\.lock$))[^\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]{1,250}"
)


@dataclass(frozen=True)
class FetchedPullRequest:
    """`repo` is the user's repository with the objects of the pull request in sight.

    `base` is the full name of a branch of the hub, `base_sha` its tip, `merge_base` where
    the pull request left it.
    """

    pull: PullRequest
    repo: Repo
    base: str
    base_sha: str
    head_sha: str
    merge_base: str
    details: Details
    warnings: tuple[str, ...] = ()

    @property
    def branch(self) -> str:
        """By which the findings of its reviews belong together: two remotes have pull requests of the same number."""
        return f"{self.pull.namespace}/{self.pull.head_ref}"

    def scope(self, paths: tuple[str, ...]) -> Scope:
        """The commits as a range of ids: no name means something else later."""
        where = "/".join(filter(None, [self.pull.host, self.pull.project]))
        return Scope(
            "range",
            range=f"{self.merge_base}..{self.head_sha}",
            paths=paths,
            base_ref=f"refs/pull-request-bases/{where}/{self.base}",
            title=self.pull.title,
        )

    def material(self) -> list[Material]:
        """Title and description, where they are known."""
        text = self.details.as_text()
        if not text:
            return []
        return [Material(MATERIAL, text)]

    def reported_scope(self) -> JsonObject:
        """The part of `meta.scope` that only a pull request has."""
        return {
            "kind": "pull_request",
            "number": self.pull.number,
            "hub": self.pull.hub,
            "host": self.pull.host,
            "project": self.pull.project,
            "base": self.base.removeprefix(BRANCHES),
            "base_tip": self.base_sha,
        }


@dataclass(frozen=True)
class _SentPullRequest:
    """A pull request that travels, without the address of its remote, which may hold a password."""

    hub: HubKind
    host: str
    project: str
    number: int
    base: str
    base_sha: str
    head_sha: str
    merge_base: str
    details: Details = field(default_factory=Details)
    warnings: list[str] = field(default_factory=list)


def to_json(fetched: FetchedPullRequest) -> JsonObject:
    """What another machine must know of it, which has its commits already: see `from_json`."""
    pull = fetched.pull
    project = pull.project
    if not pull.host:
        # A directory of this machine.
        project = project.rstrip("/").rpartition("/")[2]
    sent = _SentPullRequest(
        hub=pull.hub,
        host=pull.host,
        project=project,
        number=pull.number,
        base=fetched.base,
        base_sha=fetched.base_sha,
        head_sha=fetched.head_sha,
        merge_base=fetched.merge_base,
        details=fetched.details,
        warnings=list(fetched.warnings),
    )
    return asdict(sent)


def from_json(sent: JsonObject, repo: Repo) -> FetchedPullRequest:
    """A pull request that was fetched elsewhere, and whose commits `repo` has itself.

    Its working tree is another state than the pull request, as on the machine that sent
    it. Raises `pack_invalid` for what no pull request can be.
    """
    try:
        pull: _SentPullRequest = read(_SentPullRequest, sent, "pull")
    except ValueError as error:
        raise _invalid(str(error)) from None
    ids = (pull.base_sha, pull.head_sha, pull.merge_base)
    if not all(refs.SHA.fullmatch(sha) for sha in ids):
        raise _invalid("an id of a commit is none")
    branch = pull.base.removeprefix(BRANCHES)
    if branch == pull.base or not _BRANCH.fullmatch(branch):
        raise _invalid("its base is not the full name of a branch")
    names = (pull.host, pull.project)
    if max(map(len, names)) > MAX_NAME or not 0 < pull.number < 10**10:
        raise _invalid("its name is none of a hub's")
    return FetchedPullRequest(
        pull=PullRequest(pull.hub, pull.host, pull.project, pull.number, remote=""),
        repo=repo.with_objects(repo.common_dir),
        base=pull.base,
        base_sha=pull.base_sha,
        head_sha=pull.head_sha,
        merge_base=pull.merge_base,
        details=hub_details.checked(pull.details),
        warnings=tuple(map(_shown, pull.warnings[:MAX_WARNINGS])),
    )


def _invalid(problem: str) -> CounselError:
    return CounselError(
        Code.PACK_INVALID, f"The pull request of the pack is damaged: {_shown(problem)}"
    )


def fetch(
    request: ReviewChanges,
    repo: Repo,
    context: Context,
    records: Records,
    job_id: str,
) -> FetchedPullRequest:
    """Fetch what the request names. The objects are kept for as long as the record of the job.

    Raises `invalid_arguments`, `unknown_ref`, `hub_failed` or `storage_failed`.
    """
    pull = of_argument(request.pr or "", repo)
    ledger = Ledger.of(context.settings.state, repo.common_dir)
    # Without links: a run may read it.
    state = context.settings.state.resolve()
    directory = state / FOLDER / ledger.directory.name
    store = ObjectStore(directory, repo, context.env)
    asked = [pull.head_ref]
    if not pull.certain:
        asked.append(_as_merge_request(pull).head_ref)
    found = store.remote_refs(pull.remote, asked)
    pull = _existing(pull, found)
    details, warnings = hub_details.of_pull_request(pull, context.env, repo.workspace)
    told = request.base or details.base or _base_of_job(pull, context.env)
    base = _base_name(told, found)
    if not told:
        warnings = (*warnings, _assumed(base))

    with store.changing():
        tips = _fetch(store, pull, base)
        store.tidy(lambda job: records.directory_of(job).is_dir())
        store.pin(job_id, tips)
        store.remove_unused()
    base_sha, head_sha, merge_base = tips
    return FetchedPullRequest(
        pull=pull,
        repo=repo.with_objects(store.path),
        base=base,
        base_sha=base_sha,
        head_sha=head_sha,
        merge_base=merge_base,
        details=details,
        warnings=warnings,
    )


def _as_merge_request(pull: PullRequest) -> PullRequest:
    return replace(pull, hub="gitlab", certain=True)


def _existing(pull: PullRequest, found: RemoteRefs) -> PullRequest:
    """The pull request, with the hub that its ref shows. Raises `unknown_ref`."""
    if pull.head_ref in found.shas:
        return replace(pull, certain=True)
    merge_request = _as_merge_request(pull)
    if not pull.certain and merge_request.head_ref in found.shas:
        return merge_request
    raise CounselError(
        Code.UNKNOWN_REF,
        f"There is no {_shown(pull.title)}: the remote has no ref {pull.head_ref}",
        repair="Name an existing pull request; one of another remote, such as upstream, by its URL.",
    )


def _base_name(told: str | None, found: RemoteRefs) -> str:
    """The full name of the branch to compare with, by default that of the hub. Raises `unknown_ref`."""
    name = told or found.default
    if name is None:
        raise _no_base("The hub names no default branch")
    name = name.removeprefix(BRANCHES)
    if not _BRANCH.fullmatch(name):
        raise CounselError(
            Code.UNKNOWN_REF,
            f"base: `{_shown(name)}` is not the name of a branch",
            repair="Name a branch of the hub, such as main.",
        )
    return BRANCHES + name


def _assumed(base: str) -> str:
    """The warning for a base that nobody told: against another one, more or less would be new."""
    name = _shown(base.removeprefix(BRANCHES))
    return (
        f"nothing tells here which branch the pull request is for; it is compared with {name}, "
        "the hub's default branch: base (on the command line --base) names another"
    )


def _base_of_job(pull: PullRequest, env: Mapping[str, str]) -> str | None:
    """The base that a CI job names, if it is one for this very pull request."""
    project = pull.project.casefold()
    is_github_job = env.get("GITHUB_REF", "").startswith(f"refs/pull/{pull.number}/")
    if is_github_job and env.get("GITHUB_REPOSITORY", "").casefold() == project:
        return env.get("GITHUB_BASE_REF")
    is_gitlab_job = env.get("CI_MERGE_REQUEST_IID") == str(pull.number)
    path = env.get("CI_MERGE_REQUEST_PROJECT_PATH", "")
    if is_gitlab_job and path.casefold() == project:
        return env.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME")
    return None


def _fetch(store: ObjectStore, pull: PullRequest, base: str) -> tuple[str, str, str]:
    """Raises as `ObjectStore.fetch`."""
    into = f"{pull.namespace}/{pull.hub}/{pull.number}"
    try:
        return store.fetch(pull.remote, base, pull.head_ref, into)
    except CounselError as error:
        if error.details.get("ref") != base:
            raise
        name = _shown(base.removeprefix(BRANCHES))
        raise _no_base(
            f"The hub has no branch {name}, the base of {_shown(pull.title)}"
        ) from None


def _no_base(problem: str) -> CounselError:
    return CounselError(
        Code.UNKNOWN_REF,
        problem,
        repair="Name a branch that it has: base (on the command line --base).",
    )


def _shown(text: str) -> str:
    return one_line(visible(text), 200)
