"""How many runs go at once, and what the others say meanwhile."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from codex_counsel.jobs import slots
from tests.conftest import World, until, wait
from tests.e2e.jobs.conftest import STARTED, JobFactory


def test_a_slot_is_held_by_one_and_free_when_its_holder_ends(world: World) -> None:
    directory = str(world.base / "slots")
    with ThreadPoolExecutor(8) as pool:
        acquired = list(pool.map(lambda _: slots.acquire(directory, 3), range(8)))
    descriptors = [descriptor for descriptor in acquired if descriptor is not None]
    assert len(descriptors) == 3
    assert slots.acquire(directory, 3) is None
    os.close(descriptors.pop())
    descriptors.append(until(lambda: slots.acquire(directory, 3)))
    for descriptor in descriptors:
        os.close(descriptor)


def test_runs_beyond_the_slots_are_queued_and_shown_so_until_one_ends(
    factory: JobFactory,
) -> None:
    jobs = [factory.launch_waiting(STARTED, slots=2) for _ in range(5)]
    until(lambda: statuses(factory) == {"running": 2, "queued": 3})
    waiting = next(handle for handle, _ in jobs if handle.job.state().phase == "queued")
    shown = waiting.job.running()
    assert (shown.ok, shown.status, shown.progress and shown.progress.phase) == (
        True,
        "queued",
        "queued",
    )
    assert shown.next
    assert shown.next.tool == "codex_job_result"
    running = [
        (handle, gate) for handle, gate in jobs if handle.job.state().phase != "queued"
    ]
    running[0][1].write_text("go\n")
    assert wait(running[0][0])["status"] == "completed"
    until(lambda: statuses(factory) == {"running": 2, "queued": 2, "completed": 1})
    for handle, _ in jobs:
        if handle.descriptor >= 0:
            factory.store.cancel(handle.job)
    until(lambda: statuses(factory) == {"cancelled": 4, "completed": 1})


def statuses(factory: JobFactory) -> Counter[str]:
    return Counter(row["status"] for row in factory.store.rows())
