"""Ends a process with all its descendants, also those in sessions of their own, and no other process.

Standard library without pathlib: the worker waits for this module before it starts
Codex.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PROC = "/proc"
PAUSE_SECONDS = 0.005
"""Between two rounds of killing: a process that forks meanwhile is caught in the next round."""


class Identity(NamedTuple):
    """Identifies one process even after its pid was reused: pid, start time (clock ticks since boot), boot id.

    Without /proc (macOS) the start time is in epoch seconds and the boot id "".
    """

    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The process that has this pid now; None if there is none. A zombie has an identity, too."""
        stat = _stat(pid)
        if stat is None:
            return None
        return cls(pid, stat.start, boot_id())

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        stat = _stat(self.pid)
        if stat is None or stat.is_dead():
            return False
        return stat.start == self.start and self.boot == boot_id()

    def stopped(self) -> bool:
        """Whether this very process is stopped, by SIGSTOP or a debugger."""
        stat = _stat(self.pid)
        return stat is not None and stat.state in "Tt" and self.alive()


class _Stat(NamedTuple):
    """A row of the process table. `state` is the letter that ps prints; `group` and `session` are pids of leaders."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start: int

    def is_dead(self) -> bool:
        return self.state in "ZX"


def boot_id() -> str:
    """Differs after each boot; "" on systems without /proc."""
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def become_subreaper() -> None:
    """Make this process the parent of its orphaned descendants (Linux).

    Elsewhere they become children of pid 1, and `sweep` finds them by session and
    group.
    """
    if _LIBC:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """In a new child, before exec: have it killed when the process `parent` dies (Linux)."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The parent may have died before the signal was set.
        if os.getppid() != parent:
            os._exit(127)


def descendants(pid: int) -> list[int]:
    """The pids of all living descendants, children before grandchildren."""
    return _descendants(pid, _living_processes())


def _descendants(pid: int, processes: list[_Stat]) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in processes:
        children.setdefault(stat.parent, []).append(stat.pid)
    result: list[int] = []
    queue = [pid]
    while queue:
        pids = children.get(queue.pop(0), [])
        result += pids
        queue += pids
    return result


def sweep(leader: int = 0, patience: float = 3.0) -> list[int]:
    """Kill and reap every descendant of this process; return the pids that are left after `patience` seconds.

    `leader` is a child that was reaped just now: what is left of its session and group
    counts as descendants.
    """

    def remaining() -> list[int]:
        _reap()
        processes = _living_processes()
        pids = _descendants(os.getpid(), processes)
        if leader:
            pids += [
                stat.pid for stat in processes if leader in (stat.session, stat.group)
            ]
        return list(dict.fromkeys(pids))

    return _kill_until_gone(remaining, patience)


def end_stray(
    codex: Identity | None, variables: tuple[str, ...], patience: float = 3.0
) -> list[int]:
    """Kill what a dead worker left behind; return the pids that are left after `patience` seconds.

    That is this Codex with its session and group, and every process that has one of
    `variables` (NAME=value) in its environment. Where Codex itself is gone, its session and
    group are not looked for: the system may have reused their number since.
    """
    if codex and codex.boot != boot_id():
        return []
    entries = {variable.encode() for variable in variables}
    # Waits for a process also when the leader of its session dies first.
    strays: set[Identity] = set()

    def remaining() -> list[int]:
        strays.update(_find_strays(codex, entries))
        return [stray.pid for stray in strays if stray.alive()]

    return _kill_until_gone(remaining, patience)


def _find_strays(codex: Identity | None, entries: set[bytes]) -> list[Identity]:
    boot = boot_id()
    leader = -1
    if codex and codex.alive():
        leader = codex.pid
    strays: list[Identity] = []
    for stat in _living_processes():
        if stat.pid == os.getpid():
            continue
        is_led = leader in (stat.pid, stat.session, stat.group)
        if is_led or entries & _environment(stat.pid):
            strays.append(Identity(stat.pid, stat.start, boot))
    return strays


def _kill_until_gone(remaining: Callable[[], list[int]], patience: float) -> list[int]:
    deadline = time.monotonic() + patience
    while True:
        pids = remaining()
        if not pids or time.monotonic() >= deadline:
            return pids
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)


def _reap() -> None:
    """Take the exit codes of all children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _environment(pid: int) -> set[bytes]:
    """The entries NAME=value that a process was started with; none where they cannot be read."""
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            return set(file.read().split(b"\0"))
    except OSError:
        return set()


def _living_processes() -> list[_Stat]:
    if not os.path.isdir(PROC):
        return _process_table()
    processes: list[_Stat] = []
    for name in os.listdir(PROC):
        if name.isdigit():
            stat = _stat(int(name))
            if stat and not stat.is_dead():
                processes.append(stat)
    return processes


def _stat(pid: int) -> _Stat | None:
    """One process, dead or alive; None if there is none."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            # The name in the second field may contain blanks and parentheses.
            fields = file.read().rpartition(b")")[2].split()
        return _Stat(
            pid,
            fields[0].decode(),
            int(fields[1]),
            int(fields[2]),
            int(fields[3]),
            int(fields[19]),
        )
    except (OSError, IndexError, ValueError):
        pass
    if not os.path.isdir(PROC):
        for stat in _process_table():
            if stat.pid == pid:
                return stat
    return None


def _process_table() -> list[_Stat]:
    """The living processes by `ps`, for systems without /proc (macOS). Start times are in whole seconds."""
    # Needed only where there is no /proc.
    import subprocess

    argv = ["ps", "-A", "-o", "pid=,ppid=,pgid=,sess=,stat=,lstart="]
    # With this process's PATH, to find ps, and TZ, the zone of the start times.
    env = {**os.environ, "LC_ALL": "C"}
    try:
        ps = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )
    except OSError:
        return []
    with ps:
        output = ps.communicate()[0].decode("utf-8", "replace")
    processes: list[_Stat] = []
    for line in output.splitlines():
        columns = line.split(None, 5)
        if len(columns) != 6:
            continue
        stat = _parse_row(columns)
        if stat.pid != ps.pid and not stat.is_dead():
            processes.append(stat)
    return processes


def _parse_row(columns: list[str]) -> _Stat:
    pid, parent, group, session, state, started = columns
    start = time.mktime(time.strptime(started.strip(), "%a %b %d %H:%M:%S %Y"))
    return _Stat(
        pid=int(pid),
        state=state[0],
        parent=int(parent),
        group=int(group),
        session=int(session) if session.isdigit() else 0,  # no number on some systems
        start=int(start),
    )
