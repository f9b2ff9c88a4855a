"""Where Claude Code's configuration still starts `codex mcp-server`, and what to write in its place."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.claude import mcp_servers
from codex_counsel.claude.mcp_servers import Server
from codex_counsel.claude.removed_command import (
    ACCEPTED_OPTIONS,
    REFUSED_OPTIONS,
    REMOVED_IN,
    SUCCESSOR,
    RemovedCommand,
    removed_command,
)
from codex_counsel.codex.binary import release_of
from codex_counsel.compat import command_line
from codex_counsel.errors import CounselError
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.path import search_path
from codex_counsel.system.redact import mask
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.workspace import ResolvedWorkspace

MAX_SHOWN = 10
"""Servers, and files that could not be searched, of which each has a warning of its own."""
MAX_SEARCHED = 100_000
"""Characters of all command lines; the user's own servers come first."""
MAX_REPLACEMENT = 600
"""Characters of a replacement that is shown; of a longer one only the command is."""
ELLIPSIS = "..."
EXACT_RELEASE = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}(?!\d)\S*")


@dataclass(frozen=True)
class Report:
    """Rows for `data` of the status, and the sentences for its user."""

    rows: list[JsonObject]
    warnings: list[str]


def report(
    context: Context, workspace: ResolvedWorkspace | None, installed: str | None
) -> Report:
    """What a session of Claude Code in this workspace would start. Never raises.

    `installed` is the version of Codex here, None if unknown. `state` of a row is
    `removed`; `deprecated` where the installed Codex still has the command; or `pinned`
    where a package runner is told to take a release that has it.
    """
    configured = mcp_servers.configured(
        context.env, _project(context, workspace), _roots(workspace)
    )
    program = successor_program(context.env)
    rows, warnings = [], []
    left = MAX_SEARCHED
    for server in configured.servers:
        left -= sum(map(len, server.argv))
        if left < 0:
            place = _shown(server.file.path)
            warnings.append(
                f"in {place} only the first servers were searched for `codex mcp-server`: there are too many"
            )
            break
        command = removed_command(server.argv)
        if command is None:
            continue
        row = _row(server, command, program, installed)
        rows.append(row)
        warnings.append(_sentence(row, installed))
    for path, reason in configured.unread:
        warnings.append(
            f"{_shown(path)} was not searched for servers that start `codex mcp-server`: {reason}"
        )
    hidden = len(warnings) - MAX_SHOWN
    if hidden > 0:
        warnings[MAX_SHOWN:] = [f"{hidden} more warnings of this kind are left out"]
    return Report(rows[:MAX_SHOWN], warnings)


def successor_program(env: Mapping[str, str]) -> list[str]:
    """How a configuration starts our server: by its name, its path, or through uvx.

    The directory of this Python may be on PATH for this process alone, so a script in it
    is named by its path. An environment of the plugin is replaced by the next release,
    so none of its paths is named.
    """
    own = Path(sys.prefix, "bin", SUCCESSOR)
    on_path = shutil.which(SUCCESSOR, path=search_path(env.get("PATH", "")))
    if on_path and Path(on_path) != own:
        return [SUCCESSOR]
    is_of_the_plugin = Path(sys.prefix).name.startswith("venv-")
    if os.access(own, os.X_OK) and not is_of_the_plugin:
        return [str(own)]
    return ["uvx", "--from", "codex-counsel", SUCCESSOR]


def _project(context: Context, workspace: ResolvedWorkspace | None) -> Path:
    if workspace:
        return workspace.root
    return Path(context.env.get("CLAUDE_PROJECT_DIR") or context.cwd)


def _roots(workspace: ResolvedWorkspace | None) -> list[Path]:
    """The top of the repository, and of its main work tree where this is another one."""
    if workspace is None:
        return []
    roots = [git.parent for git in workspace.git if git.name == ".git"]
    return [workspace.outermost, *roots]


