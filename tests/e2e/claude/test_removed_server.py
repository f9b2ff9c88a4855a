"""`status` reads the files that Claude Code itself writes, for each of its scopes. Claude Code is real."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from codex_counsel.contract.request import Status, parse
from tests.e2e.claude.conftest import Claude

CODEX = ("codex", "mcp-server", "-c", "model=o3")


def add(claude: Claude, cwd: Path, scope: str) -> None:
    """Type `claude mcp add` in a directory."""
    subprocess.run(
        [claude.binary, "mcp", "add", "--scope", scope, scope, "--", *CODEX],
        cwd=cwd,
        env=claude.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=100,
        check=True,
    )


def found(claude: Claude, cwd: Path) -> dict[str, str]:
    """The name of each server and the name of its file, for a session in a directory."""
    counsel = claude.world.counsel(CLAUDE_CONFIG_DIR=str(claude.config))
    wire = counsel.status(parse(Status, {"workspace_root": str(cwd)}))
    rows = wire["data"].get("removed_servers", [])
    assert {tuple(row["replacement"]["args"][-3:]) for row in rows} <= {CODEX[1:]}
    return {row["server"]: Path(row["file"]).name for row in rows}


@pytest.mark.parametrize("place", ["", "src", "../tree"])
def test_what_claude_code_adds_is_found(place: str, claude: Claude) -> None:
    repository = claude.world.repository.init()
    repository.write("src/a.py")
    repository.commit("first")
    repository.git("worktree", "add", "--quiet", "../tree")
    cwd = (claude.world.workspace / place).resolve()
    for scope in ("user", "local", "project"):
        add(claude, cwd, scope)
    assert found(claude, cwd) == {
        "user": ".claude.json",
        "local": ".claude.json",
        "project": ".mcp.json",
    }


def test_servers_of_settings_files_are_none_for_claude_code(claude: Claude) -> None:
    servers = {"mcpServers": {"here": {"command": "false", "args": []}}}
    own = claude.world.workspace / ".claude"
    own.mkdir()
    for file in (
        own / "settings.json",
        own / "settings.local.json",
        claude.config / "settings.json",
    ):
        file.write_text(json.dumps(servers), "utf-8")
    assert "here" not in claude.cli("mcp", "list").stdout
    (claude.world.workspace / ".mcp.json").write_text(json.dumps(servers), "utf-8")
    assert "here" in claude.cli("mcp", "list").stdout
