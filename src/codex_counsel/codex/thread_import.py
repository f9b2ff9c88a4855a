"""The import of a Claude Code session as a new thread of Codex, by Codex's own app server (seen on 0.163)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codex_counsel.codex import app_server
from codex_counsel.codex.binary import Codex
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject

IMPORT_SECONDS = 60
CONFIG = ("features.apps=false",)

METHOD = "externalAgentConfig/import"
METHOD_NOT_FOUND = -32601
"""The JSON-RPC error code of a release that cannot import."""


def import_session(
    codex: Codex, env: Mapping[str, str], transcript: Path, cwd: Path
) -> str:
    """Import one transcript; return the id of the new thread. No model is asked.

    Codex takes transcripts from `$HOME/.claude/projects` alone, so HOME in `env` must
    be the home that `transcript` lies in. `cwd` becomes the working directory of the
    thread. Raises `codex_too_old` or `upstream_error`.
    """
    report = _import(codex, env, transcript, cwd)
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
