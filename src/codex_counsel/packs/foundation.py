"""The repository that packs start from, as its user sees it now: the commit at HEAD, and the work on top of it.

What of the uncommitted work travels is what a delegated task gets (`uncommitted_work.py` makes
the patches): of a secret file only the committed state. Untracked packs and results stay
behind: whoever packs twice means the same repository.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from codex_counsel.contract.reading import read
from codex_counsel.delegate.seed import SeedPlan, plan_seed
from codex_counsel.delegate.shadow import ShadowGitError
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.findings.ledger import Ledger
from codex_counsel.git import refs
from codex_counsel.git.names import display_name
from codex_counsel.git.process import cannot_write
from codex_counsel.git.repo import Repo
from codex_counsel.packs import archive, bundle_writer, uncommitted_work
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
MAX_OMITTED = 500
"""Files that did not travel which are listed by name."""


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
            if cannot_write(error.message):
                raise not_written(target.parent, error) from None
        # Git fails also where a file becomes a folder just then.
        return _made(context, workspace, target)
    except OSError as error:
        raise not_written(target.parent, error) from None


def check_repository(workspace: ResolvedWorkspace) -> None:
    """Raise `not_a_git_repo` where the workspace is in no repository that a run may use."""
    if workspace.top is None:
        raise CounselError(
            Code.NOT_A_GIT_REPO,
            f"{workspace.root} is in no git repository, and a pack is made of one",
            repair="Choose a workspace inside a repository, or make one with a first commit.",
        )


def _made(
    context: Context, workspace: ResolvedWorkspace, target: Path
) -> MadeFoundation:
    check_repository(workspace)
    repo = open_repository(workspace, context)
    if repo.head() is None:
        raise CounselError(
            Code.NO_COMMITS,
            "A pack needs a first commit to start from",
            repair="Commit once; `git commit --allow-empty -m start` is enough.",
        )
    parts = Path(tempfile.mkdtemp(prefix="foundation-", dir=target.parent))
    try:
        return _written(context, workspace, repo, parts, target)
    finally:
        remove_tree(parts)


def _written(
    context: Context,
    workspace: ResolvedWorkspace,
    repo: Repo,
    parts: Path,
    target: Path,
) -> MadeFoundation:
    """Write it to `target`, by way of files in the directory `parts`."""
    plan = plan_seed(repo, workspace.denied)
    head = plan.head
    bundle = parts / HEAD_BUNDLE
    bundle_writer.write(repo, bundle, {HEAD_REF: head}, [head], same_bytes=True)
    members = [Member(HEAD_BUNDLE, bundle)]
    work = uncommitted_work.collect(repo, plan, parts)
    members += work.patches
    findings, warnings = _findings(context, repo)
    if findings:
        members.append(Member(FINDINGS, findings))
    about = Foundation(
        name=display_name(os.fsencode(repo.root.name)),
        head=head,
        branch=_branch(repo),
        object_format="sha256" if len(head) == 64 else "sha1",
        shallow=_shallow(repo, head),
        omitted=_omitted(plan),
        sender=sender_of(context.settings.state),
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


def _branch(repo: Repo) -> str | None:
    """None for a detached HEAD, and for a name that a receiver would not accept."""
    name = refs.current_branch(repo)
    if not name or not is_portable_branch(name):
        return None
    return name


def _shallow(repo: Repo, head: str) -> list[str]:
    """HEAD, unless it is the first commit."""
    commit = repo.git("cat-file", "commit", head)
    headers, _, _ = commit.partition(b"\n\n")
    has_parents = b"\nparent " in headers
    return [head] if has_parents else []


def _omitted(plan: SeedPlan) -> list[list[str]]:
    """What did not travel, of each submodule itself alone. At most `MAX_OMITTED` rows, and one for the others."""
    submodules = [file.name for file in plan.tracked if file.is_submodule]
    shown = tuple(map(display_name, dict.fromkeys(submodules)))
    rows = [[name, "submodule"] for name in shown]
    below = tuple(f"{name}/" for name in shown)
    for name, reason in plan.omitted:
        # A sparse file travels with its commit.
        is_of_submodule = name in shown or name.startswith(below)
        if reason != "sparse" and not is_of_submodule:
            rows.append([name, reason])
    more = len(rows) - MAX_OMITTED
    if more > 0:
        rows = [*rows[:MAX_OMITTED], [f"{more} more", "not listed"]]
    return rows


def _findings(context: Context, repo: Repo) -> tuple[bytes, tuple[str, ...]]:
    """The lines of the ledger as they are now, and the warnings."""
    ledger = Ledger.of(context.settings.state, repo.common_dir)
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
