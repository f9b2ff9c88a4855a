"""A proof after Codex's turn: the test is captured, looked at, and run by us on several states of the repository.

What came of it is stored in `proof.json` of the job directory. Where the worker is
killed before, there is none.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from codex_counsel.contract.envelope import Proof
from codex_counsel.delegate.check_outcome import outcome_of
from codex_counsel.delegate.conclude import captured
from codex_counsel.delegate.record import DelegateResult, DelegateSpec
from codex_counsel.delegate.set_up import SEED
from codex_counsel.delegate.shadow import Shadow, git_environment
from codex_counsel.delegate.states import States
from codex_counsel.errors import CounselError
from codex_counsel.kind import EndedRun, Steps
from codex_counsel.proof import tree_objects
from codex_counsel.proof.judgement import Judgement, judge
from codex_counsel.proof.new_files import NewFile, objection
from codex_counsel.proof.record import Assignments, ProofRecord
from codex_counsel.proof.reply import parse_reply
from codex_counsel.proof.runs import ProofRuns
from codex_counsel.system.files import read_json
from codex_counsel.system.redact import mask


class NoTestError(Exception):
    """There is nothing to be run; the message says why."""


def follow_up(ended: EndedRun, steps: Steps) -> None:
    """Run the test and store what came of it. What prevents that is stored as an inconclusive proof. Raises OSError."""
    proof = Proof(status="inconclusive", reason="", job_id=ended.directory.name)
    try:
        record = _record(ended, steps, proof)
    except NoTestError as refusal:
        record = ProofRecord(proof=replace(proof, reason=str(refusal)))
    except (CounselError, OSError) as error:
        reason = f"the states to be compared could not be made: {error}"
        record = ProofRecord(proof=replace(proof, reason=reason))
    record.store(ended.directory)


def _record(ended: EndedRun, steps: Steps, proof: Proof) -> ProofRecord:
    """Raises NoTestError, CounselError and OSError. The patch is put into `proof` as soon as it is known."""
    spec = DelegateSpec.parse(ended.details["delegate"])
    assignments = Assignments.load(Path(spec.seed or ""))
    assignment = assignments.of_job(ended.directory.name) if assignments else None
    if assignment is None:
        raise NoTestError("the review has no record of what was to be proven")
    result = captured(spec, ended.scratch, ended.directory)
    if result is None or result.lost:
        raise NoTestError("the test could not be captured")
    reply = parse_reply(ended.answer or "")
    if reply is None:
        raise NoTestError("the reply is not the JSON that was asked for")

    env = git_environment(os.environ, Path(spec.workspace))
    shadow = Shadow(ended.scratch, spec.git_timeout, env)
    reviewed = str(read_json(ended.directory / SEED)["base_tree"])
    patch = _checked_patch(result, shadow, reviewed, ended.directory)
    proof.patch = mask(patch.decode("utf-8", "replace"))[0]
    if reply.claim == "untestable":
        raise NoTestError(f"no test can tell: {reply.explanation}")
    if reply.command is None:
        raise NoTestError("no usable command was named that runs the test")
    proof.command = reply.command

    names = tuple(str(row["path"]) for row in result.files)
    states = States.of(shadow, steps, spec.prefix, Path(spec.workspace))
    runs = ProofRuns(states, reviewed, patch, assignment, reply, reply.command, names)
    judgement = judge(runs.evidence())
    suggestion = None
    if judgement.other == "patched" and assignment.suggestion is None:
        suggestion = runs.suggestion
    return ProofRecord(proof=_completed(proof, judgement, runs), suggestion=suggestion)


def _checked_patch(
    result: DelegateResult, shadow: Shadow, reviewed: str, directory: Path
) -> bytes:
    """The patch that adds the test, looked at before anything of it is run. Raises NoTestError."""
    if result.partial or result.planted:
        raise NoTestError("what was left in the tree is more than a test")
    # `files` is cut where `names` is not.
    if len(result.files) < len(result.names):
        raise NoTestError("the test is too large: more than 500 files")
    files = []
    for row, (name, _, mode) in zip(result.files, result.names, strict=True):
        is_text = row.get("added") is not None
        path = str(name).encode("latin-1")
        files.append(NewFile(path, str(row["status"]), str(mode), is_text))
    patch = (directory / "diff.patch").read_bytes()
    present = tree_objects.names_of(shadow, reviewed)
    reason = objection(files, len(patch), present)
    if reason:
        raise NoTestError(reason)
    return patch


def _completed(proof: Proof, judgement: Judgement, runs: ProofRuns) -> Proof:
    first = runs.head[0] if runs.head else None
    other = None
    if judgement.other:
        other = runs.others[judgement.other]
    return replace(
        proof,
        status=judgement.status,
        reason=judgement.reason,
        exit_head=first.exit if first else None,
        exit_other=other.exit if other else None,
        other=judgement.other,
        output_tail=outcome_of(first).tail if first else None,
    )
