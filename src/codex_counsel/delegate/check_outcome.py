"""What the run of a check says: passed, failed, or that it could not even begin."""

from __future__ import annotations

from dataclasses import dataclass

from codex_counsel.contract.vocabulary import CheckStatus
from codex_counsel.kind import CommandRun
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean

MAX_TAIL = 4_000
"""Characters of the end of the output that a result shows."""
COULD_NOT_START = {126: "cannot be executed", 127: "was not found"}
"""Exit codes of a shell for a command that it could not start."""


@dataclass(frozen=True)
class Outcome:
    """`reason` is empty where the status says it all. `tail` is the end of the output, masked."""

    status: CheckStatus
    reason: str
    tail: str


def outcome_of(run: CommandRun) -> Outcome:
    """What this run says about the state that it ran in."""
    status, reason = _judged(run)
    return Outcome(status, reason, output_tail(run))


def _judged(run: CommandRun) -> tuple[CheckStatus, str]:
    match run.ended:
        case "exited":
            return _judged_by_exit(run)
        case "timeout":
            return "timed_out", f"it did not end within {run.seconds:.0f} seconds"
        case "unstarted":
            return "not_started", "the sandbox could not be set up"
        case "quota":
            return "not_run", "it put too much into its copy of the repository"
    return "not_run", f"the run was {run.ended} before the check had ended"


def _judged_by_exit(run: CommandRun) -> tuple[CheckStatus, str]:
    if run.exit == 0:
        return "passed", ""
    if run.exit in COULD_NOT_START:
        return "not_started", f"a program of the command {COULD_NOT_START[run.exit]}"
    return "failed", ""


def output_tail(run: CommandRun) -> str:
    """The end of the output as a result shows it."""
    text, _ = mask(clean(run.output.decode("utf-8", "replace")))
    return text[-MAX_TAIL:]
