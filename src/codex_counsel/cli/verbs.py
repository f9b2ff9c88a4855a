"""One function per verb: arguments to request, service, rendering, exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from codex_counsel.cli.progress import ProgressLine
from codex_counsel.cli.render import exit_code, parse_envelope, print_review, show
from codex_counsel.contract.envelope import Envelope, EnvelopeDict
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
    ToolRequest,
    argument_names,
    parse,
    validate,
)
from codex_counsel.contract.vocabulary import TERMINAL, Severity, severities_from
from codex_counsel.errors import INTERRUPTED, UNAVAILABLE, Code, CounselError
from codex_counsel.services import results
from codex_counsel.system.json_values import Json, JsonObject

if TYPE_CHECKING:
    from codex_counsel.services.counsel import Counsel, Handle

PATH_ARGUMENTS = ("workspace_root", "plan_path")
PATH_LIST_ARGUMENTS = ("images", "extra_roots")


def _counsel() -> Counsel:
    # The verbs which only read jobs do without it, and so without Codex and git.
    from codex_counsel.services.counsel import Counsel

    # In a terminal the current directory is meant. This variable is for the MCP server,
    # whose own directory says nothing, and for the gate.
    env = {
        name: value
        for name, value in os.environ.items()
        if name != "CLAUDE_PROJECT_DIR"
    }
    return Counsel(env)


# --- verbs that run the model


def _consult(arguments: argparse.Namespace) -> int:
    values = _run_values(Consult, arguments)
    values["question"] = _text_or_stdin(arguments.question)
    if arguments.output_schema:
        values["output_schema"] = _read_json(arguments.output_schema)
    request = parse(Consult, values)

    counsel = _counsel()
    handle = counsel.consult(request, background=arguments.background)
    return _print_result(counsel, handle, arguments)


def _review(arguments: argparse.Namespace) -> int:
    if arguments.format == "json":
        arguments.json = True
    values = _run_values(ReviewChanges, arguments)
    if arguments.dry_run:
        request = parse(DryRun, {**values, "detail": "summary"})
        return show(_counsel().dry_run(request), as_json=arguments.json)

    review = parse(ReviewChanges, values)
    counsel = _counsel()
    handle = counsel.review_changes(review, background=arguments.background)
    return _print_review(counsel, handle, arguments)


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.format == "json":
        arguments.json = True
    values = _run_values(ReviewPlan, arguments)
    if arguments.plan_path == "-":
        values["plan"] = _read_stdin()
        del values["plan_path"]
    request = parse(ReviewPlan, values)

    counsel = _counsel()
    handle = counsel.review_plan(request, background=arguments.background)
    return _print_review(counsel, handle, arguments)


def _delegate(arguments: argparse.Namespace) -> int:
    values = _run_values(Delegate, arguments)
    values["task"] = _text_or_stdin(arguments.task)
    counsel = _counsel()
    if arguments.dry_run:
        return show(
            counsel.delegate_dry_run(parse(DelegateDryRun, values)),
            as_json=arguments.json,
        )

    handle = counsel.delegate(parse(Delegate, values), background=arguments.background)
    return _print_result(counsel, handle, arguments)


def _print_result(
    counsel: Counsel, handle: Handle, arguments: argparse.Namespace
) -> int:
    """Print the result, or with --background where to fetch it; returns the exit code."""
    if arguments.background:
        return show(counsel.detach(handle), as_json=arguments.json)
    wire = _wait(counsel, handle)
    if wire is None:
        return INTERRUPTED
    return _print_and_deliver(counsel, handle, wire, as_json=arguments.json)


def _print_review(
    counsel: Counsel, handle: Handle, arguments: argparse.Namespace
) -> int:
    """As `_print_result`, in the format that was asked for; 1 for a review that is not clean."""
    if arguments.background:
        return show(counsel.detach(handle), as_json=arguments.json)
    wire = _wait(counsel, handle)
    if wire is None:
        return INTERRUPTED
    if not wire["ok"]:
        return _print_and_deliver(counsel, handle, wire, as_json=arguments.json)

    review = parse_envelope(wire)
    if arguments.json:
        show(wire, as_json=True)
    else:
        print_review(review, arguments.format)
    sys.stdout.flush()
    counsel.deliver(handle, wire)
    if is_clean(review, arguments.fail_on):
        return 0
    return 1


def is_clean(review: Envelope, fail_on: Severity | Literal["never"]) -> bool:
    """Whether there is no finding at or above the severity, and a verdict other than `fail` and `unknown`."""
    if fail_on == "never":
        return True
    if review.verdict in ("unknown", "fail"):
        return False
    grave = severities_from(fail_on)
    return not any(finding.severity in grave for finding in review.findings or ())


def _wait(counsel: Counsel, handle: Handle) -> EnvelopeDict | None:
    """The result, with a progress line meanwhile. An interrupt ends the run before this process, and is None."""
    try:
        with ProgressLine() as line:
            return counsel.follow(handle, line.update)
    except KeyboardInterrupt:
        counsel.interrupt(handle)
        print("interrupted: the run was cancelled", file=sys.stderr)
        return None


def _print_and_deliver(
    counsel: Counsel, handle: Handle, wire: EnvelopeDict, *, as_json: bool
) -> int:
    show(wire, as_json=as_json)
    # What could not be printed is not delivered: this flush may fail.
    sys.stdout.flush()
    counsel.deliver(handle, wire)
    return exit_code(wire)


# --- verbs that do not


def _apply(arguments: argparse.Namespace) -> int:
    request = parse(Apply, _values(Apply, arguments))
    return show(_counsel().apply(request), as_json=arguments.json)


def _status(arguments: argparse.Namespace) -> int:
    request = parse(Status, _values(Status, arguments))
    wire = _counsel().status(request)
    show(wire, as_json=arguments.json)
    if wire["data"]["usable"]:
        return 0
    return UNAVAILABLE


def _models(arguments: argparse.Namespace) -> int:
    return show(_counsel().models(), as_json=arguments.json)


# --- verbs that only read jobs: they import neither pydantic nor what is needed to run Codex


def _jobs(arguments: argparse.Namespace) -> int:
    request = validate(JobList(**_values(JobList, arguments)))
    if arguments.sweep:
        count = _counsel().sweep()
        plural = "" if count == 1 else "s"
        print(f"removed {count} tree{plural} of killed runs", file=sys.stderr)
    return show(results.job_list(results.open_store(), request), as_json=arguments.json)


def _result(arguments: argparse.Namespace) -> int:
    """The whole result: a terminal has no byte budget."""
    store = results.open_store()
    if arguments.wait:
        handle = results.join(store, arguments.job_id)
        with ProgressLine() as line:
            wire = results.follow(handle, line.update)
    else:
        wire = results.whole_result(store, arguments.job_id)

    show(wire, as_json=arguments.json)
    # What could not be printed is not delivered: this flush may fail.
    sys.stdout.flush()
    if wire["status"] in TERMINAL:
        results.mark_received(store, arguments.job_id)
    return exit_code(wire)


def _cancel(arguments: argparse.Namespace) -> int:
    request = validate(JobCancel(job_id=arguments.job_id))
    store = results.open_store()
    wire = results.cancel(store, request)
    results.acknowledge(store, request, wire)
    return show(wire, as_json=arguments.json)


# --- from the command line to arguments of a request


def _values(request: type[ToolRequest], arguments: argparse.Namespace) -> JsonObject:
    """The arguments of the request that were used, paths made absolute."""
    values: JsonObject = {}
    for name in argument_names(request):
        value = getattr(arguments, name, None)
        if value is None or value == []:
            continue
        if name in PATH_ARGUMENTS and value != "-":
            value = str(Path(value).absolute())
        if name in PATH_LIST_ARGUMENTS:
            value = [str(Path(path).absolute()) for path in value]
        values[name] = value
    return values


def _run_values(
    request: type[ToolRequest], arguments: argparse.Namespace
) -> JsonObject:
    values = _values(request, arguments)
    if arguments.context_file:
        values["extra_context"] = _read_file(arguments.context_file, "--context-file")
    return values


def _text_or_stdin(text: str) -> str:
    if text == "-":
        return _read_stdin()
    return text


def _read_stdin() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _read_file(path: str, flag: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError as error:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"{flag}: {path}: {error.strerror}"
        ) from None


def _read_json(path: str) -> Json:
    try:
        return json.loads(_read_file(path, "--output-schema"))
    except ValueError as error:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"--output-schema: {path} is not JSON: {error}"
        ) from None


HANDLERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "status": _status,
    "consult": _consult,
    "review": _review,
    "plan": _plan,
    "delegate": _delegate,
    "apply": _apply,
    "models": _models,
    "jobs": _jobs,
    "result": _result,
    "cancel": _cancel,
}
