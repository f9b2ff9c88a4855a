"""Namespaces in which a test mounts file systems that nobody else sees."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
"""What stands before a command to have it run in one."""


def skip_without_mounts(directory: Path) -> None:
    """Skip the test where this machine lets nobody mount a file system without privileges."""
    mount = ("mount", "-t", "tmpfs", "none", str(directory))
    tried = subprocess.run([*NAMESPACE, *mount], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("this machine mounts no file system without privileges")
