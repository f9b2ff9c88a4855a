"""Kind 1, a consultation, on the caller's side: a question, answered from the workspace or from the text alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import Brief, Records
from codex_counsel.prepare import attachments, guidance, prompt_parts
from codex_counsel.prepare.boundary import Access
from codex_counsel.prepare.prompt_parts import Material
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.contract.request import Consult
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.workspace import ResolvedWorkspace


def prepare(
    request: Consult, workspace: ResolvedWorkspace, context: Context, _records: Records
) -> Brief:
    """The brief of a consultation, first turn or resumed.

    Raises `input_too_large`, or `invalid_arguments` for an image that may not be sent.
    """
    settings = context.settings
    prompt_parts.check_author_text(
        settings.max_input_bytes,
        question=request.question,
        extra_context=request.extra_context,
    )
    images, warnings = attachments.images(request.images, workspace, context)
    agents = guidance.on_disk(workspace, settings)
    details: JsonObject = {}
    if request.output_schema:
        details = {
            "output_schema": request.output_schema,
            "library": _jsonschema_location(),
        }
    return Brief(
        prompt=prompt(request, agents.material),
        access=Access.to_repository(workspace),
        reply_schema=request.output_schema,
        instructions=prompt_parts.prompt_file("base"),
        images=images,
        warnings=(*warnings, *agents.warnings),
        details=details,
    )


def prompt(request: Consult, material: Iterable[Material] = ()) -> str:
    """The prompt of a consultation. Pure, so that a dry run could show exactly what would be sent."""
    means = prompt_parts.read_only(network=request.network)
    if request.text_only:
        means = prompt_parts.prompt_file("text_only")
    return prompt_parts.join_prompt(
        prompt_parts.prompt_file("role"),
        means,
        prompt_parts.prompt_file(request.stance),
        *prompt_parts.fence_all(material, request.extra_context),
        f"The question:\n\n{visible(request.question)}",
    )


def _jsonschema_location() -> str:
    """The directory that the package jsonschema is installed in."""
    spec = importlib.util.find_spec("jsonschema")
    if not spec or not spec.origin:
        raise CounselError(Code.INTERNAL, "the package jsonschema is missing")
    return str(Path(spec.origin).parent.parent)
