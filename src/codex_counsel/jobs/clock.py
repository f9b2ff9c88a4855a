"""A second clock for the age of records: the seconds that this machine was on, counted across boots.

The wall clock can be set wrong, and a record is dropped only when it is old by both. The
count never runs faster than time does: a machine that is off adds nothing.
`<state>/clock.json` holds the count, and when it was taken: boot id, seconds since boot
and wall clock. Without the file the count begins at 0.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from codex_counsel.system.files import (
    read_json_or_none,
    read_regular,
    write_atomically,
)
from codex_counsel.system.process_tree import boot_id

MAX_BYTES = 40
"""Of a stamp."""


def running_seconds(state: Path) -> float:
    """The count now, in seconds."""
    match read_json_or_none(_file(state)):
        case {
            "count": int() | float() as count,
            "boot": str(boot),
            "since_boot": int() | float() as since_boot,
            "wall": int() | float() as wall,
        }:
            pass
        case _:
            return 0.0

    now = _since_boot()
    if boot == boot_id() and now >= since_boot:
        return count + now - since_boot
    # After another boot at least the time since that boot has passed, unless the state
    # directory is shared with a machine that was booted at another time.
    passed = min(now, time.time() - wall)
    return count + max(passed, 0.0)


def advance(state: Path) -> None:
    """Store the count, so that a reboot costs only what comes after this."""
    taken = {
        "count": running_seconds(state),
        "boot": boot_id(),
        "since_boot": _since_boot(),
        "wall": time.time(),
    }
    with contextlib.suppress(OSError):
        write_atomically(_file(state), json.dumps(taken))


def stamp(path: Path, state: Path) -> None:
    """Write the count into the file `path`. Raises OSError."""
    write_atomically(path, repr(running_seconds(state)))


def age(path: Path, state: Path) -> float:
    """Seconds since the file was stamped, by the clock that shows less; a file without a stamp gets one now.

    Raises OSError where there is no file, or none can be written.
    """
    wall = time.time() - path.stat().st_mtime
    now = running_seconds(state)
    try:
        # A FIFO is not waited for.
        stamped = float(read_regular(path, MAX_BYTES) or b"")
    except ValueError:
        stamp(path, state)
        return 0.0
    if stamped > now:  # the count began anew since
        stamped = 0.0
    if wall < 0:  # the wall clock was set back since, and tells nothing
        return now - stamped
    return min(wall, now - stamped)


def _file(state: Path) -> Path:
    return state / "clock.json"


def _since_boot() -> float:
    """Seconds since boot, with those of sleep where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
