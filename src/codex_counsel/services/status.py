"""Is Codex usable here: binary, login, sandbox, limits, defaults; and what a client should know beforehand."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codex_counsel.claude import plugins
from codex_counsel.codex import binary as codex
from codex_counsel.codex import failures
from codex_counsel.codex import limits as backoff
from codex_counsel.codex.binary import Codex, Login
from codex_counsel.contract.envelope import EnvelopeDict, Meta, completed
from codex_counsel.contract.request import Status
from codex_counsel.contract.settings import Settings
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.services.preparing import Preparing, login_hint
from codex_counsel.system.text import clean, one_line


def report(bench: Preparing, request: Status) -> EnvelopeDict:
    """Is Codex usable here, and if not, why."""
    checks: dict[str, Any] = {"settings": _shown_settings(bench.settings), "state_dir": str(bench.settings.state)}
    problems: list[CounselError] = []
    for name, check in (("workspace", _check_workspace), ("codex", _check_codex)):
        try:
            checks |= check(bench, request)
        except CounselError as error:
            problems.append(error)
            checks[name] = {"error": error.code, "message": clean(error.message)}
    problems += _problems(checks)
    checks["usable"] = not problems
    said = "; ".join(one_line(p.message, 200) for p in problems)
    summary = f"Codex {checks['codex'].get('version')} is usable" if not problems else f"Codex is not usable: {said}"
    warnings = [*bench.settings.warnings, *checks.pop("notices", []), *_rivals(bench)]
    envelope = completed(request.tool, summary, checks, Meta(warnings=warnings))
    if problems:
        envelope.next_steps = [p.repair or CATALOG[p.code].repair for p in problems]
    return envelope.wire()


def notices(bench: Preparing) -> list[str]:
    """What a client should know before the first call; asks no program, so that a server starts fast."""
    if codex.is_missing(bench.settings.codex_bin, bench.search_path(bench.here())):
        missing = "no Codex is installed here, so every call that needs one will fail: /codex:setup helps the user"
        return [missing, *_rivals(bench)]
    return _rivals(bench)


def _rivals(bench: Preparing) -> list[str]:
    return plugins.notices(bench.env, Path(bench.env.get("CLAUDE_PROJECT_DIR") or bench.cwd))


def _check_workspace(bench: Preparing, request: Status) -> dict[str, Any]:
    place = bench.place(request.workspace_root)
    shown = {"root": str(place.root), "source": place.source, "repository": str(place.top) if place.top else None}
    return {"workspace": shown}


def _check_codex(bench: Preparing, request: Status) -> dict[str, Any]:
    place = None
    with contextlib.suppress(CounselError):
        place = bench.place(request.workspace_root)
    found = bench.codex_for(place)
    config = bench.configuration(bench.settings.profile)
    run = bench.codex_env(place)
    login = codex.login(found, bench.places.codex_home, run, config)
    limits = backoff.Limits(bench.settings.state, login.identity)
    cleared = limits.clear() if request.clear_limits else False
    mark = limits.mark()
    broken = codex.sandbox_problem(found, run, bench.probes)
    return {
        "notices": found.notices(),
        "codex": {"path": str(found.path), "version": found.version, "source": found.source},
        "login": {"kind": login.kind, "hint": None if login.present else login_hint(bench.env)},
        "sandbox": {
            "usable": not broken,
            "reason": broken,
            "read_boundary": {
                kind: bench.settings.read_boundary or default
                for kind, default in (("consult", "workspace"), ("review", "workspace"), ("delegate", "toolchains"))
            },
        },
        "limits": {
            "in_force": asdict(mark) if mark else None,
            "cleared": cleared,
            **_quota(bench, found, login),
        },
        "defaults": {
            "model": bench.settings.model or config.get("model"),
            "isolation": bench.settings.isolation,
            "effort": bench.settings.effort or config.get("model_reasoning_effort"),
        },
    }


def _quota(bench: Preparing, found: Codex, login: Login) -> dict[str, Any]:
    if login.kind not in ("chatgpt", "keyring"):
        return {}
    try:
        return {"quota": codex.rate_limits(found, bench.codex_env())}
    except CounselError as error:
        return {"quota_error": error.message}


def _problems(checks: dict[str, Any]) -> list[CounselError]:
    found = []
    if checks.get("login", {}).get("hint"):
        found.append(CounselError(Code.AUTH_REQUIRED, checks["login"]["hint"]))
    if checks.get("sandbox", {}).get("reason"):
        found.append(failures.from_probe(checks["sandbox"]["reason"]))
    if checks.get("limits", {}).get("in_force"):
        found.append(CounselError(Code.BACKING_OFF, checks["limits"]["in_force"]["message"]))
    return found


def _shown_settings(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in asdict(settings).items() if name != "warnings" and value is not None}
