"""One function per verb: arguments to request, service, rendering, exit code."""

from __future__ import annotations

import argparse
import json
import select
import sys
import time
from pathlib import Path
from typing import Any

from codex_counsel.cli.formats import render
from codex_counsel.cli.render import ProgressLine, show
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    DelegateDryRun,
    DryRun,
    JobCancel,
    JobList,
    ReviewChanges,
    ReviewPlan,
    Status,
    parse,
)
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.errors import CATALOG, INTERRUPTED, Code, CounselError
from codex_counsel.jobs.launcher import Handle
from codex_counsel.services.counsel import Counsel

_OWN = {"name", "verb", "json", "background", "context_file", "wait", "live", "dry_run", "format", "fail_on", "sweep"}


def consult(arguments: argparse.Namespace) -> int:
    given = _given(arguments)
    given["question"] = _standard_input() if arguments.question == "-" else arguments.question
    if arguments.context_file:
        given["extra_context"] = _file_text(arguments.context_file, "--context-file")
    if arguments.output_schema:
        given["output_schema"] = _json_file(arguments.output_schema)
    request = parse(Consult, given)
    counsel = Counsel()
    handle = counsel.consult(request, background=arguments.background)
    if arguments.background:
        return show(counsel.hand_over(handle), as_json=arguments.json)
    return _finish(counsel, handle, as_json=arguments.json)


def review(arguments: argparse.Namespace) -> int:
    given = _reviewer_given(arguments)
    if arguments.dry_run:
        return show(Counsel().dry_run(parse(DryRun, {**given, "detail": "summary"})), as_json=arguments.json)
    request = parse(ReviewChanges, given)
    counsel = Counsel()
    return _reviewed(counsel, counsel.review_changes(request, background=arguments.background), arguments)


def plan(arguments: argparse.Namespace) -> int:
    given = _reviewer_given(arguments)
    if arguments.plan_path == "-":
        given["plan"] = _standard_input()
        del given["plan_path"]
    request = parse(ReviewPlan, given)
    counsel = Counsel()
    return _reviewed(counsel, counsel.review_plan(request, background=arguments.background), arguments)


def delegate(arguments: argparse.Namespace) -> int:
    given = _reviewer_given(arguments)
    given["task"] = _standard_input() if arguments.task == "-" else arguments.task
    counsel = Counsel()
    if arguments.dry_run:
        return show(counsel.delegate_dry_run(parse(DelegateDryRun, given)), as_json=arguments.json)
    handle = counsel.delegate(parse(Delegate, given), background=arguments.background)
    if arguments.background:
        return show(counsel.hand_over(handle), as_json=arguments.json)
    return _finish(counsel, handle, as_json=arguments.json)


def apply(arguments: argparse.Namespace) -> int:
    return show(Counsel().apply(parse(Apply, _given(arguments))), as_json=arguments.json)


def _reviewer_given(arguments: argparse.Namespace) -> dict[str, Any]:
    arguments.json = arguments.json or getattr(arguments, "format", None) == "json"
    given = _given(arguments)
    if arguments.context_file:
        given["extra_context"] = _file_text(arguments.context_file, "--context-file")
    return given


def _reviewed(counsel: Counsel, handle: Handle, arguments: argparse.Namespace) -> int:
    """Print the review in its format; 1 when it is not clean."""
    if arguments.background:
        return show(counsel.hand_over(handle), as_json=arguments.json)
    wire = _awaited(counsel, handle)
    if wire is None:
        return INTERRUPTED
    if not wire["ok"]:
        return _told(counsel, handle, wire, as_json=arguments.json)
    print(render(wire, "json" if arguments.json else arguments.format), flush=True)
    counsel.deliver(handle, wire)
    return 0 if clean_enough(wire, arguments.fail_on) else 1


def clean_enough(wire: EnvelopeDict, fail_on: str) -> bool:
    """No finding at or above the severity, and a verdict that could be reached.

    `unknown` is not clean, nor is `fail`, however small its findings are.
    """
    if fail_on == "never":
        return True
    found, grave = wire.get("findings", ()), SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return wire["verdict"] not in ("unknown", "fail") and not any(finding["severity"] in grave for finding in found)


