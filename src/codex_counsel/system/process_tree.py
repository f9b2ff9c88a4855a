"""Ending a process tree, descendants in sessions of their own included, and never a stranger.

Imports little, and no pathlib: the worker waits for it before it starts Codex.
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

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PROC = "/proc"


class Identity(NamedTuple):
    """A process as no other can be: pid, start time in clock ticks, boot."""

    pid: int
    start: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        stat = _stat(pid)
        return cls(pid, stat.start, boot_id()) if stat else None

    def alive(self) -> bool:
        stat = _stat(self.pid)
        return bool(stat and stat.start == self.start and stat.state not in "ZX" and self.boot == boot_id())


class _Stat(NamedTuple):
    pid: int
    state: str
    parent: int
    group: int
    session: int
    start: int


def boot_id() -> str:
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def become_subreaper() -> None:
    """Have orphaned descendants handed to this process (Linux; elsewhere sweeping finds them by session and group)."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with(parent: int) -> None:
    """In a fresh child: be killed when `parent` dies, also if it died just now."""
    if _LIBC:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(127)


def descendants(pid: int) -> list[int]:
    """Every living descendant of `pid`, children before grandchildren."""
    return _below(pid, _processes())


def _below(pid: int, processes: list[_Stat]) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in processes:
        children.setdefault(stat.parent, []).append(stat.pid)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def sweep(leader: int = 0, patience: float = 3.0) -> list[int]:
    """Kill and reap every descendant of this process; return the pids that survived.

    `leader` was reaped just now: what is left of its session and group belongs to them.
    """
    return _end(lambda: _own(leader), patience)


def _own(leader: int) -> list[int]:
    _reap()
    processes = _processes()
    left = [stat.pid for stat in processes if leader and leader in (stat.session, stat.group)]
    return list(dict.fromkeys([*_below(os.getpid(), processes), *left]))


def _end(find: Callable[[], list[int]], patience: float) -> list[int]:
    deadline = time.monotonic() + patience
    while (left := find()) and time.monotonic() < deadline:
        for pid in left:
            _kill(pid)
        time.sleep(0.005)
    return left


def end_stray(codex: Identity | None, marks: tuple[str, ...], patience: float = 3.0) -> list[int]:
    """End what a killed worker left; return the pids that survived.

    That is this very Codex with its session and group, and whatever carries one of `marks` in its environment. A
    session whose leader is gone says nothing: its number may be a stranger's by now.
    """
    if codex and codex.boot != boot_id():
        return []
    wanted = {mark.encode() for mark in marks}
    found: set[Identity] = set()  # who was found once is waited for, also when the leader has died first

    def left() -> list[int]:
        found.update(_strays(codex, wanted))
        return [identity.pid for identity in found if identity.alive()]

    return _end(left, patience)


def _strays(codex: Identity | None, marks: set[bytes]) -> list[Identity]:
    leader, boot = codex.pid if codex and codex.alive() else -1, boot_id()
    others = [stat for stat in _processes() if stat.pid != os.getpid()]
    ours = [s for s in others if leader in (s.pid, s.session, s.group) or marks & _environment(s.pid)]
    return [Identity(stat.pid, stat.start, boot) for stat in ours]


def _environment(pid: int) -> set[bytes]:
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            return set(file.read().split(b"\0"))
    except OSError:
        return set()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _processes() -> list[_Stat]:
    if not os.path.isdir(PROC):
        return _from_ps()
    pids = (int(name) for name in os.listdir(PROC) if name.isdigit())
    return [stat for pid in pids if (stat := _stat(pid)) and stat.state not in "ZX"]


def _stat(pid: int) -> _Stat | None:
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:  # called for every process of the machine
            rest = file.read().rpartition(b")")[2].split()
        return _Stat(pid, rest[0].decode(), int(rest[1]), int(rest[2]), int(rest[3]), int(rest[19]))
    except (OSError, IndexError, ValueError):
        return None if os.path.isdir(PROC) else next((stat for stat in _from_ps() if stat.pid == pid), None)


def _from_ps() -> list[_Stat]:
    """Systems without /proc (macOS): start times in whole seconds. The `ps` that tells is not among them."""
    import subprocess

    asked = ["ps", "-A", "-o", "pid=,ppid=,pgid=,sess=,stat=,lstart="]
    try:
        ps = subprocess.Popen(
            asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError:
        return []
    with ps:
        rows = [line.split(None, 5) for line in ps.communicate()[0].decode("utf-8", "replace").splitlines()]
    stats = [_from_row(row) for row in rows if len(row) == 6 and row[0] != str(ps.pid)]
    return [stat for stat in stats if stat.state not in "ZX"]


def _from_row(row: list[str]) -> _Stat:
    pid, parent, group, session, state, started = row
    return _Stat(int(pid), state[0], int(parent), int(group), _number(session), _started(started))


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _started(text: str) -> int:
    return int(time.mktime(time.strptime(text.strip(), "%a %b %d %H:%M:%S %Y")))
