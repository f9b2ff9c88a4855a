"""Git bundles of single commits: each with all its files, and without its history.

Git's own `bundle create` sends the history of a commit, and what it writes depends on how
the repository happens to be packed. So the few bytes before the objects are written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from codex_counsel.git.repo import GitError, Repo

SAME_BYTES = (
    "--threads=1",
    "--window=0",
    "--no-reuse-delta",
    "--no-reuse-object",
    # A higher one takes three times as long for a tenth less.
    "--compression=1",
)
"""Options under which the same objects make the same bytes, however the repository has them packed."""


FETCH_ALL = (
    "This clone lacks objects, and none are fetched here: fetch all of them once with "
    "`git fetch --refetch --no-filter`, then pack again."
)


def write(
    repo: Repo,
    target: Path,
    refs: Mapping[str, str],
    commits: Iterable[str],
    *,
    without: Iterable[str] = (),
    same_bytes: bool = False,
) -> None:
    """Write a bundle of these commits, their folders and files. Nothing is written in the repository.

    `refs` are full names with the commits that they name there. Objects of the trees or
    commits `without` are left out. Beside the target a file is written, for git. Raises
    GitError where an object is missing, as in a partial clone, and OSError.
    """
    # Without parents git goes on to no other commit, whatever history the clone has.
    shallow = target.with_name(f"{target.name}.shallow")
    commits = list(dict.fromkeys(commits))
    shallow.write_text("".join(f"{sha}\n" for sha in commits), "ascii")
    revisions = [*commits, *(f"^{sha}" for sha in without)]
    options = SAME_BYTES if same_bytes else ()
    try:
        with (
            target.open("wb") as file,
            repo.stream(
                "pack-objects",
                "--revs",
                "--stdout",
                "--quiet",
                "--delta-base-offset",
                *options,
                stdin="".join(f"{line}\n" for line in revisions).encode(),
                env={"GIT_SHALLOW_FILE": str(shallow)},
            ) as chunks,
        ):
            file.write(_header(repo, refs))
            file.writelines(chunks)
    except GitError as error:
        if _is_partial(repo):
            error.repair = FETCH_ALL
        raise
    shallow.unlink()


def _is_partial(repo: Repo) -> bool:
    """Whether this clone fetches objects when it needs them."""
    return any(
        key.startswith("remote.") and key.endswith(".promisor")
        for key in repo.config.values
    )


def _header(repo: Repo, refs: Mapping[str, str]) -> bytes:
    lines = ["# v2 git bundle"]
    if len(repo.empty_tree) == 64:
        lines = ["# v3 git bundle", "@object-format=sha256"]
    lines += [f"{sha} {name}" for name, sha in refs.items()]
    return "".join(f"{line}\n" for line in [*lines, ""]).encode("ascii")
