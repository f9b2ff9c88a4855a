"""What the installed Codex would do here: its configuration, MCP servers, models, own prompt, and its sandbox's state.

The configuration is read from its files; all other answers come from commands of Codex
that ask no model.
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.codex import sandbox
from codex_counsel.codex.binary import Codex
from codex_counsel.codex.command import config_flags, untrusted
from codex_counsel.codex.failures import last_sentence
from codex_counsel.codex.probe import ProbeCache, ProbeResult, file_stamp, run_probe
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.process_tree import boot_id
from codex_counsel.system.redact import mask
from codex_counsel.system.temporary import temporary_directory
from codex_counsel.system.text import one_line

PROBE_PREFIX = "codex-counsel-probe-"
"""Begins the names of the temporary directories in which the sandbox is tried."""
SYSTEM_CONFIGURATION = (
    Path("/etc/codex/config.toml"),
    Path("/etc/codex/managed_config.toml"),
)


def home_of(env: Mapping[str, str]) -> Path:
    """The CODEX_HOME that Codex uses in this environment, absolute."""
    codex_home = env.get("CODEX_HOME")
    if codex_home:
        return Path(codex_home).absolute()
    home = env.get("HOME") or Path.home()
    return Path(home, ".codex").absolute()


def configuration(codex_home: Path, profile: str | None) -> JsonObject:
    """The user's config.toml, with the tables and values of the profile in place of its own.

    A missing or broken file counts as empty: Codex itself reports it when it starts.
    """
    names = ["config.toml"]
    if profile:
        names.append(f"{profile}.config.toml")
    merged: JsonObject = {}
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            text = (codex_home / name).read_text("utf-8")
            merged |= tomllib.loads(text)
    return merged


def mcp_servers(
    codex: Codex,
    env: Mapping[str, str],
    cwd: Path,
    profile: str | None,
    probes: ProbeCache,
) -> tuple[str, ...]:
    """Names of the MCP servers that a run would start, for `Turn.mcp_servers`. Raises `codex_config_invalid`.

    A run switches them off one by one: Codex merges a table given by `-c` with the
    user's, so an empty one has no effect. Cached until the binary or a configuration
    file changes.
    """
    home = home_of(env)
    files = [codex.path, home / "config.toml", *SYSTEM_CONFIGURATION]
    if profile:
        files.append(home / f"{profile}.config.toml")
    key = ("mcp", *map(file_stamp, files))

    names = probes.get(*key)
    if names is None:
        names = _ask_mcp_servers(codex, env, cwd, profile)
        probes.put(names, *key)
    return tuple(names)


def _ask_mcp_servers(
    codex: Codex, env: Mapping[str, str], cwd: Path, profile: str | None
) -> list[str]:
    argv = [str(codex.path)]
    if profile:
        argv += ["-p", profile]
    argv += ["-c", untrusted(cwd), "mcp", "list", "--json"]

    result = run_probe(argv, cwd=cwd, env=env)
    if result.returncode == 0:
        servers = json.loads(result.stdout)
        return [str(server["name"]) for server in servers]

    # Codex prints a general sentence, and below it the reason as a list of causes.
    _, _, causes = result.stderr.partition("Caused by:")
    reason = causes.strip().removeprefix("0: ")
    if not reason:
        reason = last_sentence(result.stderr)
    masked, _ = mask(reason)
    message = one_line(masked, 400) or "codex mcp list failed"
    raise CounselError(Code.CODEX_CONFIG_INVALID, message)


@dataclass(frozen=True)
class SandboxState:
    """What a command can do in the sandbox of a run on this machine.

    `problem` is why the sandbox cannot be used, or None. `host_controls_writable` means
    that a command could change the settings of the whole machine.
    """

    problem: str | None
    host_controls_writable: bool = False


def sandbox_state(
    codex: Codex, env: Mapping[str, str], probes: ProbeCache
) -> SandboxState:
    """Try the sandbox of this binary, or return what an earlier try found.

    A state without a problem is cached until reboot, or a change of the binary, of
    config.toml, of the user or of the container. A problem is not cached: the user may
    be mending it.
    """
    key = (
        "sandbox state",
        file_stamp(codex.path),
        boot_id(),
        file_stamp(home_of(env) / "config.toml"),
        str(os.geteuid()),
        *_namespaces(),
    )
    cached = probes.get(*key)
    if isinstance(cached, dict):
        writable = cached.get("host_controls") == "writable"
        return SandboxState(None, host_controls_writable=writable)

    state = _try_sandbox(codex, env)
    if state.problem is None:
        facts: JsonObject = {}
        if state.host_controls_writable:
            facts["host_controls"] = "writable"
        probes.put(facts, *key)
    return state


def _namespaces() -> tuple[str, ...]:
    """What differs between containers of one machine, which share its boot id; empty where there is no /proc."""
    try:
        links = [f"/proc/self/ns/{name}" for name in ("user", "mnt")]
        return tuple(map(os.readlink, links))
    except OSError:
        return ()


CANARY = """\
cat canary && ! cat ../outside/canary && ! touch canary2 && echo
echo probed
for control in /proc/sys/kernel/core_pattern /proc/sys/vm/overcommit_memory
do ( : >> $control ) 2>/dev/null && echo writable
done
:
"""
"""Prints "canary" for the file inside the workspace, a line feed when it could neither read the one outside nor write,
"probed", and "writable" for each setting of the machine that opens for writing. Nothing is written to it. These two
belong to no namespace, so they are the machine's own also in a container."""


