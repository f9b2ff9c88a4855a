"""The check of a delegated task: the caller's command, run by us on what was returned and on what it began with.

It comes after the work is captured, so nothing that it makes is part of the diff, and
what it says holds for the very diff that is returned. The file `check.json` of the job
directory has what came of it. Where a worker was killed before, there is none: the check
counts as not run.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

from codex_counsel.contract.envelope import CheckResult
from codex_counsel.delegate.check_outcome import outcome_of
from codex_counsel.delegate.conclude import captured
from codex_counsel.delegate.record import CHECK, DelegateSpec
from codex_counsel.delegate.set_up import SEED
from codex_counsel.delegate.shadow import Shadow, git_environment
from codex_counsel.delegate.states import States
from codex_counsel.errors import CounselError
from codex_counsel.kind import CommandRun, EndedRun, Steps
from codex_counsel.system.files import read_json, write_atomically


def follow_up(ended: EndedRun, steps: Steps) -> None:
    """Capture the tree, then run the check on it and on its start. A check that cannot be run costs nothing else."""
    spec = DelegateSpec.parse(ended.details["delegate"])
    if spec.check is None:
        return
    result = captured(spec, ended.scratch, ended.directory)
    if result is None or result.lost:
        return
    try:
        check = _run(spec, spec.check, ended, steps)
    except (CounselError, OSError) as error:
        reason = f"the state to be checked could not be made: {error}"
        check = CheckResult(command=spec.check, status="not_run", reason=reason)
    write_atomically(ended.directory / CHECK, json.dumps(asdict(check)))


def _run(
    spec: DelegateSpec, command: str, ended: EndedRun, steps: Steps
) -> CheckResult:
    env = git_environment(os.environ, Path(spec.workspace))
    shadow = Shadow(ended.scratch, spec.git_timeout, env)
    states = States.of(shadow, steps, spec.prefix)
    base = str(read_json(ended.directory / SEED)["base_tree"])
    patch = (ended.directory / "diff.patch").read_bytes()
    returned = shadow.apply_to_tree(base, patch)

    run = states.run(returned, command)
    check = result_of(run)
    base_run = run
    if returned != base:
        base_run = states.run(base, command)
    of_base = outcome_of(base_run)
    check.base_exit = base_run.exit
    check.base_status = of_base.status
    return check


def result_of(run: CommandRun) -> CheckResult:
    """The result of a run, without what is known of the base."""
    outcome = outcome_of(run)
    return CheckResult(
        command=run.command,
        status=outcome.status,
        reason=outcome.reason or None,
        exit=run.exit,
        seconds=round(run.seconds, 3),
        output_tail=outcome.tail,
    )
