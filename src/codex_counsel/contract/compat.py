"""The tools of `codex mcp-server`, which Codex no longer has, and the requests of ours that they stand for.

`codex_mcp_server.json` is what codex-cli 0.153.4, the last release with that server,
answered to `tools/list`. Arguments that only earlier releases knew are accepted too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any, ClassVar

from codex_counsel.contract.request import (
    PATH,
    TEXT,
    WORD,
    Consult,
    Delegate,
    FieldRule,
    ToolRequest,
    argument_names,
    check_text,
    is_unicode,
)
from codex_counsel.contract.vocabulary import ApprovalPolicy, CodexSandbox
from codex_counsel.system.json_values import Json, JsonObject

WAIT = "wait"
"""The prompt of `codex-reply` that asks for the answer of the thread's latest run, and sends nothing to the model."""
TOOL_NAMES = ("codex", "codex-reply")


def recorded_tools() -> list[JsonObject]:
    """`codex` and `codex-reply` as the last release listed them."""
    text = (files("codex_counsel.contract") / "codex_mcp_server.json").read_text(
        "utf-8"
    )
    return list(json.loads(text)["tools"])


def _check_instructions(value: str) -> None:
    """A text that Codex gets on its command line or in a file, where a lone surrogate cannot stand."""
    check_text(value)
    if not is_unicode(value):
        raise ValueError("holds a lone surrogate, which is no character")


def _check_profile(value: str) -> None:
    # Codex looks for a file of this name.
    if not re.fullmatch("[A-Za-z0-9_-]{1,100}", value) or value.startswith("-"):
        raise ValueError("is not the plain name of a profile, such as work")


INSTRUCTIONS: FieldRule = {"check": _check_instructions}
PROFILE: FieldRule = {"check": _check_profile}


def _argument(alias: str = "", **rule: Any) -> Any:
    """An argument that may be left out. `alias` is its name on the wire, where Python has no such name."""
    metadata: FieldRule = {**rule}
    if alias:
        metadata["alias"] = alias
    return field(default=None, metadata=metadata)


# --- the calls


@dataclass(frozen=True, kw_only=True)
class CodexCall(ToolRequest):
    """The arguments of `codex`. `profile` and `include-plan-tool` are those of releases up to 0.133 and 0.47."""

    tool: ClassVar[str] = "codex"

    prompt: str = field(metadata=TEXT)
    approval_policy: ApprovalPolicy | None = _argument("approval-policy")
    base_instructions: str | None = _argument("base-instructions", **INSTRUCTIONS)
    compact_prompt: str | None = _argument("compact-prompt", **INSTRUCTIONS)
    config: JsonObject | None = _argument()
    cwd: str | None = _argument(**PATH)
    developer_instructions: str | None = _argument(
        "developer-instructions", **INSTRUCTIONS
    )
    include_plan_tool: bool | None = _argument("include-plan-tool")
    model: str | None = _argument(**WORD)
    profile: str | None = _argument(**PROFILE)
    sandbox: CodexSandbox | None = _argument()


@dataclass(frozen=True, kw_only=True)
class CodexReplyCall(ToolRequest):
    """The arguments of `codex-reply`. The thread was named by `sessionId` up to 0.35, by `conversationId` to 0.80."""

    tool: ClassVar[str] = "codex-reply"

    prompt: str = field(metadata=TEXT)
    thread_id: str | None = _argument("threadId", **WORD)
    conversation_id: str | None = _argument("conversationId", **WORD)
    session_id: str | None = _argument("sessionId", **WORD)

    @property
    def thread(self) -> str | None:
        """The thread that is named, by the newest of the names."""
        return self.thread_id or self.conversation_id or self.session_id


def without_empty(arguments: JsonObject) -> JsonObject:
    """The arguments without empty strings, but for the prompt: a model that fills in each of them means none."""
    return {
        name: value
        for name, value in arguments.items()
        if value != "" or name == "prompt"
    }


def without_effect(request: type[ToolRequest], arguments: JsonObject) -> list[str]:
    """The names of arguments of `codex` in a call of `codex-reply`, which was never refused for them."""
    if request is not CodexReplyCall:
        return []
    return [
        name
        for name in argument_names(CodexCall)
        if name in arguments and name != "prompt"
    ]


# --- what they stand for


@dataclass(frozen=True, kw_only=True)
class ThreadOptions:
    """What a thread keeps from the call that began it.

    `root` is the workspace, absolute. `config` are values of Codex's configuration by their
    dotted names, of those that a caller may set.
    """

    root: str | None = None
    sandbox: CodexSandbox = "read-only"
    model: str | None = None
    profile: str | None = None
    effort: str | None = None
    web_search: bool = False
    base_instructions: str | None = None
    developer_instructions: str | None = None
    compact_prompt: str | None = None
    config: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """JSON-ready, without what was left out."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What the command line of the server names, for calls that name nothing else.

    `config` is as in `ThreadOptions`, with the effort and the web search in it.
    """

    sandbox: CodexSandbox | None = None
    model: str | None = None
    profile: str | None = None
    base_instructions: str | None = None
    developer_instructions: str | None = None
    compact_prompt: str | None = None
    config: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ThreadQuestion(Consult):
    """A turn of such a thread that changes nothing."""

    options: ThreadOptions


@dataclass(frozen=True, kw_only=True)
class ThreadTask(Delegate):
    """A turn of such a thread that works in a throwaway copy."""

    options: ThreadOptions


@dataclass(frozen=True, kw_only=True)
class ThreadChange(Consult):
    """A turn of such a thread that writes in the workspace itself."""

    options: ThreadOptions


@dataclass(frozen=True, kw_only=True)
class CompatAnswer:
    """What a caller of the two tools gets. `thread_id` is empty where there is no thread."""

    thread_id: str
    content: str
    is_error: bool = False
