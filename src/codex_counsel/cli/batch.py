"""The verb `batch`: begun or resumed, run somewhere, what a signal means meanwhile, and what is printed at the end."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.batch import engine
from codex_counsel.batch.directory import BATCH, REPOSITORIES
from codex_counsel.batch.engine import Control, Outcome
from codex_counsel.batch.local import LocalPool
from codex_counsel.batch.record import BatchOptions, Record
from codex_counsel.batch.refused import take_refused
from codex_counsel.batch.requests import Line
from codex_counsel.batch.sources import Sources
from codex_counsel.batch.summary import Summary, summarize
from codex_counsel.cli import batch_documents, batch_requests, nothing_started
from codex_counsel.cli.batch_display import Display
from codex_counsel.cli.batch_text import add_batch
from codex_counsel.cli.output import UnwrittenError
from codex_counsel.cli.page import Look, Page
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import Output, UnwrittenFilesError
from codex_counsel.cli.review_text import counted
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.services.checking import Bar
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.batch.model import Pool
    from codex_counsel.services.counsel import Counsel

NO_CLUSTER = "none"
THIS_MACHINE = "local"
"""The cluster whose runs are jobs of this user."""


def run_batch(arguments: argparse.Namespace, counsel: Counsel) -> int:
    """Begin a batch, or go on with one; returns the exit code."""
    output = Output.of(arguments)
    output.check()
    batch_requests.check(arguments)
    if arguments.resume is not None:
        return _resume(arguments, counsel, output)

    with nothing_started():
        asked = batch_requests.read(arguments, counsel)
    if arguments.dry_run:
        lines = list(asked.lines)
        _sources(asked, arguments, counsel, None).check(lines)
        return batch_requests.show(replace(asked, lines=lines), output)
    directory = _new_directory(arguments)
    record = Record.create(directory)
    try:
        with nothing_started():
            _begin(record, asked, arguments, counsel)
    except BaseException:
        record.discard()
        raise
    with _way_on(record), record:
        display = Display(quiet=arguments.quiet)
        display.say_each(batch_requests.left_out(asked.skipped))
        return _run(record, arguments, counsel, output, display, is_new=True)


def _resume(arguments: argparse.Namespace, counsel: Counsel, output: Output) -> int:
    with Record.open(Path(arguments.resume).absolute()) as record:
        if arguments.dry_run:
            retried = record.retried(batch_requests.retry_of(arguments))
            waiting = (
                Line(item.id, item.kind, item.arguments, item.source)
                for item in record.items()
                if not record.has_ended(item.id)
                or item.id in record.unstarted
                or item.id in retried
            )
            return batch_requests.show(batch_requests.Asked(waiting, Path("/")), output)
        record.with_options(_options(arguments, record.options))
        display = Display(quiet=arguments.quiet)
        with _way_on(record):
            take_refused(record, counsel.context)
            return _run(record, arguments, counsel, output, display, is_new=False)


def _begin(
    record: Record,
    asked: batch_requests.Asked,
    arguments: argparse.Namespace,
    counsel: Counsel,
) -> None:
    LINE.say("reading the requests …")
    sources = _sources(asked, arguments, counsel, record.directory / REPOSITORIES)
    options = _options(arguments, BatchOptions())
    record.begin(sources.items(asked.lines, record.id), options)


def _sources(
    asked: batch_requests.Asked,
    arguments: argparse.Namespace,
    counsel: Counsel,
    repositories: Path | None,
) -> Sources:
    return Sources(
        counsel.context,
        own=batch_requests.root_of(arguments),
        base=asked.base,
        repositories=repositories,
        on_cluster=arguments.cluster not in (None, NO_CLUSTER),
    )


def _new_directory(arguments: argparse.Namespace) -> Path:
    if arguments.output_dir is not None:
        return Path(arguments.output_dir).absolute()
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    first = directory = Path(f"codex-counsel-batch-{now}").absolute()
    for number in itertools.count(2):
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            # That of another batch, begun in the same second.
            directory = first.with_name(f"{first.name}-{number}")
        except OSError:
            # Whoever takes it says why.
            break
        else:
            break
    return directory


def _options(arguments: argparse.Namespace, earlier: BatchOptions) -> BatchOptions:
    """Those of before, with what is named now."""
    named: JsonObject = {}
    for name in asdict(earlier):
        value = getattr(arguments, name)
        # A flag without a value is false where it is not there.
        if value is not None and value is not False:
            named[name] = value
    if named.get("cluster") == NO_CLUSTER:
        named["cluster"] = None
    return replace(earlier, **named)


# --- running it


def _run(
    record: Record,
    arguments: argparse.Namespace,
    counsel: Counsel,
    output: Output,
    display: Display,
    *,
    is_new: bool,
) -> int:
    items = counted(record.items_total, "item")
    display.say_each([f"{items} in {_shown(record.directory)}"])
    options = engine.EngineOptions(
        counsel.settings,
        max_tokens=record.options.max_tokens,
        max_failures=record.options.max_failures,
        retry=batch_requests.retry_of(arguments),
        is_new=is_new,
    )
    control = Control()
    try:
        with (
            _signals(control, display),
            contextlib.closing(_pool(record, arguments, counsel, control)) as pool,
        ):
            outcome = engine.run(record, pool, options, display.update, control)
    finally:
        display.end()
    bar = Bar(fail_on=record.options.fail_on, new_only=record.options.new_only)
    summary = summarize(record.items(), record.results(), bar)
    problem = _write_files(record, summary, counsel)
    _show(record, summary, outcome, output)
    if outcome.stop:
        return outcome.stop.exit_code
    if problem:
        raise problem
    return summary.exit_code


@contextlib.contextmanager
def _way_on(record: Record) -> Iterator[None]:
    """Have an error or an interrupt name the command that goes on: to begin anew would be to pay again."""
    command = f"Go on with: {_resume_command(record)}"
    try:
        yield
    except KeyboardInterrupt:
        raise CounselError(Code.CANCELLED, "Interrupted", repair=command) from None
    except UnwrittenError as error:
        error.repair = command
        raise
    except CounselError as error:
        if not os.path.lexists(record.directory / BATCH):
            answers = "the answers are"
            if record.options.cluster not in (None, THIS_MACHINE):
                answers = "the answers that were fetched from nodes are"
            error.repair = (
                f"Put the directory back, or name it where it is now. {command} If it is gone for good, {answers}"
                " in: codex-counsel jobs --all"
            )
        elif error.code == Code.CANCELLED or isinstance(error, UnwrittenFilesError):
            error.repair = command
        else:
            repair = error.repair or CATALOG[error.code].repair
            error.repair = f"{repair} {command}"
            if error.code == Code.CLUSTER_FAILED:
                # By itself it would go to the same address again.
                error.repair += f" (--cluster ADDRESS for another scheduler, --cluster {NO_CLUSTER} for this machine)"
        raise


def _write_files(
    record: Record, summary: Summary, counsel: Counsel
) -> CounselError | None:
    """Write the documents; the error where there is no room for them. All that they say is in `results.jsonl`."""
    try:
        batch_documents.write_files(record.directory, summary, counsel.store)
    except CounselError as error:
        return error
    return None


def _pool(
    record: Record, arguments: argparse.Namespace, counsel: Counsel, control: Control
) -> Pool:
    address = record.options.cluster
    if address is None:
        return LocalPool.of(
            record,
            counsel.context.env,
            counsel.settings,
            record.options.jobs,
            retry=batch_requests.retry_of(arguments),
        )
    try:
        fleet = importlib.import_module("codex_counsel.fleet.pool")
    except ModuleNotFoundError as error:
        raise CounselError(
            Code.CLUSTER_FAILED,
            f"A cluster needs the package {error.name}, which is not installed here",
            repair="Install it: pip install 'codex-counsel[fleet]'.",
        ) from None
    limits: JsonObject = {}
    if arguments.lost_after is not None:
        limits["lost_after"] = arguments.lost_after
    LINE.say(f"connecting to {visible(address)} …")
    pool: Pool = fleet.ClusterPool(
        counsel.context,
        record,
        address,
        slots=record.options.jobs,
        retry=batch_requests.retry_of(arguments),
        is_wanted=lambda: control.wish == "go_on",
        **limits,
    )
    return pool


@contextlib.contextmanager
def _signals(control: Control, display: Display) -> Iterator[None]:
    """Ctrl-C, or a closed terminal: what runs ends; again, or at SIGTERM: it is ended."""

    def interrupt(_number: int, _frame: object) -> None:
        control.ask_to_end()

    def hang_up(_number: int, _frame: object) -> None:
        display.is_muted = LINE.quiet = True
        control.ask_to_end()

    def terminate(_number: int, _frame: object) -> None:
        control.ask_to_end(at_once=True)

    handlers = {
        signal.SIGINT: interrupt,
        signal.SIGHUP: hang_up,
        signal.SIGTERM: terminate,
    }
    earlier = {}
    for number, handler in handlers.items():
        # `nohup` and a job of a shell in the background have some of them ignored.
        if signal.getsignal(number) != signal.SIG_IGN:
            earlier[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)


# --- what came of it


def _show(record: Record, summary: Summary, outcome: Outcome, output: Output) -> None:
    wire = summary.review.wire()
    data = wire["data"]
    data["directory"] = str(record.directory)
    data["left"] = outcome.left
    if outcome.stop:
        data["stopped"] = outcome.stop.reason
        data["exit_code"] = outcome.stop.exit_code
    if output.is_printed and output.format == "text":
        page = Page(Look.of(sys.stdout, os.environ, output.colour, quiet=output.quiet))
        add_batch(
            page,
            summary,
            is_stopped=outcome.stop is not None,
            directory=_shown(record.directory),
            names=["results.jsonl", *batch_documents.written(record.directory)],
        )
        page.print()
        sys.stdout.flush()
        output = replace(output, is_printed=False)
    _print_stop(record, outcome)
    output.show(wire)


def _print_stop(record: Record, outcome: Outcome) -> None:
    """Say on stderr why not all items have a result, and how to go on."""
    stop = outcome.stop
    if stop is None:
        return
    left = f"{counted(outcome.left, 'item')} without a result"
    print(f"{stop.reason}; {left}", file=sys.stderr)
    for place in outcome.unanswered:
        print(f"  {one_line(visible(place), 300)}", file=sys.stderr)
    if stop.repair:
        print(f"what to do: {visible(stop.repair)}", file=sys.stderr)
    print(f"go on with: {_resume_command(record)}", file=sys.stderr, flush=True)


def _resume_command(record: Record) -> str:
    words = ["codex-counsel", "batch", "--resume", str(record.directory)]
    return visible(shlex.join(words))


def _shown(path: Path) -> str:
    """The path from here, where it is below the current directory."""
    with contextlib.suppress(ValueError, OSError):
        path = path.relative_to(os.path.realpath("."))
    return one_line(visible(str(path)), 300)
