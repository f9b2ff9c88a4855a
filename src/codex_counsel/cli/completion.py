"""Completes the command line of a shell: `codex-counsel completion bash|zsh|fish` prints the script that asks for it.

On a Tab the script starts `codex-counsel` from PATH, never the file that the line names,
with the line in the environment; `argcomplete` parses it, and writes the candidates to
descriptor 8. Standard output and error lead nowhere then.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from argcomplete.completers import SuppressCompleter
from argcomplete.finders import CompletionFinder
from argcomplete.shell_integration import shellcode

from codex_counsel.cli.output import print_own
from codex_counsel.cli.parser import build_parser, parser_of_verb
from codex_counsel.contract.vocabulary import FindingState
from codex_counsel.errors import DONE, CounselError
from codex_counsel.services import candidates, choosing
from codex_counsel.services.findings import STATES, USUAL_STATES

PROGRAM = "codex-counsel"

ZSH_FILES = f"""
# Where nothing else fits, a file may be meant.
if [[ $? != 0 && $zsh_eval_context == *func ]]; then
    _files
elif [[ $zsh_eval_context != *func ]]; then
    _codex_counsel() {{ _python_argcomplete_{PROGRAM} "$@" || _files }}
    compdef _codex_counsel {PROGRAM}
fi
"""
ZSH_LINE = "${(j: :)words[1,CURRENT-1]} $PREFIX"
ZSH_COMMAND = (
    ("$BUFFER", ZSH_LINE),
    ("$CURSOR", f"${{#${{:-{ZSH_LINE}}}}}"),
)
"""For zsh, the command up to the cursor in place of the whole line, which may have others before it."""
FISH_FILES = f"""
# Where nothing else fits, a file may be meant.
function __fish_{PROGRAM}_or_files
    set -l found (__fish_{PROGRAM}_complete)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command {PROGRAM} --erase
complete --command {PROGRAM} -f -a '(__fish_{PROGRAM}_or_files)'
"""
FILES = {"bash": "", "zsh": ZSH_FILES, "fish": FISH_FILES}
"""What makes the shell complete files where there are no candidates. In bash an option of `complete` does."""

DECIDED_STATES: dict[str, tuple[FindingState, ...]] = {
    "accept": ("open", "rejected"),
    "reject": ("open", "accepted"),
    "reopen": ("accepted", "rejected", "fixed", "stale"),
    "forget": STATES,
    "show": STATES,
}
"""The findings that each action is for."""


class Request:
    """What was typed so far: the word that is to be completed and the arguments before it."""

    def __init__(
        self, env: Mapping[str, str], prefix: str, arguments: argparse.Namespace
    ) -> None:
        # As for all verbs, the current directory is meant.
        self.env = {
            name: value for name, value in env.items() if name != "CLAUDE_PROJECT_DIR"
        }
        self.prefix = prefix
        self.arguments = arguments

    @property
    def directory(self) -> Path:
        """The directory that -C names, or the current one."""
        named: str | None = getattr(self.arguments, "workspace_root", None)
        return Path(named or Path.cwd()).resolve()


Source = Callable[[Request], Mapping[str, str]]
"""The candidates with their descriptions. Those that do not begin with the prefix are left out by `argcomplete`."""


def _asked_for(request: Request) -> Mapping[str, str]:
    return candidates.runs(request.directory, choosing.was_asked_for)


def _running(request: Request) -> Mapping[str, str]:
    return candidates.runs(request.directory, candidates.is_running)


def _delegated(request: Request) -> Mapping[str, str]:
    return candidates.runs(request.directory, candidates.is_delegated)


def _reviews(request: Request) -> Mapping[str, str]:
    return candidates.runs(request.directory, candidates.is_review)


def _findings(request: Request) -> Mapping[str, str]:
    action = getattr(request.arguments, "action", "list")
    states = DECIDED_STATES.get(action, USUAL_STATES)
    return candidates.finding_ids(request.env, request.directory, states)


def _refs(request: Request) -> Mapping[str, str]:
    return candidates.refs(request.env, request.directory, request.prefix)


def _models(request: Request) -> Mapping[str, str]:
    return candidates.models(request.env)


def _efforts(request: Request) -> Mapping[str, str]:
    return candidates.efforts(request.env)


SOURCES: dict[tuple[str, str], Source] = {
    ("result", "job_id"): _asked_for,
    ("apply", "job_id"): _delegated,
    ("cancel", "job_id"): _running,
    ("check", "result"): _reviews,
    ("comment", "result"): _reviews,
    ("compare", "jobs"): _delegated,
    ("delegate", "from_job"): _delegated,
    ("findings", "id"): _findings,
}
"""By verb and argument."""
SOURCES_OF_ANY_VERB: dict[str, Source] = {
    "base": _refs,
    "commit": _refs,
    "model": _models,
    "models": _models,
    "effort": _efforts,
    "efforts": _efforts,
}


def print_script(shell: str) -> int:
    """Print the script for a shell of `SHELLS`; returns the exit code."""
    # With a script of its own the functions have names of their own too, and a program of
    # this name in a directory that somebody else made is not started by a Tab.
    script = shellcode([PROGRAM], shell=shell, argcomplete_script=PROGRAM)
    for whole_line, command in ZSH_COMMAND:
        script = script.replace(whole_line, command)
    print_own(script + FILES[shell], sys.stdout, end="")
    return DONE


def complete(env: Mapping[str, str]) -> NoReturn:
    """Write the candidates for the line in the environment, and end the process."""
    words = env["COMP_LINE"].split()
    parser = build_parser(words[1:2])
    verb = "".join(words[1:2])
    _add_sources(env, verb, parser_of_verb(parser, verb))
    finder = CompletionFinder()
    # Flags are offered only behind a dash: else a file would never be. For all arguments
    # without a source there are no candidates, so that the shell offers its files.
    finder(parser, always_complete_options=False, default_completer=SuppressCompleter())
    raise AssertionError("argcomplete ends the process")


def _add_sources(
    env: Mapping[str, str], verb: str, parser: argparse.ArgumentParser
) -> None:
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to them
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # as above
            for name, inner in action.choices.items():
                _add_sources(env, name, inner)
        source = SOURCES.get((verb, action.dest)) or SOURCES_OF_ANY_VERB.get(
            action.dest
        )
        if source:
            action.completer = _completer(env, source)  # type: ignore[attr-defined]


def _completer(
    env: Mapping[str, str], source: Source
) -> Callable[..., Mapping[str, str]]:
    """The source as `argcomplete` calls it."""

    def candidates_of(
        prefix: str, parsed_args: argparse.Namespace, **_: object
    ) -> Mapping[str, str]:
        # Such as outside of a repository: there is nothing to offer, and no place to say why.
        with contextlib.suppress(CounselError, OSError):
            return source(Request(env, prefix, parsed_args))
        return {}

    return candidates_of
