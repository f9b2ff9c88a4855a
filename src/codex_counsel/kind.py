"""What a kind of run is: four functions, and the data that they exchange.

Each kind has

- `prepare(request, workspace, context, records) -> Brief`, called by the caller before anything is spent;
- `set_up(...)`, called by the worker before Codex starts (a delegate makes its working tree; most need nothing);
- `follow_up(ended, steps)`, called by the worker after a completed turn of Codex: it runs commands of ours and further
  jobs (most kinds have none);
- `conclude(ended) -> Envelope`, called after the run has ended: by the worker, or by the reader of a job whose worker
  is gone.

`services/runs.py` calls `prepare`; the table in `jobs/kinds.py` names the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from codex_counsel.codex import programs
from codex_counsel.contract.envelope import (
    Envelope,
    EnvelopeDict,
    Meta,
    ProjectFile,
    failed,
)
from codex_counsel.git.repo import object_variables
from codex_counsel.system.files import remove_tree
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, one_line

if TYPE_CHECKING:
    from codex_counsel.codex.sandbox import Boundary
    from codex_counsel.contract.request import RunRequest
    from codex_counsel.errors import CounselError
    from codex_counsel.prepare.attachments import Image
    from codex_counsel.prepare.boundary import Access

MASKED = "token-like strings were masked in the answer"
"""The end of a warning: the answer is not what the model said."""
CUT_SHORT = "before it was done: Codex answered with what it had seen by then"
"""The end of a warning: the answer is not all that the model would have said."""
PROMPT_SECONDS = 2.0
"""For removing a run's files before its result is stored; most take milliseconds. What is left goes afterwards."""
TEMPORARY = "tmp"
"""The TMPDIR of a run, in its private directory."""
IMAGES = "images"
"""The directory in the job's with the copies of the caller's images; removed when Codex has ended."""


class Records(Protocol):
    """What `prepare` may ask of earlier jobs."""

    def last_sent_digest(self, thread_id: str) -> str | None:
        """The digest of the material that the latest review of this thread was sent; None where none is on record."""

    def directory_of(self, job_id: str) -> Path:
        """Where the directory of a job is, or will be."""

    def delegate_directory(self, job_id: str, workspace: Path) -> Path:
        """The directory of an ended delegate job of this workspace.

        Raises `job_not_found`, `job_running`, `workspace_invalid` (of another one) or
        `invalid_arguments` (no diff).
        """


@dataclass(frozen=True)
class Placement:
    """A run with its private directories.

    `cwd` is where Codex works (its option `-C`), None for the workspace. `start_in` is
    the working directory of the process `codex` itself. `temporary` is its TMPDIR.
    `variables` are for its commands.
    """

    boundary: Boundary
    temporary: Path
    start_in: Path
    cwd: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Brief:
    """All that is sent, and all that the worker will need. Making one costs nothing.

    `reply_schema` is the JSON Schema that Codex is given for its reply. `instructions`
    are base instructions of ours, None for a kind that keeps Codex's;
    `callers_instructions`, those of the caller, go before them. `config` are values of
    Codex's configuration by their dotted names. `details` are
    the fields of `spec.json` that this kind alone reads. `keeps_files` marks a kind
    whose result is files of the job directory: it cannot run without a writable state
    directory.

    `subject` are the words a person recognises the run by, where the request alone does not
    tell them. `project_file` is that of the envelope's `meta`.

    `runs_commands` marks a run after which commands of ours run, within the same
    boundary. `children` are jobs that the worker may start after Codex's turn, each at
    most once. `runs_codex` is false for a job that only starts these. `job_id` is the one
    that the job will have.
    """

    prompt: str
    access: Access
    reply_schema: JsonObject | None = None
    instructions: str | None = None
    callers_instructions: str | None = None
    images: tuple[Image, ...] = ()
    scope: JsonObject | None = None
    subject: str = ""
    project_file: ProjectFile | None = None
    warnings: tuple[str, ...] = ()
    config: Mapping[str, Json] = field(default_factory=dict)
    details: Mapping[str, Json] = field(default_factory=dict)
    keeps_files: bool = False
    runs_commands: bool = False
    runs_codex: bool = True
    children: tuple[ChildBrief, ...] = ()
    # As `secrets` draws it, which the worker would import for nothing.
    job_id: str = field(default_factory=lambda: os.urandom(16).hex())

    def scratch_parent(self, temporary: Path, _trees: Path) -> Path:
        """Where the run's private directory is made: the temporary directory, unless a kind says otherwise."""
        return temporary

    def place(self, boundary: Boundary, scratch: Path) -> Placement:
        """The run in its private directory: its TMPDIR lies there, by default the only place it can write to."""
        temporary = scratch / TEMPORARY
        variables: Mapping[str, str] = {}
        if self.access.objects:
            variables = object_variables(self.access.objects)
        return Placement(
            boundary.with_scratch(temporary).with_programs(
                scratch / programs.DIRECTORY
            ),
            temporary=temporary,
            start_in=boundary.workspace,
            variables=variables,
        )


