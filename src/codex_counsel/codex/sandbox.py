"""What a run may read and write, as a permission profile of Codex: pure functions. Measured on 0.148 to 0.169."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from codex_counsel.contract.envelope import Sandbox
from codex_counsel.contract.vocabulary import Reads, SandboxMode
from codex_counsel.system.json_values import Json, JsonObject

MAX_SECRETS = 200
"""Denials of single files per profile. With more than a few hundred Codex starts commands slowly, then not at all."""

PATTERN = re.compile(r"[*?\[\]\n\r\t]")
"""Codex takes a path with one of * ? [ ] for a glob pattern, and drops line breaks and tabs from it."""


@dataclass(frozen=True)
class Boundary:
    """What a run may touch. All paths are absolute and resolved.

    `readable` are roots besides the workspace, `scratch` directories are writable,
    `denied` are directories and `secrets` files that stay closed wherever they lie.
    `reads` is workspace, toolchains (the same plus `readable` roots of installed tools)
    or host (everything but denials). `secrets_complete` is false when there are more
    secret files than can be denied.
    """

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
        """The boundary as envelopes show it; with secret files left open the read boundary is `partial`."""
        bounded = self.secrets_complete or self.reads == "host"
        return Sandbox(
            mode=self.mode,
            read_boundary=self.reads if bounded else "partial",
            network=self.network,
        )

    def with_scratch(self, path: Path) -> Boundary:
        """The boundary with one more writable directory."""
        return replace(self, scratch=(*self.scratch, path))


def fresh_name() -> str:
    """A name for a profile that nobody can foresee.

    Codex merges a profile given by `-c` with one of the same name in the user's
    config.toml.
    """
    return f"counsel_{secrets.token_hex(8)}"


def is_literal_path(path: Path) -> bool:
    """Whether Codex takes this path as it is written, not as a pattern."""
    return not PATTERN.search(str(path))


def overrides(boundary: Boundary, name: str) -> tuple[str, ...]:
    """The values of `-c` that define the profile `name` and select it. Never with the option `-s`, which would win."""
    profile: JsonObject = {}
    if boundary.reads == "host":
        profile["extends"] = ":read-only"
    profile["filesystem"] = _filesystem(boundary)
    profile["network"] = {"enabled": boundary.network}
    return (
        f"default_permissions={toml(name)}",
        f"permissions={toml({name: profile})}",
    )


def _filesystem(boundary: Boundary) -> dict[str, str]:
    """Path to access: read, write or deny."""
    access: dict[str, str] = {}
    if boundary.reads != "host":
        access[":minimal"] = "read"
    for path in boundary.readable:
        access[str(path)] = "read"
    access[str(boundary.workspace)] = "read"
    if boundary.mode == "worktree-write":
        access[str(boundary.workspace)] = "write"
    for path in boundary.scratch:
        access[str(path)] = "write"
    # Denials come last: they replace an earlier entry for the same path.
    roots = (boundary.workspace, *boundary.readable)
    for path in (*boundary.denied, *boundary.secrets):
        access[_denial(path, roots)] = "deny"
    return access


def _denial(path: Path, roots: Iterable[Path]) -> str:
    """The path itself; or, if Codex would take it for a pattern, a pattern that matches it and little else.

    In that pattern the first character below the root is a wildcard too: up to 0.163 a
    pattern whose first wildcard stands deeper matches nothing. A wildcard `?` matches
    one byte.
    """
    if is_literal_path(path):
        return str(path)
    for root in roots:
        if path.is_relative_to(root):
            below = str(path.relative_to(root))
            first = "?" * len(below[0].encode())
            rest = re.sub(r"[*?\[\]{}\\!\n\r\t]", "?", below[1:])
            return f"{root}/{first}{rest}"
    return str(path)


def toml(value: Json) -> str:
    """An inline TOML value. Keys are always quoted, so that no path or name can break out of its place."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, except that TOML wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = [f"{toml(str(key))}={toml(item)}" for key, item in value.items()]
        joined = ",".join(pairs)
        return f"{{{joined}}}"
    if isinstance(value, Iterable):
        joined = ",".join(map(toml, value))
        return f"[{joined}]"
    return str(value)
