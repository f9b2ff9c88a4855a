"""What a run may read and write, as a permission profile of Codex: pure functions. Measured on 0.148 to 0.169."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from codex_counsel.contract.envelope import Sandbox
from codex_counsel.contract.vocabulary import Reads, SandboxMode
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject

USERS_MODE = "sandbox_mode"
"""The key of config.toml by which Codex bounds the user's own sessions. It is only read."""
MAX_SECRETS = 200
"""Denials of single files per profile. With more than a few hundred Codex starts commands slowly, then not at all."""

PLATFORM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/System")
"""What Codex's `:minimal` profile opens by itself."""

LATER_SECRETS = (
    "{.env,.env.local,.env.development,.env.production,.env.staging,.env.test,"
    "id_rsa,id_dsa,id_ecdsa,id_ed25519,*.pem,*.p12,*.pfx,.netrc,.pgpass,credentials.json}"
)
"""Names of secret files as a pattern of Codex, which looks for them at the start of each command.

This closes what is made or replaced after the run began. It costs 0.5 ms per 1,000
directory entries and command (0.163, 0.169). Where a folder cannot be read, a matching
name is not UTF-8, or some 1,700 files match, no command runs at all.
"""
MAX_DEPTH = 1000
"""Levels of directories in which Codex looks for these names."""
MAX_SCANNED = 100_000
"""Entries of a workspace in which Codex is made to look before each command."""

SYSTEM = tuple(
    map(
        Path,
        (
            "/proc",
            "/sys",
            "/dev",
            "/etc",
            "/boot",
            "/run/user",
            "/run/secrets",
            "/var/log",
            "/var/spool",
            "/var/mail",
            "/var/backups",
            "/private/etc",
            "/private/var/log",
            "/private/var/db",
        ),
    )
)
"""Directories of the running system: nothing in them or above them is opened for a run."""

PATTERN = re.compile(r"[*?\[\]\n\r\t]")
"""Codex takes a path with one of * ? [ ] for a glob pattern, and drops line breaks and tabs from it."""

WILD = re.compile(r"[*?\[\]{}\\!\n\r\t]")
"""Characters with a meaning in a pattern of Codex."""


@dataclass(frozen=True)
class Boundary:
    """What a run may touch. All paths are absolute and resolved.

    `readable` are roots besides the workspace, `scratch` directories are writable.
    Of a workspace that can be written, `closed` paths cannot, whether they exist or not;
    `pinned` directories can be written, but not be moved away with what is closed in them.
    `denied` are directories and `secrets` files that stay closed wherever they lie.
    `homes` are the home directories of this machine, of which none may be opened.
    `reads` is workspace, toolchains (the same plus `readable` roots of installed tools)
    or host (everything but denials). `environment` is the virtual environment of the
    project, and `programs` the directory of ours that stands for its programs.
    `secrets_complete` is false when there are more secret files than can be denied.
    Below `searched`, files with the commonest secret names are denied also when they
    are made during the run. `host_controls_writable` means that the sandbox leaves the
    settings of the machine in /proc/sys open to commands, which no profile can change:
    Codex mounts /proc last.
    """

    workspace: Path
    mode: SandboxMode = "read-only"
    reads: Reads = "workspace"
    network: bool = False
    readable: tuple[Path, ...] = ()
    scratch: tuple[Path, ...] = ()
    closed: tuple[Path, ...] = ()
    pinned: tuple[Path, ...] = ()
    environment: Path | None = None
    programs: Path | None = None
    denied: tuple[Path, ...] = ()
    homes: tuple[Path, ...] = ()
    secrets: tuple[Path, ...] = ()
    secrets_complete: bool = True
    searched: tuple[Path, ...] = ()
    host_controls_writable: bool = False

    def report(self) -> Sandbox:
        """The boundary as envelopes show it; with secret files left open the read boundary is `partial`."""
        bounded = self.secrets_complete or self.reads == "host"
        return Sandbox(
            mode=self.mode,
            read_boundary=self.reads if bounded else "partial",
            network=self.network,
            host_controls="writable" if self.host_controls_writable else None,
        )

    def with_scratch(self, path: Path) -> Boundary:
        """The boundary with one more writable directory."""
        return replace(self, scratch=(*self.scratch, path))

    def with_programs(self, path: Path) -> Boundary:
        """The boundary with this directory for the programs of the project's environment, where it has one.

        Without them where a PATH would take the directory for two.
        """
        if self.environment is None or os.pathsep in str(path):
            return replace(self, environment=None)
        return replace(self, programs=path)


def fresh_name() -> str:
    """A name for a profile that nobody can foresee.

    Codex merges a profile given by `-c` with one of the same name in the user's
    config.toml.
    """
    return f"counsel_{secrets.token_hex(8)}"


def is_literal_path(path: Path) -> bool:
    """Whether Codex takes this path as it is written, not as a pattern."""
    return not PATTERN.search(str(path))


def can_be_scanned(root: Path) -> bool:
    """Whether a pattern of Codex can begin with this path."""
    return not WILD.search(str(root))


def is_searched(path: Path, roots: Iterable[Path]) -> bool:
    """Whether Codex finds this file by its name, before each command, below one of these roots."""
    if not any(path.is_relative_to(root) for root in roots):
        return False
    patterns = LATER_SECRETS.strip("{}").split(",")
    return any(fnmatchcase(path.name, pattern) for pattern in patterns)


