"""The command line: its verbs, and their flags, which are derived from the request dataclasses.

Name, type, choices, default and help text of a flag come from the field of the request.
By hand is only what a terminal needs differently.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from codex_counsel import __version__
from codex_counsel.cli.page import terminal_width
from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    JobList,
    ReviewChanges,
    ReviewPlan,
    RunRequest,
    Status,
    ToolRequest,
    Transfer,
)
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.errors import EXIT_CODES, USAGE
from codex_counsel.system.json_values import JsonObject

FORMATS = ("text", "markdown", "json", "sarif", "github")
GATE_SEVERITIES = SEVERITIES[:-1]
DESCRIPTION = "Ask OpenAI's Codex for a second opinion, supervised and sandboxed."
COLOURS = ("auto", "always", "never")
EPILOG = "exit codes:\n" + "\n".join(
    f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items()
)

HELP = {
    "workspace_root": "the project's directory; default: the current one",
    "model": "the model; default: that of your Codex configuration",
    "effort": "the reasoning effort; default: that of your Codex configuration",
    "extra_roots": "a further directory that Codex may read; may be repeated",
    "timeout_seconds": "seconds after which the run is ended",
    "session_id": "continue exactly this Codex thread",
    "stance": "challenge: look for what speaks against it",
    "images": "an image to send along; may be repeated",
    "web_search": "let Codex search the web",
    "network": "let its commands use the network",
    "focus": "what to look at, or a question about an earlier review",
    "plan_path": "a file with what was agreed",
    "from_job": "go on from this delegate's diff and thread; its id, or how it begins",
    "allow_paths": "a sensitive path that you have looked at and accept; may be repeated",
    "check_only": "report whether the diff would apply; write nothing",
    "status": "only runs with this status",
    "limit": "maximum number of runs",
}
"""Help texts of flags whose field has no description, or one that is written for a model."""

METAVARS = {
    "workspace_root": "DIR",
    "extra_roots": "DIR",
    "images": "FILE",
    "plan_path": "FILE",
    "allow_paths": "PATH",
    "from_job": "JOB",
    "base": "REF",
    "commit": "REF",
    "range": "A..B",
    "focus": "TEXT",
    "plan": "TEXT",
    "model": "NAME",
    "effort": "NAME",
    "profile": "NAME",
    "session_id": "ID",
    "idempotency_key": "KEY",
    "timeout_seconds": "N",
    "limit": "N",
}
SHORT_FLAGS = {"workspace_root": "-C"}
NO_FLAGS = {"detail", "cursor", "extra_context", "output_schema"}
"""A terminal has no byte budget, so it needs no pages; long texts are read from files."""


@dataclass(frozen=True)
class Verb:
    """Each argument of `request` is a flag, but for those that are `positional`.

    `add_arguments` adds these, and the flags that no request has.
    """

    name: str
    help: str
    request: type[ToolRequest] | None = None
    positional: tuple[str, ...] = ()
    add_arguments: Callable[[argparse.ArgumentParser], None] | None = None
    prints_envelope: bool = True


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """As argparse's own, which imports `shutil` for the width, and is made anew for each flag."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=terminal_width(sys.stdout, os.environ) - 2)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are short and name what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake, and exit with the code for usage."""
        words = _with_suggestion(message, self._words())
        print(f"{self.prog}: {words}\nsee: {self.prog} --help", file=sys.stderr)
        sys.exit(USAGE)

    def _words(self) -> list[str]:
        """What may be written on this command line: flags, and the choices of arguments."""
        words: list[str] = []
        for action in self._actions:
            words += action.option_strings
            words += [str(choice) for choice in action.choices or ()]
        return words


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments. Without a verb, `verb` is None. Exits on a mistake, and for --help and --version."""
    parser = build_parser(argv)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        of_verb = _parsers_of_verbs(parser).get(arguments.verb or "", parser)
        of_verb.error(f"there is no argument {unknown[0]!r} here")
    return arguments


def build_parser(argv: list[str] | None = None) -> Parser:
    """The parser. With `argv` only the verb that it names gets its flags: building all takes longer than some verbs."""
    parser = Parser(
        prog="codex-counsel",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"codex-counsel {__version__}"
    )
    parsers = parser.add_subparsers(
        dest="verb", metavar="VERB", title="verbs", prog="codex-counsel"
    )

    for verb in VERBS:
        verb_parser = parsers.add_parser(
            verb.name,
            help=verb.help,
            description=verb.help,
            epilog=EPILOG,
            formatter_class=HelpFormatter,
        )
        if argv is not None and verb.name not in argv[:1]:
            continue
        if verb.add_arguments:
            verb.add_arguments(verb_parser)
        if verb.request:
            _add_flags(verb_parser, verb.request, without=verb.positional)
        if verb.prints_envelope:
            _add_output_flags(verb_parser)
    return parser


def _parsers_of_verbs(parser: Parser) -> dict[str, Parser]:
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def _with_suggestion(message: str, words: Iterable[str]) -> str:
    """The message, with the word that comes nearest to the one that it names as unknown."""
    message = re.sub(
        r"^argument VERB: invalid choice: '?(.+?)'? \(choose.*",
        r"there is no verb '\1'",
        message,
        flags=re.DOTALL,
    )
    match = re.search(
        r"(?:invalid choice: |there is no (?:verb|argument) )['\"]?([^'\"=]+)", message
    )
    if match is None:
        return message
    # Only a mistake needs it.
    from difflib import get_close_matches

    near = get_close_matches(match[1], list(words), n=1)
    if near:
        return f"{message}; did you mean {near[0]}?"
    return message


# --- flags from requests


def _add_flags(
    parser: argparse.ArgumentParser,
    request: type[ToolRequest],
    *,
    without: tuple[str, ...],
) -> None:
    """A flag for each argument of the request; those that every run takes come last."""
    hints = get_type_hints(request)
    every_run = {item.name for item in fields(RunRequest)}
    own = [item for item in fields(request) if item.name not in every_run]
    common = [item for item in fields(request) if item.name in every_run]
    for item in (*own, *common):
        if item.name not in NO_FLAGS and item.name not in without:
            _add_flag(parser, item, hints[item.name])


def _add_flag(parser: argparse.ArgumentParser, item: Field[Any], hint: Any) -> None:
    kind, choices = _kind(hint)
    words = HELP.get(item.name) or item.metadata["description"]
    if "ge" in item.metadata:
        words += f", {item.metadata['ge']} to {item.metadata['le']}"

    options: JsonObject = {"dest": item.name, "help": words}
    if kind is bool:
        options["action"] = "store_true"
    elif kind is tuple:
        options |= {"action": "append", "default": [], "metavar": METAVARS[item.name]}
    else:
        options["metavar"] = METAVARS.get(item.name)
        options["default"] = None if item.default is MISSING else item.default
    if kind is int:
        options["type"] = int
    if choices:
        options["choices"] = choices

    flags = [_long_flag(item.name)]
    if item.name in SHORT_FLAGS:
        flags.insert(0, SHORT_FLAGS[item.name])
    parser.add_argument(*flags, **options)


def _long_flag(name: str) -> str:
    # `--image FILE`, once for each of `images`.
    if name in ("images", "extra_roots", "allow_paths", "paths"):
        name = name.removesuffix("s")
    return f"--{name.replace('_', '-')}"


def flag_of(name: str) -> str:
    """The flag of an argument as it is named to people: the short one where there is one."""
    return SHORT_FLAGS.get(name) or _long_flag(name)


def _kind(hint: Any) -> tuple[type, tuple[str, ...]]:
    """The type of an argument, without `None`; and the words that it may be, if these are fixed."""
    if NoneType in get_args(hint):
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return str, get_args(hint)
    return get_origin(hint) or hint, ()


# --- what a terminal needs differently


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--live",
        action="store_true",
        help="use your own Codex and login; spends tokens",
    )


def _consult(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "question",
        nargs="?",
        default="-",
        help="the question; - or nothing: standard input",
    )
    _add_run_flags(parser)
    parser.add_argument(
        "--output-schema", metavar="FILE", help="JSON Schema of the reply"
    )


def _review(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        help="only these files or folders, relative to the project",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be sent; free"
    )
    _add_review_flags(parser)


def _plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "plan_path", metavar="FILE", help="the plan; - for standard input"
    )
    _add_review_flags(parser)


def _delegate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "task", nargs="?", default="-", help="the task; - or nothing: standard input"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what it would start from; free"
    )
    _add_run_flags(parser)


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all", action="store_true", help="of all directories, not of this one alone"
    )
    parser.add_argument(
        "--sweep", action="store_true", help="first remove what killed runs left behind"
    )


def _apply(parser: argparse.ArgumentParser) -> None:
    _add_job_id(parser, "the newest delegate of this directory that fits")


def _result(parser: argparse.ArgumentParser) -> None:
    _add_job_id(parser, "the newest run of this directory")
    parser.add_argument(
        "--wait", action="store_true", help="wait until the run has ended"
    )
    _add_document_flags(parser)
    _add_output_file(parser)


def _cancel(parser: argparse.ArgumentParser) -> None:
    _add_job_id(parser, "the newest run of this directory that has not ended")


def _transfer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "transcript_path",
        nargs="?",
        metavar="SESSION",
        help="the session's id, or its file; default: the newest of this directory",
    )


def _gate(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = actions.add_parser(
        "install", help="add the hook to your settings of Claude Code"
    )
    remove = actions.add_parser("remove", help="take it out again")
    actions.add_parser("status", help="is it installed, and does its program exist")
    run = actions.add_parser(
        "run", help="the hook itself: reads the event from standard input"
    )
    for action in (install, remove):
        action.add_argument(
            "--project",
            action="store_true",
            help="for the current directory alone, not shared",
        )
    for action in (install, run):
        least = "the least severity of a finding that blocks the turn"
        action.add_argument(
            "--fail-on", choices=GATE_SEVERITIES, default="high", help=least
        )
        rounds = "how often one turn may be blocked"
        action.add_argument(
            "--rounds", type=int, choices=(1, 2, 3), default=1, help=rounds
        )


def _uninstall(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--keep-results", action="store_true", help="keep the runs with their results"
    )
    parser.add_argument(
        "--end-runs", action="store_true", help="first end the runs that have not ended"
    )


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--background", action="store_true", help="print the job id and return"
    )
    parser.add_argument(
        "--context-file", metavar="FILE", help="further material from a file"
    )
    _add_output_file(parser)


def _add_review_flags(parser: argparse.ArgumentParser) -> None:
    _add_run_flags(parser)
    _add_document_flags(parser)


def _add_document_flags(parser: argparse.ArgumentParser) -> None:
    """How a review is printed, and when it counts as not clean."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="how a review is printed; a run that failed is a document too. Default: text",
    )
    parser.add_argument(
        "--fail-on",
        choices=(*SEVERITIES, "never"),
        default="high",
        help="exit 1 for a finding of this severity or a graver one, whatever the verdict; default: high",
    )


