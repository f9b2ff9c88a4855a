"""The plugin in sessions of the real Claude Code: installed, interrupted, in plan mode, beside its rivals."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest

from codex_counsel.loopback import Loopback, hold, say
from tests.conftest import World, living, until
from tests.e2e.claude.anthropic import JSON, Turn, text, use
from tests.e2e.claude.conftest import PREFIX, ROOT, Claude, first_start, uv

Models = Callable[..., Loopback]
CONSULT = PREFIX + "codex_consult"
ALLOWED = ("--allowedTools", PREFIX.removesuffix("__"))
CONTEXT_BYTES = 6_000


def once(name: str, **arguments: object) -> Callable[[Turn], list[JSON]]:
    """A model that calls one tool and then has done."""
    return lambda turn: (
        [text("done")] if turn.tool_results else [use(name, **arguments)]
    )


def status(turn: Turn) -> list[JSON]:
    return once(PREFIX + "codex_status")(turn)


class Installed(Claude):
    """The plugin as a user has it, from a marketplace."""

    def with_plugin(self) -> tuple[str, ...]:
        return ()


def test_installed_from_a_marketplace_it_runs_with_the_settings_chosen_there(
    claude: Claude, checkout: Path, model: Models
) -> None:
    model()
    user = Installed(**vars(claude))
    options = (
        "--config",
        "model=gpt-9",
        "--config",
        "effort=low",
        "--config",
        "read_boundary=toolchains",
    )
    for words in (
        ["marketplace", "add", str(checkout)],
        ["install", "codex@codex-counsel", *options],
    ):
        result = user.cli("plugin", *words)
        assert result.returncode == 0, result.stdout + result.stderr
    listed = json.loads(user.cli("plugin", "list", "--json").stdout)
    assert [(plugin["id"], plugin["enabled"]) for plugin in listed] == [
        ("codex@codex-counsel", True)
    ]

    session = user.ask("/codex:status", status)
    assert session.servers == {"plugin:codex:counsel": "connected"}
    data = json.loads(session.tool_results[0])["data"]
    assert (data["defaults"]["model"], data["defaults"]["effort"]) == ("gpt-9", "low")
    assert set(data["sandbox"]["read_boundary"].values()) == {"toolchains"}


def test_installed_as_the_how_to_says_no_environment_is_copied(
    claude: Claude, model: Models
) -> None:
    model()
    page = (ROOT / "docs/how-to/claude-code.md").read_text("utf-8")
    block = page.partition("## Install")[2].split("```")[1]
    lines = block.replace("/path/to/codex-counsel", f"file://{ROOT}").splitlines()
    user = Installed(**vars(claude))
    for line in filter(None, lines):
        program, *words = shlex.split(line)
        argv = [{"claude": claude.binary}.get(program, program), *words]
        subprocess.run(
            argv, cwd=claude.world.base, env=claude.env, check=True, timeout=100
        )
    copied = claude.config / "plugins"
    sizes = [
        path.lstat().st_size
        for path in copied.rglob("*")
        if not path.is_relative_to(copied / "data")
    ]
    print(sum(sizes))
    assert 100_000 < sum(sizes) < 10_000_000
    session = user.ask("/codex:status", status)
    assert session.servers == {"plugin:codex:counsel": "connected"}
    assert '"usable":true' in session.tool_results[0]


def test_a_variable_of_the_user_goes_before_the_setting_of_the_plugin(
    claude: Claude, model: Models
) -> None:
    model()
    claude.config.joinpath("settings.json").write_text(
        json.dumps(
            {
                "pluginConfigs": {
                    "codex@inline": {"options": {"model": "gpt-8", "effort": "low"}}
                }
            }
        ),
        "utf-8",
    )
    user = replace(claude, settings={"CODEX_COUNSEL_MODEL": "gpt-9"})
    defaults = json.loads(user.ask("/codex:status", status).tool_results[0])["data"][
        "defaults"
    ]
    assert defaults["model"] == "gpt-9"


def test_plan_mode_lets_it_consult(claude: Claude, model: Models) -> None:
    model([say("It is fine.")])
    session = claude.ask(
        "/codex:consult Is it?",
        once(CONSULT, question="Is it?"),
        "--permission-mode",
        "plan",
    )
    assert (session.code, session.denials) == (0, [])
    assert '"answer":"It is fine."' in session.tool_results[0]


def test_the_model_asks_codex_without_a_command_where_the_user_allowed_it(
    claude: Claude, model: Models
) -> None:
    model([say("It is fine.")])
    session = claude.ask(
        "Have Codex look at this", once(CONSULT, question="Is it?"), *ALLOWED
    )
    assert (session.code, session.denials) == (0, [])
    assert '"answer":"It is fine."' in session.tool_results[0]


def test_calls_of_one_message_run_at_the_same_time(
    claude: Claude, model: Models
) -> None:
    gates = [hold(say("one")), hold(say("two"))]
    server = model(lambda request: gates["SECOND" in request.prompt])

    def script(turn: Turn) -> list[JSON]:
        both = [use(CONSULT, question="FIRST"), use(CONSULT, question="SECOND")]
        return [text("done")] if turn.tool_results else both

    api = claude.api(script)
    process = claude.start(api, "/codex:consult both", *ALLOWED)
    server.asked(2)
    for gate in gates:
        gate.release.set()
    assert sorted(
        json.loads(output)["answer"]
        for output in claude.finish(process, api).tool_results
    ) == ["one", "two"]


def test_an_interrupt_in_a_call_leaves_nothing_running(
    claude: Claude, model: Models
) -> None:
    server = model([hold(say("too late"))])
    api = claude.api(once(CONSULT, question="Is it?"))
    process = claude.start(api, "/codex:consult Is it?")
    server.asked(1)
    process.send_signal(signal.SIGINT)
    claude.finish(process, api)
    until(lambda: not living(str(claude.world.state)))
    rows = claude.world.counsel().store.rows()
    assert [row["status"] for row in rows] == ["cancelled"]


def test_a_server_that_is_killed_between_calls_is_started_again(
    claude: Claude, model: Models
) -> None:
    model()
    killed: list[int] = []

    def script(turn: Turn) -> list[JSON]:
        if len(turn.tool_results) == 1 and not killed:
            killed.append(_kill_server(claude.world))
        return (
            [use(PREFIX + "codex_status")]
            if len(turn.tool_results) < 1 or len(api.turns) < 3
            else [text("done")]
        )

    api = claude.api(script)
    session = claude.finish(claude.start(api, "/codex:status"), api)
    results = [output for turn in api.turns for output in turn.tool_results[:1]]
    assert (session.code, session.denials, len(killed)) == (0, [], 1)
    assert all('"usable":true' in output for output in results)


def _kill_server(world: World) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                inside = str(world.state).encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            if inside and words[-3:] == [b"codex_counsel", b"mcp", b""]:
                os.kill(int(entry.name), signal.SIGKILL)
                return int(entry.name)
    raise AssertionError("no server of this session is running")


def test_without_uv_the_setup_command_says_what_is_missing(
    claude: Claude, model: Models
) -> None:
    model()
    path = "/usr/bin:/bin"
    if shutil.which("uvx", path=path):
        pytest.skip("uv is a program of this system")
    session = replace(claude, settings={"PATH": path}).ask("/codex:setup", status)
    assert session.servers == {"plugin:codex:counsel": "failed"}
    assert "https://astral.sh/uv/install.sh" in session.api.turns[0].command
    assert "No such tool" in session.tool_results[0]


def test_where_the_server_cannot_be_installed_each_call_says_why(
    claude: Claude, checkout: Path, model: Models
) -> None:
    model()
    (checkout / "uv.lock").write_text("broken", "utf-8")
    session = replace(claude, plugin=checkout).ask("/codex:status", status)
    assert session.servers == {"plugin:codex:counsel": "connected"}
    assert (
        "not_installed: codex-counsel could not be installed"
        in (session.tool_results[0])
    )
    assert "Failed to parse `uv.lock`" in session.tool_results[0]


def test_a_session_that_begins_before_the_server_is_installed_is_served_by_it(
    claude: Claude, environments: Path, model: Models
) -> None:
    """With the patience that Claude Code has by default."""
    model([say("It is fine.")])
    user = replace(
        claude,
        settings={
            "MCP_CONNECTION_NONBLOCKING": "",
            "MCP_CONNECT_TIMEOUT_MS": "",
            "MCP_TIMEOUT": "",
        },
    )
    with first_start(claude, environments) as install:
        Timer(8, install).start()
        session = user.ask("/codex:consult Is it?", once(CONSULT, question="Is it?"))
    assert session.servers == {"plugin:codex:counsel": "connected"}
    assert (session.code, session.denials) == (0, [])
    assert '"answer":"It is fine."' in session.tool_results[0]


def test_without_codex_the_model_knows_at_once_and_the_status_says_what_to_do(
    claude: Claude,
) -> None:
    path = f"{Path(uv()).parent}:/usr/bin:/bin"
    if shutil.which("codex", path=path):
        pytest.skip("codex is a program of this system")
    session = replace(
        claude, settings={"PATH": path, "CODEX_COUNSEL_CODEX_BIN": ""}
    ).ask("/codex:setup", status)
    texts = session.api.turns[0].system + "\n".join(session.api.turns[0].user_texts)
    assert "no Codex is installed here" in texts
    output = json.loads(session.tool_results[0])
    assert not output["data"]["usable"]
    assert output["data"]["codex"]["error"] == "codex_not_found"
    assert output["next_steps"]
    assert "npm install -g @openai/codex" in session.api.turns[0].command


def test_other_plugins_that_claim_the_same_are_named_at_once_and_in_the_status(
    claude: Claude, model: Models
) -> None:
    model()
    _install_rivals(claude)
    session = claude.ask("/codex:status", status)
    texts = session.api.turns[0].system + "\n".join(session.api.turns[0].user_texts)
    warnings = "\n".join(json.loads(session.tool_results[0])["meta"]["warnings"])
    for words in (texts, warnings):
        assert "another plugin is called codex, too (codex@other)" in words
        assert "the plugin amicus@other does the same job" in words
    assert json.loads(session.tool_results[0])["data"]["usable"]


def _install_rivals(claude: Claude) -> None:
    market = claude.world.base / "other"
    plugins = []
    for name in ("codex", "amicus", "harmless"):
        folder = market / name / ".claude-plugin"
        folder.mkdir(parents=True)
        about = {"name": name, "version": "1.0.0", "description": name}
        (folder / "plugin.json").write_text(json.dumps(about), "utf-8")
        plugins.append({"name": name, "source": f"./{name}", "description": name})
    (market / ".claude-plugin").mkdir()
    listing = {
        "name": "other",
        "description": "Others",
        "owner": {"name": "Others"},
        "plugins": plugins,
    }
    (market / ".claude-plugin/marketplace.json").write_text(
        json.dumps(listing), "utf-8"
    )
    assert claude.cli("plugin", "marketplace", "add", str(market)).returncode == 0
    for name in ("codex", "amicus", "harmless"):
        assert claude.cli("plugin", "install", f"{name}@other").returncode == 0


def test_the_skill_is_read_without_a_question(claude: Claude, model: Models) -> None:
    model()
    session = claude.ask(
        "Is this design sound?", once("Skill", skill="codex:second-opinion")
    )
    assert (session.code, session.denials) == (0, [])
    assert any(
        "A second opinion from Codex" in message
        for message in session.api.turns[-1].user_texts
    )


def test_the_advisor_consults_with_its_own_tools_alone(
    claude: Claude, model: Models
) -> None:
    model([say("It is fine.")])
    inside: list[Turn] = []

    def script(turn: Turn) -> list[JSON]:
        if "You run one consultation with Codex" in turn.system:
            inside.append(turn)
            return (
                [text("Codex: It is fine.")]
                if turn.tool_results
                else [use(CONSULT, question="Is it?")]
            )
        advisor = use(
            "Agent",
            subagent_type="codex:codex-advisor",
            description="ask",
            prompt="Is it?",
        )
        return (
            [text("done")]
            if turn.tool_results
            else [
                {**advisor, "input": {**advisor["input"], "run_in_background": False}}
            ]
        )

    session = claude.ask("Ask the advisor", script, *ALLOWED)
    assert (session.code, session.denials) == (0, [])
    own = {name for name in inside[0].tool_names if not name.startswith(PREFIX)}
    assert own <= {"Read", "Grep", "Glob"}
    assert CONSULT in inside[0].tool_names
    assert '"answer":"It is fine."' in inside[-1].tool_results[0]
    assert "It is fine." in session.tool_results[0]


def test_what_every_session_pays_for_is_small(claude: Claude, model: Models) -> None:
    model()
    first = claude.ask("hello", lambda _: [text("done")]).api.turns[0]
    message = first.system + "\n" + "\n".join(first.user_texts)
    listed = [line for line in message.splitlines() if line.startswith("- codex:")]
    tools = [
        str(tool.get("description"))
        for tool in first.body["tools"]
        if tool["name"] in ("Agent", "Task")
    ]
    agents = [
        line
        for text in tools
        for line in text.splitlines()
        if line.startswith("- codex:")
    ]
    instructions = re.findall(
        r"## plugin:codex:counsel\n(.*?)(?=\n\n|\n#|\Z)", message, re.DOTALL
    )[:1]
    names = [line for line in message.splitlines() if line.startswith(PREFIX)]
    names = names or [name for name in first.tool_names if name.startswith(PREFIX)]
    parts = {
        "skills and agents": [*listed, *agents],
        "instructions": instructions,
        "tool names": names,
    }
    bytes_of = {part: len("\n".join(lines).encode()) for part, lines in parts.items()}
    print(bytes_of)
    assert all(bytes_of.values())
    assert sum(bytes_of.values()) <= CONTEXT_BYTES


def test_the_plugin_passes_the_validator(claude: Claude) -> None:
    for words in (
        ["--strict", ".claude-plugin/plugin.json"],
        ["--strict", "."],
        ["--profile", "directory", "."],
    ):
        argv = ["plugin", "validate", *words]
        if (
            "--profile" in words
            and "--profile" not in claude.cli("plugin", "validate", "--help").stdout
        ):
            continue
        result = replace(claude, world=claude.world).cli(
            *argv[:-1], str(ROOT / words[-1])
        )
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_stop_gate_holds_a_turn_once_and_is_silent_where_nothing_was_edited(
    claude: Claude, model: Models
) -> None:
    bad = "refund = prices[position - 1]"
    grave = {
        "severity": "high",
        "category": "logic",
        "title": "Off by one",
        "file": "shop.py",
        "line": 1,
        "line_end": None,
    }
    grave |= {
        "evidence": bad,
        "risk": "The wrong price.",
        "recommendation": "Use position.",
        "replace_from": None,
        "replace_to": None,
        "replacement": None,
    }
    message = {
        "summary": "One problem.",
        "verdict": "fail",
        "confidence": "high",
        "findings": [grave],
    }
    server = model(
        [say({**message, "questions": [], "assumptions": [], "next_steps": []})]
    )
    claude.world.repository.init().commit()
    gate = [sys.executable, "-m", "codex_counsel", "gate"]
    subprocess.run(
        [*gate, "install"], env=claude.env, cwd=claude.world.workspace, check=True
    )

    write = once(
        "Write", file_path=str(claude.world.workspace / "shop.py"), content=bad + "\n"
    )
    session = claude.ask("Add a refund", write, "--permission-mode", "acceptEdits")
    assert session.code == 0, session.errors
    assert len(server.requests) == 1
    assert any("Off by one" in message for message in session.api.turns[-1].user_texts)

    assert claude.ask("What does it do?", lambda _: [text("done")]).code == 0
    assert len(server.requests) == 1
    subprocess.run(
        [*gate, "remove"], env=claude.env, cwd=claude.world.workspace, check=True
    )
    claude.ask("Add it again", write, "--permission-mode", "acceptEdits")
    assert len(server.requests) == 1
