"""A thread of `codex` and `codex-reply`: its answers, its end, and what outlives the server."""

from __future__ import annotations

import re
from collections.abc import Callable

from codex_counsel.contract.vocabulary import THREAD_ID
from codex_counsel.loopback import Loopback, hold, say, shell
from tests.conftest import World
from tests.e2e.compat.client import ARGV, ask, text
from tests.e2e.runs import assert_nothing_is_left
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]


def test_a_question_and_a_reply_are_answered_in_one_thread(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    server = model([say("It is 41."), say("Because.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        first = ask(wire, "codex", prompt="What is the answer?", sandbox="read-only")
        assert not first.get("isError")
        assert text(first) == "It is 41."
        thread_id = first["structuredContent"]["threadId"]
        assert re.fullmatch(THREAD_ID, thread_id)
        second = ask(wire, "codex-reply", threadId=thread_id, prompt="Why?")
        assert text(second) == "Because."
        assert second["structuredContent"]["threadId"] == thread_id
    assert len(server.requests) == 2
    assert_nothing_is_left(world)


def test_a_thread_goes_on_after_a_restart_with_what_its_first_call_named(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    server = model([say("One."), say("Two.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        first = ask(
            wire,
            "codex",
            prompt="Begin.",
            config={"model_reasoning_effort": "low"},
            **{"developer-instructions": "Speak as a pirate."},
        )
    with ServerProcess(world, argv=ARGV, cwd=world.base) as wire:
        wire.initialize()
        named = first["structuredContent"]["threadId"]
        second = ask(wire, "codex-reply", conversationId=named, prompt="Go on.")
    assert text(second) == "Two."
    for request in server.requests:
        assert request.body["reasoning"]["effort"] == "low"


def test_after_the_soft_deadline_the_prompt_wait_brings_the_answer(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    gate = hold(say("At last."))
    server = model(gate)
    with ServerProcess(world, {"CODEX_COUNSEL_SYNC_SECONDS": "2"}, argv=ARGV) as wire:
        wire.initialize()
        first = ask(wire, "codex", prompt="Think hard.")
        assert "still at work" in text(first)
        thread = {"threadId": first["structuredContent"]["threadId"]}
        busy = ask(wire, "codex-reply", prompt="And now?", **thread)
        assert busy["isError"]
        assert "session_busy" in text(busy)
        gate.release.set()
        for _ in range(2):
            last = ask(wire, "codex-reply", prompt="wait", **thread)
            assert text(last) == "At last."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_a_task_returns_its_diff_and_a_reply_goes_on_from_it(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    model(
        [
            shell("echo one > one.txt"),
            say("Made one."),
            shell("cat one.txt && echo two > two.txt"),
            say("Made two."),
        ]
    )
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        first = ask(wire, "codex", prompt="Make one.", sandbox="workspace-write")
        assert text(first).startswith("Made one.")
        assert "+one" in text(first)
        job = re.search(r"codex-counsel apply ([0-9a-f]{32})", text(first))
        assert job
        thread = {"threadId": first["structuredContent"]["threadId"]}
        second = ask(wire, "codex-reply", prompt="Make two.", **thread)
        assert "+two" in text(second)
    assert not (world.workspace / "one.txt").exists()
    assert_nothing_is_left(world)


def test_full_access_is_refused_by_name_before_anything_is_spent(
    world: World, model: Model
) -> None:
    server = model(say("Never."))
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Go.", sandbox="danger-full-access")
    assert result["isError"]
    assert "danger-full-access" in text(result)
    assert "workspace-write" in text(result)
    assert server.requests == []
