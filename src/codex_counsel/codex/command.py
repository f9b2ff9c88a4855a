"""The command line, configuration and environment of a run of Codex, as pure functions. Seen on 0.148 to 0.169."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from codex_counsel.codex import sandbox
from codex_counsel.codex.binary import Codex
from codex_counsel.codex.sandbox import Boundary, toml
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.working_trees import project_directories
from codex_counsel.system.json_values import Json
from codex_counsel.system.path import search_path

JOB_VARIABLE = "CODEX_COUNSEL_JOB"
"""The variable with the job id, by which the processes of a job are found after its worker was killed."""

SANDBOX_PINS = (
    'approval_policy="never"',
    'approvals_reviewer="user"',
    "allow_login_shell=false",
    "features.shell_snapshot=false",
    'shell_environment_policy.inherit="core"',
    "notify=[]",
)
"""Without each of these a command of the model can leave the sandbox or see secrets, whatever the profile says."""

CORE_VARIABLES = (
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_*",
    "TERM",
    "TMPDIR",
    "TEMP",
    "TMP",
    "TZ",
)
"""What a command gets of Codex's environment."""

CACHES = {
    "XDG_CACHE_HOME": "cache",
    "MYPY_CACHE_DIR": "cache/mypy",
    "RUFF_CACHE_DIR": "cache/ruff",
    "HYPOTHESIS_STORAGE_DIRECTORY": "cache/hypothesis",
    "COVERAGE_FILE": ".coverage",
}
"""Variables that lead what tests and linters write to a place below TMPDIR, and that place."""

QUIET_PINS = (
    "analytics.enabled=false",
    "features.unbounded_connection_retries=false",
    "features.goals=false",
    "features.sleep_tool=false",
    "features.image_generation=false",
    "features.multi_agent=false",
    "agents.enabled=false",
    "tools.experimental_request_user_input={enabled=false}",
    "project_doc_max_bytes=0",
)
"""No questions to the user, nothing that outlives the run, no telemetry.

`project_doc_max_bytes=0` keeps Codex from adding AGENTS.md: it is part of our own
prompt.
"""

LEAN_PINS = (
    "features.hooks=false",
    "features.plugins=false",
    "features.apps=false",
    "features.remote_plugin=false",
    "features.memories=false",
    "features.tool_suggest=false",
    "features.skill_search=false",
    "skills.include_instructions=false",
    "skills.bundled.enabled=false",
)
"""Switch off what the user has set up for his own sessions; isolation `inherit` leaves these out."""

NO_ENVIRONMENT_BLOCK = "include_environment_context=false"
"""Keeps Codex from telling the model the paths of the workspace and of the denied files, the date and the time zone."""

OWN_INSTRUCTIONS_PINS = (
    "include_permissions_instructions=false",
    "include_collaboration_mode_instructions=false",
)
"""Keep Codex from describing the sandbox and how it works with a user: it calls our read-only profile writable."""

WHOLE_THREAD_PINS = (
    "model_auto_compact_token_limit=1000000000",
    "model_context_window=1000000000",
)
"""Keep Codex from summarising a long thread before the model is asked, which costs the whole thread once more.

The limit alone does not: Codex takes at most nine tenths of the window. Seen on 0.163 and 0.169; 0.148 knows the window
better than we do.
"""

DROPPED_PREFIXES = (
    "ANTHROPIC_",
    "CLAUDE",
    "GIT_",
    "CODEX_COUNSEL_",
    "CODEX_SANDBOX",
    "CODEX_IN_CLAUDE_",
)
DROPPED_NAMES = frozenset(
    {
        "AI_AGENT",
        "CODEX_THREAD_ID",
        "CODEX_SESSION_ID",
        "CODEX_CI",
        "CODEX_TOOL_CALL_ID",
        "RUST_LOG",
    }
)
"""Variables of the caller that are not passed to Codex."""


@dataclass(frozen=True)
class Turn:
    """One turn of Codex.

    `variables` are set for commands, and for nothing else. `cwd` is the directory that
    Codex works in, by default the workspace. `session_id` continues that thread.
    `isolation` is lean, inherit or strict. `mcp_servers` are the names of those to
    switch off. `text_only` takes the shell away. `schema` is a file with the JSON
    Schema of the reply. `instructions` is a file with the base instructions of the
    model, by default Codex's own; Codex does not start where it is missing or blank.
    `whole_thread` sends a long thread as it is. `config` are further values of the
    configuration by their dotted names; ours stand after them, and win: of `web_search` they
    may only choose how. `permissions` names the turn's permission profile.
    """

    boundary: Boundary
    variables: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    model: str | None = None
    effort: str | None = None
    profile: str | None = None
    session_id: str | None = None
    isolation: str = "lean"
    mcp_servers: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    web_search: bool = False
    text_only: bool = False
    schema: Path | None = None
    instructions: Path | None = None
    whole_thread: bool = False
    config: Mapping[str, Json] = field(default_factory=dict)
    permissions: str = field(default_factory=sandbox.fresh_name)


def sandbox_argv(codex: Codex, turn: Turn) -> tuple[str, ...]:
    """The command line up to a command that is to run in the sandbox of the turn, by which no model is asked.

    The command is started with the environment of this process: see `core_environment`.
    """
    values = (
        *sandbox.overrides(turn.boundary, turn.permissions),
        untrusted(turn.cwd or turn.boundary.workspace),
    )
    return (str(codex.path), "sandbox", *config_flags(values), "--")


