"""What codex-counsel keeps outside its own installation: the results of its runs, and what it can make again."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.contract.request import JobCancel
from codex_counsel.contract.settings import Settings, default_state_dir
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.delegate.apply import APPLYING, sweep_applying
from codex_counsel.jobs.store import Store
from codex_counsel.prepare.directories import Directories
from codex_counsel.services import results
from codex_counsel.system.tree_walk import remove_tree

STATE_ENTRIES = (
    "jobs",
    "keys",
    "gone",
    "threads",
    "sessions",
    "consumed",
    "queue",
    "applying",
    "limits",
    "windows",
    "usage",
    "findings",
    "pulls",
    "sender",
    "sent",
    "fleet",
    "gate",
    "pages",
    "evicted",
    "clock.json",
    "probes.json",
)
"""What is ours in a state directory that the user chose, and that may hold other things."""
PLUGIN_FOLDERS = ("codex-codex-counsel", "codex-inline")
"""The plugin's data folders: installed from the marketplace, and with --plugin-dir."""
ENVIRONMENT_MARK = "in-use"
"""A file in each environment of the plugin; a server that runs in it holds its lock."""
CACHE_ENTRIES = ("trees", "packs", "venv-*", "draft-venv-*", "build.lock")
"""What is ours in a cache directory that is a link or a mount point, and may hold other things."""


@dataclass(frozen=True)
class Belonging:
    """A file or directory of ours. What a link leads to is not."""

    path: Path
    what: str
    is_result: bool = False

    def size(self) -> int:
        """Bytes, without what cannot be read."""
        return sum(_size(path) for path in _walk(self.path))

    def remove(self) -> bool:
        """Returns whether it is gone, with all that runs made in it. Never raises."""
        return remove_tree(self.path, float("inf"))


def belongings(settings: Settings, env: Mapping[str, str]) -> list[Belonging]:
    """All that exists of ours."""
    cache = Directories.of(env, settings.state).cache / "codex-counsel"
    found = [*_state(settings.state), *_cache(cache), *_plugin_environments(env)]
    return [belonging for belonging in found if os.path.lexists(belonging.path)]


def not_made_here(state: Path) -> list[Path]:
    """What has the name of an entry of ours in a state directory that the user chose, and is not ours."""
    if _is_whole(state):
        return []
    paths = [state / name for name in STATE_ENTRIES]
    return [path for path in paths if os.path.lexists(path) and not _is_private(path)]


def unfinished(store: Store) -> list[str]:
    """The ids of the runs that wait or run."""
    return [
        row["job_id"]
        for row in store.rows()
        if row["status"] not in TERMINAL and "error" not in row
    ]


def end_runs(store: Store) -> None:
    """End every run, and leave no draft of a killed apply in a user's tree. Raises what `codex_job_cancel` does."""
    for job_id in unfinished(store):
        results.cancel(store, JobCancel(job_id=job_id))
    # Without the records nobody knows which files are drafts of ours.
    sweep_applying(store.state)


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


def half_applied(state: Path) -> list[str]:
    """The ids of jobs whose diff is in a tree in part: their records are needed to finish it, or to take it back."""
    return sorted(path.stem for path in (state / APPLYING).glob("*.json"))


def _state(state: Path) -> list[Belonging]:
    what = "results of runs, with prompts and diffs; findings on record; limits"
    if _is_whole(state):
        return [Belonging(state, what, is_result=True)]
    found = []
    for name in STATE_ENTRIES:
        if _is_private(state / name):
            found.append(Belonging(state / name, what, is_result=True))
    return found


def _is_whole(state: Path) -> bool:
    """Whether all of the directory is ours: the user did not choose it."""
    return state == default_state_dir() and not _is_elsewhere(state)


def _is_elsewhere(path: Path) -> bool:
    """Whether a link or a mount point leads to a directory that the user chose."""
    return path.is_symlink() or path.is_mount()


def _is_private(path: Path) -> bool:
    """Whether it is this user's, no link, and closed to others, as all is that we make."""
    try:
        status = path.lstat()
    except OSError:
        return False
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid():
        return False
    return not status.st_mode & 0o077


def _cache(cache: Path) -> list[Belonging]:
    what = "copies of repositories that delegates work in, environments"
    if not _is_elsewhere(cache):
        return [Belonging(cache, what)]
    found = []
    for pattern in CACHE_ENTRIES:
        found += [Belonging(path, what) for path in sorted(cache.glob(pattern))]
    return found


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
        # An exclusive lock needs write access on network file systems.
        descriptor = os.open(mark, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # A file system without locks: nobody can tell.
        return False
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
