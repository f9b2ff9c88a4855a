"""Replies that come when they are told to."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from codex_counsel.loopback.reply import Reply
    from codex_counsel.loopback.request import Request
    from codex_counsel.loopback.wire import Line


@dataclass(frozen=True)
class Gate:
    """A reply that waits: `reached` is set when the model was asked, the answer goes out after `release` is."""

    reply: Reply
    reached: Event = field(default_factory=Event)
    release: Event = field(default_factory=Event)

    def play(self, request: Request, line: Line) -> None:
        self.reached.set()
        line.wait(self.release)
        self.reply.play(request, line)


@dataclass(frozen=True)
class Slow:
    reply: Reply
    seconds: float

    def play(self, request: Request, line: Line) -> None:
        line.silence(self.seconds)
        self.reply.play(request, line)


def hold(reply: Reply) -> Gate:
    """Answer only when the test says so. A closing server opens every gate."""
    return Gate(reply)


def slow(reply: Reply, seconds: float) -> Reply:
    """Answer after so many seconds."""
    return Slow(reply, seconds)
