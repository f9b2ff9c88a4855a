"""Waiting for a run on behalf of a client: progress, the soft deadline, cancellation, the client's end.

A run in a private directory cannot be detached: its caller is kept waiting, whatever
the deadline.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from functools import partial

import anyio
import anyio.lowlevel
from fastmcp.server.context import Context

from codex_counsel.contract.envelope import EnvelopeDict, progress_line
from codex_counsel.contract.vocabulary import Detail
from codex_counsel.errors import Code, CounselError
from codex_counsel.server.threads import in_thread
from codex_counsel.services.counsel import Counsel, Handle
from codex_counsel.services.results import FIRST_PAUSE, next_pause

FIRST_PROGRESS_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
JOINED_POLL_SECONDS = 0.1
_STDIN = os.dup(0) if os.name == "posix" else -1
"""The SDK points descriptor 0 elsewhere while it serves."""


class Caller:
    """The client of one request: which it is, whether it wants progress, and progress to it.

    `name` is what the client calls itself; empty where it does not say.
    """

    def __init__(self, context: Context) -> None:
        self.arrived = time.monotonic()
        self._context = context
        self._token: object = None
        self.name = ""
        request = context.request_context
        if request:
            self._token = (request.meta or {}).get("progressToken")
        if request and request.session.client_params:
            self.name = request.session.client_params.client_info.name

    @property
    def is_patient(self) -> bool:
        """Claude Code with a progress token waits for hours as long as progress comes."""
        return self._token is not None and self.name == "claude-code"

    async def report_start(self) -> None:
        """Report progress until cancelled, for as long as there is no run to report on."""
        await anyio.sleep(FIRST_PROGRESS_SECONDS)
        while True:
            await self.report(f"starting ({int(time.monotonic() - self.arrived)}s)")
            await anyio.sleep(PROGRESS_SECONDS)

    async def report(self, message: str) -> None:
        """Send a progress notification, to a client that asked for them."""
        if self._token is not None:
            # The number must grow from one notification to the next: seconds since the
            # request arrived.
            await self._context.report_progress(
                time.monotonic() - self.arrived, message=message
            )


# --- the life of a request


async def launch_in_thread(
    counsel: Counsel, start: Callable[[], Handle], caller: Caller
) -> Handle:
    """Start a run in a thread, with progress meanwhile. If the request is cancelled by then, so is the run."""
    handle: Handle | None = None
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(caller.report_start)
            try:
                handle = await in_thread(start)
            except Exception as error:  # noqa: BLE001  # raised below: the group would wrap it in an ExceptionGroup
                failure = error
            group.cancel_scope.cancel()
        # A cancellation that came while the thread ran is noticed here, before the
        # caller is answered.
        await anyio.lowlevel.checkpoint()
    except anyio.get_cancelled_exc_class():
        if handle:
            await _abandon(counsel, handle)
        raise

    if handle is None:
        raise failure or RuntimeError("nothing was launched")
    return handle


async def wait_for(
    counsel: Counsel, handle: Handle, caller: Caller, detail: Detail
) -> EnvelopeDict:
    """The result, or the `running` envelope once the soft deadline has passed and the client cannot be kept waiting."""
    wire = await result_in_time(counsel, handle, caller)
    if wire is None:
        return counsel.detach(handle, detail)
    return counsel.deliver(handle, wire, detail)


async def result_in_time(
    counsel: Counsel, handle: Handle, caller: Caller
) -> EnvelopeDict | None:
    """The whole result; None once the soft deadline has passed and the client cannot be kept waiting."""
    try:
        return await _result_in_time(counsel, handle, caller)
    except anyio.get_cancelled_exc_class():
        await _abandon(counsel, handle)
        raise


async def _result_in_time(
    counsel: Counsel, handle: Handle, caller: Caller
) -> EnvelopeDict | None:
    """For a patient client the run is detached at the soft deadline, and waited for further."""
    deadline = caller.arrived + counsel.settings.sync_seconds
    next_report = time.monotonic() + FIRST_PROGRESS_SECONDS
    while True:
        wire = await _collect(counsel, handle)
        if wire is not None:
            return wire

        now = time.monotonic()
        if now >= deadline and not handle.private:
            if not caller.is_patient:
                return None
            if not handle.detached:
                handle.detach()
        if now >= next_report:
            progress = counsel.progress(handle)
            if progress:
                await caller.report(progress_line(progress))
            next_report = now + PROGRESS_SECONDS

        wake = next_report
        if now < deadline:
            wake = min(next_report, deadline)
        await _until_readable(handle, max(wake - now, 0))


async def _collect(counsel: Counsel, handle: Handle) -> EnvelopeDict | None:
    """The result, if there is one now.

    To conclude a run whose worker is gone may take minutes: what a task made is captured.
    That is done in a thread, and the other calls go on.
    """
    if handle.is_joined and handle.is_running():
        return None
    try:
        return await in_thread(partial(counsel.collect, handle))
    except CounselError as error:
        if error.code != Code.RESOURCE_LIMIT:
            raise
    # Without a thread the answer is still worth the wait.
    return counsel.collect(handle)


async def until_ended(counsel: Counsel, job_id: str, seconds: float) -> None:
    """Wait for the end of a run, at most so long. However many wait, no thread waits for them."""
    deadline = time.monotonic() + seconds
    handle = counsel.join(job_id)
    pause = FIRST_PAUSE
    while handle.is_running():
        left = deadline - time.monotonic()
        if left <= 0:
            return
        await anyio.sleep(min(pause, left))
        pause = next_pause(pause)


async def _until_readable(handle: Handle, seconds: float) -> None:
    """Wait until the worker has written something, at most so long."""
    if handle.descriptor < 0:
        # Another process started this run: only its files can be looked at.
        await anyio.sleep(min(JOINED_POLL_SECONDS, seconds))
        return
    with anyio.move_on_after(seconds):
        await anyio.wait_readable(handle.descriptor)


# --- the end of a request


async def _abandon(counsel: Counsel, handle: Handle) -> None:
    with anyio.CancelScope(shield=True):
        try:
            await in_thread(partial(_interrupt_unless_detached, counsel, handle))
        except CounselError:
            # Without a thread the worker has to notice it: this closes its pipe.
            if not handle.detached:
                handle.release()


def _interrupt_unless_detached(counsel: Counsel, handle: Handle) -> None:
    """A cancelled request ends the run that it started. A client that went away leaves a detached run as it is."""
    if handle.is_joined:
        return
    if handle.detached and client_is_gone():
        return
    counsel.interrupt(handle)


def client_is_gone() -> bool:
    """Whether the other end of our stdin is closed."""
    poll = select.poll()
    # POLLRDHUP (Linux only): the other end of a socket stopped writing.
    poll.register(_STDIN, select.POLLHUP | getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))
