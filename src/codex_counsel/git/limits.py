"""Limits for a process of git that reads what comes from elsewhere."""

from __future__ import annotations

MAX_BYTES = 4_000_000_000
"""Of one file, such as a pack that is received."""
MAX_MEMORY = 4_000_000_000
"""Bytes that each process may allocate: a pack of few bytes can hold an object of many."""
BLOCK = 512
"""Bytes in which a shell counts the size of a file."""
KIBIBYTE = 1024
"""Bytes in which it counts memory."""
_SHELL = """
ulimit -f "$0" || exit
ulimit -d "$1" 2>/dev/null
shift
exec 3<&0 </dev/null
{ read -r _ <&3; kill -9 0; } >/dev/null 2>&1 &
watcher=$!
"$@" 3<&-
code=$?
kill "$watcher"
exit "$code"
"""


def limited(*command: str) -> list[str]:
    """The argv that runs a command with limits to its files and memory, and ends it when standard input ends.

    With it ends its process group: where a hub is silent, git and its helpers would
    outlive the process that waits for them. The command itself reads nothing from standard
    input. Not every system limits memory; what files are mapped does not count.
    """
    limits = (str(MAX_BYTES // BLOCK), str(MAX_MEMORY // KIBIBYTE))
    return ["/bin/sh", "-c", _SHELL, *limits, *command]
