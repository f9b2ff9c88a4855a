"""Everything about Codex that a run needs, checked before anything is spent: cheapest first."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.codex import account, binary, command, failures, inspect
from codex_counsel.codex import limits as remembered_limits
from codex_counsel.codex.account import Login
from codex_counsel.codex.binary import Codex
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.working_trees import project_directories
from codex_counsel.prepare import reserve as reserves
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.path import search_path
from codex_counsel.system.temporary import temporary_root

if TYPE_CHECKING:
    from codex_counsel.contract.request import RunRequest
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.reserve import Reserve
    from codex_counsel.prepare.workspace import ResolvedWorkspace

GUIDANCE_OF_USER = ("AGENTS.override.md", "AGENTS.md")
"""In the Codex home; Codex sends the first one that there is (0.148 to 0.169)."""
HOST_CONTROLS_WRITABLE = (
    "as this user, Codex's sandbox leaves settings of the machine in /proc/sys writable"
)
HOST_CONTROLS_REMEDY = (
    "Run as an unprivileged user: in a container or CI job, one that is not root."
)


@dataclass(frozen=True)
class Preflight:
    """What the checks found.

    `env` is the environment of a probe. `config` is what the user's Codex is configured
    for; `profile` is Codex's own. `reserve` is None where nothing was looked at.
    `warnings` are for the envelope.
    """

    workspace: ResolvedWorkspace
    codex: Codex
    env: Mapping[str, str]
    login: Login
    config: Mapping[str, Json]
    profile: str | None
    isolation: str
    host_controls_writable: bool = False
    reserve: Reserve | None = None
    warnings: tuple[str, ...] = ()


def check(
    context: Context, request: RunRequest, workspace: ResolvedWorkspace
) -> Preflight:
    """Check the binary, the profile, the login, remembered limits, the reserve and the sandbox, in this order.

    Raises `codex_not_found`, `codex_too_old`, `invalid_arguments` (an unknown profile),
    `auth_required`, `backing_off`, `quota_reserved`, `sandbox_unavailable` (also where
    the settings refuse what the sandbox leaves open) or `codex_config_invalid`.
    """
    codex = find_codex(context, workspace)
    profile = known_profile(context, request.profile or context.settings.profile)
    config = configuration(context, profile)
    env = probe_environment(context, workspace)

    login = account.login(codex, context.directories.codex_home, env, config)
    if not login.present:
        raise login_error(login, context.env)
    remembered_limits.Limits(context.settings.state, login.identity).check()
    reserve = None
    if not request.use_reserve:
        reserve = _checked_reserve(context, codex, env, login)

    runs_commands = not getattr(request, "text_only", False)
    state = inspect.SandboxState(None)
    if runs_commands:
        state = inspect.sandbox_state(codex, env, context.probes)
    error = sandbox_error(context, state)
    if error:
        raise error
    return Preflight(
        workspace=workspace,
        codex=codex,
        env=env,
        login=login,
        config=config,
        profile=profile,
        isolation=context.settings.isolation,
        host_controls_writable=state.host_controls_writable,
        reserve=reserve,
        warnings=(
            *_guidance_sent_by_codex(context),
            *_reserve_warnings(context, request, login, reserve),
        ),
    )


def _checked_reserve(
    context: Context, codex: Codex, env: Mapping[str, str], login: Login
) -> Reserve | None:
    """What is left beside the reserve, None where there is none. Raises `quota_reserved`."""
    reserve = reserves.of_account(context, codex, env, login)
    refusal = reserve.refusal() if reserve else None
    if refusal:
        raise refusal
    return reserve


def _reserve_warnings(
    context: Context, request: RunRequest, login: Login, reserve: Reserve | None
) -> tuple[str, ...]:
    """Of a reserve that was not checked, or that the caller gave away: the user may not know that he did."""
    percent = context.settings.reserve
    if request.use_reserve and percent and not reserves.without_windows(percent, login):
        return (f"the reserve of {percent} % was not kept: the call has use_reserve",)
    return reserve.warnings() if reserve else ()


def _guidance_sent_by_codex(context: Context) -> tuple[str, ...]:
    """A warning for the user's own AGENTS.md where nothing of his was to be sent: Codex has no switch for it."""
    if context.settings.isolation != "strict":
        return ()
    for name in GUIDANCE_OF_USER:
        file = context.directories.codex_home / name
        if file.is_file():
            return (f"Codex sends {file} also with isolation strict",)
    return ()


