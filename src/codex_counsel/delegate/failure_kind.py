"""What made the run of a test fail, as far as its exit code and the end of its output tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from codex_counsel.delegate.test_output import compiled, node, python, shell
from codex_counsel.delegate.test_output.model import OTHER, FailureKind, Output
from codex_counsel.kind import CommandRun

READERS: tuple[Callable[[Output], FailureKind | None], ...] = (
    shell.shell,
    python.pytest,
    python.unittest,
    node.runner,
    node.jest,
    node.vitest,
    node.mocha,
    node.program,
    compiled.cargo,
    compiled.go,
    compiled.java,
    compiled.c,
    compiled.tap,
    python.interpreter,
    python.uncaught,
    shell.fault,
)
"""Those who recognise a runner by its summary come before those who look for an exception."""


def failure_kind(run: CommandRun, test_files: Sequence[str] = ()) -> FailureKind:
    """What made this run fail; `other` for a run that passed, or that was ended.

    `test_files` are the names of the files with the tests, as far as they are known: a
    name that is not defined in one of these is a broken test.
    """
    if run.ended == "unstarted":
        return FailureKind("not_started", obstacle="the sandbox could not be set up")
    if run.ended != "exited" or not run.exit:
        return OTHER
    output = Output.of(run.output, run.exit, test_files)
    kind = shell.starter(output)
    if kind:
        return kind
    tests = shell.unwrapped(output)
    for reader in READERS:
        kind = reader(tests)
        if kind:
            return kind
    return OTHER
