"""Several attempts, in the worker of the job that starts them: they run, the start is checked, the judge is asked.

What is found out goes into `attempts.json` as soon as it is known, so that whoever reads
the job after its worker was killed can conclude it.
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

from codex_counsel.attempts import judge
from codex_counsel.attempts.record import AttemptsRecord, AttemptsSpec
from codex_counsel.delegate.check_outcome import outcome_of
from codex_counsel.delegate.record import READABLE_DIFF, DelegateSpec
from codex_counsel.delegate.set_up import SEED
from codex_counsel.delegate.shadow import Shadow, git_environment
from codex_counsel.delegate.states import States
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import ChildOutcome, EndedRun, Steps
from codex_counsel.system.files import read_json

MIN_SHOWN = 2
"""Attempts below which there is nothing to compare."""


def follow_up(ended: EndedRun, steps: Steps) -> None:
    """Run the attempts, then the check of their start, then the judge. A cancel ends it at any point."""
    spec = AttemptsSpec.parse(ended.details["attempts"])
    task = DelegateSpec.parse(ended.details["delegate"])
    record = AttemptsRecord()
    outcomes = steps.run_jobs(spec.jobs)
    _note_missing(record, outcomes)
    _store(record, ended.directory)

    was_checked = any(_was_checked(outcome) for outcome in outcomes)
    if task.check is not None and was_checked and not steps.end_reason:
        _check_base(task, task.check, record, ended, steps)
        _store(record, ended.directory)

    if spec.judge and not steps.end_reason:
        _ask(spec.judge, outcomes, record, ended.directory, steps)


def _store(record: AttemptsRecord, directory: Path) -> None:
    # On a full disk the result lacks what was found out, but not what the attempts did.
    with contextlib.suppress(OSError):
        record.store(directory)


def _note_missing(record: AttemptsRecord, outcomes: list[ChildOutcome]) -> None:
    """Note why there is no result of a job: no directory will tell it."""
    for outcome in outcomes:
        error = outcome.envelope.get("error") or {}
        # One that ended well has no record any more where somebody removed it.
        code = error.get("code", Code.JOB_NOT_FOUND)
        if code == Code.JOB_RUNNING or not outcome.directory.is_dir():
            record.without_result[outcome.job_id] = str(code)


def _was_checked(outcome: ChildOutcome) -> bool:
    check = outcome.envelope.get("check") or {}
    return check.get("status") not in (None, "not_run")


def _check_base(
    task: DelegateSpec,
    command: str,
    record: AttemptsRecord,
    ended: EndedRun,
    steps: Steps,
) -> None:
    """Run the check on the start of all attempts, once for all."""
    env = git_environment(os.environ, Path(task.workspace))
    shadow = Shadow(ended.scratch, task.git_timeout, env)
    try:
        base = str(read_json(ended.directory / SEED)["base_tree"])
        states = States.of(shadow, steps, task.prefix, Path(task.workspace))
        run = states.run(base, command)
    except (CounselError, OSError) as error:
        record.base_status = "not_run"
        record.base_reason = str(error)
        return
    record.base_exit = run.exit
    record.base_status = outcome_of(run).status


def _readable_diff(outcome: ChildOutcome) -> str:
    """The diff for reading, also what of it the result has no room for."""
    # There is none where the result has all of it.
    with contextlib.suppress(OSError):
        return (outcome.directory / READABLE_DIFF).read_text("utf-8", "replace")
    return str(outcome.envelope["diff"])


def _ask(
    judge_id: str,
    outcomes: list[ChildOutcome],
    record: AttemptsRecord,
    directory: Path,
    steps: Steps,
) -> None:
    """Let the judge compare the attempts that ended well with a diff."""
    diffs = {}
    for number, outcome in enumerate(outcomes, 1):
        if outcome.ok and outcome.envelope.get("diff"):
            diffs[number] = _readable_diff(outcome)
    if len(diffs) < MIN_SHOWN:
        return
    shown = list(diffs)
    # The judge must not learn from the order which attempt is which.
    random.SystemRandom().shuffle(shown)
    record.shown = shown
    _store(record, directory)
    question = judge.prompt(
        steps.prompt_of(judge_id), [diffs[number] for number in shown]
    )
    _note_missing(record, steps.run_jobs([judge_id], {judge_id: question}))
    _store(record, directory)
