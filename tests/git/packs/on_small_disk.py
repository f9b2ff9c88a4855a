"""Run by `test_foundation` in a mount namespace of its own, with the arguments WORLD and TARGET.

The directory of the target is a file system that becomes larger, step by step, until the
foundation of the world's workspace fits. Prints for each size the code and the repair of the
error, and what was left.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from codex_counsel.errors import CounselError
from codex_counsel.packs.foundation import make
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from tests.conftest import World

STEP = 128
"""KiB."""


def outcomes(world: World, target: Path) -> list[list[str]]:
    """For each size; the last one is of the size that is enough."""
    context = Context.of(world.env, world.workspace)
    workspace = workspaces.resolve(context, str(world.workspace))
    disk = target.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", disk], check=True)
    found = []
    for size in range(STEP, 100 * STEP, STEP):
        option = f"remount,size={size}k"
        subprocess.run(["mount", "-o", option, disk], check=True)
        try:
            make(context, workspace, target)
        except CounselError as error:
            left = [path.name for path in disk.iterdir()]
            found.append([error.code, str(error.repair), *left])
        else:
            return [*found, ["made"]]
    return found


print(json.dumps(outcomes(World(Path(sys.argv[1])), Path(sys.argv[2]))))
