"""The two tools of the removed `codex mcp-server`: `codex` begins a thread, `codex-reply` continues it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from codex_counsel.compat import options as thread_options
from codex_counsel.contract.compat import (
    WAIT,
    CodexCall,
    CodexReplyCall,
    CompatAnswer,
    ServerOptions,
    ThreadOptions,
    ThreadQuestion,
    ThreadTask,
)
from codex_counsel.contract.envelope import EnvelopeDict, text_of
from codex_counsel.contract.vocabulary import JOB_ID, THREAD_ID
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import recovery, threads
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.prepare.context import Context
from codex_counsel.services import results, runs

STILL_RUNNING = """\
Codex is still at work, and goes on with it. To get its answer call codex-reply with threadId {thread} and the prompt \
{wait}: that costs nothing, and may be repeated. `codex-counsel cancel {job}` ends the run."""
APPLY = "These changes are in a copy, not in the workspace. `codex-counsel apply {job}` applies them."


@dataclass(frozen=True)
class StartedTurn:
    """A turn that runs, or has ended. `notes` are lines for its answer."""

    handle: Handle
    notes: tuple[str, ...] = ()


def start(context: Context, call: CodexCall, server: ServerOptions) -> StartedTurn:
    """Begin a thread. Raises CounselError as `runs.start`."""
    options = thread_options.of_call(context, call, server)
    handle = runs.start(context, _request(call.prompt, options))
    return StartedTurn(handle, thread_options.notes(call))


def reply(context: Context, store: Store, call: CodexReplyCall) -> StartedTurn:
    """Continue a thread, or join its latest run where the prompt is `wait`.

    Raises `invalid_arguments` (no thread is named), `job_not_found` (nothing to wait for),
    `session_busy` (its latest run goes on), and as `runs.start`.
    """
    thread_id, job = _thread(store, call)
    if call.prompt.strip().lower() == WAIT:
        if job is None:
            raise CounselError(
                Code.JOB_NOT_FOUND,
                f"There is nothing to wait for: no run of the thread {thread_id} is on record",
                repair="Send another prompt to continue the thread.",
            )
        return StartedTurn(results.join(store, job.id))

    if job and recovery.outcome(job) is None:
        raise CounselError(
            Code.SESSION_BUSY,
            f"The thread {thread_id} is still at work",
            repair=f"Call codex-reply with the prompt {WAIT} to get its answer; then send this prompt.",
        )
    options = _options(store, thread_id)
    earlier = None
    if job and (job.path / "diff.patch").is_file():
        earlier = job.id
    request = _request(call.prompt, options, session_id=thread_id, from_job=earlier)
    return StartedTurn(runs.start(context, request))


def _thread(store: Store, call: CodexReplyCall) -> tuple[str, Job | None]:
    """The id of the thread that is named, and its latest run where that is on record.

    A run that waits for its place has no thread yet: its own id stands for it until then.
    """
    named = call.thread
    if not named:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "threadId: is missing",
            repair="Name the threadId that codex returned.",
        )
    if re.fullmatch(JOB_ID, named):
        job = store.job(named)
        thread_id = job.state().thread_id
        return thread_id or named, job
    if not re.fullmatch(THREAD_ID, named):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "threadId: is not the id of a thread",
            repair="Name the threadId that codex returned.",
        )
    note = threads.latest_turn(store.state, named)
    if note is None:
        return named, None
    try:
        return named, store.job(note.job_id)
    except CounselError:
        return named, None


def _options(store: Store, thread_id: str) -> ThreadOptions:
    """What the call that began the thread named; for a thread that it did not begin, the defaults."""
    note = threads.latest_turn(store.state, thread_id)
    if note is None:
        return ThreadOptions()
    return ThreadOptions(**note.options)


def _request(
    prompt: str,
    options: ThreadOptions,
    session_id: str | None = None,
    from_job: str | None = None,
) -> ThreadQuestion | ThreadTask:
    common: dict[str, Any] = {
        "workspace_root": options.root,
        "model": options.model,
        "effort": options.effort,
        "profile": options.profile,
        "web_search": options.web_search,
        "session_id": session_id,
        "options": options,
    }
    if options.sandbox == "workspace-write":
        return ThreadTask(task=prompt, from_job=from_job, **common)
    return ThreadQuestion(question=prompt, **common)


# --- answers


def answer(store: Store, turn: StartedTurn, wire: EnvelopeDict | None) -> CompatAnswer:
    """What the caller gets of a turn. `wire` is None where it goes on without him."""
    job = turn.handle.job
    if wire is None:
        turn.handle.detach()
        turn.handle.release()
        wire = recovery.outcome(job)
    if wire is None:
        thread_id = job.state().thread_id or job.spec().session_id or job.id
        text = STILL_RUNNING.format(thread=thread_id, wait=WAIT, job=job.id)
        return CompatAnswer(
            thread_id=thread_id, content="\n\n".join([text, *turn.notes])
        )

    thread_id = str(wire["meta"].get("session_id", ""))
    if not wire["ok"]:
        content = text_of(wire)
        return CompatAnswer(thread_id=thread_id, content=content, is_error=True)
    parts = [str(wire.get("answer", wire["summary"]))]
    if wire.get("diff"):
        parts += [f"```diff\n{wire['diff']}\n```", APPLY.format(job=job.id)]
    results.mark_received(store, job.id)
    return CompatAnswer(thread_id=thread_id, content="\n\n".join([*parts, *turn.notes]))
