"""Names of commits, resolved once to object ids. Nothing later depends on a name.

The base of scope `branch`, when none is given, is the first that exists of: the default
branch of the branch's own remote (else `origin`, else the only remote) as
`refs/remotes/<remote>/HEAD`, then its `main` or `master`, then the upstream, then the
local `main` or `master`. The upstream comes late: that of a pushed feature branch is
its own copy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo

SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
RANGE = re.compile(r"(?P<left>.*?)(?P<dots>\.{2,3})(?P<right>.*)", re.DOTALL)
NOT_IN_REFS = re.compile("[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")
DEFAULT_BRANCHES = ("main", "master")


def resolve(repo: Repo, ref: str) -> str:
    """The commit that a caller's ref names. All of git's revision syntax is allowed, but no options.

    Raises `unknown_ref`, or `no_commits` for HEAD before the first commit.
    """
    if not ref.strip() or ref.startswith(("-", "^")) or NOT_IN_REFS.search(ref):
        raise _unknown(ref, "is not the name of a commit")
    code, output, stderr = repo.try_git("rev-parse", "--verify", f"{ref}^{{commit}}")
    sha = output.decode(errors="replace").strip()
    # Git warns and takes one of them: a reviewer must not be shown the wrong one.
    if "is ambiguous" in stderr and ref != "HEAD":
        raise _unknown(
            ref,
            "is ambiguous",
            "Say which: `refs/heads/...`, `refs/tags/...`, or more digits of the id.",
        )
    if code == 0 and SHA.fullmatch(sha):
        return sha
    if ref == "HEAD" and repo.head() is None:
        raise no_commits(repo)
    raise _unknown(
        ref,
        "names no commit here",
        "Name an existing branch, tag or commit; fetch it first if it is remote.",
    )


def _unknown(ref: str, why: str, repair: str | None = None) -> CounselError:
    name = ref.encode("utf-8", "backslashreplace").decode()[:200]
    return CounselError(
        Code.UNKNOWN_REF,
        f"`{name}` {why}.",
        repair=repair,
        details={"ref": name},
    )


def no_commits(repo: Repo) -> CounselError:
    """The error `no_commits` for this repository."""
    return CounselError(
        Code.NO_COMMITS,
        f"The repository at {repo.root} has no commit yet.",
        repair="Commit once, or review with scope working_tree, staged or files.",
    )


def split_range(text: str) -> tuple[str, str, str]:
    """The two ends of `a..b` or `a...b` and the dots between them: (left, dots, right). A missing end is HEAD."""
    match = RANGE.fullmatch(text)
    if match is None or not (match["left"] or match["right"]):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"range `{text[:200]}` is not of the form a..b or a...b.",
        )
    return match["left"] or "HEAD", match["dots"], match["right"] or "HEAD"


def merge_base(repo: Repo, ours: str, theirs: str) -> str:
    """The best common ancestor of two commits. Raises `unknown_ref` if they have none in this clone."""
    code, output, _ = repo.try_git("merge-base", ours, theirs)
    if code:
        raise CounselError(
            Code.UNKNOWN_REF,
            f"{ours[:12]} and {theirs[:12]} have no common ancestor in this clone.",
            repair="Use range a..b, or fetch more history (`git fetch --unshallow`) if the clone is shallow.",
        )
    return output.decode().split()[0]


def default_base(repo: Repo) -> tuple[str, str]:
    """Full name and commit that the branch is compared with when the caller names no base. Raises `unknown_ref`."""
    branch = current_branch(repo)
    candidates = [
        name for name in _candidates(repo, branch) if name != f"refs/heads/{branch}"
    ]
    listing = repo.git(
        "for-each-ref", "--format=%(objectname) %(refname)", *candidates
    ).decode(errors="replace")
    existing: dict[str, str] = {}
    for line in listing.splitlines():
        sha, _, name = line.partition(" ")
        existing[name] = sha
    for name in candidates:
        if name in existing:
            return name, existing[name]
    raise CounselError(
        Code.UNKNOWN_REF,
        "No branch to compare with was found: neither a remote's default branch, nor an upstream, main or master.",
        repair="Pass base: the branch or commit this work began from.",
    )


def branch_to_compare_with(repo: Repo, name: str) -> str | None:
    """The full name of this branch of the remote, else of this clone; None where there is neither.

    The remote is that of `default_base`. The branch checked out is none to compare with.
    """
    branch = current_branch(repo)
    remote = remote_of(repo, branch)
    candidates = []
    if remote:
        candidates.append(f"refs/remotes/{remote}/{name}")
    if name != branch:
        candidates.append(f"refs/heads/{name}")
    for candidate in candidates:
        code, _, _ = repo.try_git("show-ref", "--verify", "--quiet", candidate)
        if code == 0:
            return candidate
    return None


def current_branch(repo: Repo) -> str:
    """The name of the branch checked out, or an empty text for a detached HEAD."""
    code, output, _ = repo.try_git("symbolic-ref", "--quiet", "--short", "HEAD")
    if code:
        return ""
    return output.decode(errors="surrogateescape").strip()


def _candidates(repo: Repo, branch: str) -> list[str]:
    """Full names of the branches to compare with, the first choice first; not all of them need exist."""
    candidates: list[str] = []
    remote = remote_of(repo, branch)
    if remote:
        upstream = repo.config.values.get(f"branch.{branch}.merge", "").removeprefix(
            "refs/heads/"
        )
        for name in ("HEAD", *DEFAULT_BRANCHES, upstream):
            if name:
                candidates.append(f"refs/remotes/{remote}/{name}")
    candidates.extend(f"refs/heads/{name}" for name in DEFAULT_BRANCHES)
    return candidates


def remote_of(repo: Repo, branch: str) -> str | None:
    """The remote that the branch is compared with: see the module."""
    values = repo.config.values
    remotes: list[str] = []
    for key in values:
        if key.startswith("remote.") and key.endswith(".url"):
            remotes.append(key.removeprefix("remote.").removesuffix(".url"))
    own = values.get(f"branch.{branch}.remote")
    if own in remotes:
        return own
    if "origin" in remotes:
        return "origin"
    if len(remotes) == 1:
        return remotes[0]
    return None
