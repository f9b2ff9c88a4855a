"""Several attempts, before they are started: the start that they have in common is made once.

The job directory has it then as `seed.json` and `seed.patch`, from which each attempt
makes its own tree. The tree here is for the check on the untouched start.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codex_counsel.delegate import set_up as delegate
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.system.files import remove_tree
from codex_counsel.system.json_values import Json


def set_up(details: Mapping[str, Json], scratch_path: str, job_path: str) -> None:
    """Make the start. Raises as `delegate.set_up`."""
    delegate.set_up(details, scratch_path, job_path)
    spec = DelegateSpec.parse(details["delegate"])
    if spec.check is None:
        remove_tree(Path(scratch_path, "tree"))
