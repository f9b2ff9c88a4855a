"""Kind 3, a delegated task, before Codex starts: its working tree is made, with the user's work as it stands.

In the job directory: `seed.json` names the baseline, `seed.patch` leads to it from the
commit. In the scratch directory: the tree, its git directory, a temporary directory,
and a file that names the job's directory.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.delegate import seed
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.shadow import Shadow, git_environment
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.refs import resolve
from codex_counsel.git.repo import Repo
from codex_counsel.system.files import (
    UnsafeDirectoryError,
    make_private,
    read_json,
    write_atomically,
)
from codex_counsel.system.json_values import Json

MAX_LISTED = 500
"""Files named in `seed.json` that were left out of the tree."""
OWNER = "job"
"""The file in the scratch directory that names the job's directory, which may lie in another state directory."""
SEED = "seed.json"
SEED_PATCH = "seed.patch"


@dataclass(frozen=True)
class Baseline:
    """The tree as Codex finds it: the user's commit, the tree object, and what was left out with the reason.

    `submodules` are names in Latin-1.
    """

    shadow: Shadow
    head: str
    tree: str
    omitted: list[list[str]]
    submodules: list[str]


def set_up(
    details: Mapping[str, Json],
    scratch_path: str | os.PathLike[str],
    job_path: str | os.PathLike[str],
) -> None:
    """Make the working tree in the scratch directory and note in the job's directory what it was made of.

    Raises `worktree_failed`, or what git says of the user's repository; nothing is left
    of such a tree. Raises `storage_failed` where another user may write to the folder
    of the trees.
    """
    spec = DelegateSpec.parse(details["delegate"])
    scratch = Path(scratch_path)
    directory = Path(job_path)
    try:
        _make(spec, scratch, directory)
    except UnsafeDirectoryError as error:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"The folder of the working trees is not safe: {error}",
            repair="Mend the folder that the message names, or set XDG_CACHE_HOME to another one.",
        ) from None
    except OSError as error:
        _discard(spec, scratch, directory)
        raise CounselError(
            Code.WORKTREE_FAILED, f"The worktree cannot be made: {error.strerror}"
        ) from None
    except BaseException:
        _discard(spec, scratch, directory)
        raise


def _make(spec: DelegateSpec, scratch: Path, directory: Path) -> None:
    make_private(scratch.parent)
    scratch.mkdir(mode=0o700, exist_ok=True)
    # Written first: from now on a sweep knows whose tree this is.
    write_atomically(scratch / OWNER, os.fsencode(directory))

    repo = Repo.open(Path(spec.workspace), spec.git_timeout, env=os.environ)
    if spec.again:
        baseline = _from_earlier_job(repo, Path(spec.again), scratch)
    elif spec.seed:
        baseline = _from_seed(repo, Path(spec.seed), scratch)
    else:
        baseline = _from_workspace(repo, spec, scratch)

    shadow = baseline.shadow
    (scratch / "tmp").mkdir(mode=0o700, exist_ok=True)
    (shadow.tree / spec.prefix).mkdir(parents=True, exist_ok=True)
    shadow.assume_unchanged(os.fsencode(name) for name in spec.secrets)

    committed = tree_of(shadow, baseline.head)
    with contextlib.closing(
        shadow.diff(committed, baseline.tree, exact=True)
    ) as chunks:
        write_atomically(directory / SEED_PATCH, chunks)
    record = {
        "head": baseline.head,
        "base_tree": baseline.tree,
        "omitted": baseline.omitted[:MAX_LISTED],
        "submodules": baseline.submodules,
    }
    write_atomically(directory / SEED, json.dumps(record))


def _from_workspace(repo: Repo, spec: DelegateSpec, scratch: Path) -> Baseline:
    plan = seed.plan_seed(repo, map(Path, spec.denied))
    shadow = Shadow.create(repo, scratch, plan.head)
    tree = seed.populate(repo, plan, shadow)
    # `plan.omitted` is complete only now: `populate` adds unreadable files to it.
    omitted = [list(item) for item in plan.omitted]
    submodules = [name.decode("latin-1") for name in plan.submodules]
    return Baseline(shadow, plan.head, tree, omitted, submodules)


def _from_earlier_job(repo: Repo, earlier: Path, scratch: Path) -> Baseline:
    """The earlier job's baseline, with that job's diff applied on top as uncommitted work."""
    baseline = rebuilt(repo, earlier, scratch)
    shadow = baseline.shadow
    patch = (earlier / "diff.patch").read_bytes()
    tree = shadow.apply_to_tree(baseline.tree, patch)
    absent = seed.same_secrets(shadow, baseline.tree, tree)
    shadow.check_out(baseline.tree, tree, absent)
    return baseline


def _from_seed(repo: Repo, other: Path, scratch: Path) -> Baseline:
    """The baseline of the job that started this one."""
    baseline = rebuilt(repo, other, scratch)
    shadow = baseline.shadow
    absent = seed.same_secrets(shadow, baseline.tree, baseline.tree)
    shadow.check_out(baseline.tree, baseline.tree, absent)
    return baseline


def rebuilt(repo: Repo, other: Path, scratch: Path) -> Baseline:
    """The baseline of another job, of which `other` has `seed.json` and `seed.patch`, in a shadow with an empty tree.

    Raises `worktree_failed` where it cannot be made again, `unknown_ref` where its commit
    is gone, and OSError.
    """
    record = read_json(other / SEED)
    head, base_tree = str(record["head"]), str(record["base_tree"])
    resolve(repo, head)
    shadow = Shadow.create(repo, scratch, head)
    seed_patch = (other / SEED_PATCH).read_bytes()
    rebuilt_tree = shadow.apply_to_tree(tree_of(shadow, head), seed_patch)
    if rebuilt_tree != base_tree:
        raise CounselError(
            Code.WORKTREE_FAILED, "The earlier job's baseline cannot be made again"
        )
    omitted = list(record.get("omitted", ()))
    submodules = list(record.get("submodules", ()))
    return Baseline(shadow, head, base_tree, omitted, submodules)


def tree_of(shadow: Shadow, commit: str) -> str:
    """The id of the tree of a commit."""
    return shadow.git("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()


def _discard(spec: DelegateSpec, scratch: Path, directory: Path) -> None:
    for name in (SEED, SEED_PATCH):
        (directory / name).unlink(missing_ok=True)
    env = git_environment(os.environ, Path(spec.workspace))
    Shadow(scratch, spec.git_timeout, env).remove()
