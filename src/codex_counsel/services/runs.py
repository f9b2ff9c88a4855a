"""The flow: from a request to a running worker, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.attempts import prepare as attempts
from codex_counsel.codex import command
from codex_counsel.codex.command import Turn
from codex_counsel.compat import prepare as compat
from codex_counsel.consult import prepare as consult
from codex_counsel.contract import catalogue
from codex_counsel.contract.compat import ThreadChange, ThreadQuestion, ThreadTask
from codex_counsel.contract.envelope import CodexUsed, Meta
from codex_counsel.contract.request import Consult, Delegate, ReviewChanges, ReviewPlan
from codex_counsel.jobs import idempotency, launcher
from codex_counsel.jobs.launcher import NewJob
from codex_counsel.jobs.spec import MAX_SUBJECT, THREAD, Spec
from codex_counsel.jobs.store import Store
from codex_counsel.kind import IMAGES
from codex_counsel.prepare import boundary as boundaries
from codex_counsel.prepare import budget as budgets
from codex_counsel.prepare import effort as efforts
from codex_counsel.prepare import instructions as base_instructions
from codex_counsel.prepare import preflight as checks
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.prompt_parts import prompt_file
from codex_counsel.review import prepare as review
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.temporary import temporary_root
from codex_counsel.system.text import clean, one_line

if TYPE_CHECKING:
    from codex_counsel.contract.request import RunRequest
    from codex_counsel.jobs.handle import Handle
    from codex_counsel.kind import Brief, Placement
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.effort import Effort
    from codex_counsel.prepare.preflight import Preflight

PREPARE: dict[type[RunRequest], Callable[..., Brief]] = {
    Consult: consult.prepare,
    ReviewChanges: review.prepare_changes,
    ReviewPlan: review.prepare_plan,
    Delegate: attempts.prepare,
    ThreadQuestion: compat.prepare_question,
    ThreadTask: compat.prepare_task,
    ThreadChange: compat.prepare_change,
}
"""What makes the brief of a request: one function of each kind of run, two of a review."""


def start(context: Context, request: RunRequest, *, background: bool = False) -> Handle:
    """Start the run of a request, or join the one with the same idempotency key.

    Everything that costs nothing is checked before Codex is started. `background`: only
    a cancel ends the run. Raises CounselError with any code that `prepare/` and the
    request's kind may raise.
    """
    store = Store(context.settings.state)
    workspace = workspaces.resolve(context, request.workspace_root)
    # Another workspace is another request.
    arguments = idempotency.digest(request.canonical(), str(workspace.root))

    with idempotency.claim(
        store, request.tool, request.idempotency_key, arguments
    ) as claim:
        if claim.earlier:
            return claim.earlier

        preflight = checks.check(context, request, workspace)
        brief = PREPARE[type(request)](request, workspace, context, store)
        planning = _Planning(context, preflight, store, background=background)
        new_job = planning.job_of(request, brief)
        claim.note_job(new_job.spec.job_id)
        return launcher.launch(store, new_job)


@dataclass(frozen=True)
class _Planning:
    """What one request and the jobs that it may start have in common."""

    context: Context
    preflight: Preflight
    store: Store
    background: bool

    def job_of(
        self, request: RunRequest, brief: Brief, parent: str | None = None
    ) -> NewJob:
        """The job of a request, with those that it may start. Raises CounselError."""
        context, preflight, store = self.context, self.preflight, self.store
        workspace = preflight.workspace
        boundary = boundaries.of_run(context, request, preflight, brief.access)
        if brief.access.mode == "workspace-write":
            brief.details["in_place"]["pinned"] = list(map(str, boundary.pinned))

        job_id = brief.job_id
        scratch = scratch_directory(context, brief, job_id)
        placement = brief.place(boundary, scratch)
        effort = efforts.of_run(context, request, preflight)
        instructions = base_instructions.of_run(context, preflight, brief)
        turn = turn_of(context, request, preflight, placement, effort)
        turn = replace(turn, config=brief.config)
        turn = _with_files(
            turn, brief, store.directory / job_id, own_instructions=bool(instructions)
        )
        max_tokens = budgets.of_run(context, request)
        last_turn = last_prompt = None
        if max_tokens is not None:
            last = command.last_turn(turn, request.session_id or THREAD)
            last_turn = command.argv(preflight.codex, last)
            last_prompt = prompt_file("budget")
        environment = placement.boundary.environment
        children = tuple(
            self.job_of(child.request, child.brief, parent=job_id)
            for child in brief.children
        )

        spec = Spec(
            job_id=job_id,
            tool=request.tool,
            subject=one_line(clean(brief.subject or request.subject), MAX_SUBJECT),
            created=time.time(),
            argv=command.argv(preflight.codex, turn) if brief.runs_codex else (),
            cwd=str(placement.start_in),
            codex_home=str(context.directories.codex_home),
            state=str(context.settings.state),
            scratch=str(scratch),
            total=request.timeout_seconds or context.settings.timeout_seconds,
            idle=context.settings.idle_seconds,
            slots=context.settings.max_running,
            account=preflight.login.identity,
            backoff=context.settings.backoff_seconds,
            ttl=context.settings.job_ttl,
            max_records=context.settings.job_max_count,
            workspace=str(workspace.root),
            max_bytes=context.settings.max_tree_bytes,
            max_entries=context.settings.max_tree_entries,
            max_tokens=max_tokens,
            last_turn=last_turn,
            meta=_meta_template(preflight, turn, brief, effort),
            session_id=request.session_id,
            detached=self.background and parent is None,
            stays=request.idempotency_key is not None and parent is None,
            checks=self._commands(turn) if brief.runs_commands else None,
            children=tuple(child.spec.job_id for child in children),
            parent=parent,
            codex=str(preflight.codex.path),
            environment=str(environment) if environment else None,
            **brief.details,
        )
        env = command.environment(
            context.env, job_id, placement.temporary, workspace.outermost
        )
        return NewJob(
            spec,
            brief.prompt,
            brief.reply_schema,
            env,
            instructions=instructions,
            images=brief.images,
            last_prompt=last_prompt,
            needs_directory=brief.keeps_files,
            children=children,
        )

    def _commands(self, turn: Turn) -> JsonObject:
        """How commands of ours run within the boundary of the turn, as `Spec.checks` has it."""
        return {
            "argv": command.sandbox_argv(self.preflight.codex, turn),
            "variables": dict(turn.variables),
            "seconds": self.context.settings.check_seconds,
        }


def _with_files(
    turn: Turn, brief: Brief, directory: Path, *, own_instructions: bool
) -> Turn:
    """The turn with the files that Codex will find in the directory of its job."""
    if brief.reply_schema:
        turn = replace(turn, schema=directory / launcher.SCHEMA)
    if own_instructions:
        turn = replace(turn, instructions=directory / launcher.INSTRUCTIONS)
    images = [directory / IMAGES / image.name for image in brief.images]
    return replace(turn, images=tuple(images))


def scratch_directory(context: Context, brief: Brief, name: str) -> Path:
    """The private directory of a run; not made yet."""
    temporary = temporary_root()
    parent = brief.scratch_parent(temporary, context.directories.trees)
    return parent.resolve() / f"codex-counsel-{name}"


def turn_of(
    context: Context,
    request: RunRequest,
    preflight: Preflight,
    placement: Placement,
    effort: Effort,
) -> Turn:
    """The turn of Codex that this request stands for, without the files of its job. Raises `codex_config_invalid`."""
    servers: tuple[str, ...] = ()
    if preflight.isolation == "lean":
        servers = checks.mcp_servers(context, preflight)
    variables = command.variables(
        placement.boundary, placement.temporary, preflight.env
    )
    return Turn(
        boundary=placement.boundary,
        variables={**variables, **placement.variables},
        cwd=placement.cwd,
        model=request.model or context.settings.model,
        effort=effort.name,
        profile=preflight.profile,
        session_id=request.session_id,
        isolation=preflight.isolation,
        mcp_servers=servers,
        web_search=bool(getattr(request, "web_search", False)),
        text_only=bool(getattr(request, "text_only", False)),
    )


def _meta_template(
    preflight: Preflight, turn: Turn, brief: Brief, effort: Effort
) -> JsonObject:
    """What is known of the envelope's `meta` before the run; JSON-ready, without what does not apply."""
    missing_parts = [] if turn.text_only else preflight.codex.notices()
    meta = Meta(
        workspace=preflight.workspace.report(),
        sandbox=turn.boundary.report(),
        codex=CodexUsed(
            path=str(preflight.codex.path), version=preflight.codex.version
        ),
        model=turn.model or preflight.config.get("model"),
        effort=effort.name,
        effort_source=effort.source,
        isolation=preflight.isolation,
        scope=brief.scope,
        project_file=brief.project_file,
        warnings=[
            *brief.warnings,
            *boundaries.warnings(turn.boundary),
            *preflight.warnings,
            *missing_parts,
        ],
        fingerprint=catalogue.fingerprint(),
    )
    return {name: value for name, value in asdict(meta).items() if value is not None}
