"""A run that uses up its tokens, on the real Codex: it is ended, answers once more, and says so."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import (
    Apply,
    Consult,
    Delegate,
    DelegateDryRun,
    JobCancel,
    JobList,
    parse,
)
from codex_counsel.errors import CounselError
from codex_counsel.jobs import recovery
from codex_counsel.jobs.handle import Handle
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import (
    Loopback,
    Reply,
    Request,
    Usage,
    call,
    drop,
    failed,
    hold,
    items,
    say,
    shell,
    slow,
    stall,
    usage_limit,
)
from codex_counsel.review.reply import reply_schema
from tests.conftest import World, consult, start_consult, until, wait
from tests.e2e.delegation import assert_unchanged
from tests.e2e.runs import (
    assert_nothing_is_left,
    cancel_run,
    codex_of,
    counsel_with,
    worker_of,
)
from tests.reviews import dry_run, reply, review

Model = Callable[..., Loopback]

LIMIT = 3000
STEP = Usage(input=700, cached=400, output=100, reasoning=50)
LAST = Usage(input=900, cached=800, output=30, reasoning=0)
STEP_TOKENS, LAST_TOKENS = 800, 930
LOOKING = say("Looking.", phase="commentary")
NOW = say("So far it is fine.").but(usage=LAST)


def is_last_turn(request: Request) -> bool:
    said = [item for item in request.items("message") if item["role"] == "user"]
    return "token budget of this run is used up" in str(said[-1])


@dataclass
class Endless:
    """A model that would run commands for ever, and answers with `last` when it is told that its budget is used up."""

    last: Reply = NOW
    command: str = "sleep 0.1"
    steps: list[Request] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Reply:
        if is_last_turn(request):
            self.asked.append(request)
            return self.last
        self.steps.append(request)
        return items(LOOKING, shell(self.command)).but(usage=STEP)


def tokens(usage: dict[str, int]) -> int:
    return usage["input"] + usage["output"]


def assert_cut_short(wire: EnvelopeDict, limit: int = LIMIT) -> None:
    assert wire["ok"], wire
    meta = wire["meta"]
    assert meta["budget_reached"] == {"limit": limit, "used": tokens(meta["usage"])}
    assert "Cut short: the run used up its" in wire["summary"]
    assert any("used up its" in warning for warning in meta["warnings"])


# --- what comes back


@pytest.mark.parametrize("slug", [None, "gpt-5.5"], ids=["default", "direct tools"])
def test_a_model_that_would_go_on_for_ever_is_stopped_at_its_limit_and_answers(
    each_release: World, each_model: Model, slug: str | None
) -> None:
    script = Endless()
    each_model(script, model=slug)
    wire = consult(each_release.counsel(), max_tokens=LIMIT, effort="low")
    assert_cut_short(wire)
    assert (wire["answer"], wire.get("partial")) == ("So far it is fine.", None)

    # Each response counts once, and that of the interrupted request not at all.
    counted = tokens(wire["meta"]["usage"]) - LAST_TOKENS
    assert counted % STEP_TOKENS == 0
    assert LIMIT <= counted <= len(script.steps) * STEP_TOKENS

    (asked,) = script.asked
    first = script.steps[0]
    assert (asked.thread_id, asked.model) == (first.thread_id, first.model)
    assert asked.effort == first.effort == "low"
    assert asked.developer[:1000] == first.developer[:1000]
    assert not {"exec_command", "shell", "write_stdin"} & set(asked.tools)
    assert "web_search" not in asked.tools
    assert_nothing_is_left(each_release)


def test_only_the_tokens_of_this_run_count_in_a_continued_thread(
    each_release: World, each_model: Model
) -> None:
    script = Endless()
    first_answer = say("First.").but(usage=Usage(50_000, 0, 1000, 0))
    each_model(lambda request: first_answer if request.index == 0 else script(request))
    first = consult(each_release.counsel(), max_tokens=100_000)
    assert "budget_reached" not in first["meta"]

    thread = first["meta"]["session_id"]
    wire = consult(each_release.counsel(), session_id=thread, max_tokens=LIMIT)
    assert_cut_short(wire)
    assert wire["meta"]["session_id"] == thread
    used = tokens(wire["meta"]["usage"])
    assert LIMIT + LAST_TOKENS <= used <= len(script.steps) * STEP_TOKENS + LAST_TOKENS
    assert tokens(wire["meta"]["usage_thread"]) == 51_000 + used

    # And the thread can be continued once more, with a new count.
    before = len(script.steps)
    again = consult(each_release.counsel(), session_id=thread, max_tokens=LIMIT)
    assert_cut_short(again)
    counted = tokens(again["meta"]["usage"]) - LAST_TOKENS
    assert LIMIT <= counted <= (len(script.steps) - before) * STEP_TOKENS


def test_a_run_within_its_limit_is_an_ordinary_one(world: World, model: Model) -> None:
    server = model([shell("true"), say("It is fine.")])
    wire = consult(world.counsel(), max_tokens=1_000_000)
    assert (wire["answer"], len(server.requests)) == ("It is fine.", 2)
    assert "budget_reached" not in wire["meta"]
    assert "warnings" not in wire["meta"]


def test_a_last_response_above_the_limit_is_not_asked_for_again(
    each_release: World, each_model: Model
) -> None:
    server = each_model(say("It is fine.").but(usage=Usage(10**6, 0, 10**4, 0)))
    for _ in range(5):
        wire = consult(each_release.counsel(), max_tokens=1000)
        assert (wire["answer"], wire["ok"]) == ("It is fine.", True)
        assert "budget_reached" not in wire["meta"]
    assert len(server.requests) == 5


def test_the_limit_of_the_user_holds_where_a_caller_allows_more(
    world: World, model: Model
) -> None:
    world.settings["MAX_TOKENS"] = str(LIMIT)
    model(Endless())
    assert_cut_short(consult(world.counsel(), max_tokens=10**9))
    assert_cut_short(consult(world.counsel()))
    rows = world.counsel().job_list(parse(JobList, {}))["data"]["jobs"]
    assert [row["cut_short"] for row in rows] == [True, True]


SCHEMA = {
    "type": "object",
    "properties": {"fine": {"type": "boolean"}},
    "required": ["fine"],
    "additionalProperties": False,
}


def test_the_answer_has_the_form_that_was_first_asked_for(
    each_release: World, each_model: Model
) -> None:
    script = Endless(say({"fine": True}).but(usage=LAST))
    each_model(script)
    wire = consult(each_release.counsel(), max_tokens=LIMIT, output_schema=SCHEMA)
    assert_cut_short(wire)
    assert (wire["data"], script.asked[0].schema) == ({"fine": True}, SCHEMA)


def test_a_run_without_a_state_directory_answers_too(
    world: World, model: Model
) -> None:
    world.state.write_text("a file")
    script = Endless(say({"fine": True}).but(usage=LAST))
    model(script)
    wire = consult(world.counsel(), max_tokens=LIMIT, output_schema=SCHEMA)
    assert_cut_short(wire)
    assert wire["data"] == {"fine": True}


@pytest.mark.usefixtures("own_git_settings")
def test_a_review_that_was_cut_short_keeps_its_findings_and_never_passes(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    world.repository.begin_with_work()
    script = Endless(say(reply({"severity": "low"})).but(usage=LAST))
    each_model(script)
    wire = review(world.counsel(), max_tokens=LIMIT)
    assert_cut_short(wire)
    assert (wire["verdict"], len(wire["findings"])) == ("unknown", 1)
    assert wire["summary"].startswith("unknown: 1 low.")
    assert any(
        "said pass, but its tokens were used up" in warning
        for warning in wire["meta"]["warnings"]
    )
    assert script.asked[0].schema == reply_schema(plan=False)
    assert_nothing_is_left(world)

    script.last = say(reply({"severity": "high"}, verdict="fail")).but(usage=LAST)
    assert review(world.counsel(), max_tokens=LIMIT)["verdict"] == "fail"


@pytest.mark.usefixtures("own_git_settings")
def test_a_task_that_was_cut_short_gives_back_what_it_did(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    workspace = world.repository.begin_with_work().root
    each_model(Endless(command="sed -i 's/41/42/' app.py; sleep 0.1"))
    counsel = world.counsel()
    with assert_unchanged(workspace):
        task = parse(Delegate, {"task": "Fix it.", "max_tokens": LIMIT})
        wire = wait(counsel.delegate(task))
        assert_cut_short(wire)
        assert (wire["partial"], wire["answer"]) == (True, "So far it is fine.")
        assert "+answer = 42" in wire["diff"]
        assert len(wire["checks"]) >= LIMIT // STEP_TOKENS
        assert_nothing_is_left(world)
    applied = counsel.apply(parse(Apply, {"job_id": wire["meta"]["job_id"]}))
    assert applied["ok"], applied
    assert "answer = 42" in (workspace / "app.py").read_text()


@pytest.mark.usefixtures("own_git_settings")
def test_a_dry_run_shows_the_limit(world: World, model: Model) -> None:
    world.repository.begin_with_work()
    server = model()
    world.settings["MAX_TOKENS"] = "5000"
    assert dry_run(world.counsel())["data"]["max_tokens"] == 5000
    request = parse(DelegateDryRun, {"task": "Fix it.", "max_tokens": 4000})
    assert world.counsel().delegate_dry_run(request)["data"]["max_tokens"] == 4000
    del world.settings["MAX_TOKENS"]
    assert "max_tokens" not in dry_run(world.counsel())["data"]
    assert not server.requests


def test_a_long_thread_is_not_summarised_before_the_answer(
    each_release: World, each_model: Model
) -> None:
    long = Usage(input=250_000, cached=0, output=500, reasoning=0)

    def script(request: Request) -> Reply:
        if is_last_turn(request):
            return slow(NOW, 2)
        return items(LOOKING, shell("sleep 600")).but(usage=long)

    server = each_model(script)
    settings = (each_release.codex_home / "config.toml").read_text()
    each_release.configure(f"model_auto_compact_token_limit = 200000\n{settings}")
    wire = consult(each_release.counsel(), max_tokens=100_000)
    assert_cut_short(wire, 100_000)
    assert len(server.requests) == 2
    assert tokens(wire["meta"]["usage"]) == 250_500 + LAST_TOKENS


def test_what_a_thread_used_until_its_context_was_full_is_counted_once(
    each_release: World, each_model: Model
) -> None:
    script = Endless(failed("context_length_exceeded"))
    each_model(script, stream_max_retries=0)
    wire = consult(each_release.counsel(), max_tokens=LIMIT)
    assert wire["error"]["code"] == "budget_reached"
    used = tokens(wire["meta"]["usage"])
    assert LIMIT <= used <= len(script.steps) * STEP_TOKENS
    assert wire["meta"]["budget_reached"]["used"] == used

    # Codex counts the thread from zero then.
    script.last = NOW
    thread = wire["meta"]["session_id"]
    script.steps.clear()
    again = consult(each_release.counsel(), session_id=thread, max_tokens=LIMIT)
    assert_cut_short(again)
    counted = tokens(again["meta"]["usage"]) - LAST_TOKENS
    assert LIMIT <= counted <= len(script.steps) * STEP_TOKENS


def test_the_model_cannot_hide_tokens_by_the_names_of_its_calls(
    each_release: World, each_model: Model
) -> None:
    strange = call("task_started", {}).but(usage=STEP)
    each_model([strange, strange, strange, say("Done.").but(usage=STEP)])
    wire = consult(each_release.counsel())
    assert tokens(wire["meta"]["usage"]) == 4 * STEP_TOKENS
    assert wire["meta"]["model"]


# --- a last turn that gives no answer

NO_ANSWERS: dict[str, tuple[Reply, str]] = {
    "fails": (failed("server_error", "it broke"), "budget_reached"),
    "breaks": (drop(), "budget_reached"),
    "is blank": (say("  ").but(usage=LAST), "budget_reached"),
    "meets a usage limit": (usage_limit(), "usage_limit"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
def test_a_last_turn_that_fails_keeps_what_was_said_before(
    each_release: World, each_model: Model, case: str
) -> None:
    last, code = NO_ANSWERS[case]
    script = Endless(last)
    each_model(script, stream_max_retries=0)
    wire = consult(each_release.counsel(), max_tokens=LIMIT)
    assert (wire["ok"], wire["error"]["code"]) == (False, code), wire
    assert (wire["answer"], wire["partial"]) == ("Looking.", True)
    assert wire["meta"]["budget_reached"]["limit"] == LIMIT
    assert wire["meta"]["session_id"] == script.steps[0].thread_id
    assert_nothing_is_left(each_release)

    script.last = NOW
    if code == "usage_limit":
        with pytest.raises(CounselError, match="backing_off"):
            consult(each_release.counsel(), max_tokens=LIMIT)
    else:
        assert_cut_short(consult(each_release.counsel(), max_tokens=LIMIT))


def test_a_last_turn_that_says_nothing_ends_with_the_time_of_the_run(
    each_release: World, each_model: Model
) -> None:
    each_model(Endless(stall("before_headers")))
    counsel = counsel_with(each_release, timeout_seconds=25)
    wire = wait(counsel.consult(parse(Consult, {"question": "?", "max_tokens": LIMIT})))
    assert wire["error"]["code"] == "budget_reached"
    assert "Codex did not within" in wire["error"]["message"]
    assert (wire["answer"], wire["partial"]) == ("Looking.", True)
    assert wire["meta"]["elapsed_ms"] < 70_000
    assert_nothing_is_left(each_release)


def test_without_time_for_an_answer_none_is_asked_for(
    world: World, model: Model
) -> None:
    script = Endless(command="sleep 600")
    model(script)
    counsel = counsel_with(world, timeout_seconds=5)
    wire = wait(counsel.consult(parse(Consult, {"question": "?", "max_tokens": 1000})))
    assert wire["error"]["code"] == "timeout"
    assert not script.asked

    # One response is above the limit, and known before its command ends, unless the
    # machine is so slow that all time is over by then.
    large = items(LOOKING, shell("sleep 600")).but(usage=Usage(5000, 0, 10, 0))
    server = model(large)
    wire = wait(counsel.consult(parse(Consult, {"question": "?", "max_tokens": 1000})))
    words = {"budget_reached": "no time was left", "timeout": "reached its limit"}
    assert words[wire["error"]["code"]] in wire["error"]["message"]
    assert len(server.requests) <= 1
    assert_nothing_is_left(world)


def test_a_last_turn_that_works_on_instead_is_stopped_too(
    each_release: World, each_model: Model
) -> None:
    much = Usage(25_000, 24_000, 100, 0)
    script = Endless(items(LOOKING, shell("true")).but(usage=much))
    each_model(script)
    wire = consult(each_release.counsel(), max_tokens=LIMIT)
    assert wire["error"]["code"] == "budget_reached"
    assert "went on using tokens" in wire["error"]["message"]
    assert wire["meta"]["budget_reached"]["used"] >= LIMIT + 25_100
    assert_nothing_is_left(each_release)


# --- what ends the run while it answers


def cancel(world: World, handle: Handle) -> None:
    cancel_run(world.counsel(), parse(JobCancel, {"job_id": handle.job.id}))


def terminate(_: World, handle: Handle) -> None:
    os.kill(worker_of(handle.job).pid, signal.SIGTERM)


def abandon(_: World, handle: Handle) -> None:
    handle.release()


def kill(_: World, handle: Handle) -> None:
    os.kill(worker_of(handle.job).pid, signal.SIGKILL)


def kill_codex(_: World, handle: Handle) -> None:
    os.kill(codex_of(handle.job).pid, signal.SIGKILL)


ENDS: dict[str, tuple[Callable[[World, Handle], None], str, str]] = {
    "a cancel": (cancel, "cancelled", "cancelled"),
    "a signal": (terminate, "cancelled", "cancelled"),
    "its launcher goes": (abandon, "cancelled", "cancelled"),
    "its worker is killed": (kill, "failed", "process_died"),
    "its Codex is killed": (kill_codex, "failed", "budget_reached"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_turn_ends_as_the_first_would(
    each_release: World, each_model: Model, end: str
) -> None:
    act, status, code = ENDS[end]
    gate = hold(NOW)
    script = Endless(gate)
    each_model(script)
    handle = start_consult(each_release.counsel(), max_tokens=LIMIT)
    assert gate.reached.wait(60)
    job = handle.job
    until(lambda: events_of(job).count("thread.started") == 2)
    assert job.state().phase == "answering"
    act(each_release, handle)
    wire = until(lambda: recovery.outcome(job))
    until(lambda: not job.alive())
    assert (wire["status"], wire["error"]["code"]) == (status, code), wire
    assert (wire["answer"], wire["partial"]) == ("Looking.", True)
    assert wire["meta"]["session_id"] == script.steps[0].thread_id
    assert wire["meta"]["budget_reached"]["limit"] == LIMIT
    handle.release()
    assert_nothing_is_left(each_release)


def test_a_run_that_was_handed_over_while_it_answers_goes_on_and_keeps_its_place(
    world: World, model: Model
) -> None:
    world.settings["MAX_RUNNING"] = "1"
    gate = hold(NOW)
    script = Endless(gate)
    model(script)
    handle = start_consult(world.counsel(), max_tokens=LIMIT)
    assert gate.reached.wait(60)
    second = start_consult(world.counsel(), max_tokens=LIMIT)
    until(lambda: second.job.state().worker)
    assert second.job.state().phase == "queued"
    progress = handle.job.running().progress
    assert progress
    assert progress.phase == "answering"

    handle.detach()
    until(lambda: handle.job.state().detached)
    handle.release()
    assert second.job.state().phase == "queued"
    gate.release.set()
    assert_cut_short(until(lambda: recovery.outcome(handle.job)))
    assert_cut_short(wait(second))
    until(lambda: not handle.job.alive() and not second.job.alive())
    assert_nothing_is_left(world)


def test_a_kill_between_the_turns_leaves_no_answer(world: World, model: Model) -> None:
    model(Endless())
    handle = start_consult(world.counsel(), max_tokens=LIMIT, background=True)
    job = handle.job
    codex = codex_of(job)
    until(lambda: not codex.alive() or job.state().codex != codex)
    kill(world, handle)
    wire: dict[str, Any] = until(lambda: recovery.outcome(job))
    assert wire["ok"] or wire["error"]["code"] == "process_died"
    if not wire["ok"]:
        assert (wire["answer"], wire["partial"]) == ("Looking.", True)
    handle.release()
    assert_nothing_is_left(world)


def events_of(job: Job) -> list[str]:
    # Of the line that is being written, a part may be there.
    whole, _, _ = (job.path / "events.jsonl").read_text("utf-8").rpartition("\n")
    return [json.loads(line)["type"] for line in whole.splitlines()]


def test_both_turns_are_on_record(world: World, model: Model) -> None:
    model(Endless())
    handle = start_consult(world.counsel(), max_tokens=LIMIT)
    assert_cut_short(wait(handle))
    kinds = events_of(handle.job)
    assert kinds.count("thread.started") == 2
    assert (kinds[0], kinds[-1]) == ("thread.started", "turn.completed")
    assert kinds.count("turn.completed") == 1
