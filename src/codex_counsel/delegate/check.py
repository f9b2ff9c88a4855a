"""The check of a delegated task: the caller's command, run by us on what was returned and on what it began with.

It comes after the work is captured, so nothing that it makes is part of the diff, and
what it says holds for the very diff that is returned. The file `check.json` of the job
directory has what came of it; it is written after each of the two runs. Where a worker
was killed before, there is none: the check counts as not run.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from codex_counsel.contract.envelope import CheckResult
from codex_counsel.delegate.check_outcome import masked_line, outcome_of
from codex_counsel.delegate.conclude import captured
from codex_counsel.delegate.record import CHECK, DelegateSpec
from codex_counsel.delegate.set_up import SEED
from codex_counsel.delegate.shadow import Shadow, git_environment
from codex_counsel.delegate.states import States
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import CommandRun, EndedRun, Steps
from codex_counsel.system.files import read_json, write_atomically
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean

HOW_TO_GO_ON = (
    "It runs in a fresh copy of the repository. Of what git ignores, only .venv, venv and node_modules can be "
    "read; what else it needs, its command must make, and the network is open only with `network`"
)


@dataclass(frozen=True)
class _Task:
    """What is to be checked: the tree objects `returned` and `base` of the shadow."""

    command: str
    states: States
    returned: str
    base: str


def follow_up(ended: EndedRun, steps: Steps) -> None:
    """Capture the tree, then run the check on it and on its start. A check that cannot be run costs nothing else."""
    spec = DelegateSpec.parse(ended.details["delegate"])
    if spec.check is None:
        return
    if ended.meta.budget_reached:
        reason = "the run used up its tokens before it was done"
        _store(ended.directory, _not_run(spec.check, reason))
        return
    try:
        task = _task_of(spec, spec.check, ended, steps)
        check = result_of(task.states.run(task.returned, task.command))
    except (CounselError, OSError) as error:
        reason = f"the state to be checked could not be made: {error}"
        _store(ended.directory, _not_run(spec.check, reason))
        return
    _store(ended.directory, check)
    if spec.check_base and not steps.end_reason:
        _add_base(check, task)
        _store(ended.directory, check)


def _task_of(spec: DelegateSpec, command: str, ended: EndedRun, steps: Steps) -> _Task:
    """Raises CounselError, and OSError for a diff that cannot be read."""
    result = captured(spec, ended.scratch, ended.directory)
    if result is None or result.lost:
        raise CounselError(Code.WORKTREE_FAILED, "the work could not be captured")
    env = git_environment(os.environ, Path(spec.workspace))
    shadow = Shadow(ended.scratch, spec.git_timeout, env)
    states = States.of(shadow, steps, spec.prefix, Path(spec.workspace))
    base = str(read_json(ended.directory / SEED)["base_tree"])
    patch = (ended.directory / "diff.patch").read_bytes()
    returned = shadow.apply_to_tree(base, patch)
    return _Task(command, states, returned, base)


def _add_base(check: CheckResult, task: _Task) -> None:
    """Run the check on what the task began with, and judge the other run by that."""
    if task.returned == task.base:
        check.base_exit = check.exit
        check.base_status = check.status
    else:
        # Without it only the comparison is missing.
        with contextlib.suppress(CounselError, OSError):
            run = task.states.run(task.base, task.command)
            check.base_exit = run.exit
            check.base_status = outcome_of(run).status
    judge_by_base(check)


def judge_by_base(check: CheckResult) -> None:
    """Judge a check that could not begin by what is known of the base: only the change can have prevented it there."""
    if check.status != "not_started":
        return
    if check.base_status in ("passed", "failed"):
        check.status = "failed"
        check.reason = f"since the change it cannot begin: {check.reason}"
    else:
        check.reason = f"{check.reason}. {HOW_TO_GO_ON}"


def result_of(run: CommandRun) -> CheckResult:
    """The result of a run, without what is known of the base."""
    outcome = outcome_of(run)
    return CheckResult(
        command=_shown(run.command),
        status=outcome.status,
        reason=outcome.reason or None,
        exit=run.exit,
        seconds=round(run.seconds, 3),
        output_tail=outcome.tail,
    )


def _not_run(command: str, reason: str) -> CheckResult:
    return CheckResult(
        command=_shown(command), status="not_run", reason=masked_line(reason)
    )


def _shown(command: str) -> str:
    masked, _ = mask(clean(command))
    return masked


def _store(directory: Path, check: CheckResult) -> None:
    # On a full disk the diff still counts; the check is then told as not run.
    with contextlib.suppress(OSError):
        write_atomically(directory / CHECK, json.dumps(asdict(check)))
