"""What no test of this directory may do."""

from __future__ import annotations

import os
import subprocess

import pytest


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a process: it belongs to tests/git or tests/e2e."""

    def refuse(*args: object, **options: object) -> None:
        pytest.fail("tests/unit starts no process", pytrace=True)

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
        monkeypatch.setattr(os, name, refuse)
