"""One git process, which ends with its whole process group, and the git program itself."""

from __future__ import annotations

import re
import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.git.hardening import environment
from codex_counsel.system.child import Child, ChildTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codex_counsel.git.hardening import GitEnvironment

TIMEOUT = 60.0
"""Seconds that one git process may take where the caller does not say."""
OLDEST = (2, 31)
"""The first git that takes configuration from `GIT_CONFIG_COUNT`, which all of `hardening` depends on."""


GitTimeout = ChildTimeout
"""The process did not finish within its time."""
_CANNOT_WRITE = ("No space left", "quota exceeded", "unable to write", "Read-only file")


class GitProcess(Child):
    """One process of git, in an environment that `hardening.environment` made."""

    def __init__(
        self,
        argv: Sequence[str | bytes],
        env: GitEnvironment,
        cwd: Path,
        timeout: float,
        stdin: bytes = b"",
        *,
        lifeline: bool = False,
    ) -> None:
        super().__init__(argv, env, cwd, timeout, stdin, lifeline=lifeline)


def cannot_write(message: str) -> bool:
    """Whether git says that it cannot write. Of a file of the working tree it does not say why."""
    return any(words in message for words in _CANNOT_WRITE)


def find_git(env: GitEnvironment) -> str:
    """The git program on the PATH of `env`. Raises `not_a_git_repo` without one, `workspace_invalid` if too old."""
    path = shutil.which("git", path=env["PATH"])
    if path is None:
        raise CounselError(
            Code.NOT_A_GIT_REPO,
            "Git is not installed, or is on PATH only inside the project, whose programs are not run.",
            repair="Install git outside the project and call again.",
        )
    return _checked_version(str(Path(path).absolute()))


@lru_cache(maxsize=8)
def _checked_version(path: str) -> str:
    """The path itself, after its version was checked once."""
    env = environment({}, {}, Path("/"))
    with GitProcess([path, "version"], env, Path("/"), TIMEOUT) as process:
        output = b"".join(process.chunks()).decode(errors="replace")
    numbers = re.search(r"(\d+)\.(\d+)", output)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CounselError(
            Code.WORKSPACE_INVALID,
            f"{path} is {output.strip()}; git {oldest} or newer is needed.",
            repair="Update git.",
        )
    return path