def _row(
    server: Server,
    command: RemovedCommand,
    program: list[str],
    installed: str | None,
) -> JsonObject:
    return {
        "file": _shown(server.file.path),
        "server": one_line(visible(server.name), 60),
        "command": f"codex {command.subcommand}",
        "release": one_line(visible(command.release), 40),
        "state": _state(command, installed),
        "replacement": _replacement(command, program),
        "leaves_script_out": command.succeeded_by(program) is None,
        "refused": _refused(command),
        "variables": [one_line(name, 60) for name in command.variables[:MAX_SHOWN]],
        "read_by_claude_code": server.file.is_read,
    }


def _state(command: RemovedCommand, installed: str | None) -> str:
    if command.release:
        return "pinned" if _has_command(command.release) else "removed"
    # A release that still has the server has it by its newest name only.
    if command.subcommand == "mcp-server" and installed and _has_command(installed):
        return "deprecated"
    return "removed"


def _has_command(release: str) -> bool:
    is_exact = EXACT_RELEASE.fullmatch(release)
    return bool(is_exact) and release_of(release) < release_of(REMOVED_IN)


def _replacement(command: RemovedCommand, program: list[str]) -> JsonObject:
    """`command` and `args` of the server. ELLIPSIS stands for arguments that are too long, or not to be shown."""
    argv = command.succeeded_by(program) or [*program, *command.arguments]
    replacement: JsonObject = {"command": argv[0], "args": argv[1:]}
    text = "\n".join(argv)
    # A masked or escaped word would be a wrong one to copy.
    if len(text) > MAX_REPLACEMENT or mask(text)[1] or visible(text) != text:
        return {"command": program[0], "args": [*program[1:], ELLIPSIS]}
    return replacement


def _refused(command: RemovedCommand) -> list[str]:
    """The options with which our server does not start; of a value of the configuration its key too."""
    refused = []
    for option, value in command.options():
        name = option
        if option in ("-c", "--config"):
            name = f"{option} {value.partition('=')[0]}"
        elif option in ("--enable", "--disable"):
            name = f"{option} {value}"
        if not _is_taken(option, value):
            refused.append(one_line(visible(mask(name)[0]), 80))
    return refused[:MAX_SHOWN]


def _is_taken(option: str, value: str) -> bool:
    config, features = [], {}
    if option in ("-c", "--config"):
        config = [value]
    elif option in ("--enable", "--disable"):
        features = {value: option == "--enable"}
    try:
        command_line.server_options(config=config, features=features)
    except CounselError:
        return False
    return option in ACCEPTED_OPTIONS


def _sentence(row: JsonObject, installed: str | None) -> str:
    reasons = {
        "removed": f"which Codex {REMOVED_IN} removed",
        "deprecated": f"which Codex {REMOVED_IN} removed and Codex {installed} still has",
        "pinned": f"which Codex {REMOVED_IN} removed and the pinned release {row['release']} still has",
    }
    written = json.dumps(row["replacement"], ensure_ascii=False)
    server = f"in {row['file']} the MCP server {row['server']!r}"
    command = f"starts `{row['command']}`, {reasons[row['state']]}"
    parts = [f"{server} {command}: write {written} there"]
    if ELLIPSIS in row["replacement"]["args"]:
        parts.append(f'"{ELLIPSIS}" stands for its present arguments')
    if row["leaves_script_out"]:
        parts.append("keep what else its shell script does")
    for option in row["refused"]:
        instead = REFUSED_OPTIONS.get(option, "leave it out")
        parts.append(f"it does not start with {option}: {instead}")
    if row["variables"]:
        names = ", ".join(row["variables"])
        parts.append(f'keep {names} of the command line, for example in its "env"')
    if not row["read_by_claude_code"]:
        parts.append(
            "Claude Code takes no servers from this file, but from .mcp.json and ~/.claude.json"
        )
    return "; ".join(parts)


def _shown(path: Path) -> str:
    return one_line(visible(str(path)), 300)
