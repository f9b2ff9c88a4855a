"""`check`: the outcome of a stored review, with the exit code of `review` and without a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.loopback import Loopback, say
from tests import hostile
from tests.conftest import World
from tests.e2e.cli.test_hostile_output import WorldInWorkflow, assert_inert
from tests.e2e.cli.test_verbs import RunResult, run
from tests.repositories import numbered_lines
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")


@pytest.fixture
def reviewed(world: World, model: Model) -> World:
    """The world after the review of one commit, which has a high finding."""
    world.repository.begin_changed()
    world.repository.commit("seven")
    model([say(reply({"severity": "high"}, verdict="fail"))])
    result = run(
        world, "review", "--scope", "commit", "--json", "--output", "review.json"
    )
    assert result.code == 1
    return world


def job_of(world: World) -> str:
    (job,) = (world.state / "jobs").iterdir()
    return job.name


def test_a_job_its_first_digits_a_file_and_standard_input_have_one_outcome(
    reviewed: World,
) -> None:
    job = job_of(reviewed)
    stored = (reviewed.workspace / "review.json").read_text()
    line = "fail: 1 finding of severity high or above\n"
    for name in (job, job[:6], "review.json", str(reviewed.workspace / "review.json")):
        result = run(reviewed, "check", name)
        assert (result.code, result.out, result.err) == (1, line, "")
    result = run(reviewed, "check", "-", stdin=stored)
    assert (result.code, result.out) == (1, line)
    passed = run(reviewed, "check", job, "--fail-on", "critical")
    assert (passed.code, passed.out) == (0, "pass: no critical finding\n")


def test_no_codex_no_git_no_login_and_no_state_are_needed(reviewed: World) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "codex_counsel", "check", "review.json"],
        env={"PATH": "/nonexistent", "HOME": "/nonexistent"},
        cwd=reviewed.workspace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, "")


def test_the_commit_must_be_the_one_that_is_expected(reviewed: World) -> None:
    head = reviewed.repository.head
    flags = ("check", "review.json", "--fail-on", "critical", "--expect-head")
    assert run(reviewed, *flags, head).code == 0
    assert run(reviewed, *flags, head[:7]).code == 0
    reviewed.repository.write("app.py", numbered_lines(l8="eight = 80"))
    later = reviewed.repository.commit("eight")
    other = run(reviewed, *flags, later)
    assert (other.code, other.out) == (
        5,
        f"inconclusive: the review is of commit {head[:12]}, not of {later[:12]}\n",
    )
    assert run(reviewed, *flags, "HEAD").code == 2


def test_the_review_of_uncommitted_work_is_of_no_commit(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    model([say(reply())])
    assert run(world, "review").code == 0
    result = run(world, "check", job_of(world), "--expect-head", world.repository.head)
    assert (result.code, result.out) == (
        5,
        "inconclusive: the review is of no commit\n",
    )


def test_json_says_what_was_counted(reviewed: World) -> None:
    wire = run(reviewed, "check", job_of(reviewed), "--json").json
    assert (wire["tool"], wire["ok"], wire["status"]) == (
        "codex-counsel check",
        True,
        "completed",
    )
    assert wire["data"]["outcome"] == "fail"
    assert wire["data"]["counted"] == 1
    assert wire["data"]["head_sha"] == reviewed.repository.head
    assert wire["data"]["job_id"] == job_of(reviewed)


def test_a_format_for_another_reader_is_that_of_the_review(reviewed: World) -> None:
    result = run(
        reviewed, "check", "review.json", "--format", "sarif", "--fail-on", "critical"
    )
    assert result.code == 0
    assert len(json.loads(result.out)["runs"][0]["results"]) == 1
    assert result.err == "pass: no critical finding\n"
    result = run(reviewed, "check", "review.json", "--json", "--output", "outcome.json")
    outcome = json.loads((reviewed.workspace / "outcome.json").read_text())
    assert (result.code, outcome["data"]["outcome"]) == (1, "fail")


def test_a_review_that_has_not_ended_is_no_document(reviewed: World) -> None:
    file = reviewed.workspace / "review.json"
    wire = {**json.loads(file.read_text()), "status": "running"}
    del wire["verdict"]
    file.write_text(json.dumps(wire))
    result = run(reviewed, "check", "review.json", "--output", "sarif=review.sarif")
    assert (result.code, "review.json has not finished" in result.err) == (6, True)


def test_only_new_findings_count_where_that_is_asked_for(reviewed: World) -> None:
    file = reviewed.workspace / "review.json"
    wire = json.loads(file.read_text())
    # Below the bar, and what explains the verdict.
    wire["findings"].append({**wire["findings"][0], "severity": "low"})
    for known, code in (("new", 1), ("returned", 1), ("open", 0), ("rejected", 0)):
        wire["findings"][0]["known"] = known
        file.write_text(json.dumps(wire))
        assert run(reviewed, "check", "review.json", "--new-only").code == code


OTHERS: dict[str, tuple[dict[str, Any], int, str]] = {
    "a failed run": (
        {"ok": False, "status": "failed", "error": {"code": "timeout"}},
        4,
        "the review did not end: timeout: Too long.",
    ),
    "a run that nobody could start": (
        {"ok": False, "status": "failed", "error": {"code": "auth_required"}},
        3,
        "the review did not end: auth_required: Too long.",
    ),
    "a failure before the run": (
        {
            "ok": False,
            "status": "failed",
            "tool": "codex-counsel review",
            "error": {"code": "nothing_to_review"},
        },
        7,
        "the review did not end: nothing_to_review: Too long.",
    ),
    "a hostile failure": (
        {
            "ok": False,
            "status": "failed",
            "error": {"code": "::error::x", "message": hostile.ALL},
        },
        5,
        "the review did not end: ",
    ),
    "one that goes on": ({"status": "running"}, 6, "the review has not ended"),
}


@pytest.mark.parametrize(("changes", "code", "words"), OTHERS.values(), ids=OTHERS)
def test_anything_else_is_inconclusive_with_the_code_of_the_reason(
    reviewed: World, changes: dict[str, Any], code: int, words: str
) -> None:
    file = reviewed.workspace / "review.json"
    wire = {**json.loads(file.read_text()), **changes}
    if "error" in changes:
        rest = {"message": "Too long.", "repair": "Wait.", "retryable": False}
        wire["error"] = {**rest, **changes["error"]}
    if changes.get("status") != "completed":
        del wire["verdict"]
    file.write_text(json.dumps(wire))
    workflow = WorldInWorkflow(reviewed.base, reviewed.binary, reviewed.settings)
    result = run(workflow, "check", "review.json")
    assert result.code == code
    assert f"inconclusive: {words}" in result.out
    assert len(result.out.splitlines()) == 1
    assert_inert(result)


def test_a_result_of_another_tool_is_refused(world: World, model: Model) -> None:
    model([say("Yes.")])
    assert run(world, "consult", "Is it?").code == 0
    result = run(world, "check", job_of(world))
    assert result.code == 2
    assert "is a result of `codex-counsel consult`, not of a review" in result.err


@pytest.mark.parametrize("name", ["absent.json", "/", "../..", "ffff", "", "-"])
def test_what_is_no_result_is_refused(reviewed: World, name: str) -> None:
    result = run(reviewed, "check", name)
    assert (result.code, "Traceback" in result.err) == (2, False)
    assert "what to do: " in result.err


def test_a_fifo_is_not_waited_for(reviewed: World, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    result: RunResult = run(reviewed, "check", str(tmp_path / "fifo"))
    assert (result.code, "no regular file" in result.err) == (2, True)
