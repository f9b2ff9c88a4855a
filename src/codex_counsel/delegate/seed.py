"""The user's work as it stands, brought into a shadow: HEAD, what is staged and not, and untracked files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from codex_counsel.delegate.shadow import Shadow, joined
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.git.repo import Repo
from codex_counsel.git.tree_reader import TreeReader
from codex_counsel.system.redact import secret_name

MAX_UNTRACKED_FILE = 50_000_000
MAX_UNTRACKED = 500_000_000
CONVERTING = ("text", "eol", "ident", "filter", "working-tree-encoding", "crlf")


class TrackedFile(NamedTuple):
    tag: bytes
    mode: bytes
    sha: bytes
    stage: bytes
    name: bytes

    @property
    def is_submodule(self) -> bool:
        return self.mode == b"160000"


@dataclass
class SeedPlan:
    """What is to be seeded and from where: `checkout` from objects, `copy` from the user's files as bytes.

    `sparse` files are known and not there, for the user neither.
    """

    head: str
    tracked: list[TrackedFile]
    checkout: list[bytes] = field(default_factory=list)
    copy: list[bytes] = field(default_factory=list)
    sparse: list[bytes] = field(default_factory=list)
    omitted: list[tuple[str, str]] = field(default_factory=list)
    untracked: int = 0
    changed: int = 0


def survey(repo: Repo) -> SeedPlan:
    """Look at the user's repository; four git processes, whatever its size."""
    head = repo.head()
    if head is None:
        raise CounselError(Code.NO_COMMITS, "A task needs a first commit to start from")
    tracked = [_entry(record) for record in _records(repo.git("ls-files", "-z", "--stage", "-v"))]
    dirty = _dirty(repo)
    plan = SeedPlan(head, tracked, changed=len(dirty))
    converted = _converted(repo, tracked)
    for entry in tracked:
        _place(repo, plan, entry, dirty, converted)
    _untracked(repo, plan)
    plan.copy = list(dict.fromkeys(plan.copy))
    plan.omitted.sort(key=lambda item: item[1] == "sparse")  # the others are fewer and matter more
    return plan


def _records(output: bytes) -> list[bytes]:
    return [record for record in output.split(b"\0") if record]


def _entry(record: bytes) -> TrackedFile:
    head, _, name = record.partition(b"\t")
    tag, mode, sha, stage = head.split(b" ")
    return TrackedFile(tag, mode, sha, stage, name)


def _dirty(repo: Repo) -> set[bytes]:
    """Tracked files whose stat differs from the index: changed, deleted, of another kind, or only touched."""
    fields = _records(repo.git("diff-files", "-z", "--raw", "--no-renames", "--ignore-submodules=all"))
    return set(fields[1::2])


def _converted(repo: Repo, tracked: list[TrackedFile]) -> set[bytes]:
    """Files whose bytes on disk may differ from their object although git calls them clean."""
    names = [entry.name for entry in tracked]
    if repo.config.values.get("core.autocrlf", "false").lower() not in ("false", "no", "off", "0"):
        return set(names)
    special = (repo.common_dir / "info/attributes").exists() or "core.attributesfile" in repo.config.values
    if not special and not any(name.rpartition(b"/")[2] == b".gitattributes" for name in names):
        return set()
    fields = repo.git("check-attr", "-z", "--stdin", *CONVERTING, stdin=joined(names)).split(b"\0")
    rows = zip(fields[0::3], fields[2::3], strict=False)
    return {name for name, value in rows if value not in (b"unspecified", b"unset")}


def _place(repo: Repo, plan: SeedPlan, entry: TrackedFile, dirty: set[bytes], converted: set[bytes]) -> None:
    """Only a file that git tracks normally, and calls clean, is sure to be what its object says."""
    if entry.is_submodule:
        plan.omitted.append((display_name(entry.name), "submodule"))
    elif entry.tag in b"Ss" and not os.path.lexists(os.fsencode(repo.root) + b"/" + entry.name):
        plan.omitted.append((display_name(entry.name), "sparse"))
        plan.sparse.append(entry.name)
    elif entry.tag != b"H" or entry.name in dirty or entry.name in converted:
        plan.copy.append(entry.name)
    else:
        plan.checkout.append(entry.name)


