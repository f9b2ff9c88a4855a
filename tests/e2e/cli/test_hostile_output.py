"""What a model, a repository or a caller wrote, printed in a workflow: no runner obeys it and no terminal either."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from codex_counsel.cli.verb_table import FORMATS
from codex_counsel.loopback import Loopback, Script, failed, hold, patch, say, shell
from tests import hostile
from tests.conftest import World
from tests.e2e.cli.conftest import WorldInClaudeCode
from tests.e2e.cli.test_verbs import RunResult, run
from tests.repositories import numbered_lines
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

RULE = hostile.ALL.replace("\0", "")
"""A file with a NUL is binary and not sent."""
REVIEW = reply(
    dict.fromkeys(
        ("title", "file", "section", "evidence", "risk", "recommendation"),
        hostile.ALL,
    )
    | {"rule_file": "REVIEW.md", "rule_quote": RULE}
    | {"replace_from": 7, "replace_to": 7, "replacement": hostile.ALL},
    verdict="concerns",
    summary=hostile.ALL,
    questions=[hostile.ALL],
    assumptions=[hostile.ALL],
    next_steps=[hostile.ALL],
)
OUTCOMES: dict[str, Script] = {
    "findings": [say(REVIEW)],
    "prose": [say(hostile.ALL)],
    "a failed run": [
        shell(f"echo '{hostile.COMMANDS['Azure, anywhere in a line']}'"),
        failed("server_error", hostile.ALL),
    ],
    "a rejected request": [failed("invalid_request_error", hostile.ALL)],
}


class WorldInWorkflow(WorldInClaudeCode):
    """A world whose processes are steps of a workflow."""

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "GITHUB_ACTIONS": "true"}


@pytest.fixture
def workflow(world: World) -> World:
    """The world inside a workflow, with uncommitted work in a file of a hostile name."""
    world = WorldInWorkflow(world.base, world.binary, world.settings)
    world.repository.begin()
    world.repository.write("REVIEW.md", RULE)
    world.repository.commit()
    world.repository.write("app.py", numbered_lines(l7="seven = 70"))
    world.repository.write("\u202e::add-mask::x\n::b ##vso[x].py", "x = 1\n")
    return world


def assert_inert(result: RunResult, *, annotations: bool = False) -> None:
    """Neither stream holds a command but, where they are asked for, our own annotations; nor a hidden character."""
    commands = hostile.obeyed_commands(result.out)
    if annotations:
        commands = [line for line in commands if not _is_annotation(line)]
    commands += hostile.obeyed_commands(result.err)
    assert commands == []
    for text in (result.out, result.err):
        # What an emoji needs is kept.
        assert hostile.hidden_characters(text) <= {"\ufe0f", "\r"}, text
    assert "Traceback" not in result.err


def _is_annotation(line: str) -> bool:
    kinds = ("error", "warning", "notice")
    begins_well = line.startswith(tuple(f"::{kind} file=" for kind in kinds))
    is_summary = line.startswith(
        tuple(f"::{kind} title=Codex review::" for kind in kinds)
    )
    return (begins_well or is_summary) and "##vso[" not in line and "##[" not in line


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_in_a_workflow_no_format_and_no_outcome_of_a_review_holds_a_command_of_the_model(
    workflow: World, model: Model, name: str, outcome: str
) -> None:
    model(OUTCOMES[outcome], stream_max_retries=0)
    result = run(workflow, "review", "--format", name)
    assert_inert(result, annotations=name == "github")
    assert "add-mask" in result.out + result.err
    # GitLab shows little of a finding.
    if outcome == "findings" and name != "gitlab":
        assert "REVIEW.md" in result.out
    if name in ("json", "sarif", "rdjson", "gitlab") and result.out:
        assert json.loads(result.out)


def test_the_annotations_of_a_review_are_inert_without_a_workflow_too(
    world: World, model: Model
) -> None:
    world.repository.begin_changed()
    model([failed("server_error", hostile.ALL)], stream_max_retries=0)
    assert_inert(run(world, "review", "--format", "github"), annotations=True)
    assert_inert(run(world, "review", "--format=github", "--bad\n::add-mask::x"))


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_in_a_workflow_a_task_its_diff_and_its_record_hold_no_command(
    workflow: World, model: Model, as_json: bool
) -> None:
    flags = ["--json"] if as_json else []
    code = "".join(f"+{line}\n" for line in hostile.ALL.split("\n"))
    model(
        [
            patch(f"*** Begin Patch\n*** Add File: a.py\n{code}*** End Patch\n"),
            shell("printf '::add-mask::x\\n' > '\n::add-mask::name'"),
            say(hostile.ALL),
            say(hostile.ALL),
        ]
    )
    result = run(workflow, "delegate", *flags, hostile.COMMANDS["after a line end"])
    assert_inert(result)
    assert "add-mask" in result.out
    job = next(path for path in (workflow.state / "jobs").iterdir()).name
    for arguments in (
        ("jobs",),
        ("result", job),
        ("apply", "--check-only", job),
        ("apply", job),
        ("cancel", job),
        ("status",),
        ("delegate", "--dry-run", "x"),
        ("review", "--dry-run"),
        ("consult", "\n::add-mask::x"),
        ("jobs", "--all", "--color", "never"),
        ("result", job[:6], "--quiet"),
        ("apply",),
        ("apply", "--undo"),
        ("transfer", "\n::add-mask::x"),
    ):
        assert_inert(run(workflow, *arguments, *flags))


def test_in_a_workflow_colours_do_not_let_a_command_begin_a_line(
    workflow: World, model: Model
) -> None:
    code = "".join(f"+{line}\n" for line in hostile.ALL.split("\n"))
    model(
        [
            patch(f"*** Begin Patch\n*** Add File: a.py\n{code}*** End Patch\n"),
            say(hostile.ALL),
        ]
    )
    file = workflow.base / "result.txt"
    run(
        workflow,
        "delegate",
        "--color=always",
        f"--output={file}",
        hostile.COMMANDS["after a line end"],
    )
    results = [
        run(workflow, "result", "--color", "always"),
        run(workflow, "jobs", "--color", "always"),
        RunResult(0, file.read_text("utf-8"), ""),
    ]
    for result in results:
        assert "-commands::" in result.out
        plain = re.sub("\x1b\\[[0-9;]{1,4}m", "", result.out)
        assert_inert(RunResult(result.code, plain, result.err))


@pytest.mark.parametrize(
    "arguments",
    [
        ("review", "--scope", "\n::add-mask::x"),
        ("review", "--nonsense\n::add-mask::x"),
        ("review", "--scope", "branch", "--base", "\n::add-mask::x"),
        ("review", "no\n::add-mask::file"),
        ("consult", "--image", "no\n::add-mask::file", "x"),
        ("consult", "-C", "no\n::add-mask::file", "x"),
        ("result", "\n::add-mask::x"),
        ("\n::add-mask::x",),
        ("gate", "run"),
        ("gate", "install", "--fail-on", "\n::add-mask::x"),
    ],
)
def test_in_a_workflow_arguments_are_not_echoed_as_commands(
    workflow: World, arguments: tuple[str, ...]
) -> None:
    assert_inert(run(workflow, *arguments, stdin="\n::add-mask::x"))


def test_a_traceback_holds_no_command(workflow: World) -> None:
    program = "import sys; from codex_counsel import cli; from codex_counsel.cli import verbs\n"
    program += (
        "def boom(_): raise RuntimeError('x\\n::add-mask::y \\x1b[2K##vso[a]b')\n"
    )
    program += "verbs.HANDLERS['models'] = boom; sys.exit(cli.run(['models']))"
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=workflow.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "RuntimeError" in result.stderr
    assert hostile.obeyed_commands(result.stderr) == []
    assert "\x1b" not in result.stderr


def test_a_terminal_obeys_nothing_of_the_model_while_it_runs_or_afterwards(
    world: World, model: Model
) -> None:
    gate = hold(say(hostile.ALL))
    command = "printf '\\033]0;owned\\007'; : '\x1b]0;owned\x07 \u202e ::add-mask::x'"
    model([shell(command), gate])
    terminal, other_end = pty.openpty()
    argv = [sys.executable, "-m", "codex_counsel", "consult", "Hi"]
    with subprocess.Popen(
        argv,
        env={**world.env, "TERM": "xterm"},
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        stdout=other_end,
        stderr=other_end,
    ) as child:
        os.close(other_end)
        assert gate.reached.wait(60)
        time.sleep(2.5)
        gate.release.set()
        output = _read_all(terminal)
    assert child.returncode == 0
    assert "\x1b[2m" in output
    ours = re.sub("\r\x1b\\[K|\x1b\\[[0-9;]{1,4}m", "", output)
    assert "\x1b" not in ours
    assert hostile.hidden_characters(ours) <= {"\r", "\ufe0f"}
    # The terminal's driver puts a CR before each LF.
    assert "\r" not in re.sub("\r+\n", "", ours)


def _read_all(terminal: int) -> str:
    data = bytearray()
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            data += chunk
    os.close(terminal)
    return data.decode()
