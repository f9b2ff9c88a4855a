"""Run by `test_pack_repository` in a mount namespace of its own, with the arguments FILE and DIRECTORY.

The cache directory is a file system that becomes larger, step by step, until the repository
of the foundation FILE fits. Prints for each size the code of the error, and what was left.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from codex_counsel.errors import CounselError
from codex_counsel.packs import repository as packs
from codex_counsel.prepare.context import Context
from tests.conftest import World

STEP = 256
"""KiB."""


def outcomes(file: Path, world: World) -> list[list[str]]:
    """Code of the error and names of what is left, for each size; the last one is of the size that is enough."""
    context = Context.of(world.env, world.workspace)
    cache = context.directories.cache
    cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", cache], check=True)
    found = []
    for size in range(STEP, 100 * STEP, STEP):
        option = f"remount,size={size}k"
        subprocess.run(["mount", "-o", option, cache], check=True)
        try:
            packs.keep_foundation(context, file)
        except CounselError as error:
            left = [str(path.name) for path in cache.glob("codex-counsel/packs/*/*")]
            found.append([error.code, *left])
        else:
            return [*found, ["made"]]
    return found


print(json.dumps(outcomes(Path(sys.argv[1]), World(Path(sys.argv[2])))))
