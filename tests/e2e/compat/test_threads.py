"""A thread of `codex` and `codex-reply`: its answers, its end, and what outlives the server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.contract.vocabulary import JOB_ID, THREAD_ID
from codex_counsel.jobs.threads import claim_turn
from codex_counsel.loopback import Loopback, hold, http_error, say, shell
from tests.conftest import World, consult, until
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
from tests.e2e.runs import assert_nothing_is_left
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
NO_THREADS = (
    "",
    "../x",
    "x\0y",
    "0" * 32,
    "0" * 36,
    "-x",
    "$(id)",
    "é",
    "x" * 10_000_000,
)


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
    with ServerProcess(world, {"CODEX_COUNSEL_SYNC_SECONDS": "1"}, argv=ARGV) as wire:
        wire.initialize()
        first = ask(wire, "codex", prompt="Think hard.")
        assert is_handed_over(first)
        assert gate.reached.wait(60)
        thread = {"threadId": first["structuredContent"]["threadId"]}
        still = ask(wire, "codex-reply", prompt="wait", **thread)
        assert "still at work" in text(still)
        busy = ask(wire, "codex-reply", prompt="And now?", **thread)
        assert busy["isError"]
        assert "session_busy" in text(busy)
        gate.release.set()
        for _ in range(2):
            last = ask(wire, "codex-reply", prompt="wait", **thread)
            assert text(answered(wire, last)) == "At last."
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


# --- waiting


def test_a_queued_run_is_named_by_its_job_until_it_has_a_thread(
    world: World, model: Model
) -> None:
    gate = hold(say("The first."))
    server = model(
        lambda request: say("The second.") if "bananas" in request.prompt else gate
    )
    limits = {"CODEX_COUNSEL_SYNC_SECONDS": "1", "CODEX_COUNSEL_MAX_RUNNING": "1"}
    with ServerProcess(world, limits, argv=ARGV) as wire:
        wire.initialize()
        ask(wire, "codex", prompt="Apples?")
        assert gate.reached.wait(60)
        queued = ask(wire, "codex", prompt="And bananas?")
        place = queued["structuredContent"]["threadId"]
        assert re.fullmatch(JOB_ID, place)
        assert place in text(queued)
        refused = ask(wire, "codex-reply", threadId=place, prompt="Now?")
        assert refused["isError"]
        assert "session_busy" in text(refused)
        assert "structuredContent" not in refused
        gate.release.set()
        second = ask(wire, "codex-reply", threadId=place, prompt="wait")
        second = answered(wire, second)
        assert text(second) == "The second."
        thread_id = second["structuredContent"]["threadId"]
        assert re.fullmatch(THREAD_ID, thread_id)
        again = ask(wire, "codex-reply", threadId=place, prompt="And then?")
        assert again["structuredContent"]["threadId"] == thread_id
        assert text(answered(wire, again)) == "The second."
    assert len(server.requests) == 3
    assert_nothing_is_left(world)


@pytest.mark.parametrize("prompt", ["wait", "Wait", " wait\n", "WAIT"])
def test_the_prompt_wait_alone_sends_nothing(
    world: World, model: Model, prompt: str
) -> None:
    server = model([say("One."), say("Two.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        thread = ask(wire, "codex", prompt="Begin.")["structuredContent"]["threadId"]
        assert text(ask(wire, "codex-reply", threadId=thread, prompt=prompt)) == "One."
        sentence = f"{prompt} a minute, what about X?"
        assert (
            text(ask(wire, "codex-reply", threadId=thread, prompt=sentence)) == "Two."
        )
    assert len(server.requests) == 2


def test_two_clients_that_wait_at_once_both_get_the_answer(
    world: World, model: Model
) -> None:
    gate = hold(say("For both."))
    server = model(gate)
    world.settings["SYNC_SECONDS"] = "1"
    with (
        ServerProcess(world, argv=ARGV) as one,
        ServerProcess(world, {"CODEX_COUNSEL_SYNC_SECONDS": "50"}, argv=ARGV) as two,
    ):
        one.initialize()
        two.initialize()
        begun = ask(one, "codex", prompt="Think.")
        waiting = {"threadId": begun["structuredContent"]["threadId"], "prompt": "wait"}
        assert gate.reached.wait(60)
        assert "still at work" in text(ask(one, "codex-reply", **waiting))
        calls = [two.call("codex-reply", waiting) for _ in range(2)]
        gate.release.set()
        for call in calls:
            assert text(two.answer(call)["result"]) == "For both."
    assert len(server.requests) == 1
    assert_nothing_is_left(world)


def test_of_two_replies_at_once_one_is_told_that_the_thread_is_busy(
    world: World, model: Model
) -> None:
    gate = hold(say("Only one."))
    server = model([say("Begun."), gate])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Begin.")
        thread = begun["structuredContent"]["threadId"]
        calls = [
            wire.call("codex-reply", {"threadId": thread, "prompt": name})
            for name in ("a", "b")
        ]
        busy = wire.first_answer(*calls)
        assert "session_busy" in text(busy["result"])
        assert busy["result"]["structuredContent"]["threadId"] == thread
        gate.release.set()
        calls.remove(busy["id"])
        assert text(wire.answer(calls[0])["result"]) == "Only one."
    assert len(server.requests) == 2
    assert len(jobs_of(world)) == 2


@pytest.mark.parametrize("joins", [False, True], ids=["codex", "wait"])
def test_claude_code_with_a_progress_token_is_kept_waiting_past_the_deadline(
    world: World, model: Model, *, joins: bool
) -> None:
    gate = hold(say("Worth the wait."))
    model(gate)
    world.settings["SYNC_SECONDS"] = "1"
    with (
        ServerProcess(world, argv=ARGV) as other,
        ServerProcess(world, argv=ARGV) as wire,
    ):
        wire.initialize({"name": "claude-code"})
        if joins:
            other.initialize()
            begun = ask(other, "codex", prompt="Think.")
            arguments = {**begun["structuredContent"], "prompt": "wait"}
            del arguments["content"]
            call = wire.call("codex-reply", arguments, progressToken=1)
            # A client that is not kept waiting would have its answer by then.
            assert wire.progress()["progress"] >= 1
        else:
            call = wire.call("codex", {"prompt": "Think."}, progressToken=1)
            until(lambda: only_job(world).state().detached)
        gate.release.set()
        assert text(wire.answer(call)["result"]) == "Worth the wait."
    assert_nothing_is_left(world)


def test_waiting_for_a_thread_that_was_continued_brings_its_latest_answer(
    world: World, model: Model
) -> None:
    gate = hold(say("The second."))
    model([say("The first."), gate])
    with ServerProcess(world, {"CODEX_COUNSEL_SYNC_SECONDS": "2"}, argv=ARGV) as wire:
        wire.initialize()
        begun = answered(wire, ask(wire, "codex", prompt="Begin."))
        assert text(begun) == "The first."
        thread = named_thread(begun)
        running = ask(wire, "codex-reply", threadId=thread, prompt="Think hard.")
        assert is_handed_over(running)
        assert running["structuredContent"]["threadId"] == thread
        busy = ask(wire, "codex-reply", threadId=thread, prompt="And now?")
        assert text(busy).startswith("session_busy: ")
        gate.release.set()
        last = ask(wire, "codex-reply", threadId=thread, prompt="wait")
        assert text(answered(wire, last)) == "The second."
    assert_nothing_is_left(world)


def test_who_waits_while_a_turn_begins_gets_no_earlier_answer(
    world: World, model: Model
) -> None:
    server = model([say("One."), say("Two.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        thread = named_thread(ask(wire, "codex", prompt="Begin."))
        with claim_turn(world.state, thread):
            waiting = wire.call("codex-reply", {"threadId": thread, "prompt": "wait"})
            nothing = wire.call("codex-reply", {"prompt": "wait"})
            wire.answer(nothing)
            assert waiting not in [message.get("id") for message in wire.messages]
            note = world.state / "sessions" / thread
            earlier = note.read_bytes()
            note.unlink()
        assert "There is nothing to wait for" in text(wire.answer(waiting)["result"])
        note.write_bytes(earlier)
        assert text(ask(wire, "codex-reply", threadId=thread, prompt="wait")) == "One."
    assert len(server.requests) == 1


def test_a_turn_that_could_not_be_noted_is_waited_for_by_its_job(
    world: World, model: Model
) -> None:
    gate = hold(say("Two."))
    server = model([say("One."), gate])
    with ServerProcess(world, {"CODEX_COUNSEL_SYNC_SECONDS": "1"}, argv=ARGV) as wire:
        wire.initialize()
        first = ask(wire, "codex", prompt="Begin.")
        thread = named_thread(answered(wire, first))
        note = world.state / "sessions" / thread
        note.unlink()
        (note / "in-the-way").mkdir(parents=True)
        running = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
        assert re.fullmatch(JOB_ID, named_thread(running))
        assert named_thread(running) in text(running)
        gate.release.set()
        second = answered(wire, running)
    assert text(second) == "Two."
    assert named_thread(second) == thread
    assert len(server.requests) == 2


@pytest.mark.parametrize("has_copy", [True, False])
def test_a_task_goes_on_from_its_diff_after_a_turn_that_failed(
    world: World, model: Model, *, has_copy: bool
) -> None:
    """Also after one that ended before it had a copy to work in."""
    world.repository.begin_with_work()
    refused = http_error(500, "oops")
    model(
        [
            shell("echo one > one.txt"),
            say("Made one."),
            refused,
            shell("cat one.txt && echo two > two.txt"),
            say("Made two."),
        ],
        request_max_retries=0,
        stream_max_retries=0,
    )
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        first = ask(wire, "codex", prompt="Make one.", sandbox="workspace-write")
        thread = first["structuredContent"]["threadId"]
        failed = ask(wire, "codex-reply", threadId=thread, prompt="Make two.")
        assert text(failed).startswith("upstream_error: ")
        if not has_copy:
            newest = next(world.counsel().store.newest_first())
            (newest.path / "diff.patch").unlink()
        last = ask(wire, "codex-reply", threadId=thread, prompt="Make two, then.")
        assert "+two" in text(last)
        assert "+one" in text(last)


# --- threads and jobs that are none of ours


def test_a_thread_of_the_users_own_codex_goes_on_read_only_and_says_so(
    world: World, model: Model
) -> None:
    model([say("One."), shell("echo no > new.txt"), say("Two.")])
    printed = subprocess.run(
        [world.binary, "exec", "--json", "--skip-git-repo-check", "Begin."],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    thread = json.loads(printed.splitlines()[0])["thread_id"]
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
        answer, note = text(result).split("\n\n")
        assert answer == "Two."
        assert "not on record: it goes on read-only" in note
        assert result["structuredContent"]["threadId"] == thread
    assert not (world.workspace / "new.txt").exists()


def test_a_thread_that_codex_does_not_know_is_refused_without_a_request(
    world: World, model: Model
) -> None:
    server = model(say("Never."))
    thread = "019aa000-0000-7000-8000-00000000abcd"
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
        assert result["isError"]
        assert text(result).startswith("session_not_found: ")
        assert "Begin a new thread with codex" in text(result)
        assert result["structuredContent"]["threadId"] == thread
        nothing = ask(wire, "codex-reply", threadId=thread[:-1] + "e", prompt="wait")
        assert text(nothing).startswith("job_not_found: There is nothing to wait for")
    assert server.requests == []


def test_a_job_that_is_no_turn_of_these_tools_is_no_thread(
    world: World, model: Model
) -> None:
    server = model([say("A consultation."), say("Never.")])
    consulted = consult(world.counsel())["meta"]["job_id"]
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        for prompt in ("wait", "Go on."):
            result = ask(wire, "codex-reply", threadId=consulted, prompt=prompt)
            assert result["isError"]
            assert text(result).startswith("job_not_found: ")
            assert f"codex-counsel result {consulted}" in text(result)
    assert len(server.requests) == 1


@pytest.mark.parametrize("prompt", ["wait", "Go on."])
def test_an_id_that_names_nothing_is_refused(world: World, prompt: str) -> None:
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        for named in NO_THREADS:
            result = ask(wire, "codex-reply", threadId=named, prompt=prompt)
            assert result["isError"]
            assert re.match("(invalid_arguments|job_not_found): ", text(result))
            assert len(text(result)) < 1000


# --- notes that are damaged or were changed


def change_note(world: World, thread: str, **options: object) -> None:
    note = world.state / "sessions" / thread
    stored = json.loads(note.read_text("utf-8"))
    stored["options"].update(options)
    note.write_text(json.dumps(stored), "utf-8")


@pytest.mark.parametrize(
    "options",
    [
        {"sandbox": "danger-full-access"},
        {"sandbox": "tomorrow"},
        {"config": {"sandbox_workspace_write.network_access": True}},
        {"config": ["x"]},
        {"root": 7},
        {"profile": "--dangerously-bypass-approvals-and-sandbox"},
    ],
    ids=str,
)
def test_a_note_with_what_no_caller_can_name_goes_on_read_only_without_it(
    world: World, model: Model, options: dict[str, object]
) -> None:
    model([say("One."), shell("echo no > new.txt"), say("Two.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Begin.")
        thread = begun["structuredContent"]["threadId"]
        change_note(world, thread, **options)
        result = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
    assert text(result).startswith(
        "Two.\n\nWhat this thread began with is not on record"
    )
    assert not (world.workspace / "new.txt").exists()


def test_options_of_a_newer_release_in_a_note_are_left_out(
    world: World, model: Model
) -> None:
    server = model([say("One."), say("Two.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Begin.", model="gpt-5")
        thread = begun["structuredContent"]["threadId"]
        change_note(world, thread, speed="high", web_search="yes")
        # Clients may write the id in capitals.
        result = ask(wire, "codex-reply", threadId=thread.upper(), prompt="Go on.")
    assert text(result) == "Two."
    assert result["structuredContent"]["threadId"] == thread
    assert [request.model for request in server.requests] == ["gpt-5", "gpt-5"]


def test_a_workspace_that_is_gone_is_refused_as_a_calls_is(
    world: World, model: Model, tmp_path: Path
) -> None:
    model([say("One."), say("Two.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Begin.")
        thread = begun["structuredContent"]["threadId"]
        change_note(world, thread, root=str(tmp_path / "gone"))
        result = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
    assert text(result).startswith("workspace_invalid: ")
    assert "cwd" in text(result)


def test_without_a_state_directory_a_thread_is_begun_and_goes_on(
    world: World, model: Model
) -> None:
    (world.base / "file").write_text("no directory")
    model([say("One."), say("Two.")])
    state = {"CODEX_COUNSEL_STATE_DIR": str(world.base / "file" / "state")}
    with ServerProcess(world, state, argv=ARGV) as wire:
        wire.initialize()
        begun = ask(wire, "codex", prompt="Begin.")
        assert text(begun) == "One."
        thread = begun["structuredContent"]["threadId"]
        result = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
        assert text(result).startswith("Two.\n\nWhat this thread began with is not")
    assert_nothing_is_left(world)


def test_a_thread_whose_record_is_damaged_or_gone_is_continued(
    world: World, model: Model
) -> None:
    model([say("One."), say("Two."), say("Three.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        thread = ask(wire, "codex", prompt="Begin.")["structuredContent"]["threadId"]
        (job,) = jobs_of(world)
        until(lambda: not job.alive())
        (job.path / "result.json").write_text("{")
        waited = ask(wire, "codex-reply", threadId=thread, prompt="wait")
        assert text(waited).startswith("job_corrupt: ")
        assert waited["structuredContent"]["threadId"] == thread
        (job.path / "spec.json").write_text("[]")
        waited = ask(wire, "codex-reply", threadId=job.id, prompt="wait")
        assert text(waited).startswith("job_corrupt: ")
        result = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
        assert text(result) == "Two."
        until(lambda: not any(left.alive() for left in jobs_of(world)))
        # In one step: a process that drops old records may be at work in it.
        (world.state / "jobs").rename(world.base / "gone")
        result = ask(wire, "codex-reply", threadId=thread, prompt="Go on.")
        assert text(result) == "Three."
    assert thread_of(only_job(world)) == thread
