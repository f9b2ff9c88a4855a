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
    session: int
    start: int


def boot_id() -> str:
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def become_subreaper() -> None:
    """Have orphaned descendants handed to this process (Linux; elsewhere sweeping goes by session and group only)."""
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
    children: dict[int, list[int]] = {}
    for stat in _processes():
        children.setdefault(stat.parent, []).append(stat.pid)
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def sweep(patience: float = 3.0) -> list[int]:
    """Kill and reap every descendant of this process; return the pids that survived."""
    deadline = time.monotonic() + patience
    while True:
        _reap()
        left = descendants(os.getpid())
        if not left or time.monotonic() > deadline:
            return left
        for pid in left:
            _kill(pid)
        time.sleep(0.005)


def end_stray(codex: Identity | None, marker: str) -> None:
    """End what a killed worker left: Codex itself, its session, and whatever carries `marker` in its environment."""
    if not codex or codex.boot != boot_id():
        return
    for stat in _processes():
        ours = stat.session == codex.pid or stat.pid == codex.pid
        if (ours and stat.start >= codex.start) or _carries(stat.pid, marker):
            _kill(stat.pid)


def _carries(pid: int, marker: str) -> bool:
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            return marker.encode() in file.read().split(b"\0")
    except OSError:
        return False


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
        return _Stat(pid, rest[0].decode(), int(rest[1]), int(rest[3]), int(rest[19]))
    except (OSError, IndexError, ValueError):
        return None if os.path.isdir(PROC) else next((stat for stat in _from_ps() if stat.pid == pid), None)


def _from_ps() -> list[_Stat]:
    """Systems without /proc (macOS): start times in whole seconds."""
    import subprocess

    asked = ["ps", "-A", "-o", "pid=,ppid=,sess=,stat=,lstart="]
    lines = subprocess.run(asked, capture_output=True, text=True, check=False, encoding="utf-8").stdout.splitlines()
    rows = [line.split(None, 4) for line in lines]
    return [_Stat(int(r[0]), r[3][0], int(r[1]), _number(r[2]), _started(r[4])) for r in rows if len(r) == 5]


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _started(text: str) -> int:
    return int(time.mktime(time.strptime(text.strip(), "%a %b %d %H:%M:%S %Y")))
