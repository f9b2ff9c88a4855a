"""What the jobs of this user know of an item: the run that it had, and whether that is its result."""

from __future__ import annotations

from dataclasses import dataclass

from codex_counsel.batch import limits
from codex_counsel.batch.model import REQUESTS, Item
from codex_counsel.batch.totals import Retry, code_of, is_lost, is_retried
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.vocabulary import TERMINAL
from codex_counsel.errors import Code, CounselError, error_of
from codex_counsel.jobs import idempotency, recovery
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.services import results


@dataclass(frozen=True)
class Earlier:
    """The latest run of an item. `outcome` is its whole envelope; None while it lives."""

    job: Job
    outcome: EnvelopeDict | None

    def is_result(self, retry: Retry = "none") -> bool:
        """Whether the item has ended with it; else it is to be run anew, or its run goes on.

        A run that was cancelled with its batch is run anew. One that somebody cancelled
        while the batch went on is written down at once, so it is not asked for here.
        """
        if self.outcome is None:
            return False
        if self.outcome["status"] == "cancelled":
            return False
        if is_retried(self.outcome, retry):
            return False
        return not limits.is_no_result(code_of(self.outcome))


def find(store: Store, item: Item) -> Earlier | None:
    """The latest run of the item; None where it had none. Raises `storage_failed` where nobody can tell."""
    try:
        job = idempotency.find(store, REQUESTS[item.kind].tool, item.key)
        if job is None:
            return None
        return Earlier(job, outcome(store, job))
    except CounselError as error:
        # Its record was dropped since the note was read.
        if error.code == Code.JOB_NOT_FOUND:
            return None
        raise
    except OSError as error:
        raise error_of(
            Code.STORAGE_FAILED, "The jobs cannot be looked at", error
        ) from None


def outcome(store: Store, job: Job) -> EnvelopeDict | None:
    """The whole terminal envelope of a run, None while it lives. Raises OSError, `job_corrupt` and `job_not_found`."""
    if recovery.outcome(job) is None:
        return None
    envelope = results.whole_result(store, job.id)
    # Where there is no room for a conclusion, another process may be making it anew.
    return envelope if envelope["status"] in TERMINAL else None


def mark_recorded(store: Store, envelope: EnvelopeDict) -> None:
    """The result is in the record of the batch: the job's own record may be dropped when it is old."""
    job_id = envelope["meta"].get("job_id")
    if job_id is None or is_lost(envelope):
        return
    try:
        results.mark_received(store, job_id)
    except CounselError:
        # Without a record there is nothing to drop.
        return
