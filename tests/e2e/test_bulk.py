"""Runs that make too much or too deep: they end by name, what they did is kept, and nothing stays behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Consult, Delegate, JobList, parse
from codex_counsel.kind import TEMPORARY
from codex_counsel.loopback import Loopback, say, shell
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, until, wait
from tests.e2e.runs import (
    assert_nothing_is_left,
    counsel_with,
    kill_worker,
    worker_of,
)

Model = Callable[..., Loopback]
FILL = "head -c 30000000 /dev/urandom > {0}/big; sleep 60"
MANY = "mkdir {0}/many; cd {0}/many; seq 3000 | xargs touch; sleep 60"
HIDDEN = "mkdir {0}/shut; head -c 30000000 /dev/urandom > {0}/shut/big; sleep 60"
DEEP = (
    "python3 -c 'import os\n"
    'os.chdir("{0}")\n'
    'for _ in range(3000): os.mkdir("deep"); os.chdir("deep")\n'
    'open("leaf", "w").close()\''
)


@pytest.fixture
def workspace(world: World) -> Path:
    return world.repository.begin_with_work().root


LIMITS = {"max_tree_bytes": 10_000_000, "max_tree_entries": 2_000}


@pytest.mark.parametrize("command", [FILL, MANY])
def test_a_task_that_fills_its_tree_is_ended_and_what_it_did_comes_back(
    world: World, model: Model, workspace: Path, command: str
) -> None:
    model([shell(f"sed -i s/41/42/ app.py; {command.format('.')}"), say("No.")])
    counsel = counsel_with(world, **LIMITS)
    wire = _delegate(counsel)
    assert (wire["status"], wire["error"]["code"]) == ("failed", "quota_exceeded")
    assert "more than" in wire["error"]["message"]
    assert wire["partial"] is True
    assert "-answer = 41\n+answer = 42\n" in wire["diff"]
    assert wire["error"]["details"]["session_id"]
    assert_nothing_is_left(world)


def test_a_task_that_fills_its_temporary_directory_is_ended_and_its_work_comes_back(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell(f"echo made > made.txt; {FILL.format('$TMPDIR')}"), say("No.")])
    wire = _delegate(counsel_with(world, **LIMITS))
    assert (wire["status"], wire["error"]["code"]) == ("failed", "quota_exceeded")
    assert [file["path"] for file in wire["files"]] == ["made.txt"]
    assert_nothing_is_left(world)


def test_a_task_that_fills_its_tree_and_ends_at_once_is_no_success(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell("fallocate -l 60000000 big; echo made > made.txt"), say("Done.")])
    wire = _delegate(counsel_with(world, **LIMITS))
    assert (wire["status"], wire["error"]["code"]) == ("failed", "quota_exceeded")
    assert "grew by more than 10000000 bytes" in wire["error"]["message"]
    assert [file["path"] for file in wire["files"]] == ["made.txt"]
    assert any(
        "not captured" in text and "big" in text for text in wire["meta"]["warnings"]
    )
    assert_nothing_is_left(world)


@pytest.mark.parametrize("command", [FILL, MANY, HIDDEN])
def test_a_question_whose_commands_fill_their_directory_is_ended(
    world: World, model: Model, workspace: Path, command: str
) -> None:
    model([shell(command.format("$TMPDIR")), say("No.")])
    counsel = counsel_with(world, **LIMITS)
    wire = wait(counsel.consult(parse(Consult, {"question": "Is it fine?"})))
    assert (wire["status"], wire["error"]["code"]) == ("failed", "quota_exceeded")
    assert_nothing_is_left(world)


def test_an_ordinary_amount_is_fine(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell("head -c 5000000 /dev/urandom > $TMPDIR/big"), say("Fine.")])
    counsel = counsel_with(world, **LIMITS)
    wire = wait(counsel.consult(parse(Consult, {"question": "Is it fine?"})))
    assert wire["answer"] == "Fine."
    assert_nothing_is_left(world)


# --- deep trees


def test_a_deep_tree_in_the_temporary_directory_costs_no_answer_and_no_list(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell(DEEP.format("'+os.environ[\"TMPDIR\"]+'")), say("Fine.")])
    counsel = world.counsel()
    wire = wait(counsel.consult(parse(Consult, {"question": "Is it fine?"})))
    assert wire["answer"] == "Fine."
    assert_nothing_is_left(world)
    assert [job["status"] for job in _jobs(world)] == ["completed"]


def test_a_deep_tree_of_a_killed_run_costs_no_list(
    world: World, model: Model, workspace: Path
) -> None:
    deep = DEEP.format("'+os.environ[\"TMPDIR\"]+'")
    model([shell(f"{deep}; touch $TMPDIR/ready; sleep 60"), say("No.")])
    request = parse(Consult, {"question": "Is it fine?"})
    handle = world.counsel().consult(request, background=True)
    worker_of(handle.job)
    until((Path(handle.job.spec().scratch) / TEMPORARY / "ready").exists)
    kill_worker(handle.job)
    handle.release()
    assert [job["status"] for job in _jobs(world)] == ["failed"]
    assert [job["status"] for job in _jobs(world)] == ["failed"]
    assert_nothing_is_left(world)


def test_a_deep_tree_in_a_task_costs_neither_the_answer_nor_the_result(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell(f"sed -i s/41/42/ app.py; {DEEP.format('.')}"), say("Done.")])
    wire = _delegate(world.counsel())
    assert wire["answer"] == "Done."
    assert [job["session_id"] for job in _jobs(world)] == [wire["meta"]["session_id"]]
    assert "+answer = 42" in wire["diff"]
    warning = "not captured: what is in 1 directories that git cannot reach"
    assert warning in wire["meta"]["warnings"]
    assert_nothing_is_left(world)


def _delegate(counsel: Counsel) -> EnvelopeDict:
    request = parse(Delegate, {"task": "Fix the answer."})
    handle = counsel.delegate(request)
    return counsel.deliver(handle, wait(handle))


def _jobs(world: World) -> list[dict[str, str]]:
    wire = world.counsel().job_list(parse(JobList, {}))
    jobs: list[dict[str, str]] = wire["data"]["jobs"]
    return jobs
