"""The two tools of the removed `codex mcp-server`: `codex` begins a thread, `codex-reply` continues it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from codex_counsel.compat import kept, work
from codex_counsel.compat import options as thread_options
from codex_counsel.contract.compat import (
    WAIT,
    CodexCall,
    CodexReplyCall,
    ServerOptions,
    ThreadChange,
    ThreadOptions,
    ThreadQuestion,
    ThreadTask,
)
from codex_counsel.contract.request import Apply
from codex_counsel.contract.vocabulary import JOB_ID, THREAD_ID
from codex_counsel.delegate.apply import StoredDiff, apply_diff
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.jobs import recovery, threads
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.prepare.context import Context
from codex_counsel.services import results, runs
from codex_counsel.services.compat_answers import StartedTurn

BUSY = "Call codex-reply with the prompt wait to get its answer; then send this prompt."
NOT_ON_RECORD = (
    "What this thread began with is not on record: it goes on read-only, in {root}."
)
UNRECORDED = (
    "Of the thread's earlier turns no record is kept, so this one began with the workspace as it is. Changes of theirs "
    "that were not applied are not in it."
)
UNAPPLIED = (
    "The changes of an earlier turn are in a copy, and were not in the workspace when this turn began: "
    "`codex-counsel apply {job}` applies them."
)
DIVERGED = (
    "In the workspace, {paths} changed since this thread began. The copy goes on without these changes, and `apply` "
    "will refuse its diff there. For a start with the workspace as it is, call codex again."
)


Prepare = Callable[[], None]
"""What is done before a turn in a copy, which needs a place for its diff."""


def start(
    context: Context, call: CodexCall, server: ServerOptions, before_task: Prepare
) -> StartedTurn:
    """Begin a thread. `before_task` is called before a turn in a copy. Raises CounselError as `runs.start`."""
    options = thread_options.of_call(context, call, server)
    request = _request(context, call.prompt, options)
    handle = _start_run(context, request, before_task)
    return StartedTurn(handle, thread_options.notes(call))


def reply(
    context: Context, store: Store, call: CodexReplyCall, before_task: Prepare
) -> StartedTurn:
    """Continue a thread, or join its latest run where the prompt is `wait`.

    Raises `invalid_arguments` (no thread is named), `job_not_found` (nothing to wait for, or
    a run of something else), `session_busy` (its latest run goes on), and as `runs.start`.
    The thread, where there is one, is in the error's details as `session_id`.
    """
    try:
        thread = _thread(store, call)
    except OSError as error:
        message = "The state directory cannot be read"
        raise error_of(Code.STORAGE_FAILED, message, error) from None
    try:
        if _only_waits(call):
            return _join(store, thread)
        return _continue(context, store, thread, call.prompt, before_task)
    except CounselError as error:
        if thread.id:
            error.details.setdefault("session_id", thread.id)
        raise


def _only_waits(call: CodexReplyCall) -> bool:
    return call.prompt.strip().lower() == WAIT


def _join(store: Store, thread: _Thread) -> StartedTurn:
    if thread.job is None:
        raise CounselError(
            Code.JOB_NOT_FOUND,
            f"There is nothing to wait for: no run of the thread {thread.id} is on record",
            repair="Send another prompt to continue the thread.",
        )
    return StartedTurn(results.join(store, thread.job.id), continued=thread.id)


def _continue(
    context: Context,
    store: Store,
    thread: _Thread,
    prompt: str,
    before_task: Prepare,
) -> StartedTurn:
    if not thread.id:
        _refuse_without_thread(thread)
    # Without a state directory, the thread goes on all the same: see `claim_turn`.
    with contextlib.suppress(OSError):
        store.prepare()
    with threads.claim_turn(store.state, thread.id):
        note = threads.latest_turn(store.state, thread.id)
        job = _noted_job(store, note)
        if job and _is_at_work(job):
            raise CounselError(
                Code.SESSION_BUSY, f"The thread {thread.id} is still at work", BUSY
            )
        options = None
        if note:
            options = kept.options_of(context, note.options)
        earlier, remarks = _copy_to_go_on_from(context, store, note, options)
        request = _request(
            context, prompt, options or ThreadOptions(), thread.id, earlier
        )
        handle = _start_run(context, request, before_task)
        if not handle.private:
            options_kept = handle.job.spec().thread or {}
            turn = threads.Turn(handle.job.id, options_kept, earlier or "")
            threads.note_turn(store.state, thread.id, turn)
    if options is None:
        remarks = (NOT_ON_RECORD.format(root=context.cwd),)
    return StartedTurn(handle, remarks, thread.id)


@dataclass(frozen=True)
class _Thread:
    """A thread as a caller named it: its id, or empty while its first run has none; and its latest run on record."""

    id: str
    job: Job | None


def _thread(store: Store, call: CodexReplyCall) -> _Thread:
    """The thread that is named. A run that waits for its place has no thread yet: its own id stands for it."""
    named = call.thread
    if not named:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "threadId: is missing",
            repair="Name the threadId that codex returned.",
        )
    if re.fullmatch(JOB_ID, named):
        return _thread_of_job(store.job(named))
    if not re.fullmatch(THREAD_ID, named):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "threadId: is not the id of a thread",
            repair="Name the threadId that codex returned.",
        )
    # As Codex writes it: one note and one lock for all spellings.
    named = named.lower()
    # Where there is no state directory, there is no note.
    with contextlib.suppress(OSError):
        store.check()
    if _only_waits(call):
        threads.await_claim(store.state, named)
    return _Thread(named, _noted_job(store, threads.latest_turn(store.state, named)))


def _thread_of_job(job: Job) -> _Thread:
    """Raises `job_not_found` for a run of something else, and `job_corrupt`."""
    spec = job.spec()
    if spec.thread is None:
        raise CounselError(
            Code.JOB_NOT_FOUND,
            f"The job {job.id} is no turn of codex or codex-reply",
            repair=f"`codex-counsel result {job.id}` shows what came of it.",
        )
    return _Thread(job.state().thread_id or spec.session_id or "", job)


def _refuse_without_thread(thread: _Thread) -> NoReturn:
    if thread.job and _is_at_work(thread.job):
        raise CounselError(
            Code.SESSION_BUSY, "The first turn of this thread has not begun", BUSY
        )
    raise CounselError(
        Code.SESSION_NOT_FOUND, "No thread came of this run: it ended before"
    )


def _noted_job(store: Store, note: threads.Turn | None) -> Job | None:
    """The job of a note; None where it is no longer on record."""
    if note is None:
        return None
    try:
        return store.job(note.job_id)
    except CounselError:
        return None


def _is_at_work(job: Job) -> bool:
    try:
        return recovery.outcome(job) is None
    except CounselError:  # a damaged record says nothing, its lock does
        return job.alive()


def _copy_to_go_on_from(
    context: Context,
    store: Store,
    note: threads.Turn | None,
    options: ThreadOptions | None,
) -> tuple[str | None, tuple[str, ...]]:
    """The job whose diff the next turn of a thread begins with, None for the workspace as it is; and remarks on that.

    A diff that was applied is in the workspace, whatever became of it there.
    """
    if note is None or options is None or options.sandbox != "workspace-write":
        return None, ()
    in_place = context.settings.compat_writes == "in_place"
    job = _latest_diff(store, note)
    if job is None or not job.has_unapplied_diff():
        is_gone = job is None and _noted_job(store, note) is None
        remarks: tuple[str, ...] = ()
        if is_gone and not in_place:
            remarks = (UNRECORDED,)
        return None, remarks
    if in_place:
        return None, (UNAPPLIED.format(job=job.id),)
    conflicts = _conflicts(context, job)
    if not conflicts:
        return job.id, ()
    return job.id, (DIVERGED.format(paths=work.named(conflicts)),)


def _latest_diff(store: Store, note: threads.Turn) -> Job | None:
    """The latest job of the thread whose diff is on record: its last turn may have failed before it made one."""
    for job_id in (note.job_id, note.diff_job):
        job = _noted_job(store, note._replace(job_id=job_id))
        if job and (job.path / "diff.patch").is_file():
            return job
    return None


def _conflicts(context: Context, job: Job) -> list[str]:
    """The files that keep the diff of the job from being applied now. Raises `job_corrupt`."""
    spec = job.spec()
    if not spec.delegate:
        return []
    delegated = DelegateSpec.parse(spec.delegate)
    settings = context.settings
    try:
        diff = StoredDiff.load(job.id, job.path, delegated, settings.state)
        apply_diff(
            diff,
            Path(spec.workspace),
            Apply(job_id=job.id, check_only=True),
            settings.git_timeout_seconds,
            context.env,
        )
    except CounselError as error:
        if error.code == Code.APPLY_CONFLICT:
            return list(error.details["files"])
    return []


def _request(
    context: Context,
    prompt: str,
    options: ThreadOptions,
    session_id: str | None = None,
    from_job: str | None = None,
) -> ThreadQuestion | ThreadTask | ThreadChange:
    in_place = context.settings.compat_writes == "in_place"
    common: dict[str, Any] = {
        "workspace_root": options.root,
        "model": options.model,
        "effort": options.effort,
        "profile": options.profile,
        "web_search": options.web_search,
        "session_id": session_id,
        "options": options,
    }
    writes = options.sandbox == "workspace-write"
    if writes and in_place:
        return ThreadChange(question=prompt, **common)
    if writes:
        return ThreadTask(task=prompt, from_job=from_job, **common)
    return ThreadQuestion(question=prompt, **common)


def _start_run(
    context: Context,
    request: ThreadQuestion | ThreadTask | ThreadChange,
    before_task: Prepare,
) -> Handle:
    if isinstance(request, ThreadTask):
        before_task()
    return runs.start(context, request)
