"""The turns of a run, read line by line: the one that was asked for and, where its tokens ran out, one for the answer.

Invariants: the second turn begins only where nothing but the budget ended the first, and
Codex had not ended that by itself. Both are recorded one after the other. Whatever ends
the run while it answers ends it as it would before; only a limit of the answer itself
leaves the budget as the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from codex_counsel.codex import events, rollout
from codex_counsel.codex.token_watch import TokenWatch
from codex_counsel.codex.transcript import Transcript, decides_answer
from codex_counsel.jobs import threads
from codex_counsel.jobs.journal import Journal
from codex_counsel.jobs.quota import Quota
from codex_counsel.jobs.spec import THREAD, Spec
from codex_counsel.system.supervisor import BUDGET, Supervisor

ANSWER_SECONDS = 120.0
"""How long the turn that answers may take, where the run has so much time left."""
LEAST_SECONDS = 5.0
"""In less time no answer comes, and the thread would be paid for once more."""
ANSWER_TOKENS = 20_000
"""Tokens after which that turn is ended, or a fifth of the limit if that is more.

Its first response repeats the thread, and may be above this by itself: then it is the
last one.
"""


@dataclass(frozen=True)
class Exit:
    """How the run ended.

    `reason` is exited, timeout, stalled, quota, budget, cancelled, abandoned, died or
    unsaved. `detail` is a sentence about it, empty for most. `survivors` are the pids of
    its processes that could not be ended.
    """

    reason: str
    returncode: int | None = None
    stderr: str = ""
    survivors: tuple[int, ...] = ()
    detail: str = ""

    @classmethod
    def of(cls, supervisor: Supervisor) -> Exit:
        """What the supervisor saw."""
        return cls(
            reason=supervisor.reason,
            returncode=supervisor.returncode,
            stderr=supervisor.stderr.decode("utf-8", "replace"),
            survivors=tuple(supervisor.survivors),
        )


class Starter(Protocol):
    """What starts Codex for the turn that answers: the worker."""

    end_reason: str
    """Why the run is to end, or empty."""

    def start_last_turn(self, argv: Sequence[str], seconds: float) -> Supervisor | None:
        """None where the run is to end: see `end_reason`. Raises OSError where Codex cannot be started."""


def read(
    spec: Spec, supervisor: Supervisor, journal: Journal, starter: Starter
) -> tuple[Transcript, Exit]:
    """Read Codex to its end, and let it answer where its tokens ran out."""
    reading = _Reading(spec, journal)
    exit_ = reading.follow(supervisor)
    if exit_.reason == BUDGET and reading.transcript.failure is not None:
        exit_ = replace(exit_, reason="exited")
    elif exit_.reason == BUDGET and not reading.transcript.completed:
        exit_ = _answer(reading, exit_, supervisor.seconds_left, starter)

    quota = reading.quota
    # What a run made just before its end is still to be captured.
    if spec.has_tree and quota.exceeded_at_end() and exit_.reason == "exited":
        exit_ = replace(exit_, reason="quota")
    if quota.reason:
        exit_ = replace(exit_, detail=quota.reason)
    return reading.transcript, exit_


def _answer(
    reading: _Reading, first: Exit, seconds_left: float, starter: Starter
) -> Exit:
    """Take the turn that answers; returns how the run ended by that."""
    argv = reading.spec.last_turn
    thread_id = reading.transcript.thread_id
    seconds = min(ANSWER_SECONDS, seconds_left)
    if seconds < LEAST_SECONDS:
        return replace(first, detail="no time was left for an answer")
    if not argv or not thread_id:
        return first
    argv = tuple(thread_id if part == THREAD else part for part in argv)
    reading.allow_answer()
    try:
        supervisor = starter.start_last_turn(argv, seconds)
    except OSError as error:
        return replace(
            first, detail=f"Codex could not be started again: {error.strerror}"
        )
    if supervisor is None:
        return replace(first, reason=starter.end_reason)

    second = reading.follow(supervisor)
    second = replace(second, survivors=(*first.survivors, *second.survivors))
    details = {
        "timeout": f"asked to answer, Codex did not within {seconds:.0f} seconds",
        "stalled": "asked to answer, Codex was silent",
        BUDGET: "asked to answer, Codex went on using tokens",
    }
    if second.reason in details:
        return replace(second, reason=BUDGET, detail=details[second.reason])
    return second


class _Reading:
    """One transcript, one watch over files and one over tokens, for all turns of a run."""

    def __init__(self, spec: Spec, journal: Journal) -> None:
        self.spec = spec
        self.transcript = Transcript()
        self.quota = Quota(spec.scratch, spec.max_bytes, spec.max_entries)
        self._journal = journal
        self._noted_thread = False
        self._tokens: TokenWatch | None = None
        self._max_tokens = 0
        self._was_above = False
        if spec.max_tokens:
            self._tokens = TokenWatch(
                Path(spec.codex_home), spec.session_id, journal.codex_began
            )
            self._max_tokens = spec.max_tokens
        self.quota.begin()

    def allow_answer(self) -> None:
        """Raise the limit for the turn that answers."""
        if self._tokens:
            more = max(ANSWER_TOKENS, self._max_tokens // 5)
            # What the first turn was charged while it ended is on record by now.
            used = self._tokens.look(self.transcript.thread_id)
            self._max_tokens = used + more
        self._was_above = False

    def follow(self, supervisor: Supervisor) -> Exit:
        """Read one turn to its end."""
        supervisor.reason_to_stop = self._reason_to_stop
        supervisor.seconds_since_other_activity = lambda: seconds_since_other_activity(
            self.spec, self.transcript
        )
        for line in supervisor.lines():
            self._add(line, supervisor)
        return Exit.of(supervisor)

    def _add(self, line: bytes, supervisor: Supervisor) -> None:
        event = events.parse(line)
        if isinstance(event, events.ThreadStarted):
            self._note_thread(event.thread_id)
        self._journal.add_event(
            line,
            begins_thread=isinstance(event, events.ThreadStarted),
            decides_answer=decides_answer(event),
            ends_turn=isinstance(event, events.TurnCompleted | events.TurnFailed),
        )
        transcript = self.transcript
        if transcript.add(event):
            supervisor.note_activity()
        if transcript.is_over:
            supervisor.expect_end()
        self._journal.note_progress(transcript)
        if self.spec.review and transcript.thread_id and not self._noted_thread:
            threads.note_review(self.spec.state, transcript.thread_id, self.spec.job_id)
            self._noted_thread = True

    def _note_thread(self, thread_id: str) -> None:
        """Note a new thread of `codex` before anybody can know its id. Of a continued one the caller notes the turn."""
        if self.spec.thread and self.spec.session_id is None:
            turn = threads.Turn(self.spec.job_id, self.spec.thread)
            threads.note_turn(self.spec.state, thread_id, turn)

    def _reason_to_stop(self) -> str:
        if self.quota.exceeded():
            return "quota"
        if self._tokens is None or self.transcript.is_over:
            return ""
        used = self._tokens.look(self.transcript.thread_id)
        is_above = used >= self._max_tokens
        # The tokens of the last response are on record just before the turn ends, so
        # the first look that finds too many stops nothing yet.
        must_stop = is_above and self._was_above
        self._was_above = is_above
        return BUDGET if must_stop else ""


def seconds_since_other_activity(spec: Spec, transcript: Transcript) -> float:
    """Since a sign of life besides output: a change of the rollout file. While a command runs, no silence counts."""
    if transcript.open_commands:
        return 0.0
    return rollout.seconds_since_growth(rollout_file(spec, transcript))


def rollout_file(spec: Spec, transcript: Transcript) -> Path | None:
    """Codex's own record of the run's thread, if there is one."""
    if not transcript.thread_id:
        return None
    return rollout.find(Path(spec.codex_home), transcript.thread_id)
