"""Reads the project file from a commit, never from the working tree: a change brings no policy for its own review."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codex_counsel.contract.project_file import (
    MAX_BYTES,
    NO_POLICY,
    Policy,
    invalid,
    parse,
)
from codex_counsel.contract.vocabulary import PROJECT_FILE
from codex_counsel.git.names import display_name
from codex_counsel.git.repo import Blob
from codex_counsel.git.revision import contents, entries
from codex_counsel.prepare.guidance import folders_down_to

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codex_counsel.contract.settings import Settings
    from codex_counsel.git.repo import Repo

NAME = PROJECT_FILE.encode()


@dataclass(frozen=True)
class ProjectFile:
    """The policy of a commit. `revision` is None, and `sha` empty, where it has no project file.

    `sha` is git's id of the content.
    """

    policy: Policy = field(default=NO_POLICY)
    revision: str | None = None
    sha: str = ""
    warnings: tuple[str, ...] = ()


NO_PROJECT_FILE = ProjectFile()


def of_revision(repo: Repo, revision: str | None, settings: Settings) -> ProjectFile:
    """The project file at the top of this commit; none where the user switched it off.

    Raises `project_file_invalid`: a policy that is passed over in silence would be a lax
    gate.
    """
    if revision is None or settings.project_file == "ignore":
        return NO_PROJECT_FILE
    top = _top_of(repo, revision)
    warnings = [*_misnamed(top), *_nested(repo, revision)]
    blob = top.get(NAME)
    if blob is None:
        return ProjectFile(warnings=tuple(warnings))
    if not blob.is_file:
        raise invalid("it is a link or a directory, and must be a regular file")
    found = contents(repo, (blob.sha,), MAX_BYTES + 1)
    if blob.sha not in found:
        raise invalid("its content is not in this clone: fetch it")
    parsed = parse(found[blob.sha].data)
    return ProjectFile(parsed.policy, revision, blob.sha, (*warnings, *parsed.warnings))


def _top_of(repo: Repo, revision: str) -> dict[bytes, Blob]:
    """The entries at the top of the commit that have the name of a project file, in any case of letters."""
    found = {}
    listing = repo.git("ls-tree", "-z", "--full-tree", revision)
    for record in listing.split(b"\0"):
        entry, _, name = record.partition(b"\t")
        if name.lower() == NAME:
            mode, _, sha = entry.decode().split()
            found[name] = Blob(mode, sha)
    return found


def _misnamed(top: Iterable[bytes]) -> list[str]:
    names = [display_name(name) for name in top if name != NAME]
    return [f"{name} is not read: the name is {PROJECT_FILE}" for name in names]


def _nested(repo: Repo, revision: str) -> list[str]:
    """A warning for each project file between the top of the repository and the workspace."""
    folders = [folder for folder in folders_down_to(repo.prefix) if folder]
    names = [folder + NAME for folder in folders]
    found = entries(repo, revision, names)
    return [
        f"{display_name(name)} is not read: only the {PROJECT_FILE} at the top of the repository is"
        for name in found
    ]
