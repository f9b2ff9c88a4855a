"""Which findings on record belong to what is reviewed: those of its branch, and of the commits that it contains.

Where HEAD is detached and nothing names the branch, a finding of another such review
belongs to it too, unless its commit is a later one: that an old commit lacks the code of a
later finding does not mean that somebody mended it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.errors import CounselError
from codex_counsel.git import refs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codex_counsel.findings.entry import Entry
    from codex_counsel.git.repo import Repo

CI_REFS = (
    "GITHUB_REF",
    "CI_MERGE_REQUEST_REF_PATH",
    "CI_COMMIT_BRANCH",
    "BUILD_SOURCEBRANCH",
)
"""Variables in which GitHub, GitLab (twice) and Azure name what they checked out: there, HEAD is detached."""
MAX_NAME = 250
MAX_LATER = 20
"""Commits of detached reviews that are asked whether they are later ones; of more it is assumed."""
_LOCAL = "refs/heads/"
_NAME = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\]+")


def branch_name(repo: Repo) -> str | None:
    """The branch that is checked out or, where HEAD is detached, the ref that a CI service names."""
    name = refs.current_branch(repo)
    if name:
        return name[:MAX_NAME]
    for variable in CI_REFS:
        ref = repo.env.get(variable, "")
        is_tag = ref.startswith("refs/tags/")
        if _NAME.fullmatch(ref) and len(ref) <= MAX_NAME and not is_tag:
            return ref.removeprefix(_LOCAL)
    return None


@dataclass(frozen=True)
class Lineage:
    """What is reviewed: a branch, None where it has no name, and a commit, None before the first.

    `contained` are the commits of findings that the reviewed one contains, `later` those
    that contain it.
    """

    branch: str | None
    contained: frozenset[str]
    later: frozenset[str]

    @classmethod
    def of(
        cls, repo: Repo, branch: str | None, head: str | None, entries: Iterable[Entry]
    ) -> Lineage:
        """Compared with the commits at which these findings were seen last."""
        heads = set()
        for entry in entries:
            sha = entry.last.head or ""
            if refs.SHA.fullmatch(sha):
                heads.add(sha)
        if head is None or not heads:
            return cls(branch, frozenset(), frozenset())
        try:
            known = _known(repo, heads)
            outside = _outside(repo, known, head)
            later = _later(repo, known & outside, head)
        except CounselError:
            # Nothing is known of the commits, and only the name of the branch counts.
            return cls(branch, frozenset(), frozenset(heads))
        return cls(branch, frozenset(known - outside), frozenset(later))

    def has(self, entry: Entry) -> bool:
        """Whether the finding belongs to what is reviewed."""
        head = entry.last.head
        if self.branch in (entry.branch or "", *entry.other_branches):
            return True
        if head is None or head in self.contained:
            return True
        is_nameless = entry.branch is None and self.branch is None
        return is_nameless and head not in self.later


def _known(repo: Repo, heads: set[str]) -> set[str]:
    """Those that this clone has."""
    asked = "".join(f"{head}\n" for head in sorted(heads))
    output = repo.git("cat-file", "--batch-check", stdin=asked.encode("ascii"))
    known = set()
    for line in output.decode("ascii", "replace").splitlines():
        name, kind, *_ = [*line.split(), "", ""]
        if kind == "commit":
            known.add(name)
    return known


def _outside(repo: Repo, heads: set[str], head: str) -> set[str]:
    """Those that the commit does not contain."""
    asked = "".join(f"{name}\n" for name in sorted(heads))
    asked += f"^{head}\n"
    outside: set[str] = set()
    with repo.stream("rev-list", "--stdin", stdin=asked.encode("ascii")) as chunks:
        rest = b""
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            outside.update(line.decode("ascii", "replace") for line in lines)
            outside &= heads
    return outside


def _later(repo: Repo, heads: set[str], head: str) -> set[str]:
    """Those that contain the commit."""
    later = set()
    for number, name in enumerate(sorted(heads)):
        code = 0
        if number < MAX_LATER:
            code, _, _ = repo.try_git("merge-base", "--is-ancestor", head, name)
        if code == 0:
            later.add(name)
    return later
