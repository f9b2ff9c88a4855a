"""What the caller of `codex` and `codex-reply` gets of a turn: one text, and the thread."""

from __future__ import annotations

from dataclasses import dataclass

from codex_counsel.compat import failures, work
from codex_counsel.contract.compat import WAIT, CompatAnswer
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.jobs import recovery, threads
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.kind import CUT_SHORT, MASKED
from codex_counsel.services import results
from codex_counsel.system.text import cut

AT_WORK = "Codex is still at work, and goes on with it."
QUEUED = (
    "Codex has not begun: the run waits until another one has ended, and begins then."
)
STILL_RUNNING = """\
{state} To get its answer call codex-reply with threadId {thread} and the prompt {wait}: that costs nothing, and may \
be repeated. `codex-counsel cancel {job}` ends the run."""
CUT = (
    "The answer is longer, and cut here: `codex-counsel result {job}` prints all of it."
)
MAX_ANSWER_BYTES = 1_000_000
FAILURE_BYTES = 8_000
TOLD_WARNINGS = (MASKED, CUT_SHORT)
"""How the warnings end that a caller is told: the answer is not what the model said, or not all of it."""


@dataclass(frozen=True)
class StartedTurn:
    """A turn that runs, or has ended. `notes` are lines for its answer; `continued` is the thread that goes on."""

    handle: Handle
    notes: tuple[str, ...] = ()
    continued: str = ""

    @property
    def thread_id(self) -> str:
        """The thread, empty while a new one has not begun."""
        return self.continued or self.handle.job.state().thread_id or ""


def answer(store: Store, turn: StartedTurn, wire: EnvelopeDict | None) -> CompatAnswer:
    """What the caller gets of a turn. `wire` is None where it goes on without him."""
    job = turn.handle.job
    if wire is None:
        turn.handle.detach()
        turn.handle.release()
        wire = recovery.outcome(job)
    if wire is None:
        thread_id = _id_to_wait_with(store, job)
        state = QUEUED if job.state().phase == "queued" else AT_WORK
        text = STILL_RUNNING.format(
            state=state, thread=thread_id, wait=WAIT, job=job.id
        )
        return CompatAnswer(
            thread_id=thread_id, content="\n\n".join([text, *turn.notes])
        )

    results.mark_received(store, job.id)
    if not wire["ok"]:
        return failure(wire)
    thread_id = str(wire["meta"].get("session_id", ""))
    parts = [_bounded(str(wire.get("answer", wire["summary"])), job)]
    if "diffstat" in wire:
        parts += work.of_task(wire, job.id)
    else:
        parts += work.of_change(wire)
    parts += _told_warnings(wire)
    return CompatAnswer(thread_id=thread_id, content="\n\n".join([*parts, *turn.notes]))


def _id_to_wait_with(store: Store, job: Job) -> str:
    """The thread, or the job itself where no note leads from the thread to it: as long as there is none."""
    thread_id = job.state().thread_id or job.spec().session_id or ""
    note = threads.latest_turn(store.state, thread_id)
    if note and note.job_id == job.id:
        return thread_id
    return job.id


def failure(wire: EnvelopeDict) -> CompatAnswer:
    """What the caller gets of an envelope that is not `ok`: code, message and repair, then what Codex had said."""
    meta = wire["meta"]
    details = (wire.get("error") or {}).get("details", {})
    thread_id = meta.get("session_id") or details.get("session_id") or ""
    parts = [cut(failures.words_of(wire), FAILURE_BYTES)]
    if wire.get("answer"):
        interim = cut(str(wire["answer"]), MAX_ANSWER_BYTES)
        parts.append(f"Interim message, not a finished answer:\n{interim}")
    if wire.get("diff"):
        parts += work.of_failed_task(wire, str(meta["job_id"]))
    else:
        parts += work.of_change(wire)
    return CompatAnswer(
        thread_id=str(thread_id), content="\n\n".join(parts), is_error=True
    )


def _bounded(text: str, job: Job) -> str:
    """The answer, which is on the wire twice: as text and as structured content."""
    bounded = cut(text, MAX_ANSWER_BYTES)
    if bounded == text:
        return text
    return f"{bounded}\n\n{CUT.format(job=job.id)}"


def _told_warnings(wire: EnvelopeDict) -> list[str]:
    """Of the warnings, those without which the answer would be taken for what it is not."""
    warnings = wire["meta"].get("warnings", [])
    return [warning for warning in warnings if warning.endswith(TOLD_WARNINGS)]
