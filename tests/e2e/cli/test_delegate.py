"""Delegating and applying on the command line: real processes, real Codex, scripted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.loopback import Loopback, failed, hold, patch, say, shell
from tests.conftest import World
from tests.e2e.cli.test_verbs import run
from tests.e2e.delegation import assert_unchanged, start
from tests.e2e.runs import assert_nothing_is_left, kill_worker, trees

Model = Callable[..., Loopback]
FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-answer = 41\n+answer = 42\n*** End Patch\n"
)


def test_a_task_is_printed_with_its_diff_its_evidence_and_how_to_apply_it(
    world: World, model: Model, workspace: Path
) -> None:
    model(
        [
            FIX,
            shell("python3 -B -c 'import app; assert app.answer == 42'"),
            shell("echo x > run.log"),
            say("Fixed."),
        ]
    )
    with assert_unchanged(workspace):
        result = run(world, "delegate", "Fix the answer.")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Fixed.\n\ndiff --git a/app.py b/app.py\n")
    lines = result.out.splitlines()
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
    assert (workspace / "app.py").read_text() == "answer = 42\n"


def test_a_diff_is_checked_applied_once_and_undone(
    world: World, model: Model, workspace: Path
) -> None:
    model([FIX, say("Fixed.")])
    job = run(world, "delegate", "--json", "Fix it.").json["meta"]["job_id"]
    with assert_unchanged(workspace):
        assert run(world, "apply", "--check-only", job).code == 0
    assert run(world, "apply", "--json", job).json["data"]["applied"] is True
    again = run(world, "apply", job)
    assert (again.code, again.err.startswith("already_applied: ")) == (2, True)
    assert run(world, "apply", "--undo", job).code == 0
    assert (workspace / "app.py").read_text() == "answer = 41\n"


def test_sensitive_files_are_named_and_applied_when_they_are_accepted(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell("echo be nice > CLAUDE.md"), say("Done.")])
    result = run(world, "delegate", "--json", "Write it.")
    job = result.json["meta"]["job_id"]
    refused = run(world, "apply", job)
    assert (
        refused.code,
        "CLAUDE.md" in refused.err,
        (workspace / "CLAUDE.md").exists(),
    ) == (
        1,
        True,
        False,
    )
    assert run(world, "apply", "--allow-path", "CLAUDE.md", job).code == 0
    assert (workspace / "CLAUDE.md").read_text() == "be nice\n"


def test_a_task_may_come_from_standard_input_and_go_on_from_an_earlier_one(
    world: World, model: Model, workspace: Path
) -> None:
    server = model([FIX, say("Fixed."), shell("cat app.py"), say("Still fixed.")])
    wire = run(world, "delegate", "--json", stdin="Fix `it`.\n").json
    assert "Fix `it`." in server.requests[0].prompt
    again = run(
        world, "delegate", "--json", "--from-job", wire["meta"]["job_id"][:8], "Go on."
    ).json
    assert (again["meta"]["session_id"], again["diff"]) == (
        wire["meta"]["session_id"],
        wire["diff"],
    )


def test_a_dry_run_spends_nothing_and_says_what_it_would_start_from(
    world: World, model: Model, workspace: Path
) -> None:
    server = model()
    (workspace / ".env").write_text("KEY=1\n")
    with assert_unchanged(workspace):
        result = run(world, "delegate", "--dry-run", "Fix it.")
    assert (result.code, server.requests) == (0, [])
    assert "files; nothing was spent" in result.out
    assert ".env" in result.out


def test_a_task_that_fails_says_where_its_work_is(
    world: World, model: Model, workspace: Path
) -> None:
    model([FIX, failed("server_error", "it broke")], stream_max_retries=0)
    result = run(world, "delegate", "Fix it.")
    assert result.code == 3
    assert (
        "its work so far: 1 file changed, 1 insertion(+), 1 deletion(-), in "
        in result.err
    )
    path = Path(result.err.partition("deletion(-), in ")[2].splitlines()[0])
    assert "+answer = 42" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("delegate", ""), "invalid_arguments: task: is blank"),
        (("delegate", "--from-job", "last", "Go on."), "that is no job id"),
        (("delegate", "--from-job", "0" * 32, "Go on."), "job_not_found"),
        (("apply", "0" * 32), "job_not_found"),
        (("apply", "nonsense"), "invalid_arguments: JOB: "),
        (("apply",), "job_not_found"),
    ],
)
def test_bad_usage_says_what_to_do_and_exits_with_2(
    world: World, model: Model, workspace: Path, arguments: tuple[str, ...], words: str
) -> None:
    model()
    result = run(world, *arguments)
    assert (result.code, words in result.err, "what to do: " in result.err) == (
        2,
        True,
        True,
    ), result.err


def test_a_sweep_removes_what_a_killed_run_left_and_keeps_its_work(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Never."))
    model([FIX, gate])
    handle = start(world, background=True)
    assert gate.reached.wait(60)
    kill_worker(handle.job)
    assert len(trees(world)) == 1
    result = run(world, "jobs", "--sweep")
    assert (result.code, result.err) == (0, "removed 1 tree of killed runs\n")
    row = next(line for line in result.out.splitlines() if handle.job.id in line)
    assert row.split()[1:3] == ["delegate", "failed"]
    handle.release()
    assert_nothing_is_left(world)
    result = run(world, "result", handle.job.id)
    assert (
        "its work so far: 1 file changed, 1 insertion(+), 1 deletion(-), in "
        in result.err
    )
