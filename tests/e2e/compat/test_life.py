"""The end of a turn: cancelled, its server, worker or Codex killed, its client gone; and what is left of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from codex_counsel.loopback import Loopback, hold, say, shell
from tests.conftest import World, until
from tests.e2e.compat.client import (
    ARGV,
    answered,
    ask,
    is_handed_over,
    jobs_of,
    named_thread,
    only_job,
    text,
    thread_of,
)
from tests.e2e.runs import (
    assert_nothing_is_left,
    codex_of,
    command_line,
    kill_worker,
    worker_of,
)
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]


def reply(world: World, thread: str, prompt: str) -> dict[str, object]:
    """The answer of a server that was started for this call."""
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        return ask(wire, "codex-reply", threadId=thread, prompt=prompt)


# --- cancel


def test_a_cancelled_call_ends_its_run_and_the_thread_goes_on(
    world: World, model: Model
) -> None:
    gate = hold(say("Too late."))
    server = model([gate, say("Here I am.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        call = wire.call("codex", {"prompt": "Think."})
        assert gate.reached.wait(60)
        thread = thread_of(only_job(world))
        wire.cancel(call)
        job = only_job(world)
        # The lock is free a moment before the process counts as dead.
        until(lambda: not job.alive() and not worker_of(job).alive())
        assert_nothing_is_left_of_runs(world, wire)
        cancelled = ask(wire, "codex-reply", threadId=thread, prompt="wait")
        assert text(cancelled).startswith("cancelled: ")
        assert cancelled["structuredContent"]["threadId"] == thread
        answer = ask(wire, "codex-reply", threadId=thread, prompt="Are you there?")
        assert text(answer) == "Here I am."
    assert len(server.requests) == 2
    assert_nothing_is_left(world)


def assert_nothing_is_left_of_runs(world: World, wire: ServerProcess) -> None:
    """Of a server that lives, nothing but itself."""
    job = only_job(world)
    assert not worker_of(job).alive()
    assert not codex_of(job).alive()
    assert wire.process.poll() is None


def test_who_cancels_waiting_leaves_the_run_as_it_is(
    world: World, model: Model
) -> None:
    gate = hold(say("Still here."))
    server = model(gate)
    world.settings["SYNC_SECONDS"] = "1"
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Think.")
        thread = begun["structuredContent"]["threadId"]
    with ServerProcess(
        world, {"CODEX_COUNSEL_SYNC_SECONDS": "50"}, argv=ARGV
    ) as waiting:
        waiting.initialize()
        call = waiting.call(
            "codex-reply", {"threadId": thread, "prompt": "wait"}, progressToken=1
        )
        waiting.progress()
        waiting.cancel(call)
        busy = ask(waiting, "codex-reply", threadId=thread, prompt="And now?")
        assert text(busy).startswith("session_busy: ")
        gate.release.set()
        last = ask(waiting, "codex-reply", threadId=thread, prompt="wait")
        assert text(last) == "Still here."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_a_person_cancels_a_run_that_goes_on_by_the_command_that_was_named(
    world: World, model: Model
) -> None:
    model(hold(say("Too late.")))
    world.settings["SYNC_SECONDS"] = "1"
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Think.")
        job = only_job(world)
        assert f"`codex-counsel cancel {job.id}`" in text(begun)
        ended = command_line(world, "cancel", job.id)
        assert "cancelled" in ended.stdout
        thread = begun["structuredContent"]["threadId"]
        last = ask(wire, "codex-reply", threadId=thread, prompt="wait")
        assert text(last).startswith("cancelled: ")
    assert_nothing_is_left(world)


# --- the server's end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("phase", ["thinking", "command"])
def test_a_run_ends_with_its_server_and_its_thread_goes_on(
    world: World, model: Model, number: signal.Signals, phase: str
) -> None:
    gate = hold(say("Too late."))
    begin = gate if phase == "thinking" else shell("echo $$; exec sleep 600")
    model([begin, say("Here I am.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        wire.call("codex", {"prompt": "Think."})
        job = only_job(world)
        thread = thread_of(job)
        if phase == "thinking":
            assert gate.reached.wait(60)
        else:
            until(lambda: job.state().last_command)
        os.kill(wire.process.pid, number)
        wire.wait_for_exit()
    assert_nothing_is_left(world)
    for named in (thread, job.id):
        ended = reply(world, named, "wait")
        assert ended["isError"]
        assert text(ended).startswith("cancelled: The caller went away")
        assert "codex-reply" in text(ended)
    assert text(reply(world, thread, "Are you there?")) == "Here I am."
    assert_nothing_is_left(world)


def test_a_queued_run_ends_with_its_server_and_costs_nothing(
    world: World, model: Model
) -> None:
    gate = hold(say("The first."))
    server = model(gate)
    world.settings |= {"SYNC_SECONDS": "1", "MAX_RUNNING": "1"}
    with ServerProcess(world, argv=ARGV) as one:
        one.initialize()
        ask(one, "codex", prompt="Think.")
        assert gate.reached.wait(60)
        first = only_job(world)
        with ServerProcess(world, argv=ARGV) as two:
            two.initialize()
            two.call("codex", {"prompt": "And then?"})
            (queued,) = until(
                lambda: [job for job in jobs_of(world) if job.id != first.id]
            )
            worker_of(queued)
            os.kill(two.process.pid, signal.SIGKILL)
            two.wait_for_exit()
        until(lambda: not queued.alive())
        ended = ask(one, "codex-reply", threadId=queued.id, prompt="wait")
        assert text(ended).startswith("cancelled: ")
        assert "structuredContent" not in ended
        refused = ask(one, "codex-reply", threadId=queued.id, prompt="Go on.")
        assert text(refused).startswith("session_not_found: No thread came of this run")
        gate.release.set()
        last = ask(one, "codex-reply", threadId=first.id, prompt="wait")
        assert text(answered(one, last)) == "The first."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_a_run_that_waits_for_its_place_is_not_said_to_be_at_work(
    world: World, model: Model
) -> None:
    gate = hold(say("The first."))
    model(gate)
    world.settings |= {"SYNC_SECONDS": "1", "MAX_RUNNING": "1"}
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        first = ask(wire, "codex", prompt="Think.")
        assert is_handed_over(first)
        assert gate.reached.wait(60)
        waiting = {"threadId": named_thread(first), "prompt": "wait"}
        first = ask(wire, "codex-reply", **waiting)
        assert text(first).startswith("Codex is still at work")
        second = ask(wire, "codex", prompt="And then?")
        assert text(second).startswith("Codex has not begun")
        gate.release.set()
        waiting = {"threadId": named_thread(second), "prompt": "wait"}
        until(lambda: text(ask(wire, "codex-reply", **waiting)) == "The first.")
    assert_nothing_is_left(world)


def test_an_answer_that_was_there_when_the_server_was_killed_is_not_lost(
    world: World, model: Model
) -> None:
    gate = hold(say("Just in time."))
    server = model(gate)
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        wire.call("codex", {"prompt": "Think."})
        assert gate.reached.wait(60)
        job = only_job(world)
        thread = thread_of(job)
        os.kill(wire.process.pid, signal.SIGSTOP)
        gate.release.set()
        until(job.result)
        os.kill(wire.process.pid, signal.SIGKILL)
        wire.wait_for_exit()
    assert text(reply(world, thread, "wait")) == "Just in time."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_after_the_deadline_a_run_outlives_its_server(
    world: World, model: Model
) -> None:
    gate = hold(say("At last."))
    server = model(gate)
    world.settings["SYNC_SECONDS"] = "1"
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Think.")
        os.kill(wire.process.pid, signal.SIGKILL)
        wire.wait_for_exit()
    assert not only_job(world).result()
    gate.release.set()
    thread = thread_of(only_job(world))
    until(only_job(world).result)
    assert text(reply(world, thread, "wait")) == "At last."
    named = begun["structuredContent"]["threadId"]
    assert text(reply(world, named, "wait")) == "At last."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_a_client_that_goes_away_in_the_middle_of_a_call_ends_its_run(
    world: World, model: Model
) -> None:
    gate = hold(say("Too late."))
    model([gate, say("Here I am.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        wire.call("codex", {"prompt": "Think."})
        assert gate.reached.wait(60)
        thread = thread_of(only_job(world))
        wire.close()
        assert wire.wait_for_exit() == 0
    assert_nothing_is_left(world)
    assert text(reply(world, thread, "Are you there?")) == "Here I am."


# --- the end of a worker, and of Codex


@pytest.mark.parametrize("victim", ["worker", "codex"])
def test_a_run_whose_process_was_killed_is_told_with_its_thread(
    world: World, model: Model, victim: str
) -> None:
    gate = hold(say("Too late."))
    model([gate, say("Here I am.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        call = wire.call("codex", {"prompt": "Think."})
        assert gate.reached.wait(60)
        job = only_job(world)
        thread = thread_of(job)
        if victim == "worker":
            kill_worker(job)
        else:
            os.kill(codex_of(job).pid, signal.SIGKILL)
        result = wire.answer(call)["result"]
        assert result["isError"]
        assert text(result).startswith("process_died: ")
        assert "codex-reply continues the thread" in text(result)
        assert result["structuredContent"]["threadId"] == thread
        answer = ask(wire, "codex-reply", threadId=thread, prompt="Are you there?")
        assert text(answer) == "Here I am."
    assert_nothing_is_left(world)


# --- the command line


def test_a_person_reads_these_runs_with_the_verbs_for_all_runs(
    world: World, model: Model
) -> None:
    model([say("It is 41."), say("Because.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="What is the answer?")
        thread = begun["structuredContent"]["threadId"]
        ask(wire, "codex-reply", threadId=thread, prompt="Why?")
    listed = command_line(world, "jobs").stdout
    assert "What is the answer?" in listed
    assert "Why?" in listed
    for job in jobs_of(world):
        shown = command_line(world, "result", job.id).stdout
        assert "It is 41." in shown or "Because." in shown
    *_, total = command_line(world, "usage").stdout.splitlines()
    assert total.split()[:2] == ["total", "2"]
