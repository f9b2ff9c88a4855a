"""One line of `codex exec --json` as a typed event. Shapes seen on Codex 0.148 to 0.169.

A turn is events of type `turn.*`; what happens in it is items, each with
`item.started`, `item.updated` and `item.completed`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from codex_counsel.system.json_values import Json, JsonObject


@dataclass(frozen=True)
class ThreadStarted:
    thread_id: str


@dataclass(frozen=True)
class TurnStarted:
    pass


@dataclass(frozen=True)
class Message:
    """A message of the model: an interim one or the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    text: str


@dataclass(frozen=True)
class CommandStarted:
    """A command that runs; `item` is the id with which its end is reported. May come more than once."""

    item: str
    command: str


@dataclass(frozen=True)
class CommandEnded:
    """`exit_code` is None when Codex reports none; `output` is stdout and stderr together."""

    item: str
    command: str
    exit_code: int | None
    output: str


@dataclass(frozen=True)
class FilesChanged:
    """A patch of the model; `ok` is false when it could not be applied."""

    paths: tuple[str, ...]
    ok: bool


@dataclass(frozen=True)
class OtherItem:
    """An item of which only its type matters: a tool call, a search, a plan, or one of a newer release."""

    kind: str


@dataclass(frozen=True)
class ItemWarning:
    """An item of type `error`: a warning, never the failure of the turn."""

    message: str


@dataclass(frozen=True)
class Notice:
    """An event `error`: a retry, or the sentence that `turn.failed` will repeat."""

    message: str


@dataclass(frozen=True)
class Tokens:
    """Token counts, cumulative for the whole thread. `input` includes `cached_input`."""

    input: int
    cached_input: int
    output: int
    reasoning: int

    @classmethod
    def parse(cls, usage: JsonObject) -> Tokens:
        """From a JSON object of Codex; a missing count is 0."""
        return cls(
            input=int(usage.get("input_tokens") or 0),
            cached_input=int(usage.get("cached_input_tokens") or 0),
            output=int(usage.get("output_tokens") or 0),
            reasoning=int(usage.get("reasoning_output_tokens") or 0),
        )

    @property
    def size(self) -> int:
        """Tokens that were sent and received."""
        return self.input + self.output

    def plus(self, more: Tokens) -> Tokens:
        """The sum."""
        return Tokens(
            input=self.input + more.input,
            cached_input=self.cached_input + more.cached_input,
            output=self.output + more.output,
            reasoning=self.reasoning + more.reasoning,
        )

    def since(self, earlier: Tokens) -> Tokens:
        """What came to an earlier total of the thread; never negative.

        A smaller total was counted anew: Codex sets it to zero where the context is full (seen on 0.163 and 0.169).
        """
        if self.size < earlier.size:
            return self
        return Tokens(
            input=max(self.input - earlier.input, 0),
            cached_input=max(self.cached_input - earlier.cached_input, 0),
            output=max(self.output - earlier.output, 0),
            reasoning=max(self.reasoning - earlier.reasoning, 0),
        )


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


@dataclass(frozen=True)
class Damaged:
    """A line that cannot be read and may have been a message of the model, or the end of its turn."""

    line: bytes


Event = (
    ThreadStarted
    | TurnStarted
    | Message
    | Reasoning
    | CommandStarted
    | CommandEnded
    | FilesChanged
    | OtherItem
    | ItemWarning
    | Notice
    | TurnCompleted
    | TurnFailed
    | Noise
    | Damaged
)


def parse(line: bytes) -> Event:
    """The event of one line, without its line feed. Never raises: what cannot be read is `Damaged` or `Noise`."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError):
        if line.lstrip().startswith(b"{") or b'"type"' in line:
            return Damaged(line)
        return Noise(line)
    try:
        return _parse_event(raw) or Noise(line)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        if _is_decisive(raw):
            return Damaged(line)
        return Noise(line)


def _is_decisive(raw: Json) -> bool:
    """Whether this may be meant as a message of the model, or as the end of the turn."""
    match raw:
        case {"type": "turn.completed"}:
            return True
        case {"type": "item.completed", "item": {"type": str(kind)}}:
            return kind == "agent_message"
        case {"type": "item.completed"}:
            return True
    return False


def _parse_event(raw: JsonObject) -> Event | None:  # noqa: PLR0911  # one for each type
    kind = str(raw["type"])
    if kind.startswith("item."):
        return _parse_item(raw["item"], completed=kind == "item.completed")
    match kind:
        case "thread.started":
            return ThreadStarted(str(raw["thread_id"]))
        case "turn.started":
            return TurnStarted()
        case "turn.completed":
            return TurnCompleted(Tokens.parse(raw.get("usage") or {}))
        case "turn.failed":
            return TurnFailed(str(raw["error"]["message"]))
        case "error":
            return Notice(str(raw["message"]))
    return None


def _parse_item(item: JsonObject, *, completed: bool) -> Event:  # noqa: PLR0911  # one for each type
    match item["type"]:
        case "agent_message" if completed:
            return Message(_text(item["text"]))
        case "reasoning" if completed:
            return Reasoning(str(item.get("text") or ""))
        case "command_execution" if completed:
            exit_code = item.get("exit_code")
            return CommandEnded(
                item=str(item["id"]),
                command=str(item.get("command") or ""),
                exit_code=None if exit_code is None else int(exit_code),
                output=str(item.get("aggregated_output") or ""),
            )
        case "command_execution":
            return CommandStarted(str(item["id"]), str(item.get("command") or ""))
        case "file_change" if completed:
            changes = item.get("changes") or ()
            paths = tuple(str(change["path"]) for change in changes)
            return FilesChanged(paths, ok=item.get("status") == "completed")
        case "error" if completed:
            return ItemWarning(str(item["message"]))
    return OtherItem(str(item["type"]))


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError("a message is a string")
    return value
