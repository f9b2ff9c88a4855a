"""A file system that becomes larger, step by step, until what a case stores on it fits.

`failures` runs this module in a mount namespace of its own, with the arguments CASE, DIRECTORY
and FILE. It prints for each size the code and the repair of the error, and what was left; at
the end `["stored"]`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from codex_counsel.errors import CounselError
from codex_counsel.packs import repository as repositories
from codex_counsel.packs.foundation import make
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from tests.conftest import World
from tests.namespaces import NAMESPACE, skip_without_mounts

Case = Literal["make", "keep"]
"""`make`: the foundation of the workspace, as FILE. `keep`: the repository of the foundation FILE."""
STEP = 128
"""KiB."""


def failures(case: Case, world: World, file: Path) -> list[list[str]]:
    """The code, the repair and what was left, for each size that was too small."""
    skip_without_mounts(world.temp)
    arguments = (case, str(world.base), str(file))
    ran = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", __name__, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[list[str]]
    *found, last = json.loads(ran.stdout)
    assert last == ["stored"]
    assert len(found) > 3
    return found


def outcomes(case: str, world: World, file: Path) -> list[list[str]]:
    context = Context.of(world.env, world.workspace)
    if case == "make":
        workspace = workspaces.resolve(context, str(world.workspace))
        return _outcomes(file.parent, "*", lambda: make(context, workspace, file))
    cache = context.directories.cache
    cache.mkdir()
    left = "codex-counsel/packs/*/*"
    return _outcomes(cache, left, lambda: repositories.keep_foundation(context, file))


def _outcomes(disk: Path, left: str, store: Callable[[], object]) -> list[list[str]]:
    """`left` is the pattern of the paths on the disk that are named after a failure."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", disk], check=True)
    found = []
    for size in range(STEP, 100 * STEP, STEP):
        option = f"remount,size={size}k"
        subprocess.run(["mount", "-o", option, disk], check=True)
        try:
            store()
        except CounselError as error:
            names = [path.name for path in disk.glob(left)]
            found.append([error.code, str(error.repair), *names])
        else:
            return [*found, ["stored"]]
    return found


if __name__ == "__main__":
    _, case, directory, file = sys.argv
    print(json.dumps(outcomes(case, World(Path(directory)), Path(file))))
