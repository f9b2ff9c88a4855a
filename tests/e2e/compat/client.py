"""A client of the server that takes the place of `codex mcp-server`."""

from __future__ import annotations

import sys
from typing import Any

from tests.e2e.server.wire import ServerProcess

ARGV = (sys.executable, "-m", "codex_counsel", "mcp", "--compat")


def ask(server: ServerProcess, tool: str, **arguments: Any) -> dict[str, Any]:
    """The result of the call, as the wire has it. The server must have been initialized."""
    result: dict[str, Any] = server.answer(server.call(tool, arguments))["result"]
    return result


def text(result: dict[str, Any]) -> str:
    """The only text; the structured content, where there is any, says the same."""
    (block,) = result["content"]
    if "structuredContent" in result:
        assert result["structuredContent"]["content"] == block["text"]
    return str(block["text"])


def thread_of(result: dict[str, Any]) -> str:
    return str(result["structuredContent"]["threadId"])
