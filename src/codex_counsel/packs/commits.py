"""Which commits a review needs beside that at HEAD, cut off below what it looks at.

A review of a range looks at both of its ends, and lists the commits that one has and the
other has not. So what both have in common is cut off. Where commits were merged from below
that, the history that is left may tell another story than the whole one: then all of it
travels.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.errors import CounselError
from codex_counsel.git import refs
from codex_counsel.git.repo import Repo
from codex_counsel.review.changes.history import MAX_COMMITS


@dataclass(frozen=True)
class Comparison:
    """Commits of a review: `head` is compared with `base`, None for none.

    `tip` is the newest commit of the base where `base` is only where `head` left it.
    """

    head: str
    base: str | None
    tip: str | None = None

    @property
    def ends(self) -> list[str]:
        """Where the histories begin that the review looks at."""
        commits = (self.tip, self.base, self.head)
        return list(dict.fromkeys(commit for commit in commits if commit))


@dataclass(frozen=True)
class Commits:
    """`ids` are needed, `shallow` are those of them whose parents are not."""

    ids: tuple[str, ...]
    shallow: tuple[str, ...]


def needed(repo: Repo, comparison: Comparison, scratch: Path) -> Commits:
    """The commits that a review of this comparison needs. Raises GitError, `timeout` and OSError."""
    common = _common(repo, comparison)
    inner, boundary = _between(repo, comparison, common)
    ids = dict.fromkeys([*inner, *boundary, *common])
    shallow = dict.fromkeys([*boundary, *common])
    for commit in _cut_off_here(repo):
        if commit in ids:
            shallow[commit] = None
    commits = Commits(tuple(ids), tuple(shallow))
    # Below a single common ancestor, nothing else can be missing.
    is_simple = len(common) == 1 and set(boundary) <= set(common)
    if is_simple or _is_told_the_same(repo, comparison, commits, scratch):
        return commits
    whole = _listed(repo, *comparison.ends)
    cut_off = _cut_off_here(repo).intersection(whole)
    return Commits(tuple(whole), tuple(sorted(cut_off)))


def _common(repo: Repo, comparison: Comparison) -> list[str]:
    """The best common ancestors of both sides; none where the histories have none."""
    other = comparison.tip or comparison.base
    if other is None:
        return []
    code, output, _ = repo.try_git("merge-base", "--all", other, comparison.head)
    if code:
        return []
    return output.decode().split()


def _between(
    repo: Repo, comparison: Comparison, common: list[str]
) -> tuple[list[str], list[str]]:
    """The commits above the common ones, and the parents of these that are not among them."""
    if comparison.base is None:
        return [comparison.head], []
    below = [f"^{commit}" for commit in common]
    inner, boundary = [], []
    for line in _listed(repo, "--boundary", *comparison.ends, *below):
        if line.startswith("-"):
            boundary.append(line[1:])
        else:
            inner.append(line)
    return inner, boundary


def _listed(repo: Repo, *arguments: str) -> list[str]:
    return repo.git("rev-list", *arguments, "--").decode().split()


def _cut_off_here(repo: Repo) -> set[str]:
    """The commits whose parents this clone has not."""
    file = Path(repo.env.get("GIT_SHALLOW_FILE") or repo.common_dir / "shallow")
    try:
        lines = file.read_text("ascii", "replace").split()
    except FileNotFoundError:
        return set()
    return {line for line in lines if refs.SHA.fullmatch(line)}


def _is_told_the_same(
    repo: Repo, comparison: Comparison, commits: Commits, scratch: Path
) -> bool:
    """Whether a review sees the same commits and the same base where only these are there."""
    descriptor, name = tempfile.mkstemp(prefix="shallow-", dir=scratch)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.writelines(f"{commit}\n" for commit in commits.shallow)
    variables = {"GIT_SHALLOW_FILE": name}
    try:
        return _seen(repo, comparison, variables) == _seen(repo, comparison, {})
    except CounselError:
        # A common ancestor that is missing now.
        return False
    finally:
        Path(name).unlink()


def _seen(repo: Repo, comparison: Comparison, variables: dict[str, str]) -> list[bytes]:
    """What a review asks git about the history."""
    arguments = [f"--max-count={MAX_COMMITS}", comparison.head]
    if comparison.base:
        arguments.append(f"^{comparison.base}")
    seen = [repo.git("rev-list", *arguments, "--", env=variables)]
    if comparison.tip:
        ends = (comparison.tip, comparison.head)
        seen.append(repo.git("merge-base", *ends, env=variables))
    return seen
