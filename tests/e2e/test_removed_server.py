"""`status` names the servers of Claude Code that start `codex mcp-server`, whatever the files hold. Codex is real."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.claude import mcp_servers
from codex_counsel.codex import binary
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Status, parse
from codex_counsel.services import removed_server
from tests.conftest import World
from tests.e2e.cli.test_verbs import run
from tests.e2e.fakes import executable

CODEX = {"command": "codex", "args": ["mcp-server"]}
SUCCESSOR = {"command": "codex-mcp-server", "args": ["mcp-server"]}


@pytest.fixture(autouse=True)
def installed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our script is on PATH, as `uv tool install` puts it there."""
    programs = world.base / "programs"
    programs.mkdir()
    executable(programs / "codex-mcp-server", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def configure(file: Path, servers: Any = None, **others: Any) -> None:
    """Write a file of Claude Code with these servers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"mcpServers": {"codex": CODEX} if servers is None else servers}
    file.write_text(json.dumps(content | others), "utf-8")


def status(world: World, **env: str) -> EnvelopeDict:
    return world.counsel(**env).status(parse(Status, {}))


def rows(world: World, **env: str) -> list[dict[str, Any]]:
    return list(status(world, **env)["data"].get("removed_servers", []))


def files(world: World, **env: str) -> list[str]:
    return [row["file"] for row in rows(world, **env)]


def warnings(world: World, **env: str) -> list[str]:
    return list(status(world, **env)["meta"].get("warnings", []))


# --- where


@pytest.mark.parametrize(
    "place",
    [
        "workspace/.mcp.json",
        ".mcp.json",
        "workspace/.claude/settings.json",
        "workspace/.claude/settings.local.json",
        "home/.claude.json",
        "home/.claude/.config.json",
        "home/.claude/settings.json",
    ],
)
def test_each_file_of_claude_code_is_searched(place: str, world: World) -> None:
    configure(world.base / place)
    (row,) = rows(world)
    assert row["file"] == str(world.base / place)
    assert row["server"] == "codex"
    assert row["replacement"] == SUCCESSOR
    # As `claude mcp list` of 2.1.197 and 2.1.330 shows.
    assert row["read_by_claude_code"] == ("settings" not in place)


def test_the_file_of_an_organization_is_searched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_servers, "MANAGED", world.base / "managed")
    configure(world.base / "managed/managed-mcp.json")
    assert files(world) == [str(world.base / "managed/managed-mcp.json")]


def test_the_configuration_directory_of_the_user_is_the_one_that_counts(
    world: World,
) -> None:
    elsewhere = world.base / "elsewhere"
    configure(elsewhere / ".claude.json")
    configure(elsewhere / "settings.json")
    configure(world.home / ".claude.json")
    assert files(world) == [str(world.home / ".claude.json")]
    assert files(world, CLAUDE_CONFIG_DIR=str(elsewhere)) == [
        str(elsewhere / ".claude.json"),
        str(elsewhere / "settings.json"),
    ]


def test_of_the_servers_of_single_projects_only_those_of_this_one_count(
    world: World,
) -> None:
    projects = {
        str(path): {"mcpServers": {path.name: CODEX}}
        for path in (world.workspace, world.home, world.base)
    }
    configure(world.home / ".claude.json", {}, projects=projects)
    assert [row["server"] for row in rows(world)] == ["workspace"]


@pytest.mark.parametrize("place", ["src", "../tree"])
def test_a_folder_and_a_work_tree_have_the_servers_of_their_repository(
    place: str, world: World
) -> None:
    world.repository.init()
    world.repository.write("src/a.py")
    world.repository.commit("first")
    world.repository.git("worktree", "add", "--quiet", "../tree")
    servers = {"mcpServers": {"of the repository": CODEX}}
    configure(world.home / ".claude.json", {}, projects={str(world.workspace): servers})
    arguments = {"workspace_root": str((world.workspace / place).resolve())}
    wire = world.counsel().status(parse(Status, arguments))
    (row,) = wire["data"]["removed_servers"]
    assert row["server"] == "of the repository"


# --- what is told


def test_a_user_is_told_the_file_the_server_and_the_words_to_write(
    world: World,
) -> None:
    server = {
        "command": "codex",
        "args": ["mcp-server", "-c", "web_search=live", "-m", "o3"],
        "env": {"SERVICE_PASSWORD": "correct horse"},
    }
    configure(world.workspace / ".mcp.json", {"second-opinion": server})
    result = run(world, "status")
    line = next(line for line in flowed(result.out) if "second-opinion" in line)
    written = json.loads(line[line.index("{") : line.rindex("}") + 1])
    assert written == {
        "command": "codex-mcp-server",
        "args": ["mcp-server", "-c", "web_search=live", "-m", "o3"],
    }
    assert str(world.workspace / ".mcp.json") in line
    assert "which Codex 0.154 removed" in line
    assert "correct horse" not in result.out
    assert "SERVICE_PASSWORD" not in result.out
    assert "servers of Claude Code to be changed in" in result.out


def flowed(text: str) -> list[str]:
    """The paragraphs of a terminal's text: a line that begins a warning, with those that continue it."""
    paragraphs: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("warning:") or not paragraphs:
            paragraphs.append(line.strip())
        else:
            paragraphs[-1] += " " + line.strip()
    return paragraphs


def test_the_state_of_codex_stays_what_it_is(
    world: World, model: Callable[..., object]
) -> None:
    model()
    configure(world.workspace / ".mcp.json")
    wire = status(world)
    assert wire["ok"]
    assert wire["data"]["usable"]
    assert run(world, "status").code == 0


def test_where_nothing_is_named_nothing_is_told(world: World) -> None:
    others = {
        "codex": {"command": "codex-mcp-server", "args": ["mcp-server"]},
        "docs": {"command": "codex", "args": ["mcp", "list"]},
        "remote": {"type": "http", "url": "https://example.org/codex/mcp-server"},
    }
    configure(
        world.workspace / ".mcp.json",
        others,
        permissions={"allow": ["mcp__codex__codex"]},
        note="codex mcp-server",
    )
    wire = status(world)
    assert "removed_servers" not in wire["data"]
    assert "mcp-server" not in json.dumps(wire["meta"].get("warnings", []))
    assert "mcp servers" not in run(world, "status").out


@pytest.mark.parametrize(
    ("argv", "installed", "state"),
    [
        (["codex", "mcp-server"], "0.169.0", "removed"),
        (["codex", "mcp-server"], "0.154.0", "removed"),
        (["codex", "mcp-server"], "0.153.4", "deprecated"),
        (["codex", "mcp"], "0.153.4", "removed"),
        (["npx", "@openai/codex", "mcp-server"], "0.153.4", "removed"),
        (["npx", "@openai/codex@0.150.0", "mcp-server"], "0.169.0", "pinned"),
        (["npx", "@openai/codex@0.154.0", "mcp-server"], "0.153.4", "removed"),
        (["npx", "@openai/codex@^0.150", "mcp-server"], "0.153.4", "removed"),
        (["npx", f"@openai/codex@0.1.{'9' * 9999}", "mcp"], "0.153.4", "removed"),
    ],
)
def test_a_release_that_still_has_the_command_is_told_apart(
    argv: list[str],
    installed: str,
    state: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(binary, "_ask_version", lambda _: installed)
    configure(
        world.workspace / ".mcp.json",
        {"codex": {"command": argv[0], "args": argv[1:]}},
    )
    (row,) = rows(world)
    assert row["state"] == state
    (warning,) = [text for text in warnings(world) if "codex-mcp-server" in text]
    assert ("still has" in warning) == (state != "removed")


def test_without_a_codex_the_command_counts_as_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "_package_binary", lambda: None)
    configure(world.workspace / ".mcp.json")
    (row,) = rows(world, CODEX_COUNSEL_CODEX_BIN="", PATH="/nonexistent")
    assert row["state"] == "removed"


def test_a_file_that_claude_code_does_not_take_servers_from_is_called_so(
    world: World,
) -> None:
    configure(world.home / ".claude/settings.json")
    (warning,) = [text for text in warnings(world) if "codex-mcp-server" in text]
    assert "Claude Code takes no servers from this file" in warning


# --- how our server is started


def test_the_program_is_the_one_that_is_installed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = world.base / "own"
    (own / "bin").mkdir(parents=True)
    monkeypatch.setattr("sys.prefix", str(own))
    program = removed_server.successor_program
    on_path = {"PATH": os.environ["PATH"]}
    uvx = ["uvx", "--from", "codex-counsel", "codex-mcp-server"]
    assert program(on_path) == ["codex-mcp-server"]
    assert program({"PATH": "/nonexistent"}) == uvx

    script = executable(own / "bin/codex-mcp-server", "#!/bin/sh\n")
    assert program(on_path) == ["codex-mcp-server"]
    assert program({"PATH": "/nonexistent"}) == [str(script)]
    # As `uv run` and an activated environment have it.
    assert program({"PATH": str(script.parent)}) == [str(script)]

    own.rename(world.base / "venv-0123456789abcdef")
    monkeypatch.setattr("sys.prefix", str(world.base / "venv-0123456789abcdef"))
    assert program({"PATH": "/nonexistent"}) == uvx


# --- hostile and damaged files


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"mcpServers": 3}',
        '{"mcpServers": [{"command": "codex", "args": ["mcp-server"]}]}',
        '{"mcpServers": {"codex": null}}',
        '{"mcpServers": {"codex": {"command": 3, "args": ["mcp-server"]}}}',
        '{"mcpServers": {"codex": {"command": "codex", "args": "mcp-server"}}}',
        '{"mcpServers": {"codex": {"command": "codex", "args": [3]}}}',
        '{"mcpServers": {"codex": {"command": "", "args": []}}}',
        '{"projects": []}',
    ],
)
def test_servers_of_another_shape_are_none(text: str, world: World) -> None:
    for place in (world.workspace / ".mcp.json", world.home / ".claude.json"):
        place.write_text(text, "utf-8")
    assert rows(world) == []


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("link", "it is a link"),
        ("pipe", "it is no regular file"),
        ("device", "it is a link"),
        ("directory", "it is no regular file"),
        ("huge", "it is longer than"),
        ("broken", "it is no JSON"),
        ("deep", "it is no JSON"),
        ("latin", "it is no JSON"),
    ],
)
def test_a_file_that_cannot_be_searched_is_named_with_the_reason(
    made: str, reason: str, world: World
) -> None:
    file = world.workspace / ".mcp.json"
    configure(file)
    text = file.read_text("utf-8")
    kept = file.rename(world.base / "kept.json")
    if made in ("link", "device"):
        file.symlink_to({"link": kept, "device": Path("/dev/zero")}[made])
    elif made == "pipe":
        os.mkfifo(file)
    elif made == "directory":
        file.mkdir()
    else:
        contents = {
            "huge": text.encode() + b" " * mcp_servers.MAX_FILE,
            "broken": text.encode()[:-1],
            "deep": b"[" * 500_000,
            "latin": text.encode().replace(b"codex", b"\xe9\xff"),
        }
        file.write_bytes(contents[made])
    assert rows(world) == []
    (warning,) = [text for text in warnings(world) if "was not searched" in text]
    assert str(file) in warning
    assert reason in warning


