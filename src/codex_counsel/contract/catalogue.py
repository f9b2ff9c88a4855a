"""What a client can call: name, one description, arguments. The wire and the docs derive from it."""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from codex_counsel import __version__
from codex_counsel.contract import envelope, vocabulary
from codex_counsel.contract.request import (
    Apply,
    Capabilities,
    Consult,
    Delegate,
    DelegateDryRun,
    DryRun,
    Findings,
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
    Models,
    ReviewChanges,
    ReviewPlan,
    Status,
    ToolRequest,
    Transfer,
    argument_names,
    json_schema,
)
from codex_counsel.errors import CATALOG
from codex_counsel.system.json_values import JsonObject

ENVELOPE_URI = "codex://schema/envelope"


@dataclass(frozen=True)
class ToolDescription:
    """One tool as it is published.

    `changes`: a call changes something for the user; all others are read-only.
    `destructive` and `idempotent` are said of such a tool, where they are not None. `twin`:
    takes the arguments of another tool, which describes them.
    """

    name: str
    request: type[ToolRequest]
    description: str
    runs_model: bool = False
    changes: bool = False
    destructive: bool | None = None
    idempotent: bool | None = None
    twin: bool = False


TOOLS: tuple[ToolDescription, ...] = (
    ToolDescription(
        "codex_consult",
        Consult,
        "Ask OpenAI's Codex, another model family, for a second opinion on a question, from the repository itself.\n"
        "For hard or risky decisions, or when stuck; not for what reading one file answers.\n"
        "Minutes and the user's Codex quota. Read-only.",
        runs_model=True,
    ),
    ToolDescription(
        "codex_consult_async",
        Consult,
        "codex_consult in the background: returns a job_id at once; fetch with codex_job_result.",
        runs_model=True,
        twin=True,
    ),
    ToolDescription(
        "codex_review_changes",
        ReviewChanges,
        "Have Codex review git changes: verdict, and findings checked against the files.\n"
        "Before a merge, or after risky work. Minutes and Codex quota. Read-only.",
        runs_model=True,
    ),
    ToolDescription(
        "codex_review_changes_async",
        ReviewChanges,
        "codex_review_changes in the background: returns a job_id at once.",
        runs_model=True,
        twin=True,
    ),
    ToolDescription(
        "codex_review_plan",
        ReviewPlan,
        "Have Codex review a plan against the repository before it is built. Minutes and Codex quota. Read-only.",
        runs_model=True,
    ),
    ToolDescription(
        "codex_dry_run",
        DryRun,
        "What codex_review_changes would send: files, bytes, omissions, boundary. Free.",
        twin=True,
    ),
    ToolDescription(
        "codex_delegate",
        Delegate,
        "Have Codex carry out a coding task in a throwaway copy of the repository; returns a diff, applies nothing.\n"
        "For work you can describe and check. Minutes and Codex quota. Your files stay untouched.",
        runs_model=True,
    ),
    ToolDescription(
        "codex_delegate_async",
        Delegate,
        "codex_delegate in the background: returns a job_id at once.",
        runs_model=True,
        twin=True,
    ),
    ToolDescription(
        "codex_delegate_dry_run",
        DelegateDryRun,
        "What codex_delegate would start from: files, omissions, readable roots. Free.",
        twin=True,
    ),
    ToolDescription(
        "codex_apply",
        Apply,
        "Apply a delegate job's diff to the working tree, all or nothing; read the diff first. Free.",
        changes=True,
        destructive=True,
    ),
    ToolDescription(
        "codex_status",
        Status,
        "Is Codex usable here: binary, login, sandbox, limits, defaults. Free.",
    ),
    ToolDescription(
        "codex_models", Models, "Models and efforts the installed Codex lists. Free."
    ),
    ToolDescription(
        "codex_capabilities",
        Capabilities,
        "Tools, error codes and schema fingerprint of this server. Free.",
    ),
    ToolDescription(
        "codex_job_status",
        JobStatus,
        "Where a run stands: phase, last command, elapsed. Free.",
    ),
    ToolDescription(
        "codex_job_result",
        JobResult,
        "The result of a run, or a further page of it. Free.",
    ),
    ToolDescription(
        "codex_job_consume_result",
        JobConsume,
        "codex_job_result, and delete the record a minute after all of it was returned. Free.",
        changes=True,
        twin=True,
    ),
    ToolDescription(
        "codex_job_cancel",
        JobCancel,
        "End a run and all its processes; returns when they are gone.",
        changes=True,
    ),
    ToolDescription(
        "codex_job_list",
        JobList,
        "Runs of this user, newest first, by their first words. Free.",
    ),
    ToolDescription(
        "codex_findings",
        Findings,
        "Findings of reviews on record for this repository. Change one only if the user says so. Free.",
        changes=True,
        destructive=False,
        idempotent=True,
    ),
    ToolDescription(
        "codex_transfer",
        Transfer,
        "Hand this Claude Code session over to Codex as a new thread for the user. Free.",
        changes=True,
    ),
)


