"""Threads for the services, which block. One that cannot be started fails its call, never the server.

The SDK reads each message and writes each answer by a thread of anyio's pool, and the
server ends where it gets none. So these threads are not of that pool, and the pool is
filled before the first message and keeps its threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from codex_counsel.errors import Code, CounselError

MAX_THREADS = 200
SDK_THREADS = 3
"""One reads, one writes, one is spare."""

T = TypeVar("T")


async def in_thread(call: Callable[[], T], *, abandon_on_cancel: bool = False) -> T:
    """The result of a call, made in a thread of its own. Raises what it raises, or `resource_limit` without a thread.

    A cancelled request waits for the end of the call, unless `abandon_on_cancel`.
    """
    await anyio.lowlevel.checkpoint()
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # cancelled: nobody waits for it
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  # raised where the result is waited for
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    async with _limiter():
        try:
            threading.Thread(target=run, daemon=True).start()
        except RuntimeError as error:
            raise CounselError(
                Code.RESOURCE_LIMIT, f"No thread for this call: {error}"
            ) from None
        with anyio.CancelScope(shield=not abandon_on_cancel):
            await future
    return future.result()


@functools.cache
def _limiter() -> anyio.CapacityLimiter:
    """Needs a running event loop."""
    return anyio.CapacityLimiter(MAX_THREADS)


async def reserve_for_sdk() -> None:
    """Start the threads that the SDK needs. Raises RuntimeError where that is impossible."""
    # Not public: otherwise a thread that was idle for ten seconds ends, and cannot
    # always be started again.
    with contextlib.suppress(ImportError, AttributeError):
        from anyio._backends._asyncio import WorkerThread

        WorkerThread.MAX_IDLE_TIME = math.inf  # type: ignore[assignment]
    together = threading.Barrier(SDK_THREADS)

    async def start_one() -> None:
        try:
            await anyio.to_thread.run_sync(together.wait)
        except RuntimeError:
            together.abort()  # the others would wait for this one
            raise

    async with anyio.create_task_group() as group:
        for _ in range(SDK_THREADS):
            group.start_soon(start_one)
