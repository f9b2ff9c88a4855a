"""How many runs go at once, and what the others say meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codex_counsel.jobs import recovery
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.slots import Ticket
from codex_counsel.jobs.worker import QUEUE_LOOK
from tests.conftest import until, wait
from tests.e2e.jobs.conftest import (
    COMPLETED,
    MESSAGE,
    STARTED,
    TURN,
    JobFactory,
    printing,
)
from tests.e2e.runs import worker_of


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Callable[[], Ticket]]:
    """Draws tickets, and gives them back when the test is over."""
    tickets: list[Ticket] = []

    def draw() -> Ticket:
        tickets.append(Ticket(str(tmp_path / "queue")))
        return tickets[-1]

    yield draw
    for ticket in tickets:
        with contextlib.suppress(OSError):
            os.close(ticket.descriptor)


def living_ahead(ticket: Ticket, count: int) -> int:
    descriptors = ticket.ahead(count)
    for descriptor in descriptors:
        os.close(descriptor)
    return len(descriptors)


def test_tickets_come_up_in_the_order_in_which_they_were_drawn(
    queue: Callable[[], Ticket],
) -> None:
    tickets = [queue() for _ in range(5)]
    assert [living_ahead(ticket, 3) for ticket in tickets] == [0, 1, 2, 3, 3]
    os.close(tickets[1].descriptor)
    assert [living_ahead(ticket, 3) for ticket in tickets[3:]] == [2, 3]


def test_who_waits_is_woken_by_the_end_of_any_run_that_matters(
    queue: Callable[[], Ticket],
) -> None:
    tickets = [queue() for _ in range(4)]
    ahead = tickets[3].ahead(2)
    assert select.select(ahead, [], [], 0)[0] == []
    # The first of three: two are left, and these are the ones that are waited for.
    os.close(tickets[0].descriptor)
    assert select.select(ahead, [], [], 0)[0] == []
    os.close(tickets[1].descriptor)
    assert len(select.select(ahead, [], [], 30)[0]) == 1
    for descriptor in ahead:
        os.close(descriptor)
    assert living_ahead(tickets[3], 2) == 1


def test_tickets_drawn_at_once_have_numbers_of_their_own_and_dead_ones_are_removed(
    queue: Callable[[], Ticket], tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        tickets = list(pool.map(lambda _: queue(), range(24)))
    assert sorted(living_ahead(ticket, 99) for ticket in tickets) == list(range(24))
    for ticket in tickets:
        os.close(ticket.descriptor)
    assert living_ahead(queue(), 99) == 0
    assert {path.name for path in (tmp_path / "queue").iterdir()} == {"lock", "1"}


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.with_name("²").touch(),
        lambda path: path.with_name("9" * 255).touch(),
        lambda path: path.mkdir(),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.touch(mode=0),
        os.mkfifo,
        lambda path: os.mknod(path, stat.S_IFSOCK),
    ],
    ids=["digit", "long", "directory", "loop", "device", "file", "fifo", "socket"],
)
def test_what_is_no_ticket_neither_counts_nor_switches_the_queue_off(
    queue: Callable[[], Ticket], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    queue()
    for number in (1, 2, 5):
        (tmp_path / "queue" / str(number)).unlink(missing_ok=True)
        make(tmp_path / "queue" / str(number))
    tickets = [queue() for _ in range(3)]
    assert [living_ahead(ticket, 99) for ticket in tickets] == [0, 1, 2]


def test_want_of_descriptors_leaves_none_open(queue: Callable[[], Ticket]) -> None:
    tickets = [queue() for _ in range(8)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)
    # One is for the list of the directory, and too few are left for all tickets.
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 4, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            tickets[-1].ahead(99)
        left = os.dup(0)
        os.close(left)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert left == spare


def test_runs_begin_in_the_order_in_which_they_came_and_poll_for_nothing(
    factory: JobFactory,
) -> None:
    running, gate = factory.launch_waiting(STARTED, slots=1)
    until(lambda: running.job.state().phase != "queued")
    order = factory.world.base / "order"
    handles = []
    for number in range(8):
        handle = factory.launch(
            f"echo {number} >> {order}; {printing(*TURN)}", slots=1, detached=True
        )
        handles.append(handle)
        until(lambda: tickets(factory) == len(handles) + 1)
    # Each of them looks around at long intervals, and one may do so in any second.
    until(lambda: switches_within(1.0, handles) == 0, 60)
    os.kill(worker_of(handles[3].job).pid, signal.SIGKILL)
    gate.write_text("go\n")
    until(lambda: statuses(factory) == {"completed": 8, "failed": 1})
    assert order.read_text().split() == ["0", "1", "2", "4", "5", "6", "7"]


def tickets(factory: JobFactory) -> int:
    """How many tickets were drawn, if none was removed."""
    queue = factory.store.state / "queue"
    return sum(path.name.isdigit() for path in queue.iterdir())


def switches_within(seconds: float, handles: list[Handle]) -> int:
    """How often the workers woke up."""
    before = sum(map(switches, handles))
    time.sleep(seconds)
    return sum(map(switches, handles)) - before


def switches(handle: Handle) -> int:
    """How often the worker went to sleep in its life."""
    status = Path(f"/proc/{worker_of(handle.job).pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


@pytest.mark.parametrize("end", ["cancel", "signal", "launcher gone"])
def test_a_queued_run_that_sleeps_is_ended_at_once(
    factory: JobFactory, end: str
) -> None:
    first, _ = factory.launch_waiting(STARTED, slots=1)
    until(lambda: first.job.state().phase != "queued")
    # Without a reason it looks around only after a while. Any machine may stall once.
    assert any(seconds_to_end(factory, end) < QUEUE_LOOK / 2 for _ in range(4))


def seconds_to_end(factory: JobFactory, end: str) -> float:
    """How long it takes to end a run that sleeps in the queue."""
    handle = factory.launch(slots=1)
    until(lambda: has_ticket(worker_of(handle.job).pid))
    began = time.monotonic()
    if end == "cancel":
        handle.job.request_cancel()
    elif end == "signal":
        os.kill(worker_of(handle.job).pid, signal.SIGTERM)
    else:
        handle.release()
    outcome = until(lambda: recovery.outcome(handle.job))
    assert outcome["status"] == "cancelled"
    return time.monotonic() - began


def has_ticket(pid: int) -> bool:
    """Whether the process is in the queue. It is alive."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            target = link.readlink()
            if target.parent.name == "queue" and target.name.isdigit():
                return True
    return False


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


def test_a_launcher_that_is_stopped_holds_up_neither_its_run_nor_the_next(
    factory: JobFactory,
) -> None:
    # More than a pipe holds.
    event = json.loads(MESSAGE)
    event["item"]["text"] = "x" * 300_000
    output = factory.world.base / "output"
    output.write_text("\n".join([STARTED, json.dumps(event), COMPLETED, ""]))
    unread = factory.launch(f"cat {output}", slots=1)
    following = factory.launch(slots=1, detached=True)
    until(lambda: recovery.outcome(following.job))
    until(lambda: not unread.job.alive())
    # It goes on after all, and has read a part only.
    assert wait(unread)["answer"] == event["item"]["text"]
