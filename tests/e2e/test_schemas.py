"""What the tools really return matches the files in `schema/`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from codex_counsel.contract.catalogue import TOOLS
from codex_counsel.contract.envelope import EnvelopeDict, failed
from codex_counsel.contract.request import (
    Apply,
    DelegateDryRun,
    Findings,
    JobCancel,
    JobConsume,
    JobList,
    JobResult,
    JobStatus,
    Status,
    parse,
)
from codex_counsel.errors import CounselError
from codex_counsel.loopback import Loopback, patch, say, usage_limit
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, consult
from tests.e2e.delegation import delegate
from tests.reviews import dry_run, reply, review, review_plan

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

SCHEMAS = Path(__file__).parents[2] / "schema"
FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-line_1 = 1\n+line_1 = 11\n*** End Patch\n"
)


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / name).read_text("utf-8")))


def test_what_ended_runs_return_are_results(world: World, model: Model) -> None:
    world.repository.begin_changed()
    model([say("It is fine.")])
    answered = consult(world.counsel())
    model([say(reply({"severity": "high"}, verdict="fail"))])
    reviewed = review(world.counsel())
    model([say(reply({"section": "Step 1", "file": None, "line": None}))])
    planned = review_plan(world.counsel(), plan="Step 1: begin.")
    model([FIX, say("Done.")])
    delegated = delegate(world)
    model([usage_limit()])
    failure = consult(world.counsel())

    results = [answered, reviewed, planned, delegated, failure]
    for wire in results:
        validator("envelope.json").validate(wire)
        validator("result.json").validate(wire)
    assert failure["error"]["code"] == "usage_limit"
    for finding in (*reviewed["findings"], *planned["findings"]):
        validator("finding.json").validate(finding)


def test_what_the_other_tools_return_are_envelopes(world: World, model: Model) -> None:
    world.repository.begin_changed()
    model([FIX, say("Done.")])
    counsel = world.counsel()
    job_id = delegate(world)["meta"]["job_id"]
    for wire in free_tools(counsel, job_id):
        validator("envelope.json").validate(wire)
        assert not validator("result.json").is_valid(wire) or wire["tool"] in RUNS


RUNS = {tool.request.tool for tool in TOOLS if tool.runs_model}


def free_tools(counsel: Counsel, job_id: str) -> list[EnvelopeDict]:
    """The envelope of each tool that runs no model, of a call that works or of one that fails."""
    calls: list[Callable[[], EnvelopeDict]] = [
        lambda: counsel.status(parse(Status, {})),
        counsel.models,
        counsel.capabilities,
        lambda: dry_run(counsel),
        lambda: counsel.delegate_dry_run(parse(DelegateDryRun, {"task": "Mend it"})),
        lambda: counsel.findings(parse(Findings, {}), "somebody"),
        lambda: counsel.job_list(parse(JobList, {})),
        lambda: counsel.job_status(parse(JobStatus, {"job_id": job_id})),
        lambda: counsel.read_result(parse(JobResult, {"job_id": job_id})),
        lambda: counsel.cancel(parse(JobCancel, {"job_id": job_id})),
        lambda: counsel.apply(parse(Apply, {"job_id": job_id, "check_only": True})),
        lambda: counsel.read_result(parse(JobConsume, {"job_id": job_id})),
        lambda: counsel.job_status(parse(JobStatus, {"job_id": "0" * 32})),
    ]
    return [_called(call) for call in calls]


def _called(call: Callable[[], EnvelopeDict]) -> EnvelopeDict:
    try:
        return call()
    except CounselError as error:
        return failed("codex_job_status", error).wire()
