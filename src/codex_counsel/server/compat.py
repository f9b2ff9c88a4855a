"""The MCP server that takes the place of `codex mcp-server`: its two tools, on our runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.dependencies import get_context
from fastmcp.tools import Tool, ToolResult
from mcp_types import TextContent
from mcp_types import Tool as WireTool
from pydantic import PrivateAttr

from codex_counsel import __version__
from codex_counsel.contract.compat import (
    TOOL_NAMES,
    CodexCall,
    CodexReplyCall,
    CompatAnswer,
    ServerOptions,
    recorded_tools,
    without_effect,
    without_empty,
)
from codex_counsel.contract.envelope import EnvelopeDict, failed
from codex_counsel.contract.request import ToolRequest, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.server.app import UnknownTools, shortage_or_defect
from codex_counsel.server.threads import in_thread
from codex_counsel.server.waiting import Caller, launch_in_thread, result_in_time
from codex_counsel.services.compat_answers import StartedTurn, failure
from codex_counsel.services.counsel import Counsel, Handle
from codex_counsel.system.json_values import JsonObject

OF_THE_FIRST_CALL = (
    "codex-reply takes no {names}: the thread keeps what its first call named."
)
Start = Callable[[Any], StartedTurn]


def build_compat_server(counsel: Counsel, options: ServerOptions) -> FastMCP:
    """The server, not yet serving."""
    actions: dict[str, tuple[type[ToolRequest], Start]] = {
        "codex": (CodexCall, partial(counsel.codex, server=options)),
        "codex-reply": (CodexReplyCall, counsel.codex_reply),
    }
    tools = []
    for recorded in recorded_tools():
        request, start = actions[recorded["name"]]
        tools.append(CompatTool.bind(recorded, request, partial(_run, counsel, start)))
    return FastMCP(
        "codex-mcp-server",
        version=__version__,
        tools=tools,
        middleware=[UnknownTools(TOOL_NAMES, _refusal)],
        on_duplicate="error",
        dereference_schemas=False,
    )


class CompatTool(Tool):
    """A tool as the last release with that server listed it."""

    _recorded: JsonObject = PrivateAttr()
    _request: type[ToolRequest] = PrivateAttr()
    _action: Callable[[Any], Awaitable[CompatAnswer]] = PrivateAttr()

    @classmethod
    def bind(
        cls,
        recorded: JsonObject,
        request: type[ToolRequest],
        action: Callable[[Any], Awaitable[CompatAnswer]],
    ) -> CompatTool:
        """`action` gets the parsed request."""
        tool = cls(
            name=recorded["name"],
            description=recorded["description"],
            parameters=recorded["inputSchema"],
        )
        tool._recorded = recorded
        tool._request = request
        tool._action = action
        return tool

    def to_mcp_tool(self, **_overrides: Any) -> WireTool:
        """Word for word as recorded."""
        return WireTool.model_validate(self._recorded)

    async def run(self, arguments: JsonObject) -> ToolResult:
        """FastMCP calls this with the arguments as the client sent them. Never raises."""
        try:
            named = without_empty(arguments)
            ignored = without_effect(self._request, named)
            for name in ignored:
                del named[name]
            answer = await self._action(parse(self._request, named))
            if ignored and not answer.is_error:
                note = OF_THE_FIRST_CALL.format(names=", ".join(ignored))
                answer = replace(answer, content=f"{answer.content}\n\n{note}")
        except CounselError as error:
            answer = _failure(self.name, error)
        except Exception as error:  # noqa: BLE001  # a defect of ours is an answer too, with its name
            answer = _failure(self.name, shortage_or_defect(error, self.name))
        return _result_of(answer)


def _failure(tool: str, error: CounselError) -> CompatAnswer:
    return failure(failed(tool, error).wire())


def _refusal(tool: str, error: CounselError) -> ToolResult:
    return _result_of(_failure(tool, error))


def _result_of(answer: CompatAnswer) -> ToolResult:
    """Text and structured content say the same. A failure without a thread is text alone, as it was."""
    structured = None
    if answer.thread_id or not answer.is_error:
        structured = {"threadId": answer.thread_id, "content": answer.content}
    return ToolResult(
        content=[TextContent(type="text", text=answer.content)],
        structured_content=structured,
        is_error=answer.is_error,
    )


async def _run(counsel: Counsel, start: Start, request: ToolRequest) -> CompatAnswer:
    """Start a turn, or join one, and wait for its answer as long as the client can be kept waiting."""
    caller = Caller(get_context())
    turns: list[StartedTurn] = []

    def launch() -> Handle:
        turns.append(start(request))
        return turns[0].handle

    handle = await launch_in_thread(counsel, launch, caller)
    (turn,) = turns
    try:
        wire = await result_in_time(counsel, handle, caller)
        return await _answer(counsel, turn, wire)
    except CounselError as error:
        if turn.thread_id:
            error.details.setdefault("session_id", turn.thread_id)
        raise


async def _answer(
    counsel: Counsel, turn: StartedTurn, wire: EnvelopeDict | None
) -> CompatAnswer:
    try:
        return await in_thread(partial(counsel.codex_answer, turn, wire))
    except CounselError as error:
        if error.code != Code.RESOURCE_LIMIT:
            raise
    # Without a thread the answer is still worth the wait.
    return counsel.codex_answer(turn, wire)
