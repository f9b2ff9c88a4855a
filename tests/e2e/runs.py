"""Runs of the real Codex: limits of their own, their processes, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from codex_counsel.contract import settings
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import JobCancel, JobResult
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Account, Loopback
from codex_counsel.services.counsel import Counsel
from codex_counsel.system.process_tree import Identity
from tests.conftest import World, living, until

LEAVING_SECONDS = 30.0
"""Time in which a worker ends whose result is stored."""


def counsel_with(world: World, **limits: float) -> Counsel:
    """A counsel with limits below what the settings allow, so that a test need not wait long."""
    own = settings.load(world.env)
    return Counsel(world.env, world.workspace, replace(own, **limits))  # type: ignore[arg-type]


def fetch(counsel: Counsel, request: JobResult) -> EnvelopeDict:
    """A page of the result, as a client gets it that does not go away meanwhile."""
    page = counsel.read_result(request)
    counsel.acknowledge(request, page)
    return page


def cancel_run(counsel: Counsel, request: JobCancel) -> EnvelopeDict:
    """What a client gets that ends the run, and does not go away meanwhile."""
    page = counsel.cancel(request)
    counsel.acknowledge(request, page)
    return page


def worker_of(job: Job) -> Identity:
    """The worker, as soon as it has written its identity."""
    return until(lambda: job.state().worker)


def codex_of(job: Job) -> Identity:
    """Codex, as soon as the worker has written its identity."""
    return until(lambda: job.state().codex)


def kill_worker(job: Job) -> None:
    """Kill the worker, and wait until it is gone and the lock of the job is free."""
    worker = worker_of(job)
    os.kill(worker.pid, signal.SIGKILL)
    # The lock is free a moment before the process counts as dead.
    until(lambda: not worker.alive() and not job.alive())


def trees(world: World) -> list[Path]:
    """The working trees of delegates."""
    folder = world.home / ".cache/codex-counsel/trees"
    return list(folder.iterdir()) if folder.is_dir() else []


def leftovers(world: World) -> list[str]:
    """Processes, working trees, temporary files, and records half made or half removed."""
    hidden_jobs = (world.state / "jobs").glob(".*")
    return [
        *living(str(world.base)),
        *map(str, trees(world)),
        *map(str, world.temp.iterdir()),
        *map(str, hidden_jobs),
    ]


def assert_nothing_is_left(world: World) -> None:
    """After a moment: a result is there before its worker has ended."""
    deadline = time.monotonic() + LEAVING_SECONDS
    while (left := leftovers(world)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


def chatgpt(world: World, server: Loopback, account: Account) -> None:
    """Log the world's Codex in to this account, with the built-in provider."""
    (world.codex_home / "auth.json").write_text(account.auth_json())
    world.configure(
        f'openai_base_url = "{server.base_url}"\nchatgpt_base_url = "{server.chatgpt_base_url}"\n'
        "[features]\nenable_request_compression = false\n"
    )


def begin(world: World, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a verb in the workspace, as `command_line` runs it."""
    return subprocess.Popen(
        [sys.executable, "-m", "codex_counsel", *arguments],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def command_line(
    world: World, *arguments: str, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a verb in the workspace, without anything on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "codex_counsel", *arguments],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
