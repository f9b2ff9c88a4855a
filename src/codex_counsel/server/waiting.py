"""Waiting for a run on behalf of a client: progress, the soft deadline, cancellation, the client's end.

A run in a private directory cannot be handed over: its caller is kept waiting, whatever the deadline.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
from fastmcp.server.context import Context

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import CounselError
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import describe
from codex_counsel.services.counsel import Counsel

FIRST_PROGRESS_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
JOINED_POLL = 0.1
_LIMITER: list[anyio.CapacityLimiter] = []
_STDIN = os.dup(0) if os.name == "posix" else -1
"""The SDK points descriptor 0 elsewhere while it serves."""


async def launched(counsel: Counsel, launch: Callable[[], Handle], caller: Caller) -> Handle:
    """Launch in a thread, saying so meanwhile. A request that was cancelled by then ends what it launched."""
    handle, failure = None, None
    try:
        async with anyio.create_task_group() as meanwhile:
            meanwhile.start_soon(caller.hear_of_start)
            try:
                handle = await anyio.to_thread.run_sync(launch, limiter=threads())
            except Exception as error:  # noqa: BLE001  # out of the group as it is
                failure = error
            meanwhile.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()
    except anyio.get_cancelled_exc_class():
        if handle:
            await _let_go(counsel, handle)
        raise
    if handle is None:
        raise failure or RuntimeError("nothing was launched")
    return handle


async def wait_for(counsel: Counsel, handle: Handle, caller: Caller, detail: str) -> EnvelopeDict:
    """The result, or the `running` envelope once the soft deadline has passed and the client cannot be kept waiting."""
    try:
        wire = await _until_deadline(counsel, handle, caller)
    except anyio.get_cancelled_exc_class():
        await _let_go(counsel, handle)
        raise
    return counsel.deliver(handle, wire, detail) if wire else counsel.hand_over(handle, detail)


async def _let_go(counsel: Counsel, handle: Handle) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(_abandoned, counsel, handle)


def _abandoned(counsel: Counsel, handle: Handle) -> None:
    """The request was cancelled: the run it launched ends. The client went away: a run that was handed over stays."""
    if handle.joined or (handle.detached and client_gone()):
        return
    handle.release()
    counsel.store.cancel(handle.job)


def threads() -> anyio.CapacityLimiter:
    """Enough for calls that wait with `wait_seconds` not to hold up the others."""
    if not _LIMITER:
        _LIMITER.append(anyio.CapacityLimiter(200))
    return _LIMITER[0]


def client_gone() -> bool:
    """Whether the other end of our stdin is closed."""
    poll = select.poll()
    hangup = getattr(select, "POLLRDHUP", 0)
    poll.register(_STDIN, select.POLLHUP | hangup)
    return bool(poll.poll(0))


async def _until_deadline(counsel: Counsel, handle: Handle, caller: Caller) -> EnvelopeDict | None:
    deadline = caller.arrived + counsel.settings.sync_seconds
    next_report = time.monotonic() + FIRST_PROGRESS_SECONDS
    while (wire := handle.collect()) is None:
        now = time.monotonic()
        if now >= deadline and not handle.detached and not handle.private:
            if not caller.patient:
                return None
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
        self.arrived = time.monotonic()
        self._context = context
        request = context.request_context
        self._token = (request.meta or {}).get("progressToken") if request else None
        params = request.session.client_params if request else None
        self._name = params.client_info.name if params else ""

    @property
    def patient(self) -> bool:
        """Claude Code with a progress token waits for hours as long as progress comes."""
        return self._token is not None and self._name == "claude-code"

    async def hear_of_start(self) -> None:
        """Progress for as long as there is no run to report on."""
        await anyio.sleep(FIRST_PROGRESS_SECONDS)
        while True:
            await self._say(f"starting ({int(time.monotonic() - self.arrived)}s)")
            await anyio.sleep(PROGRESS_SECONDS)

    async def report(self, handle: Handle) -> None:
        with contextlib.suppress(CounselError):  # a record that someone damaged costs the progress, not the answer
            if progress := handle.job.running().progress:
                await self._say(describe(progress))

    async def _say(self, message: str) -> None:
        """Progress counts from the arrival of the request: it must grow."""
        if self._token is not None:
            await self._context.report_progress(time.monotonic() - self.arrived, message=message)
