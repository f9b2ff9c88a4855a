"""The face towards people and CI: the same services without an agent."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NoReturn, TextIO

from codex_counsel.cli import parser
from codex_counsel.cli.output import (
    UnwrittenError,
    guard,
    open_missing_streams,
)
from codex_counsel.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    NO_READER,
    UNAVAILABLE,
    USAGE,
    USED_UP,
    Code,
    CounselError,
    error_of,
)
from codex_counsel.system.platform import require_posix

if TYPE_CHECKING:
    from codex_counsel.contract.compat import ServerOptions

Parse = Callable[[list[str]], argparse.Namespace]


def run(argv: list[str], parse: Parse = parser.parse) -> int:
    """Run one verb; the number is the exit code of the process. `parse` reads `argv`, and exits on mistakes."""
    open_missing_streams()
    # A shell asks, on a Tab, what may follow on the command line; see `completion`.
    if "_ARGCOMPLETE" in os.environ and "COMP_LINE" in os.environ:
        from codex_counsel.cli.completion import complete

        complete(os.environ)
    guard(os.environ, argv)
    try:
        return _run(argv, parse)
    except KeyboardInterrupt:
        # While the arguments were read: nothing was begun.
        return INTERRUPTED
    except BrokenPipeError:
        _mute_streams()
        return NO_READER
    except UnwrittenError as error:
        stderr = _mute_streams()
        # It may be the very stream that takes no more.
        with contextlib.suppress(OSError):
            print(f"storage_failed: {error.strerror}", file=stderr)
            print(f"what to do: {error.repair}", file=stderr, flush=True)
        return UNAVAILABLE


def _mute_streams() -> TextIO:
    """Send all later output nowhere; returns what was stderr.

    What is still in the buffers must not make Python report that at exit, and choose an
    exit code of its own.
    """
    stderr = sys.stderr
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    return stderr


def _run(argv: list[str], parse: Parse) -> int:
    arguments = parse(argv)
    if arguments.verb is None:
        parser.build_parser().print_help()
        return DONE
    try:
        code = _run_verb(arguments)
        sys.stdout.flush()
    except CounselError as error:
        return _show_failure(arguments, error)
    except KeyboardInterrupt:
        interrupt = CounselError(Code.CANCELLED, "Interrupted", repair="Call again.")
        return _show_failure(arguments, interrupt)
    except (BrokenPipeError, UnwrittenError):
        raise
    except Exception as error:  # noqa: BLE001  # Python's own exit code for it is that of findings
        return _show_defect(arguments, error)
    return code


def _run_verb(arguments: argparse.Namespace) -> int:
    require_posix()
    # Each verb imports what it needs, so that the light ones start fast, and none is
    # imported on a system where it could not be.
    if arguments.verb == "mcp":
        return _serve(arguments)
    if arguments.verb == "demo":
        from codex_counsel.cli.demo import demonstrate

        return demonstrate(live=arguments.live)
    if arguments.verb == "gate":
        from codex_counsel.cli.gate import run_gate

        return run_gate(arguments)
    if arguments.verb == "completion":
        from codex_counsel.cli.completion import print_script

        return print_script(arguments.shell)
    if arguments.verb == "uninstall":
        from codex_counsel.cli.uninstall import run_uninstall

        return run_uninstall(arguments)
    handle = _handle
    if arguments.verb == "batch":
        handle = _handle_batch
    return handle(arguments)


def _handle_batch(arguments: argparse.Namespace) -> int:
    """Have SIGTERM act as Ctrl-C, but while items run: then the batch has handlers of its own."""
    before = signal.getsignal(signal.SIGTERM)
    if before is signal.SIG_DFL:
        # Python would end without a word, and leave a directory half made.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with nothing_started():
            importlib.import_module("codex_counsel.cli.verbs")
            importlib.import_module("codex_counsel.cli.batch")
        return _handle(arguments)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def nothing_started() -> Iterator[None]:
    """Have an interrupt in the block say that nothing was started."""
    try:
        yield
    except KeyboardInterrupt:
        message = "Interrupted before the batch began; nothing was started"
        raise CounselError(Code.CANCELLED, message, repair="Call again.") from None


def _handle(arguments: argparse.Namespace) -> int:
    from codex_counsel.cli.progress import LINE
    from codex_counsel.cli.verbs import HANDLERS

    LINE.quiet = arguments.quiet
    return HANDLERS[arguments.verb](arguments)


def _serve(arguments: argparse.Namespace) -> NoReturn:
    from codex_counsel.server.main import serve

    if not arguments.compat:
        serve()
    serve(_compat_options(arguments))


def _compat_options(arguments: argparse.Namespace) -> ServerOptions:
    """What the command line names, with what has no effect said on stderr. Exits on a mistake in it."""
    # No other server needs it.
    from codex_counsel.compat import command_line

    features = dict.fromkeys(arguments.enable, True)
    features |= dict.fromkeys(arguments.disable, False)
    try:
        options, remarks = command_line.server_options(
            config=arguments.config,
            features=features,
            model=arguments.model,
            profile=arguments.profile,
            sandbox=arguments.sandbox,
            approval_policy=arguments.ask_for_approval,
        )
    except CounselError as error:
        # Its words are those of Codex's configuration, which `show_error` would translate
        # to flags of ours.
        print(f"codex-mcp-server: {error.message}", file=sys.stderr)
        print(f"what to do: {error.repair}", file=sys.stderr)
        sys.exit(USAGE)
    for remark in remarks:
        print(f"codex-mcp-server: {remark}", file=sys.stderr, flush=True)
    return options


def _show_defect(arguments: argparse.Namespace, error: Exception) -> int:
    """For an error that nobody expected: want of descriptors or memory, else a defect of ours."""
    if isinstance(error, OSError) and error.errno in USED_UP:
        shortage = error_of(Code.INTERNAL, "This could not be finished", error)
        return _show_failure(arguments, shortage)

    # Rarely needed, and start-up time shows it.
    import traceback

    traceback.print_exception(error)
    return FAILED


def _show_failure(arguments: argparse.Namespace, error: CounselError) -> int:
    # Needed only where a verb fails before there is an envelope.
    from codex_counsel.cli.render import show_error

    return show_error(arguments, error)
