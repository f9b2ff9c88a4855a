"""The rows of a transcript of Claude Code, one JSON object on each line.

Standard library only: the stop gate reads them, and the user waits.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codex_counsel.system.json_values import JsonObject


def parse_message(line: bytes) -> JsonObject | None:
    """The row, if it is a message; None for other and damaged ones."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("message"), dict):
        return None
    if row.get("type") not in ("user", "assistant"):
        return None
    return row


def begins_turn(row: JsonObject) -> bool:
    """Whether the user wrote this: rows of type user are also results of tools, and what hooks and subagents say."""
    if row.get("type") != "user":
        return False
    if row.get("isMeta") or row.get("isSidechain"):
        return False
    kinds = [block.get("type") for block in blocks(row)]
    return "tool_result" not in kinds


def blocks(row: JsonObject) -> list[JsonObject]:
    """The content of a message as a list of objects; none where it is plain text."""
    content = row["message"].get("content")
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, dict)]


def text_of(row: JsonObject) -> str:
    """The words of a message, without what tools were called with and returned."""
    content = row["message"].get("content")
    if isinstance(content, str):
        return content
    texts = [
        str(block.get("text")) for block in blocks(row) if block.get("type") == "text"
    ]
    return "\n".join(texts)
