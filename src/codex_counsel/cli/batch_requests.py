"""Which requests the verb `batch` is asked for: from a file or made from few words; and their list for `--dry-run`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from codex_counsel.batch import generate
from codex_counsel.batch.generate import Per, Skipped
from codex_counsel.batch.model import REQUESTS
from codex_counsel.batch.requests import Line, lines_of, read_requests
from codex_counsel.batch.summary import TOOL
from codex_counsel.batch.totals import Retry
from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import Output
from codex_counsel.cli.review_text import counted
from codex_counsel.contract.envelope import completed
from codex_counsel.contract.request import parse
from codex_counsel.errors import DONE, Code, CounselError
from codex_counsel.system.files import open_regular
from codex_counsel.system.json_values import JsonObject
from codex_counsel.system.text import one_line, visible

if TYPE_CHECKING:
    from codex_counsel.services.counsel import Counsel

SOURCES = ("file", "review_range", "review_prs", "audit", "delegate")
"""The arguments that say what is asked; one of them does."""
ONLY_NEW = (*SOURCES, "per", "repos", "arguments", "output_dir", "workspace_root")
"""What a batch that goes on has from its beginning."""
MAX_JOBS = 64
MAX_SUBJECT = 100


@dataclass(frozen=True)
class Asked:
    """The requests. `base` is where relative paths of repositories start."""

    lines: Iterable[Line]
    base: Path
    skipped: Iterable[Skipped] = ()


def check(arguments: argparse.Namespace) -> None:
    """Raise `invalid_arguments` for what does not go together, or is out of bounds."""
    named = [name for name in SOURCES if getattr(arguments, name) is not None]
    if len(named) > 1:
        raise _invalid(
            f"{_flag(named[0])} and {_flag(named[1])} each say what is asked: give one of them"
        )
    _check_resume(arguments)
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
    if arguments.cluster is not None and not arguments.cluster.strip():
        raise _invalid(
            "--cluster is empty: write the address of a Dask scheduler, such as tcp://scheduler.internal:8786, `local` "
            "for a node in this process, or `none` for no cluster"
        )
    _check_numbers(arguments)


def _check_resume(arguments: argparse.Namespace) -> None:
    if arguments.resume is None:
        for name in ("retry_lost", "retry_failed"):
            if getattr(arguments, name):
                raise _invalid(f"{_flag(name)} belongs to --resume")
        return
    for name in ONLY_NEW:
        if getattr(arguments, name) is not None:
            raise _invalid(
                f"{_flag(name)} does not go with --resume: the batch has its requests already"
            )


def _check_numbers(arguments: argparse.Namespace) -> None:
    if arguments.jobs is not None and not 1 <= arguments.jobs <= MAX_JOBS:
        raise _invalid(f"--jobs is a number from 1 to {MAX_JOBS}")
    for name in ("max_tokens", "max_failures"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise _invalid(f"{_flag(name)} is a number from 1 on")
    if arguments.lost_after is not None and arguments.lost_after < 0:
        raise _invalid("--lost-after is a number of seconds")


def retry_of(arguments: argparse.Namespace) -> Retry:
    """Which items that have ended are to be run anew."""
    if arguments.retry_failed:
        return "failed"
    if arguments.retry_lost:
        return "lost"
    return "none"


def root_of(arguments: argparse.Namespace) -> Path:
    """The directory of the batch, for requests that name none."""
    return Path(arguments.workspace_root or Path.cwd()).absolute()


def read(arguments: argparse.Namespace, counsel: Counsel) -> Asked:
    """The requests that the arguments name. A file is read while its lines are iterated."""
    root = root_of(arguments)
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
        made = generate.delegate(task, repositories, own, repositories)
    else:
        return _from_file(arguments.file or "-")
    return Asked(made.lines, here, made.skipped)


def _per(named: str | None) -> Per:
    for per in get_args(Per):
        if named == per:
            return cast("Per", per)
    if named is not None:
        raise _invalid("--audit makes a review --per file or --per directory")
    return "file"


def _from_file(name: str) -> Asked:
    if name == "-":
        if sys.stdin.isatty():
            print(
                "Type the requests, one JSON object a line, and end them with Ctrl-D:",
                file=sys.stderr,
            )
        lines = read_requests(lines_of(sys.stdin.buffer), "standard input")
        return Asked(lines, Path.cwd())
    path = Path(name).absolute()
    return Asked(_requests_of(path, name), path.parent)


def _requests_of(path: Path, name: str) -> Iterator[Line]:
    shown = one_line(visible(name), 200)
    try:
        file = open_regular(path)
    except OSError as error:
        raise _invalid(f"{shown}: {error.strerror}") from None
    with file:
        yield from read_requests(lines_of(file), shown)


def _own_arguments(text: str | None) -> JsonObject:
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


def show(asked: Asked, output: Output) -> int:
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
        for words in left_out(skipped):
            print(words, file=sys.stderr)
        print(summary)
        output = replace(output, is_printed=False)
    data = {
        "items": [_shown(line) for line in lines],
        "skipped": [asdict(one) for one in skipped],
    }
    output.show(completed(TOOL, summary, data).wire())
    return DONE


def _shown(line: Line) -> JsonObject:
    """The request as a file of requests has it."""
    fields = asdict(line)
    del fields["number"]
    return fields


def _subject(line: Line) -> str:
    request = parse(REQUESTS[line.kind], line.arguments)
    return one_line(visible(request.subject), MAX_SUBJECT)


def left_out(skipped: Iterable[Skipped]) -> list[str]:
    """A sentence for each file that is in no request."""
    return [f"left out: {one.path}: {one.reason}" for one in skipped]


def _flag(name: str) -> str:
    if name == "file":
        return "FILE"
    if name == "workspace_root":
        return "-C"
    return f"--{name.replace('_', '-')}"


def _invalid(message: str) -> CounselError:
    return CounselError(Code.INVALID_ARGUMENTS, message)
