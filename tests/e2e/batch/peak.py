"""The most memory that a process had: `python -m tests.e2e.batch.peak FILE VERB ...` runs codex-counsel, and writes it.

The maximum that the kernel gives to the parent of a process is also that of the parent, from before the program began.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Of this process, since its program began."""
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise LookupError("the kernel does not say it")


def main() -> None:
    target = Path(sys.argv.pop(1))
    try:
        runpy.run_module("codex_counsel", run_name="__main__", alter_sys=True)
    finally:
        target.write_text(str(peak_bytes()), "utf-8")


if __name__ == "__main__":
    main()
