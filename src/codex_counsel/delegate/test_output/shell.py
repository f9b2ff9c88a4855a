"""Shells, make and npm, which start the tests: what they say when they could not, and what they add to the output."""

from __future__ import annotations

import re
import signal

from codex_counsel.delegate.test_output.model import FailureKind, Output, quoted

COULD_NOT_START = {126: "cannot be executed", 127: "was not found"}
"""Exit codes of a shell for a program that it could not start."""
_MISSING = re.compile(
    r".*: (?:(?:command )?not found|No such file or directory|Permission denied"
    r"|cannot execute.*|bad interpreter.*|not executable.*)$"
)
_SHELL_SYNTAX = re.compile(
    r"(?:/bin/)?(?:ba|da)?sh: (?:-c: )?(?:line )?\d+: (?:[Ss]yntax error|unexpected EOF)"
)
_MAKE_ERROR = re.compile(r"g?make(?:\[\d+\])?: \*\*\* \[.*\] Error (\d+)(?: .*)?$")
_MAKE_FOLDER = re.compile(r"g?make(?:\[\d+\])?: (?:Leaving|Entering) directory ")
_MAKE_RULE = re.compile(
    r"g?make: \*\*\* (?:No rule to make target '[^']*'|No targets specified and no makefile found)\.  Stop\.$"
)
_NPM = re.compile(r"npm (?:error|ERR!)(?: |$)")
_NPM_OBSTACLE = re.compile(
    r"npm (?:error|ERR!) (Missing script: .*|missing script: .*|npx canceled due to missing packages.*"
    r"|could not determine executable to run|code (?:ENOENT|ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET))"
)
_TRAILERS = re.compile(
    r"error Command failed with exit code \d+\.|info Visit https://yarnpkg\.com/|\s*ELIFECYCLE\s"
)
"""What yarn and pnpm add after a failed script."""
SIGNALS_OF_FAULTS = frozenset(
    (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS)
)
"""Signals by which a program is ended for what it did itself."""


def unwrapped(output: Output) -> Output:
    """The output of the tests without what make, npm, yarn or pnpm added to its end; the exit code that make names."""
    lines = list(output.lines)
    code = output.exit
    while lines:
        error = _MAKE_ERROR.match(lines[-1])
        is_added = _MAKE_FOLDER.match(lines[-1]) or _NPM.match(lines[-1])
        if error and output.exit == 2:
            code = int(error[1])
        elif lines[-1].strip() and not is_added and not _TRAILERS.match(lines[-1]):
            break
        lines.pop()
    return Output(lines, code, output.test_files)


def starter(output: Output) -> FailureKind | None:
    """For an output that is not unwrapped: what kept make or npm from starting anything."""
    rule = _MAKE_RULE.match(output.last)
    if rule and output.exit == 2:
        return FailureKind("not_started", obstacle=quoted(output.last))
    if not _NPM.match(output.last):
        return None
    obstacle = output.near_end(_NPM_OBSTACLE, 20)
    if obstacle:
        return FailureKind("not_started", obstacle=f"npm says: {quoted(obstacle[1])}")
    return None


def shell(output: Output) -> FailureKind | None:
    """What kept the shell from starting a program."""
    if output.exit in COULD_NOT_START:
        obstacle = f"a program of the command {COULD_NOT_START[output.exit]}"
        line = output.near_end(_MISSING, 5)
        if line:
            obstacle = f"{obstacle} ({quoted(line[0])})"
        return FailureKind("not_started", obstacle=obstacle)
    if output.exit == 2 and _SHELL_SYNTAX.match(output.last):
        obstacle = f"the shell cannot read the command ({quoted(output.last)})"
        return FailureKind("not_started", obstacle=obstacle)
    return None


def fault(output: Output) -> FailureKind | None:
    """A program that a signal ended for what it did."""
    number = output.exit - 128
    if number in SIGNALS_OF_FAULTS:
        return FailureKind("exception", signal.Signals(number).name)
    return None
