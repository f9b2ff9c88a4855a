"""Environments from the lock file: `venv-<hash>`, built under another name, in use as long as their lock is held."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

MARK = "in-use"
KEEP_SECONDS = 86_400
"""A run in the background outlives its server, but at most two hours."""
BUILD_SECONDS = 1_800
"""Later starts wait for the lock of this one."""
MISLEADING = (
    "VIRTUAL_ENV",
    "UV_PYTHON",
    "UV_PROJECT",
    "UV_LOCKED",
    "UV_FROZEN",
    "UV_NO_SYNC",
    "UV_WORKING_DIRECTORY",
)


def path(root: Path, home: Path) -> Path:
    """Where the environment for this code and this Python is, or will be."""
    digest = hashlib.sha256(f"{sys.version}\0{sys.base_prefix}".encode())
    sources = sorted(
        file
        for file in (root / "src").rglob("*")
        # Beside compiled files, there are for a moment those that become one.
        if "__pycache__" not in file.parts and file.suffix != ".pyc" and file.is_file()
    )
    for file in (root / "uv.lock", root / "pyproject.toml", *sources):
        if not file.is_file():
            continue
        digest.update(
            f"\0{file.relative_to(root)}\0".encode("utf-8", "surrogateescape")
        )
        digest.update(file.read_bytes())
    return home / f"venv-{digest.hexdigest()[:16]}"


def hold(wanted: Path) -> bool:
    """Whether it is there; then it stays, for as long as this process, or what it becomes, lives."""
    try:
        descriptor = os.open(wanted / MARK, os.O_RDONLY)
    except OSError:
        return False
    # It may have been made by somebody else, on a disk that takes no writes.
    with contextlib.suppress(OSError):
        os.utime(descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.set_inheritable(descriptor, True)
    return (wanted / "bin" / "python").exists()


def build(root: Path, home: Path) -> None:
    """Make it, unless a session that started at the same time was faster. Raises what uv refused."""
    wanted = path(root, home)
    with (home / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (wanted / MARK).exists() and (wanted / "bin" / "python").exists():
            return
        for left in (wanted, *home.glob("draft-*")):
            shutil.rmtree(left, ignore_errors=True)
        draft = home / f"draft-{wanted.name}"
        try:
            _run(_sync(root), _environment(draft))
        except SystemExit:
            # On a full disk it would be in the way of everything else.
            shutil.rmtree(draft, ignore_errors=True)
            raise
        (draft / MARK).touch()
        draft.rename(wanted)
        _drop_old(home)


def _run(argv: list[str], env: dict[str, str]) -> None:
    """Run uv; exit with its code if it fails."""
    try:
        done = subprocess.run(argv, env=env, check=False, timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        sys.exit(f"uv did not end within {BUILD_SECONDS} seconds")
    if done.returncode:
        sys.exit(done.returncode)


def find_uv() -> str | None:
    """The uv that runs this, or else that on PATH."""
    return os.environ.get("UV") or shutil.which("uv")


def _sync(root: Path) -> list[str]:
    uv = find_uv() or sys.exit("there is no `uv` on PATH")
    python = os.path.realpath(sys.executable)
    what = [
        "--frozen",
        "--no-dev",
        "--no-editable",
        "--compile-bytecode",
        "--reinstall-package",
        "codex-counsel",
    ]
    return [uv, "sync", "--quiet", "--project", str(root), "--python", python, *what]


def _environment(draft: Path) -> dict[str, str]:
    """What the user set for uv, without what would choose another project, Python or environment."""
    kept = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    return kept | {"UV_PROJECT_ENVIRONMENT": str(draft)}


def _drop_old(home: Path) -> None:
    """Environments that no server holds and none has used for a day. Never raises: the new one is there."""
    for mark in home.glob(f"venv-*/{MARK}"):
        # What is locked is in use, and what cannot be opened or locked is left alone. An
        # exclusive lock needs write access on network file systems.
        with contextlib.suppress(OSError), mark.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - mark.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(mark.parent, ignore_errors=True)
