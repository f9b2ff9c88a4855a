"""The plugin's files: one version, commands that name tools that exist and grant themselves just those."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from codex_counsel import __version__
from codex_counsel.contract.catalogue import TOOLS
from codex_counsel.contract.request import (
    Delegate,
    ReviewChanges,
    ToolRequest,
    argument_names,
)

ROOT = Path(__file__).parents[2]
PREFIX = "mcp__plugin_codex_counsel__"
COMMANDS = sorted((ROOT / "commands").glob("**/*.md"))
SPOKEN = [
    *COMMANDS,
    *sorted((ROOT / "skills").rglob("*.md")),
    *sorted((ROOT / "agents").glob("*.md")),
]
NAMES = {tool.name for tool in TOOLS}


def read_json(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / name).read_text("utf-8")))


def parts(page: Path) -> tuple[str, str]:
    """Front matter and body."""
    _, front, body = page.read_text("utf-8").split("---\n", 2)
    return front, body


def tools_named_in(text: str) -> set[str]:
    return set(re.findall(rf"{PREFIX}(\w+)", text))


def test_the_plugin_has_the_version_of_the_package_and_the_marketplace_names_none() -> (
    None
):
    assert read_json(".claude-plugin/plugin.json")["version"] == __version__
    assert [
        "version" in plugin
        for plugin in read_json(".claude-plugin/marketplace.json")["plugins"]
    ] == [False]


def test_the_server_is_called_counsel_and_each_setting_of_the_user_reaches_it() -> None:
    (name, server), *others = read_json(".mcp.json")["mcpServers"].items()
    assert (name, others) == ("counsel", [])
    options = read_json(".claude-plugin/plugin.json")["userConfig"]
    assert server["env"] == {
        f"CLAUDE_PLUGIN_OPTION_{key.upper()}": f"${{user_config.{key}}}"
        for key in options
    }


def test_the_icon_is_a_square_png_of_the_size_that_the_directory_asks_for() -> None:
    head = (ROOT / ".claude-plugin/icon.png").read_bytes()[:24]
    width, height = struct.unpack(">II", head[16:])
    assert head.startswith(b"\x89PNG")
    assert 512 <= width == height <= 2048


@pytest.mark.parametrize("page", SPOKEN, ids=lambda page: page.stem)
def test_every_tool_that_is_named_exists(page: Path) -> None:
    assert tools_named_in(page.read_text("utf-8")) <= NAMES
    assert set(re.findall(r"`(codex_\w+)`", page.read_text("utf-8"))) - NAMES <= {
        "codex_not_found"
    }


ARGUMENTS: dict[str, tuple[type[ToolRequest], set[str]]] = {
    "review": (ReviewChanges, {"prove"}),
    "adversarial-review": (ReviewChanges, {"prove"}),
    "delegate": (Delegate, {"check", "attempts", "judge", "models", "efforts"}),
    "delegate-async": (Delegate, {"check", "attempts", "judge", "models", "efforts"}),
    "dry-run": (Delegate, {"check", "attempts", "judge"}),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_command_knows_the_arguments_that_cost_more_turns(name: str) -> None:
    request, arguments = ARGUMENTS[name]
    body = parts(ROOT / f"commands/{name}.md")[1]
    assert arguments <= set(argument_names(request))
    assert arguments <= set(re.findall(r"`(\w+)`", body))


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.stem)
def test_a_command_grants_itself_every_tool_that_it_names_and_nothing_but_ours(
    page: Path,
) -> None:
    front, body = parts(page)
    granted = re.findall(r"^  - (\S+)$", front, re.MULTILINE)
    assert all(tool.startswith(PREFIX) for tool in granted)
    assert tools_named_in(body) <= tools_named_in("\n".join(granted))


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.stem)
def test_a_command_is_for_the_user_quotes_its_hint_and_runs_nothing_before_the_model(
    page: Path,
) -> None:
    front, body = parts(page)
    assert "disable-model-invocation: true\n" in front
    assert all(
        line.count('"') == 2
        for line in front.splitlines()
        if line.startswith("argument-hint")
    )
    assert "!`" not in body
    assert ("$ARGUMENTS" in body) == ("argument-hint" in front)


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.stem)
def test_a_command_says_on_one_line_which_of_its_tools_to_call(page: Path) -> None:
    front, body = parts(page)
    called = re.search(rf"Call `({PREFIX}\w+)`", body)
    assert called
    assert f"  - {called[1]}\n" in front
