"""One function per verb: arguments to request, service, rendering, exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.cli import pre_commit
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import DOCUMENTS, Output
from codex_counsel.contract.envelope import EnvelopeDict, Meta, failed
from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    DelegateDryRun,
    DryRun,
    Findings,
    JobCancel,
    JobList,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
    Status,
    ToolRequest,
    Transfer,
    argument_names,
    parse,
    validate,
)
from codex_counsel.contract.vocabulary import TERMINAL, FindingState
from codex_counsel.errors import DONE, FOUND, UNAVAILABLE, USAGE, Code, CounselError
from codex_counsel.services import checking, choosing, results, usage
from codex_counsel.services.checking import Bar, exit_code
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.jobs.store import Store
    from codex_counsel.jobs.summary import Row
    from codex_counsel.services.counsel import Counsel, Handle

PATH_ARGUMENTS = ("workspace_root", "plan_path")
DOES_NOT_APPLY = (Code.APPLY_CONFLICT, Code.POLICY_REFUSED, Code.ALREADY_APPLIED)
"""What can be wrong with a diff, and not with the call."""
PATH_LIST_ARGUMENTS = ("images", "extra_roots")


def _counsel() -> Counsel:
    LINE.say("getting ready …")
    # The verbs which only read jobs do without it, and so without Codex and git.
    from codex_counsel.services.counsel import Counsel

    return Counsel(_environment())


def _environment() -> dict[str, str]:
    """That of this process. In a terminal the current directory is meant.

    The variable is for the MCP server, whose own directory says nothing, and for the
    gate.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name != "CLAUDE_PROJECT_DIR"
    }


# --- verbs that run the model


def _consult(arguments: argparse.Namespace) -> int:
    Output.of(arguments).check(documents=())
    values = _consult_values(arguments)
    counsel = _counsel()
    request = parse(Consult, values)
    handle = counsel.consult(request, background=arguments.background)
    return _finish(counsel, handle, arguments)


def _review(arguments: argparse.Namespace) -> int:
    output = Output.of(arguments)
    output.check()
    values = _run_values(ReviewChanges, arguments)
    is_push = values.get("scope") == "range" and "range" not in values
    pushed = pre_commit.pushed_range(os.environ) if is_push else None
    if pushed is None:
        return _review_of(values, arguments, output)

    with pre_commit.way_on_if_stopped() as ending:
        ending.code = _review_of({**values, "range": pushed}, arguments, output)
    return ending.code


def _review_of(
    values: JsonObject, arguments: argparse.Namespace, output: Output
) -> int:
    counsel = _counsel()
    if arguments.dry_run:
        request = parse(DryRun, values)
        output.show(counsel.dry_run(request))
        return DONE

    review = parse(ReviewChanges, values)
    handle = counsel.review_changes(review, background=arguments.background)
    return _finish(counsel, handle, arguments)


def _plan(arguments: argparse.Namespace) -> int:
    Output.of(arguments).check()
    values = _plan_values(arguments)
    counsel = _counsel()
    request = parse(ReviewPlan, values)
    handle = counsel.review_plan(request, background=arguments.background)
    return _finish(counsel, handle, arguments)


def _delegate(arguments: argparse.Namespace) -> int:
    output = Output.of(arguments)
    output.check(documents=())
    values = _delegate_values(arguments)
    counsel = _counsel()
    if arguments.dry_run:
        preview = parse(DelegateDryRun, values)
        output.show(counsel.delegate_dry_run(preview))
        return DONE

    request = parse(Delegate, values)
    handle = counsel.delegate(request, background=arguments.background)
    return _finish(counsel, handle, arguments)


def _pack(arguments: argparse.Namespace) -> int:
    """Write the request of another verb to a file."""
    output = Output.of(arguments)
    request_type: type[RunRequest]
    match arguments.packed_verb:
        case "consult":
            request_type, values = Consult, _consult_values(arguments)
        case "review":
            request_type, values = ReviewChanges, _run_values(ReviewChanges, arguments)
        case "plan":
            request_type, values = ReviewPlan, _plan_values(arguments)
        case _:
            request_type, values = Delegate, _delegate_values(arguments)
    LINE.say("packing …")
    # The other verbs do without it.
    from codex_counsel.cli import pack

    request = parse(request_type, values)
    return pack.run(arguments, output, request, _environment())


