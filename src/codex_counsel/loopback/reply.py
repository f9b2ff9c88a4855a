"""What a scripted model says: a `Reply` to one request, and the `Answer` made of items."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Protocol

from codex_counsel.loopback.request import JSON, Request

if TYPE_CHECKING:
    from codex_counsel.loopback.wire import Line


class Reply(Protocol):
    """Plays its part on the line. A connection that breaks underneath raises OSError, which the server ignores."""

    def play(self, request: Request, line: Line) -> None: ...


Script = Reply | Sequence[Reply] | Callable[[Request], Reply]
"""One reply for all, one per request of a thread (the last one repeats), or a function of the request."""

Item = Callable[[Request, str], JSON]
"""Makes an output item for this request under this call id: the same act is spelled differently for other models."""


@dataclass(frozen=True)
class Usage:
    """The tokens an answer reports. Codex adds them up over the thread."""

    input: int = 100
    cached: int = 40
    output: int = 10
    reasoning: int = 5

    def wire(self) -> JSON:
        return {
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": self.input + self.output,
        }


@dataclass(frozen=True)
class Answer:
    """A complete response of some items. `end_turn=False` makes Codex ask again although no tool was called."""

    items: tuple[Item, ...]
    usage: Usage = Usage()
    end_turn: bool | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def play(self, request: Request, line: Line) -> None:
        if request.streamed:
            self.begin(request, line)
            line.event("response.completed", response=self._response(request))
        else:
            document = json.dumps(self._document(request)).encode()
            line.respond(HTTPStatus.OK, document, self.headers)

    def begin(self, request: Request, line: Line) -> None:
        """Send all but the completion."""
        line.open(self.headers)
        line.event("response.created", response={"id": response_id(request)})
        for index, item in enumerate(self._output(request)):
            line.event("response.output_item.done", output_index=index, item=item)

    def but(self, **changes: Any) -> Answer:
        """The same answer with other `usage`, `end_turn` or `headers`."""
        return replace(self, **changes)

    def _output(self, request: Request) -> list[JSON]:
        return [
            item(request, f"call_{request.index}_{index}")
            for index, item in enumerate(self.items)
        ]

    def _document(self, request: Request) -> JSON:
        """The whole response, for a client that asked without a stream."""
        about = {"object": "response", "status": "completed", "model": request.model}
        return {**self._response(request), **about, "output": self._output(request)}

    def _response(self, request: Request) -> JSON:
        ending = {} if self.end_turn is None else {"end_turn": self.end_turn}
        return {"id": response_id(request), "usage": self.usage.wire(), **ending}


def response_id(request: Request) -> str:
    return f"resp_{request.thread_id}_{request.index}"


def items(*answers: Answer | JSON) -> Answer:
    """One answer that does all of these: `items(say("Looking.", phase="commentary"), shell("ls"), shell("pwd"))`.

    A plain dict is sent as it is.
    """
    return Answer(tuple(item for answer in answers for item in _items_of(answer)))


def say(
    text: str | Mapping[str, Any],
    phase: Literal["commentary", "final_answer"] | None = None,
) -> Answer:
    """A message; a mapping is said as JSON. `commentary` alone ends the turn too: combine it with a call."""
    return items(message(text if isinstance(text, str) else json.dumps(text), phase))


def think(summary: str) -> Answer:
    """A reasoning item with a summary. Nothing else ends the turn: combine it with a message or a call."""
    return items(
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": summary}]}
    )


def shell(cmd: str, **args: Any) -> Answer:
    """Run a command; further arguments are those of `exec_command` (`workdir`, `yield_time_ms`, …)."""
    arguments = {"cmd": cmd, **args}
    return _either(
        call("exec_command", arguments),
        run_code(
            f"const c = await tools.exec_command({json.dumps(arguments)}); text(c.output);"
        ),
    )


def patch(text: str) -> Answer:
    """Apply a patch in Codex's own format (`*** Begin Patch` …)."""
    return _either(
        custom("apply_patch", text),
        run_code(f"text(await tools.apply_patch({json.dumps(text)}));"),
    )


def run_code(javascript: str) -> Answer:
    """Run JavaScript, for models in code mode only: `tools.NAME(…)` calls a tool, `text(…)` returns text."""
    return custom("exec", javascript)


def call(
    name: str, arguments: Mapping[str, Any] | str, namespace: str | None = None
) -> Answer:
    """Call a function tool as it is named on the wire; MCP tools have the namespace `mcp__SERVER`."""
    spelled = arguments if isinstance(arguments, str) else json.dumps(arguments)
    space = {"namespace": namespace} if namespace else {}
    return _calling(
        {"type": "function_call", "name": name, "arguments": spelled, **space}
    )


def custom(name: str, text: str) -> Answer:
    """Call a free-form tool, which takes text instead of JSON."""
    return _calling({"type": "custom_tool_call", "name": name, "input": text})


def message(text: str, phase: str | None = None) -> JSON:
    extra = {"phase": phase} if phase else {}
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
        **extra,
    }


def _calling(item: JSON) -> Answer:
    return Answer((lambda _, call_id: {**item, "call_id": call_id},))


def _either(direct: Answer, coded: Answer) -> Answer:
    """The first answer for models with direct tools, the second for those in code mode."""
    (plain,), (code,) = direct.items, coded.items
    return Answer(
        (
            lambda request, call_id: (code if request.code_mode else plain)(
                request, call_id
            ),
        )
    )


def _items_of(answer: Answer | JSON) -> tuple[Item, ...]:
    return answer.items if isinstance(answer, Answer) else (lambda _, __: answer,)
