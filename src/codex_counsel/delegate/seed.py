"""Bring the user's present work into a shadow: HEAD, staged and unstaged changes, and untracked files."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from codex_counsel.delegate.shadow import Shadow, null_terminated
from codex_counsel.delegate.tree_copy import TreeCopy
from codex_counsel.delegate.tree_writer import is_plain_part
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import covering_path, display_name
from codex_counsel.git.repo import Repo
from codex_counsel.git.secret_links import is_secret_name, secret_link_targets
from codex_counsel.git.submodules import (
    MAX_EXAMINED,
    has_repository,
    open_submodule,
    submodule_paths,
)
from codex_counsel.git.tree_reader import TreeReader

MAX_UNTRACKED_FILE = 50_000_000
"""Bytes of one untracked file; a larger one is not copied."""
MAX_UNTRACKED = 500_000_000
"""Bytes of all untracked files together."""
MAX_SUBMODULES = 100_000_000
"""Bytes of the files of all submodules together: the baseline that is kept for a continued task contains them."""
CONVERTING_ATTRIBUTES = (
    "text",
    "eol",
    "ident",
    "filter",
    "working-tree-encoding",
    "crlf",
)
"""Attributes under which a file on disk may differ from its object although git calls it clean."""
ENCRYPTING_FILTER = re.compile(rb".*crypt.*|.*vault.*|strongbox|sops.*")
"""Names of content filters that keep a file readable on disk and encrypted in git (git-crypt, transcrypt, ...)."""


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
    `submodules` are those of which the shadow gets the files, as plain files: a list of
    names, the nested ones too; `inner` are these files.
    `withheld` are secret files that differ from the commit: `tracked` has them as they
    were committed, and the tree has no such file.
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
    withheld: list[bytes] = field(default_factory=list)
    submodules: list[bytes] = field(default_factory=list)
    inner: list[bytes] = field(default_factory=list)
    omitted: list[tuple[str, str]] = field(default_factory=list)
    untracked: int = 0
    changed: int = 0

    def omit(self, name: bytes, reason: str) -> None:
        """List a file that the shadow does not get."""
        self.omitted.append((display_name(name), reason))


def plan_seed(repo: Repo, denied: Iterable[Path]) -> SeedPlan:
    """Plan the seed; writes nothing. Six to eight git processes, whatever the size of the repository or a submodule.

    Files at or below the absolute paths `denied`, which no run may see, are treated like
    secret files. Raises `no_commits` before the first commit.
    """
    head = repo.head()
    if head is None:
        raise CounselError(
            Code.NO_COMMITS,
            "A task needs a first commit to start from",
            repair="Commit once; `git commit --allow-empty -m start` is enough.",
        )

    tracked = []
    output = repo.git("ls-files", "-z", "--stage", "-v")
    for record in _records(output):
        about, _, name = record.partition(b"\t")
        tag, mode, sha, stage = about.split(b" ")
        tracked.append(TrackedFile(tag, mode, sha, stage, name))

    dirty = _dirty_names(repo)
    plan = SeedPlan(head, tracked, changed=len(dirty))
    converted, encrypted = _converted_names(repo, tracked)
    different = dirty | converted
    untracked = _records(repo.git("ls-files", "-z", "--others", "--exclude-standard"))
    names = [*(file.name for file in tracked), *untracked]
    closed = {*map(os.fsencode, denied), *secret_link_targets(repo, names)}
    secrets = _secret_names(repo.root, names, closed)
    _withhold(repo, plan, different, encrypted | secrets)
    _plan_tracked(repo, plan, different)
    _plan_untracked(repo, plan, untracked, secrets)
    _plan_submodules(repo, plan, closed)

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


def _converted_names(
    repo: Repo, tracked: list[TrackedFile]
) -> tuple[set[bytes], set[bytes]]:
    """Files whose bytes on disk may differ from their object although git calls them clean; those kept encrypted."""
    names = [file.name for file in tracked]
    converted: set[bytes] = set()
    encrypted: set[bytes] = set()
    autocrlf = repo.config.values.get("core.autocrlf", "false")
    if autocrlf.lower() not in ("false", "no", "off", "0"):
        converted.update(names)
    if not _has_attributes(repo, names):
        return converted, encrypted

    output = repo.git(
        "check-attr",
        "-z",
        "--stdin",
        *CONVERTING_ATTRIBUTES,
        stdin=null_terminated(names),
    )
    # Three fields each: name, attribute, value.
    fields = output.split(b"\0")
    rows = zip(fields[0::3], fields[1::3], fields[2::3], strict=False)
    for name, attribute, value in rows:
        if value not in (b"unspecified", b"unset"):
            converted.add(name)
        if attribute == b"filter" and ENCRYPTING_FILTER.fullmatch(value):
            encrypted.add(name)
    return converted, encrypted


def _has_attributes(repo: Repo, names: list[bytes]) -> bool:
    """Whether a file with attributes may exist: of the user, of the clone, or among these names of the tree."""
    if "core.attributesfile" in repo.config.values:
        return True
    if (repo.common_dir / "info/attributes").exists():
        return True
    return any(os.path.basename(name) == b".gitattributes" for name in names)


def _secret_names(root: Path, names: Iterable[bytes], closed: set[bytes]) -> set[bytes]:
    """Those of the names that are secret by themselves, or because of where they are: at or below `closed`."""
    top = os.fsencode(root) + b"/"
    closed_names = {path.removeprefix(top) for path in closed if path.startswith(top)}
    return {
        name
        for name in names
        if is_secret_name(name) or covering_path(name, closed_names)
    }


def _withhold(
    repo: Repo, plan: SeedPlan, different: set[bytes], secrets: set[bytes]
) -> None:
    """Put the committed state in place of every tracked secret file that is not in that state now.

    A file that was never committed is no longer tracked: nothing of it reaches the
    shadow.
    """
    names = set(secrets)
    for file in plan.tracked:
        if file.is_submodule:
            names.discard(file.name)
    if not names:
        return

    committed = _committed_files(repo, plan.head, names)
    tracked = []
    withheld = dict.fromkeys(file.name for file in plan.tracked if file.name in names)
    for file in plan.tracked:
        if file.name not in names:
            tracked.append(file)
        elif file == committed.get(file.name) and file.name not in different:
            tracked.append(file)
            del withheld[file.name]
    for name in withheld:
        plan.omit(name, "secret_file")
        if name in committed:
            tracked.append(committed[name])
            plan.withheld.append(name)
    plan.tracked = tracked


def _committed_files(
    repo: Repo, head: str, names: set[bytes]
) -> dict[bytes, TrackedFile]:
    """What the index would hold of these files right after the commit."""
    committed = {}
    for record in _records(repo.git("ls-tree", "-r", "-z", "--full-tree", head)):
        about, _, name = record.partition(b"\t")
        mode, kind, sha = about.split(b" ")
        if name in names and kind == b"blob":
            committed[name] = TrackedFile(b"H", mode, sha, b"0", name)
    return committed


def same_secrets(shadow: Shadow, base: str, tree: str) -> list[bytes]:
    """Names of the secret files that are the same in two tree objects of the shadow."""
    output = shadow.git(
        "diff-tree", "-r", "-z", "--name-only", "--no-renames", base, tree
    )
    changed = set(_records(output))
    names = _records(shadow.git("ls-tree", "-r", "-z", "--name-only", base))
    return [name for name in names if is_secret_name(name) and name not in changed]


def _plan_tracked(repo: Repo, plan: SeedPlan, different: set[bytes]) -> None:
    """Plan each tracked file. `different` are those whose bytes on disk may differ from their object."""
    root = os.fsencode(repo.root) + b"/"
    withheld = set(plan.withheld)
    for file in plan.tracked:
        name = file.name
        is_clean = file.tag == b"H" and name not in different
        if name in withheld:
            continue
        if file.is_submodule:
            continue
        if file.is_skip_worktree and not os.path.lexists(root + name):
            plan.omit(name, "sparse")
            plan.sparse.append(name)
        elif is_clean:
            plan.checkout.append(name)
        else:
            plan.copy.append(name)


def _plan_untracked(
    repo: Repo, plan: SeedPlan, untracked: list[bytes], secrets: set[bytes]
) -> None:
    """Plan each untracked file. `secrets` are those that the shadow must not get."""
    total = 0
    with TreeReader(repo.root) as reader:
        for name in untracked:
            status = reader.lstat(name)
            size = status.st_size if status else 0
            is_over_budget = size > MAX_UNTRACKED_FILE or total + size > MAX_UNTRACKED
            if is_over_budget:
                plan.omit(name, "budget")
            elif name in secrets:
                plan.omit(name, "secret_file")
            elif name.endswith(b"/"):
                plan.omit(name, "nested_repository")
            else:
                total += size
                plan.untracked += 1
                plan.copy.append(name)


def _plan_submodules(repo: Repo, plan: SeedPlan, closed: set[bytes]) -> None:
    """Plan the files of every submodule that can be opened, as they lie in the user's tree. The others are omitted.

    `closed` are absolute paths of which nothing may reach the shadow. After
    MAX_EXAMINED submodules, or `repo.timeout` seconds, the others are omitted without a
    look.
    """
    deadline = time.monotonic() + repo.timeout
    room = MAX_SUBMODULES
    opened = 0
    paths = dict.fromkeys(file.name for file in plan.tracked if file.is_submodule)
    pending = [(repo, b"", path) for path in reversed(paths)]
    while pending:
        parent, prefix, path = pending.pop()
        full_path = prefix + path
        try:
            # Each costs several git processes.
            opened += has_repository(parent, path)
            submodule = None
            if opened <= MAX_EXAMINED and time.monotonic() < deadline:
                submodule = open_submodule(parent, path)
            if submodule is None:
                plan.omit(full_path, "submodule")
                continue
            names = _submodule_files(submodule, plan, full_path + b"/", closed)
            nested = submodule_paths(submodule)
        except CounselError:
            # Git refuses it, or it leads to another repository.
            plan.omit(full_path, "submodule")
            continue
        size = _total_size(submodule.root, names)
        if size > room:
            plan.omit(full_path, "budget")
            continue
        room -= size
        plan.submodules.append(full_path)
        plan.inner += [full_path + b"/" + name for name in names]
        pending += [(submodule, full_path + b"/", inner) for inner in reversed(nested)]


def _submodule_files(
    submodule: Repo, plan: SeedPlan, prefix: bytes, closed: set[bytes]
) -> list[bytes]:
    """The tracked and untracked files of a submodule but the secret ones, which are omitted."""
    output = submodule.git("ls-files", "-z", "--stage")
    tracked = []
    for record in _records(output):
        about, _, name = record.partition(b"\t")
        mode, sha, stage = about.split(b" ")
        file = TrackedFile(b"H", mode, sha, stage, name)
        if not file.is_submodule:
            tracked.append(file)
    _, encrypted = _converted_names(submodule, tracked)
    untracked = _records(
        submodule.git("ls-files", "-z", "--others", "--exclude-standard")
    )
    names = list(dict.fromkeys([*(file.name for file in tracked), *untracked]))
    closed = closed.union(secret_link_targets(submodule, names))
    secrets = encrypted | _secret_names(submodule.root, names, closed)
    files = []
    for name in names:
        if name in secrets:
            plan.omit(prefix + name, "secret_file")
        elif name.endswith(b"/"):
            plan.omit(prefix + name, "nested_repository")
        elif not all(map(is_plain_part, name.split(b"/"))):
            # Only in a crafted index: a git directory, or a way out of the tree.
            plan.omit(prefix + name, "unreadable")
        else:
            files.append(name)
    return files


def _total_size(root: Path, names: Iterable[bytes]) -> int:
    total = 0
    with TreeReader(root) as reader:
        for name in names:
            status = reader.lstat(name)
            if status:
                total += status.st_size
    return total


def total_bytes(root: Path, plan: SeedPlan) -> int:
    """Bytes of the user's files, below `root`, that the plan brings into the shadow."""
    return _total_size(root, (*plan.checkout, *plan.copy, *plan.inner))


