"""Native tasks (the MCP Tasks extension): a run is a task, its job id is the task id, its directory all the state.

So nothing is kept here, and a server of a later process answers for the tasks of an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

import anyio.to_thread
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

from codex_counsel.contract.envelope import EnvelopeDict, text_of
from codex_counsel.contract.request import JobCancel, JobResult, parse
from codex_counsel.errors import CounselError
from codex_counsel.jobs.job import Job, describe
from codex_counsel.services.counsel import Counsel

TaskStatus = Literal["working", "completed", "cancelled"]


class TaskId(RequestParams):
    model_config = ConfigDict(populate_by_name=True)
    task_id: str = Field(alias="taskId")


class TaskState(BaseModel):
    """A task as it goes over the wire. `resultType` tells a task that was just made from the answer to a question."""

    model_config = ConfigDict(serialize_by_alias=True)
    result_type: Literal["task", "complete"] = Field("complete", serialization_alias="resultType")
    task_id: str = Field(serialization_alias="taskId")
    status: TaskStatus
    status_message: str = Field(serialization_alias="statusMessage")
    created_at: str = Field(serialization_alias="createdAt")
    last_updated_at: str = Field(serialization_alias="lastUpdatedAt")
    ttl_ms: int = Field(serialization_alias="ttlMs")
    poll_interval_ms: int = Field(2_000, serialization_alias="pollIntervalMs")
    result: dict[str, Any] | None = None


class Tasks(ServerExtension):
    """`starters` begin a run in the background with a tool's arguments."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, counsel: Counsel, starters: Mapping[str, Tool]) -> None:
        self._counsel = counsel
        self._starters = starters

    def methods(self) -> tuple[MethodBinding, ...]:
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        bound: dict[str, ExtensionRequestHandler] = {
            "tasks/get": self._get,
            "tasks/cancel": self._cancel,
            "tasks/update": self._update,
        }
        return tuple(MethodBinding(method, TaskId, handler, versions) for method, handler in bound.items())

    async def intercept_tool_call(
        self, params: CallToolRequestParams, context: Context, call_next: ToolCallContinuation
    ) -> ToolCallOutcome:
        """A task, if the client takes one and the run could be started in the background; else the call as it is."""
        request = context.request_context
        starter = self._starters.get(params.name)
        modern = request is not None and request.protocol_version in MODERN_PROTOCOL_VERSIONS
        if starter is None or not modern or context.client_extension_settings(self.identifier) is None:
            return await call_next()
        started = await starter.run(params.arguments or {})
        wire = started.structured_content or {}
        if wire.get("status") in ("queued", "running"):
            return self._state(self._counsel.store.job(wire["job_id"]), wire, made=True)
        unkept = wire.get("error", {}).get("code") == "storage_failed"
        return await call_next() if wire.get("ok") or unkept else started

    async def _get(self, _: ServerRequestContext[Any, Any], params: TaskId) -> TaskState:
        state, wire = await self._looked(params.task_id)
        self._counsel.received(parse(JobResult, {"job_id": params.task_id}), wire)
        return state

    async def _cancel(self, _: ServerRequestContext[Any, Any], params: TaskId) -> dict[str, Any]:
        """Acknowledged when nothing of the run lives; a run that had ended stays as it is."""
        await _asked(self._counsel.end, JobCancel, params.task_id)
        return {"resultType": "complete"}

    async def _update(self, _: ServerRequestContext[Any, Any], params: TaskId) -> dict[str, Any]:
        """A run asks its user nothing, so there is nothing to answer."""
        await self._looked(params.task_id)
        return {"resultType": "complete"}

    async def _looked(self, task_id: str) -> tuple[TaskState, EnvelopeDict]:
        wire = await _asked(self._counsel.look, JobResult, task_id)
        return self._state(self._counsel.store.job(task_id), wire), wire

    def _state(self, job: Job, wire: EnvelopeDict, *, made: bool = False) -> TaskState:
        spec = job.spec()
        running = wire["status"] in ("queued", "running")
        ended: TaskStatus = "cancelled" if wire["status"] == "cancelled" else "completed"
        return TaskState(
            result_type="task" if made else "complete",
            task_id=job.id,
            status="working" if running else ended,
            status_message=_message(job) if running else wire["summary"],
            created_at=_stamp(spec.created),
            last_updated_at=_stamp(max(job.state().last_event or 0, spec.created)),
            ttl_ms=int(spec.total + self._counsel.settings.job_ttl) * 1000,
            poll_interval_ms=wire.get("poll_after_ms", 2_000),
            result=None if running else _result(wire),
        )


def _message(job: Job) -> str:
    progress = job.running().progress
    return describe(progress) if progress else "running"


def _result(wire: EnvelopeDict) -> dict[str, Any]:
    """What the tool would have returned; a failed run is a result, too."""
    text = {"type": "text", "text": text_of(wire)}
    return {"content": [text], "structuredContent": wire, "isError": not wire["ok"]}


async def _asked(service: Callable[[Any], EnvelopeDict], request: type[Any], task_id: str) -> EnvelopeDict:
    try:
        return await anyio.to_thread.run_sync(partial(service, parse(request, {"job_id": task_id})))
    except CounselError as error:
        raise MCPError(code=INVALID_PARAMS, message=f"{error.code}: {error.message}") from None


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
