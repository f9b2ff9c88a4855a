"""Names of commits, resolved once to object ids; nothing later depends on a name.

The base of scope `branch`, when none is given, is the first that exists of: the default branch of the branch's own
remote (else `origin`, else the only remote) as `refs/remotes/<remote>/HEAD`, then its `main` or `master`, then the
upstream, then the local `main` or `master`. The upstream comes late: that of a pushed feature branch is its own copy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError

if TYPE_CHECKING:
    from codex_counsel.git.repo import Repo

SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
RANGE = re.compile(r"(?P<left>.*?)(?P<dots>\.{2,3})(?P<right>.*)", re.DOTALL)
UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udc7f\udd00-\udfff]")
DEFAULTS = ("main", "master")


def resolve(repo: Repo, ref: str) -> str:
    """The commit a caller's ref names. Whatever git's revision syntax allows is allowed, but not options."""
    if not ref.strip() or ref.startswith(("-", "^")) or UNFIT.search(ref):
        raise _unknown(ref, "is not the name of a commit")
    code, output, said = repo.said("rev-parse", "--verify", f"{ref}^{{commit}}")
    sha = output.decode(errors="replace").strip()
    if "is ambiguous" in said and ref != "HEAD":
        raise _unknown(ref, "is ambiguous", "Say which: `refs/heads/...`, `refs/tags/...`, or more digits of the id.")
    if code or not SHA.fullmatch(sha):
        raise _absent(repo, ref)
    return sha


def _absent(repo: Repo, ref: str) -> CounselError:
    if repo.head() is None and ref == "HEAD":
        return no_commits(repo)
    return _unknown(
        ref, "names no commit here", "Name an existing branch, tag or commit; fetch it first if it is remote."
    )


def _unknown(ref: str, why: str, repair: str | None = None) -> CounselError:
    shown = ref.encode("utf-8", "backslashreplace").decode()
    return CounselError(Code.UNKNOWN_REF, f"`{shown[:200]}` {why}.", repair=repair, details={"ref": shown[:200]})


def no_commits(repo: Repo) -> CounselError:
    return CounselError(
        Code.NO_COMMITS,
        f"The repository at {repo.root} has no commit yet.",
        repair="Commit once, or review with scope working_tree, staged or files.",
    )


def split_range(text: str) -> tuple[str, str, str]:
    """The two ends of `a..b` or `a...b` and the dots between; an end left out is HEAD."""
    match = RANGE.fullmatch(text)
    if match is None or not (match["left"] or match["right"]):
        raise CounselError(Code.INVALID_ARGUMENTS, f"range `{text[:200]}` is not of the form a..b or a...b.")
    return match["left"] or "HEAD", match["dots"], match["right"] or "HEAD"


def merge_base(repo: Repo, ours: str, theirs: str) -> str:
    """The commit from which both grew; `unknown_ref` for histories that never met."""
    code, output, _ = repo.said("merge-base", ours, theirs)
    if code:
        raise CounselError(
            Code.UNKNOWN_REF,
            f"{ours[:12]} and {theirs[:12]} have no common ancestor in this clone.",
            repair="Use range a..b, or fetch more history (`git fetch --unshallow`) if the clone is shallow.",
        )
    return output.decode().split()[0]


def default_base(repo: Repo) -> tuple[str, str]:
    """Name and commit that the branch is compared with when the caller names none."""
    branch = _current_branch(repo)
    wanted = [name for name in _candidates(repo, branch) if name != f"refs/heads/{branch}"]
    listing = repo.git("for-each-ref", "--format=%(objectname) %(refname)", *wanted).decode(errors="replace")
    found = {name: sha for sha, _, name in (line.partition(" ") for line in listing.splitlines())}
    for name in wanted:
        if name in found:
            return name, found[name]
    raise CounselError(
        Code.UNKNOWN_REF,
        "No branch to compare with was found: neither a remote's default branch, nor an upstream, main or master.",
        repair="Pass base: the branch or commit this work began from.",
    )


def _current_branch(repo: Repo) -> str:
    code, output, _ = repo.said("symbolic-ref", "--quiet", "--short", "HEAD")
    return "" if code else output.decode(errors="surrogateescape").strip()


def _candidates(repo: Repo, branch: str) -> list[str]:
    remote = _remote(repo, branch)
    upstream = repo.config.values.get(f"branch.{branch}.merge", "").removeprefix("refs/heads/")
    names = [f"refs/remotes/{remote}/{name}" for name in ("HEAD", *DEFAULTS, upstream) if remote and name]
    return [*names, *(f"refs/heads/{name}" for name in DEFAULTS)]


def _remote(repo: Repo, branch: str) -> str | None:
    values = repo.config.values
    remotes = [
        key[len("remote.") : -len(".url")] for key in values if key.startswith("remote.") and key.endswith(".url")
    ]
    own = values.get(f"branch.{branch}.remote")
    if own in remotes:
        return own
    if "origin" in remotes:
        return "origin"
    return remotes[0] if len(remotes) == 1 else None
