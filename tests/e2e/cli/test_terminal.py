"""The command line at a real terminal: colours, width, progress, Ctrl-C."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from codex_counsel.loopback import Loopback, hold, patch, say
from tests.conftest import World, living
from tests.e2e.cli.terminal import CTRL_C, ENTER, terminal
from tests.e2e.cli.test_verbs import run
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-line_1 = 1\n+line_1 = 11\n*** End Patch\n"
)
LONG = "This risk is described with many words. " * 8


@pytest.mark.parametrize("columns", [80, 120])
def test_a_review_has_colours_and_fits_the_width(
    world: World, model: Model, columns: int
) -> None:
    world.repository.begin_changed()
    model([say(reply({"severity": "high", "risk": LONG}, verdict="fail"))])
    with terminal(world, "review", columns=columns) as screen:
        assert screen.finish() == 1
    assert "\x1b[31mHIGH\x1b[0m" in screen.output
    lines = screen.text.splitlines()
    assert max(map(len, lines)) <= columns
    risk = [line for line in lines if "described" in line]
    assert len(risk) == -(-len(LONG) // (columns - 2))


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        ((), {"NO_COLOR": "1"}),
        (("--color", "never"), {}),
        ((), {"TERM": "dumb"}),
    ],
)
def test_colours_can_be_turned_off(
    world: World, model: Model, flags: tuple[str, ...], env: dict[str, str]
) -> None:
    world.repository.begin_changed()
    model([say(reply({}, verdict="concerns"))])
    with terminal(world, "review", *flags, env=env) as screen:
        screen.finish()
    assert "MEDIUM  The seventh line is wrong" in screen.text
    assert "\x1b[" not in screen.output.replace("\r\x1b[K", "")


def test_a_pipe_gets_colours_where_they_are_asked_for_and_a_file_does_not(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    model([FIX, say("Fixed.")])
    assert (
        "\x1b[32m+line_1 = 11\x1b[0m"
        in run(world, "delegate", "--color", "always", "Fix it.").out
    )
    file = world.base / "result.txt"
    assert run(world, "result", "--output", str(file)).out == ""
    assert "\n+line_1 = 11\n" in file.read_text("utf-8")


def test_quiet_prints_the_result_alone(world: World, model: Model) -> None:
    model([say("Use a queue.")])
    with terminal(world, "consult", "--quiet", "Queue or lock?") as screen:
        assert screen.finish() == 0
    assert screen.output == "Use a queue.\n"


def test_something_is_shown_before_anything_is_checked(
    world: World, model: Model
) -> None:
    model()
    go, waiting = world.base / "go", world.base / "codex"
    loop = f"until [ -e {go} ]; do sleep 0.02; done"
    waiting.write_text(f'#!/bin/sh\n{loop}\nexec {world.binary} "$@"\n')
    waiting.chmod(0o755)
    world.binary = str(waiting)
    # Behind a script Codex can run no commands.
    with terminal(world, "consult", "--text-only", "Hi") as screen:
        screen.wait_for("getting ready")
        assert len(list(world.state.glob("jobs/*"))) == 0
        go.touch()
        assert screen.finish() == 0


def test_a_question_that_is_typed_is_asked_for(world: World, model: Model) -> None:
    server = model([say("Yes.")])
    with terminal(world, "consult") as screen:
        screen.wait_for("Type the question, and end it with Ctrl-D:")
        screen.type(b"Is it fine?\n\x04")
        assert screen.finish() == 0
    assert "Is it fine?" in server.requests[0].prompt


def test_ctrl_c_names_the_run_and_enter_lets_it_go_on(
    world: World, model: Model
) -> None:
    gate = hold(say("Done after all."))
    model([gate])
    with terminal(world, "consult", "Wait.") as screen:
        assert gate.reached.wait(60)
        screen.wait_for("thinking")
        screen.type(CTRL_C)
        screen.wait_for("Ctrl-C again: end it")
        screen.type(ENTER)
        assert screen.finish() == 6
    named = re.search(r"Job (\w{32}), thread ([0-9a-f-]{36}), is still", screen.text)
    assert named, screen.text
    gate.release.set()
    result = run(world, "result", "--wait", named[1][:8])
    assert (result.code, result.out.splitlines()[0]) == (0, "Done after all.")
    assert f"--session-id {named[2]}" in result.out


def test_ctrl_c_ends_a_run_that_cannot_go_on_alone(world: World, model: Model) -> None:
    gate = hold(say("Never."))
    model([gate])
    (world.base / "file").write_text("no directory")
    world.settings["STATE_DIR"] = str(world.base / "file/state")
    with terminal(world, "consult", "Wait.") as screen:
        assert gate.reached.wait(60)
        # The model is asked before the run is waited for.
        screen.wait_for("thinking")
        screen.type(CTRL_C)
        assert screen.finish() == 130
    assert "let it run" not in screen.text
    assert living(str(world.temp)) == []


def test_a_second_ctrl_c_ends_the_run_and_shows_what_it_had_done(
    world: World, model: Model
) -> None:
    world.repository.begin()
    gate = hold(say("Never."))
    model([FIX, gate])
    with terminal(world, "delegate", "Wait.") as screen:
        assert gate.reached.wait(60)
        # The model is asked before the run is waited for.
        screen.wait_for("thinking")
        screen.type(CTRL_C)
        screen.wait_for("Ctrl-C again: end it")
        screen.type(CTRL_C)
        assert screen.finish() == 130
    assert "cancelled: The run was cancelled" in screen.text
    assert "its work so far: 1 file changed" in screen.text
    assert re.search(r"^thread: [0-9a-f-]{36}$", screen.text, re.MULTILINE)
    assert living(str(world.state)) == []


def test_a_run_that_ends_while_the_user_decides_is_printed(
    world: World, model: Model
) -> None:
    gate = hold(say("Just in time."))
    model([gate])
    with terminal(world, "consult", "Wait.") as screen:
        assert gate.reached.wait(60)
        # The model is asked before the run is waited for.
        screen.wait_for("thinking")
        screen.type(CTRL_C)
        screen.wait_for("Ctrl-C again: end it")
        gate.release.set()
        assert screen.finish() == 0
    assert "Just in time." in screen.text


def test_the_list_of_jobs_fits_the_width_and_its_ids_can_be_used(
    world: World, model: Model
) -> None:
    model([say("Yes.")])
    run(world, "consult", "A question of many words, " * 20)
    with terminal(world, "jobs", columns=80) as screen:
        assert screen.finish() == 0
    head, line = screen.text.splitlines()
    assert head.startswith("JOB ")
    assert (len(line), line[-1]) == (80, "…")
    assert run(world, "result", line.split()[0]).out.startswith("Yes.")


def test_the_first_words_come_soon(world: World, model: Model) -> None:
    model()
    # A machine under load takes several times the usual tenth of a second, and may stall.
    assert any(seconds_to_first_words(world) < 10 for _ in range(3))


def seconds_to_first_words(world: World) -> float:
    begin = time.monotonic()
    with terminal(world, "consult", "Hi") as screen:
        screen.wait_for("getting ready")
        seconds = time.monotonic() - begin
        screen.finish()
    return seconds