def populate(repo: Repo, plan: SeedPlan, shadow: Shadow) -> str:
    """Fill the shadow's empty tree; returns the id of the tree object with its content, the baseline.

    Adds files that cannot be read to `plan.omitted`. Raises `worktree_failed` on a full
    disk.
    """
    fill_index(plan, shadow)
    shadow.expect_absent([*plan.sparse, *plan.withheld])
    shadow.write_files(plan.checkout)
    _copy_files(repo, plan, shadow)
    # Ignored files that a submodule tracks would not be stored otherwise.
    for name in shadow.store_files(plan.inner):
        plan.omit(name, "unreadable")
    return shadow.snapshot()


def fill_index(plan: SeedPlan, shadow: Shadow) -> None:
    """Put the tracked files into the shadow's empty index, as they are in the user's. Submodules get no entry."""
    records = []
    for file in plan.tracked:
        # Nor does a file in conflict: it is copied, and added by the snapshot.
        if file.stage == b"0" and not file.is_submodule:
            records += [file.mode, b" ", file.sha, b" 0\t", file.name, b"\0"]
    shadow.git("update-index", "-z", "--index-info", stdin=b"".join(records))


def _copy_files(repo: Repo, plan: SeedPlan, shadow: Shadow) -> None:
    """Copy the files of the plan, links as links. A file that is gone is left out."""
    with TreeCopy(repo.root, shadow.tree) as copies:
        for name in (*plan.copy, *plan.inner):
            try:
                copies.copy(name)
            except (FileNotFoundError, NotADirectoryError):
                # Git calls a file behind a link deleted; what is there is not the user's.
                continue
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    message = f"The worktree cannot be filled: {error.strerror}"
                    raise CounselError(Code.WORKTREE_FAILED, message) from None
                plan.omit(name, "unreadable")