def sandbox_error(context: Context, state: inspect.SandboxState) -> CounselError | None:
    """Why no run may use this sandbox, or None."""
    if state.problem:
        return failures.from_probe(state.problem)
    if state.host_controls_writable and context.settings.host_controls == "refuse":
        return CounselError(
            Code.SANDBOX_UNAVAILABLE,
            HOST_CONTROLS_WRITABLE,
            repair=f"{HOST_CONTROLS_REMEDY} To accept it, set CODEX_COUNSEL_HOST_CONTROLS=report.",
        )
    return None


def find_codex(context: Context, workspace: ResolvedWorkspace | None) -> Codex:
    """The Codex binary. Raises `codex_not_found` or `codex_too_old`."""
    return binary.find(
        context.settings.codex_bin, trusted_path(context, workspace), context.probes
    )


def trusted_path(context: Context, workspace: ResolvedWorkspace | None) -> str:
    """The `PATH` on which Codex is looked for: nothing inside the project, which others may have written."""
    path = context.env.get("PATH", os.defpath)
    project = project_directories(workspace.root) if workspace else ()
    return search_path(path, project)


def probe_environment(
    context: Context, workspace: ResolvedWorkspace | None = None
) -> dict[str, str]:
    """The environment of a probe of Codex: what a run gets."""
    project = workspace.outermost if workspace else None
    return command.environment(context.env, "probe", temporary_root(), project)


def existing_codex_home(context: Context) -> Path:
    """The Codex home, made where the user has none yet. Raises `codex_config_invalid` if there can be none.

    Codex makes its usual home by itself, and refuses a missing one that CODEX_HOME names.
    """
    codex_home = context.directories.codex_home
    try:
        if not context.env.get("CODEX_HOME"):
            codex_home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.scandir(codex_home).close()
    except OSError as error:
        raise CounselError(
            Code.CODEX_CONFIG_INVALID,
            f"the Codex home {codex_home} cannot be used: {error.strerror}",
            repair="Let CODEX_HOME name a directory of yours, or unset it.",
        ) from None
    return codex_home


def mcp_servers(context: Context, preflight: Preflight) -> tuple[str, ...]:
    """The MCP servers of the user that a run would start, to be switched off. Raises `codex_config_invalid`."""
    root = preflight.workspace.root
    return inspect.mcp_servers(
        preflight.codex, preflight.env, root, preflight.profile, context.probes
    )


def configuration(context: Context, profile: str | None) -> JsonObject:
    """What Codex will be configured for. With isolation `strict` it reads nothing of the user's configuration."""
    if context.settings.isolation == "strict":
        return {}
    return inspect.configuration(context.directories.codex_home, profile)


def known_profile(context: Context, name: str | None) -> str | None:
    """The profile's name. Raises `invalid_arguments` for one that does not exist: Codex itself would ignore it."""
    if not name:
        return name
    if not (context.directories.codex_home / f"{name}.config.toml").is_file():
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"profile: there is no {name}.config.toml in the Codex home",
        )
    return name


def login_error(login: Login, env: Mapping[str, str]) -> CounselError:
    """Why there is no login, and the shortest way to one."""
    variable = login.missing_variable
    if variable:
        return CounselError(
            Code.AUTH_REQUIRED,
            f"The model provider of your Codex configuration reads its key from {variable}, which is not set",
            repair=f"Set {variable} in the environment in which this server or command is started.",
        )
    if env.get("OPENAI_API_KEY"):
        return CounselError(
            Code.AUTH_REQUIRED,
            "Codex is not logged in; OPENAI_API_KEY is set, but codex exec does not read it",
            repair="Run `printenv OPENAI_API_KEY | codex login --with-api-key` once, or give one run the key in "
            "CODEX_API_KEY.",
        )
    return CounselError(Code.AUTH_REQUIRED, "Codex is not logged in")
