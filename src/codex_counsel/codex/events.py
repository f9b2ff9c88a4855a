"""One line of `codex exec --json` as a typed event. Shapes: Codex 0.148 to 0.169."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ThreadStarted:
    thread_id: str


@dataclass(frozen=True)
class TurnStarted:
    pass


@dataclass(frozen=True)
class Message:
    text: str


@dataclass(frozen=True)
class Reasoning:
    text: str


@dataclass(frozen=True)
class CommandStarted:
    item: str
    command: str


@dataclass(frozen=True)
class CommandEnded:
    item: str
    command: str
    exit_code: int | None
    output: str


@dataclass(frozen=True)
class FilesChanged:
    paths: tuple[str, ...]
    ok: bool


@dataclass(frozen=True)
class Other:
    """Tool calls, searches and plans: signs of life."""

    kind: str


@dataclass(frozen=True)
class Warned:
    """`item.completed` of type `error`: a warning, never a failure."""

    message: str


@dataclass(frozen=True)
class Notice:
    """An `error` event: a retry, or the sentence that `turn.failed` will repeat."""

    message: str


@dataclass(frozen=True)
class Tokens:
    """Cumulative for the whole thread."""

    input: int
    cached_input: int
    output: int
    reasoning: int


@dataclass(frozen=True)
class TurnCompleted:
    tokens: Tokens


@dataclass(frozen=True)
class TurnFailed:
    message: str


@dataclass(frozen=True)
class Noise:
    """A line that is no event of Codex."""

    line: bytes


Event = (
    ThreadStarted
    | TurnStarted
    | Message
    | Reasoning
    | CommandStarted
    | CommandEnded
    | FilesChanged
    | Other
    | Warned
    | Notice
    | TurnCompleted
    | TurnFailed
    | Noise
)


def parse(line: bytes) -> Event:
    """Never raises: what cannot be read is `Noise`."""
    try:
        raw = json.loads(line)
        return _event(raw) or Noise(line)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return Noise(line)


def _event(raw: dict[str, Any]) -> Event | None:
    kind = str(raw["type"])
    if kind.startswith("item."):
        return _item(kind, raw["item"])
    make = _TURN_EVENTS.get(kind)
    return make(raw) if make else None


_TURN_EVENTS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "thread.started": lambda raw: ThreadStarted(str(raw["thread_id"])),
    "turn.started": lambda _: TurnStarted(),
    "turn.completed": lambda raw: TurnCompleted(_tokens(raw.get("usage") or {})),
    "turn.failed": lambda raw: TurnFailed(str(raw["error"]["message"])),
    "error": lambda raw: Notice(str(raw["message"])),
}


def _tokens(usage: dict[str, Any]) -> Tokens:
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_output_tokens")
    return Tokens(*(int(usage.get(name) or 0) for name in names))


def _item(kind: str, item: dict[str, Any]) -> Event:
    done = kind == "item.completed"
    match item["type"]:
        case "agent_message" if done:
            return Message(str(item["text"]))
        case "reasoning" if done:
            return Reasoning(str(item.get("text") or ""))
        case "command_execution":
            return _command(item, done=done)
        case "file_change" if done:
            paths = tuple(str(change["path"]) for change in item.get("changes") or ())
            return FilesChanged(paths, item.get("status") == "completed")
        case "error" if done:
            return Warned(str(item["message"]))
    return Other(str(item["type"]))


def _command(item: dict[str, Any], *, done: bool) -> Event:
    name, command = str(item["id"]), str(item.get("command") or "")
    if not done:
        return CommandStarted(name, command)
    code = item.get("exit_code")
    return CommandEnded(name, command, None if code is None else int(code), str(item.get("aggregated_output") or ""))