def test_the_global_file_may_be_large(world: World) -> None:
    file = world.home / ".claude.json"
    configure(file, history="x" * 3_000_000)
    assert files(world) == [str(file)]
    configure(file, history="x" * mcp_servers.MAX_GLOBAL_FILE)
    (warning,) = [text for text in warnings(world) if "was not searched" in text]
    assert "it is longer than 32,000,000 bytes" in warning


def test_the_users_own_files_may_be_links_into_a_repository_of_dotfiles(
    world: World,
) -> None:
    configure(world.base / "dotfiles/claude.json")
    file = world.home / ".claude.json"
    file.symlink_to(world.base / "dotfiles/claude.json")
    assert files(world) == [str(file)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(world: World) -> None:
    file = world.home / ".claude.json"
    configure(file)
    file.chmod(0)
    (warning,) = [text for text in warnings(world) if "was not searched" in text]
    assert "it cannot be read" in warning


def test_names_and_arguments_reach_no_terminal_as_they_are(world: World) -> None:
    name = "a\x1b[31m\u202eb\nwarning: run `rm -rf ~`" + "c" * 1000
    server = {"command": "codex", "args": ["mcp-server", "-c", "a=\x1b]0;x\x07\u202e"]}
    script = {"command": "sh", "args": ["-c", "exec codex mcp-server \x1b[2J"]}
    configure(world.workspace / ".mcp.json", {name: server, "script": script})
    result = run(world, "status")
    assert "\x1b" not in result.out
    assert "\u202e" not in result.out
    assert "<U+202E>" in result.out
    lines = [line.strip() for line in result.out.splitlines()]
    assert not [line for line in lines if line.startswith("warning: run")]
    first, second = rows(world)
    hidden = {"command": "codex-mcp-server", "args": ["..."]}
    assert first["replacement"] == second["replacement"] == hidden
    assert len(first["server"]) <= 60


def test_tokens_and_long_arguments_are_not_repeated(world: World) -> None:
    token = "sk-proj-" + "aB3" * 20
    configure(
        world.workspace / ".mcp.json",
        {
            "token": {"command": "codex", "args": ["mcp-server", "-c", f"key={token}"]},
            "long": {
                "command": "codex",
                "args": ["mcp-server", "-c", "a=" + "b" * 5000],
            },
            "set": {"command": "env", "args": ["PASSWORD=correct", *CODEX["args"]]},
            "environment": {
                "command": "env",
                "args": ["PIN=4711", "codex", "mcp-server"],
            },
            "script": {"command": "sh", "args": ["-c", "PIN=4711 codex mcp-server"]},
        },
    )
    wire = status(world)
    found = {row["server"]: row for row in wire["data"]["removed_servers"]}
    assert found.keys() == {"token", "long", "environment", "script"}
    assert found["token"]["replacement"]["args"] == ["..."]
    assert found["long"]["replacement"]["args"] == ["..."]
    assert found["environment"]["replacement"] == SUCCESSOR
    assert found["script"]["replacement"] == SUCCESSOR
    assert found["script"]["variables"] == ["PIN"]
    assert token not in json.dumps(wire)
    assert "4711" not in json.dumps(wire)
    assert any("keep PIN of the command line" in text for text in warnings(world))


def test_a_script_is_kept_where_that_is_safe_and_else_its_user_is_reminded_of_it(
    world: World,
) -> None:
    scripts = {
        "kept": "source ~/.profile && codex mcp-server",
        "left out": "source ~/.profile && npx -y @openai/codex mcp-server",
    }
    servers = {
        name: {"command": "sh", "args": ["-c", script]}
        for name, script in scripts.items()
    }
    configure(world.workspace / ".mcp.json", servers)
    kept, left_out = rows(world)
    script = "source ~/.profile && codex-mcp-server"
    assert kept["replacement"] == {"command": "sh", "args": ["-c", script]}
    assert left_out["replacement"] == SUCCESSOR
    reminded = [
        text for text in warnings(world) if "what else its shell script does" in text
    ]
    assert len(reminded) == 1
    assert "'left out'" in reminded[0]


def test_options_with_which_the_successor_does_not_start_are_named(
    world: World,
) -> None:
    options = [
        "--yolo",
        "-C",
        "/tmp",
        "--no-alt-screen",
        "-m",
        "m",
        "-cweb_search=live",
    ]
    later = ["-c", "model_provider=other", "--enable=hooks", "--config", "model=m"]
    server = {"command": "codex", "args": [*options, "mcp-server", *later]}
    configure(world.workspace / ".mcp.json", {"codex": server})
    (row,) = rows(world)
    assert row["refused"] == [
        "--yolo",
        "-C",
        "--no-alt-screen",
        "-c model_provider",
        "--enable hooks",
    ]
    (warning,) = [text for text in warnings(world) if "codex mcp-server" in text]
    assert "with --yolo: every run is sandboxed; write -s workspace-write" in warning
    assert "with -C: name the directory in the argument cwd of a call" in warning
    assert "with --no-alt-screen: leave it out" in warning
    assert "with -c model_provider: leave it out" in warning


def test_of_very_many_servers_the_first_are_told(world: World) -> None:
    configure(
        world.workspace / ".mcp.json", {f"s{number}": CODEX for number in range(500)}
    )
    assert len(rows(world)) == removed_server.MAX_SHOWN
    assert "490 more warnings of this kind are left out" in warnings(world)


def test_a_project_with_endless_servers_does_not_hide_those_of_the_user(
    world: World,
) -> None:
    other = {"command": "sh", "args": ["-c", "env -S " * 250]}
    configure(world.workspace / ".mcp.json", {f"s{n}": other for n in range(500)})
    configure(world.home / ".claude.json")
    assert files(world) == [str(world.home / ".claude.json")]
    (warning,) = [text for text in warnings(world) if "too many" in text]
    assert str(world.workspace / ".mcp.json") in warning
