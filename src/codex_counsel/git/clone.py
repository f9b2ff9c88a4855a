"""Clones of other repositories, with their files: nothing of what comes is executed.

No hook, filter, submodule or template has a part in it. Git logs in as the user's own
settings and the environment say, and nobody is asked for a password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.git.fetch import failure_of, login_headers
from codex_counsel.git.hardening import Config, environment, fetch_environment
from codex_counsel.git.limits import limited
from codex_counsel.git.process import GitProcess, GitTimeout, find_git
from codex_counsel.git.remotes import shown
from codex_counsel.git.repo import GitError, Repo
from codex_counsel.system.files import remove_tree

PATIENCE = 30
"""A clone may take so many times as long as another git process."""


def clone(url: str, target: Path, timeout: float, env: Mapping[str, str]) -> None:
    """Clone with all history into `target`, where nothing is yet. `timeout` is that of an ordinary git process.

    The name appears in one step, so what is there is complete. Raises `hub_failed`,
    `storage_failed` or `workspace_invalid`; then nothing is left. The caller sees to it
    that nobody else clones into the same place.
    """
    draft = target.with_name(f".{target.name}.draft")
    remove_tree(draft)
    try:
        _fetch_all(url, draft, timeout, env)
        _check_out(url, Repo.open(draft, timeout * PATIENCE, env=env))
        draft.rename(target)
    except OSError as error:
        raise error_of(
            Code.STORAGE_FAILED, f"{shown(url)} cannot be cloned", error
        ) from None
    finally:
        remove_tree(draft)


def _check_out(url: str, repo: Repo) -> None:
    """Write the files of HEAD. Raises `storage_failed`."""
    if repo.head() is None:
        return
    try:
        # Here the drivers of the user's filters are switched off: see `hardening`.
        repo.git("read-tree", "-m", "-u", "HEAD")
    except GitError as error:
        raise CounselError(
            Code.STORAGE_FAILED,
            f"The files of {shown(url)} cannot be written: {error.message}",
            repair="Free disk space, or clone it yourself and name its directory.",
        ) from None


def _fetch_all(url: str, draft: Path, timeout: float, env: Mapping[str, str]) -> None:
    """Run `git clone` without a checkout. Raises `hub_failed` or `storage_failed`."""
    seconds = timeout * PATIENCE
    users = _users_settings(timeout, env)
    full = fetch_environment(env, users, login_headers(env), draft.parent)
    argv = limited(
        find_git(full),
        "--no-pager",
        "clone",
        "--quiet",
        "--no-checkout",
        "--no-recurse-submodules",
        "--no-local",
        "--origin=origin",
        "--template=",
        "--",
        url,
        str(draft),
    )
    try:
        with GitProcess(argv, full, Path("/"), seconds, lifeline=True) as process:
            for _ in process.chunks():
                pass
    except GitTimeout:
        raise CounselError(
            Code.HUB_FAILED,
            f"{shown(url)} was not cloned within {seconds:g} seconds",
            repair="Try again; for a large repository raise CODEX_COUNSEL_GIT_TIMEOUT_SECONDS, "
            "or clone it yourself and name its directory.",
        ) from None
    if process.code:
        stderr = bytes(process.stderr).decode(errors="replace")
        error = failure_of("clone", stderr)
        error.message = f"{shown(url)}: {error.message}"
        raise error


def _users_settings(timeout: float, env: Mapping[str, str]) -> Mapping[str, str]:
    """Git's settings of the user and the system."""
    outside = environment(env, {}, Path("/"))
    outside["GIT_DIR"] = os.devnull
    argv = [find_git(outside), "config", "--list", "-z", "--show-scope"]
    with GitProcess(argv, outside, Path("/"), timeout) as process:
        listing = b"".join(process.chunks())
    return Config.parse(listing).users
