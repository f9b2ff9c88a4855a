"""Waiting for a run, and what Ctrl-C means meanwhile."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING

from codex_counsel.cli.progress import LINE
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import JobStatus
from codex_counsel.errors import Code, CounselError

if TYPE_CHECKING:
    from codex_counsel.services.counsel import Counsel, Handle

LOOK_SECONDS = 0.5
"""Between two looks at the run while the user decides."""


def wait(counsel: Counsel, handle: Handle) -> EnvelopeDict:
    """The result; that of a run which an interrupt ended; the `running` envelope of one that the user let go on.

    On a terminal, Ctrl-C asks whether to let it run, and a second one ends it. Elsewhere
    the first one does, unless another process began the run and so waits for it too.
    Raises `cancelled` for an ended run without a record, and for one that goes on.
    """
    try:
        with LINE as line:
            return counsel.follow(handle, line.update)
    except KeyboardInterrupt:
        pass

    can_ask = sys.stdin.isatty() and sys.stderr.isatty() and not handle.private
    if can_ask:
        try:
            return _ask(counsel, handle)
        except KeyboardInterrupt:
            pass
    if can_ask:
        print("\nending it …", file=sys.stderr, flush=True)
    elif handle.is_joined:
        raise goes_on(handle.job.id)
    counsel.interrupt(handle)
    if not handle.private:
        # What it had done before, or its result if it was quicker.
        outcome = counsel.collect(handle)
        if outcome is not None:
            return _by_the_user(outcome)
    raise CounselError(Code.CANCELLED, f"Job {handle.job.id} was cancelled")


def goes_on(job_id: str) -> CounselError:
    """What an interrupt of the waiting alone is reported as."""
    return CounselError(
        Code.CANCELLED,
        f"Interrupted: job {job_id} goes on",
        repair=f"Fetch it with `codex-counsel result --wait {job_id}`, or end it with "
        f"`codex-counsel cancel {job_id}`.",
    )


def _by_the_user(outcome: EnvelopeDict) -> EnvelopeDict:
    """For the worker of a cancelled run, its caller went away. The caller is still here."""
    if outcome["status"] == "cancelled" and "error" in outcome:
        return {
            **outcome,
            "error": {**outcome["error"], "message": "The run was cancelled"},
        }
    return outcome


def _ask(counsel: Counsel, handle: Handle) -> EnvelopeDict:
    job_id = handle.job.id
    thread = _thread_of(counsel, handle)
    named = f"Job {job_id}"
    if thread:
        named += f", thread {thread},"
    print(
        f"\n{named} is still running.\n"
        "  Enter: let it run in the background\n"
        "  Ctrl-C again: end it",
        file=sys.stderr,
        flush=True,
    )
    while True:
        result = counsel.collect(handle)
        if result is not None:
            return result
        ready, _, _ = select.select([sys.stdin], [], [], LOOK_SECONDS)
        if ready:
            sys.stdin.readline()
            return counsel.detach(handle)


def _thread_of(counsel: Counsel, handle: Handle) -> str | None:
    """The Codex thread of the run, once there is one."""
    try:
        wire = counsel.job_status(JobStatus(job_id=handle.job.id))
    except CounselError:
        return None
    thread: str | None = wire["meta"].get("session_id")
    return thread
