"""What is compared with what: the scope of a request as object ids, and how git is asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from codex_counsel.errors import Code, CounselError
from codex_counsel.git import refs
from codex_counsel.system.json_values import Json, JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codex_counsel.git.repo import Repo
    from codex_counsel.review.changes.model import Scope


@dataclass(frozen=True)
class Comparison:
    """`base` and `head` are commits. No base means the empty tree before the first commit, no head that none is meant.

    `state` says where the reviewed files are, `base_name` by what name the base of a
    branch was found, and `whole_files` that nothing is compared. `tip` is the newest commit
    of that base, where `base` is older; it is not kept in records.
    """

    state: Literal["commit", "index", "working_tree"]
    base: str | None = None
    head: str | None = None
    base_name: str | None = None
    whole_files: bool = False
    tip: str | None = field(default=None, compare=False)

    @property
    def accepted(self) -> str | None:
        """The commit of what the team has accepted by now: the author of a branch chooses where it began."""
        return self.tip or self.base

    def arguments(self, repo: Repo) -> tuple[str, ...]:
        """What `git diff` is to compare."""
        base = self.base or repo.empty_tree
        if self.state == "commit":
            return base, self.head or repo.empty_tree
        if self.state == "index":
            return "--cached", base
        return (base,)

    def to_json(self) -> JsonObject:
        """The keys of `spec.json`."""
        return {
            "state": self.state,
            "base": self.base,
            "head": self.head,
            "chosen": self.base_name,
            "whole": self.whole_files,
        }

    @classmethod
    def from_json(cls, frame: Mapping[str, Json]) -> Comparison:
        """The reverse of `to_json`."""
        return cls(
            state=frame["state"],
            base=frame["base"],
            head=frame["head"],
            base_name=frame["chosen"],
            whole_files=frame["whole"],
        )


def comparison_of(repo: Repo, scope: Scope) -> Comparison:
    """Resolve every name of the scope. Raises `unknown_ref`, `no_commits` or `invalid_arguments`."""
    match scope.kind:
        case "working_tree":
            return Comparison("working_tree", base=repo.head())
        case "staged":
            return Comparison("index", base=repo.head())
        case "files":
            return Comparison("working_tree", base=repo.head(), whole_files=True)
        case "branch":
            return _branch(repo, scope.base)
        case "commit":
            sha = refs.resolve(repo, scope.commit or "HEAD")
            return _commit(repo, sha)
        case "range":
            return _range(repo, scope.range)


def _branch(repo: Repo, base_name: str | None) -> Comparison:
    head = repo.head()
    if head is None:
        raise refs.no_commits(repo)
    if base_name:
        base = refs.resolve(repo, base_name)
    else:
        base_name, base = refs.default_base(repo)
    return Comparison(
        "commit",
        refs.merge_base(repo, base, head),
        head,
        base_name=base_name,
        tip=base,
    )


def _commit(repo: Repo, sha: str) -> Comparison:
    """A merge is compared with its first parent: that is what it brought in."""
    code, output, _ = repo.try_git(
        "rev-parse", "--verify", "--quiet", f"{sha}^1^{{commit}}"
    )
    if code == 0:
        return Comparison("commit", output.decode().strip(), sha)

    # A commit without a parent is the first one, unless the clone is cut off there.
    shallow = repo.common_dir / "shallow"
    if shallow.is_file() and sha in shallow.read_text(encoding="ascii"):
        raise CounselError(
            Code.UNKNOWN_REF,
            f"The parent of {sha[:12]} is not in this shallow clone.",
            repair="Fetch it (`git fetch --deepen=1`), or review another commit.",
        )
    return Comparison("commit", None, sha)


def _range(repo: Repo, text: str | None) -> Comparison:
    if not text:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "Scope range needs a range of the form a..b or a...b.",
        )
    left, dots, right = refs.split_range(text)
    base = refs.resolve(repo, left)
    head = refs.resolve(repo, right)
    if dots == "...":
        base = refs.merge_base(repo, base, head)
    return Comparison("commit", base, head)
