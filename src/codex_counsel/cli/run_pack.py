"""The verb `run`: a pack that another machine made is run here, and what comes of it is written to a file."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from codex_counsel.cli.progress import LINE
from codex_counsel.cli.render import DOCUMENTS, Output, Target
from codex_counsel.cli.waiting import wait
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.errors import Code, CounselError
from codex_counsel.services import run_pack
from codex_counsel.services.checking import Bar, exit_code
from codex_counsel.system.text import visible

if TYPE_CHECKING:
    from codex_counsel.contract.envelope import EnvelopeDict
    from codex_counsel.services.counsel import Counsel


def run(arguments: argparse.Namespace, counsel: Counsel) -> int:
    """Run the pack that the arguments name; returns the exit code, as `result` has it.

    The result file is written for a run that failed too. Where the request cannot be
    started, or the run goes on, no file is written.
    """
    output = Output.of(arguments)
    output.check()
    target = _checked_target(arguments, output)
    LINE.say("unpacking …")
    with _opened(arguments.pack) as file:
        name = _name(arguments.pack)
        started = run_pack.start(
            counsel.context,
            file,
            name,
            background=False,
            network=arguments.network,
        )
    LINE.erase()
    if not arguments.quiet:
        for warning in (*counsel.settings.warnings, *started.warnings):
            print(f"note: {visible(warning)}", file=sys.stderr)

    wire = wait(counsel, started.handle)
    if wire["status"] not in TERMINAL:
        output.show(wire)
        print(
            "note: when it has ended, run the same pack again: you get this run's result file",
            file=sys.stderr,
        )
        return exit_code(wire)
    # Before anything is printed: whoever reads the output may be gone.
    run_pack.write_result(counsel.context, started, target, events=arguments.events)
    _check_document(output, wire, name)
    output.show(wire)
    counsel.deliver(started.handle, wire)
    return exit_code(wire, Bar(fail_on=arguments.fail_on, new_only=arguments.new_only))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """The pack; `-` is standard input. Raises `invalid_arguments`."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # closed below
    except OSError as error:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"{path}: {error.strerror}"
        ) from None
    with file:
        yield file


def _name(path: str) -> str:
    """What messages call the pack."""
    if path == "-":
        return "the pack on standard input"
    return path


def _checked_target(arguments: argparse.Namespace, output: Output) -> Path:
    """The result file, without links. Raises `invalid_arguments` where it cannot be written or exchanged."""
    named = Path(arguments.result_file)
    if arguments.result_file == "-":
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "-o -: standard output has the answer for people, so the result needs a file",
            repair="Name a file; for one of the name `-` write ./-.",
        )
    target = Target("result", Path(os.path.realpath(named)))
    # The file that is there is replaced; a device or a pipe must not be. The path that a
    # pipe without a name, such as /dev/stdout, has without links leads to nothing.
    try:
        is_other = named.exists() and not named.is_file()
    except OSError:
        # Nobody can tell in a directory of another user.
        is_other = True
    if is_other or not target.is_writable:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"-o: {arguments.result_file} cannot be written"
        )
    others = {each.identity for each in output.targets}
    if arguments.pack != "-":
        others.add(Target("pack", Path(arguments.pack)).identity)
    if target.identity in others:
        raise CounselError(
            Code.INVALID_ARGUMENTS, f"-o: {arguments.result_file} is named twice"
        )
    return target.file


def _check_document(output: Output, wire: EnvelopeDict, name: str) -> None:
    """Raise where a format is one for reviews and the pack asked for none."""
    documents = [each for each in output.formats if each in DOCUMENTS]
    if documents and wire["ok"] and "verdict" not in wire:
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"--format {documents[0]} is for reviews, and {name} asks for none",
            repair="The result file is written; run the same pack again with another format: nothing is spent twice.",
        )
