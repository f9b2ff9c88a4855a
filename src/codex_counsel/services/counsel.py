"""What this bridge does, one function each. The MCP server and the command line both call these and nothing below."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from codex_counsel import __version__
from codex_counsel.claude import session_import as transfer
from codex_counsel.codex import binary as codex
from codex_counsel.codex import command as plan
from codex_counsel.codex import rollout
from codex_counsel.codex.sandbox import is_literal_path
from codex_counsel.contract import catalogue, paging
from codex_counsel.contract.envelope import Envelope, EnvelopeDict, Meta, Progress, completed
from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    DelegateDryRun,
    DryRun,
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
    Status,
    Transfer,
)
from codex_counsel.delegate import apply, seed
from codex_counsel.delegate import record as delegate
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import launcher
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.launcher import Handle
from codex_counsel.prepare import tasks
from codex_counsel.prepare.tasks import ResolvedWorkspace, Task
from codex_counsel.review import record as review
from codex_counsel.services import results, status
from codex_counsel.services.preparing import Preparing, placed
from codex_counsel.system.text import cut

__all__ = ["LOG", "Counsel", "Handle"]

LOG = logging.getLogger("codex_counsel")
MAX_SHOWN = 50
"""Paths of each kind that a dry run lists."""


class Counsel(Preparing):
    """The services for one environment and working directory."""

    # --- runs

    def consult(self, request: Consult, *, background: bool = False) -> Handle:
        """Start a consultation, or join the one with the same idempotency key."""
        return self._once(request, lambda place: tasks.consult(request, place, self.settings), background=background)

    def review_changes(self, request: ReviewChanges, *, background: bool = False) -> Handle:
        """Start a review of changes, or join the one with the same idempotency key."""
        return self._once(request, lambda place: self._review_task(request, place), background=background)

    def review_plan(self, request: ReviewPlan, *, background: bool = False) -> Handle:
        """Start a review of a plan, or join the one with the same idempotency key."""
        return self._once(
            request, lambda place: tasks.review_plan(request, place, self.settings), background=background
        )

    def delegate(self, request: Delegate, *, background: bool = False) -> Handle:
        """Start a delegated task, or join the one with the same idempotency key."""
        self._check_storage()
        self.sweep()
        return self._once(self._continued(request), lambda place: self._errand(request, place), background=background)

    def _check_storage(self) -> None:
        """A task needs its record, for its diff lies there, and a tree that the sandbox can be told of."""
        try:
            self.store.prepare()
        except OSError as error:
            raise CounselError(Code.STORAGE_FAILED, f"A task needs the state directory: {error}") from None
        if not is_literal_path(self.places.trees.resolve()):
            why = f"{self.places.trees} has one of * ? [ ] in its path, which Codex takes for a pattern"
            raise CounselError(Code.WORKTREE_FAILED, why, repair="Set XDG_CACHE_HOME to another directory.")

    def _continued(self, request: Delegate) -> Delegate:
        """With `from_job` the thread of that job goes on."""
        if not request.from_job or request.session_id:
            return request
        thread = (self._earlier(request.from_job).outcome() or {}).get("meta", {}).get("session_id")
        return replace(request, session_id=thread)

    def _errand(self, request: Delegate, place: ResolvedWorkspace) -> Task:
        earlier = self._earlier(request.from_job) if request.from_job else None
        if earlier and earlier.spec().workspace != str(place.root):
            raise CounselError(Code.WORKSPACE_INVALID, f"Job {earlier.id} was made for {earlier.spec().workspace}")
        return tasks.delegate(request, place, self.settings, earlier.path if earlier else None)

    def _earlier(self, job_id: str) -> Job:
        """A delegate job that has ended and whose diff is on record."""
        job = self.store.job(job_id)
        if job.outcome() is None:
            raise CounselError(Code.JOB_RUNNING, f"Job {job_id} has not finished")
        if not (job.path / "diff.patch").is_file():
            raise CounselError(Code.INVALID_ARGUMENTS, f"Job {job_id} has no diff: it is no delegate, or made no tree")
        return job

    def sweep(self) -> int:
        """Harvest and remove what dead runs left, of any session; returns how many trees there were.

        A tree whose record is gone belongs to nobody. One whose work could not be captured stays as long as its record.
        """
        found = list(delegate.leftovers(self.places.trees))
        for path, owner in found:
            if owner.is_dir():
                with contextlib.suppress(CounselError, OSError):
                    Job(owner).outcome()
            else:
                delegate.shadow_of(str(path), self.settings.git_timeout_seconds).remove()
        return sum(not path.exists() for path, _ in found)

    def _review_task(self, request: ReviewChanges, place: ResolvedWorkspace) -> Task:
        thread = request.session_id
        held = thread is not None and rollout.holds_everything(self.places.codex_home, thread)
        seen = self.store.sent_last(thread) if thread and held else None
        return tasks.review_changes(request, place, self.settings, seen)

    def _once(self, request: RunRequest, make: Callable[[ResolvedWorkspace], Task], *, background: bool) -> Handle:
        key = request.idempotency_key
        if key is None:
            return self._start(request, make, background=background)
        root = str(self.place(request.workspace_root).root)
        arguments = launcher.digest(request.canonical(), root)
        try:
            self.store.prepare()
        except OSError as error:
            raise CounselError(Code.STORAGE_FAILED, f"An idempotency key needs the state directory: {error}") from None
        begin = partial(self._start, request, make, background=background)
        return launcher.once(self.store, request.tool, key, arguments, begin)

    def _start(self, request: RunRequest, make: Callable[[ResolvedWorkspace], Task], *, background: bool) -> Handle:
        ready = self.ready(request)
        task = make(ready.place)
        turn = self.turn(request, ready, task)
        with contextlib.suppress(OSError):
            self.store.evict(self.settings.job_ttl, self.settings.job_max_count)
        return launcher.launch(self.store, self.birth(request, ready, turn, task, background=background))

    # --- results

    def follow(self, handle: Handle, on_progress: Callable[[Progress], None]) -> EnvelopeDict:
        """Wait for the end of the run and return its envelope. Calls `on_progress` about once a second."""
        return results.follow(handle, on_progress)

    def collect(self, handle: Handle) -> EnvelopeDict | None:
        """The envelope once the run has ended, else None. Never blocks."""
        return handle.collect()

    def progress(self, handle: Handle) -> Progress | None:
        """Where the run stands; None if its record cannot be read."""
        return results.progress(handle.job)

    def interrupt(self, handle: Handle) -> None:
        """Cancel the run; returns when nothing of it is running."""
        handle.release()
        self.store.cancel(handle.job)

    def deliver(self, handle: Handle, wire: EnvelopeDict, detail: str = "full") -> EnvelopeDict:
        """The first page of a finished run, marked as delivered. A run without a record on disk is returned whole."""
        if handle.private or not (handle.job.path / "result.json").exists():
            return wire
        page = paging.first_page(wire, detail)
        if results.is_last_page(page):
            results.mark_received(self.store, handle.job.id)
        return page

    def detach(self, handle: Handle, detail: str = "full") -> EnvelopeDict:
        """Let the run go on without its caller; the `running` envelope, or the first page of a run that has ended."""
        handle.detach()
        handle.release()
        outcome = handle.job.outcome()
        if outcome:
            return self.deliver(handle, outcome, detail)
        return handle.job.running().wire()

    def times(self, job_id: str) -> results.Times:
        """When a job was created and last wrote something, and how long it may last."""
        return results.times(self.store, job_id, self.settings.job_ttl)

    def job_status(self, request: JobStatus) -> EnvelopeDict:
        """Where the run stands; a finished one in summary."""
        return results.job_status(self.store, request)

    def read_result(self, request: JobResult) -> EnvelopeDict:
        """A page of the stored envelope, or the `running` one; `acknowledge` it once it was received."""
        return results.read_result(self.store, request)

    def acknowledge(self, request: JobResult | JobCancel, page: EnvelopeDict) -> None:
        """The caller has received the page: with the last one the job is marked as delivered, or consumed."""
        results.acknowledge(self.store, request, page)

    def cancel(self, request: JobCancel) -> EnvelopeDict:
        """End the run and all its processes; a run that had finished returns its result. See `acknowledge`."""
        return results.cancel(self.store, request)

    def job_result(self, request: JobResult) -> EnvelopeDict:
        """`read_result` and `acknowledge`, for a caller that cannot go away meanwhile."""
        page = self.read_result(request)
        self.acknowledge(request, page)
        return page

    def job_consume(self, request: JobConsume) -> EnvelopeDict:
        """As `job_result`; with the last page the record goes."""
        return self.job_result(request)

    def job_cancel(self, request: JobCancel) -> EnvelopeDict:
        """`cancel` and `acknowledge`, for a caller that cannot go away meanwhile."""
        page = self.cancel(request)
        self.acknowledge(request, page)
        return page

    def job_list(self, request: JobList) -> EnvelopeDict:
        """Jobs of this user, newest first."""
        return results.job_list(self.store, request)

    def apply(self, request: Apply) -> EnvelopeDict:
        """Put a delegate's diff onto the live tree, check only, or take it back."""
        job = self.store.job(request.job_id)
        root = self.place(request.workspace_root or job.spec().workspace).root
        data = apply.carry_out(job, root, request, self.settings.git_timeout_seconds)
        return completed(request.tool, str(data.pop("summary")), data, Meta(job_id=job.id)).wire()

    def delegate_dry_run(self, request: DelegateDryRun) -> EnvelopeDict:
        """What a delegate with these arguments would start from, by the same code path."""
        place = self.place(request.workspace_root)
        task = self._errand(request, place)
        seeding = task.seeding
        data: dict[str, Any] = {**tasks.bytes_of(task), **self._shown_access(request, task)}
        if seeding:
            counts = {"tracked": len(seeding.tracked), "untracked": seeding.untracked, "changed": seeding.changed}
            total = {"bytes": seed.size(place.top or place.root, seeding)}
            data["seed"] = {"head": seeding.head, **counts, **total, "omitted": seeding.omitted[:200]}
        summary = (
            f"would start from {len(seeding.checkout) + len(seeding.copy) if seeding else 0} files; nothing was spent"
        )
        return completed(
            request.tool, summary, data, Meta(workspace=place.report(), warnings=list(task.warnings))
        ).wire()

    # --- free tools

    def dry_run(self, request: DryRun) -> EnvelopeDict:
        """What a review with these arguments would send, by the same code path, and what it could touch."""
        place = self.place(request.workspace_root)
        task = self._review_task(request, place)
        seen = review.coverage(task.changes) if task.changes else None
        data: dict[str, Any] = {"scope": task.scope, **tasks.bytes_of(task), **self._shown_access(request, task)}
        files = f"{seen.files} files, " if seen else ""
        cost = f"{data['prompt_bytes']} bytes (about {data['estimated_tokens']} tokens)"
        meta = Meta(workspace=place.report(), warnings=list(task.warnings))
        envelope = completed(request.tool, f"would send {files}{cost}; nothing was spent", data, meta)
        envelope.coverage = seen
        return _with_prompt(envelope, task.prompt, request.detail)

    def _shown_access(self, request: RunRequest, task: Task) -> dict[str, Any]:
        """Boundary and argv of the run, and what Codex adds by itself; why not, where it could not run."""
        try:
            ready = self.ready(request)
            where = self.places.trees / "codex-counsel-JOB"
            turn = placed(self.turn(request, ready, task), task, where)
            added = codex.added(ready.codex, self.codex_env(ready.place), ready.place.root, plan.config(turn))
        except CounselError as error:
            return {"blocked": {"code": error.code, "message": error.message}}
        boundary = turn.boundary
        paths = {name: _some(getattr(boundary, name)) for name in ("readable", "denied", "secrets")}
        return {"sandbox": {**asdict(boundary.report()), **paths}, "codex_adds": added, "isolation": turn.isolation}

    def status(self, request: Status) -> EnvelopeDict:
        """Is Codex usable here, and if not, why."""
        return status.report(self, request)

    def notices(self) -> list[str]:
        """What a client should know before the first call."""
        return status.notices(self)

    def transfer(self, request: Transfer) -> EnvelopeDict:
        """Make a thread of Codex out of a session of Claude Code. No model is asked."""
        place = self.place(request.workspace_root)
        found = transfer.find(request.transcript_path, self.env)
        thread = transfer.hand_over(self.codex, self.codex_env(place), found.path, place.root)
        resume = f"codex resume {thread}"
        data = {"resume_command": resume, "transcript": str(found.path), "bytes": found.path.stat().st_size}
        newer = f"another session of this project was written to later: {found.newer}" if found.newer else None
        meta = Meta(session_id=thread, workspace=place.report(), warnings=[newer] if newer else [])
        return completed(request.tool, f"This session goes on in Codex with: {resume}", data, meta).wire()

    def models(self) -> EnvelopeDict:
        """Models and efforts that the installed Codex lists."""
        found = codex.models(self.codex, self.codex_env())
        default = next((row["model"] for row in found if row.get("default")), "none")
        return completed("codex_models", f"{len(found)} models, default {default}", {"models": found}).wire()

    def capabilities(self) -> EnvelopeDict:
        """Inventory and schema fingerprint."""
        return completed(
            "codex_capabilities",
            f"codex-counsel {__version__}",
            catalogue.inventory(),
            Meta(fingerprint=catalogue.fingerprint()),
        ).wire()


def _with_prompt(envelope: Envelope, prompt: str, detail: str) -> EnvelopeDict:
    """As much of the prompt as fits: there is no further page of a dry run."""
    for room in (24_000, 12_000, 6_000, 600) if detail == "full" else (600,):
        shown = cut(prompt, room)
        wire = replace(envelope, data={**envelope.data, "prompt" if shown == prompt else "prompt_begins": shown}).wire()
        if len(json.dumps(wire, ensure_ascii=False).encode()) <= paging.BUDGETS[detail]:
            break
    return wire


def _some(paths: tuple[Path, ...]) -> list[str]:
    more = [f"and {len(paths) - MAX_SHOWN} more"] if len(paths) > MAX_SHOWN else []
    return [*map(str, paths[:MAX_SHOWN]), *more]
