"""The MCP servers that Claude Code's files name for a project: which files it reads, and a bounded reading of them."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.system.files import read_regular
from codex_counsel.system.json_values import Json

MANAGED = Path("/etc/claude-code")
"""Where an organization puts servers for all users of a machine (Linux)."""
MAX_FILE = 1_000_000
"""Bytes of a file of servers or settings."""
MAX_GLOBAL_FILE = 32_000_000
"""Bytes of `.claude.json`, which has a history for each project too."""


@dataclass(frozen=True)
class ServersFile:
    """A file in which servers are named.

    `is_read` is whether Claude Code takes servers from it (2.1.197 and 2.1.330 take none
    from `settings.json`). A link is followed only where `may_be_link`: the file is not
    one of a project's.
    """

    path: Path
    limit: int = MAX_FILE
    is_read: bool = True
    may_be_link: bool = False
    has_projects: bool = False


@dataclass(frozen=True)
class Server:
    """A server that is started as a program. `argv` has one word at least."""

    file: ServersFile
    name: str
    argv: tuple[str, ...]


@dataclass
class Configured:
    """What the files name. `unread` are files that exist and could not be searched, each with the reason."""

    servers: list[Server] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)


class UnreadableError(Exception):
    """A file that exists and cannot be searched. The message says why, without its name."""


def configured(
    env: Mapping[str, str], project: Path, roots: Iterable[Path]
) -> Configured:
    """The servers of a session that is started in `project`. Never raises.

    `roots` are the directories under which `.claude.json` may keep servers of this
    project alone: the top of its repository, or of the repository's main work tree.
    """
    result = Configured()
    names = {str(root) for root in (project, *roots)}
    for file in _files(env, project):
        try:
            result.servers += _servers(file, names)
        except UnreadableError as error:
            result.unread.append((file.path, str(error)))
    return result


def _files(env: Mapping[str, str], project: Path) -> Iterator[ServersFile]:
    """The user's own first, because whoever searches them may give up after some."""
    home = Path(env.get("HOME") or "/nonexistent")
    moved = env.get("CLAUDE_CONFIG_DIR")
    config = Path(moved) if moved else home / ".claude"
    # Claude Code reads the second of these only where the first does not exist.
    own = (config / ".config.json", Path(moved or home, ".claude.json"))
    for path in own:
        yield ServersFile(
            path, limit=MAX_GLOBAL_FILE, may_be_link=True, has_projects=True
        )
    yield ServersFile(config / "settings.json", is_read=False, may_be_link=True)
    yield ServersFile(MANAGED / "managed-mcp.json", may_be_link=True)

    for parent in (project, *project.parents):
        yield ServersFile(parent / ".mcp.json")
    for name in ("settings.json", "settings.local.json"):
        yield ServersFile(project / ".claude" / name, is_read=False)


def _servers(file: ServersFile, projects: set[str]) -> list[Server]:
    """Raises UnreadableError."""
    data = _read(file)
    if data is None:
        return []
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise UnreadableError("it is no JSON") from None
    tables = [content]
    if file.has_projects:
        entries = _entry(content, "projects")
        tables += [_entry(entries, name) for name in sorted(projects)]

    servers = []
    for table in tables:
        servers += _started_programs(file, _entry(table, "mcpServers"))
    return servers


def _read(file: ServersFile) -> bytes | None:
    """The content, or None where there is no such file. Raises UnreadableError."""
    path = os.path.realpath(file.path) if file.may_be_link else file.path
    try:
        info = os.lstat(path)
    except OSError as error:
        # A part of the path that is no directory, or a loop of links, is no file either.
        if error.errno == errno.EACCES:
            raise UnreadableError("it cannot be read") from None
        return None
    if stat.S_ISLNK(info.st_mode):
        raise UnreadableError("it is a link")
    if not stat.S_ISREG(info.st_mode):
        raise UnreadableError("it is no regular file")
    data = read_regular(path, file.limit + 1)
    if data is None:
        raise UnreadableError("it cannot be read")
    if len(data) > file.limit:
        raise UnreadableError(f"it is longer than {file.limit:,} bytes")
    return data


def _entry(table: Json, key: str) -> Json:
    return table.get(key) if isinstance(table, dict) else None


def _started_programs(file: ServersFile, servers: Json) -> list[Server]:
    """Those of the servers that have a command. A command with spaces and without arguments is taken for both."""
    if not isinstance(servers, dict):
        return []
    results = []
    for name, server in servers.items():
        command = _entry(server, "command")
        words = _words(_entry(server, "args"))
        if not isinstance(command, str) or words is None:
            continue
        argv = (command, *words) if words else tuple(command.split())
        if argv:
            results.append(Server(file, name, argv))
    return results


def _words(arguments: Json) -> Sequence[str] | None:
    """The arguments, none for a missing list; None for what is no list of strings."""
    if arguments is None:
        return ()
    if not isinstance(arguments, list):
        return None
    if not all(isinstance(argument, str) for argument in arguments):
        return None
    return arguments