def _finish(counsel: Counsel, handle: Handle, arguments: argparse.Namespace) -> int:
    """Print the result, or with --background where to fetch it; returns the exit code."""
    output = Output.of(arguments)
    _warn_of_settings(counsel, arguments)
    if arguments.background:
        output.show(counsel.detach(handle))
        return DONE

    # The verbs that only read jobs do without it.
    from codex_counsel.cli.waiting import wait

    wire = wait(counsel, handle)
    output.show(wire)
    if wire["status"] in TERMINAL:
        counsel.deliver(handle, wire)
    return exit_code(wire, _bar(arguments))


def _bar(arguments: argparse.Namespace) -> Bar:
    """Which findings decide. Verbs that review nothing have not its flags."""
    return Bar(
        fail_on=getattr(arguments, "fail_on", None),
        new_only=getattr(arguments, "new_only", False),
    )


def _warn_of_settings(counsel: Counsel, arguments: argparse.Namespace) -> None:
    """Name on stderr the settings that the run does not use as they were given."""
    if arguments.quiet:
        return
    LINE.erase()
    for warning in counsel.settings.warnings:
        print(f"note: {visible(warning)}", file=sys.stderr)


# --- verbs that do not


def _apply(arguments: argparse.Namespace) -> int:
    """Apply, check or undo the diff of the named delegate, or of the newest one that fits."""
    values = _values(Apply, arguments)
    values["job_id"] = _chosen_diff(arguments)
    # The files with their numbers of lines, and with what needs a look.
    stored = results.whole_result(results.open_store(), values["job_id"])
    output = Output.of(arguments)
    counsel = _counsel()
    try:
        wire = counsel.apply(parse(Apply, values))
    except CounselError as error:
        if error.code not in DOES_NOT_APPLY:
            raise
        if arguments.check_only:
            error.message = f"This diff would not be applied: {error.message}"
        wire = failed(Apply.tool, error, Meta(job_id=values["job_id"])).wire()
        # To a question, "no" is an answer.
        output.show(wire, is_answer=arguments.check_only)
        if error.code == Code.ALREADY_APPLIED and not arguments.check_only:
            return USAGE
        return FOUND
    if "files" in stored:
        wire = {**wire, "files": stored["files"]}
    output.show(wire)
    return DONE


def _chosen_diff(arguments: argparse.Namespace) -> str:
    store = results.open_store()
    if arguments.undo:
        return _chosen_job(
            store,
            arguments,
            lambda row: choosing.has_applied_diff(store, row),
            "applied diff",
        )
    return _chosen_job(
        store,
        arguments,
        lambda row: choosing.has_unapplied_diff(store, row),
        "delegate with a diff that is not applied",
    )


def _status(arguments: argparse.Namespace) -> int:
    request = parse(Status, _values(Status, arguments))
    wire = _counsel().status(request)
    Output.of(arguments).show(wire)
    if wire["data"]["usable"]:
        return DONE
    return UNAVAILABLE


def _models(arguments: argparse.Namespace) -> int:
    Output.of(arguments).show(_counsel().models())
    return DONE


def _transfer(arguments: argparse.Namespace) -> int:
    values = _values(Transfer, arguments)
    values["transcript_path"] = _transcript(arguments)
    counsel = _counsel()
    Output.of(arguments).show(counsel.transfer(parse(Transfer, values)))
    return DONE


def _transcript(arguments: argparse.Namespace) -> str:
    """The argument of the request for a session that is named by its id or file; without one the newest."""
    # It imports what the other verbs do without.
    from codex_counsel.claude import session_import

    named: str | None = arguments.transcript_path
    if named is None:
        return str(session_import.newest(_directory(arguments), os.environ))
    if os.sep in named or Path(named).is_file():
        return str(Path(named).absolute())
    return named.removesuffix(session_import.SUFFIX) + session_import.SUFFIX


# --- verbs that only read jobs: they import neither pydantic nor what is needed to run Codex


def _jobs(arguments: argparse.Namespace) -> int:
    """The runs of this directory, or of all."""
    output = Output.of(arguments)
    if arguments.sweep:
        count = _counsel().sweep()
        plural = "" if count == 1 else "s"
        LINE.erase()
        print(f"removed {count} tree{plural} of killed runs", file=sys.stderr)

    values = _values(JobList, arguments)
    if arguments.all:
        values.pop("workspace_root", None)
    else:
        values["workspace_root"] = str(_directory(arguments))
    store = results.open_store()
    wire = results.job_list(store, validate(JobList(**values)))
    if output.format == "text" and not wire["data"]["jobs"]:
        _say_that_there_are_none(store, values)
        return DONE
    output.show(wire)
    if output.format == "text" and wire["meta"].get("truncated"):
        print("there are more: --limit N shows up to 200", file=sys.stderr)
    return DONE