def core_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of `env` that a command of the model would get."""
    return {
        name: value
        for name, value in env.items()
        if name in CORE_VARIABLES or name.startswith("LC_")
    }


def last_turn(turn: Turn, thread_id: str) -> Turn:
    """The turn that continues this one to answer at once: the same boundary and form, without shell and web search.

    `apply_patch` and `view_image` stay: no release has a setting that removes them.
    """
    return replace(
        turn,
        session_id=thread_id,
        text_only=True,
        images=(),
        web_search=False,
        whole_thread=True,
    )


def argv(codex: Codex, turn: Turn) -> tuple[str, ...]:
    """The command line of a run; Codex reads the prompt from stdin.

    Raises `invalid_arguments` for an image whose path has a comma.
    """
    parts = [
        str(codex.path),
        "exec",
        "--json",
        "--skip-git-repo-check",
        "--ignore-rules",
    ]
    if turn.isolation == "strict":
        parts.append("--ignore-user-config")
    parts += ["-C", str(turn.cwd or turn.boundary.workspace)]
    if turn.profile:
        parts += ["-p", turn.profile]
    if turn.model:
        parts += ["-m", turn.model]
    if turn.schema:
        parts += ["--output-schema", str(turn.schema)]
    parts += config_flags(config(turn))
    parts += [_image_option(path) for path in turn.images]
    # All options stand before the word `resume`: up to 0.163 a `-c` after it drops all
    # earlier ones.
    if turn.session_id:
        parts += ["resume", turn.session_id]
    parts.append("-")
    return tuple(parts)


def config(turn: Turn) -> tuple[str, ...]:
    """The values of `-c`, each as `key=value` in TOML."""
    web_search = "disabled"
    if turn.web_search:
        web_search = turn.config.get("web_search", "live")
    values = [
        *further_values(turn.config),
        *sandbox.overrides(turn.boundary, turn.permissions),
        *SANDBOX_PINS,
        f"shell_environment_policy.include_only={toml([*CORE_VARIABLES, *turn.variables])}",
        f"shell_environment_policy.set={toml(dict(turn.variables))}",
        untrusted(turn.cwd or turn.boundary.workspace),
        *QUIET_PINS,
    ]
    if turn.isolation != "inherit":
        values += LEAN_PINS
    if turn.isolation == "strict":
        values.append(NO_ENVIRONMENT_BLOCK)
    if turn.isolation != "inherit" and turn.mcp_servers:
        servers = {name: {"enabled": False} for name in turn.mcp_servers}
        values.append(f"mcp_servers={toml(servers)}")
    values.append(f"web_search={toml(web_search)}")
    if turn.effort:
        values.append(f"model_reasoning_effort={toml(turn.effort)}")
    if turn.text_only:
        values.append("features.shell_tool=false")
    if turn.instructions:
        values.append(f"model_instructions_file={toml(str(turn.instructions))}")
        values += OWN_INSTRUCTIONS_PINS
    if turn.whole_thread:
        values += WHOLE_THREAD_PINS
    return tuple(values)


def further_values(config: Mapping[str, Json]) -> list[str]:
    """The values of `-c` for these names, which may be dotted."""
    return [f"{name}={toml(value)}" for name, value in config.items()]


def config_flags(values: Iterable[str]) -> list[str]:
    """`-c VALUE` for each value."""
    flags: list[str] = []
    for value in values:
        flags += ["-c", value]
    return flags


def untrusted(cwd: Path) -> str:
    """The value of `-c` that keeps a repository's own Codex configuration out, also where the user trusts it.

    Codex judges each directory from the repository's top down to `cwd` by itself, so
    all of them are named.
    """
    projects = {str(path): {"trust_level": "untrusted"} for path in (cwd, *cwd.parents)}
    return f"projects={toml(projects)}"


def _image_option(path: Path) -> str:
    # Codex splits the value at commas, so the path would name two other files, which
    # nobody has checked.
    if "," in str(path):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"images: {path} has a comma in it, at which Codex would split the path",
        )
    return f"--image={path}"


def variables(
    boundary: Boundary, temporary: Path, env: Mapping[str, str]
) -> dict[str, str]:
    """What commands get besides `CORE_VARIABLES`, where `env` is the environment of Codex and `temporary` its TMPDIR.

    The project's own programs come first on their PATH alone: Codex runs programs from
    its own one outside any sandbox.
    """
    values = {name: f"{temporary}/{place}" for name, place in CACHES.items()}
    values["PYTHONDONTWRITEBYTECODE"] = "1"
    if boundary.mode == "read-only":
        values["CARGO_TARGET_DIR"] = f"{temporary}/target"
        values["UV_NO_SYNC"] = "1"
    if boundary.programs:
        values["VIRTUAL_ENV"] = str(boundary.environment)
        values["PATH"] = f"{boundary.programs}:{env.get('PATH', os.defpath)}"
    return values


def environment(
    env: Mapping[str, str], job_id: str, scratch: Path, workspace: Path | None = None
) -> dict[str, str]:
    """The environment of Codex itself: `env` without what belongs to Claude, git or another Codex.

    TMPDIR, TMP and TEMP are `scratch`; PATH has no directory of the workspace.
    """
    result: dict[str, str] = {}
    for name, value in env.items():
        if name.startswith(DROPPED_PREFIXES) or name in DROPPED_NAMES:
            continue
        result[name] = value
    # Codex runs `getconf`, `lsb_release` and `bwrap` from PATH outside any sandbox.
    if "PATH" in result:
        project = project_directories(workspace) if workspace else ()
        result["PATH"] = search_path(result["PATH"], project)
    # The `git status` that Codex starts with would run the repository's filters.
    result["GIT_DIR"] = "/nonexistent"
    result |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(scratch))
    result[JOB_VARIABLE] = job_id
    return result
