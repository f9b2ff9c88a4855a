"""Before Codex starts on a review with proofs: the reviewed state is stored, so that each proof starts from it.

In the job directory: `seed.json` and `seed.patch`, as a delegated task has them. Where
the state cannot be stored, `proofs.json` says why, and nothing is proven: the review
itself needs none of this.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.delegate import seed
from codex_counsel.delegate.set_up import MAX_LISTED, OWNER, SEED, SEED_PATCH
from codex_counsel.delegate.shadow import Shadow
from codex_counsel.errors import CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.kind import TEMPORARY
from codex_counsel.proof.record import Assignments
from codex_counsel.review.record import ReviewRecord
from codex_counsel.system.files import make_private, remove_tree, write_atomically
from codex_counsel.system.json_values import Json

SHADOW = "seed"
"""The directory in the scratch directory in which the state is put together; removed at once."""


@dataclass(frozen=True)
class _State:
    """The reviewed state as a tree object of the shadow, on top of a commit. `submodules` are names in Latin-1."""

    shadow: Shadow
    head: str
    tree: str
    omitted: list[list[str]]
    submodules: list[str]


def set_up(details: Mapping[str, Json], scratch_path: str, job_path: str) -> None:
    """Make the private directory and store the reviewed state. Raises OSError where the directory cannot be made."""
    scratch, directory = Path(scratch_path), Path(job_path)
    make_private(scratch.parent)
    scratch.mkdir(mode=0o700, exist_ok=True)
    # Written first: from now on a sweep knows whose directory this is.
    write_atomically(scratch / OWNER, os.fsencode(directory))
    (scratch / TEMPORARY).mkdir(mode=0o700, exist_ok=True)
    record = ReviewRecord.from_json(details["review"])
    reason = ""
    try:
        reason = _store(record, scratch, directory)
    except (CounselError, OSError) as error:
        reason = f"the reviewed state could not be stored: {error}"
    finally:
        remove_tree(scratch / SHADOW)
    if reason:
        Assignments(notes=[f"nothing was proven: {reason}"]).store(directory)


def _store(record: ReviewRecord, scratch: Path, directory: Path) -> str:
    """Returns why nothing is stored, or empty. Raises CounselError and OSError."""
    repo = record.repository(os.environ)
    state = _reviewed_state(repo, record, scratch / SHADOW)
    is_of_commit = record.changes().comparison.state == "commit"
    if not is_of_commit and record.changes().moved(repo):
        return "the files changed before the review began"

    shadow = state.shadow
    committed = _tree_of(shadow, state.head)
    with contextlib.closing(shadow.diff(committed, state.tree, exact=True)) as chunks:
        write_atomically(directory / SEED_PATCH, chunks)
    row = {
        "head": state.head,
        "base_tree": state.tree,
        "omitted": state.omitted[:MAX_LISTED],
        "submodules": state.submodules,
    }
    write_atomically(directory / SEED, json.dumps(row))
    return ""


def _reviewed_state(repo: Repo, record: ReviewRecord, base: Path) -> _State:
    comparison = record.changes().comparison
    if comparison.state == "commit" and comparison.head:
        shadow = Shadow.create(repo, base, comparison.head)
        tree = _tree_of(shadow, comparison.head)
        return _State(shadow, comparison.head, tree, [], [])

    denied = [Path(path) for path in record.denied]
    plan = seed.plan_seed(repo, denied)
    shadow = Shadow.create(repo, base, plan.head)
    if comparison.state == "index":
        seed.fill_index(plan, shadow)
        return _State(shadow, plan.head, shadow.write_tree(), [], [])
    tree = seed.populate(repo, plan, shadow)
    # `plan.omitted` is complete only now: `populate` adds unreadable files to it.
    omitted = [list(item) for item in plan.omitted]
    submodules = [name.decode("latin-1") for name in plan.submodules]
    return _State(shadow, plan.head, tree, omitted, submodules)


def _tree_of(shadow: Shadow, commit: str) -> str:
    return shadow.git("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()
