"""The repository that packs start from, as its user sees it now: the commit at HEAD, and the work on top of it.

What of the uncommitted work travels is what a delegated task gets: of a secret file only
the committed state. Files are taken with the bytes that they have on disk; no line ends are
converted and no filter runs. Files that are as they were committed are not copied, and the
user's repository is only read. Untracked packs and results stay behind: whoever packs twice
means the same repository.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from hashlib import new as new_hash
from pathlib import Path
from typing import NamedTuple, Self

from codex_counsel.contract.reading import read
from codex_counsel.delegate.seed import SeedPlan, TrackedFile, plan_seed
from codex_counsel.delegate.shadow import Shadow, ShadowGitError
from codex_counsel.delegate.tree_copy import TreeCopy
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.findings.ledger import Ledger
from codex_counsel.git import refs
from codex_counsel.git.names import display_name
from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader, UnreadableError
from codex_counsel.packs import archive, bundle_writer
from codex_counsel.packs.archive import Member
from codex_counsel.packs.manifest import (
    FINDINGS,
    HEAD_BUNDLE,
    HEAD_REF,
    STAGED_PATCH,
    WORK_PATCH,
    Foundation,
    is_portable_branch,
    to_json,
)
from codex_counsel.packs.sent import sender_of
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.workspace import ResolvedWorkspace, open_repository
from codex_counsel.system.files import remove_tree
from codex_counsel.system.json_values import JsonObject

MAX_FINDINGS = 2_000_000
"""Bytes of the findings on record; more do not travel."""
MAX_PATCH = 1_000_000_000
"""Bytes of a patch: git applies none that is larger."""
MAX_COMPARED = 50_000_000
"""Bytes of a file of which is looked whether it is as it was committed; a larger one is copied."""
MAX_OMITTED = 500
"""Files that did not travel which are listed by name."""
FULL = ("No space left", "quota exceeded", "unable to write")
"""What git says where it cannot write."""
NO_FILE = b"000000"
"""Git's mode of nothing."""


@dataclass(frozen=True)
class MadeFoundation:
    """A foundation as the file `path`. `digest` is the SHA-256 of that file, by which packs name it.

    `has_staged` and `has_work`: what is staged, and what is changed or untracked beside
    that, travels. `folders` are those in which a receiver has files, from the top.
    `warnings` are what the sender should know of it.
    """

    about: Foundation
    path: Path
    digest: str
    has_staged: bool = False
    has_work: bool = False
    folders: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """All but the path, for a process that finds the file later."""
        values = asdict(self)
        del values["path"]
        return values

    @classmethod
    def from_json(cls, raw: JsonObject, path: Path) -> Self:
        """The reverse of `to_json`. Raises ValueError."""
        noted = read(_Noted, raw, "foundation")
        return cls(
            noted.about,
            path,
            noted.digest,
            noted.has_staged,
            noted.has_work,
            tuple(noted.folders),
            tuple(noted.warnings),
        )


@dataclass(frozen=True)
class _Noted:
    """`MadeFoundation` as JSON."""

    about: Foundation
    digest: str
    has_staged: bool
    has_work: bool
    folders: list[str]
    warnings: list[str]


class _Work(NamedTuple):
    """The patches of uncommitted work, and the folders of the tree that they lead to."""

    patches: list[Member]
    folders: tuple[str, ...]


class _Staged(NamedTuple):
    """A file whose entry in the index differs from HEAD. `mode` is `NO_FILE` for one that is deleted there."""

    mode: bytes
    sha: bytes
    name: bytes

    @property
    def record(self) -> bytes:
        """For `git update-index --index-info`."""
        return self.mode + b" " + self.sha + b" 0\t" + self.name + b"\0"


def make(
    context: Context, workspace: ResolvedWorkspace, target: Path
) -> MadeFoundation:
    """Write the foundation of the workspace's repository to `target`. The same state makes the same bytes here.

    Temporary files lie beside the target. Raises `not_a_git_repo`, `no_commits`,
    `workspace_invalid`, `input_too_large`, `storage_failed`, `worktree_failed` or `timeout`.
    """
    try:
        try:
            return _made(context, workspace, target)
        except ShadowGitError as error:
            if any(words in error.message for words in FULL):
                raise not_written(target.parent, error) from None
        # Git fails also where a file becomes a folder just then.
        return _made(context, workspace, target)
    except OSError as error:
        raise not_written(target.parent, error) from None


def _made(
    context: Context, workspace: ResolvedWorkspace, target: Path
) -> MadeFoundation:
    repo = open_repository(workspace, context)
    if repo.head() is None:
        raise CounselError(
            Code.NO_COMMITS,
            "A pack needs a first commit to start from",
            repair="Commit once; `git commit --allow-empty -m start` is enough.",
        )
    parts = Path(tempfile.mkdtemp(prefix="foundation-", dir=target.parent))
    try:
        plan = plan_seed(repo, workspace.denied)
        return _Maker(context, repo, plan, parts).make(target)
    finally:
        remove_tree(parts)