def _say_that_there_are_none(store: Store, values: JsonObject) -> None:
    if "workspace_root" not in values:
        print("There are no such runs.")
        return
    print(f"There are no such runs of {values['workspace_root']}.")
    others = results.job_list(store, JobList(limit=1))
    if others["data"]["jobs"]:
        print("Those of other directories: codex-counsel jobs --all", file=sys.stderr)


def _usage(arguments: argparse.Namespace) -> int:
    """What runs took."""
    if arguments.csv and arguments.json:
        raise CounselError(
            Code.INVALID_ARGUMENTS, "--csv and --json exclude each other"
        )
    store = results.open_store()
    Output.of(arguments).show(usage.report(store, arguments.by, arguments.since))
    return DONE


def _result(arguments: argparse.Namespace) -> int:
    """The whole result: a terminal has no byte budget."""
    output = Output.of(arguments)
    output.check()
    store = results.open_store()
    job_id = _chosen_job(store, arguments, choosing.was_asked_for, "run")
    if arguments.wait:
        wire = _wait_for_job(store, job_id)
    else:
        wire = results.whole_result(store, job_id)

    _check_document(output, wire, f"Job {job_id}")
    output.show(wire)
    if wire["status"] in TERMINAL:
        results.mark_received(store, job_id)
    return exit_code(wire, _bar(arguments))


def _run_pack(arguments: argparse.Namespace) -> int:
    """Run a pack of another machine."""
    # The other verbs do without it.
    from codex_counsel.cli import run_pack

    return run_pack.run(arguments, _counsel())


def _check(arguments: argparse.Namespace) -> int:
    """The outcome; with a format for another reader the review itself, and the outcome on stderr."""
    output = Output.of(arguments)
    output.check()
    wire = checking.read_review(results.open_store(), arguments.result)
    _check_document(output, wire, arguments.result)
    if arguments.on_record:
        wire = checking.as_decided(wire, _states_on_record(arguments))
    checked = checking.check(wire, _bar(arguments), arguments.expect_head)
    output.show(checked.wire(), review=wire)
    if output.format in DOCUMENTS and not arguments.quiet:
        print(visible(checked.summary), file=sys.stderr)
    return int(checked.data["exit_code"])


def _comment(arguments: argparse.Namespace) -> int:
    """Put a stored review on its pull request."""
    # The other verbs do without it.
    from codex_counsel.cli import comment

    return comment.run(arguments, _environment())


def _take(arguments: argparse.Namespace) -> int:
    """Put results of other machines among the runs of this one."""
    # The other verbs do without it.
    from codex_counsel.cli import take

    return take.run(arguments, _environment())


def _states_on_record(arguments: argparse.Namespace) -> dict[str, FindingState]:
    # The other verbs do without it.
    from codex_counsel.services import findings

    directory: str | None = arguments.workspace_root
    if directory is not None:
        directory = str(Path(directory).absolute())
    return findings.states_on_record(findings.context_of(_environment()), directory)


def _batch(arguments: argparse.Namespace) -> int:
    # The other verbs do without it.
    from codex_counsel.cli.batch import run_batch

    counsel = _counsel()
    _warn_of_settings(counsel, arguments)
    return run_batch(arguments, counsel)


def _findings(arguments: argparse.Namespace) -> int:
    """List the findings on record, show one, or change one."""
    # The other verbs do without it.
    from codex_counsel.services import findings

    request = validate(Findings(**_values(Findings, arguments)))
    if request.action != "list":
        _check_nothing_is_selected(arguments)
    selection = findings.Selection.named(
        arguments.state, arguments.file, arguments.limit
    )
    context = findings.context_of(_environment())
    wire = findings.answer(context, request, arguments.by, selection)
    Output.of(arguments).show(wire)
    return DONE


def _compare(arguments: argparse.Namespace) -> int:
    """Compare the diffs of some tasks; without any named, of the attempts of the newest task with several."""
    # The other verbs do without it.
    from codex_counsel.cli import compare
    from codex_counsel.services import comparison

    jobs: list[str] = arguments.jobs
    if not jobs:
        store = results.open_store()
        row = choosing.newest(
            store,
            _directory(arguments),
            lambda row: comparison.has_attempts(store, row),
            "ended task with several attempts",
        )
        jobs = [_say_which(row)]
    return compare.run(arguments, jobs)


