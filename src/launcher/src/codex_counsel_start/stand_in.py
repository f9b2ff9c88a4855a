"""An MCP server that only says why the real one is not there: else nobody would tell the model, or the user."""

from __future__ import annotations

import json
import sys
from typing import Any

ERAS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")


def serve(problem: str) -> int:
    """Answer until the client closes our input."""
    print(problem, file=sys.stderr, flush=True)
    for line in sys.stdin.buffer:
        try:
            asked = json.loads(line)
        except ValueError:
            continue
        if isinstance(asked, dict) and "id" in asked and "method" in asked:
            reply = {"jsonrpc": "2.0", "id": asked["id"], **_answer(asked, problem)}
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()
    return 1


def _answer(asked: dict[str, Any], problem: str) -> dict[str, Any]:
    text = f"codex-counsel is not running, so Codex cannot be asked now; go on without it, and tell the user. {problem}"
    tool = {
        "name": "codex_status",
        "description": "Why codex-counsel is not running.",
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": {"readOnlyHint": True},
    }
    match asked["method"]:
        case "initialize":
            wanted = (asked.get("params") or {}).get("protocolVersion")
            about = {"name": "counsel", "version": "0"}
            era = wanted if wanted in ERAS else ERAS[0]
            result: dict[str, Any] = {
                "protocolVersion": era,
                "capabilities": {"tools": {}},
                "serverInfo": about,
            }
            return {"result": {**result, "instructions": text}}
        case "ping":
            return {"result": {}}
        case "tools/list":
            return {"result": {"tools": [tool]}}
        case "tools/call":
            return {
                "result": {"content": [{"type": "text", "text": text}], "isError": True}
            }
    return {"error": {"code": -32601, "message": "Method not found"}}
