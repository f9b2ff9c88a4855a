"""What codex-counsel keeps outside its own installation: the results of its runs, and what it can make again."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.contract.request import JobCancel
from codex_counsel.contract.settings import Settings, default_state_dir
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.jobs.store import Store
from codex_counsel.prepare.directories import Directories
from codex_counsel.services import results

STATE_ENTRIES = (
    "jobs",
    "keys",
    "gone",
    "threads",
    "consumed",
    "queue",
    "applying",
    "limits",
    "gate",
    "evicted",
    "clock.json",
    "probes.json",
)
"""What is ours in a state directory that the user chose, and that may hold other things."""
PLUGIN_FOLDERS = ("codex-codex-counsel", "codex-inline")
"""The plugin's data folders: installed from the marketplace, and with --plugin-dir."""
ENVIRONMENT_MARK = "in-use"
"""A file in each environment of the plugin; a server that runs in it holds its lock."""


@dataclass(frozen=True)
class Belonging:
    """A file or directory of ours. `path` may be a link."""

    path: Path
    what: str
    is_result: bool = False

    def size(self) -> int:
        """Bytes, without what cannot be read."""
        return sum(_size(path) for path in _walk(self.path.resolve()))

    def remove(self) -> None:
        """Raises OSError."""
        target = self.path.resolve()
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        if self.path.is_symlink():
            self.path.unlink()


def belongings(settings: Settings, env: Mapping[str, str]) -> list[Belonging]:
    """All that exists of ours."""
    cache = Directories.of(env, settings.state).cache / "codex-counsel"
    found = [
        *_state(settings.state),
        Belonging(cache, "copies of repositories that delegates work in, environments"),
        *_plugin_environments(env),
    ]
    return [belonging for belonging in found if os.path.lexists(belonging.path)]


def unfinished(store: Store) -> list[str]:
    """The ids of the runs that wait or run."""
    return [
        row["job_id"]
        for row in store.rows()
        if row["status"] not in TERMINAL and "error" not in row
    ]


def end_run(store: Store, job_id: str) -> None:
    """Returns when nothing of the run lives. Raises what `codex_job_cancel` does."""
    results.cancel(store, JobCancel(job_id=job_id))


def environments_in_use(found: list[Belonging]) -> list[Path]:
    """The environments that a server of a Claude Code session runs in at this moment."""
    in_use = []
    for belonging in found:
        for mark in belonging.path.glob(f"venv-*/{ENVIRONMENT_MARK}"):
            if _is_locked(mark):
                in_use.append(mark.parent)
        if _is_locked(belonging.path / ENVIRONMENT_MARK):
            in_use.append(belonging.path)
    return in_use


def _state(state: Path) -> list[Belonging]:
    what = "results of runs, with prompts and diffs; limits"
    if state == default_state_dir():
        return [Belonging(state, what, is_result=True)]
    return [Belonging(state / name, what, is_result=True) for name in STATE_ENTRIES]


def _plugin_environments(env: Mapping[str, str]) -> Iterator[Belonging]:
    home = env.get("HOME") or "/nonexistent"
    config = Path(env.get("CLAUDE_CONFIG_DIR") or Path(home, ".claude"))
    for folder in PLUGIN_FOLDERS:
        data = config / "plugins/data" / folder
        for pattern in ("venv-*", "draft-venv-*", "build.lock"):
            for path in sorted(data.glob(pattern)):
                yield Belonging(path, "the plugin's server")


def _is_locked(mark: Path) -> bool:
    try:
        descriptor = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _walk(root: Path) -> Iterator[Path]:
    yield root
    for directory, _, files in os.walk(root):
        for name in files:
            yield Path(directory, name)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