def why_closed(
    path: Path, homes: Iterable[Path] = (), denied: Iterable[Path] = ()
) -> str | None:
    """Why a run must not be given this path, or None: the one gate for all that a profile opens.

    The reason continues a sentence that begins with the path. Whoever collects paths
    from a caller, a repository or the environment asks here; `overrides` asks again
    for every entry. A denial holds for the real path alone, so a path with a link on
    its way is refused.
    """
    if path == Path("/") or any(_is_in(home, path) for home in homes):
        return "is the root, a home directory or above one: a run there could read every credential"
    for base in SYSTEM:
        if _is_in(path, base) or _is_in(base, path):
            return "belongs to the running system"
    return why_unsafe(path, denied)


def _is_in(path: Path, base: Path) -> bool:
    """Whether `path` is `base` or below it; not of the root. Path.is_relative_to takes ten times as long."""
    return path == base or str(path).startswith(f"{base}/")


def why_unsafe(path: Path, denied: Iterable[Path] = ()) -> str | None:
    """The part of the gate that holds for our own directories too, which may lie in a temporary file system."""
    if not path.is_absolute() or os.path.realpath(path) != str(path):
        return "is not an absolute path without links"
    if not is_literal_path(path):
        return "has one of * ? [ ] or a line break or tab in its path, which Codex takes for a pattern"
    closed = {path, *path.parents}.intersection(denied)
    for base in closed:
        return f"lies in {base}, which no run may see"
    return None


def _check(boundary: Boundary) -> None:
    """Raise `workspace_invalid` for a path that the gate refuses, wherever it came from."""
    for path in (boundary.workspace, *boundary.readable):
        reason = why_closed(path, boundary.homes, boundary.denied)
        if reason:
            raise CounselError(Code.WORKSPACE_INVALID, f"{path} {reason}")
    for path in (*boundary.scratch, *filter(None, [boundary.programs])):
        reason = why_unsafe(path, boundary.denied)
        if reason:
            raise CounselError(
                Code.WORKSPACE_INVALID,
                f"{path} {reason}",
                repair="Set TMPDIR, for a task XDG_CACHE_HOME, to another directory.",
            )


def overrides(boundary: Boundary, name: str) -> tuple[str, ...]:
    """The values of `-c` that define the profile `name` and select it. Never with the option `-s`, which would win.

    Raises `workspace_invalid` for a path that no run may be given.
    """
    _check(boundary)
    profile: JsonObject = {}
    if boundary.reads == "host":
        profile["extends"] = ":read-only"
    profile["filesystem"] = _filesystem(boundary)
    profile["network"] = {"enabled": boundary.network}
    return (
        f"default_permissions={toml(name)}",
        f"permissions={toml({name: profile})}",
    )


def _filesystem(boundary: Boundary) -> dict[str, Json]:
    """Path to access: read, write or deny."""
    access: dict[str, Json] = {}
    if boundary.reads != "host":
        access[":minimal"] = "read"
    for path in boundary.readable:
        access[str(path)] = "read"
    access |= _workspace(boundary)
    for path in boundary.scratch:
        access[str(path)] = "write"
    if boundary.programs:
        access[str(boundary.programs)] = "read"
    # Denials come last: they replace an earlier entry for the same path.
    denials = (*boundary.denied, *boundary.secrets)
    for path in outermost(path for path in denials if _is_in_sight(path, boundary)):
        access[_denial(path)] = "deny"
    for root in boundary.searched:
        access[f"{root}/**/{LATER_SECRETS}"] = "deny"
    if any("**" in path for path in access):
        # Without a limit Codex warns in every run.
        access["glob_scan_max_depth"] = MAX_DEPTH
    return access


def _workspace(boundary: Boundary) -> dict[str, Json]:
    if boundary.mode == "read-only":
        return {str(boundary.workspace): "read"}
    access: dict[str, Json] = {str(boundary.workspace): "write"}
    # Codex mounts each of these, and a mount cannot be renamed.
    access |= {str(path): "write" for path in boundary.pinned}
    access |= {str(path): "read" for path in boundary.closed}
    return access


def outermost(paths: Iterable[Path]) -> list[Path]:
    """The paths without repetitions and without those below another one.

    With a denial below a denied directory no command can be started.
    """
    unique = dict.fromkeys(paths)
    return [path for path in unique if unique.keys().isdisjoint(path.parents)]


def _is_in_sight(path: Path, boundary: Boundary) -> bool:
    """Whether a denial changes anything. A home directory is not opened but for what is named.

    Without this, programs would complain of each file in it that they look for.
    """
    if boundary.reads == "host":
        return True
    around = {path, *path.parents}
    if around.intersection((boundary.workspace, *boundary.readable, *boundary.scratch)):
        return True
    # In a container the home may be the root itself.
    around.discard(Path("/"))
    return around.isdisjoint(boundary.homes)


def _denial(path: Path) -> str:
    """The path itself; or, if Codex would take it for a pattern, a pattern that matches it and little else.

    Up to 0.163 a pattern matches only where `**` comes first of its wildcards. A
    wildcard `?` matches one character.
    """
    if is_literal_path(path):
        return str(path)
    parts = path.parts
    literal = next(n for n, part in enumerate(parts) if WILD.search(part))
    rest = [WILD.sub("?", part) for part in parts[literal:]]
    return "/".join((str(Path(*parts[:literal])), "**", *rest))


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
