"""Runs that are named by the beginning of an id, or not at all: the newest of this directory that fits."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Loopback, Reply, Request, hold, patch, say, stall
from tests.conftest import World, living
from tests.e2e.cli.terminal import CTRL_C, terminal
from tests.e2e.cli.test_verbs import run

WITH_A_KEY = ("consult", "Wait.", "--idempotency-key", "k")

Model = Callable[..., Loopback]
FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-answer = 41\n+answer = 42\n*** End Patch\n"
)


def answer(request: Request) -> Reply:
    """What the question or task asks for."""
    if "Wait." in request.prompt:
        return stall()
    if "Fix it." in request.prompt and not request.outputs:
        return FIX
    for question in ("First", "Second"):
        if question in request.prompt:
            return say(f"{question}.")
    return say("Done.")


def next_second() -> None:
    """Wait until a new run is newer: records are ordered by the second of their start."""
    time.sleep(1.05)


def test_an_id_may_be_shortened_unless_that_is_ambiguous(
    world: World, model: Model
) -> None:
    model([say("Yes.")])
    job = run(world, "consult", "--json", "Really?").json["meta"]["job_id"]
    assert run(world, "result", job[:4]).out.startswith("Yes.")

    # The same record under an id that begins likewise.
    other_digit = "0" if job[12] == "f" else "f"
    twin = job[:12] + other_digit * 20
    jobs = world.state / "jobs"
    shutil.copytree(
        jobs / job, jobs / twin, ignore=shutil.ignore_patterns("control", ".*")
    )
    for verb in ("result", "cancel", "apply"):
        result = run(world, verb, job[:10])
        assert result.code == 2
        assert job in result.err
        assert twin in result.err
    assert run(world, "result", twin[:13]).code == 0
    assert run(world, "result", job[:3]).code == 2


def test_the_newest_run_of_this_directory_is_shown_and_named(
    world: World, model: Model
) -> None:
    model(answer)
    other = world.base / "elsewhere"
    other.mkdir()
    run(world, "consult", "First?")
    next_second()
    job = run(world, "consult", "--json", "Second?").json["meta"]["job_id"]
    next_second()
    elsewhere = run(world, "consult", "--json", "-C", str(other), "3?").json
    result = run(world, "result")
    assert (result.code, result.out.splitlines()[0]) == (0, "Second.")
    assert f"consult {job} (Second?)" in result.err

    listed = run(world, "jobs").out
    assert (job in listed, elsewhere["meta"]["job_id"] in listed) == (True, False)
    assert elsewhere["meta"]["job_id"] in run(world, "jobs", "--all").out
    assert elsewhere["meta"]["job_id"] in run(world, "jobs", "-C", str(other)).out
    empty = run(world, "jobs", "--status", "failed")
    assert (empty.code, "There are no such runs of" in empty.out) == (0, True)


def test_cancel_takes_the_newest_run_that_has_not_ended(
    world: World, model: Model
) -> None:
    server = model(answer)
    job = run(world, "consult", "--background", "--json", "Wait.").json["job_id"]
    server.asked(1)
    unfinished = run(world, "result", job[:8])
    assert (unfinished.code, "is not finished" in unfinished.out) == (6, True)
    assert run(world, "result", "--format", "sarif", job).code == 6
    next_second()
    assert run(world, "consult", "Now?").code == 0
    result = run(world, "cancel")
    assert (result.code, job in result.err, living(job)) == (0, True, [])
    assert run(world, "result", job).code == 130
    assert run(world, "cancel", job).code == 0
    assert run(world, "cancel").code == 2


def test_apply_takes_the_newest_diff_that_is_not_applied(
    world: World, model: Model, workspace: Path
) -> None:
    model(answer)
    job = run(world, "delegate", "--json", "Fix it.").json["meta"]["job_id"]
    next_second()
    run(world, "delegate", "Do nothing.")
    assert run(world, "apply", "--check-only").code == 0
    result = run(world, "apply")
    assert (result.code, job in result.err) == (0, True)
    assert (workspace / "app.py").read_text() == "answer = 42\n"
    assert run(world, "apply").code == 2
    assert run(world, "apply", "--undo").code == 0
    assert (workspace / "app.py").read_text() == "answer = 41\n"
    assert run(world, "apply", "--check-only").code == 0


def test_an_empty_id_or_file_name_is_a_mistake_and_names_no_run(
    world: World, model: Model
) -> None:
    server = model(answer)
    job = run(world, "consult", "--background", "--json", "Wait.").json["job_id"]
    server.asked(1)
    for words in (
        ("cancel", ""),
        ("result", ""),
        ("apply", ""),
        ("apply", "--undo", ""),
    ):
        refused = run(world, *words)
        assert (refused.code, "that is no job id" in refused.err) == (2, True)
    assert run(world, "result", "--output", "", job).code == 2
    assert living(job) != []
    assert run(world, "cancel", job).code == 0


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_check_reports_that_a_diff_would_not_apply(
    world: World, model: Model, workspace: Path, flags: tuple[str, ...]
) -> None:
    model([FIX, say("Fixed.")])
    run(world, "delegate", "Fix it.")
    (workspace / "app.py").write_text("answer = 43\n")
    checked = run(world, "apply", "--check-only", *flags)
    assert (checked.code, "app.py" in checked.out) == (1, True)
    assert "apply_conflict" in checked.out
    assert "apply_conflict" not in checked.err
    refused = run(world, "apply", *flags)
    assert refused.code == 1
    assert (workspace / "app.py").read_text() == "answer = 43\n"


def test_an_interrupt_of_waiting_for_another_run_leaves_it_alone(
    world: World, model: Model
) -> None:
    server = model(answer)
    job = run(world, "consult", "--background", "--json", "Wait.").json["job_id"]
    server.asked(1)
    with terminal(world, "result", "--wait", job) as screen:
        screen.wait_for("thinking")
        screen.type(CTRL_C)
        assert screen.finish() == 130
    assert f"job {job} goes on" in " ".join(screen.text.split())
    assert living(job) != []
    assert run(world, "cancel").code == 0


def test_an_interrupt_of_a_run_that_another_process_began_leaves_it_to_that_one(
    world: World, model: Model
) -> None:
    gate = hold(say("For both."))
    model(gate)
    with begin_with_key(world) as first:
        assert gate.reached.wait(60)
        (job,) = (Job(path) for path in (world.state / "jobs").iterdir())
        with terminal(world, *WITH_A_KEY, can_type=False) as second:
            second.wait_for("thinking")
            second.type(CTRL_C)
            assert second.finish() == 130
        assert f"job {job.id} goes on" in " ".join(second.text.split())
        gate.release.set()
        assert first.communicate(timeout=60)[0].startswith("For both.")


def begin_with_key(world: World) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "codex_counsel", *WITH_A_KEY],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
