"""The work on top of the commit at HEAD, as patches: what is staged, and what is in the working tree beside that.

Files are taken with the bytes that they have on disk; no line ends are converted and no
filter runs. Files that are as they were committed are not copied. The user's repository is
only read: the patches are made in a shadow of it, and tried there.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from hashlib import new as new_hash
from pathlib import Path
from typing import NamedTuple

from codex_counsel.delegate.seed import SeedPlan, TrackedFile
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.delegate.tree_copy import TreeCopy
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.packs import archive
from codex_counsel.packs.archive import Member
from codex_counsel.packs.manifest import STAGED_PATCH, WORK_PATCH

MAX_PATCH = 1_000_000_000
"""Bytes of a patch: git applies none that is larger."""
MAX_COMPARED = 50_000_000
"""Bytes of a file of which is looked whether it is as it was committed; a larger one is copied."""
DIFF = (
    "diff-tree",
    "-r",
    "-p",
    "--binary",
    "--full-index",
    "--no-renames",
    "--ignore-submodules=none",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)
APPLY = ("apply", "--cached", "--binary", "--whitespace=nowarn")
NO_FILE = b"000000"
"""Git's mode of nothing."""


class UncommittedWork(NamedTuple):
    """The patches that are needed, and the folders of the tree that they lead to, from the top."""

    patches: list[Member]
    folders: tuple[str, ...]


def collect(repo: Repo, plan: SeedPlan, parts: Path) -> UncommittedWork:
    """The work of a repository. Files that do not travel are added to those that `plan` omits.

    The patches are files in the directory `parts`. Raises `input_too_large`,
    `worktree_failed`, `timeout` and OSError.
    """
    return _Collector(repo, plan, parts).collect()


class _Staged(NamedTuple):
    """A file whose entry in the index differs from HEAD. `mode` is `NO_FILE` for one that is deleted there."""

    mode: bytes
    sha: bytes
    name: bytes

    @property
    def record(self) -> bytes:
        """For `git update-index --index-info`."""
        return self.mode + b" " + self.sha + b" 0\t" + self.name + b"\0"


