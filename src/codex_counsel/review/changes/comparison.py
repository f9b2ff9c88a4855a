"""What is compared with what: the scope of a request as object ids, and how git is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from codex_counsel.errors import Code, CounselError
from codex_counsel.git import refs

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.model import Scope


@dataclass(frozen=True)
class Comparison:
    """`base` and `head` are commits; None is the empty tree before the first one, or no commit at all.

    `state` says where the reviewed files stand, `chosen` by what name the base of a branch was found, and `whole` that
    nothing is compared.
    """

    state: Literal["commit", "index", "working_tree"]
    base: str | None = None
    head: str | None = None
    chosen: str | None = None
    whole: bool = False

    def arguments(self, repo: Repo) -> tuple[str, ...]:
        base = self.base or repo.empty_tree
        if self.state == "commit":
            return base, self.head or repo.empty_tree
        return ("--cached", base) if self.state == "index" else (base,)


def sides(repo: Repo, scope: Scope) -> Comparison:
    match scope.kind:
        case "working_tree":
            return Comparison("working_tree", base=repo.head())
        case "staged":
            return Comparison("index", base=repo.head())
        case "files":
            return Comparison("working_tree", base=repo.head(), whole=True)
        case "branch":
            return _branch(repo, scope.base)
        case "commit":
            return _commit(repo, repo.resolve(scope.commit or "HEAD"))
        case "range":
            return _range(repo, scope.range)


def _branch(repo: Repo, given: str | None) -> Comparison:
    head = repo.head()
    if head is None:
        raise refs.no_commits(repo)
    name, base = (given, repo.resolve(given)) if given else refs.default_base(repo)
    return Comparison("commit", refs.merge_base(repo, base, head), head, chosen=name)


def _commit(repo: Repo, sha: str) -> Comparison:
    """A merge is compared with its first parent: that is what it brought in."""
    code, parent, _ = repo.said("rev-parse", "--verify", "--quiet", f"{sha}^1^{{commit}}")
    if code and sha in _shallow(repo):
        raise CounselError(
            Code.UNKNOWN_REF,
            f"The parent of {sha[:12]} is not in this shallow clone.",
            repair="Fetch it (`git fetch --deepen=1`), or review another commit.",
        )
    return Comparison("commit", None if code else parent.decode().strip(), sha)


def _shallow(repo: Repo) -> str:
    file = repo.common_dir / "shallow"
    return file.read_text(encoding="ascii") if file.is_file() else ""


def _range(repo: Repo, text: str | None) -> Comparison:
    if not text:
        raise CounselError(Code.INVALID_ARGUMENTS, "Scope range needs a range of the form a..b or a...b.")
    left, dots, right = refs.split_range(text)
    base, head = repo.resolve(left), repo.resolve(right)
    return Comparison("commit", refs.merge_base(repo, base, head) if dots == "..." else base, head)
