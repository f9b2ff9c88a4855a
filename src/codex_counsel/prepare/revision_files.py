"""Files of a commit that instruct a reviewer or inform Codex: read with the care that anything sent needs.

No link is followed out of the commit, and no secret or denied file is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from codex_counsel.git.names import covering_path
from codex_counsel.git.revision import contents, entries
from codex_counsel.system.secret_names import secret_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codex_counsel.git.repo import Blob, Repo
    from codex_counsel.git.revision import Content
    from codex_counsel.prepare.workspace import ResolvedWorkspace

LINK_MODE = "120000"
MAX_LINK = 4096
"""Bytes of a link's target."""


@dataclass(frozen=True)
class RevisionFile:
    """A file, or a link to one. `real` is the name of the file that has the content, `sha` the id of that content.

    `data` is the beginning of the content, `size` the bytes of all of it. Where it may
    not be sent, `data` is None and `obstacle` says why.
    """

    name: bytes
    is_link: bool
    real: bytes
    sha: str = ""
    data: bytes | None = None
    size: int = 0
    obstacle: Literal["", "symlink", "secret_file", "unreadable"] = ""


def read_files(
    repo: Repo,
    revision: str,
    found: Mapping[bytes, Blob],
    workspace: ResolvedWorkspace,
    limit: int,
) -> list[RevisionFile]:
    """The files of `entries` in the same order, of each at most `limit` bytes. A few git processes for all of them."""
    targets = _link_targets(repo, revision, found)
    denied = frozenset(map(os.fsencode, workspace.denied))
    root = os.fsencode(repo.root) + b"/"
    files = []
    for name, entry in found.items():
        is_link = entry.mode == LINK_MODE
        real, blob = targets[name] if is_link else (name, entry)
        file = RevisionFile(name, is_link, real)
        if blob is None or not blob.is_file:
            file = replace(file, obstacle="symlink" if is_link else "unreadable")
        elif secret_name(os.fsdecode(root + real)) or covering_path(
            root + real, denied
        ):
            file = replace(file, obstacle="secret_file")
        else:
            file = replace(file, sha=blob.sha)
        files.append(file)

    content = contents(repo, (file.sha for file in files if file.sha), limit)
    return [_with_content(file, content) for file in files]


def _with_content(file: RevisionFile, content: Mapping[str, Content]) -> RevisionFile:
    if file.obstacle:
        return file
    if file.sha not in content:
        return replace(file, obstacle="unreadable")
    data, size = content[file.sha]
    return replace(file, data=data, size=size)


def _link_targets(
    repo: Repo, revision: str, found: Mapping[bytes, Blob]
) -> dict[bytes, tuple[bytes, Blob | None]]:
    """For each link the name that it leads to, and the file of that name in the same commit.

    No file is found for a name that begins with `/` or `../`.
    """
    links = {
        name: entry.sha for name, entry in found.items() if entry.mode == LINK_MODE
    }
    texts = contents(repo, links.values(), MAX_LINK)
    targets = {}
    for name, sha in links.items():
        target = b"/"
        # No file has a NUL in its name, and git cannot be asked for one.
        if sha in texts and b"\0" not in texts[sha].data:
            target = os.path.join(os.path.dirname(name), texts[sha].data)  # noqa: PTH118, PTH120  # bytes
        targets[name] = os.path.normpath(target)
    blobs = entries(repo, revision, targets.values())
    return {name: (target, blobs.get(target)) for name, target in targets.items()}
