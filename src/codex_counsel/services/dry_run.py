"""What a review or a delegate would send, start from and be able to touch, by the code paths of the run itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.attempts import prepare as attempts
from codex_counsel.codex import command, inspect
from codex_counsel.codex.sandbox import outermost
from codex_counsel.contract import paging
from codex_counsel.contract.envelope import Envelope, EnvelopeDict, Meta, completed
from codex_counsel.contract.vocabulary import PROJECT_FILE
from codex_counsel.delegate import seed
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.git.names import display_name
from codex_counsel.jobs.launcher import INSTRUCTIONS
from codex_counsel.jobs.store import Store
from codex_counsel.prepare import boundary as boundaries
from codex_counsel.prepare import budget as budgets
from codex_counsel.prepare import effort as efforts
from codex_counsel.prepare import instructions as base_instructions
from codex_counsel.prepare import preflight as checks
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.review import prepare as review
from codex_counsel.review.changes.model import Reason
from codex_counsel.review.record import coverage
from codex_counsel.services.runs import scratch_directory, turn_of
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.temporary import temporary_directory
from codex_counsel.system.text import cut, size

if TYPE_CHECKING:
    from codex_counsel.codex.command import Turn
    from codex_counsel.contract.request import DelegateDryRun, DryRun, RunRequest
    from codex_counsel.delegate.seed import SeedPlan
    from codex_counsel.kind import Brief
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.preflight import Preflight
    from codex_counsel.prepare.workspace import ResolvedWorkspace
    from codex_counsel.review.changes.changes import Changes

MAX_PATHS = 50
"""Paths of each kind that are listed."""
MAX_OMITTED = 200
"""Files listed that would not be in a delegate's tree."""
MAX_FILES_BYTES = {"full": 8_000, "summary": 1_500}
"""Bytes of the list of files of a review."""
BYTES_PER_TOKEN = 4
"""A rough guide."""
PROMPT_BYTES = {"full": (24_000, 12_000, 6_000, 600), "summary": (600,)}
"""How much of the prompt is shown: the first of these that fits."""


def preview_review(context: Context, request: DryRun) -> EnvelopeDict:
    """What a review of changes with these arguments would send. Raises what that review would."""
    workspace = workspaces.resolve(context, request.workspace_root)
    brief = review.prepare_changes(
        request, workspace, context, Store(context.settings.state)
    )
    data = {
        "scope": brief.scope,
        **_prompt_size(brief),
        **_access(context, request, workspace, brief),
    }
    turns = {"review": 1}
    if request.prove != "none":
        turns["proofs"] = context.settings.max_proofs
        data["turns"] = turns

    cost = f"{data['prompt_bytes']} bytes (about {data['estimated_tokens']} tokens)"
    files = ""
    sent = None
    if brief.changes:
        data |= _since(brief.changes)
        sent = coverage(brief.changes, brief.criteria)
        listed = _files(brief.changes, MAX_FILES_BYTES[request.detail])
        count = len(listed["files"]) + listed.get("files_not_shown", 0)
        files = f"{_count_of_files(count)}, "
        data |= listed
    envelope = completed(
        request.tool,
        f"would send {files}{cost}; {_turns_in_words(turns)}nothing was spent",
        data,
        _meta(workspace, brief),
    )
    envelope.coverage = sent
    return _with_prompt(envelope, brief.prompt, request.detail)


def preview_delegate(context: Context, request: DelegateDryRun) -> EnvelopeDict:
    """What a delegated task with these arguments would start from. Raises what that task would."""
    workspace = workspaces.resolve(context, request.workspace_root)
    brief = attempts.prepare(request, workspace, context, Store(context.settings.state))
    plan = brief.seed_plan
    files = len(plan.checkout) + len(plan.copy) + len(plan.inner)
    data = {
        **_prompt_size(brief),
        **_access(context, request, workspace, brief),
        "seed": _seed(plan, workspace),
    }
    turns = {"attempts": request.attempts}
    if request.judge:
        turns["judge"] = 1
    if request.attempts > 1:
        data["turns"] = turns
    words = _turns_in_words(turns)
    command = brief.details["delegate"]["check"]
    if command:
        check = _check(command, request.attempts, context)
        if brief.project_file:
            check["source"] = PROJECT_FILE
        data["check"] = check
        words += f"the check may run {check['runs']} times, at most {check['seconds']} s each; "
    return completed(
        request.tool,
        f"would start from {_count_of_files(files)}; {words}nothing was spent",
        data,
        _meta(workspace, brief),
    ).wire()


def _meta(workspace: ResolvedWorkspace, brief: Brief) -> Meta:
    return Meta(
        workspace=workspace.report(),
        project_file=brief.project_file,
        warnings=list(brief.warnings),
    )


def _seed(plan: SeedPlan, workspace: ResolvedWorkspace) -> JsonObject:
    return {
        "head": plan.head,
        "tracked": len(plan.tracked),
        "untracked": plan.untracked,
        "changed": plan.changed,
        "bytes": seed.total_bytes(workspace.outermost, plan),
        "submodules": [display_name(name) for name in plan.submodules[:MAX_OMITTED]],
        "omitted": plan.omitted[:MAX_OMITTED],
    }