def _add_output_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", metavar="FILE", help="write the result to a file, a failure too"
    )


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the envelope as JSON"
    )
    parser.add_argument(
        "--color",
        choices=COLOURS,
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="print the result alone: no progress, no notes",
    )


def _add_job_id(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "job_id",
        nargs="?",
        metavar="JOB",
        help=f"the run's id, or how it begins; default: {default}",
    )


VERBS = (
    Verb(
        "mcp",
        "serve the tools over stdio to an MCP client",
        prints_envelope=False,
    ),
    Verb(
        "status",
        "is Codex usable here",
        Status,
    ),
    Verb(
        "demo",
        "show the main job on a sample repository, with a scripted model",
        add_arguments=_demo,
        prints_envelope=False,
    ),
    Verb(
        "consult",
        "ask a question about the project",
        Consult,
        positional=("question",),
        add_arguments=_consult,
    ),
    Verb(
        "review",
        "review changes of the repository",
        ReviewChanges,
        positional=("paths",),
        add_arguments=_review,
    ),
    Verb(
        "plan",
        "review a plan against the repository",
        ReviewPlan,
        positional=("plan", "plan_path"),
        add_arguments=_plan,
    ),
    Verb(
        "delegate",
        "have a task done in a throwaway copy; prints a diff",
        Delegate,
        positional=("task",),
        add_arguments=_delegate,
    ),
    Verb(
        "apply",
        "apply a delegate's diff to the working tree",
        Apply,
        positional=("job_id",),
        add_arguments=_apply,
    ),
    Verb(
        "models",
        "models and efforts the installed Codex lists",
    ),
    Verb(
        "jobs",
        "list the runs of this directory",
        JobList,
        add_arguments=_jobs,
    ),
    Verb(
        "result",
        "the result of a run",
        add_arguments=_result,
    ),
    Verb(
        "cancel",
        "end a run and all its processes",
        add_arguments=_cancel,
    ),
    Verb(
        "transfer",
        "go on in Codex with a session of Claude Code",
        Transfer,
        positional=("transcript_path",),
        add_arguments=_transfer,
    ),
    Verb(
        "gate",
        "an opt-in review at the end of each turn of Claude Code",
        add_arguments=_gate,
        prints_envelope=False,
    ),
    Verb(
        "uninstall",
        "remove all that codex-counsel keeps on this machine; asks first",
        add_arguments=_uninstall,
        prints_envelope=False,
    ),
)
