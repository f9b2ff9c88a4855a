"""Bring the user's present work into a shadow: HEAD, staged and unstaged changes, and untracked files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from codex_counsel.delegate.shadow import Shadow, null_terminated
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader
from codex_counsel.system.secret_names import secret_name

MAX_UNTRACKED_FILE = 50_000_000
"""Bytes of one untracked file; a larger one is not copied."""
MAX_UNTRACKED = 500_000_000
"""Bytes of all untracked files together."""
CONVERTING_ATTRIBUTES = (
    "text",
    "eol",
    "ident",
    "filter",
    "working-tree-encoding",
    "crlf",
)
"""Attributes under which a file on disk may differ from its object although git calls it clean."""
# Without O_NONBLOCK, opening a FIFO in place of a file would wait for a writer.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
COPY_CHUNK = 1 << 20


class TrackedFile(NamedTuple):
    """One record of `git ls-files --stage -v`. `tag` is `H` for a file in the normal state."""

    tag: bytes
    mode: bytes
    sha: bytes
    stage: bytes
    name: bytes

    @property
    def is_submodule(self) -> bool:
        """Whether it is a commit of another repository."""
        return self.mode == b"160000"

    @property
    def is_skip_worktree(self) -> bool:
        """Whether git expects no file on disk, as in a sparse checkout."""
        return self.tag in (b"S", b"s")


@dataclass
class SeedPlan:
    """Where each file of the shadow comes from.

    `checkout` files are written from git's objects, `copy` files are copied from the
    user's tree. `sparse` files are tracked and absent from the user's tree too.
    `omitted` are displayed names with a reason: `submodule`, `sparse`, `budget`,
    `secret_file`, `nested_repository` or `unreadable`. `untracked` is the number of
    untracked files that are copied, `changed` the number of tracked files that may have
    changed.
    """

    head: str
    tracked: list[TrackedFile]
    checkout: list[bytes] = field(default_factory=list)
    copy: list[bytes] = field(default_factory=list)
    sparse: list[bytes] = field(default_factory=list)
    omitted: list[tuple[str, str]] = field(default_factory=list)
    untracked: int = 0
    changed: int = 0

    def omit(self, name: bytes, reason: str) -> None:
        """List a file that the shadow does not get."""
        self.omitted.append((display_name(name), reason))


def plan_seed(repo: Repo) -> SeedPlan:
    """Plan the seed; writes nothing. Four or five git processes, whatever the size of the repository.

    Raises `no_commits` before the first commit.
    """
    head = repo.head()
    if head is None:
        raise CounselError(Code.NO_COMMITS, "A task needs a first commit to start from")

    tracked = []
    output = repo.git("ls-files", "-z", "--stage", "-v")
    for record in _records(output):
        about, _, name = record.partition(b"\t")
        tag, mode, sha, stage = about.split(b" ")
        tracked.append(TrackedFile(tag, mode, sha, stage, name))

    dirty = _dirty_names(repo)
    plan = SeedPlan(head, tracked, changed=len(dirty))
    converted = _converted_names(repo, tracked)
    _plan_tracked(repo, plan, dirty | converted)
    _plan_untracked(repo, plan)

    # A file in conflict is tracked in up to three stages.
    unique = dict.fromkeys(plan.copy)
    plan.copy = list(unique)
    # Lists of omitted files are cut when they are displayed: sparse files, which may be
    # thousands, go last.
    plan.omitted.sort(key=lambda item: item[1] == "sparse")
    return plan


def _records(output: bytes) -> list[bytes]:
    return [record for record in output.split(b"\0") if record]


def _dirty_names(repo: Repo) -> set[bytes]:
    """Tracked files whose stat data differs from the index: changed, deleted, of another kind, or only touched."""
    output = repo.git(
        "diff-files",
        "-z",
        "--raw",
        "--no-renames",
        "--ignore-submodules=all",
    )
    # Two fields each: modes and ids, and the name.
    fields = _records(output)
    return set(fields[1::2])


def _converted_names(repo: Repo, tracked: list[TrackedFile]) -> set[bytes]:
    """Files whose bytes on disk may differ from their object although git calls them clean."""
    names = [file.name for file in tracked]
    settings = repo.config.values
    autocrlf = settings.get("core.autocrlf", "false")
    if autocrlf.lower() not in ("false", "no", "off", "0"):
        return set(names)
    if not _has_attributes(repo, names):
        return set()

    output = repo.git(
        "check-attr",
        "-z",
        "--stdin",
        *CONVERTING_ATTRIBUTES,
        stdin=null_terminated(names),
    )
    # Three fields each: name, attribute, value.
    fields = output.split(b"\0")
    checked_names = fields[0::3]
    values = fields[2::3]
    converted = set()
    for name, value in zip(checked_names, values, strict=False):
        if value not in (b"unspecified", b"unset"):
            converted.add(name)
    return converted


def _has_attributes(repo: Repo, names: list[bytes]) -> bool:
    """Whether a file with attributes may exist: of the user, of the clone, or among these names of the tree."""
    if "core.attributesfile" in repo.config.values:
        return True
    if (repo.common_dir / "info/attributes").exists():
        return True
    return any(os.path.basename(name) == b".gitattributes" for name in names)


def _plan_tracked(repo: Repo, plan: SeedPlan, different: set[bytes]) -> None:
    """Plan each tracked file. `different` are those whose bytes on disk may differ from their object."""
    root = os.fsencode(repo.root) + b"/"
    for file in plan.tracked:
        name = file.name
        is_clean = file.tag == b"H" and name not in different
        if file.is_submodule:
            plan.omit(name, "submodule")
        elif file.is_skip_worktree and not os.path.lexists(root + name):
            plan.omit(name, "sparse")
            plan.sparse.append(name)
        elif is_clean:
            plan.checkout.append(name)
        else:
            plan.copy.append(name)


def _plan_untracked(repo: Repo, plan: SeedPlan) -> None:
    output = repo.git("ls-files", "-z", "--others", "--exclude-standard")
    total = 0
    with TreeReader(repo.root) as reader:
        for name in _records(output):
            status = reader.lstat(name)
            size = status.st_size if status else 0
            is_over_budget = size > MAX_UNTRACKED_FILE or total + size > MAX_UNTRACKED
            if is_over_budget:
                plan.omit(name, "budget")
            elif secret_name(os.fsdecode(name)):
                plan.omit(name, "secret_file")
            elif name.endswith(b"/"):
                plan.omit(name, "nested_repository")
            else:
                total += size
                plan.untracked += 1
                plan.copy.append(name)


def total_bytes(root: Path, plan: SeedPlan) -> int:
    """Bytes of the user's files, below `root`, that the plan brings into the shadow."""
    total = 0
    with TreeReader(root) as reader:
        for name in (*plan.checkout, *plan.copy):
            status = reader.lstat(name)
            if status:
                total += status.st_size
    return total


