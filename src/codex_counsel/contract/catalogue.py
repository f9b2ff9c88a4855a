"""What a client can call: name, one honest description, arguments. The wire and the docs derive from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from codex_counsel import __version__
from codex_counsel.contract.request import (
    Apply,
    Capabilities,
    Consult,
    Delegate,
    DelegateDryRun,
    DryRun,
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
    Models,
    Request,
    ReviewChanges,
    ReviewPlan,
    Status,
    Transfer,
)
from codex_counsel.errors import CATALOG


@dataclass(frozen=True)
class Tool:
    """`changes`: a call changes something for the user, others are read-only. `twin`: described by another tool."""

    name: str
    request: type[Request]
    description: str
    runs_model: bool = False
    changes: bool = False
    destructive: bool = False
    twin: bool = False


TOOLS: tuple[Tool, ...] = (
    Tool(
        "codex_consult",
        Consult,
        "Ask OpenAI's Codex, another model family, for a second opinion on a question, from the repository itself.\n"
        "For hard or risky decisions, or when stuck; not for what reading one file answers.\n"
        "Minutes and the user's Codex quota. Read-only.",
        runs_model=True,
    ),
    Tool(
        "codex_consult_async",
        Consult,
        "codex_consult in the background: returns a job_id at once; fetch with codex_job_result.",
        runs_model=True,
        twin=True,
    ),
    Tool(
        "codex_review_changes",
        ReviewChanges,
        "Have Codex review git changes: verdict, and findings checked against the files.\n"
        "Before a merge, or after risky work. Minutes and Codex quota. Read-only.",
        runs_model=True,
    ),
    Tool(
        "codex_review_changes_async",
        ReviewChanges,
        "codex_review_changes in the background: returns a job_id at once.",
        runs_model=True,
        twin=True,
    ),
    Tool(
        "codex_review_plan",
        ReviewPlan,
        "Have Codex review a plan against the repository before it is built. Minutes and Codex quota. Read-only.",
        runs_model=True,
    ),
    Tool(
        "codex_dry_run",
        DryRun,
        "What codex_review_changes would send with these arguments: files, bytes, omissions, boundary. Free.",
        twin=True,
    ),
    Tool(
        "codex_delegate",
        Delegate,
        "Have Codex carry out a coding task in a throwaway copy of the repository; returns a diff, applies nothing.\n"
        "For work you can describe and check. Minutes and Codex quota. Your files stay untouched.",
        runs_model=True,
    ),
    Tool(
        "codex_delegate_async",
        Delegate,
        "codex_delegate in the background: returns a job_id at once.",
        runs_model=True,
        twin=True,
    ),
    Tool(
        "codex_delegate_dry_run",
        DelegateDryRun,
        "What codex_delegate would start from: files, omissions, readable roots, prompt size. Free.",
        twin=True,
    ),
    Tool(
        "codex_apply",
        Apply,
        "Apply a delegate job's diff to the working tree, all or nothing; read the diff first. Free.",
        changes=True,
        destructive=True,
    ),
    Tool("codex_status", Status, "Is Codex usable here: binary, login, sandbox, limits, defaults. Free."),
    Tool("codex_models", Models, "Models and efforts the installed Codex lists. Free."),
    Tool("codex_capabilities", Capabilities, "Tools, error codes and schema fingerprint of this server. Free."),
    Tool("codex_job_status", JobStatus, "Where a run stands: phase, last command, elapsed. Free."),
    Tool("codex_job_result", JobResult, "The result of a run, or a further page of it. Free."),
    Tool(
        "codex_job_consume_result",
        JobConsume,
        "codex_job_result, and delete the record once all of it was returned. Free.",
        changes=True,
    ),
    Tool("codex_job_cancel", JobCancel, "End a run and all its processes; returns when they are gone.", changes=True),
    Tool("codex_job_list", JobList, "Runs of this user, newest first, with job_id, session_id and first words. Free."),
    Tool(
        "codex_transfer",
        Transfer,
        "Hand this Claude Code session over to Codex as a new thread, for the user to go on with there. Free.",
        changes=True,
    ),
)


@cache
def parameters(request: type[Request]) -> dict[str, Any]:
    """The JSON Schema of the arguments: no titles, no nullable types. Bounds are checked, not described."""
    schema = request.model_json_schema()
    slim: dict[str, Any] = _slim({key: schema[key] for key in ("properties", "required") if key in schema})
    return {"type": "object", "properties": {}, **slim, "additionalProperties": False}


def wire_parameters(tool: Tool) -> dict[str, Any]:
    """`parameters` as every session pays for them: a twin does not describe again what its original describes."""
    schema = parameters(tool.request)
    if not tool.twin:
        return schema
    bare = {name: {k: v for k, v in item.items() if k != "description"} for name, item in schema["properties"].items()}
    return {**schema, "properties": bare}


_DULL = {"title", "default", "pattern", "maxLength", "minLength", "maxItems", "minItems", "maximum", "minimum"}


def _slim(value: Any) -> Any:
    if isinstance(value, list):
        return [_slim(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "anyOf" in value:
        real = [item for item in value["anyOf"] if item.get("type") != "null"]
        value = {**{key: item for key, item in value.items() if key != "anyOf"}, **real[0]}
    named = {key: item for key, item in value.items() if key not in _DULL or isinstance(item, dict)}
    return {key: _slim(item) for key, item in named.items() if (key, item) != ("additionalProperties", True)}


@cache
def envelope_schema() -> dict[str, Any]:
    """The JSON Schema of every result."""
    from pydantic import TypeAdapter

    from codex_counsel.contract.envelope import Envelope

    return TypeAdapter(Envelope).json_schema()


def inventory() -> dict[str, Any]:
    """What this server offers, for `codex_capabilities`."""
    tools = [
        {"name": tool.name, "runs_model": tool.runs_model, "arguments": sorted(tool.request.model_fields)}
        for tool in TOOLS
    ]
    return {
        "version": __version__,
        "tools": tools,
        "resources": ["codex://schema/envelope"],
        "error_codes": [str(code) for code in CATALOG],
        "statuses": ["completed", "queued", "running", "failed", "cancelled"],
    }
