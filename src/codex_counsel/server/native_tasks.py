"""Native tasks (the MCP Tasks extension): a run is a task, and its job id is the task id.

The job directory is all the state: a server of a later process answers for the tasks of
an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from fastmcp.server.context import Context
from fastmcp.server.extensions import (
    ExtensionRequestHandler,
    MethodBinding,
    ServerExtension,
    ToolCallContinuation,
    ToolCallOutcome,
)
from fastmcp.tools import Tool
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolRequestParams, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ConfigDict, Field

from codex_counsel.contract.envelope import (
    Envelope,
    EnvelopeDict,
    progress_line,
    text_of,
)
from codex_counsel.contract.request import JobCancel, JobResult, parse
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.errors import Code, CounselError
from codex_counsel.server.threads import in_thread
from codex_counsel.services.counsel import Counsel
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import clean

POLL_MS = 2_000

RequestContext = ServerRequestContext[Any, Any]
TaskStatus = Literal["working", "completed", "cancelled"]


class TaskId(RequestParams):
    """What every request about a task has: which one."""

    model_config = ConfigDict(populate_by_name=True)
    task_id: str = Field(alias="taskId")


class TaskState(BaseModel):
    """A task as it goes over the wire.

    `resultType` is `task` in the answer to the call that made the task, `complete` in
    all later answers.
    """

    model_config = ConfigDict(serialize_by_alias=True)
    result_type: Literal["task", "complete"] = Field(
        "complete", serialization_alias="resultType"
    )
    task_id: str = Field(serialization_alias="taskId")
    status: TaskStatus
    status_message: str = Field(serialization_alias="statusMessage")
    created_at: str = Field(serialization_alias="createdAt")
    last_updated_at: str = Field(serialization_alias="lastUpdatedAt")
    ttl_ms: int = Field(serialization_alias="ttlMs")
    poll_interval_ms: int = Field(POLL_MS, serialization_alias="pollIntervalMs")
    result: JsonObject | None = None


class NativeTasks(ServerExtension):
    """`starters` are the tools that start a run in the background, by the name of the tool that they stand for."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, counsel: Counsel, starters: Mapping[str, Tool]) -> None:
        self._counsel = counsel
        self._starters = starters

    def methods(self) -> tuple[MethodBinding, ...]:
        """The methods of the protocol that this extension answers."""
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        handlers: dict[str, ExtensionRequestHandler] = {
            "tasks/get": self._get,
            "tasks/cancel": self._cancel,
            "tasks/update": self._update,
        }
        return tuple(
            MethodBinding(method, TaskId, handler, versions)
            for method, handler in handlers.items()
        )

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,
        context: Context,
        call_next: ToolCallContinuation,
    ) -> ToolCallOutcome:
        """A task, if the client takes one and the run could be started in the background; else the call as it is."""
        starter = self._starters.get(params.name)
        if starter is None or not self._takes_tasks(context):
            return await call_next()

        answer = await starter.run(params.arguments or {})
        wire = answer.structured_content or {}
        if wire.get("status") in ("queued", "running"):
            return self._task_state(wire["job_id"], wire, is_new=True)

        # Without a state directory the run can still be waited for. A run that has
        # ended by now is the answer: the call itself would start another one.
        if wire.get("error", {}).get("code") == Code.STORAGE_FAILED:
            return await call_next()
        return answer

    def _takes_tasks(self, context: Context) -> bool:
        request = context.request_context
        if request is None or request.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return False
        return context.client_extension_settings(self.identifier) is not None

    async def _get(self, _: RequestContext, params: TaskId) -> TaskState:
        wire = await self._read_result(params.task_id)
        state = self._task_state(params.task_id, wire)
        self._counsel.acknowledge(parse(JobResult, {"job_id": params.task_id}), wire)
        return state

    async def _cancel(self, _: RequestContext, params: TaskId) -> JsonObject:
        """Acknowledged when nothing of the run lives; a run that had ended stays as it is."""
        await _call(self._counsel.cancel, JobCancel, params.task_id)
        return {"resultType": "complete"}

    async def _update(self, _: RequestContext, params: TaskId) -> JsonObject:
        """A run asks its user nothing, so an answer to it changes nothing."""
        await self._read_result(params.task_id)
        return {"resultType": "complete"}

    async def _read_result(self, task_id: str) -> EnvelopeDict:
        return await _call(self._counsel.read_result, JobResult, task_id)

    def _task_state(
        self, job_id: str, wire: EnvelopeDict, *, is_new: bool = False
    ) -> TaskState:
        times = self._counsel.times(job_id)
        state = TaskState(
            result_type="task" if is_new else "complete",
            task_id=job_id,
            status="working",
            status_message="running",
            created_at=_timestamp(times.created),
            last_updated_at=_timestamp(times.updated),
            ttl_ms=times.lifetime_seconds * 1000,
            poll_interval_ms=wire.get("poll_after_ms", POLL_MS),
        )
        if wire["status"] not in TERMINAL:
            progress = Envelope.parse(wire).progress
            if progress:
                state.status_message = progress_line(progress)
            return state

        # A failed run is a completed task: its result says what failed.
        state.status = "cancelled" if wire["status"] == "cancelled" else "completed"
        state.status_message = wire["summary"]
        state.result = _call_result(wire)
        return state


def _call_result(wire: EnvelopeDict) -> JsonObject:
    """What the tool would have returned."""
    return {
        "content": [{"type": "text", "text": text_of(wire)}],
        "structuredContent": wire,
        "isError": not wire["ok"],
    }


async def _call(
    service: Callable[[Any], EnvelopeDict], request: type[Any], task_id: str
) -> EnvelopeDict:
    """Call a service that takes a job id; its errors are errors of the protocol here."""
    try:
        return await in_thread(partial(service, parse(request, {"job_id": task_id})))
    except CounselError as error:
        raise MCPError(
            code=INVALID_PARAMS, message=clean(f"{error.code}: {error.message}")
        ) from None


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
