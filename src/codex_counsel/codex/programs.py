"""The programs of the project's virtual environment, as commands find them on their PATH. Standard library.

Codex's sandbox helper looks for `bwrap` on the PATH of the command, and runs it outside
the sandbox (0.148 to 0.169). So the environment's own directory, which others may have
filled, is never on that PATH. A private directory stands for it, which no command can
write to, and which has these names alone.
"""

from __future__ import annotations

import os

DIRECTORY = "bin"
"""The directory, in the private one of the run."""
NAMES = ("python", "python3", "pytest", "coverage", "mypy", "ruff")
"""What Codex itself never runs."""


def make(directory: str, environment: str, codex: str) -> None:
    """Make the directory, with a script for each of these programs that the virtual environment has.

    `apply_patch` is Codex's own: a PATH that is set for commands lacks it.
    """
    os.mkdir(directory, 0o700)
    os.symlink(codex, f"{directory}/apply_patch")
    for name in NAMES:
        program = f"{environment}/bin/{name}"
        if not os.path.lexists(program):
            continue
        # By a link to it, Python would not find its environment.
        quoted = program.replace("'", "'\\''")
        script = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT, 0o700)
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nexec '{quoted}' \"$@\"\n")
