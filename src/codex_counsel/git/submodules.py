"""Submodules: which there are, which can be opened, and what is in them that no commit of the repository around has.

A submodule is opened like any repository: where its `.git` leads elsewhere, it is not,
and nothing that it configures is run.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codex_counsel.errors import CounselError
from codex_counsel.git.names import covering_path
from codex_counsel.git.repo import Repo
from codex_counsel.system.secret_names import secret_name

GITLINK = "160000"
"""Git's mode of a submodule: a commit of another repository in place of a file."""
_GITLINK_RECORD = re.compile(rb"(?:^|\0)160000 [^\t]*\t([^\0]*)")
"""In the output of `git ls-files -z --stage`."""
MAX_EXAMINED = 200
"""Submodules with a repository that are examined, nested ones among them; the others are only named."""


@dataclass(frozen=True)
class DirtySubmodule:
    """A submodule with work that the repository around does not record; the path is from that one's root."""

    path: bytes
    what: str


def submodule_paths(repo: Repo) -> list[bytes]:
    """The paths of all submodules in the index, from the root."""
    output = repo.git("ls-files", "-z", "--stage")
    # In a conflict it has up to three records.
    return list(dict.fromkeys(_GITLINK_RECORD.findall(output)))


def has_repository(repo: Repo, path: bytes) -> bool:
    """Whether a submodule has a `.git` of any kind. Costs no git process."""
    if not _is_inside(path):
        return False
    return os.path.lexists(repo.root / os.fsdecode(path) / ".git")


def open_submodule(repo: Repo, path: bytes) -> Repo | None:
    """The repository of a submodule; None where it is not initialised, or a link is on the way.

    Raises `workspace_invalid` where its `.git` leads elsewhere, and what `Repo.open`
    raises.
    """
    root = repo.root / os.fsdecode(path)
    if not has_repository(repo, path) or root.resolve() != root:
        return None
    submodule = Repo.open(root, repo.timeout, env=repo.env)
    return submodule if submodule.root == root else None


def dirty_submodules(
    repo: Repo, paths: Iterable[bytes] = ()
) -> Iterator[DirtySubmodule]:
    """Every submodule with uncommitted work, nested ones too. With `paths`, only those at, below or around one.

    After MAX_EXAMINED submodules, or `repo.timeout` seconds, the others are named
    without a look.
    """
    wanted = frozenset(paths)
    deadline = time.monotonic() + repo.timeout
    examined = 0
    pending = [(repo, b"", path) for path in reversed(submodule_paths(repo))]
    while pending:
        parent, prefix, path = pending.pop()
        full_path = prefix + path
        if wanted and not _is_wanted(full_path, wanted):
            continue
        examined += has_repository(parent, path)
        if examined > MAX_EXAMINED or time.monotonic() > deadline:
            yield DirtySubmodule(full_path, "not examined")
            continue
        try:
            submodule = open_submodule(parent, path)
            if submodule is None:
                what = _without_repository(parent, path)
            else:
                what = _uncommitted(submodule)
                nested = reversed(submodule_paths(submodule))
                pending += [(submodule, full_path + b"/", inner) for inner in nested]
        except (CounselError, OSError):
            what = "cannot be examined"
        if what:
            yield DirtySubmodule(full_path, what)


def _is_wanted(path: bytes, wanted: frozenset[bytes]) -> bool:
    if covering_path(path, wanted) is not None:
        return True
    return any(inner.startswith(path + b"/") for inner in wanted)


def _is_inside(path: bytes) -> bool:
    """Whether a path of the index leads to a folder of the tree: git lists those of a crafted index unchecked."""
    parts = path.split(b"/")
    return not any(part in (b"", b".", b"..") for part in parts)


def _without_repository(repo: Repo, path: bytes) -> str:
    """What is in the folder of a submodule that is not initialised. Raises OSError."""
    if not _is_inside(path):
        return "no folder of the tree"
    root = repo.root / os.fsdecode(path)
    if root.is_symlink():
        return "a link in its place"
    if root.is_dir() and any(root.iterdir()):
        return "files without a repository"
    return ""


def _uncommitted(submodule: Repo) -> str:
    """What is uncommitted in the working tree, empty for nothing."""
    output = submodule.git(
        "status",
        "--porcelain=v2",
        "-z",
        "--no-renames",
        "--untracked-files=normal",
        # A nested one with new commits counts as changed; git is not run in it.
        "--ignore-submodules=dirty",
    )
    kinds: dict[str, None] = {}
    for record in output.split(b"\0"):
        if record.startswith(b"? "):
            # Somebody's own, as in the repository around.
            if not secret_name(os.fsdecode(record[2:])):
                kinds["untracked files"] = None
        elif record:
            kinds["changed files"] = None
    return " and ".join(sorted(kinds))
