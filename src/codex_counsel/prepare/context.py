"""What every service needs to know of its caller: environment, directory, settings. It never changes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex.probe import ProbeCache
from codex_counsel.contract import settings as settings_module
from codex_counsel.contract.settings import Settings
from codex_counsel.prepare.directories import Directories
from codex_counsel.system.json_values import JsonObject

if TYPE_CHECKING:
    from codex_counsel.prepare.workspace import ResolvedWorkspace


@dataclass
class Memory:
    """What is looked at once for many requests of one batch, instead of once for each.

    `workspaces` by the directories that were named, and `commits` that are there, each
    with the directory of its repository.
    """

    workspaces: dict[str, ResolvedWorkspace] = field(default_factory=dict)
    commits: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True)
class Context:
    """One environment and one working directory, with what follows from them.

    `pull` is the pull request of a request that came with its commits, as
    `review/pull_request.py` writes it: then nothing is fetched. `memory` is for packing
    and taking alone: a run of this machine must find what is secret at its start.
    """

    env: Mapping[str, str]
    cwd: Path
    settings: Settings
    directories: Directories
    probes: ProbeCache
    pull: JsonObject | None = None
    memory: Memory | None = None

    @classmethod
    def of(
        cls,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        settings: Settings | None = None,
    ) -> Context:
        """The context of this process, but for what is passed."""
        environment = _with_absolute_homes(os.environ if env is None else env)
        loaded = settings or settings_module.load(environment)
        return cls(
            env=environment,
            cwd=cwd or _working_directory(),
            settings=loaded,
            directories=Directories.of(environment, loaded.state),
            probes=ProbeCache(loaded.state / "probes.json"),
        )


def _with_absolute_homes(env: Mapping[str, str]) -> dict[str, str]:
    """A copy in which relative homes are absolute: Codex and git run in other directories than this process."""
    environment = dict(env)
    for name in ("HOME", "CODEX_HOME"):
        value = environment.get(name)
        if value and not Path(value).is_absolute():
            with contextlib.suppress(OSError):
                environment[name] = str(Path(value).absolute())
    return environment


def _working_directory() -> Path:
    """The current directory; for one that was deleted, a path that no run can use."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/the working directory, which was deleted")
