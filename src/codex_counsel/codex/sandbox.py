"""What a run may touch as one Codex permission profile: a pure function of the boundary. Measured on 0.148 to 0.169."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codex_counsel.contract.envelope import Sandbox
from codex_counsel.contract.vocabulary import Reads, SandboxMode

MAX_SECRETS = 200
"""Exact denials per profile: beyond a few hundred, Codex's start of every command becomes slow and then impossible."""

PATTERN = re.compile(r"[*?\[\]\n\r\t]")
"""A path with one of these is not itself to Codex: it is taken for a pattern, or loses the character."""


@dataclass(frozen=True)
class Boundary:
    """All paths absolute and resolved. `secrets_complete` is false where more secret files exist than can be denied."""

    workspace: Path
    mode: SandboxMode = "read-only"
    reads: Reads = "workspace"
    network: bool = False
    readable: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()
    denied: tuple[Path, ...] = ()
    secrets: tuple[Path, ...] = ()
    secrets_complete: bool = True

    def report(self) -> Sandbox:
        bounded = self.reads if self.secrets_complete or self.reads == "host" else "partial"
        return Sandbox(mode=self.mode, read_boundary=bounded, network=self.network)

    def with_scratch(self, path: Path) -> Boundary:
        return replace(self, scratch=(*self.scratch, path))


def fresh_name() -> str:
    """A profile name nobody can foresee: a table of `-c` merges with one of that name in the user's config.toml."""
    return f"counsel_{secrets.token_hex(8)}"


def is_literal_path(path: Path) -> bool:
    """Whether Codex can be told to open just this path."""
    return not PATTERN.search(str(path))


def overrides(boundary: Boundary, name: str) -> tuple[str, ...]:
    """The values of `-c` that make `name` the profile in force. Never to be combined with `-s`, which would win."""
    table = {"filesystem": _filesystem(boundary), "network": {"enabled": boundary.network}}
    base = {"extends": ":read-only"} if boundary.reads == "host" else {}
    return (f"default_permissions={toml(name)}", f"permissions={toml({name: {**base, **table}})}")


def _filesystem(boundary: Boundary) -> dict[str, str]:
    opened = {} if boundary.reads == "host" else {":minimal": "read"}
    opened |= {str(path): "read" for path in boundary.readable}
    opened |= {str(boundary.workspace): "write" if boundary.mode == "worktree-write" else "read"}
    opened |= {str(path): "write" for path in boundary.scratch}
    roots = (boundary.workspace, *boundary.readable)
    return opened | {_denial(path, roots): "deny" for path in (*boundary.denied, *boundary.secrets)}


def _denial(path: Path, roots: Iterable[Path]) -> str:
    """The path, or where that would be taken for something else a pattern that covers it and little more.

    The first character below the root is a wildcard too: up to 0.163 a pattern whose first wildcard stands deeper
    finds nothing. A wildcard covers one byte.
    """
    root = next((root for root in roots if path.is_relative_to(root)), None)
    if root is None or is_literal_path(path):
        return str(path)
    below = str(path.relative_to(root))
    return f"{root}/{'?' * len(below[0].encode())}" + re.sub(r"[*?\[\]{}\\!\n\r\t]", "?", below[1:])


def toml(value: Any) -> str:
    """An inline TOML value. Keys are always quoted, so that no path or name can say more than it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{toml(str(key))}={toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ",".join(map(toml, value)) + "]"
    return str(value)