def not_written(directory: Path, error: OSError | ShadowGitError) -> CounselError:
    """That a pack cannot be made in this directory."""
    message = f"No pack can be made in {directory}"
    if isinstance(error, OSError):
        problem = error_of(Code.STORAGE_FAILED, message, error)
    else:
        problem = CounselError(Code.STORAGE_FAILED, f"{message}: {error.message}")
    if problem.code == Code.STORAGE_FAILED:
        problem.repair = (
            "Free disk space, or let TMPDIR name a directory on another disk."
        )
    return problem


@dataclass(frozen=True)
class _Maker:
    context: Context
    repo: Repo
    plan: SeedPlan
    parts: Path

    def make(self, target: Path) -> MadeFoundation:
        head = self.plan.head
        members = [Member(HEAD_BUNDLE, self.parts / HEAD_BUNDLE)]
        bundle_writer.write(
            self.repo,
            self.parts / HEAD_BUNDLE,
            {HEAD_REF: head},
            [head],
            same_bytes=True,
        )
        work = self._work()
        members += work.patches
        findings, warnings = self._findings()
        if findings:
            members.append(Member(FINDINGS, findings))
        about = Foundation(
            name=display_name(os.fsencode(self.repo.root.name)),
            head=head,
            branch=self._branch(),
            object_format="sha256" if len(head) == 64 else "sha1",
            shallow=self._shallow(),
            omitted=self._omitted(),
            sender=sender_of(self.context.settings.state),
        )
        archive.write(target, "foundation", to_json(about), members)
        names = {member.name for member in members}
        return MadeFoundation(
            about,
            target,
            archive.digest_of(target),
            has_staged=STAGED_PATCH in names,
            has_work=WORK_PATCH in names,
            folders=work.folders,
            warnings=warnings,
        )

    def _branch(self) -> str | None:
        """None for a detached HEAD, and for a name that a receiver would not accept."""
        name = refs.current_branch(self.repo)
        if not name or not is_portable_branch(name):
            return None
        return name

    def _shallow(self) -> list[str]:
        """HEAD, unless it is the first commit."""
        head = self.plan.head
        commit = self.repo.git("cat-file", "commit", head)
        headers, _, _ = commit.partition(b"\n\n")
        has_parents = b"\nparent " in headers
        return [head] if has_parents else []

    def _omitted(self) -> list[list[str]]:
        """What did not travel, of each submodule itself alone. At most `MAX_OMITTED` rows, and one for the others."""
        submodules = [file.name for file in self.plan.tracked if file.is_submodule]
        shown = tuple(map(display_name, dict.fromkeys(submodules)))
        rows = [[name, "submodule"] for name in shown]
        below = tuple(f"{name}/" for name in shown)
        for name, reason in self.plan.omitted:
            # A sparse file travels with its commit.
            is_of_submodule = name in shown or name.startswith(below)
            if reason != "sparse" and not is_of_submodule:
                rows.append([name, reason])
        more = len(rows) - MAX_OMITTED
        if more > 0:
            rows = [*rows[:MAX_OMITTED], [f"{more} more", "not listed"]]
        return rows

    def _findings(self) -> tuple[bytes, tuple[str, ...]]:
        """The lines of the ledger as they are now, and the warnings."""
        ledger = Ledger.of(self.context.settings.state, self.repo.common_dir)
        try:
            entries = ledger.read().entries.values()
        except CounselError as error:
            return b"", (f"the findings on record do not travel: {error.message}",)
        lines = []
        for entry in entries:
            # That of a plan may be a path of this machine, which means nothing elsewhere.
            is_path = entry.plan is not None and Path(entry.plan).is_absolute()
            if not is_path:
                lines.append(json.dumps(entry.to_json()) + "\n")
        data = "".join(lines).encode("ascii")
        if len(data) > MAX_FINDINGS:
            warning = (
                f"the findings on record do not travel: they have {len(data):,} bytes, "
                f"of which {MAX_FINDINGS:,} may travel"
            )
            return b"", (warning,)
        return data, ()

    # --- uncommitted work

    def _work(self) -> _Work:
        """The patches that are needed: of what is staged, and of what is in the working tree beside that."""
        staged = self._staged()
        changed = self._changed()
        if not staged and not changed:
            return _Work([], _folders(self.repo, self.plan.head))
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
        return _Work(members, _folders(shadow, work_tree))

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
        size = 0
        diff = (
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
        with path.open("wb") as file, shadow.stream(*diff, old, new) as chunks:
            for chunk in chunks:
                size += len(chunk)
                if size > MAX_PATCH:
                    raise CounselError(
                        Code.INPUT_TOO_LARGE,
                        f"The uncommitted work has more than {MAX_PATCH:,} bytes",
                        repair="Commit it, or leave large files out of the working tree.",
                    )
                file.write(chunk)
        index = self.parts / f"{name}.index"
        shadow.git("read-tree", old, index=index)
        shadow.git(
            "apply",
            "--cached",
            "--binary",
            "--whitespace=nowarn",
            str(path),
            index=index,
        )
        if shadow.write_tree(index) != new:
            raise CounselError(
                Code.WORKTREE_FAILED,
                "The uncommitted work cannot be written as a patch",
                repair="Commit it, and pack again.",
            )
        return Member(name, path)


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
