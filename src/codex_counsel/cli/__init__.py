"""The face towards people and CI: the same services without an agent."""

from __future__ import annotations

import argparse
import os
import sys

from codex_counsel.cli import parser
from codex_counsel.cli.output import guard
from codex_counsel.errors import CounselError
from codex_counsel.system.platform import require_posix


def run(argv: list[str]) -> int:
    """Run one verb; the number is the exit code of the process."""
    guard(os.environ, argv)
    arguments = parser.build_parser(argv).parse_args(argv)
    try:
        return _run_verb(arguments)
    except CounselError as error:
        return _show_failure(arguments, error)
    except BrokenPipeError:
        # The reader of our output is gone. Closing stderr keeps Python from reporting
        # that at exit.
        sys.stderr.close()
        return 1


def _run_verb(arguments: argparse.Namespace) -> int:
    require_posix()
    # Each verb imports what it needs, so that the light ones start fast, and none is
    # imported on a system where it could not be.
    if arguments.verb == "mcp":
        from codex_counsel.server.main import serve

        return serve()
    if arguments.verb == "demo":
        from codex_counsel.cli.demo import demonstrate

        return demonstrate(live=arguments.live)
    if arguments.verb == "gate":
        from codex_counsel.cli.gate import run_gate

        return run_gate(arguments)

    from codex_counsel.cli.verbs import HANDLERS

    return HANDLERS[arguments.verb](arguments)


def _show_failure(arguments: argparse.Namespace, error: CounselError) -> int:
    # Needed only where a verb fails before there is an envelope.
    from codex_counsel.cli.render import show_error

    as_json = getattr(arguments, "json", False)
    return show_error(f"codex-counsel {arguments.verb}", error, as_json=as_json)
