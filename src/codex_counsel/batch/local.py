"""This machine as the place where items run: detached jobs in the job store, so many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from codex_counsel.batch import stored
from codex_counsel.batch.model import REQUESTS, Ended, Item, Kind, Load
from codex_counsel.batch.record import Record
from codex_counsel.batch.totals import Retry
from codex_counsel.contract.envelope import EnvelopeDict, Meta, failed
from codex_counsel.contract.settings import Settings
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs.handle import Handle, reap_workers
from codex_counsel.services.counsel import Counsel

PAUSE = 0.05
"""Seconds between two looks at the runs."""
LOAD_SECONDS = 1.0
"""How old the count of those may be that wait for a slot."""


class LocalPool:
    """Starts each item as a detached run of this user, at most `settings.max_running` of them.

    Runs that an earlier process of the batch started are joined, however many they are.
    `retry` says which runs that have ended are started anew.
    """

    def __init__(
        self,
        record: Record,
        env: Mapping[str, str],
        settings: Settings,
        *,
        retry: Retry = "none",
    ) -> None:
        self._record = record
        self._slots = settings.max_running
        self._counsel = Counsel(env, Path("/"), settings)
        self._retry: Retry = retry
        self._runs: dict[str, tuple[Item, Handle]] = {}
        self._ended: list[Ended] = []
        self._queued = 0
        self._counted = 0.0

    @classmethod
    def of(
        cls,
        record: Record,
        env: Mapping[str, str],
        settings: Settings,
        slots: int | None,
        *,
        retry: Retry = "none",
    ) -> LocalPool:
        """With so many slots, instead of those that the settings name."""
        if slots is not None:
            settings = replace(settings, max_running=slots)
        return cls(record, env, settings, retry=retry)

    def load(self) -> Load:
        """As `Pool.load`. How many wait for a slot is looked at once a second."""
        now = time.monotonic()
        if now >= self._counted + LOAD_SECONDS:
            self._counted = now
            self._queued = sum(map(_is_queued, self._handles()))
        count = len(self._runs)
        queued = min(self._queued, count)
        return Load(count - queued, queued, self._slots - count - len(self._ended))

    def start(self, item: Item) -> None:
        """As `Pool.start`. An item that was sent to a node of a cluster, and of which no result came back, is lost."""
        if self.join(item):
            return
        node = self._record.place_of(item.id)
        if node is not None:
            raise CounselError(
                Code.WORKER_LOST,
                f"This item was sent to the node {node} of a cluster, and nobody here knows what came of it",
                repair="Resume the batch with --cluster, so that the node is asked, or with --retry-lost, which runs "
                "the item anew.",
            )
        handle = self._start_of(item.kind)(item.request(), background=True)
        self._runs[item.id] = item, handle
        # The worker of a detached run has no pipes; it is reaped by later starts.
        handle.release()

    def join(self, item: Item) -> bool:
        """Wait for the run that the item has, or take its result; false where it has none that counts.

        Raises as `stored.find`.
        """
        earlier = stored.find(self._counsel.store, item)
        if earlier is None:
            return False
        if earlier.outcome is None:
            self._runs[item.id] = item, Handle(earlier.job)
            return True
        if earlier.is_result(self._retry):
            self._end(item, earlier.outcome)
            return True
        return False

    def _start_of(self, kind: Kind) -> Callable[..., Handle]:
        starts: dict[Kind, Callable[..., Any]] = {
            "consult": self._counsel.consult,
            "review": self._counsel.review_changes,
            "plan": self._counsel.review_plan,
            "delegate": self._counsel.delegate,
        }
        return starts[kind]

    def ended(self, seconds: float) -> list[Ended]:
        """As `Pool.ended`."""
        deadline = time.monotonic() + seconds
        while True:
            self._look()
            left = deadline - time.monotonic()
            if self._ended or left <= 0:
                ended, self._ended = self._ended, []
                return ended
            time.sleep(min(PAUSE, left))

    def _look(self) -> None:
        for item, handle in list(self._runs.values()):
            if handle.is_running():
                continue
            envelope = self._outcome(item, handle)
            if envelope is not None:
                self._end(item, envelope)
        reap_workers()

    def _outcome(self, item: Item, handle: Handle) -> EnvelopeDict | None:
        """The envelope of a run that seems to have ended; None while another process concludes it."""
        tool = REQUESTS[item.kind].tool
        try:
            return stored.outcome(self._counsel.store, handle.job)
        except OSError:
            # Nobody can tell just now; the next look may.
            return None
        except CounselError as error:
            if error.code == Code.JOB_NOT_FOUND:
                error = CounselError(
                    Code.WORKER_LOST,
                    f"The record of job {handle.job.id} was removed while it ran",
                )
            return failed(tool, error, Meta(job_id=handle.job.id)).wire()

    def _end(self, item: Item, envelope: EnvelopeDict | None) -> None:
        self._runs.pop(item.id, None)
        if envelope is not None:
            self._ended.append(Ended(item, envelope))

    def cancel(self) -> list[str]:
        """As `Pool.cancel`: every run is asked first, then each is waited for."""
        for handle in self._handles():
            try:
                handle.job.request_cancel()
            except OSError:
                # `store.cancel` has another way.
                continue
        survivors = []
        for item, handle in list(self._runs.values()):
            try:
                self._counsel.store.cancel(handle.job)
            except (CounselError, OSError) as error:
                survivors.append(f"job {handle.job.id} did not end: {error}")
            else:
                self._end(item, self._outcome(item, handle))
        reap_workers()
        return survivors

    def notices(self) -> list[str]:
        """As `Pool.notices`: this machine is there."""
        return []

    def close(self) -> None:
        """As `Pool.close`."""
        reap_workers()

    def _handles(self) -> list[Handle]:
        return [handle for _, handle in self._runs.values()]


def _is_queued(handle: Handle) -> bool:
    return handle.job.state().phase == "queued"
