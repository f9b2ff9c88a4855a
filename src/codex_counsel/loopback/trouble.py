"""Everything that goes wrong between Codex and a model service: refusals, broken streams, silence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from codex_counsel.loopback.reply import Answer, Reply, message, response_id, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codex_counsel.loopback.request import JSON, Request
    from codex_counsel.loopback.wire import Line

Point = Literal["before_headers", "after_headers", "mid_text", "after_message"]
"""How far an answer has come."""

NOTHING = Answer(())


@dataclass(frozen=True)
class HttpError:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def play(self, request: Request, line: Line) -> None:  # noqa: ARG002  # the same for every request
        line.respond(self.status, self.body, self.headers)


@dataclass(frozen=True)
class Ending:
    """A stream that ends otherwise than by `response.completed`, after what `answer` says."""

    kind: str
    fields: Mapping[str, Any]
    answer: Answer = NOTHING

    def play(self, request: Request, line: Line) -> None:
        self.answer.begin(request, line)
        line.event(self.kind, response={"id": response_id(request), **self.fields})


@dataclass(frozen=True)
class Part:
    """An answer that comes as far as a point and then hangs up."""

    point: Point
    text: str

    def play(self, request: Request, line: Line) -> None:
        if self.point == "after_message":
            say(self.text).begin(request, line)
        elif self.point != "before_headers":
            NOTHING.begin(request, line)
        if self.point == "mid_text":
            line.event("response.output_item.added", output_index=0, item=message(""))
            line.event(
                "response.output_text.delta",
                output_index=0,
                content_index=0,
                delta=self.text,
            )


@dataclass(frozen=True)
class Stall:
    """An answer that comes as far as a point and then says nothing more, on an open connection."""

    part: Part
    seconds: float | None

    def play(self, request: Request, line: Line) -> None:
        self.part.play(request, line)
        line.silence(self.seconds)


@dataclass(frozen=True)
class Garbage:
    data: bytes

    def play(self, request: Request, line: Line) -> None:  # noqa: ARG002  # the same for every request
        line.open()
        line.raw(self.data)


def http_error(
    status: int, body: str | JSON = "", headers: Mapping[str, str] | None = None
) -> Reply:
    """Refuse with a status. `error(…)` makes the usual body."""
    spelled = body if isinstance(body, str) else json.dumps(body)
    return HttpError(status, spelled.encode(), headers or {})


def error(code: str, text: str = "refused by the script", **fields: Any) -> JSON:
    """The body of a refusal as OpenAI writes it; a few codes are looked for in `type`, so it is in both."""
    return {"error": {"code": code, "type": code, "message": text, **fields}}


def usage_limit(
    plan: str = "plus",
    resets_at: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """The allowance of a ChatGPT plan is used up until `resets_at` (epoch seconds)."""
    reset = {} if resets_at is None else {"resets_at": resets_at}
    body = error(
        "usage_limit_reached",
        "The usage limit has been reached",
        plan_type=plan,
        **reset,
    )
    return http_error(HTTPStatus.TOO_MANY_REQUESTS, body, headers)


def failed(code: str, text: str = "failed by the script") -> Reply:
    """`response.failed` inside the stream."""
    return Ending(
        "response.failed",
        {"status": "failed", "error": {"code": code, "message": text}},
    )


def incomplete(
    reason: str = "max_output_tokens", text: str = "As far as I can"
) -> Reply:
    """`response.incomplete` after a message."""
    return Ending(
        "response.incomplete",
        {"status": "incomplete", "incomplete_details": {"reason": reason}},
        say(text),
    )


def drop(point: Point = "after_headers", text: str = "As far as I") -> Reply:
    """Hang up at this point of the answer."""
    return Part(point, text)


def stall(
    point: Point = "after_headers",
    seconds: float | None = None,
    text: str = "As far as I",
) -> Reply:
    """Fall silent at this point for so long (None: until client or server goes away), then hang up."""
    return Stall(Part(point, text), seconds)


def garbage(data: bytes = b"data: {not json\n\n") -> Reply:
    """A stream of just these bytes."""
    return Garbage(data)


def malformed() -> Answer:
    """A complete answer whose only item lacks what its type needs."""
    return Answer((lambda _, __: {"type": "function_call", "arguments": 7},))