@dataclass(frozen=True)
class _Collector:
    repo: Repo
    plan: SeedPlan
    parts: Path

    def collect(self) -> UncommittedWork:
        staged = self._staged()
        changed = self._changed()
        if not staged and not changed:
            return UncommittedWork([], _folders(self.repo, self.plan.head))
        shadow = Shadow.create(self.repo, self.parts / "shadow", self.plan.head)
        shadow.git("read-tree", self.plan.head)
        head_tree = shadow.write_tree()
        # Deleted ones first: a folder may have come in place of a file.
        staged.sort(key=lambda file: file.mode != NO_FILE)
        records = b"".join(file.record for file in staged)
        shadow.git("update-index", "-z", "--replace", "--index-info", stdin=records)
        index_tree = shadow.write_tree()
        self._store(shadow, changed)
        work_tree = shadow.write_tree()
        members = []
        if head_tree != index_tree:
            members.append(self._patch(shadow, head_tree, index_tree, STAGED_PATCH))
        if index_tree != work_tree:
            members.append(self._patch(shadow, index_tree, work_tree, WORK_PATCH))
        return UncommittedWork(members, _folders(shadow, work_tree))

    def _staged(self) -> list[_Staged]:
        """What the index has besides HEAD, but no secret files. A file in conflict stays as it is in HEAD."""
        output = self.repo.git(
            "diff-index",
            "--cached",
            "-z",
            "--raw",
            "--no-abbrev",
            "--no-renames",
            "--ignore-submodules=none",
            # A file that is only announced (`git add -N`) has no content there.
            "--ita-invisible-in-index",
            self.plan.head,
        )
        # Two fields each: modes, ids and status, and the name.
        fields = output.split(b"\0")[:-1]
        allowed = {file.name: file for file in self.plan.tracked if file.stage == b"0"}
        staged = []
        for about, name in zip(fields[0::2], fields[1::2], strict=True):
            _, mode, _, sha, status = about.split(b" ")
            if status == b"U":
                self.plan.omit(name, "unmerged")
            elif mode == NO_FILE or _is_entry(allowed.get(name), mode, sha):
                staged.append(_Staged(mode, sha, name))
        return staged

    def _changed(self) -> list[bytes]:
        """The files whose bytes on disk are not those of the index, and untracked ones."""
        tracked = {file.name: file for file in self.plan.tracked}
        changed = []
        with TreeReader(self.repo.root) as reader:
            for name in self.plan.copy:
                file = tracked.get(name)
                if file is None:
                    is_needed = not _is_pack(reader, name)
                else:
                    is_needed = not self._is_as_in_index(reader, file)
                if is_needed:
                    changed.append(name)
        return changed

    def _is_as_in_index(self, reader: TreeReader, file: TrackedFile) -> bool:
        """Whether a file has the content of its entry: attributes that convert files tell nothing of one."""
        status = reader.lstat(file.name)
        if file.stage != b"0" or status is None:
            return False
        try:
            if file.mode == b"120000" and stat.S_ISLNK(status.st_mode):
                path = os.path.join(os.fsencode(self.repo.root), file.name)  # noqa: PTH118  # a name of bytes
                return _blob_id(os.readlink(path), file.sha) == file.sha  # noqa: PTH115  # as above
            if status.st_size > MAX_COMPARED or not file.mode.startswith(b"100"):
                return False
            content = reader.read(file.name, MAX_COMPARED + 1)
        except (UnreadableError, OSError):
            return False
        is_executable = file.mode == b"100755"
        if content.executable != is_executable and self._has_modes:
            return False
        return _blob_id(content.data, file.sha) == file.sha

    @property
    def _has_modes(self) -> bool:
        """Whether the files' modes are the user's, and not those that a file system gives to all."""
        value = self.repo.config.values.get("core.filemode", "true")
        return value.lower() not in ("false", "no", "off", "0")

    def _store(self, shadow: Shadow, names: list[bytes]) -> None:
        """Take these files into the index as they are on disk. One that cannot be read stays as it was."""
        modes = {file.name: file.mode for file in self.plan.tracked}
        stored = []
        with TreeCopy(self.repo.root, shadow.tree) as copies:
            for name in names:
                try:
                    copies.copy(name)
                except (FileNotFoundError, NotADirectoryError):
                    # It was deleted.
                    stored.append(name)
                    continue
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    self.plan.omit(name, "unreadable")
                    continue
                stored.append(name)
                if not self._has_modes:
                    _set_mode(shadow.tree, name, modes.get(name, b"100644"))
        for name in shadow.store_files(stored):
            self.plan.omit(name, "unreadable")

    def _patch(self, shadow: Shadow, old: str, new: str, name: str) -> Member:
        """The patch from one tree to another, which was tried: it makes the one of the other."""
        path = self.parts / name
        _write_diff(shadow, old, new, path)
        index = self.parts / f"{name}.index"
        shadow.git("read-tree", old, index=index)
        shadow.git(*APPLY, str(path), index=index)
        if shadow.write_tree(index) != new:
            raise CounselError(
                Code.WORKTREE_FAILED,
                "The uncommitted work cannot be written as a patch",
                repair="Commit it, and pack again.",
            )
        return Member(name, path)


def _write_diff(shadow: Shadow, old: str, new: str, path: Path) -> None:
    """Write what differs between two trees. Raises `input_too_large` and OSError."""
    size = 0
    with path.open("wb") as file, shadow.stream(*DIFF, old, new) as chunks:
        for chunk in chunks:
            size += len(chunk)
            if size > MAX_PATCH:
                raise CounselError(
                    Code.INPUT_TOO_LARGE,
                    f"The uncommitted work has more than {MAX_PATCH:,} bytes",
                    repair="Commit it, or leave large files out of the working tree.",
                )
            file.write(chunk)


def _folders(git: Repo | Shadow, tree: str) -> tuple[str, ...]:
    """Those of a tree, from the top."""
    output = git.git("ls-tree", "-r", "-d", "-z", "--name-only", "--full-tree", tree)
    return tuple(map(os.fsdecode, output.split(b"\0")[:-1]))


def _is_pack(reader: TreeReader, name: bytes) -> bool:
    try:
        return archive.is_one(reader.read(name, archive.BLOCK).data)
    except (UnreadableError, OSError):
        return False


def _blob_id(data: bytes, like: bytes) -> bytes:
    """The id that git gives to a file with this content, of the kind of hash that the other id has."""
    digest = new_hash("sha1" if len(like) == 40 else "sha256")
    digest.update(b"blob %d\0" % len(data))
    digest.update(data)
    return digest.hexdigest().encode()


def _is_entry(file: TrackedFile | None, mode: bytes, sha: bytes) -> bool:
    return file is not None and file.mode == mode and file.sha == sha


def _set_mode(tree: Path, name: bytes, mode: bytes) -> None:
    """Give a copy the mode that git has for it."""
    path = os.path.join(os.fsencode(tree), name)  # noqa: PTH118  # a name of bytes
    if os.path.lexists(path) and not os.path.islink(path):  # noqa: PTH114  # as above
        os.chmod(path, 0o755 if mode == b"100755" else 0o644)  # noqa: PTH101  # as above
