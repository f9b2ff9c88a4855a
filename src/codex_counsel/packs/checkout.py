"""The working tree and the index of a foundation, as its sender had them, in a new private repository.

A patch never touches a file: it changes an index, of which the empty tree is then filled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.git.repo import EMPTY_TREES
from codex_counsel.packs import manifest, received_commits
from codex_counsel.packs.bundle import Bundle
from codex_counsel.packs.limited_git import LimitedGit, invalid
from codex_counsel.packs.manifest import Foundation

if TYPE_CHECKING:
    from codex_counsel.prepare.context import Context

MAX_TREE = 8_000_000_000
"""Bytes of all files of the working tree."""
MAX_ENTRIES = 1_000_000
"""Files of the working tree."""
MAX_RECORD = 1_000_000
"""Bytes of a line about a file of the working tree."""


def check_out(context: Context, about: Foundation, members: Path, draft: Path) -> Path:
    """Make the repository of a foundation in `draft`; returns its working tree. `members` has its files.

    Raises `pack_invalid`, `timeout`, `storage_failed` and OSError.
    """
    if about.object_format not in EMPTY_TREES:
        raise invalid("has objects of a format that git does not know")
    git = LimitedGit.of(context, draft / "repository")
    git.tree.mkdir(mode=0o700)
    git.init(about.object_format)
    bundle = members / manifest.HEAD_BUNDLE
    received_commits.checked([about.head])
    received_commits.take_in(git, bundle, about.shallow, draft / "draft.pack")
    if Bundle.read(bundle).tips != {manifest.HEAD_REF: about.head}:
        raise invalid("has another commit than it names")
    _check_out_branch(git, about)

    index = git.directory / "index"
    git.run("read-tree", about.head)
    _apply(git, members / manifest.STAGED_PATCH)
    # The working tree as an index: nothing of a patch is ever written through a link.
    work = git.with_index(draft / "index")
    work.index.write_bytes(index.read_bytes())
    _apply(work, members / manifest.WORK_PATCH)
    _check_size(work)
    work.run("checkout-index", "--all")
    # What git finds unchanged now, it need not read again for every command of every run.
    git.run("update-index", "-q", "--refresh", ok=(0, 1))
    return git.tree


def _check_out_branch(git: LimitedGit, about: Foundation) -> None:
    """Point HEAD to the commit, by its branch where there was one."""
    if about.branch is None:
        (git.directory / "HEAD").write_text(f"{about.head}\n", "ascii")
        return
    ref = f"refs/heads/{about.branch}"
    if not manifest.is_portable_branch(about.branch):
        raise invalid("names a branch that git does not accept")
    git.run("check-ref-format", ref)
    git.run("symbolic-ref", "HEAD", ref)
    git.run("update-ref", ref, about.head)


def _apply(git: LimitedGit, patch: Path) -> None:
    """Apply a patch to the index."""
    if patch.exists() and patch.stat().st_size:
        git.run("apply", "--cached", "--binary", "--whitespace=nowarn", str(patch))


def _check_size(git: LimitedGit) -> None:
    """Raise unless the files of the index have a size that is to be expected: few bytes of objects can make many."""
    tree = git.run("write-tree").decode().strip()
    total = count = 0
    # Git ends with the block, whatever it still has to say.
    with contextlib.closing(git.stream("ls-tree", "-r", "-l", "-z", tree)) as listing:
        for record in _records(listing):
            size = record.partition(b"\t")[0].split()[3]
            count += 1
            if size != b"-":
                total += int(size)
            if total > MAX_TREE or count > MAX_ENTRIES:
                raise invalid(
                    f"has more than {MAX_ENTRIES:,} files or {MAX_TREE:,} bytes"
                )


def _records(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Output that a NUL byte ends each record of, one by one."""
    rest = b""
    for chunk in chunks:
        *records, rest = (rest + chunk).split(b"\0")
        if max(map(len, (*records, rest))) > MAX_RECORD:
            raise invalid("has a file with a name that no file system takes")
        yield from records
