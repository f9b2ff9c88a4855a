"""What a worker does after Codex's turn, where a whole run cannot bring it about."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from codex_counsel.jobs.children import CHILDREN, dump
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.launcher import NewJob
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.steps import WorkerSteps
from codex_counsel.jobs.worker import Worker
from tests.e2e.jobs.conftest import JobFactory

HOLDER = """
import fcntl, os, sys, time
lock, gone = sys.argv[1:]
fcntl.flock(os.open(lock, os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(1)
os.close(os.open(gone, os.O_CREAT))
"""
"""Holds a lock for a second, and makes a file before it lets it go."""


def steps_of(factory: JobFactory, spec: Spec, *children: NewJob) -> WorkerSteps:
    """Those of a job that has just been started."""
    factory.store.prepare()
    directory = factory.store.directory_of(spec.job_id)
    directory.mkdir()
    Path(spec.scratch).mkdir()
    (directory / "spec.json").write_text(json.dumps(spec.to_json()))
    (directory / CHILDREN).write_text(dump(children))
    worker = Worker(str(directory))
    return WorkerSteps(spec, worker.journal, worker)


def test_after_a_cancel_no_further_job_is_started(factory: JobFactory) -> None:
    child = NewJob(factory.spec(), "A question.", None, factory.world.env)
    spec = factory.spec(detached=True, children=(child.spec.job_id,))
    steps = steps_of(factory, spec, child)
    Job(factory.store.directory_of(spec.job_id)).request_cancel()
    (outcome,) = steps.run_jobs([child.spec.job_id])
    assert outcome.envelope["status"] == "cancelled"
    assert not outcome.directory.exists()


def test_a_command_waits_for_the_workers_of_ended_jobs(factory: JobFactory) -> None:
    checks = {"argv": (), "variables": {}, "seconds": 20}
    spec = factory.spec(detached=True, checks=checks)
    steps = steps_of(factory, spec)
    ended = factory.store.directory / factory.spec().job_id
    ended.mkdir()
    gone = factory.world.base / "gone"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ended / "lock"), str(gone)],
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        steps.started.append(Job(ended))
        run = steps.run(f"test -e {gone}", factory.world.base)
    assert (run.ended, run.exit) == ("exited", 0)