@dataclass(frozen=True)
class ChildBrief:
    """A further job, prepared by the caller: what its own caller would have asked for, and its brief.

    Its prompt may be made later: see `Steps.run_jobs`.
    """

    request: RunRequest
    brief: Brief


@dataclass(frozen=True)
class ChildOutcome:
    """A job that this one started, and that has ended. `directory` is the job's."""

    job_id: str
    directory: Path
    envelope: EnvelopeDict

    @property
    def ok(self) -> bool:
        """Whether it has completed."""
        return bool(self.envelope.get("ok"))


@dataclass(frozen=True)
class CommandRun:
    """A command of ours that ran in the sandbox of the job.

    `ended` is exited, timeout, quota, cancelled, abandoned or unstarted (the sandbox could
    not be set up; then `output` is why). `exit` is the exit code as the shell has it, 128
    and more for a signal; None unless it exited. `output` is the end of what it wrote to
    stdout and stderr, at most `OUTPUT_BYTES`, as it was written.
    """

    command: str
    ended: str
    exit: int | None
    seconds: float
    output: bytes


OUTPUT_BYTES = 65_536


class Steps(Protocol):
    """What a worker can do for its kind after Codex's turn. All that is started is ended with the worker."""

    @property
    def end_reason(self) -> str:
        """Why the job is to end now (cancelled or abandoned), or empty. Then nothing more is started."""

    @property
    def seconds(self) -> float:
        """How long one command may take."""

    def run(self, command: str, cwd: Path) -> CommandRun:
        """Run a shell command in the sandbox of the job, for at most `seconds`. Never raises OSError.

        The temporary directory of the job is made empty before. Must not be called while
        jobs of `run_jobs` live.
        """

    def prompt_of(self, job_id: str) -> str:
        """The prompt that a job of `run_jobs` was prepared with. Raises `job_corrupt`."""

    def run_jobs(
        self,
        job_ids: Sequence[str],
        prompts: Mapping[str, str] | None = None,
        max_tokens: int | None = None,
    ) -> list[ChildOutcome]:
        """Start these of the prepared jobs, wait until all have ended, and return their outcomes in this order.

        `prompts` replace those that the jobs were prepared with, `max_tokens` what each may
        use; a job that was prepared without a limit has none. From now on the job
        itself holds no place in the queue. A cancel of the job cancels them all.
        """


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, well or not. `error` is why there is no result; then `answer` is an interim message.

    `directory` is the job's, `scratch` the run's private one, `details` are those of
    its brief. `commands` are what Codex ran, with the exit code, or None where the run
    ended first. `children` are the jobs that it started and that have ended, in the order
    in which they were prepared.
    """

    tool: str
    directory: Path
    scratch: Path
    details: Mapping[str, Json]
    meta: Meta
    answer: str | None = None
    error: CounselError | None = None
    commands: tuple[tuple[str, int | None], ...] = ()
    children: tuple[ChildOutcome, ...] = ()

    @property
    def own_scratch(self) -> bool:
        """Whether the scratch directory carries the job's id: nothing else is ever removed."""
        return self.directory.name in self.scratch.name


def failed_run(ended: EndedRun, error: CounselError) -> Envelope:
    """The envelope of a run without a result. An interim message is kept as `answer`, masked, with `partial` set."""
    if not ended.answer:
        return failed(ended.tool, error, ended.meta)
    return failed(
        ended.tool, error, ended.meta, answer=mask(clean(ended.answer))[0], partial=True
    )


def answer_in_prose(ended: EndedRun) -> Envelope:
    """The envelope of a completed run whose answer is text, token-like strings in it masked."""
    # Cleaned first: a control character inside a token would hide it from the mask.
    answer, masked = mask(clean(ended.answer or ""))
    if masked:
        ended.meta.warnings.append(f"{masked} {MASKED}")
    return Envelope(
        ok=True,
        status="completed",
        tool=ended.tool,
        summary=one_line(answer, 400),
        answer=answer,
        meta=ended.meta,
    )


def remove_scratch(ended: EndedRun) -> None:
    """Remove the private directory of a run that keeps nothing in it, as far as its answer need not wait for that."""
    if ended.own_scratch:
        remove_tree(ended.scratch, PROMPT_SECONDS)
