"""Foundations of packs as a sender writes them, and such as no sender would write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codex_counsel.packs import archive, manifest
from codex_counsel.packs.archive import Member
from codex_counsel.packs.manifest import Foundation
from tests.repositories import Repository


@dataclass
class Draft:
    """A foundation of a repository, to be changed before it is written."""

    about: Foundation
    members: dict[str, bytes] = field(default_factory=dict)

    def write(self, file: Path) -> Path:
        members = [Member(name, content) for name, content in self.members.items()]
        archive.write(file, "foundation", manifest.to_json(self.about), members)
        return file

    def named(self, **values: Any) -> Draft:
        """The same with other words about itself."""
        return Draft(replace(self.about, **values), dict(self.members))


def draft(repository: Repository, branch: str | None = "main") -> Draft:
    """HEAD without its history, what is staged, and what is not committed, untracked files among it."""
    head = repository.head
    shallow: list[str] = []
    if repository.git("rev-list", "--parents", "-1", "HEAD") != head:
        shallow = [head]
    members = {
        manifest.HEAD_BUNDLE: bundle(repository, {"refs/heads/head": head}, shallow)
    }
    staged = diff(repository, "--cached")
    # With an empty entry in the index, an untracked file is a new one in the diff.
    untracked = repository.git("ls-files", "--others", "--exclude-standard")
    if untracked:
        repository.git("add", "--intent-to-add", "--", *untracked.splitlines())
    work = diff(repository)
    if staged:
        members[manifest.STAGED_PATCH] = staged
    if work:
        members[manifest.WORK_PATCH] = work
    object_format = repository.git("rev-parse", "--show-object-format")
    about = Foundation(
        name=repository.root.name,
        head=head,
        branch=branch,
        object_format=object_format,
        shallow=shallow,
    )
    return Draft(about, members)


def draft_of_tree(repository: Repository, tree: str) -> Draft:
    """A commit of this tree, without parents."""
    commit = repository.git("commit-tree", "-m", "hostile", tree)
    foundation = draft(repository).named(head=commit)
    head = bundle(repository, {"refs/heads/head": commit})
    foundation.members[manifest.HEAD_BUNDLE] = head
    return foundation


def bundle(
    repository: Repository, refs: dict[str, str], shallow: Sequence[str] = ()
) -> bytes:
    """A bundle of these commits; of the commits `shallow` without their history."""
    cut_off = repository.root.parent / "cut-off"
    cut_off.write_text("".join(f"{commit}\n" for commit in shallow))
    env = {"GIT_SHALLOW_FILE": str(cut_off)} if shallow else {}
    file = repository.root.parent / "made.bundle"
    for name, commit in refs.items():
        repository.git("update-ref", name, commit)
    repository.git("bundle", "create", "--quiet", str(file), *refs, env=env)
    for name in refs:
        repository.git("update-ref", "-d", name)
    return file.read_bytes()


def diff(repository: Repository, *options: str) -> bytes:
    """A patch of git, with its bytes as they are."""
    text = repository.git("diff", "--binary", "--full-index", "--no-renames", *options)
    if not text:
        return b""
    # The patch of a binary file ends with an empty line.
    return text.encode(errors="surrogateescape") + b"\n\n"