def _wait_for_job(store: Store, job_id: str) -> EnvelopeDict:
    """The result. An interrupt ends the waiting alone: the run has another caller, or none."""
    handle = results.join(store, job_id)
    try:
        with LINE as line:
            return results.follow(handle, line.update)
    except KeyboardInterrupt:
        # Only needed now.
        from codex_counsel.cli.waiting import goes_on

        raise goes_on(job_id) from None


def _chosen_job(
    store: Store,
    arguments: argparse.Namespace,
    fits: Callable[[Row], bool],
    words: str,
) -> str:
    """The id of the run that is named, or else of the newest one of the directory that fits.

    Raises as `choosing.job_id` and `choosing.newest`, to which `words` go.
    """
    # An empty id, such as an unset variable of a script leaves, is a mistake.
    if arguments.job_id is not None:
        return choosing.job_id(store, arguments.job_id)
    row = choosing.newest(store, _directory(arguments), fits, words)
    return _say_which(row)


def _check_nothing_is_selected(arguments: argparse.Namespace) -> None:
    """Raise where an action on one finding was given what chooses the findings of a list."""
    for name in ("state", "file", "limit"):
        if getattr(arguments, name) is not None:
            message = f"--{name}: {arguments.action} takes none; list does"
            raise CounselError(Code.INVALID_ARGUMENTS, message)


def _check_document(output: Output, wire: EnvelopeDict, name: str) -> None:
    """Raise where a format is one for reviews and this is no ended review."""
    documents = [each for each in output.formats if each in DOCUMENTS]
    if not documents:
        return
    if wire["status"] not in TERMINAL:
        raise CounselError(Code.JOB_RUNNING, f"{name} has not finished")
    if wire["ok"] and "verdict" not in wire:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"--format {documents[0]} is for reviews, and {name} is none",
        )


def _cancel(arguments: argparse.Namespace) -> int:
    """End the run. One that had ended is shown, with the exit code that `result` has for it."""
    store = results.open_store()
    job_id = _chosen_job(
        store,
        arguments,
        lambda row: (
            choosing.was_asked_for(row) and row["status"] in ("queued", "running")
        ),
        "running job",
    )
    request = validate(JobCancel(job_id=job_id))
    LINE.say("ending it …")
    wire = results.cancel(store, request)
    Output.of(arguments).show(wire)
    results.acknowledge(store, request, wire)
    return exit_code(wire)


def _say_which(row: Row) -> str:
    """Say on stderr which run was chosen; returns its id."""
    kind = row.get("tool", "run").removeprefix("codex_").replace("_", " ")
    words = f"the newest that fits: {kind} {row['job_id']}"
    subject = row.get("subject")
    if subject:
        words += f" ({subject})"
    print(words, file=sys.stderr)
    return str(row["job_id"])


# --- from the command line to arguments of a request


def _directory(arguments: argparse.Namespace) -> Path:
    """The directory that -C names, or the current one; as jobs have it, without links."""
    named: str | None = getattr(arguments, "workspace_root", None)
    return Path(named or Path.cwd()).resolve()


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


def _consult_values(arguments: argparse.Namespace) -> JsonObject:
    values = _run_values(Consult, arguments)
    values["question"] = _text_or_stdin(arguments.question, "question")
    if arguments.output_schema:
        values["output_schema"] = _read_json(arguments.output_schema)
    return values


def _plan_values(arguments: argparse.Namespace) -> JsonObject:
    values = _run_values(ReviewPlan, arguments)
    if arguments.plan_path == "-":
        values["plan"] = _read_stdin("plan")
        del values["plan_path"]
    return values


def _delegate_values(arguments: argparse.Namespace) -> JsonObject:
    values = _run_values(Delegate, arguments)
    values["task"] = _text_or_stdin(arguments.task, "task")
    if "from_job" in values:
        values["from_job"] = choosing.job_id(results.open_store(), values["from_job"])
    return values


def _text_or_stdin(text: str, name: str) -> str:
    if text == "-":
        return _read_stdin(name)
    return text


def _read_stdin(name: str) -> str:
    if sys.stdin.isatty():
        print(f"Type the {name}, and end it with Ctrl-D:", file=sys.stderr)
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
    "pack": _pack,
    "apply": _apply,
    "models": _models,
    "jobs": _jobs,
    "usage": _usage,
    "result": _result,
    "run": _run_pack,
    "take": _take,
    "check": _check,
    "comment": _comment,
    "compare": _compare,
    "batch": _batch,
    "findings": _findings,
    "cancel": _cancel,
    "transfer": _transfer,
}
