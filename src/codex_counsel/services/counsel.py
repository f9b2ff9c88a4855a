"""The table of contents: what this bridge does, one method for each tool."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel import __version__
from codex_counsel.claude import session_import
from codex_counsel.codex import inspect
from codex_counsel.codex.sandbox import is_literal_path
from codex_counsel.codex.thread_import import import_session
from codex_counsel.contract import catalogue
from codex_counsel.contract.envelope import EnvelopeDict, Meta, Progress, completed
from codex_counsel.delegate.apply import StoredDiff, apply_diff, sweep_applying
from codex_counsel.delegate.conclude import orphaned_trees
from codex_counsel.delegate.record import DelegateSpec
from codex_counsel.delegate.shadow import Shadow, git_environment
from codex_counsel.errors import Code, CounselError
from codex_counsel.git import patterns
from codex_counsel.jobs import recovery
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.jobs.taken import was_taken
from codex_counsel.prepare import preflight as checks
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.review.changes import since
from codex_counsel.services import (
    compat,
    compat_answers,
    dry_run,
    findings,
    results,
    runs,
    status,
)
from codex_counsel.system.files import remove_tree
from codex_counsel.system.temporary import remove_abandoned

if TYPE_CHECKING:
    from codex_counsel.contract.compat import (
        CodexCall,
        CodexReplyCall,
        CompatAnswer,
        ServerOptions,
    )
    from codex_counsel.contract.request import (
        Apply,
        Consult,
        Delegate,
        DelegateDryRun,
        DryRun,
        Findings,
        JobCancel,
        JobList,
        JobResult,
        JobStatus,
        ReviewChanges,
        ReviewPlan,
        Status,
        Transfer,
    )
    from codex_counsel.contract.settings import Settings
    from codex_counsel.contract.vocabulary import Detail
    from codex_counsel.services.compat_answers import StartedTurn

__all__ = ["LOG", "Counsel", "Handle"]

SWEEP_SECONDS = 1.0
LOG = logging.getLogger("codex_counsel")


class Counsel:
    """The services for one context: that of this process, but for what is passed.

    Methods raise `CounselError`; its codes are those of `errors.py`.
    """

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.context = Context.of(env, cwd, settings)

    @property
    def settings(self) -> Settings:
        """The settings of this context."""
        return self.context.settings

    @property
    def store(self) -> Store:
        """The jobs in the state directory of the settings."""
        return Store(self.settings.state)

    # --- Tools that run the model: each starts a run, or joins that of its idempotency
    # key, and returns a handle on it.

    def consult(self, request: Consult, *, background: bool = False) -> Handle:
        return runs.start(self.context, request, background=background)

    def review_changes(
        self, request: ReviewChanges, *, background: bool = False
    ) -> Handle:
        return runs.start(self.context, request, background=background)

    def review_plan(self, request: ReviewPlan, *, background: bool = False) -> Handle:
        return runs.start(self.context, request, background=background)

    def delegate(self, request: Delegate, *, background: bool = False) -> Handle:
        """Also removes the trees that earlier runs left, because there is no better time."""
        self._make_ready_for_task()
        return runs.start(
            self.context, self._in_thread_of_earlier_job(request), background=background
        )

    def codex(self, call: CodexCall, server: ServerOptions) -> StartedTurn:
        """Begin a thread, as `codex` of the removed `codex mcp-server` did."""
        return compat.start(self.context, call, server, self._make_ready_for_task)

    def codex_reply(self, call: CodexReplyCall) -> StartedTurn:
        """Continue such a thread, or join its latest run."""
        return compat.reply(self.context, self.store, call, self._make_ready_for_task)

    def codex_answer(
        self, turn: StartedTurn, wire: EnvelopeDict | None
    ) -> CompatAnswer:
        """What the caller of these two gets; `wire` is None where the run goes on without him."""
        return compat_answers.answer(self.store, turn, wire)

    def _make_ready_for_task(self) -> None:
        self._check_tree_can_be_made()
        self.sweep()

    def _check_tree_can_be_made(self) -> None:
        """Raise unless the state directory is writable (the diff is stored there) and Codex can be given the tree."""
        try:
            self.store.prepare()
        except OSError as error:
            raise CounselError(
                Code.STORAGE_FAILED,
                f"A delegated task needs a writable state directory: {error}",
            ) from None
        trees = self.context.directories.trees
        if not is_literal_path(trees.resolve()):
            raise CounselError(
                Code.WORKTREE_FAILED,
                f"{trees} has one of * ? [ ] in its path, which Codex takes for a pattern",
                repair="Set XDG_CACHE_HOME to another directory.",
            )

    def _in_thread_of_earlier_job(self, request: Delegate) -> Delegate:
        """With `from_job`, and no thread named, the thread of that job goes on. Several attempts begin their own.

        So does a task that goes on from one of another machine, whose thread is there.
        """
        if not request.from_job or request.session_id or request.attempts > 1:
            return request
        job = self.store.ended_delegate(request.from_job)
        if was_taken(job.path):
            return request
        outcome = recovery.outcome(job) or {}
        return replace(request, session_id=outcome.get("meta", {}).get("session_id"))

    def sweep(self) -> int:
        """Remove what killed processes of any session left, a delegate's tree once it is captured.

        Returns how many trees were removed. One whose job record is gone is removed. One
        that cannot be captured stays as long as the record. The next run waits for this,
        so what a moment is too short for is left to the next sweep.
        """
        sweep_applying(self.settings.state)
        prefixes = (
            inspect.PROBE_PREFIX,
            session_import.TRANSFER_PREFIX,
            since.INDEX_PREFIX,
            patterns.PREFIX,
        )
        for prefix in prefixes:
            remove_abandoned(prefix)
        trees = list(orphaned_trees(self.context.directories.trees))
        # In no order: a tree that cannot be captured must not keep the others waiting.
        random.shuffle(trees)
        deadline = time.monotonic() + SWEEP_SECONDS
        for scratch, directory in trees:
            if time.monotonic() > deadline:
                break
            if directory.is_dir():
                # A damaged record must not keep the other trees from being removed.
                with contextlib.suppress(CounselError, OSError):
                    job = Job(directory)
                    # Whoever concluded the run may have had no time for all of its tree.
                    if recovery.outcome(job) and not recovery.needs_tree(job):
                        remove_tree(scratch, SWEEP_SECONDS)
            else:
                # Nobody knows its workspace any more, and removing runs no git.
                env = git_environment(self.context.env, scratch)
                Shadow(scratch, self.settings.git_timeout_seconds, env).remove()
        return sum(not scratch.exists() for scratch, _ in trees)

    # --- Free tools: each returns an envelope.

    def dry_run(self, request: DryRun) -> EnvelopeDict:
        return dry_run.preview_review(self.context, request)

    def delegate_dry_run(self, request: DelegateDryRun) -> EnvelopeDict:
        return dry_run.preview_delegate(self.context, request)

    def apply(self, request: Apply) -> EnvelopeDict:
        """Put a delegate's diff onto the live tree, check only, or take it back."""
        job = self.store.job(request.job_id)
        if recovery.outcome(job) is None:
            raise CounselError(Code.JOB_RUNNING, f"Job {job.id} has not finished")
        raw = job.spec().delegate
        diff = StoredDiff.load(
            job.id,
            job.path,
            DelegateSpec.parse(raw) if raw else None,
            self.settings.state,
        )
        # What was applied is taken back, or finished, where it was applied.
        place = diff.mark.place
        default_root = place.root if place else job.spec().workspace
        workspace = workspaces.resolve(
            self.context, request.workspace_root or default_root
        )
        data = apply_diff(
            diff,
            workspace.root,
            request,
            self.settings.git_timeout_seconds,
            self.context.env,
        )
        summary = str(data.pop("summary"))
        return completed(request.tool, summary, data, Meta(job_id=job.id)).wire()

    def status(self, request: Status) -> EnvelopeDict:
        return status.report(self.context, request)

    def notices(self) -> list[str]:
        """What a client should know before the first call."""
        return status.notices(self.context)

    def models(self) -> EnvelopeDict:
        """Models and efforts that the installed Codex lists."""
        workspace = workspaces.resolve_or_none(self.context)
        codex = checks.find_codex(self.context, workspace)
        env = checks.probe_environment(self.context, workspace)
        rows = inspect.models(codex, env, self.context.probes)
        defaults = [row["model"] for row in rows if row.get("default")]
        default = defaults[0] if defaults else "none"
        return completed(
            "codex_models", f"{len(rows)} models, default {default}", {"models": rows}
        ).wire()

    def capabilities(self) -> EnvelopeDict:
        """What this server offers, and the fingerprint of its schema."""
        meta = Meta(fingerprint=catalogue.fingerprint())
        return completed(
            "codex_capabilities",
            f"codex-counsel {__version__}",
            catalogue.inventory(),
            meta,
        ).wire()

    def findings(self, request: Findings, by: str) -> EnvelopeDict:
        """The findings on record of a repository, or a change of one that `by` makes."""
        return findings.answer(self.context, request, by)

    def transfer(self, request: Transfer) -> EnvelopeDict:
        """Make a thread of Codex out of a session of Claude Code. No model is asked."""
        workspace = workspaces.resolve(self.context, request.workspace_root)
        transcript = session_import.find(request.transcript_path, self.context.env)
        codex = checks.find_codex(
            self.context, workspaces.resolve_or_none(self.context)
        )
        env = checks.probe_environment(self.context, workspace)
        with session_import.private_copy(transcript.path) as copy:
            thread = import_session(
                codex,
                env,
                copy.path,
                workspace.root,
                home=copy.home,
                codex_home=checks.existing_codex_home(self.context),
            )

        command = f"codex resume {thread}"
        contents = copy.contents
        turns = "1 turn" if contents.turns == 1 else f"{contents.turns} turns"
        warnings = []
        if transcript.newer:
            warnings.append(
                f"another session of this project was written to later: {transcript.newer}"
            )
        return completed(
            request.tool,
            f"This session ({turns}) goes on in Codex with: {command}",
            {
                "resume_command": command,
                "transcript": str(transcript.path),
                **asdict(contents),
            },
            Meta(session_id=thread, workspace=workspace.report(), warnings=warnings),
        ).wire()

    # --- Jobs.

    def job_status(self, request: JobStatus) -> EnvelopeDict:
        """Where the run stands; of a finished one the summary."""
        return results.job_status(self.store, request)

    def read_result(self, request: JobResult) -> EnvelopeDict:
        """A page of the stored envelope, or the `running` one; `acknowledge` it once it was received."""
        return results.read_result(self.store, request)

    def cancel(self, request: JobCancel) -> EnvelopeDict:
        """End the run and all its processes; a run that had finished returns its result. See `acknowledge`."""
        return results.cancel(self.store, request)

    def job_list(self, request: JobList) -> EnvelopeDict:
        """Jobs of this user, newest first."""
        return results.job_list(self.store, request)

    def drop_consumed(self) -> None:
        """Drop the records that were consumed more than a minute ago."""
        results.drop_consumed(self.store)

    def acknowledge(self, request: JobResult | JobCancel, page: EnvelopeDict) -> None:
        """The caller has received the page: with the last one the job is marked as delivered, or consumed."""
        results.acknowledge(self.store, request, page)

    def times(self, job_id: str) -> results.Times:
        """When a job was created and last wrote something, and how long it may last."""
        return results.times(self.store, job_id, self.settings.job_ttl)

    # --- Runs that a face waits for.

    def follow(
        self, handle: Handle, on_progress: Callable[[Progress], None]
    ) -> EnvelopeDict:
        """Wait for the end of the run and return its envelope. Calls `on_progress` about once a second."""
        return results.follow(handle, on_progress)

    def join(self, job_id: str) -> Handle:
        """A handle on a run that another call started; raises `job_not_found`."""
        return results.join(self.store, job_id)

    def collect(self, handle: Handle) -> EnvelopeDict | None:
        """The envelope once the run has ended, else None.

        Blocks only to conclude a run whose worker is gone, or to end one that is far over
        its time limit.
        """
        return handle.collect()

    def progress(self, handle: Handle) -> Progress | None:
        """Where the run stands; None if its record cannot be read."""
        return results.progress(handle.job)

    def deliver(
        self, handle: Handle, outcome: EnvelopeDict, detail: Detail = "full"
    ) -> EnvelopeDict:
        """The first page of a finished run, marked as delivered if it is the last. Without a record it comes whole."""
        return results.deliver(self.store, handle, outcome, detail)

    def detach(self, handle: Handle, detail: Detail = "full") -> EnvelopeDict:
        """Let the run go on without its caller; the `running` envelope, or the first page of a run that has ended."""
        return results.detach(self.store, handle, detail)

    def interrupt(self, handle: Handle) -> None:
        """Cancel the run; returns when nothing of it is running."""
        results.interrupt(self.store, handle)
