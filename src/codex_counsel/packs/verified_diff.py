"""The diff of a task that ran on another machine, made again here: applied by git, with all else derived from that.

Whoever ran the task may have stored any patch beside any list of files. So nothing that
applying relies on is taken from there: `diff.patch`, `base.tar`, the list of changed files
with their modes, and what a reader is shown are made from the two trees. A list that
does not fit shows that the result was damaged or forged, and it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from codex_counsel.contract.reading import read
from codex_counsel.delegate.capture import (
    GIT_DIRECTORIES,
    MAX_VERIFIED,
    capture_tree_object,
)
from codex_counsel.delegate.conclude import MAX_READABLE, make_result
from codex_counsel.delegate.record import WORK, DelegateResult
from codex_counsel.delegate.set_up import (
    SEED,
    SEED_PATCH,
    Baseline,
    rebuilt,
    tree_of,
)
from codex_counsel.delegate.shadow import (
    Shadow,
    ShadowGitError,
    ShadowTimeoutError,
    git_environment,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.names import display_name
from codex_counsel.git.refs import SHA
from codex_counsel.git.repo import Repo
from codex_counsel.packs.result import PATCH, ResultFile
from codex_counsel.system.files import read_regular, write_atomically
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean

DELETED = "000000"
MAX_LISTED = 500
MAX_WARNINGS = 50
_BINARY = re.compile(rb"^(?:literal|delta) ([0-9]{1,20})$", re.MULTILINE)
"""The line of a binary patch that says how many bytes git makes of what follows."""


@dataclass(frozen=True, kw_only=True)
class _Seed:
    head: str
    base_tree: str
    omitted: list[list[str]] = field(default_factory=list)
    submodules: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Work:
    names: list[list[str | None]]
    ignored: list[str] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    partial: bool = False


@dataclass(frozen=True)
class Limits:
    """Bytes: of a diff in an envelope, and of what binary parts of a patch may become."""

    diff: int
    binary: int


def take_diff(
    result: ResultFile, job_id: str, repo: Repo, directory: Path, limits: Limits
) -> DelegateResult:
    """Make the diff of a job again, and store it in its directory here; returns its record, which is not stored.

    Raises `pack_invalid` for a diff that is not what the result says, `workspace_invalid`
    where the repository lacks its start, `worktree_failed` where git fails, and OSError.
    """
    seed = _seed(result, job_id)
    work = _work(result, job_id)
    patch = _patch(result, job_id, PATCH, limits)
    _patch(result, job_id, SEED_PATCH, limits)
    scratch = directory.parent / f"tree-{directory.name}"
    try:
        baseline = _baseline(result, job_id, seed, repo, scratch)
        shadow = baseline.shadow
        new_tree = _apply(result, shadow, baseline.tree, patch)
        _refuse_git_directories(result, shadow, baseline.tree, new_tree)
        seed = replace(seed, submodules=_submodules(shadow, seed))
        _store_seed(shadow, baseline, seed, directory)
        preview_limit = max(limits.diff, MAX_READABLE)
        capture = capture_tree_object(
            shadow, baseline.tree, new_tree, directory, preview_limit
        )
        capture.ignored = [clean(name) for name in work.ignored[:MAX_LISTED]]
        told = [clean(line) for line in work.planted[:MAX_LISTED]]
        capture.suspicious = list(dict.fromkeys([*told, *capture.suspicious]))
        made = make_result(_record(seed), capture, limits.diff)
    finally:
        Shadow(
            scratch, repo.timeout, git_environment(repo.env, repo.workspace)
        ).remove()
    if _modes(made.names) != _modes(work.names):
        raise result.error(
            "is damaged or forged: its diff changes other files than it lists"
        )
    told = [clean(text) for text in work.warnings[:MAX_WARNINGS]]
    made.warnings = list(dict.fromkeys([*told, *made.warnings]))
    made.partial = work.partial
    return made


def _seed(result: ResultFile, job_id: str) -> _Seed:
    try:
        seed: _Seed = read(_Seed, result.json(job_id, SEED, {}), SEED)
    except ValueError as error:
        raise result.error(f"is damaged: {error}") from None
    if not SHA.fullmatch(seed.head) or not SHA.fullmatch(seed.base_tree):
        raise result.error(f"is damaged: {SEED} names no commit")
    if any(len(row) != 2 for row in seed.omitted):
        raise result.error(f"is damaged: {SEED} has an impossible row")
    return seed


def _work(result: ResultFile, job_id: str) -> _Work:
    try:
        work: _Work = read(_Work, result.json(job_id, WORK, {}), WORK)
    except ValueError as error:
        raise result.error(f"is damaged: {error}") from None
    if any(len(row) != 3 or row[0] is None for row in work.names):
        raise result.error(f"is damaged: {WORK} has an impossible row")
    return work


def _record(seed: _Seed) -> JsonObject:
    """The content of `seed.json`, with names that are fit to be shown."""
    omitted = [
        [clean(name), clean(reason)] for name, reason in seed.omitted[:MAX_LISTED]
    ]
    return {**asdict(seed), "omitted": omitted}


def _patch(result: ResultFile, job_id: str, name: str, limits: Limits) -> bytes:
    """Raises `pack_invalid` for one that is too large, or of which git would make too much."""
    patch = read_regular(result.path(job_id, name), MAX_VERIFIED + 1)
    if patch is None or len(patch) > MAX_VERIFIED:
        raise result.error(f"is damaged: {name} is missing or too large")
    inflated = sum(int(match[1]) for match in _BINARY.finditer(patch))
    if inflated > limits.binary:
        raise result.error(f"is refused: {name} would become {inflated:,} bytes")
    return patch


def _baseline(
    result: ResultFile,
    job_id: str,
    seed: _Seed,
    repo: Repo,
    scratch: Path,
) -> Baseline:
    try:
        return rebuilt(repo, result.directory / job_id, scratch)
    except ShadowTimeoutError:
        raise
    except CounselError as error:
        if error.code == Code.UNKNOWN_REF:
            raise missing_commit(result, seed.head, repo) from None
        if error.code == Code.WORKTREE_FAILED:
            raise result.error(
                "is damaged or forged: what its task began with cannot be made again"
            ) from None
        raise


def missing_commit(result: ResultFile, head: str, repo: Repo) -> CounselError:
    """The error for a repository that the result was not made for, or that has lost its start."""
    return CounselError(
        Code.WORKSPACE_INVALID,
        f"{result.name} starts from the commit {head[:12]}, which the repository at {repo.root} does not have",
        repair="Name the directory of the right repository with -C, or fetch that commit.",
    )


def _apply(result: ResultFile, shadow: Shadow, tree: str, patch: bytes) -> str:
    try:
        return shadow.apply_to_tree(tree, patch)
    except ShadowGitError as error:
        raise result.error(
            f"is damaged or forged: its diff does not apply to what its task began with ({error.message})"
        ) from None


def _refuse_git_directories(
    result: ResultFile, shadow: Shadow, old: str, new: str
) -> None:
    """No task leaves a file there: what lies in one is executed by git."""
    output = shadow.git(
        "diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new
    )
    for name in output.split(b"\0"):
        parts = [part.lower() for part in name.split(b"/")]
        if not set(GIT_DIRECTORIES).isdisjoint(parts):
            raise result.error(
                f"is forged: its diff writes into a git directory ({display_name(name)})"
            )


def _submodules(shadow: Shadow, seed: _Seed) -> list[str]:
    """Those that are submodules in the commit, or lie in one: applying may write into these directories."""
    if not seed.submodules:
        return []
    links = set()
    listing = shadow.git("ls-tree", "-r", "-z", "--full-tree", seed.head)
    for record in listing.split(b"\0"):
        about, _, name = record.partition(b"\t")
        if about.startswith(b"160000"):
            links.add(name.decode("latin-1"))
    kept = []
    for path in seed.submodules:
        parts = path.split("/")
        above = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
        is_plain = {"", ".", "..", ".git"}.isdisjoint(parts)
        if is_plain and not links.isdisjoint(above):
            kept.append(path)
    return kept


def _store_seed(
    shadow: Shadow, baseline: Baseline, seed: _Seed, directory: Path
) -> None:
    """A later task may go on from this one."""
    patch = shadow.diff(tree_of(shadow, baseline.head), baseline.tree, exact=True)
    try:
        write_atomically(directory / SEED_PATCH, patch)
    finally:
        patch.close()
    write_atomically(directory / SEED, json.dumps(_record(seed)))


def _modes(names: Iterable[Sequence[str | None]]) -> dict[str, str]:
    """The changed files with their modes; one that was renamed is gone under its old name."""
    modes: dict[str, str] = {}
    gone: dict[str, str] = {}
    for name, old_name, mode in names:
        modes[name or ""] = mode or ""
        if old_name is not None:
            gone[old_name] = DELETED
    return {**gone, **modes}
