"""Which flags and which environment a run of Codex gets. A pure function of what was asked: the table of the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codex_counsel.codex import sandbox
from codex_counsel.codex.binary import Codex, search_path, untrusted
from codex_counsel.codex.sandbox import Boundary, toml
from codex_counsel.errors import Code, CounselError

MARKER = "CODEX_COUNSEL_JOB"

SANDBOX_PINS = (
    'approval_policy="never"',
    'approvals_reviewer="user"',
    "allow_login_shell=false",
    "features.shell_snapshot=false",
    'shell_environment_policy.inherit="core"',
    "shell_environment_policy.include_only="
    + toml(["PATH", "HOME", "SHELL", "USER", "LOGNAME", "LANG", "LC_*", "TERM", "TMPDIR", "TEMP", "TMP", "TZ"]),
    "notify=[]",
)
"""Without any of these a model's command can leave the sandbox or see the caller's secrets, whatever the profile is."""

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
"""Nobody can answer, nothing outlives the run, nothing is sent besides the request: AGENTS.md stands in our brief."""

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
"""The user's own set-up does not hijack a run; isolation `inherit` leaves these out."""

DROPPED_PREFIXES = ("ANTHROPIC_", "CLAUDE", "GIT_", "CODEX_COUNSEL_", "CODEX_SANDBOX", "CODEX_IN_CLAUDE_")
DROPPED_NAMES = frozenset(
    {"AI_AGENT", "CODEX_THREAD_ID", "CODEX_SESSION_ID", "CODEX_CI", "CODEX_TOOL_CALL_ID", "RUST_LOG"}
)


@dataclass(frozen=True)
class Turn:
    """One turn of Codex. `session_id` continues that thread; `mcp_servers` are the names to switch off.

    `permissions` is the name of its permission profile.
    """

    boundary: Boundary
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
    permissions: str = field(default_factory=sandbox.fresh_name)


def argv(codex: Codex, turn: Turn) -> tuple[str, ...]:
    """The command line, all before the word `resume`: up to 0.163 a `-c` after it drops all earlier ones."""
    return (
        *(str(codex.path), "exec", "--json", "--skip-git-repo-check", "--ignore-rules"),
        *(("--ignore-user-config",) if turn.isolation == "strict" else ()),
        *("-C", str(turn.cwd or turn.boundary.workspace)),
        *(("-p", turn.profile) if turn.profile else ()),
        *(("-m", turn.model) if turn.model else ()),
        *(("--output-schema", str(turn.schema)) if turn.schema else ()),
        *(part for value in config(turn) for part in ("-c", value)),
        *map(_image, turn.images),
        *(("resume", turn.session_id) if turn.session_id else ()),
        "-",
    )


def config(turn: Turn) -> tuple[str, ...]:
    """The values of `-c`."""
    return (
        *sandbox.overrides(turn.boundary, turn.permissions),
        *SANDBOX_PINS,
        untrusted(turn.cwd or turn.boundary.workspace),
        *QUIET_PINS,
        *(() if turn.isolation == "inherit" else LEAN_PINS),
        *(() if turn.isolation == "inherit" else _without_servers(turn.mcp_servers)),
        f"web_search={toml('live' if turn.web_search else 'disabled')}",
        *((f"model_reasoning_effort={toml(turn.effort)}",) if turn.effort else ()),
        *(("features.shell_tool=false",) if turn.text_only else ()),
    )


def _image(path: Path) -> str:
    """Codex takes a comma for the end of one path and the beginning of another, which nobody checked."""
    if "," in str(path):
        raise CounselError(Code.INVALID_ARGUMENTS, f"images: {path} has a comma in it, which Codex cannot be told")
    return f"--image={path}"


def _without_servers(names: tuple[str, ...]) -> tuple[str, ...]:
    return (f"mcp_servers={toml({name: {'enabled': False} for name in names})}",) if names else ()


def environment(caller: Mapping[str, str], job_id: str, scratch: Path, workspace: Path | None = None) -> dict[str, str]:
    """What Codex itself gets: the caller's, without what belongs to Claude, git or another Codex.

    `GIT_DIR` points nowhere, because Codex's own start-up `git status` would run the repository's clean filters; and
    `PATH` not into the workspace, whose `getconf`, `lsb_release` or `bwrap` it would run outside any sandbox.
    """
    kept = {name: value for name, value in caller.items() if not _dropped(name)}
    if "PATH" in kept:
        kept["PATH"] = search_path(kept["PATH"], workspace)
    return kept | {"GIT_DIR": "/nonexistent", "TMPDIR": str(scratch), MARKER: job_id}


def _dropped(name: str) -> bool:
    return name.startswith(DROPPED_PREFIXES) or name in DROPPED_NAMES
