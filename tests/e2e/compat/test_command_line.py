"""The command line of the server that takes the place of `codex mcp-server`, as the old one was written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.loopback import Loopback, say, shell
from tests.conftest import World
from tests.e2e.claude.conftest import uv, uv_cache
from tests.e2e.compat.client import ARGV, ask, text
from tests.e2e.packages import packages
from tests.e2e.server.wire import ServerProcess

__all__ = ["packages"]

Model = Callable[..., Loopback]
SCRIPT = (str(Path(sys.executable).parent / "codex-mcp-server"),)
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "a-test", "version": "0"},
    },
}


def started(world: World, *argv: str) -> subprocess.CompletedProcess[str]:
    """The server, or what it says instead, with nothing on its standard input."""
    return subprocess.run(
        argv,
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        "",
        "mcp-server",
        "mcp",
        "mcp serve",
        "-m gpt-5.5 mcp-server -c model_verbosity=low",
        "--config=model_verbosity=low --model=gpt-5.5 mcp serve --sandbox=read-only --ask-for-approval never",
        "mcp -p work -s workspace-write -a on-failure --disable web_search_request",
    ],
)
def test_the_old_command_line_serves_the_two_tools(world: World, words: str) -> None:
    with ServerProcess(world, argv=(*SCRIPT, *words.split())) as wire:
        assert wire.initialize()["result"]["serverInfo"]["name"] == "codex-mcp-server"
        tools = wire.answer(wire.ask("tools/list"))["result"]["tools"]
    assert [tool["name"] for tool in tools] == ["codex", "codex-reply"]


@pytest.mark.parametrize(
    "program", [(*SCRIPT, "mcp-server"), ARGV], ids=["script", "verb"]
)
def test_what_the_user_names_holds_for_calls_that_name_nothing_else(
    world: World, model: Model, program: Sequence[str]
) -> None:
    world.repository.begin_with_work()
    (world.codex_home / "work.config.toml").write_text('model_verbosity = "high"\n')
    server = model(say("It is fine."))
    argv = (
        *program,
        *("-m", "gpt-5.5", "-p", "work", "--enable", "web_search_request"),
        *("-c", "model_reasoning_effort=low"),
        *("-c", 'developer_instructions="Of the user."'),
    )
    with ServerProcess(world, argv=argv) as wire:
        wire.initialize()
        assert text(ask(wire, "codex", prompt="A")) == "It is fine."
        ask(
            wire,
            "codex",
            prompt="B",
            model="gpt-5.4",
            config={"model_reasoning_effort": "medium", "web_search": "disabled"},
            **{"developer-instructions": "Of the caller."},
        )
    own, callers = server.requests
    assert (own.model, own.effort) == ("gpt-5.5", "low")
    assert own.body["text"]["verbosity"] == "high"
    assert "web_search" in json.dumps(own.body["tools"])
    assert "Of the user." in own.developer
    assert (callers.model, callers.effort) == ("gpt-5.4", "medium")
    assert "Of the caller." in callers.developer
    assert "Of the user." not in callers.developer
    assert '"web_search"' not in json.dumps(callers.body["tools"])


def test_full_access_of_the_user_writes_in_a_copy_and_is_said_at_the_start(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    model([shell("echo one > one.txt"), say("Made one.")])
    argv = (*SCRIPT, "-s", "danger-full-access", "-a", "on-request", "mcp-server")
    with ServerProcess(world, argv=argv) as wire:
        wire.initialize()
        assert "danger-full-access is not offered" in wire.stderr
        assert "on-request has no effect" in wire.stderr
        result = ask(wire, "codex", prompt="Make one.")
        assert "+one" in text(result)
        assert "approval" not in text(result)
        refused = ask(wire, "codex", prompt="Go.", sandbox="danger-full-access")
        assert refused["isError"]
    assert not (world.workspace / "one.txt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["app-server"], "there is no command 'app-server' here"),
        (["mcp-server", "mcp-server"], "there is no command"),
        (["-s", "none"], "invalid choice: 'none'"),
        (["-a", "always"], "invalid choice: 'always'"),
        (["-m"], "expected one argument"),
        (["-m", "-x"], "expected one argument"),
        (["-m", " "], "model: is blank"),
        (["-p", "../x"], "profile: is not the plain name"),
        (["-c", "model"], "-c model: should be KEY=VALUE"),
        (["-c", "notify=['sh']"], "config: notify is refused"),
        (["--enable", "apps"], "config: features.apps is refused"),
        (["--disable", "x\x1b[31m"], "config: features.x"),
        (["-c", "sandbox_mode=none"], "config: sandbox_mode, which is the argument"),
        (["--strict-config"], "leave it out"),
        (["--full-auto"], "write -s workspace-write"),
        (["--yolo"], "every run is sandboxed"),
        (["--dangerously-bypass-approvals-and-sandbox"], "every run is sandboxed"),
        (["--search"], "write -c web_search=live"),
        (["-C", "/x"], "name the directory in the argument cwd"),
        (["--mod", "x"], "there is no argument '--mod' here"),
    ],
    ids=str,
)
@pytest.mark.parametrize("program", [SCRIPT, ARGV], ids=["script", "verb"])
def test_a_mistake_ends_the_start_with_code_2_and_a_sentence(
    world: World, words: list[str], said: str, program: Sequence[str]
) -> None:
    if program == ARGV and words[0] in ("app-server", "mcp-server", "--mod"):
        pytest.skip("for the verb, as for all verbs")
    result = started(world, *program, *words)
    assert result.returncode == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "x"],
        ["-c", "model=x"],
        ["-s", "read-only"],
        ["-a", "never"],
        ["-p", "x"],
        ["--enable", "x"],
        ["--disable", "x"],
    ],
    ids=" ".join,
)
def test_the_flags_belong_to_compat(world: World, words: list[str]) -> None:
    argv = (sys.executable, "-m", "codex_counsel", "mcp", *words)
    result = started(world, *argv)
    assert result.returncode == 2
    assert "needs --compat" in result.stderr


def test_help_and_version_answer_at_once(world: World) -> None:
    result = started(world, *SCRIPT, "mcp-server", "--help")
    assert result.returncode == 0
    for word in ("--config", "--sandbox", "mcp serve", "--version", "codex-reply"):
        assert word in result.stdout
    for flag in ("--version", "-V"):
        result = started(world, *SCRIPT, flag)
        assert result.stdout.startswith("codex-mcp-server ")
    help_of_verb = started(world, *ARGV[:-1], "--help").stdout
    assert "only with --compat" in help_of_verb
    program = "import sys; from codex_counsel.__main__ import compat; sys.argv[1:] = ['--help']\n"
    program += "try: compat()\nexcept SystemExit: pass\n"
    program += "print({'fastmcp', 'pydantic', 'anyio'} & set(sys.modules))"
    result = started(world, sys.executable, "-c", program)
    assert result.stdout.splitlines()[-1] == "set()"


def test_the_wheel_brings_the_script(world: World, packages: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    env: dict[str, Any] = {
        **world.env,
        "UV_CACHE_DIR": uv_cache(),
        "UV_OFFLINE": "1",
        "UV_PYTHON": sys.executable,
    }
    for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX"):
        if name in os.environ:
            env[name] = os.environ[name]
    result = subprocess.run(
        [uv(), "tool", "run", "--from", str(wheel), "codex-mcp-server", "mcp-server"],
        env=env,
        cwd=world.workspace,
        input=json.dumps(HELLO) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    answer = json.loads(result.stdout.splitlines()[0])
    assert answer["result"]["serverInfo"]["name"] == "codex-mcp-server", result.stderr
