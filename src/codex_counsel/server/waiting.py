"""Waiting for a run on behalf of a client: progress, the soft deadline, cancellation, the client's end.

A run in a private directory cannot be handed over: its caller is kept waiting, whatever the deadline.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

import anyio
import anyio.to_thread
from fastmcp.server.context import Context
from fastmcp.server.dependencies import get_context

from codex_counsel.envelope import Wire
from codex_counsel.errors import CounselError
from codex_counsel.jobs.launcher import Handle
from codex_counsel.jobs.record import describe
from codex_counsel.services import Counsel

FIRST_PROGRESS_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
JOINED_POLL = 0.1
_STDIN = os.dup(0) if os.name == "posix" else -1
"""The SDK points descriptor 0 elsewhere while it serves."""


async def wait_for(counsel: Counsel, handle: Handle, detail: str) -> Wire:
    """The result, or the `running` envelope once the soft deadline has passed and the client cannot be kept waiting."""
    caller = Caller(get_context())
    try:
        wire = await _until_deadline(counsel, handle, caller)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_abandoned, counsel, handle)
        raise
    return wire if wire["status"] in ("running", "queued") else counsel.deliver(handle, wire, detail)


def _abandoned(counsel: Counsel, handle: Handle) -> None:
    """The request was cancelled: the run ends. The client went away: a run that was handed over stays."""
    if not (handle.detached and client_gone()):
        handle.release()
        counsel.store.cancel(handle.job)


def client_gone() -> bool:
    """Whether the other end of our stdin is closed."""
    poll = select.poll()
    hangup = getattr(select, "POLLRDHUP", 0)
    poll.register(_STDIN, select.POLLHUP | hangup)
    return bool(poll.poll(0))


async def _until_deadline(counsel: Counsel, handle: Handle, caller: Caller) -> Wire:
    deadline = time.monotonic() + counsel.settings.sync_seconds
    next_report = time.monotonic() + FIRST_PROGRESS_SECONDS
    while (wire := handle.collect()) is None:
        now = time.monotonic()
        if now >= deadline and not handle.detached and not handle.private:
            if not caller.patient:
                return counsel.hand_over(handle)
            handle.detach()
        if now >= next_report:
            await caller.report(handle)
            next_report = now + PROGRESS_SECONDS
        await _readable(handle, min(next_report, deadline if deadline > now else next_report) - now)
    return wire


async def _readable(handle: Handle, seconds: float) -> None:
    """Until the worker says something, at most so long; a run of another process can only be looked at."""
    if handle.descriptor < 0:
        await anyio.sleep(min(JOINED_POLL, max(seconds, 0)))
        return
    with anyio.move_on_after(max(seconds, 0)):
        await anyio.wait_readable(handle.descriptor)


class Caller:
    """The client of this request, as far as it said."""

    def __init__(self, context: Context) -> None:
        self._context = context
        request = context.request_context
        self._token = (request.meta or {}).get("progressToken") if request else None
        params = request.session.client_params if request else None
        self._name = params.client_info.name if params else ""

    @property
    def patient(self) -> bool:
        """Claude Code with a progress token waits for hours as long as progress comes."""
        return self._token is not None and self._name == "claude-code"

    async def report(self, handle: Handle) -> None:
        if self._token is None:
            return
        with contextlib.suppress(CounselError):  # a record that someone damaged costs the progress, not the answer
            if progress := handle.job.running().progress:
                await self._context.report_progress(progress.elapsed_ms / 1000, message=describe(progress))