def _finish(counsel: Counsel, handle: Handle, *, as_json: bool) -> int:
    wire = _awaited(counsel, handle)
    return INTERRUPTED if wire is None else _told(counsel, handle, wire, as_json=as_json)


def _told(counsel: Counsel, handle: Handle, wire: EnvelopeDict, *, as_json: bool) -> int:
    """Print a result; only then it counts as delivered."""
    shown = show(wire, as_json=as_json)
    sys.stdout.flush()
    counsel.deliver(handle, wire)
    return _exit_code(shown, wire)


def _awaited(counsel: Counsel, handle: Handle) -> EnvelopeDict | None:
    """Wait with a progress line; an interrupt ends the run before this process ends, and is None."""
    try:
        wire = follow(handle)
    except KeyboardInterrupt:
        handle.release()
        counsel.store.cancel(handle.job)
        print("interrupted: the run was cancelled", file=sys.stderr)
        return None
    return wire


def follow(handle: Handle) -> EnvelopeDict:
    """The terminal envelope, progress shown on a terminal meanwhile."""
    with ProgressLine() as line:
        while (wire := handle.collect()) is None:
            if handle.descriptor >= 0:
                select.select([handle.descriptor], [], [], 1.0)
            else:
                time.sleep(0.1)
            line.update(handle.job)
    return wire


def _exit_code(shown: int, wire: EnvelopeDict) -> int:
    return CATALOG[Code(wire["error"]["code"])].exit_code if "error" in wire else shown


def status(arguments: argparse.Namespace) -> int:
    wire = Counsel().status(parse(Status, _given(arguments)))
    show(wire, as_json=arguments.json)
    return 0 if wire["data"]["usable"] else 3


def models(arguments: argparse.Namespace) -> int:
    return show(Counsel().models(), as_json=arguments.json)


def jobs(arguments: argparse.Namespace) -> int:
    counsel = Counsel()
    if arguments.sweep:
        count = counsel.sweep()
        print(f"removed {count} tree{'' if count == 1 else 's'} of killed runs", file=sys.stderr)
    return show(counsel.job_list(parse(JobList, _given(arguments))), as_json=arguments.json)


def result(arguments: argparse.Namespace) -> int:
    """All pages joined: a terminal has no budget."""
    counsel = Counsel()
    job = counsel.store.job(arguments.job_id)
    wire = follow(Handle(job)) if arguments.wait else job.outcome() or job.running().wire()
    shown = show(wire, as_json=arguments.json)
    sys.stdout.flush()
    if wire["status"] in ("completed", "failed", "cancelled"):
        job.mark_delivered()
    return _exit_code(shown, wire)


def cancel(arguments: argparse.Namespace) -> int:
    wire = Counsel().job_cancel(parse(JobCancel, {"job_id": arguments.job_id}))
    return show(wire, as_json=arguments.json)


def demo(arguments: argparse.Namespace) -> int:
    from codex_counsel.cli.demo import demonstrate

    return demonstrate(live=arguments.live)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that were used, as arguments of the request."""
    given = {name: value for name, value in vars(arguments).items() if name not in _OWN and value not in (None, [])}
    if "workspace_root" in given:
        given["workspace_root"] = str(Path(given["workspace_root"]).absolute())
    if given.get("plan_path") not in (None, "-"):
        given["plan_path"] = str(Path(given["plan_path"]).absolute())
    for name in ("images", "extra_roots"):
        if name in given:
            given[name] = [str(Path(path).absolute()) for path in given[name]]
    return given


def _standard_input() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _file_text(path: str, flag: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError as error:
        raise CounselError(Code.INVALID_ARGUMENTS, f"{flag}: {path}: {error.strerror}") from None


def _json_file(path: str) -> Any:
    try:
        return json.loads(_file_text(path, "--output-schema"))
    except ValueError as error:
        raise CounselError(Code.INVALID_ARGUMENTS, f"--output-schema: {path} is not JSON: {error}") from None
