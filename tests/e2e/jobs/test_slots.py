"""How many runs go at once, and what the others say meanwhile."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from codex_counsel.jobs import recovery, slots
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
    progress = waiting.job.running()
    assert (
        progress.ok,
        progress.status,
        progress.progress and progress.progress.phase,
    ) == (
        True,
        "queued",
        "queued",
    )
    assert progress.next
    assert progress.next.tool == "codex_job_result"
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


def test_a_queued_run_that_was_detached_outlives_its_launcher(
    factory: JobFactory,
) -> None:
    first, gate = factory.launch_waiting(STARTED, slots=1)
    until(lambda: statuses(factory) == {"running": 1})
    second = factory.launch(slots=1)
    until(lambda: second.job.state().worker)
    second.detach()
    second.release()
    until(lambda: second.job.state().detached)
    gate.write_text("go\n")
    assert wait(first)["status"] == "completed"
    outcome = until(lambda: recovery.outcome(second.job))
    assert (outcome["status"], outcome.get("answer")) == ("completed", "It is fine.")


def statuses(factory: JobFactory) -> Counter[str]:
    return Counter(row["status"] for row in factory.store.rows())
