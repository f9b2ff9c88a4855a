"""The verb `batch`: which requests, where they run, what a signal means meanwhile, and what is printed at the end."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from codex_counsel.batch import engine, generate
from codex_counsel.batch.directory import BATCH, REPOSITORIES
from codex_counsel.batch.engine import Control, Outcome
from codex_counsel.batch.generate import Per, Skipped
from codex_counsel.batch.local import LocalPool
from codex_counsel.batch.model import REQUESTS
from codex_counsel.batch.record import Options, Record
from codex_counsel.batch.requests import Line, lines_of, read_requests
from codex_counsel.batch.sources import Sources
from codex_counsel.batch.summary import TOOL, Summary, summarize
from codex_counsel.cli import batch_documents
from codex_counsel.cli.batch_display import Display
from codex_counsel.cli.batch_text import add_batch
from codex_counsel.cli.output import UnwrittenError
from codex_counsel.cli.page import Look, Page
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import Output, UnwrittenFilesError
from codex_counsel.cli.review_text import counted
from codex_counsel.contract.envelope import completed
from codex_counsel.contract.request import parse
from codex_counsel.errors import CATALOG, DONE, Code, CounselError
from codex_counsel.services.checking import Bar
from codex_counsel.system.files import open_regular
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.batch.model import Pool
    from codex_counsel.services.counsel import Counsel

SOURCES = ("file", "review_range", "review_prs", "audit", "delegate")
"""The arguments that say what is asked; one of them does."""
ONLY_NEW = (*SOURCES, "per", "repos", "arguments", "output_dir", "workspace_root")
"""What a batch that goes on has from its beginning."""
MAX_JOBS = 64
LOCAL = "local"
NO_CLUSTER = "none"
MAX_SUBJECT = 100


def run_batch(arguments: argparse.Namespace, counsel: Counsel) -> int:
    """Begin a batch, or go on with one; returns the exit code."""
    output = Output.of(arguments)
    output.check()
    _check(arguments)
    if arguments.resume is not None:
        return _resume(arguments, counsel, output)

    asked = _asked(arguments, counsel)
    if arguments.dry_run:
        return _show_requests(asked, output)
    directory = _new_directory(arguments)
    record = Record.create(directory)
    try:
        _begin(record, asked, arguments, counsel)
    except BaseException:
        record.discard()
        raise
    with record, _way_on(record):
        display = Display(quiet=arguments.quiet)
        display.say_each(_left_out(asked.skipped))
        return _run(record, arguments, counsel, output, display, is_new=True)


def _resume(arguments: argparse.Namespace, counsel: Counsel, output: Output) -> int:
    with Record.open(Path(arguments.resume).absolute()) as record:
        if arguments.dry_run:
            waiting = (
                Line(item.id, item.kind, item.arguments, item.source)
                for item in record.items()
                if not record.has_ended(item.id) or item.id in record.unstarted
            )
            return _show_requests(_Asked(waiting, Path("/")), output)
        record.with_options(_options(arguments, record.options))
        display = Display(quiet=arguments.quiet)
        with _way_on(record):
            return _run(record, arguments, counsel, output, display, is_new=False)


# --- what is asked


@dataclass(frozen=True)
class _Asked:
    """The requests. `base` is where relative paths of repositories start."""

    lines: Iterable[Line]
    base: Path
    skipped: Iterable[Skipped] = ()


def _check(arguments: argparse.Namespace) -> None:
    """Raise `invalid_arguments` for what does not go together, or is out of bounds."""
    named = [name for name in SOURCES if getattr(arguments, name) is not None]
    if len(named) > 1:
        raise _invalid(
            f"{_flag(named[0])} and {_flag(named[1])} each say what is asked: give one of them"
        )
    if arguments.resume is not None:
        for name in ONLY_NEW:
            if getattr(arguments, name) is not None:
                raise _invalid(
                    f"{_flag(name)} does not go with --resume: the batch has its requests already"
                )
    needed = {"per": ("audit", "review_range"), "repos": ("delegate",)}
    for name, owners in needed.items():
        if getattr(arguments, name) is not None and not set(owners) & set(named):
            flags = " or ".join(map(_flag, owners))
            raise _invalid(f"{_flag(name)} belongs to {flags}")
    if arguments.delegate is not None and arguments.repos is None:
        raise _invalid("--delegate needs --repos: where the task is to be done")
    if arguments.arguments is not None and named in ([], ["file"]):
        raise _invalid(
            "--arguments is for requests that are made here; in a file, each line has its own"
        )
    if arguments.retry_lost and arguments.resume is None:
        raise _invalid("--retry-lost belongs to --resume")
    _check_numbers(arguments)


def _check_numbers(arguments: argparse.Namespace) -> None:
    if arguments.jobs is not None and not 1 <= arguments.jobs <= MAX_JOBS:
        raise _invalid(f"--jobs is a number from 1 to {MAX_JOBS}")
    for name in ("max_tokens", "max_failures"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise _invalid(f"{_flag(name)} is a number from 1 on")
    if arguments.lost_after is not None and arguments.lost_after < 0:
        raise _invalid("--lost-after is a number of seconds")


def _asked(arguments: argparse.Namespace, counsel: Counsel) -> _Asked:
    root = _root(arguments)
    here = Path.cwd()
    own = _own_arguments(arguments.arguments)
    context = counsel.context
    if arguments.review_range is not None:
        if arguments.per not in (None, "commit"):
            raise _invalid("--review-range makes a review --per commit")
        made = generate.review_range(context, root, arguments.review_range, own)
    elif arguments.review_prs is not None:
        names = generate.read_list(arguments.review_prs, here)
        made = generate.review_prs(names, own)
    elif arguments.audit is not None:
        per = _per(arguments.per)
        made = generate.audit(context, root, arguments.audit, per, own)
    elif arguments.delegate is not None:
        task = arguments.delegate
        if task == "-":
            task = sys.stdin.buffer.read().decode("utf-8", "replace")
        repositories = generate.read_repositories(arguments.repos, here)
        made = generate.delegate(task, repositories, own)
    else:
        return _from_file(arguments.file or "-")
    return _Asked(made.lines, here, made.skipped)


def _per(named: str | None) -> Per:
    for per in get_args(Per):
        if named == per:
            return cast("Per", per)
    if named is not None:
        raise _invalid("--audit makes a review --per file or --per directory")
    return "file"


def _from_file(name: str) -> _Asked:
    if name == "-":
        if sys.stdin.isatty():
            print(
                "Type the requests, one JSON object a line, and end them with Ctrl-D:",
                file=sys.stderr,
            )
        lines = read_requests(lines_of(sys.stdin.buffer), "standard input")
        return _Asked(lines, Path.cwd())
    path = Path(name).absolute()
    return _Asked(_requests_of(path, name), path.parent)


def _requests_of(path: Path, name: str) -> Iterator[Line]:
    shown = one_line(visible(name), 200)
    try:
        file = open_regular(path)
    except OSError as error:
        raise _invalid(f"{shown}: {error.strerror}") from None
    with file:
        yield from read_requests(lines_of(file), shown)


def _own_arguments(text: str | None) -> Mapping[str, JsonObject]:
    """The arguments for each request. Raises `invalid_arguments`."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _invalid(
            '--arguments is no JSON object of arguments by their names, such as {"effort": "low"}'
        )
    return value


