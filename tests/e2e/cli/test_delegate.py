"""Delegating and applying on the command line: real processes, real Codex, scripted model."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.loopback import Loopback, failed, hold, patch, say, shell
from tests.conftest import World, until
from tests.e2e.cli.test_verbs import run
from tests.e2e.delegation import begun, nothing_is_left, start, trees, untouched

Model = Callable[..., Loopback]
FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-answer = 41\n+answer = 42\n*** End Patch\n"
)


@pytest.fixture
def top(world: World) -> Path:
    return begun(world)


def test_a_task_is_printed_with_its_diff_its_evidence_and_how_to_apply_it(
    world: World, model: Model, top: Path
) -> None:
    model(
        [
            FIX,
            shell("python3 -B -c 'import app; assert app.answer == 42'"),
            shell("echo x > run.log"),
            say("Fixed."),
        ]
    )
    with untouched(top):
        done = run(world, "delegate", "Fix the answer.")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Fixed.\n\ndiff --git a/app.py b/app.py\n")
    lines = done.out.splitlines()
    assert "-answer = 41" in lines
    assert "1 file changed, 1 insertion(+), 1 deletion(-)" in lines
    assert any(line.startswith("  exit 0: ") and "import app" in line for line in lines)
    assert "  ignored, not in the diff: run.log" in lines
    command = next(
        line for line in lines if line.startswith("apply it with: codex-counsel apply ")
    )
    applied = run(world, *command.removeprefix("apply it with: codex-counsel ").split())
    assert (applied.code, applied.out.splitlines()[0]) == (
        0,
        "1 file was changed; the index was left alone",
    )
    assert (top / "app.py").read_text() == "answer = 42\n"


def test_a_diff_is_checked_applied_once_and_undone(
    world: World, model: Model, top: Path
) -> None:
    model([FIX, say("Fixed.")])
    job = run(world, "delegate", "--json", "Fix it.").json["meta"]["job_id"]
    with untouched(top):
        assert run(world, "apply", "--check-only", job).code == 0
    assert run(world, "apply", "--json", job).json["data"]["applied"] is True
    again = run(world, "apply", job)
    assert (again.code, again.err.startswith("already_applied: ")) == (2, True)
    assert run(world, "apply", "--undo", job).code == 0
    assert (top / "app.py").read_text() == "answer = 41\n"


def test_sensitive_files_are_named_and_applied_when_they_are_accepted(
    world: World, model: Model, top: Path
) -> None:
    model([shell("echo be nice > CLAUDE.md"), say("Done.")])
    done = run(world, "delegate", "--json", "Write it.")
    job = done.json["meta"]["job_id"]
    refused = run(world, "apply", job)
    assert (refused.code, "CLAUDE.md" in refused.err, (top / "CLAUDE.md").exists()) == (
        1,
        True,
        False,
    )
    assert run(world, "apply", "--allow-path", "CLAUDE.md", job).code == 0
    assert (top / "CLAUDE.md").read_text() == "be nice\n"


def test_a_task_may_come_from_standard_input_and_go_on_from_an_earlier_one(
    world: World, model: Model, top: Path
) -> None:
    server = model([FIX, say("Fixed."), shell("cat app.py"), say("Still fixed.")])
    wire = run(world, "delegate", "--json", given="Fix `it`.\n").json
    assert "Fix `it`." in server.requests[0].prompt
    again = run(
        world, "delegate", "--json", "--from-job", wire["meta"]["job_id"], "Go on."
    ).json
    assert (again["meta"]["session_id"], again["diff"]) == (
        wire["meta"]["session_id"],
        wire["diff"],
    )


def test_a_dry_run_spends_nothing_and_says_what_it_would_start_from(
    world: World, model: Model, top: Path
) -> None:
    server = model()
    (top / ".env").write_text("KEY=1\n")
    with untouched(top):
        done = run(world, "delegate", "--dry-run", "Fix it.")
    assert (done.code, server.requests) == (0, [])
    assert "files; nothing was spent" in done.out
    assert ".env" in done.out


def test_a_task_that_fails_says_where_its_work_is(
    world: World, model: Model, top: Path
) -> None:
    model([FIX, failed("server_error", "it broke")], stream_max_retries=0)
    done = run(world, "delegate", "Fix it.")
    assert done.code == 3
    assert (
        "its work so far: 1 file changed, 1 insertion(+), 1 deletion(-), in "
        in done.err
    )
    path = Path(done.err.partition("deletion(-), in ")[2].splitlines()[0])
    assert "+answer = 42" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("delegate", ""), "invalid_arguments: task: is blank"),
        (("delegate", "--from-job", "last", "Go on."), "invalid_arguments: from_job"),
        (("delegate", "--from-job", "0" * 32, "Go on."), "job_not_found"),
        (("apply", "0" * 32), "job_not_found"),
        (("apply", "nonsense"), "invalid_arguments: job_id"),
    ],
)
def test_bad_usage_says_what_to_do_and_exits_with_2(
    world: World, model: Model, top: Path, arguments: tuple[str, ...], words: str
) -> None:
    model()
    done = run(world, *arguments)
    assert (done.code, words in done.err, "what to do: " in done.err) == (
        2,
        True,
        True,
    ), done.err


def test_a_sweep_removes_what_a_killed_run_left_and_keeps_its_work(
    world: World, model: Model, top: Path
) -> None:
    gate = hold(say("Never."))
    model([FIX, gate])
    handle = start(world, background=True)
    assert gate.reached.wait(30)
    os.kill(until(lambda: handle.job.state().worker).pid, signal.SIGKILL)
    until(lambda: not handle.job.alive())
    assert len(trees(world)) == 1
    done = run(world, "jobs", "--sweep")
    assert (done.code, done.err) == (0, "removed 1 tree of killed runs\n")
    assert f"{handle.job.id}  failed" in done.out
    handle.release()
    nothing_is_left(world)
    said = run(world, "result", handle.job.id)
    assert (
        "its work so far: 1 file changed, 1 insertion(+), 1 deletion(-), in "
        in said.err
    )
