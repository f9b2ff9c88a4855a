"""What the run of a check says: passed, failed, or that it could not even begin."""

from __future__ import annotations

from dataclasses import dataclass

from codex_counsel.contract.vocabulary import CheckStatus
from codex_counsel.delegate.failure_kind import failure_kind
from codex_counsel.kind import CommandRun
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, one_line

MAX_TAIL = 4_000
"""Characters of the end of the output that a result shows."""
MAX_REASON = 500
ENDED = {
    "quota": "it put too much into its copy of the repository",
    "cancelled": "the run was cancelled before the check had ended",
    "abandoned": "the client was gone before the check had ended",
}
"""Ways in which a check is ended that say nothing about the state that it ran in."""


@dataclass(frozen=True)
class Outcome:
    """`reason` is empty where the status says it all. `tail` is the end of the output. Both are masked."""

    status: CheckStatus
    reason: str
    tail: str


def outcome_of(run: CommandRun) -> Outcome:
    """What this run says about the state that it ran in."""
    status, reason = _judged(run)
    return Outcome(status, masked_line(reason), output_tail(run))


def _judged(run: CommandRun) -> tuple[CheckStatus, str]:
    match run.ended:
        case "exited":
            return _judged_by_exit(run)
        case "timeout":
            seconds = f"{run.seconds:.0f} seconds"
            return (
                "timed_out",
                f"it had not ended after {seconds}; see the setting CHECK_SECONDS",
            )
        case "unstarted":
            said = output_tail(run)
            return "not_started", f"the sandbox could not be set up: {said}"
    return "not_run", ENDED.get(run.ended, f"it was ended: {run.ended}")


def _judged_by_exit(run: CommandRun) -> tuple[CheckStatus, str]:
    if run.exit == 0:
        return "passed", ""
    obstacle = failure_kind(run).obstacle
    if obstacle:
        return "not_started", obstacle
    return "failed", ""


def output_tail(run: CommandRun) -> str:
    """The end of the output as a result shows it."""
    text, _ = mask(clean(run.output.decode("utf-8", "replace")))
    return text[-MAX_TAIL:]


def masked_line(text: str) -> str:
    """One line of text from a run, as a result shows it."""
    masked, _ = mask(one_line(text, MAX_REASON))
    return masked
