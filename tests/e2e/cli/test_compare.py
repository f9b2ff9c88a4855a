"""Comparing the diffs of tasks on the command line: real processes, real Codex, scripted model."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.loopback import Loopback, Reply, Request, patch, say, stall
from tests.conftest import World, until
from tests.e2e.attempts import CHECK, CRASH, NOTHING, RIGHT, WRONG, Cast
from tests.e2e.cli.test_verbs import RunResult, run
from tests.e2e.delegation import assert_unchanged
from tests.pages import parse_page

Model = Callable[..., Loopback]

TASKS = {"First": "42", "Second": "43", "Third": "42"}


def answer(request: Request) -> Reply:
    """Each task sets the answer, to what the table says."""
    if "Wait." in request.prompt:
        return stall()
    if "Is it" in request.prompt:
        return say("Yes.")
    for task, number in TASKS.items():
        if task in request.prompt and not request.outputs:
            change = f"@@\n-answer = 41\n+answer = {number}\n"
            begin = "*** Begin Patch\n*** Update File: app.py\n"
            return patch(f"{begin}{change}*** End Patch\n")
    return say("Done.")


@pytest.fixture
def jobs(world: World, model: Model, workspace: Path) -> list[str]:
    """Three tasks that have ended; the third did the same as the first."""
    model(answer)
    return [
        run(world, "delegate", "--json", f"{task}.").json["meta"]["job_id"]
        for task in TASKS
    ]


def test_tasks_are_compared_as_text_and_nothing_is_changed(
    world: World, jobs: list[str], workspace: Path
) -> None:
    (workspace / "app.py").write_text("changed since\n")
    with assert_unchanged(workspace):
        result = run(world, "compare", *[job[:8] for job in jobs])
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == "3 tasks, 1 changed file: 0 the same in all, 1 different"
    assert [line.split()[:2] for line in lines[2:5]] == [
        [str(number), job] for number, job in enumerate(jobs, 1)
    ]
    assert "all of 3" in lines[2]
    first = lines.index("1, 3:  M app.py +1 -1")
    second = lines.index("2:  M app.py +1 -1")
    assert "+answer = 42" in lines[first:second]
    assert "+answer = 43" in lines[second:]
    for job in jobs:
        assert run(world, "apply", "--check-only", job).code == 1


def test_formats_and_files_are_those_of_the_other_verbs(
    world: World, jobs: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    result = run(world, "compare", "--json", "--output", f"html={file}", *jobs)
    assert result.code == 0
    assert result.json["data"]["differing"] == 1
    page = parse_page(file.read_text("utf-8"))
    assert len(page.all("section", "task")) == 3
    assert [node.text for node in page.one("article").all("h4")] == ["13+1-1", "2+1-1"]
    printed = run(world, "compare", "--format", "html", *jobs)
    assert printed.out == file.read_text("utf-8")
    alone = run(world, "compare", "--format", "html", "--output", str(file), *jobs)
    assert (alone.code, alone.out) == (0, "")


def test_what_cannot_be_compared_is_refused_with_what_to_do(
    world: World, jobs: list[str], tmp_path: Path
) -> None:
    consultation = run(world, "consult", "--json", "Is it?").json["meta"]["job_id"]
    running = run(world, "delegate", "--background", "--json", "Wait.").json["job_id"]
    nowhere = str(tmp_path / "nowhere" / "page.html")
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        (jobs[0],): (2, "two different tasks with a diff are needed"),
        (jobs[0], jobs[0][:8]): (2, "two different tasks with a diff are needed"),
        (jobs[0], consultation): (2, f"{consultation} is no delegated task"),
        (jobs[0], running): (6, f"Job {running} has not finished"),
        (jobs[0], "f" * 32): (2, "There is no job"),
        (jobs[0], "nonsense"): (2, "that is no job id"),
        (): (2, "has no ended task with several attempts"),
        (*jobs, "--output", "sarif=x"): (2, "sarif is for reviews"),
        (*jobs, "--output", f"html={nowhere}"): (2, "cannot be written"),
    }
    for arguments, (code, words) in cases.items():
        result = run(world, "compare", *arguments)
        assert (result.code, words in result.err) == (code, True), result.err
        assert "what to do: " in result.err
        assert result.out == ""
    run(world, "cancel", running)
    result = run(world, "compare", jobs[0], running)
    assert (result.code, "cancelled" in result.out) == (0, True)


def test_a_file_that_cannot_be_written_names_the_way_to_compare_again(
    world: World, jobs: list[str]
) -> None:
    result = run(world, "compare", *jobs, "--output", "html=/dev/full")
    assert result.out.startswith("3 tasks, 1 changed file")
    assert "storage_failed: --output: /dev/full: No space left" in result.err
    assert "give the command again" in result.err
    assert "codex-counsel result" not in result.err


def test_a_failure_is_a_document_where_one_was_asked_for(
    world: World, jobs: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    result = run(world, "compare", "--json", "--output", f"html={file}", jobs[0])
    assert (result.code, result.json["error"]["code"]) == (2, "invalid_arguments")
    assert "Nothing was compared" in file.read_text("utf-8")


# --- attempts


def test_attempts_are_listed_by_rank_and_compared_by_the_job_of_all(
    world: World, model: Model, workspace: Path
) -> None:
    cast = Cast({"wrong": WRONG, "right": RIGHT, "crash": CRASH}, "+answer = 43")
    model(cast)
    models = [word for name in cast.parts for word in ("--models", name)]
    task = ("delegate", "--attempts", "3", "--judge", "--check", CHECK, *models)
    result = run(world, *task, "Do it.")
    assert result.code == 0
    lines = result.out.splitlines()
    start = lines.index("attempts, the best one first:")
    first, second, third = [line.split() for line in lines[start + 2 : start + 5]]
    assert (first[:2], first[3]) == (["1", "2"], "passed")
    assert (second[:2], second[3:6]) == (["2", "1"], ["failed", "(exit", "1)"])
    assert (third[:2], third[3:5]) == (["3", "3"], ["not", "run"])
    command = next(line for line in lines if line.startswith("compare them: "))
    parent = command.split()[-1]

    compared = run(world, *command.removeprefix("compare them: codex-counsel ").split())
    rows = [line.split() for line in compared.out.splitlines()[2:5]]
    assert [row[:3] for row in rows] == [
        ["2", first[2], "1"],
        ["1", second[2], "2"],
        ["3", third[2], "3"],
    ]
    newest = run(world, "result", "--json")
    assert newest.json["meta"]["job_id"] == parent
    newest = run(world, "compare", "--json")
    assert newest.err == f"the newest that fits: delegate {parent} (Do it.)\n"
    jobs = newest.json["data"]["jobs"]
    assert [job["label"] for job in jobs] == ["2", "1", "3"]
    assert (jobs[0]["why"], jobs[1]["judge_rank"]) == ("check passed", 1)
    applied = run(world, "apply", second[2])
    assert (applied.code, (workspace / "app.py").read_text()) == (0, "answer = 43\n")


def test_an_attempt_whose_record_is_damaged_keeps_none_of_the_others_from_being_compared(
    world: World, model: Model, workspace: Path
) -> None:
    model(list(RIGHT))
    wire = run(world, "delegate", "--json", "--attempts", "3", "Do it.").json
    damaged, *_ = [row["job_id"] for row in wire["attempts"]]
    (world.state / "jobs" / damaged / "spec.json").write_text("{")
    result = run(world, "compare", "--json", wire["meta"]["job_id"])
    assert result.code == 0
    problems = [job.get("problem") for job in result.json["data"]["jobs"]]
    assert problems == ["its record cannot be read", None, None]


def test_cancel_without_an_id_ends_all_attempts_at_a_task(
    world: World, model: Model, workspace: Path
) -> None:
    server = model(lambda _: stall())
    task = ("delegate", "--background", "--json", "--attempts", "2", "Do it.")
    parent = run(world, *task).json["job_id"]
    until(lambda: len(server.requests) == 2 or None)
    result = run(world, "cancel")
    assert (result.code, parent in result.err) == (0, True)
    assert {row["status"] for row in _rows(world)} == {"cancelled"}


def test_attempts_of_which_none_passes_have_the_exit_code_1(
    world: World, model: Model, workspace: Path
) -> None:
    model(Cast({"wrong": WRONG, "nothing": NOTHING}))
    models = ("--models", "wrong", "--models", "nothing")
    result = run(
        world, "delegate", "--attempts", "2", "--check", CHECK, *models, "Do it."
    )
    assert (result.code, result.out.startswith("check FAILED (exit 1): ")) == (1, True)


# --- in the browser


PATIENT = """
import sys
from codex_counsel.__main__ import main
from codex_counsel.cli import compare
compare.PATIENCE = 60
sys.exit(main())
"""
"""Runs a verb that waits for the end of a browser, however slow the machine is."""


def opened(
    world: World, browser: str, *arguments: str, program: str = PATIENT
) -> RunResult:
    result = subprocess.run(
        [sys.executable, "-c", program, "compare", "--open", *arguments],
        env={**world.env, "BROWSER": browser},
        cwd=world.workspace,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return RunResult(result.returncode, result.stdout, result.stderr)


def program(path: Path, words: str) -> str:
    path.write_text(f"#!/bin/sh\n{words}\n")
    path.chmod(0o755)
    return f"{path} %s"


def test_the_page_is_opened_in_the_browser_that_the_environment_names(
    world: World, jobs: list[str], tmp_path: Path
) -> None:
    note = tmp_path / "address"
    browser = program(tmp_path / "browser", f'printf %s "$1" > {note}')
    result = opened(world, browser, *jobs)
    page = world.state / "pages/compare.html"
    assert (result.code, result.err) == (0, f"the page is at {page}\n")
    assert note.read_text() == page.as_uri()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert len(parse_page(page.read_text("utf-8")).all("section", "task")) == 3
    assert result.out.startswith("3 tasks, ")

    own = tmp_path / "a b.html"
    result = opened(world, browser, *jobs, "--output", f"html={own}")
    assert (result.code, note.read_text()) == (0, own.as_uri())


def test_a_browser_that_does_not_return_keeps_nobody_waiting(
    world: World, jobs: list[str], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pid = tmp_path / "pid"
    browser = program(tmp_path / "browser", f"echo $$ > {pid}; cat {pipe}")
    impatient = PATIENT.replace("compare.PATIENCE = 60", "")
    result = opened(world, browser, *jobs, program=impatient)
    assert (result.code, "the page is at" in result.err) == (0, True)
    # It goes on until its window is closed.
    number = until(lambda: pid.exists() and pid.read_text().strip())
    process = Path("/proc", str(number))
    assert process.exists()
    os.close(os.open(pipe, os.O_WRONLY))
    until(lambda: not process.exists() or None)


def test_without_a_desktop_or_a_browser_the_page_is_named(
    world: World, jobs: list[str], tmp_path: Path
) -> None:
    result = run(world, "compare", "--open", *jobs)
    page = world.state / "pages/compare.html"
    words = "there is no desktop here to open a browser on"
    assert (result.code, result.err) == (0, f"{words}; the page is at {page}\n")
    failing = program(tmp_path / "browser", "exit 1")
    result = opened(world, failing, *jobs)
    words = "no browser could be started"
    assert (result.code, result.err) == (0, f"{words}; the page is at {page}\n")
    assert opened(world, failing, "-q", *jobs).err == ""


def test_a_link_in_the_place_of_the_page_is_not_followed(
    world: World, jobs: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "mine"
    target.write_text("mine\n")
    pages = world.state / "pages"
    pages.mkdir(0o700)
    (pages / "compare.html").symlink_to(target)
    result = run(world, "compare", "--open", *jobs)
    assert (result.code, "storage_failed" in result.err) == (3, True)
    (pages / "compare.html").unlink()
    pages.rmdir()
    pages.symlink_to(tmp_path)
    result = run(world, "compare", "--open", *jobs)
    assert (result.code, "storage_failed" in result.err) == (3, True)
    assert target.read_text() == "mine\n"


# --- checks


def test_a_check_that_fails_is_the_first_line_and_the_exit_code(
    world: World, model: Model, workspace: Path
) -> None:
    model(answer)
    check = "grep -q 42 app.py || { echo 'it is not 42'; exit 3; }"
    passed = run(world, "delegate", "--check", check, "First.")
    assert passed.code == 0
    assert passed.out.startswith("Done.\n")
    words = f"check passed: {check}; it failed before the change"
    assert any(line.startswith(words) for line in passed.out.splitlines())

    result = run(world, "delegate", "--check", check, "Second.")
    lines = result.out.splitlines()
    assert result.code == 1
    assert lines[0] == (
        f"check FAILED (exit 3): {check}; it failed before the change too"
    )
    assert "  | it is not 42" in lines
    assert any(line.startswith("apply it with: ") for line in lines)
    again = run(world, "result")
    assert (again.code, again.out.splitlines()[0]) == (1, lines[0])
    assert run(world, "result", "--json").code == 1

    unstarted = run(world, "delegate", "--check", "no-such-program", "Third.")
    assert unstarted.code == 1
    assert unstarted.out.startswith("check could NOT be started (exit 127): ")
    jobs = [row["job_id"] for row in _rows(world)]
    compared = run(world, "compare", *jobs)
    assert "check FAILED (exit 3)" in compared.out


def _rows(world: World) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(run(world, "jobs", "--json").out)["data"][
        "jobs"
    ]
    return rows
