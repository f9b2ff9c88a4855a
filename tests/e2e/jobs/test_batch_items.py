"""Items of a batch as jobs of this user, while something else happens to their records."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_counsel.batch import stored
from codex_counsel.batch.local import LocalPool
from codex_counsel.batch.model import REQUESTS, Item
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.settings import Settings
from codex_counsel.delegate.record import READABLE_DIFF
from codex_counsel.fleet.pool import ClusterPool
from codex_counsel.jobs import idempotency, recovery, retention
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.system.files import lock_file
from tests.conftest import until
from tests.e2e.jobs.conftest import JobFactory
from tests.e2e.runs import kill_worker
from tests.unit.batches import begun


class Batch:
    """A batch of one item, and its place on this machine."""

    def __init__(self, factory: JobFactory) -> None:
        self.factory = factory
        self.record = begun(factory.world.base / "batch", 1)
        (self.item,) = self.record.items()
        settings = Settings(state_dir=str(factory.world.state))
        self.pool = LocalPool(self.record, factory.world.env, settings)

    @property
    def store(self) -> Store:
        return self.factory.store

    def note(self, job: Job) -> Item:
        """Have this job be the run of the item."""
        tool = REQUESTS[self.item.kind].tool
        with idempotency.claim(self.store, tool, self.item.key, "") as claim:
            claim.note_job(job.id)
        return self.item


@pytest.fixture
def batch(factory: JobFactory) -> Iterator[Batch]:
    batch = Batch(factory)
    yield batch
    batch.record.close()


def test_a_run_whose_record_is_dropped_while_it_is_looked_for_is_none(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = batch.factory.launch()
    item = batch.note(handle.job)
    until(handle.collect)
    find = idempotency.find

    def find_and_drop(store: Store, tool: str, key: str) -> Job | None:
        job = find(store, tool, key)
        retention.drop(store, handle.job)
        return job

    monkeypatch.setattr(idempotency, "find", find_and_drop)
    assert stored.find(batch.store, item) is None


def test_a_run_that_another_process_concludes_meanwhile_has_no_outcome_yet(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for the conclusion, each reader derives it anew, one at a time."""
    handle, _ = batch.factory.launch_waiting()
    item = batch.note(handle.job)
    kill_worker(handle.job)
    outcome = recovery.outcome
    held: list[int] = []

    def outcome_before_another_reader(job: Job) -> EnvelopeDict | None:
        envelope = outcome(job)
        lock = lock_file(job.path / "lock", create=False)
        if lock is not None:
            held.append(lock)
        return envelope

    def no_room(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "link_result", no_room)
        patch.setattr(recovery, "outcome", outcome_before_another_reader)
        found = stored.find(batch.store, item)
    for lock in held:
        os.close(lock)
    assert found
    assert found.outcome is None
    later = stored.find(batch.store, item)
    assert later
    assert later.outcome
    assert later.outcome["status"] == "failed"


def test_a_run_that_ended_just_before_its_batch_is_ended_has_its_whole_diff(
    batch: Batch,
) -> None:
    handle, gate = batch.factory.launch_waiting()
    batch.pool.start(batch.note(handle.job))
    gate.write_text("go\n")
    until(handle.collect)
    add_diff(handle.job.path, "of which this is", "of which this is the whole")
    assert batch.pool.cancel() == []
    (ended,) = batch.pool.ended(0)
    assert ended.envelope["diff"] == "of which this is the whole"


def add_diff(directory: Path, beginning: str, whole: str) -> None:
    """Make a result that of a task with a diff of which it holds the beginning."""
    file = directory / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "diff": beginning}))
    (directory / READABLE_DIFF).write_text(whole)


def test_a_run_of_this_machine_that_ended_just_now_is_not_sent_to_a_cluster(
    batch: Batch,
) -> None:
    """It lived when the batch that is resumed looked for it."""
    handle = batch.factory.launch()
    item = batch.note(handle.job)
    until(handle.collect)
    context = batch.factory.world.counsel().context
    pool = ClusterPool(context, batch.record, "local", slots=1)
    with contextlib.closing(pool):
        pool.start(item)
        (ended,) = pool.ended(0)
    assert ended.envelope["meta"]["job_id"] == handle.job.id
    assert batch.record.place_of(item.id) is None


def test_a_run_that_failed_is_joined_where_nobody_wants_it_repeated(
    batch: Batch,
) -> None:
    handle = batch.factory.launch("exit 3")
    item = batch.note(handle.job)
    until(handle.collect)
    assert batch.pool.join(item)
    settings = Settings(state_dir=str(batch.factory.world.state))
    env = batch.factory.world.env
    assert not LocalPool(batch.record, env, settings, retry="failed").join(item)
