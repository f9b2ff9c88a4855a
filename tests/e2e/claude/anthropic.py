"""A Messages API on loopback that says what a script says, for the real `claude` to talk to.

    with Messages(lambda turn: [use("Read", file_path="a.py")] if not turn.tool_results else [text("done")]) as api:
        subprocess.run(["claude", "-p", "hello"], env={**env, **api.env})

The script is asked once per model request and answers with content blocks.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from threading import Condition
from typing import Any, Self

from codex_counsel.loopback.connections import Connections, Visit
from codex_counsel.loopback.wire import Line

JSON = dict[str, Any]
COUNT = itertools.count()


@dataclass(frozen=True)
class Turn:
    """One model request: what the client shows its model."""

    body: JSON

    @property
    def system(self) -> str:
        """The system texts before and between the messages, reminders included."""
        texts = [text_of(self.body.get("system"))]
        texts += [
            text_of(message["content"])
            for message in self.body["messages"]
            if message["role"] == "system"
        ]
        return "\n".join(texts)

    @property
    def user_texts(self) -> list[str]:
        """The texts of the user's side, in order, tool results left out."""
        users = [
            message["content"]
            for message in self.body["messages"]
            if message["role"] == "user"
        ]
        return [text for content in users for text in _texts(content)]

    @property
    def command(self) -> str:
        """The body of the slash command that was typed last."""
        bodies = [
            texts for texts in self.user_texts if "mcp__plugin_codex_counsel__" in texts
        ]
        return next(
            (body for body in reversed(bodies) if "<system-reminder>" not in body), ""
        )

    @property
    def tool_results(self) -> list[str]:
        """What the tools returned after the last message of the user, as the model gets it."""
        outputs: list[str] = []
        for message in self.body["messages"]:
            if message["role"] != "user":
                continue
            results = [
                text_of(block.get("content"))
                for block in _blocks(message["content"])
                if block.get("type") == "tool_result"
            ]
            if results:
                outputs += results
            else:
                outputs = []
        return outputs

    @property
    def tool_names(self) -> list[str]:
        """Names of the tools whose schemas are in the request."""
        return [
            str(tool.get("name"))
            for tool in self.body.get("tools", ())
            if not tool.get("defer_loading")
        ]


Script = Callable[[Turn], list[JSON]]


def text(words: str) -> JSON:
    return {"type": "text", "text": words}


def use(name: str, /, **arguments: Any) -> JSON:
    """A call of a tool."""
    return {
        "type": "tool_use",
        "id": f"toolu_{next(COUNT):020d}",
        "name": name,
        "input": arguments,
    }


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(
        str(block.get("text") or block.get("tool_name") or "")
        for block in content or ()
    )


def request_in(command: str) -> str:
    """What the user typed after a command, as it stands in the command's body."""
    match = re.search(r"<request>\n(.*?)\n</request>", command, re.DOTALL)
    return match[1] if match else ""


def _blocks(content: Any) -> list[JSON]:
    return (
        [block for block in content if isinstance(block, dict)]
        if isinstance(content, list)
        else []
    )


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [
        str(block["text"]) for block in _blocks(content) if block.get("type") == "text"
    ]


class Messages:
    """The service. `turns` are the model requests so far."""

    def __init__(self, script: Script) -> None:
        self.turns: list[Turn] = []
        self._script = script
        self._arrival = Condition()
        self._connections = Connections(self._serve)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.close()

    @property
    def env(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._connections.server_port}"
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-ant-scripted"}

    def wait_for_request(self, count: int, seconds: float = 60) -> Turn:
        """Wait for the request of that number and return it."""
        with self._arrival:
            assert self._arrival.wait_for(lambda: len(self.turns) >= count, seconds), (
                "the model was not asked in time"
            )
            return self.turns[count - 1]

    def _serve(self, visit: Visit, line: Line) -> None:
        path = visit.path.partition("?")[0]
        if path.endswith("/count_tokens"):
            line.respond(
                HTTPStatus.OK,
                json.dumps({"input_tokens": len(visit.body) // 4}).encode(),
                {},
            )
        elif path.endswith("/messages") and visit.method == "POST":
            turn = Turn(json.loads(visit.body))
            with self._arrival:
                self.turns.append(turn)
                self._arrival.notify_all()
            _speak(self._script(turn), turn, line)
        else:
            line.respond(HTTPStatus.OK, b"{}", {})


def _speak(blocks: list[JSON], turn: Turn, line: Line) -> None:
    usage = {"input_tokens": 10, "output_tokens": 10}
    head = {
        "id": f"msg_{next(COUNT):020d}",
        "type": "message",
        "role": "assistant",
        "model": turn.body.get("model"),
    }
    line.open()
    line.event(
        "message_start",
        message={**head, "content": [], "stop_reason": None, "usage": usage},
    )
    for index, block in enumerate(blocks):
        called = block["type"] == "tool_use"
        delta = (
            {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            if called
            else None
        )
        start = {**block, "input": {}} if called else {"type": "text", "text": ""}
        line.event("content_block_start", index=index, content_block=start)
        line.event(
            "content_block_delta",
            index=index,
            delta=delta or {"type": "text_delta", "text": block.get("text", "")},
        )
        line.event("content_block_stop", index=index)
    reason = (
        "tool_use"
        if any(block["type"] == "tool_use" for block in blocks)
        else "end_turn"
    )
    line.event(
        "message_delta",
        delta={"stop_reason": reason, "stop_sequence": None},
        usage=usage,
    )
    line.event("message_stop")
