"""What the launcher of a run keeps: the lifetime pipe to its worker, and the pipe that the envelope comes through."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import recovery
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import OVERDUE_PAUSE, end_if_overdue
from codex_counsel.system.files import remove_tree

EXIT_PATIENCE = 4.0
"""Seconds between the end of a worker's output and the end of the worker."""

JOINED_PAUSE = 0.1
"""Seconds between two looks at a run that another process launched."""


class Handle:
    """A launched run, or one that another call launched (`worker` is None).

    `descriptor` is to be polled: the worker's stdout, readable when there is something
    to collect, or -1. `private` marks a job in a directory of its own, which goes when
    its run has ended.
    """

    def __init__(
        self,
        job: Job,
        worker: subprocess.Popen[bytes] | None = None,
        *,
        private: bool = False,
    ) -> None:
        self.job = job
        self.private = private
        self.detached = worker is None
        self.descriptor = -1
        self._worker = worker
        self._output = bytearray()
        self._output_ended: float | None = None
        self._next_check = time.monotonic() + OVERDUE_PAUSE
        if worker and worker.stdout:
            self.descriptor = worker.stdout.fileno()
            os.set_blocking(self.descriptor, False)

    @property
    def is_joined(self) -> bool:
        """Whether another call launched this run."""
        return self._worker is None

    def collect(self) -> EnvelopeDict | None:
        """Read what is there: the terminal envelope once the run has ended, else None.

        Blocks only to conclude a run whose worker is gone, or to end one that is far over
        its time limit.
        """
        self._check_time_limit()
        if self._output_ended is not None:
            return self._stored_result(self._output_ended)
        if self.descriptor < 0:
            return recovery.outcome(self.job)

        while True:
            try:
                chunk = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                return None
            if not chunk:
                break
            self._output += chunk

        self.release()
        self._output_ended = time.monotonic()
        try:
            envelope = json.loads(bytes(self._output))
        except ValueError:
            return self._stored_result(self._output_ended)
        self._remove_private()
        return dict(envelope)

    def is_running(self) -> bool:
        """Whether there is nothing to collect yet, as far as a cheap look tells."""
        self._check_time_limit()
        return self.job.is_running()

    def _check_time_limit(self) -> None:
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + OVERDUE_PAUSE
            end_if_overdue(self.job)

    def wait(self, seconds: float) -> None:
        """Sleep until there may be something to collect, at most so long. A joined run can only be looked at again."""
        if self.descriptor < 0:
            time.sleep(min(seconds, JOINED_PAUSE))
        else:
            select.select([self.descriptor], [], [], seconds)

    def _stored_result(self, output_ended: float) -> EnvelopeDict | None:
        """What the directory says about a worker that ended its output without an envelope; None while it exits."""
        outcome = recovery.outcome(self.job)
        overdue = time.monotonic() - output_ended > EXIT_PATIENCE
        worker = self.job.state().worker
        # Without its worker, a run that has no outcome yet is being concluded by
        # another process.
        is_concluded_elsewhere = worker is not None and not worker.alive()
        if outcome is None and (is_concluded_elsewhere or not overdue):
            return None
        self._remove_private()
        if outcome is None:
            raise CounselError(
                Code.PROCESS_DIED, "The worker of this run ended without a result"
            )
        return outcome

    def _remove_private(self) -> None:
        if self.private:
            remove_tree(self.job.path.parent)

    def detach(self) -> None:
        """From now on only a cancel ends the run. A job in a private directory cannot be detached."""
        if self.private or not self._worker or not self._worker.stdin:
            return
        self.detached = True
        # It may have ended, and its pipes may be closed.
        with contextlib.suppress(OSError, ValueError):
            os.write(self._worker.stdin.fileno(), b"d")

    def release(self) -> None:
        """Close the pipes: this ends a run that was not detached."""
        self.descriptor = -1
        if self._worker is None:
            return
        for stream in (self._worker.stdin, self._worker.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        reap_workers(self._worker)


_unreaped: list[subprocess.Popen[bytes]] = []
_reaping = threading.Lock()


def reap_workers(*released: subprocess.Popen[bytes]) -> None:
    """Wait for released workers that have ended, so that none stays a zombie of a long-lived server."""
    with _reaping:
        _unreaped.extend(released)
        _unreaped[:] = [worker for worker in _unreaped if worker.poll() is None]
