"""A delegated task on the caller's side, one attempt at it or several, each of which is a job of its own."""

from __future__ import annotations

import secrets
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.attempts import judge
from codex_counsel.attempts.record import AttemptsSpec
from codex_counsel.contract.envelope import ProjectFile
from codex_counsel.contract.request import Consult
from codex_counsel.contract.settings import MAX_TOKENS_BOUNDS
from codex_counsel.delegate import prepare as delegate
from codex_counsel.delegate.prepare import DelegateBrief
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import Brief, ChildBrief, Records
from codex_counsel.prepare import budget, guidance, prompt_parts
from codex_counsel.prepare.boundary import Access
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.contract.request import Delegate
    from codex_counsel.prepare.context import Context
    from codex_counsel.prepare.workspace import ResolvedWorkspace


def prepare(
    request: Delegate, workspace: ResolvedWorkspace, context: Context, records: Records
) -> DelegateBrief:
    """The brief of a delegated task.

    With several attempts, the job itself runs no Codex: it makes the start that they have
    in common, starts them, and ranks what comes of them. Raises `invalid_arguments` for
    arguments that do not go together, and as `delegate.prepare`.
    """
    _check_arguments(request)
    named = request.check
    request, file = delegate.with_check_of_team(request, workspace, context)
    brief = delegate.prepare(request, workspace, context, records)
    brief = replace(brief, warnings=(*brief.warnings, *file.warnings))
    if request.check != named:
        used = ProjectFile(revision=file.revision or "", used=["check"])
        brief = replace(brief, project_file=used)
    if request.attempts == 1:
        return brief

    tokens = _tokens_of_each(request, context)
    directory = records.directory_of(brief.job_id)
    children = []
    for number in range(request.attempts):
        asked = _request_of_attempt(request, number, tokens)
        children.append(ChildBrief(asked, _brief_of_attempt(brief, directory)))
    spec = AttemptsSpec(tuple(child.brief.job_id for child in children))
    if request.judge:
        child = _judge(request, workspace, context, tokens)
        spec = replace(spec, judge=child.brief.job_id)
        children.append(child)
    return replace(
        brief,
        details={**brief.details, "attempts": asdict(spec)},
        runs_codex=False,
        children=tuple(children),
    )


def _check_arguments(request: Delegate) -> None:
    """Raises `invalid_arguments`."""
    several = request.attempts > 1
    for name, values in (("models", request.models), ("efforts", request.efforts)):
        if values and not several:
            raise _misfit(
                f"{name}: is for several attempts; for one there is `{name[:-1]}`"
            )
        if values and len(values) != request.attempts:
            raise _misfit(
                f"{name}: names {len(values)} for {request.attempts} attempts; name one for each"
            )
    if request.judge and not several:
        raise _misfit("judge: compares several attempts, so `attempts` must be 2 to 5")
    if request.session_id and several:
        raise _misfit(
            "session_id: each of several attempts begins a thread of its own, so none can be continued; "
            "`from_job` lets them all begin with an earlier diff"
        )


def _misfit(message: str) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, message)


def _tokens_of_each(request: Delegate, context: Context) -> int | None:
    """The limit of each turn: `max_tokens` is that of all together. None for no limit. Raises `invalid_arguments`."""
    total = budget.of_run(context, request)
    if total is None:
        return None
    turns = request.attempts + int(request.judge)
    least, _ = MAX_TOKENS_BOUNDS
    if total // turns < least:
        raise _misfit(
            f"max_tokens: {total} tokens are too few for {turns} turns; at least {turns * least} are needed, "
            "here and in CODEX_COUNSEL_MAX_TOKENS"
        )
    return total // turns


def _request_of_attempt(request: Delegate, number: int, tokens: int | None) -> Delegate:
    """What a caller would ask for who wanted this attempt alone."""
    model, effort = request.model, request.effort
    if request.models:
        model = request.models[number]
    if request.efforts:
        effort = request.efforts[number]
    return replace(
        request,
        attempts=1,
        models=(),
        efforts=(),
        judge=False,
        model=model,
        effort=effort,
        max_tokens=tokens,
        idempotency_key=None,
    )


def _brief_of_attempt(whole: DelegateBrief, directory: Path) -> DelegateBrief:
    """`directory` is that of the job which starts the attempt."""
    spec = DelegateSpec.parse(whole.details["delegate"])
    # A task that goes on from an earlier job has a start that is stored already.
    seed = None if spec.again else str(directory)
    # A tree that is made from such a start has no secret files.
    own = replace(spec, seed=seed, secrets=(), check_base=False)
    return replace(
        whole,
        job_id=secrets.token_hex(16),
        details={"delegate": asdict(own)},
        secrets=(),
    )


def _judge(
    request: Delegate,
    workspace: ResolvedWorkspace,
    context: Context,
    tokens: int | None,
) -> ChildBrief:
    """The turn that compares the attempts. Its prompt lacks them yet: see `judge.prompt`."""
    asked = Consult(
        question=f"Which of {request.attempts} attempts is best? {request.task}",
        workspace_root=request.workspace_root,
        model=request.model,
        effort=request.effort,
        profile=request.profile,
        extra_roots=request.extra_roots,
        timeout_seconds=request.timeout_seconds,
        max_tokens=tokens,
        use_reserve=request.use_reserve,
    )
    agents = guidance.on_disk(workspace, context.settings)
    prompt = prompt_parts.join_prompt(
        prompt_parts.prompt_file("role"),
        prompt_parts.read_only(),
        prompt_parts.prompt_file("judge"),
        *prompt_parts.fence_all(agents.material, request.extra_context),
        f"The task:\n\n{visible(request.task)}",
    )
    brief = Brief(
        prompt=prompt,
        access=Access.to_repository(workspace),
        reply_schema=judge.SCHEMA,
        instructions=prompt_parts.prompt_file("base"),
    )
    return ChildBrief(asked, brief)
