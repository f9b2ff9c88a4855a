"""Parses the command line: the verbs of `verb_table`, with flags that are derived from the request dataclasses.

Name, type, choices, default and help text of a flag come from the field of the request.
What a terminal needs differently is in the table.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from codex_counsel import __version__
from codex_counsel.cli.page import terminal_width
from codex_counsel.cli.verb_table import (
    COMPAT_HELP,
    EXIT_CODE_LIST,
    PACK_HELP,
    SCOPES_HELP,
    STAYS_HERE,
    VERBS,
    add_compat_flags,
    add_output_flags,
    add_pack_file,
)
from codex_counsel.contract.request import RunRequest, ToolRequest
from codex_counsel.errors import USAGE
from codex_counsel.system.json_values import JsonObject

DESCRIPTION = "Ask OpenAI's Codex for a second opinion, a review, or a diff. It runs in a sandbox."

HELP = {
    "workspace_root": "the directory of the project; default: the current one",
    "model": "the model; default: CODEX_COUNSEL_MODEL, then that of your Codex configuration",
    "effort": "the reasoning effort; default: CODEX_COUNSEL_EFFORT, then that of your Codex configuration, then high "
    "for a question or a review, and that of the model for a task",
    "extra_roots": "one more directory that Codex may read; may be repeated",
    "timeout_seconds": "end the run after this many seconds",
    "max_tokens": "let the run use at most so many tokens, 1000 or more; then Codex answers with what it has seen",
    "idempotency_key": "a second call with the same key and arguments returns the first run",
    "use_reserve": "run also where this spends what CODEX_COUNSEL_RESERVE keeps",
    "session_id": "continue this Codex thread",
    "profile": "a configuration profile of Codex",
    "stance": "challenge: look for reasons against it",
    "text_only": "run no commands: answer from the text alone",
    "images": "an image to send along; may be repeated",
    "web_search": "let Codex search the web",
    "network": "let the commands that Codex runs use the network",
    "scope": "what to review, see below; default: that of the project file, else working_tree",
    "base": "for --scope branch: the branch or commit to compare with; default: that of the project file, else the "
    "default branch of the remote, then the upstream, then main or master",
    "commit": "for --scope commit: the commit; default: HEAD",
    "range": "for --scope range: A..B or A...B; default in a hook of pre-commit: what is about to be pushed",
    "pr": "review a pull request or merge request of a remote of this repository, by number or URL; it is fetched "
    "into objects of codex-counsel, never into your branches or files; --base names another base",
    "since": "for --scope branch and range, and --pr; last: send only what no review has seen yet; default: base, that "
    "is all",
    "focus": "what to look at, or a question about an earlier review",
    "plan": "the agreed plan: steps that are missing in the change become findings",
    "plan_path": "the same from a file",
    "from_job": "continue from the diff and the thread of this task: its job id, or the first digits of it",
    "allow_paths": "a sensitive path that you have looked at and accept; may be repeated",
    "check_only": "say whether the diff can be applied; write nothing",
    "prove": "have a test written and run for each critical and high finding, or for all; one more turn each",
    "attempts": "so many runs from the same start, ranked",
    "check": "a shell command that the result must pass; it is run in the copy, in the sandbox; default: that of the "
    "project file, if any",
    "judge": "let one more turn compare the attempts, without knowing their checks",
    "models": "the model of one attempt; give it once for each",
    "efforts": "the reasoning effort of one attempt; give it once for each",
    "reason": "why, in your words, which later reviews are told; needed to reject",
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
    "pr": "N|URL",
    "focus": "TEXT",
    "plan": "TEXT",
    "reason": "TEXT",
    "check": "COMMAND",
    "models": "NAME",
    "efforts": "NAME",
    "attempts": "N",
    "model": "NAME",
    "effort": "NAME",
    "profile": "NAME",
    "session_id": "ID",
    "idempotency_key": "KEY",
    "timeout_seconds": "N",
    "max_tokens": "N",
    "limit": "N",
}
MEANT = {
    "--proof": "did you mean --prove?",
    "--proofs": "did you mean --prove?",
    "--path": "name files and folders without a flag",
    "--paths": "name files and folders without a flag",
}
"""What is written for a flag that has another name, or none."""
OLD_COMMANDS = ("", "mcp-server", "mcp", "mcp serve")
"""The words after `codex` that began that server, by release."""
NEAR = 0.7
"""How alike two words must be: below it, `--check` is taken for `--help`."""
ALONE = {"prove": "high"}
"""Flags that may stand without a value, and the value that they have then."""
SHORT_FLAGS = {"workspace_root": "-C"}
NO_FLAGS = {"detail", "cursor", "extra_context", "output_schema"}
"""A terminal has no byte budget, so it needs no pages; long texts are read from files."""


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
    of_verb = parser_of_verb(parser, arguments.verb or "")
    of_verb = parser_of_verb(of_verb, getattr(arguments, "packed_verb", ""))
    if unknown:
        words = f"there is no argument {unknown[0]!r} here"
        if arguments.verb == "mcp":
            of_verb.error(words + _instead(unknown[0]))
        of_verb.error(words + _elsewhere(unknown[0]))
    if arguments.verb == "mcp" and not arguments.compat:
        _check_compat_flags(of_verb, arguments)
    return arguments


def parse_compat(argv: list[str]) -> argparse.Namespace:
    """The arguments of `codex-mcp-server`, as those of `codex-counsel mcp --compat`. Exits as `parse`."""
    parser = Parser(
        prog="codex-mcp-server",
        description="Serve the two tools of the removed `codex mcp-server` over stdio: codex and codex-reply.",
        epilog=COMPAT_HELP,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-V",
        "--version",
        action="version",
        version=f"codex-mcp-server {__version__}",
    )
    parser.add_argument("command", nargs="*", metavar="mcp-server", help="ignored")
    add_compat_flags(parser)
    arguments, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        parser.error(f"there is no argument {unknown[0]!r} here{_instead(unknown[0])}")
    command = " ".join(arguments.command)
    if command not in OLD_COMMANDS:
        parser.error(f"there is no command {command!r} here")
    arguments.verb = "mcp"
    arguments.compat = True
    return arguments


def _instead(argument: str) -> str:
    # Only a mistake needs it, and every verb imports this module.
    from codex_counsel.claude.removed_command import REFUSED_OPTIONS

    option = argument.partition("=")[0]
    if option not in REFUSED_OPTIONS:
        return ""
    return f"; {REFUSED_OPTIONS[option]}"


def _check_compat_flags(parser: Parser, arguments: argparse.Namespace) -> None:
    """Exit where a flag is given that needs --compat."""
    compat = argparse.ArgumentParser()
    add_compat_flags(compat)
    for action in compat._actions:  # noqa: SLF001  # argparse has no public way to them
        if getattr(arguments, action.dest, None):
            parser.error(f"{action.option_strings[-1]} needs --compat")


def build_parser(argv: list[str] | None = None) -> Parser:
    """The parser. With `argv` only the verb that it names gets its flags: building all takes longer than some verbs."""
    parser = Parser(
        prog="codex-counsel",
        description=DESCRIPTION,
        epilog=EXIT_CODE_LIST,
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
            epilog=verb.epilog,
            formatter_class=HelpFormatter,
        )
        if argv is not None and verb.name not in argv[:1]:
            continue
        if verb.packs:
            _add_packed_verbs(verb_parser)
        if verb.add_input:
            verb.add_input(verb_parser)
        if verb.add_arguments:
            verb.add_arguments(verb_parser)
        if verb.request:
            _add_flags(verb_parser, verb.request, without=verb.positional)
        if verb.prints_envelope:
            add_output_flags(verb_parser)
    return parser


def _add_packed_verbs(parser: argparse.ArgumentParser) -> None:
    """The verbs whose requests travel, with the arguments that say what is asked."""
    parsers = parser.add_subparsers(dest="packed_verb", required=True, metavar="VERB")
    for verb in VERBS:
        if verb.add_input is None or verb.request is None:
            continue
        scopes = SCOPES_HELP if verb.name == "review" else ""
        packed = parsers.add_parser(
            verb.name,
            help=verb.help,
            description=f"write a file, with which another machine can {verb.help}",
            epilog=scopes + PACK_HELP,
            formatter_class=HelpFormatter,
        )
        add_pack_file(packed)
        verb.add_input(packed)
        _add_flags(packed, verb.request, without=verb.positional, hidden=STAYS_HERE)
        add_output_flags(packed)


def parser_of_verb(parser: Parser, verb: str) -> Parser:
    """The parser of the verb, or for another word the whole one."""
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return action.choices.get(verb, parser)  # type: ignore[no-any-return]
    return parser


def _elsewhere(argument: str) -> str:
    """Which verbs have such a flag, or another way to say it; empty for neither."""
    flag = argument.partition("=")[0]
    if flag in MEANT:
        return f"; {MEANT[flag]}"
    if not flag.startswith("--"):
        return ""
    whole = build_parser()
    owners = []
    for verb in VERBS:
        flags = parser_of_verb(whole, verb.name)._option_string_actions  # noqa: SLF001  # as above
        if flag in flags:
            owners.append(f"`{verb.name}`")
    if not owners:
        return ""
    return f"; it belongs to {', '.join(owners)}"


def _with_suggestion(message: str, words: Iterable[str]) -> str:
    """The message, with the word that comes nearest to the one that it names as unknown."""
    message = re.sub(
        r"^argument VERB: invalid choice: '?(.+?)'? \(choose.*",
        r"there is no verb '\1'",
        message,
        flags=re.DOTALL,
    )
    finding = re.match(r"argument ACTION: invalid choice: '([0-9a-f]{4,16})'", message)
    if finding:
        return f"there is no action '{finding[1]}'; `findings show {finding[1]}` shows that finding"
    match = re.search(
        r"(?:invalid choice: |there is no (?:verb|argument) )['\"]?([^'\"=]+)", message
    )
    if match is None:
        return message
    if " here; " in message:
        return message
    # Only a mistake needs it.
    from difflib import get_close_matches

    near = get_close_matches(match[1], list(words), n=1, cutoff=NEAR)
    if near:
        return f"{message}; did you mean {near[0]}?"
    return message


# --- flags from requests


def _add_flags(
    parser: argparse.ArgumentParser,
    request: type[ToolRequest],
    *,
    without: tuple[str, ...],
    hidden: tuple[str, ...] = (),
) -> None:
    """A flag for each argument of the request; those that every run takes come last, `hidden` ones are not shown."""
    hints = get_type_hints(request)
    every_run = {item.name for item in fields(RunRequest)}
    own = [item for item in fields(request) if item.name not in every_run]
    common = [item for item in fields(request) if item.name in every_run]
    for item in (*own, *common):
        if item.name not in NO_FLAGS and item.name not in without:
            action = _add_flag(parser, item, hints[item.name])
            if item.name in hidden:
                action.help = argparse.SUPPRESS


def _add_flag(
    parser: argparse.ArgumentParser, item: Field[Any], hint: Any
) -> argparse.Action:
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
    if item.name in ALONE:
        options |= {"nargs": "?", "const": ALONE[item.name]}

    flags = [_long_flag(item.name)]
    if item.name in SHORT_FLAGS:
        flags.insert(0, SHORT_FLAGS[item.name])
    return parser.add_argument(*flags, **options)


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
