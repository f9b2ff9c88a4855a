"""The process that drops old records: `python -I -S evictor.py STATE TTL MAX_RECORDS`.

It runs by path and without site-packages. A worker starts it at its end, so that neither
a caller nor the next run waits for it, and imports this module, which therefore uses the
standard library only. The time of change of
`<state>/evicted` is that of the last start, its text how many seconds the work took.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

if __name__ == "__main__":
    sys.path.insert(
        0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    )

from codex_counsel.system.files import write_atomically

INTERVAL = 60
"""Seconds between two starts, for all processes together."""
SHARE = 100
"""The next start comes after so many times the seconds that the last work took."""
LOWEST_PRIORITY = 19
OWN_VARIABLES = ("CODEX_COUNSEL_JOB", "TMPDIR")
"""What a process of a run is known by; this one is of none."""


def start_if_due(state: str, ttl: int, max_records: int) -> None:
    """Start the process, unless that was done a short time ago. Never raises."""
    if not is_due(state):
        return
    with contextlib.suppress(OSError):
        _note(state, 0.0)
        env = {
            name: value
            for name, value in os.environ.items()
            if name not in OWN_VARIABLES
        }
        subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, state, str(ttl), str(max_records)],
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def is_due(state: str) -> bool:
    """Whether old records are to be looked for now."""
    marker = f"{state}/evicted"
    try:
        age = time.time() - os.stat(marker).st_mtime
        with open(marker, encoding="ascii") as file:
            last_took = float(file.read(40))
    except (OSError, ValueError):
        return True
    # A negative age is that of a marker from before the clock was set back.
    return not 0 <= age < max(INTERVAL, SHARE * last_took)


def _note(state: str, took: float) -> None:
    write_atomically(f"{state}/evicted", repr(took))


def main(state: str, ttl: int, max_records: int) -> None:
    """Drop what need not be kept any more. Raises OSError."""
    os.nice(LOWEST_PRIORITY)
    # The worker imports this module, and needs neither of these.
    from pathlib import Path

    from codex_counsel.jobs import retention
    from codex_counsel.jobs.store import Store

    begin = time.monotonic()
    retention.evict(Store(Path(state)), ttl, max_records)
    _note(state, time.monotonic() - begin)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
