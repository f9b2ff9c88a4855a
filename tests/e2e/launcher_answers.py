"""Write `answers.json`, what the server answers everybody alike: `uv run python -m tests.e2e.launcher_answers`.

The launcher's stand-in answers so while the server is being installed. To be run after
each change of a tool's description or arguments, of the instructions, or of FastMCP.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from codex_counsel.contract.envelope import failed, text_of
from codex_counsel.errors import Code, CounselError

JSON = dict[str, Any]
FILE = Path(__file__).parents[2] / "src/launcher/src/codex_counsel_start/answers.json"
LEGACY_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MODERN_VERSION = "2026-07-28"
LISTS = (
    "ping",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
)
FAILING_CALL: JSON = {"name": "codex_job_status", "arguments": {"job_id": "none"}}
PROBLEM = "PROBLEM"


class Server:
    """The server for a user who has a Codex and no settings."""

    def __init__(self, home: str) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "CODEX_COUNSEL_CODEX_BIN": sys.executable,
        }
        self._ids = itertools.count(1)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "codex_counsel", "mcp"],
            env=env,
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)

    def ask(self, method: str, params: JSON) -> JSON:
        """The answer, a `result` or an `error`."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method}
        line = json.dumps({**request, "params": params}) + "\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return {key: answer[key] for key in ("result", "error") if key in answer}


def record() -> JSON:
    """What stands in `answers.json`."""
    with tempfile.TemporaryDirectory() as home:
        return {
            "legacy_versions": [
                version for version in LEGACY_VERSIONS if _speaks(home, version)
            ],
            "modern_versions": [MODERN_VERSION],
            "unsupported_version": _modern(home, "0000-00-00")["server/discover"],
            "legacy": _legacy(home),
            "modern": _modern(home, MODERN_VERSION),
        }


def _client(version: str) -> JSON:
    about = {"name": "recorder", "version": "1"}
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": about}


def _speaks(home: str, version: str) -> bool:
    with Server(home) as server:
        answer = server.ask("initialize", _client(version))
    return bool(answer["result"]["protocolVersion"] == version)


def _legacy(home: str) -> JSON:
    with Server(home) as server:
        answers = {"initialize": server.ask("initialize", _client(LEGACY_VERSIONS[0]))}
        for method in LISTS:
            answers[method] = server.ask(method, {})
        return {
            **answers,
            "failed call": _failed_call(server.ask("tools/call", FAILING_CALL)),
        }


def _modern(home: str, version: str) -> JSON:
    prefix = "io.modelcontextprotocol/"
    client = _client(version)
    meta = {
        f"{prefix}protocolVersion": version,
        f"{prefix}clientInfo": client["clientInfo"],
        f"{prefix}clientCapabilities": {},
    }
    with Server(home) as server:
        answers = {}
        for method in ("server/discover", *LISTS):
            answers[method] = server.ask(method, {"_meta": meta})
        if version != MODERN_VERSION:
            return answers
        answer = server.ask("tools/call", {**FAILING_CALL, "_meta": meta})
        return {**answers, "failed call": _failed_call(answer)}


def _failed_call(answer: JSON) -> JSON:
    """The recorded result of a call, as if the server were not installed."""
    error = CounselError(Code.NOT_INSTALLED, PROBLEM)
    wire = failed(FAILING_CALL["name"], error).wire()
    return {
        **answer["result"],
        "content": [{"type": "text", "text": text_of(wire)}],
        "structuredContent": wire,
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(record(), indent=1) + "\n", "utf-8")
