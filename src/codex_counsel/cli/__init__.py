"""The face towards people and CI: the same services without an agent."""

from __future__ import annotations

import argparse
import io
import sys

from codex_counsel.cli import parser
from codex_counsel.errors import CATALOG, CounselError


def run(argv: list[str]) -> int:
    """Run one verb; the number is the exit code of the process."""
    _escape_what_the_terminal_lacks()
    arguments = parser.build(argv).parse_args(argv)
    try:
        return _run_verb(arguments)
    except CounselError as error:
        return _show_failure(arguments, error)
    except BrokenPipeError:
        # The reader of our output is gone. Closing stderr keeps Python from reporting
        # that at exit.
        sys.stderr.close()
        return 1


def _escape_what_the_terminal_lacks() -> None:
    """A character that the terminal's encoding lacks is printed as an escape, not raised as an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run_verb(arguments: argparse.Namespace) -> int:
    # Each verb imports what it needs, so that the light ones start fast.
    from codex_counsel.system.path import require_posix

    require_posix()
    if arguments.verb == "mcp":
        from codex_counsel.server.main import serve

        return serve()
    if arguments.verb == "demo":
        from codex_counsel.cli.demo import demonstrate

        return demonstrate(live=arguments.live)
    if arguments.verb == "gate":
        from codex_counsel.cli.gate import run_gate

        return run_gate(arguments)

    from codex_counsel.cli.verbs import VERBS

    return VERBS[arguments.verb](arguments)


def _show_failure(arguments: argparse.Namespace, error: CounselError) -> int:
    from codex_counsel.cli.render import show
    from codex_counsel.contract.envelope import failed

    wire = failed(f"codex-counsel {arguments.verb}", error).wire()
    show(wire, as_json=getattr(arguments, "json", False))
    return CATALOG[error.code].exit_code
