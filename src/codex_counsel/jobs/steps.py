"""What a worker does for its kind after Codex's turn: commands of ours, and further jobs (`kind.Steps`).

Imported while Codex runs, and only by a job with something to do then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from codex_counsel.codex.command import core_environment
from codex_counsel.contract.envelope import failed
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import children, launcher
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.journal import Journal
from codex_counsel.jobs.launcher import NewJob
from codex_counsel.jobs.quota import Quota
from codex_counsel.jobs.spec import Spec
from codex_counsel.jobs.store import Store
from codex_counsel.jobs.turns import Starter
from codex_counsel.kind import IMAGES, OUTPUT_BYTES, TEMPORARY, ChildOutcome, CommandRun
from codex_counsel.prepare.attachments import Image
from codex_counsel.system.files import remove_tree
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.supervisor import Supervisor
from codex_counsel.system.text import clean, one_line

LOOK_SECONDS = 1.0
"""Between two looks at the jobs that were started: what they print wakes the worker before."""
CANCEL_SECONDS = 20.0
"""How long a cancelled job is waited for: longer than its worker takes to end Codex."""
MAX_SHOWN = 200
"""Characters of a command that the progress shows."""
TIDY_SECONDS = 60.0
"""How long the workers of ended jobs are waited for before a command starts."""
TIDY_PAUSE = 0.02
"""Seconds between two looks at them."""
SHELL = "/bin/sh"
ENV = "/usr/bin/env"


class Worker(Starter, Protocol):
    """What the steps need of the worker."""

    def start_command(
        self, argv: Sequence[str], cwd: str, seconds: float
    ) -> Supervisor | None:
        """Start a command under supervision; None where the job is to end. Raises OSError."""

    def wait_for(self, descriptors: Sequence[int], seconds: float) -> None:
        """Wait until one of them is readable, or somebody asks for something; see `end_reason`."""

    def leave_queue(self) -> None:
        """Give up the place in the queue."""


class WorkerSteps:
    """The steps of one job. See `kind.Steps`."""

    def __init__(self, spec: Spec, journal: Journal, worker: Worker) -> None:
        self._spec = spec
        self._journal = journal
        self._worker = worker
        self._checks: JsonObject = spec.checks or {}
        self.started: list[Job] = []
        """The jobs of `run_jobs`, also those that have ended."""

    @property
    def end_reason(self) -> str:
        return self._worker.end_reason

    @property
    def seconds(self) -> float:
        return float(self._checks.get("seconds", 0))

    # --- commands

    def run(self, command: str, cwd: Path) -> CommandRun:
        shown = one_line(clean(command), MAX_SHOWN)
        self._journal.update_state(phase="checking", last_command=shown)
        self._await_workers()
        mark = secrets.token_hex(16)
        quota = Quota(self._spec.scratch, self._spec.max_bytes, self._spec.max_entries)
        try:
            self._empty_temporary()
            # Before the command starts: what it makes is not taken for what was there.
            quota.begin()
            began = time.monotonic()
            supervisor = self._worker.start_command(
                self._argv(command, mark), str(cwd), self.seconds
            )
        except OSError as error:
            return CommandRun(
                command, "unstarted", None, 0.0, str(error.strerror).encode()
            )
        if supervisor is None:
            return CommandRun(command, self.end_reason, None, 0.0, b"")

        supervisor.reason_to_stop = lambda: "quota" if quota.exceeded() else ""
        # The sandbox says on stderr why it cannot be set up; the command's own stderr goes
        # to stdout.
        output = bytearray()
        is_started = False
        for line in supervisor.lines():
            if not is_started and line == mark.encode():
                is_started = True
                continue
            output += line + b"\n"
            del output[:-OUTPUT_BYTES]
        seconds = time.monotonic() - began
        ended, code = supervisor.reason, supervisor.returncode
        if ended != "exited":
            return CommandRun(command, ended, None, seconds, bytes(output))
        if not is_started:
            reason = bytes(supervisor.stderr[-OUTPUT_BYTES:]) or bytes(output)
            return CommandRun(command, "unstarted", None, seconds, reason)
        if code is not None and code < 0:
            code = 128 - code
        return CommandRun(command, "exited", code, seconds, bytes(output))

    def _await_workers(self) -> None:
        """Wait until the workers of ended jobs are gone, for a time: what lives with a command is ended with it.

        Such a worker may still remove the tree of its job.
        """
        deadline = time.monotonic() + TIDY_SECONDS
        while any(job.alive() for job in self.started):
            if self.end_reason or time.monotonic() > deadline:
                return
            self._worker.wait_for((), TIDY_PAUSE)

    def _argv(self, command: str, mark: str) -> list[str]:
        variables = core_environment(os.environ) | dict(self._checks["variables"])
        assignments = [f"{name}={value}" for name, value in variables.items()]
        # A shell reads line by line: these hold before it parses the command.
        script = f"exec 2>&1\nprintf '%s\\n' {mark}\n{command}"
        return [*self._checks["argv"], ENV, "-i", *assignments, SHELL, "-c", script]

    def _empty_temporary(self) -> None:
        """Raises OSError."""
        temporary = Path(self._spec.scratch, TEMPORARY)
        remove_tree(temporary)
        temporary.mkdir(mode=0o700, parents=True, exist_ok=True)

    # --- jobs

    def prompt_of(self, job_id: str) -> str:
        directory = Path(self._journal.directory)
        return str(children.prepared(directory)[job_id]["prompt"])

    def run_jobs(
        self,
        job_ids: Sequence[str],
        prompts: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
    ) -> list[ChildOutcome]:
        directory = Path(self._journal.directory)
        rows = children.prepared(directory)
        self._worker.leave_queue()
        handles: dict[str, Handle] = {}
        outcomes: dict[str, ChildOutcome] = {}
        for job_id in job_ids:
            new = self._new_job(rows[job_id], (prompts or {}).get(job_id))
            if max_tokens and new.spec.max_tokens:
                new = replace(new, spec=replace(new.spec, max_tokens=max_tokens))
            try:
                self._check_end()
                handle = launcher.launch(Store(Path(self._spec.state)), new)
                handles[job_id] = handle
                self.started.append(handle.job)
            except CounselError as error:
                envelope = failed(new.spec.tool, error, new.spec.new_meta()).wire()
                outcomes[job_id] = ChildOutcome(
                    job_id, directory.parent / job_id, envelope
                )
        self._await_all(handles, outcomes)
        return [outcomes[job_id] for job_id in job_ids]

    def _check_end(self) -> None:
        """Raise `cancelled` where this job is to end, also where that was asked for since the last look."""
        self._worker.wait_for((), 0)
        if self.end_reason:
            raise CounselError(
                Code.CANCELLED, "The run was ended before this job was started"
            )

    def _new_job(self, row: JsonObject, prompt: str | None) -> NewJob:
        # What it takes is counted from now on.
        spec = replace(Spec.parse(row["spec"]), created=time.time())
        images = []
        folder = Path(self._journal.directory, IMAGES)
        with contextlib.suppress(OSError):  # most have none
            for path in sorted(folder.iterdir()):
                images.append(Image(path.name, path.read_bytes()))
        return NewJob(
            spec,
            prompt or row["prompt"],
            row["schema"],
            children.environment(os.environ, spec),
            instructions=row["instructions"],
            images=tuple(images),
            last_prompt=row["last_prompt"],
            needs_directory=True,
        )

    def _await_all(
        self, handles: dict[str, Handle], outcomes: dict[str, ChildOutcome]
    ) -> None:
        total = len(handles)
        is_cancelled = False
        deadline = float("inf")
        self._note_ended(0, total)
        while handles:
            if self.end_reason and not is_cancelled:
                is_cancelled = True
                deadline = time.monotonic() + CANCEL_SECONDS
                _cancel(list(handles.values()))
            descriptors = [handle.descriptor for handle in handles.values()]
            self._worker.wait_for(
                [number for number in descriptors if number >= 0], LOOK_SECONDS
            )
            for job_id, handle in list(handles.items()):
                outcome = _collect(handle)
                if outcome is None and time.monotonic() > deadline:
                    outcome = _give_up(handle)
                if outcome:
                    outcomes[job_id] = outcome
                    handle.release()
                    del handles[job_id]
                    self._note_ended(total - len(handles), total)
        # What comes now has the time that this job itself may take.
        self._journal.update_state(phase="finishing", since=time.monotonic())

    def _note_ended(self, ended: int, total: int) -> None:
        self._journal.update_state(
            phase="waiting", last_command=f"{ended} of {total} jobs have ended"
        )


def _cancel(handles: list[Handle]) -> None:
    for handle in handles:
        # Its lifetime pipe, closed below, ends it where there is no room for the file.
        with contextlib.suppress(OSError):
            handle.job.request_cancel()


def _collect(handle: Handle) -> ChildOutcome | None:
    try:
        envelope = handle.collect()
    except CounselError as error:
        envelope = failed(handle.job.spec().tool, error).wire()
    if envelope is None:
        return None
    return ChildOutcome(handle.job.id, handle.job.path, envelope)


def _give_up(handle: Handle) -> ChildOutcome:
    """For a job that does not end: its pipe is closed, and whoever reads it next ends what is left."""
    error = CounselError(
        Code.JOB_RUNNING, f"Job {handle.job.id} was cancelled, but is still running"
    )
    return ChildOutcome(
        handle.job.id, handle.job.path, failed(handle.job.spec().tool, error).wire()
    )