def _try_sandbox(codex: Codex, env: Mapping[str, str]) -> SandboxState:
    """Run one command in the sandbox of a run: it must read a file inside the workspace and none outside, nor write."""
    with temporary_directory(PROBE_PREFIX) as base:
        reason = sandbox.why_unsafe(base)
        if reason:
            return SandboxState(f"the directory that TMPDIR names {reason}")
        for name in ("workspace", "outside"):
            (base / name).mkdir()
            (base / name / "canary").write_text("canary", "ascii")

        workspace = base / "workspace"
        boundary = sandbox.Boundary(workspace, readable=codex.needs)
        config = sandbox.overrides(boundary, sandbox.fresh_name())
        argv = [
            str(codex.path),
            "sandbox",
            *config_flags(config),
            "--",
            "/bin/sh",
            "-c",
            CANARY,
        ]
        result = run_probe(argv, cwd=workspace, env={**env, "TMPDIR": str(base)})

    words = result.stdout.split()
    if words[:2] == ["canary", "probed"] and set(words[2:]) <= {"writable"}:
        return SandboxState(None, host_controls_writable="writable" in words)
    both_read = "canarycanary" in result.stdout.replace("\n", "")
    completed = result.returncode == 0 and "probed" in result.stdout
    if both_read or completed:
        return SandboxState(
            "the sandbox of this Codex does not bound what a command reads or writes"
        )
    output, _ = mask(result.stderr or result.stdout)
    return SandboxState(one_line(output or "no answer", 300))


def models(
    codex: Codex, env: Mapping[str, str], probes: ProbeCache
) -> list[JsonObject]:
    """The models that this release lists to its users, the default first, each with its efforts.

    Cached until the binary or config.toml changes. Raises `codex_config_invalid`.
    """
    key = (
        "models",
        file_stamp(codex.path),
        file_stamp(home_of(env) / "config.toml"),
    )
    cached = probes.get(*key)
    if isinstance(cached, list):
        return list(cached)
    rows = _ask_models(codex, env)
    probes.put(rows, *key)
    return rows


def _ask_models(codex: Codex, env: Mapping[str, str]) -> list[JsonObject]:
    argv = [str(codex.path), "debug", "models", "--bundled"]
    result = run_probe(argv, env=env)
    try:
        entries = json.loads(result.stdout)["models"]
    except (ValueError, KeyError, TypeError):
        raise _unreadable(result) from None

    listed = [entry for entry in entries if entry.get("visibility") == "list"]
    listed.sort(key=lambda entry: entry.get("priority", 99))
    rows = [_model_row(entry) for entry in listed]
    if rows:
        rows[0]["default"] = True
    return rows


def _model_row(entry: Mapping[str, Json]) -> JsonObject:
    levels = entry.get("supported_reasoning_levels") or ()
    return {
        "model": entry.get("slug"),
        "efforts": [level.get("effort") for level in levels],
        "default_effort": entry.get("default_reasoning_level"),
        "context_window": entry.get("context_window"),
    }


def prompt_additions(
    codex: Codex, env: Mapping[str, str], cwd: Path, config: Iterable[str]
) -> list[dict[str, int | str]]:
    """What Codex sends before our prompt, as `addition` describes each part.

    `config` are the values of `-c` of the run. Some releases leave base instructions
    out (seen on 0.163). Raises `codex_config_invalid`.
    """
    prompt = "(prompt)"
    argv = [
        str(codex.path),
        "debug",
        "prompt-input",
        *config_flags(config),
        prompt,
    ]
    result = run_probe(argv, cwd=cwd, env=env)
    texts: list[str] = []
    try:
        for message in json.loads(result.stdout):
            parts = message.get("content", ())
            texts += [str(part.get("text", "")) for part in parts]
    except (ValueError, TypeError, AttributeError):
        raise _unreadable(result) from None

    return [addition(text) for text in texts if text != prompt]


def addition(text: str) -> dict[str, int | str]:
    """A text that Codex sends: its size in UTF-8 bytes and its first 80 characters."""
    return {"bytes": len(text.encode()), "begins": one_line(text, 80)}


def _unreadable(result: ProbeResult) -> CounselError:
    reason = last_sentence(result.stderr) or result.stdout
    return CounselError(Code.CODEX_CONFIG_INVALID, one_line(reason, 300))