def _untracked(repo: Repo, plan: SeedPlan) -> None:
    total = 0
    with TreeReader(repo.root) as folder:
        for name in _records(repo.git("ls-files", "-z", "--others", "--exclude-standard")):
            seen = folder.lstat(name)
            size = seen.st_size if seen else 0
            if size > MAX_UNTRACKED_FILE or total + size > MAX_UNTRACKED:
                plan.omitted.append((display_name(name), "budget"))
            elif secret_name(os.fsdecode(name)):
                plan.omitted.append((display_name(name), "secret_file"))
            elif name.endswith(b"/"):
                plan.omitted.append((display_name(name), "nested_repository"))
            else:
                total += size
                plan.untracked += 1
                plan.copy.append(name)


def size(root: Path, plan: SeedPlan) -> int:
    """Bytes of the user's files that are to be seeded."""
    with TreeReader(root) as folder:
        return sum(seen.st_size for name in (*plan.checkout, *plan.copy) if (seen := folder.lstat(name)))


def fill(repo: Repo, plan: SeedPlan, shadow: Shadow) -> str:
    """Fill the shadow's tree; the object id of the baseline it then holds."""
    normal = [entry for entry in plan.tracked if not entry.is_submodule and entry.stage == b"0"]
    info = (b"%s %s 0\t%s\0" % (entry.mode, entry.sha, entry.name) for entry in normal)
    shadow.git("update-index", "-z", "--index-info", given=b"".join(info))
    if plan.sparse:
        shadow.git("update-index", "-z", "--skip-worktree", "--stdin", given=joined(plan.sparse))
    if plan.checkout:
        shadow.git("checkout-index", "-z", "--force", "--index", "--stdin", given=joined(plan.checkout))
    _copy(repo, plan, shadow)
    return shadow.snapshot()


def _copy(repo: Repo, plan: SeedPlan, shadow: Shadow) -> None:
    """Copy files as they are, links as links; what is gone or cannot be read is left out, and the latter named."""
    source, target = os.fsencode(repo.root), os.fsencode(shadow.tree)
    real: dict[bytes, bool] = {b"": True}
    for name in plan.copy:
        folder = name.rpartition(b"/")[0]
        if not _is_real(source, folder, real):
            continue
        try:
            os.makedirs(os.path.join(target, folder), exist_ok=True)
            _copy_one(source + b"/" + name, target + b"/" + name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise CounselError(Code.WORKTREE_FAILED, f"The worktree cannot be filled: {error.strerror}") from None
            plan.omitted.append((display_name(name), "unreadable"))


def _is_real(source: bytes, folder: bytes, known: dict[bytes, bool]) -> bool:
    """Whether no link stands in the way: behind one lies what is not the repository's, and git calls the file gone."""
    if folder not in known:
        above = _is_real(source, folder.rpartition(b"/")[0], known)
        known[folder] = above and not os.path.islink(source + b"/" + folder)
    return known[folder]


def _copy_one(source: bytes, target: bytes) -> None:
    seen = os.lstat(source)
    if stat.S_ISLNK(seen.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(seen.st_mode):
        _copy_bytes(source, target, 0o755 if seen.st_mode & stat.S_IXUSR else 0o644)


def _copy_bytes(source: bytes, target: bytes, mode: int) -> None:
    read = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            while data := os.read(read, 1 << 20):
                view = memoryview(data)
                while view:
                    view = view[os.write(write, view) :]
        except OSError:  # half a file would look like the user's
            with contextlib.suppress(OSError):
                os.unlink(target)
            raise
        finally:
            os.close(write)
    finally:
        os.close(read)