def populate(repo: Repo, plan: SeedPlan, shadow: Shadow) -> str:
    """Fill the shadow's empty tree; returns the id of the tree object with its content, the baseline.

    Adds files that cannot be read to `plan.omitted`. Raises `worktree_failed` on a full
    disk.
    """
    index_records = []
    for file in plan.tracked:
        # A file in conflict gets no entry: it is copied, and added by the snapshot.
        if file.stage == b"0" and not file.is_submodule:
            index_records += [file.mode, b" ", file.sha, b" 0\t", file.name, b"\0"]
    shadow.git(
        "update-index",
        "-z",
        "--index-info",
        stdin=b"".join(index_records),
    )
    if plan.sparse:
        shadow.git(
            "update-index",
            "-z",
            "--skip-worktree",
            "--stdin",
            stdin=null_terminated(plan.sparse),
        )
    if plan.checkout:
        shadow.git(
            "checkout-index",
            "-z",
            "--force",
            "--index",
            "--stdin",
            stdin=null_terminated(plan.checkout),
        )
    _copy_files(repo, plan, shadow)
    return shadow.snapshot()


def _copy_files(repo: Repo, plan: SeedPlan, shadow: Shadow) -> None:
    """Copy `plan.copy`, links as links. A file that is gone is left out."""
    source = os.fsencode(repo.root) + b"/"
    target = os.fsencode(shadow.tree) + b"/"
    real_folders = {b"": True}
    for name in plan.copy:
        folder = name.rpartition(b"/")[0]
        if not _is_real_folder(source, folder, real_folders):
            continue
        try:
            os.makedirs(target + folder, exist_ok=True)
            _copy_file(source + name, target + name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f"The worktree cannot be filled: {error.strerror}"
                raise CounselError(Code.WORKTREE_FAILED, message) from None
            plan.omit(name, "unreadable")


def _is_real_folder(
    root: bytes,
    folder: bytes,
    cache: dict[bytes, bool],
) -> bool:
    """Whether no part of the path is a link. Git calls a file behind one deleted; what is there is not the user's."""
    if folder not in cache:
        parent = folder.rpartition(b"/")[0]
        is_below_real = _is_real_folder(root, parent, cache)
        cache[folder] = is_below_real and not os.path.islink(root + folder)
    return cache[folder]


def _copy_file(source: bytes, target: bytes) -> None:
    """Copy a regular file or a link; anything else, such as a pipe, is passed over."""
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        mode = 0o644
        if status.st_mode & stat.S_IXUSR:
            mode = 0o755
        _copy_content(source, target, mode)


def _copy_content(source: bytes, target: bytes, mode: int) -> None:
    reader = os.open(source, READ_FLAGS)
    try:
        writer = os.open(target, CREATE_FLAGS, mode)
        try:
            while data := os.read(reader, COPY_CHUNK):
                rest = memoryview(data)
                while rest:
                    written = os.write(writer, rest)
                    rest = rest[written:]
        except OSError:
            # Half a file would look like the user's.
            with contextlib.suppress(OSError):
                os.unlink(target)
            raise
        finally:
            os.close(writer)
    finally:
        os.close(reader)
