"""What Codex asked the model: one recorded request, and the questions a test or a script has about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

JSON = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """One `POST …/responses`: header names in lower case, `index` counting within the thread, retries included."""

    path: str
    headers: Mapping[str, str]
    body: JSON
    thread_id: str
    index: int
    over: Event = field(default_factory=Event, repr=False, compare=False)
    """Set when the answer was sent, or the client went away."""

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))

    @property
    def streamed(self) -> bool:
        """Whether the client wants events; Codex always does, other clients may want one JSON document."""
        return bool(self.body.get("stream"))

    @property
    def effort(self) -> str | None:
        return (self.body.get("reasoning") or {}).get("effort")

    @property
    def schema(self) -> JSON | None:
        """The JSON schema the reply has to follow (`--output-schema`)."""
        return ((self.body.get("text") or {}).get("format") or {}).get("schema")

    @property
    def prompt(self) -> str:
        """Everything said by the user, Codex's environment note included."""
        return self._said_by("user")

    @property
    def developer(self) -> str:
        """Everything said by the developer, and the base instructions."""
        return "\n".join(
            filter(None, [self.body.get("instructions"), self._said_by("developer")])
        )

    @property
    def tools(self) -> list[str]:
        """The names of the tools on offer: bare ones, and `namespace.name` outside the namespace `functions`."""
        added = [
            tool
            for item in self.items("additional_tools")
            for tool in item.get("tools", ())
        ]
        return [*_names(self.body.get("tools") or ()), *_names(added)]

    @property
    def code_mode(self) -> bool:
        """Whether the model works by writing JavaScript for the one tool `exec`."""
        return "exec" in self.tools

    @property
    def outputs(self) -> list[str]:
        """What the tools returned so far in this thread, oldest first."""
        found = self.items("function_call_output", "custom_tool_call_output")
        return [_text(item.get("output")) for item in found]

    @property
    def subagent(self) -> str | None:
        """What kind of sub-agent asks; None for the main agent."""
        return self.headers.get("x-openai-subagent")

    def items(self, *kinds: str) -> list[JSON]:
        return [
            item for item in self.body.get("input") or () if item.get("type") in kinds
        ]

    def _said_by(self, role: str) -> str:
        return "\n".join(
            _text(item.get("content"))
            for item in self.items("message")
            if item.get("role") == role
        )


def thread_of(headers: Mapping[str, str], body: JSON) -> str:
    return str(body.get("prompt_cache_key") or headers.get("thread-id") or "")


def _names(tools: Iterable[JSON], prefix: str = "") -> Iterator[str]:
    for tool in tools:
        name = str(tool.get("name") or tool.get("type"))
        if tool.get("type") == "namespace":
            yield from _names(
                tool.get("tools", ()), "" if name == "functions" else f"{name}."
            )
        else:
            yield prefix + name


def _text(content: Any) -> str:
    """The text of a content list, or of a plain string."""
    if isinstance(content, list):
        return "\n".join(
            part.get("text", "") for part in content if isinstance(part, dict)
        )
    return "" if content is None else str(content)