DESCRIBED_ONCE = frozenset(
    ("workspace_root", "profile", "extra_roots", "max_tokens", "idempotency_key")
)
"""Arguments of every run that are described with the first tool alone: their names nearly say it."""

# --- schemas


def parameters(request: type[ToolRequest]) -> JsonObject:
    """The JSON Schema of the arguments: no titles, no nullable types. Bounds are checked, not described.

    Derived from the dataclass itself: a server that asked pydantic for it would answer
    its first request later.
    """
    types = get_type_hints(request)
    properties: JsonObject = {}
    required = []
    for item in fields(request):
        argument: JsonObject = {}
        if "description" in item.metadata:
            argument["description"] = item.metadata["description"]
        properties[item.name] = argument | _json_type(types[item.name])
        if item.default is MISSING:
            required.append(item.name)

    schema: JsonObject = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    return schema


def _json_type(python_type: object) -> JsonObject:
    """What an argument of this type is in JSON. Of `T | None` it is T: an argument that is null is one left out."""
    origin = get_origin(python_type)
    if origin in (Union, UnionType):
        types = [part for part in get_args(python_type) if part is not NoneType]
        return _json_type(types[0])
    if origin is Literal:
        return {"enum": list(get_args(python_type)), "type": "string"}
    if origin is tuple:
        return {"items": _json_type(get_args(python_type)[0]), "type": "array"}
    if origin is dict:
        return {"type": "object"}
    for kind, name in ((str, "string"), (bool, "boolean"), (int, "integer")):
        if python_type is kind:
            return {"type": name}
    raise TypeError(f"no argument of a tool is {python_type}")


def wire_parameters(tool: ToolDescription) -> JsonObject:
    """`parameters` as they are sent to clients, which pay for each byte: no description is repeated needlessly."""
    schema = parameters(tool.request)
    properties = {}
    for name, argument in schema["properties"].items():
        is_repeated = tool.runs_model and name in DESCRIBED_ONCE and tool != TOOLS[0]
        if tool.twin or is_repeated:
            argument.pop("description", None)
        properties[name] = argument
    return {**schema, "properties": properties}


@cache
def envelope_schema() -> JsonObject:
    """The JSON Schema of every result. The docstrings of the classes are for readers of the code and not part of it."""
    schema = json_schema(envelope.Envelope)
    for part in (schema, *schema["$defs"].values()):
        del part["description"]
    return schema


# --- the fingerprint


@cache
def fingerprint() -> str:
    """12 hexadecimal digits that change when the tools, the schema of their results or the release change.

    Every run records it, so it is computed from the dataclasses: building the schemas
    would import pydantic.
    """
    lines = [__version__]
    for tool in TOOLS:
        lines += [tool.name, tool.description, *_shape(tool.request)]
    for name, value in vars(envelope).items():
        if isinstance(value, type) and is_dataclass(value):
            lines += [name, *_shape(value)]
    for name, value in vars(vocabulary).items():
        if name.isupper():
            lines.append(f"{name} {value}")
    text = "\n".join(lines)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shape(kind: type) -> list[str]:
    """One line for each field of a dataclass: name, annotation, default, metadata."""
    lines = []
    for item in fields(kind):
        default: object = "required"
        if item.default is not MISSING:
            default = item.default
        elif item.default_factory is not MISSING:
            default = item.default_factory()
        lines.append(f"{item.name}: {item.type} = {default!r}")
        for key, value in item.metadata.items():
            # A function by its name: its address differs between processes.
            lines.append(f"{key} {getattr(value, '__name__', value)}")
    return lines


# --- the inventory


def inventory() -> JsonObject:
    """What this server offers, for `codex_capabilities`."""
    tools = []
    for tool in TOOLS:
        entry = {
            "name": tool.name,
            "runs_model": tool.runs_model,
            "arguments": sorted(argument_names(tool.request)),
        }
        tools.append(entry)
    return {
        "version": __version__,
        "tools": tools,
        "resources": [ENVELOPE_URI],
        "error_codes": [str(code) for code in CATALOG],
        "statuses": list(vocabulary.STATUSES),
    }
