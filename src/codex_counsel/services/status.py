"""Is Codex usable here: binary, login, sandbox, limits, defaults; and what a client should know beforehand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.claude import plugins
from codex_counsel.codex import account, binary, inspect
from codex_counsel.codex.account import Login
from codex_counsel.codex.inspect import SandboxState
from codex_counsel.codex.limits import Limits
from codex_counsel.codex.windows import Reading, Readings, of_app_server
from codex_counsel.contract.envelope import EnvelopeDict, Meta, completed
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.jobs.store import Store
from codex_counsel.prepare import effort as efforts
from codex_counsel.prepare import instructions as base_instructions
from codex_counsel.prepare import preflight as checks
from codex_counsel.prepare import project_file
from codex_counsel.prepare import reserve as reserves
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.services import findings, usage
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codex_counsel.codex.binary import Codex
    from codex_counsel.contract.request import Status
    from codex_counsel.contract.settings import Settings
    from codex_counsel.prepare.context import Context

DEFAULT_BOUNDARIES = {
    "consult": "workspace",
    "review": "toolchains",
    "delegate": "toolchains",
}


def report(context: Context, request: Status) -> EnvelopeDict:
    """What is installed and whether a run could start. `next_steps` say what to mend."""
    data: JsonObject = {
        "settings": _settings(context.settings),
        "state_dir": str(context.settings.state),
        "usage": usage.this_month(Store(context.settings.state)),
    }
    problems: list[CounselError] = []
    warnings = list(context.settings.warnings)
    try:
        data["workspace"] = _workspace(context, request)
        data["findings"] = _findings(context, request, warnings)
        data["project_file"] = _project_file(context, request, warnings)
    except CounselError as error:
        problems.append(error)
        data["workspace"] = {"error": error.code, "message": clean(error.message)}
    try:
        data |= _codex(context, request, warnings)
    except CounselError as error:
        problems.append(error)
        data["codex"] = {"error": error.code, "message": clean(error.message)}

    problems += _problems(context, data)
    data["usable"] = not problems
    if problems:
        reasons = [one_line(problem.message, 200) for problem in problems]
        summary = f"Codex is not usable: {'; '.join(reasons)}"
    else:
        summary = f"Codex {data['codex'].get('version')} is usable"

    warnings += _conflicting_plugins(context)
    warnings += _removed_servers(context, request, data)
    envelope = completed(request.tool, summary, data, Meta(warnings=warnings))
    if problems:
        envelope.next_steps = [
            problem.repair or CATALOG[problem.code].repair for problem in problems
        ]
    return envelope.wire()


def notices(context: Context) -> list[str]:
    """What a client should know before the first call. Runs no program, so that a server starts fast."""
    path = checks.trusted_path(context, workspaces.resolve_or_none(context))
    warnings = _conflicting_plugins(context)
    if binary.is_missing(context.settings.codex_bin, path):
        missing = "no Codex is installed here, so every call that needs one will fail: /codex:setup helps the user"
        return [missing, *warnings]
    return warnings


def _conflicting_plugins(context: Context) -> list[str]:
    project = Path(context.env.get("CLAUDE_PROJECT_DIR") or context.cwd)
    return plugins.notices(context.env, project)


def _removed_servers(context: Context, request: Status, data: JsonObject) -> list[str]:
    """The warnings; the servers themselves are added to `data`, where there are any."""
    # Every server imports this module at its start, and nothing else needs the reader
    # of command lines.
    from codex_counsel.services import removed_server

    try:
        workspace = workspaces.resolve(context, request.workspace_root)
    except CounselError:
        workspace = None
    installed = data["codex"].get("version")
    servers = removed_server.report(context, workspace, installed)
    if servers.rows:
        data["removed_servers"] = servers.rows
    return servers.warnings


def _settings(settings: Settings) -> JsonObject:
    values = asdict(settings)
    del values["warnings"]
    return {name: value for name, value in values.items() if value is not None}


def _workspace(context: Context, request: Status) -> JsonObject:
    workspace = workspaces.resolve(context, request.workspace_root)
    repository = str(workspace.top) if workspace.top else None
    return {
        "root": str(workspace.root),
        "source": workspace.source,
        "repository": repository,
    }


def _findings(context: Context, request: Status, warnings: list[str]) -> dict[str, int]:
    """How many are on record in each state. A record that cannot be read keeps no run from starting: a warning."""
    try:
        return findings.counts(context, request.workspace_root)
    except CounselError as error:
        warnings.append(clean(error.message))
        return {}


def _project_file(context: Context, request: Status, warnings: list[str]) -> JsonObject:
    """The project file of HEAD, and whether it can be read; empty for none, outside git too.

    Reviews of a branch read that of their base. Raises `workspace_invalid`.
    """
    workspace = workspaces.resolve(context, request.workspace_root)
    if workspace.top is None:
        return {}
    try:
        repo = workspaces.open_repository(workspace, context)
        head = repo.head()
        file = project_file.of_revision(repo, head, context.settings)
    except CounselError as error:
        return {"valid": False, "error": error.code, "message": clean(error.message)}
    warnings += file.warnings
    if not file.sha:
        return {}
    return {"revision": head, "valid": True}


def _codex(context: Context, request: Status, warnings: list[str]) -> JsonObject:
    """The checks of the binary. Adds to `warnings` what is missing of its package."""
    try:
        workspace = workspaces.resolve(context, request.workspace_root)
    except CounselError:
        workspace = None
    codex = checks.find_codex(context, workspace)
    config = checks.configuration(context, context.settings.profile)
    env = checks.probe_environment(context, workspace)
    login = account.login(codex, context.directories.codex_home, env, config)

    limits = Limits(context.settings.state, login.identity)
    cleared = limits.clear() if request.clear_limits else False
    in_force = limits.in_force()
    state = inspect.sandbox_state(codex, env, context.probes)
    warnings += codex.notices()
    if state.host_controls_writable:
        warnings.append(
            f"{checks.HOST_CONTROLS_WRITABLE}. {checks.HOST_CONTROLS_REMEDY}"
        )
    return {
        "codex": {
            "path": str(codex.path),
            "version": codex.version,
            "source": codex.source,
        },
        "login": {
            "kind": login.kind,
            "missing_variable": login.missing_variable,
        },
        "sandbox": _sandbox(context, state),
        "limits": {
            "in_force": asdict(in_force) if in_force else None,
            "cleared": cleared,
            **_quota(context, codex, login),
        },
        "defaults": {
            **_defaults(context, codex, env, config),
            "isolation": context.settings.isolation,
            "instructions": base_instructions.of_opinions(context, codex, login),
        },
    }


def _defaults(
    context: Context, codex: Codex, env: Mapping[str, str], config: JsonObject
) -> JsonObject:
    """Model and effort of a run whose caller names neither, and who decided them.

    An effort of None is what the model takes by itself: `model_effort`, where this
    Codex lists the model.
    """
    model = context.settings.model or config.get("model")
    configured = efforts.of_user(context, config)
    opinion = configured or efforts.of_opinion(context, codex, env, model)
    delegate = configured or efforts.Effort(None, "model")
    row = efforts.listed_model(context, codex, env, model) or {"model": model}
    source = "codex"
    if context.settings.model:
        source = "setting"
    elif model is None:
        source = "default"
    return {
        "model": row["model"],
        "model_source": source,
        "model_effort": row.get("default_effort"),
        "effort": opinion.name,
        "effort_source": opinion.source,
        "delegate_effort": delegate.name,
        "delegate_effort_source": delegate.source,
    }


def _sandbox(context: Context, state: SandboxState) -> JsonObject:
    """`reason` is why no command could run; `host_controls` is there if they are writable."""
    boundaries = {
        kind: context.settings.read_boundary or default
        for kind, default in DEFAULT_BOUNDARIES.items()
    }
    sandbox: JsonObject = {
        "usable": state.problem is None,
        "reason": state.problem,
        "read_boundary": boundaries,
    }
    if state.host_controls_writable:
        sandbox["host_controls"] = "writable"
    return sandbox


def _state(sandbox: JsonObject) -> SandboxState:
    writable = sandbox.get("host_controls") == "writable"
    return SandboxState(sandbox.get("reason"), host_controls_writable=writable)


def _quota(context: Context, codex: Codex, login: Login) -> JsonObject:
    """The live quota of a ChatGPT account, which other logins have not, and what of it is kept in reserve."""
    percent = context.settings.reserve
    if login.kind not in ("chatgpt", "keyring"):
        reserve = reserves.without_windows(percent, login)
        return {"reserve": reserve.report()} if percent and reserve else {}
    env = checks.probe_environment(context, workspaces.resolve_or_none(context))
    readings = Readings(context.settings.state, login.identity)
    try:
        limits = account.rate_limits(codex, env)
    except CounselError as error:
        quota: JsonObject = {"quota_error": error.message}
        reading = readings.with_known(Reading(0, problem=error.message))
    else:
        quota = {"quota": limits}
        reading = of_app_server(limits)
        # The next launch need not ask again.
        readings.keep(reading)
    if percent:
        reserve = reserves.of_reading(percent, reading)
        quota["reserve"] = reserve.report()
        refusal = reserve.refusal()
        if refusal:
            quota["reserve"]["refusal"] = refusal.message
    return quota


def _problems(context: Context, data: JsonObject) -> list[CounselError]:
    """What the checks that did not raise found all the same."""
    problems = []
    login = data.get("login", {})
    if login.get("kind") == "none":
        missing = Login("none", "", missing_variable=login["missing_variable"])
        problems.append(checks.login_error(missing, context.env))
    state = _state(data.get("sandbox", {}))
    error = checks.sandbox_error(context, state)
    if error:
        problems.append(error)
    limit = data.get("limits", {}).get("in_force")
    if limit:
        problems.append(CounselError(Code.BACKING_OFF, limit["message"]))
    refusal = data.get("limits", {}).get("reserve", {}).get("refusal")
    if refusal:
        problems.append(CounselError(Code.QUOTA_RESERVED, refusal))
    return problems