def _begin(
    record: Record, asked: _Asked, arguments: argparse.Namespace, counsel: Counsel
) -> None:
    LINE.say("reading the requests …")
    sources = Sources(
        counsel.context,
        own=_root(arguments),
        base=asked.base,
        repositories=record.directory / REPOSITORIES,
    )
    options = _options(arguments, Options())
    record.begin(sources.items(asked.lines, record.id), options)


def _root(arguments: argparse.Namespace) -> Path:
    return Path(arguments.workspace_root or Path.cwd()).absolute()


def _new_directory(arguments: argparse.Namespace) -> Path:
    if arguments.output_dir is not None:
        return Path(arguments.output_dir).absolute()
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return Path(f"codex-counsel-batch-{now}").absolute()


def _options(arguments: argparse.Namespace, earlier: Options) -> Options:
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


def _left_out(skipped: Iterable[Skipped]) -> list[str]:
    return [f"left out: {one.path}: {one.reason}" for one in skipped]


def _show_requests(asked: _Asked, output: Output) -> int:
    """List what would be asked. Nothing is spent, cloned or written."""
    lines = list(asked.lines)
    skipped = list(asked.skipped)
    requests = counted(len(lines), "request")
    summary = f"{requests} would be asked; nothing was spent"
    if output.is_printed and output.format == "text":
        for line in lines:
            where = visible(line.repo or ".")
            print(f"{visible(line.id)}  {line.kind}  {where}  {_subject(line)}")
        LINE.erase()
        for words in _left_out(skipped):
            print(words, file=sys.stderr)
        print(summary)
        output = replace(output, is_printed=False)
    data = {
        "items": [asdict(line) for line in lines],
        "skipped": [asdict(one) for one in skipped],
    }
    output.show(completed(TOOL, summary, data).wire())
    return DONE


def _subject(line: Line) -> str:
    request = parse(REQUESTS[line.kind], line.arguments)
    return one_line(visible(request.subject), MAX_SUBJECT)


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
    options = engine.Options(
        counsel.settings,
        max_tokens=record.options.max_tokens,
        max_failures=record.options.max_failures,
        retry_lost=arguments.retry_lost,
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
        if not (record.directory / BATCH).exists():
            error.repair = (
                f"Put the directory back, or name it where it is now. {command} If it is gone for good, the answers"
                " are in: codex-counsel jobs --all"
            )
        elif error.code == Code.CANCELLED or isinstance(error, UnwrittenFilesError):
            error.repair = command
        else:
            repair = error.repair or CATALOG[error.code].repair
            error.repair = f"{repair} {command}"
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
            retry_lost=arguments.retry_lost,
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


def _flag(name: str) -> str:
    if name == "file":
        return "FILE"
    if name == "workspace_root":
        return "-C"
    return f"--{name.replace('_', '-')}"


def _invalid(message: str) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, message)
