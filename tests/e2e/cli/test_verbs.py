"""The command line as a person or a CI job uses it: real processes, real Codex, scripted model."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from codex_counsel.loopback import (
    Loopback,
    Reply,
    Request,
    Usage,
    hold,
    http_error,
    say,
    shell,
    stall,
)
from tests.conftest import World, living

Model = Callable[..., Loopback]


@dataclass
class RunResult:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))


def run(world: World, *arguments: str, stdin: str | None = None) -> RunResult:
    argv = [sys.executable, "-m", "codex_counsel", *arguments]
    result = subprocess.run(
        argv,
        env=world.env,
        cwd=world.workspace,
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return RunResult(result.returncode, result.stdout, result.stderr)


def test_an_answer_is_printed_with_where_it_came_from(
    world: World, model: Model
) -> None:
    model([say("Use a queue.\nIt is simpler.")])
    result = run(world, "consult", "Queue or lock?")
    assert result.code == 0
    assert result.out.startswith("Use a queue.\nIt is simpler.\n")
    assert "sandbox: read-only, reads workspace, network off" in result.out
    assert "continue with: --session-id" in result.out
    assert result.err == ""


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_a_setting_that_is_not_used_as_given_is_named_on_stderr(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch, quiet: tuple[str, ...]
) -> None:
    model([say("Yes.")])
    changed = {**world.env, "CODEX_COUNSEL_TIMEOUT_SECONDS": "1"}
    monkeypatch.setattr(type(world), "env", property(lambda _: changed))
    result = run(world, "consult", *quiet, "Is it so?")
    assert result.code == 0
    assert ("TIMEOUT_SECONDS=1 is out of bounds; 10 is used" in result.err) != bool(
        quiet
    )


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_answer_is_printed_whatever_the_encoding_of_the_output(
    world: World, model: Model, encoding: str
) -> None:
    model([say("A queue \u2014 simpler.")])
    env = {**world.env, "PYTHONIOENCODING": encoding}
    argv = [sys.executable, "-m", "codex_counsel", "consult", "Queue or lock?"]
    result = subprocess.run(
        argv, env=env, cwd=world.workspace, capture_output=True, timeout=90, check=False
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"A queue \\u2014 simpler." in result.stdout
    assert len(list(world.state.glob("jobs/*/delivered"))) == 1


@pytest.mark.parametrize("fetched", [False, True], ids=["at once", "later"])
def test_an_answer_that_could_not_be_printed_is_not_delivered(
    world: World, model: Model, fetched: bool
) -> None:
    gate = hold(say("It is fine."))
    model(gate)
    arguments = ["consult", "Queue or lock?"]
    if fetched:
        job = run(world, "consult", "--background", "--json", "Queue or lock?").json[
            "job_id"
        ]
        arguments = ["result", "--wait", job]
    gate.release.set()
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        argv = [sys.executable, "-m", "codex_counsel", *arguments]
        result = subprocess.run(
            argv,
            env=world.env,
            cwd=world.workspace,
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=90,
            check=False,
        )
    assert result.returncode != 0
    assert list(world.state.glob("jobs/*/result.json"))
    assert not list(world.state.glob("jobs/*/delivered"))


def test_the_question_may_come_from_standard_input(world: World, model: Model) -> None:
    server = model()
    assert run(world, "consult", stdin='Is `this` "safe" at $HOME?\n').code == 0
    assert 'Is `this` "safe" at $HOME?' in server.requests[0].prompt


def test_json_is_the_envelope(world: World, model: Model) -> None:
    model([say("Yes.")])
    wire = run(world, "consult", "--json", "Really?").json
    assert (wire["tool"], wire["status"], wire["answer"]) == (
        "codex_consult",
        "completed",
        "Yes.",
    )


def test_every_flag_reaches_the_run(world: World, model: Model) -> None:
    server = model([say('{"sure": true}')])
    (world.base / "further.txt").write_text("The cache is shared.")
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}},
        "required": ["sure"],
        "additionalProperties": False,
    }
    (world.base / "schema.json").write_text(json.dumps(schema))
    flags = [
        "--stance",
        "challenge",
        "--context-file",
        str(world.base / "further.txt"),
        "--model",
        "gpt-5.5",
    ]
    flags += [
        "--effort",
        "high",
        "--output-schema",
        str(world.base / "schema.json"),
        "--timeout-seconds",
        "60",
    ]
    wire = run(world, "consult", "--json", *flags, "Sure?").json
    request = server.requests[0]
    assert wire["data"] == {"sure": True}
    assert (request.model, request.effort, request.schema) == (
        "gpt-5.5",
        "high",
        schema,
    )
    assert "The cache is shared." in request.prompt
    assert "Argue the other side" in request.prompt
    record = world.state / "jobs" / wire["meta"]["job_id"] / "spec.json"
    assert json.loads(record.read_text("utf-8"))["total"] == 60


def test_an_answer_that_was_cut_short_says_so_in_every_form(
    world: World, model: Model
) -> None:
    def script(request: Request) -> Reply:
        last = [item for item in request.items("message") if item["role"] == "user"]
        if "token budget" in str(last[-1]):
            return say("So far it is fine.")
        return shell("true").but(usage=Usage(900, 0, 100, 0))

    model(script)
    flags = ("consult", "--max-tokens", "1000", "Fine?")
    text = run(world, *flags)
    assert text.out.startswith("So far it is fine.")
    assert "note: the run used up its 1000 tokens before it was done" in text.out
    meta = run(world, *flags, "--json").json["meta"]
    assert meta["budget_reached"]["limit"] == 1000
    quiet = run(world, *flags, "--quiet")
    assert quiet.out.strip() == "So far it is fine."
    assert quiet.err.strip().endswith(
        "note: cut short: the run used up its 1000 tokens"
    )
    assert "cut short" in run(world, "jobs").out

    refused = run(world, "consult", "--max-tokens", "10", "Fine?")
    assert refused.code == 2
    assert "--max-tokens: is not between 1000 and 1000000000" in refused.err


def test_a_background_run_is_fetched_by_its_job_id(world: World, model: Model) -> None:
    gate = hold(say("Done."))
    model([gate])
    job = run(world, "consult", "--background", "--json", "Slow?").json["job_id"]
    gate.release.set()
    result = run(world, "result", "--wait", job)
    assert (result.code, result.out.splitlines()[0]) == (0, "Done.")
    assert job in run(world, "jobs").out


def test_a_run_that_is_cancelled_is_gone(world: World, model: Model) -> None:
    server = model([stall()])
    job = run(world, "consult", "--background", "--json", "Wait.").json["job_id"]
    server.asked(1)
    assert run(world, "cancel", job).code == 0
    assert living(job) == []
    assert run(world, "result", job).code == 130


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("consult", ""), 2, "invalid_arguments: question: is blank"),
        (("consult", "-C", "/", "Hi"), 2, "workspace_invalid"),
        (("consult", "--session-id", "last", "Hi"), 2, "--session-id: "),
        (
            ("consult", "--output-schema", "missing.json", "Hi"),
            2,
            "--output-schema: missing.json: No such file",
        ),
        (("result", "0" * 32), 2, "job_not_found"),
        (("result", "../../etc"), 2, "invalid_arguments: JOB: that is no job id"),
        (("cancel", "nonsense"), 2, "invalid_arguments: JOB: that is no job id"),
        (
            ("jobs", "--limit", "201"),
            2,
            "invalid_arguments: --limit: Input should be less than or equal to 200",
        ),
    ],
)
def test_bad_usage_says_what_to_do_and_exits_with_2(
    world: World, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = run(world, *arguments)
    assert (result.code, words in result.err, "what to do: " in result.err) == (
        code,
        True,
        True,
    ), result.err


def test_codex_being_unavailable_exits_with_3(world: World, model: Model) -> None:
    model([http_error(500)])
    assert run(world, "consult", "Hi").code == 3


def test_without_a_login_status_says_so_and_exits_with_3(world: World) -> None:
    result = run(world, "status")
    assert result.code == 3
    assert "codex login" in result.out


def test_a_usable_codex_is_named_by_status(world: World, model: Model) -> None:
    model()
    result = run(world, "status", "--json")
    assert (
        result.code,
        result.json["data"]["usable"],
        result.json["data"]["codex"]["path"],
    ) == (0, True, world.binary)


def test_models_lists_what_the_binary_lists(world: World) -> None:
    lines = run(world, "models").out.splitlines()
    assert any(
        line.split()[0] == "gpt-5.5" and "low, medium (default), high, xhigh" in line
        for line in lines
    ), lines


def test_an_interrupt_ends_the_run_and_exits_with_130(
    world: World, model: Model
) -> None:
    server = model([stall()])
    argv = [sys.executable, "-m", "codex_counsel", "consult", "Wait."]
    child = subprocess.Popen(
        argv,
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    server.asked(1)
    child.send_signal(signal.SIGINT)
    assert b"cancelled" in child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert living(str(world.state)) == []


def test_a_terminal_gets_a_progress_line_and_loses_it_at_the_end(
    world: World, model: Model
) -> None:
    model([say("Fine.")])
    terminal, other_end = pty.openpty()
    argv = [sys.executable, "-m", "codex_counsel", "consult", "Hi"]
    result = subprocess.run(
        argv,
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=other_end,
        check=True,
    )
    os.close(other_end)
    output = b""
    # One read may give a part of what was written. The other end is closed: EIO.
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            output += chunk
    os.close(terminal)
    assert result.stdout.decode().startswith("Fine.")
    assert output.endswith(b"\r\x1b[K")


def test_output_that_nobody_reads_ends_quietly(world: World, model: Model) -> None:
    model([say("word " * 50_000)])
    argv = [sys.executable, "-m", "codex_counsel", "consult", "Hi"]
    with subprocess.Popen(
        argv,
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()


def test_help_and_version_load_neither_fastmcp_nor_pydantic() -> None:
    program = "import sys; from codex_counsel.cli import run\ntry: run(['--version'])\nexcept SystemExit: pass\n"
    program += "print({'fastmcp', 'pydantic', 'anyio'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == ["codex-counsel 0.1.0", "set()"]


@pytest.mark.parametrize(
    "arguments",
    [("jobs",), ("result", "0" * 32), ("cancel", "0" * 32), ("jobs", "--limit", "0")],
    ids=" ".join,
)
def test_verbs_that_only_read_jobs_load_no_heavy_library(
    world: World, arguments: tuple[str, ...]
) -> None:
    heavy = {
        "fastmcp",
        "pydantic",
        "anyio",
        "asyncio",
        "jsonschema",
        "platformdirs",
        "subprocess",
    }
    program = f"import sys; from codex_counsel.cli import run; code = run({list(arguments)})\n"
    program += f"print({heavy} & set(sys.modules), file=sys.stderr); sys.exit(code)"
    argv = [sys.executable, "-c", program]
    result = subprocess.run(
        argv, env=world.env, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr.splitlines()[-1] == "set()"
    assert result.returncode == (0 if arguments == ("jobs",) else 2)


def test_on_a_machine_where_codex_never_ran_status_says_login_and_nothing_else(
    world: World,
) -> None:
    world.codex_home.rmdir()
    env = {name: value for name, value in world.env.items() if name != "CODEX_HOME"}
    argv = [sys.executable, "-m", "codex_counsel", "status", "--json"]
    result = subprocess.run(
        argv,
        env=env,
        cwd=world.workspace,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    wire = json.loads(result.stdout)
    assert (result.returncode, wire["summary"]) == (
        3,
        "Codex is not usable: Codex is not logged in",
    )
    assert wire["data"]["sandbox"]["usable"]
    assert len(wire["next_steps"]) == 1
