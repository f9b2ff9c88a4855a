"""`codex-counsel run` when processes die: the answer of a pack is paid once, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import Consult, Delegate
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.loopback import Loopback, hold, say, shell, stall
from codex_counsel.packs import archive
from tests.conftest import World, until
from tests.e2e.pictures import RED_PIXEL
from tests.e2e.runs import (
    assert_nothing_is_left,
    begin,
    codex_of,
    command_line,
    kill_worker,
    worker_of,
)
from tests.foundations import draft
from tests.packs import QUESTION, DraftPack
from tests.repositories import Repository

Model = Callable[..., Loopback]
STEPS = 6

DYING = """
import os, signal, sys

last, report = int(sys.argv[1]), sys.argv[2]
sys.argv = ["codex-counsel", *sys.argv[3:]]
steps = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "subprocess.Popen", "fcntl.flock"}
counted = 0

def count(event, _):
    global counted
    if event in steps:
        counted += 1
        if counted == last:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
from codex_counsel.__main__ import main
try:
    main()
finally:
    with open(report, "w") as file:
        file.write(str(counted))
"""
"""Runs a verb; is killed before the step of that number, or writes how many there were."""


def only_job(world: World) -> Job:
    """The job that was started, once there is one."""
    store = Store(world.state)
    return until(lambda: next(iter(store.jobs()), None))


def next_pack(world: World, sender: Repository, number: int) -> Path:
    """A pack of a foundation that nobody has, with an image."""
    sender.write("notes.md", f"{number}\n")
    words = {"id": f"{number:032x}", "images": ["images/0.png"]}
    made = DraftPack(Consult, QUESTION, draft(sender), world.base, words)
    made.members["images/0.png"] = RED_PIXEL
    return made.write(world.base / f"{number}.pack")


def dying(
    world: World, step: int, *arguments: str
) -> subprocess.CompletedProcess[bytes]:
    report = str(world.base / "steps")
    return subprocess.run(
        [sys.executable, "-c", DYING, str(step), report, "run", *arguments],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


@pytest.mark.timeout(400)
def test_a_run_that_is_killed_at_any_step_is_repeated_and_paid_once(
    world: World, model: Model, sender: Repository, result: Path
) -> None:
    server = model(lambda _: say("It adds."))
    # The first run also looks at the installation.
    for number in (1, 2):
        file = str(next_pack(world, sender, number))
        assert dying(world, 0, file, "-o", str(result)).returncode == 0
    count = int((world.base / "steps").read_text())
    paid = 2
    for number, step in enumerate(range(1, count + 1, max(1, count // STEPS)), 3):
        file = str(next_pack(world, sender, number))
        result.unlink(missing_ok=True)
        killed = dying(world, step, file, "-o", str(result))
        # How often it looks whether the run has ended is not the same each time.
        assert killed.returncode in (-signal.SIGKILL, 0)
        if result.exists():
            envelope_in(result, world.base / f"killed-{number}")
        again = command_line(world, "run", file, "-o", str(result))
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout.startswith("It adds.")
        envelope = envelope_in(result, world.base / f"again-{number}")
        assert envelope["answer"] == "It adds."
        paid += 1
        assert len(server.requests) == paid
    assert_nothing_is_left(world)


@pytest.mark.parametrize("victim", ["worker", "codex"])
def test_of_a_run_whose_worker_or_codex_is_killed_the_result_says_so_and_the_pack_runs_again(
    world: World, model: Model, pack: Path, result: Path, victim: str
) -> None:
    answers = iter([stall(), say("It adds.")])
    server = model(lambda _: next(answers))
    child = begin(world, "run", str(pack), "-o", str(result))
    server.asked(1)
    job = only_job(world)
    if victim == "worker":
        kill_worker(job)
    else:
        os.kill(codex_of(job).pid, signal.SIGKILL)
    child.communicate(timeout=60)
    assert child.returncode not in (0, 2)
    assert envelope_in(result, world.base / "first")["status"] == "failed"
    assert_nothing_is_left(world)
    again = command_line(world, "run", str(pack), "-o", str(result))
    assert again.stdout.startswith("It adds.")
    assert envelope_in(result, world.base / "second")["answer"] == "It adds."
    assert len(server.requests) == 2
    assert_nothing_is_left(world)


def test_an_answer_that_was_there_when_all_was_killed_is_not_paid_again(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    server = model([say("Paid once.")])
    child = begin(world, "run", str(pack), "-o", str(result))
    job = only_job(world)
    until(lambda: b"turn.completed" in events_of(job))
    with contextlib.suppress(ProcessLookupError):
        os.kill(worker_of(job).pid, signal.SIGKILL)
    child.kill()
    child.communicate()
    again = command_line(world, "run", str(pack), "-o", str(result))
    assert again.stdout.startswith("Paid once.")
    assert envelope_in(result, world.base / "read")["answer"] == "Paid once."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_a_task_whose_worker_was_killed_leaves_no_tree_and_no_process(
    world: World, model: Model, sender: Repository, result: Path
) -> None:
    asked = {"task": "Correct it."}
    file = DraftPack(Delegate, asked, draft(sender), world.base).write(
        world.base / "task.pack"
    )
    server = model([shell("echo 'answer = 42' > app.py"), stall()])
    child = begin(world, "run", str(file), "-o", str(result))
    server.asked(2)
    kill_worker(only_job(world))
    child.communicate(timeout=60)
    envelope = envelope_in(result, world.base / "read")
    assert envelope["status"] == "failed"
    assert_nothing_is_left(world)


def test_of_two_runs_of_a_pack_one_goes_on_when_the_other_is_killed(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    answer = hold(say("Paid once."))
    server = model([answer])
    other = world.base / "other.result"
    first = begin(world, "run", str(pack), "-o", str(result))
    server.asked(1)
    folder = world.home / ".cache/codex-counsel/packs"
    (used,) = folder.glob("*/used")
    before = used.stat().st_mtime_ns
    second = begin(world, "run", str(pack), "-o", str(other))
    until(lambda: used.stat().st_mtime_ns > before)
    first.kill()
    first.communicate()
    answer.release.set()
    assert second.communicate(timeout=60)[0].startswith(b"Paid once.")
    assert not result.exists()
    assert envelope_in(other, world.base / "read")["answer"] == "Paid once."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_an_interrupt_while_the_repository_is_made_leaves_nothing(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    model([say("Never.")])
    fifo = world.base / "slow.pack"
    os.mkfifo(fifo)
    child = begin(world, "run", str(fifo), "-o", str(result))
    packs = world.home / ".cache/codex-counsel/packs"
    with fifo.open("wb", buffering=0) as writer:
        writer.write(pack.read_bytes()[:2_000])
        until(lambda: packs.is_dir() and list(packs.glob("scratch-*/content")))
        child.send_signal(signal.SIGINT)
        errors = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert b"Traceback" not in errors
    assert list(packs.iterdir()) == []
    assert not result.exists()
    assert_nothing_is_left(world)


def events_of(job: Job) -> bytes:
    file = job.path / "events.jsonl"
    return file.read_bytes() if file.exists() else b""


def envelope_in(result: Path, folder: Path) -> dict[str, Any]:
    """What the result file has of the job that ran."""
    folder.mkdir()
    with result.open("rb") as file:
        about = archive.unpack(file, "it", "result", folder)
    return dict(json.loads((folder / about["job"] / "result.json").read_text()))