def _check(command: str, attempts: int, context: Context) -> JsonObject:
    """The check of a task: `runs` counts those on the results and the one on the base, `seconds` is for each."""
    return {
        "command": command,
        "runs": attempts + 1,
        "seconds": context.settings.check_seconds,
    }


def _turns_in_words(turns: Mapping[str, int]) -> str:
    """`may take up to 6 turns; `; empty for a run of one turn."""
    total = sum(turns.values())
    if total == 1:
        return ""
    return f"may take up to {total} turns; "


def _count_of_files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def _files(changes: Changes, budget: int) -> JsonObject:
    """`files` that are sent, as far as so many bytes go, and the number of `files_not_shown`."""
    left_out = {
        omitted.path for omitted in changes.omitted if omitted.reason != Reason.PARTIAL
    }
    rows: list[JsonObject] = []
    hidden = 0
    for entry in changes.entries:
        if entry.path in left_out or entry.is_seen:
            continue
        row: JsonObject = {"path": entry.path, "status": entry.status}
        if not entry.binary:
            row |= {"added": entry.added, "deleted": entry.deleted}
        budget -= size(json.dumps(row, ensure_ascii=False))
        if budget < 0:
            hidden += 1
        else:
            rows.append(row)
    if hidden:
        return {"files": rows, "files_not_shown": hidden}
    return {"files": rows}


def _since(changes: Changes) -> JsonObject:
    """For `since: last`: how many files are seen, sent from a state on that was seen, and new."""
    if changes.seen is None:
        return {}
    seen = sum(file.is_seen for file in changes.entries)
    rest = sum(file.is_delta for file in changes.entries)
    new = len(changes.entries) - seen - rest
    return {"since": {"files_seen": seen, "files_in_part": rest, "files_new": new}}


def _prompt_size(brief: Brief) -> dict[str, int]:
    total = size(brief.prompt)
    return {"prompt_bytes": total, "estimated_tokens": total // BYTES_PER_TOKEN}


def _access(
    context: Context, request: RunRequest, workspace: ResolvedWorkspace, brief: Brief
) -> JsonObject:
    """The boundary of the run, and what Codex adds to the prompt; where it could not run, why not."""
    try:
        preflight = checks.check(context, request, workspace)
        boundary = boundaries.of_run(context, request, preflight, brief.access)
        placement = brief.place(boundary, scratch_directory(context, brief, "JOB"))
        effort = efforts.of_run(context, request, preflight)
        turn = turn_of(context, request, preflight, placement, effort)
        own = base_instructions.of_run(context, preflight, brief)
        codex_adds = _additions(preflight, turn, own)
    except CounselError as error:
        access: JsonObject = {"blocked": {"code": error.code, "message": error.message}}
        if error.code == Code.QUOTA_RESERVED:
            windows = error.details["windows"]
            access["reserve"] = {
                "percent": error.details["reserve"],
                "windows": windows,
            }
        return access

    boundary = turn.boundary
    reported = asdict(boundary.report())
    sandbox = {
        **{name: value for name, value in reported.items() if value is not None},
        "readable": _first_paths(boundary.readable),
        "denied": _first_paths(outermost(boundary.denied)),
        "secrets": _first_paths(boundary.secrets),
    }
    access = {
        "sandbox": sandbox,
        "codex_adds": codex_adds,
        "isolation": turn.isolation,
        "instructions": "own" if own else "codex",
        "effort": effort.name,
        "effort_source": effort.source,
    }
    if preflight.reserve:
        access["reserve"] = preflight.reserve.report()
    max_tokens = budgets.of_run(context, request)
    if max_tokens is not None:
        access["max_tokens"] = max_tokens
    return access


def _additions(
    preflight: Preflight, turn: Turn, own: str | None
) -> list[dict[str, int | str]]:
    """What Codex sends before the prompt; `own` are base instructions of ours.

    Raises `codex_config_invalid` or `storage_failed`.
    """
    codex, env, root = preflight.codex, preflight.env, preflight.workspace.root
    if own is None:
        return inspect.prompt_additions(codex, env, root, command.config(turn))
    try:
        with temporary_directory(inspect.PROBE_PREFIX) as directory:
            file = directory / INSTRUCTIONS
            file.write_text(own, "utf-8")
            config = command.config(replace(turn, instructions=file))
            additions = inspect.prompt_additions(codex, env, root, config)
    except OSError as error:
        raise error_of(
            Code.STORAGE_FAILED, "No temporary file can be written", error
        ) from None
    base = inspect.addition(own.strip())
    if base not in additions:
        additions.insert(0, base)
    return additions


def _first_paths(paths: Iterable[Path]) -> list[str]:
    rows = [str(path) for path in paths]
    if len(rows) <= MAX_PATHS:
        return rows
    return [*rows[:MAX_PATHS], f"and {len(rows) - MAX_PATHS} more"]


def _with_prompt(envelope: Envelope, prompt: str, detail: str) -> EnvelopeDict:
    """The envelope with as much of the prompt as fits: a dry run has no further page."""
    for limit in PROMPT_BYTES[detail]:
        text = cut(prompt, limit)
        name = "prompt" if text == prompt else "prompt_begins"
        wire = replace(envelope, data={**envelope.data, name: text}).wire()
        if len(json.dumps(wire, ensure_ascii=False).encode()) <= paging.BUDGETS[detail]:
            break
    return wire
