"""The import of a Claude Code session as a new thread of Codex, by Codex's own app server (seen on 0.163)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codex_counsel.codex import app_server, rollout
from codex_counsel.codex.binary import Codex
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject

IMPORT_SECONDS = 60
CONFIG = ("features.apps=false",)

METHOD = "externalAgentConfig/import"
METHOD_NOT_FOUND = -32601
"""The JSON-RPC error code of a release that cannot import."""


def import_session(
    codex: Codex,
    env: Mapping[str, str],
    transcript: Path,
    cwd: Path,
    *,
    home: Path,
    codex_home: Path,
) -> str:
    """Import one transcript; return the id of the new thread. No model is asked.

    Codex takes transcripts from `$HOME/.claude/projects` alone: `home` is the home that
    `transcript` lies in. The thread is stored in `codex_home`, an existing directory.
    `cwd` becomes the working directory of the thread. Raises `codex_too_old` or
    `upstream_error`.
    """
    # Without CODEX_HOME the thread would be stored below the value of HOME.
    env = {**env, "HOME": str(home), "CODEX_HOME": str(codex_home)}
    thread = _thread_of(_import(codex, env, transcript, cwd))
    if rollout.find(codex_home, thread) is None:
        raise CounselError(
            Code.UPSTREAM_ERROR,
            f"Codex reported the new thread {thread}, but there is no record of it in {codex_home}",
        )
    return thread


def _thread_of(report: JsonObject) -> str:
    """The id of the thread that the report of an import names. Raises `upstream_error` where it names none."""
    failures: list[str] = []
    for entry in report.get("itemTypeResults", ()):
        if entry.get("itemType") != "SESSIONS":
            continue
        for success in entry.get("successes", ()):
            if success.get("target"):
                return str(success["target"])
        failures += [
            str(failure.get("message")) for failure in entry.get("failures", ())
        ]
    if failures:
        raise CounselError(Code.UPSTREAM_ERROR, failures[0])
    raise CounselError(Code.UPSTREAM_ERROR, "Codex imported nothing of this session")


def _import(
    codex: Codex, env: Mapping[str, str], transcript: Path, cwd: Path
) -> JsonObject:
    """The parameters of the notification that ends the import; the answer to the request is not its end."""
    session = {
        "path": str(transcript),
        "cwd": str(cwd),
        "title": None,
    }
    item = {
        "itemType": "SESSIONS",
        "description": "a Claude Code session",
        "details": {"sessions": [session]},
    }
    with app_server.connect(codex, env, CONFIG, seconds=IMPORT_SECONDS) as server:
        server.request(METHOD, {"migrationItems": [item]})
        for message in server.messages():
            is_answer = message.get("id") == app_server.REQUEST_ID
            if is_answer and "error" in message:
                raise _rejection(codex, message["error"])
            if message.get("method") == f"{METHOD}/completed":
                return dict(message.get("params") or {})
    raise CounselError(
        Code.UPSTREAM_ERROR,
        f"Codex {codex.version} did not finish the import",
    )


def _rejection(codex: Codex, error: Mapping[str, Json]) -> CounselError:
    if error.get("code") == METHOD_NOT_FOUND:
        return CounselError(
            Code.CODEX_TOO_OLD,
            f"Codex {codex.version} cannot import sessions",
        )
    message = error.get("message") or "Codex refused the import"
    return CounselError(Code.UPSTREAM_ERROR, str(message))
