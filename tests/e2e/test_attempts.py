"""Several attempts at one task, on the real Codex: which one is returned, and what is said of all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import (
    Apply,
    Delegate,
    JobList,
    JobResult,
    parse,
)
from codex_counsel.errors import CounselError
from codex_counsel.jobs.store import Store
from codex_counsel.loopback import (
    Loopback,
    Usage,
    failed,
    hold,
    say,
    shell,
    usage_limit,
)
from codex_counsel.services import choosing, usage
from tests.conftest import World, pick, until, wait
from tests.e2e.attempts import (
    CHECK,
    CRASH,
    NOTHING,
    RIGHT,
    WRONG,
    Cast,
    by_model,
    children_of,
    set_answer,
)
from tests.e2e.delegation import assert_unchanged, delegate, start
from tests.e2e.pictures import RED_PIXEL
from tests.e2e.runs import assert_nothing_is_left, fetch

Model = Callable[..., Loopback]


# --- which one is returned


def test_the_attempt_that_passes_the_check_wins_though_the_judge_prefers_another(
    each_release: World, each_model: Model
) -> None:
    world, workspace = each_release, each_release.repository.begin_with_work().root
    cast = Cast({"wrong": WRONG, "right": RIGHT, "crash": CRASH}, "+answer = 43")
    server = each_model(cast)
    efforts = ("low", "medium", "high")
    with assert_unchanged(workspace):
        wire = delegate(
            world, check=CHECK, judge=True, efforts=efforts, **cast.arguments
        )

    assert pick(wire, "ok", "status", "answer", "diff_exact", "base_sha") == {
        "ok": True,
        "status": "completed",
        "answer": "It is 42 now.",
        "diff_exact": True,
        "base_sha": world.repository.head,
    }
    assert wire["summary"] == (
        "Attempt 2 of 3 ranks first: check passed; 1 passed the check, 1 failed the check, 1 ended with an error. "
        "The judge prefers attempt 1. 1 file changed, 2 insertions(+), 1 deletion(-). It is 42 now."
    )
    assert "+answer = 42\n" in wire["diff"]
    assert Path(wire["diff_path"]).read_text() == wire["diff"]
    assert wire["meta"]["job_id"] in wire["diff_path"]
    assert pick(wire["check"], "status", "exit", "base_exit", "base_status") == {
        "status": "passed",
        "exit": 0,
        "base_exit": 1,
        "base_status": "failed",
    }

    assert [row["attempt"] for row in wire["attempts"]] == [2, 1, 3]
    rows = by_model(wire)
    names = ("rank", "status", "why", "changed_lines", "judge_rank", "error")
    assert pick(rows["right"], *names) == {
        "rank": 1,
        "status": "completed",
        "why": "check passed",
        "changed_lines": 3,
        "judge_rank": 2,
        "error": None,
    }
    assert pick(rows["wrong"], *names) == {
        "rank": 2,
        "status": "completed",
        "why": "check failed",
        "changed_lines": 2,
        "judge_rank": 1,
        "error": None,
    }
    assert pick(rows["crash"], "rank", "status", "error") == {
        "rank": 3,
        "status": "failed",
        "error": "stream_disconnected",
    }
    assert rows["wrong"]["check"]["base_status"] == "failed"
    for child in children_of(world.counsel().store.job(wire["meta"]["job_id"])):
        stored = child.result() or {}
        assert "base_status" not in stored.get("check", {})  # run once, for all
    assert rows["wrong"]["judge_reason"].startswith("because of ")
    assert wire["meta"]["session_id"] == rows["right"]["session_id"]
    assert wire["meta"]["model"] == "right"
    # Two requests of each attempt that went well, and one of the judge.
    assert wire["meta"]["usage"]["input"] == 500

    asked = {request.model: request.effort for request in server.requests}
    assert pick(asked, *cast.parts) == dict(zip(cast.parts, efforts, strict=True))
    assert_nothing_is_left(world)


def test_the_judge_sees_neither_who_made_a_diff_nor_what_the_check_said(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    cast = Cast({"model-of-one": WRONG, "model-of-two": RIGHT})
    server = model(cast)
    wire = delegate(world, check=CHECK, judge=True, **cast.arguments)
    (prompt,) = cast.judged
    for secret in (*cast.parts, "It is 42 now", "AssertionError", CHECK):
        assert secret not in prompt
    for row in wire["attempts"]:
        assert row["job_id"] not in prompt
        assert row["session_id"] not in prompt
    (judging,) = [request for request in server.requests if request.schema]
    assert judging.thread_id not in {row["session_id"] for row in wire["attempts"]}
    assert not any("patch" in tool for tool in judging.tools)


def test_the_judge_decides_between_attempts_that_the_check_cannot_tell_apart(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    short = (set_answer(42), say("Short."))
    cast = Cast({"short": short, "right": RIGHT}, "+# why 42")
    model(cast)
    wire = delegate(world, check=CHECK, judge=True, **cast.arguments)
    assert wire["attempts"][0]["model"] == "right"
    assert wire["attempts"][0]["why"] == "the judge prefers it to attempt 1"


def test_without_a_judge_the_smaller_change_wins(world: World, model: Model) -> None:
    world.repository.begin_with_work()
    short = (set_answer(42), say("Short."))
    tested = (set_answer(42, "; seq 90 > test_app.py"), say("Tested."))
    cast = Cast({"right": RIGHT, "tested": tested, "short": short})
    model(cast)
    wire = delegate(world, check=CHECK, **cast.arguments)
    assert [row["model"] for row in wire["attempts"]] == ["short", "tested", "right"]
    agreed = by_model(wire)["tested"]["agrees"]
    assert agreed == [{"attempt": 3, "files": ["app.py"], "all": False}]


def test_an_attempt_that_weakens_the_test_or_hides_its_lines_does_not_win(
    world: World, model: Model
) -> None:
    test = world.repository.begin_with_work().write("test_app.py", "import app\n")
    test.write_text("import app\nassert app.answer == 42\n")
    weaken = (shell("echo pass > test_app.py"), say("Passes."))
    hide = (shell("printf 'answer = 42 #\\f\\0' > app.py"), say("Hidden."))
    cast = Cast({"weaken": weaken, "hide": hide, "right": RIGHT})
    model(cast)
    check = "grep -q pass test_app.py || grep -aq 42 app.py"
    wire = delegate(world, check=check, **cast.arguments)
    assert [row["model"] for row in wire["attempts"]] == ["right", "hide", "weaken"]
    assert [row["check"]["status"] for row in wire["attempts"]] == ["passed"] * 3


def test_the_lines_of_files_that_the_result_cannot_list_count_too(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    split = shell("for i in $(seq 600); do echo $i > part$i; done")
    cast = Cast(
        {
            "split": (split, say("In parts.")),
            "whole": (shell("seq 550 > whole"), say("In one.")),
        }
    )
    model(cast)
    wire = delegate(world, **cast.arguments)
    assert [pick(row, "model", "changed_lines") for row in wire["attempts"]] == [
        {"model": "whole", "changed_lines": 550},
        {"model": "split", "changed_lines": 600},
    ]


def test_the_judge_sees_what_the_result_has_no_room_for_and_is_told_what_it_does_not_see(
    world: World, model: Model
) -> None:
    world.settings["MAX_DELEGATE_DIFF_BYTES"] = "2000"
    world.repository.begin_with_work()
    tail = (shell("seq 2000 > z; echo 'the end' >> z"), say("Done."))
    long = (shell("seq 100000 > z"), say("Long."))
    cast = Cast({"tail": tail, "long": long})
    model(cast)
    delegate(world, judge=True, **cast.arguments)
    (prompt,) = cast.judged
    assert "+the end" in prompt
    assert prompt.count('cut="the first 150000 of ') == 1


def test_attempts_that_made_the_same_tie_and_say_so(world: World, model: Model) -> None:
    world.repository.begin_with_work()
    model(list(RIGHT))
    wire = delegate(world, attempts=2)
    assert [pick(row, "attempt", "rank", "tie") for row in wire["attempts"]] == [
        {"attempt": 1, "rank": 1, "tie": True},
        {"attempt": 2, "rank": 1, "tie": True},
    ]
    assert wire["attempts"][0]["agrees"] == [
        {"attempt": 2, "files": ["app.py"], "all": True}
    ]
    assert "nothing tells it from attempt 2" in wire["summary"]
    assert "check" not in wire


def test_a_check_that_no_attempt_passes_is_said_first(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    model(list(WRONG))
    wire = delegate(world, attempts=2, check=CHECK)
    assert wire["ok"]
    first = "Check failed (exit 1); it failed before the change too."
    assert wire["summary"].startswith(first)


@pytest.mark.parametrize(
    "verdict",
    [
        failed("server_error"),
        say("I like the first one."),
        say({"ranking": []}),
        say({"ranking": [{"attempt": "Z", "reason": "\x1b[2J" * 1000}]}),
    ],
    ids=["fails", "prose", "empty", "unknown letter"],
)
def test_a_judge_that_gives_no_ranking_costs_nothing_else(
    world: World, model: Model, verdict: Any
) -> None:
    world.repository.begin_with_work()
    cast = Cast({"wrong": WRONG, "right": RIGHT}, verdict=verdict)
    model(cast)
    wire = delegate(world, check=CHECK, judge=True, **cast.arguments)
    assert wire["attempts"][0]["model"] == "right"
    assert not any("judge_rank" in row for row in wire["attempts"])
    (warning,) = [text for text in wire["meta"]["warnings"] if "judge" in text]
    assert warning.startswith("the judge gave no ranking: ")
    assert_nothing_is_left(world)


def test_no_judge_is_paid_where_there_is_nothing_to_compare(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    cast = Cast({"right": RIGHT, "nothing": NOTHING})
    model(cast)
    wire = delegate(world, judge=True, **cast.arguments)
    assert cast.judged == []
    assert any("the judge was not asked" in text for text in wire["meta"]["warnings"])
    assert by_model(wire)["nothing"]["why"] == "it changed nothing"


def test_where_every_attempt_fails_the_failure_that_would_come_again_is_the_one_that_is_named(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    cast = Cast({"crash": CRASH, "limit": (usage_limit(),)})
    model(cast)
    wire = delegate(world, check=CHECK, **cast.arguments)
    assert pick(wire, "ok", "status") == {"ok": False, "status": "failed"}
    assert wire["error"]["code"] == "usage_limit"
    assert "None of the 2 attempts completed. Attempt 2: " in wire["error"]["message"]
    assert [row["error"] for row in wire["attempts"]] == [
        "stream_disconnected",
        "usage_limit",
    ]
    assert_nothing_is_left(world)


# --- what they begin with


def test_all_attempts_begin_with_the_users_uncommitted_work_and_the_same_images(
    world: World, model: Model
) -> None:
    repository = world.repository.begin_with_work()
    picture = repository.write("shot.png", RED_PIXEL)
    server = model([set_answer(42), say("Done.")])
    repository.write("fresh.txt", "mine\n")
    wire = delegate(world, attempts=2, images=[str(picture)])
    first: dict[str, str] = {}
    for request in server.requests:
        first.setdefault(request.thread_id, json.dumps(request.body["input"]))
    assert len(first) == 2
    assert all("input_image" in text for text in first.values())
    trees = set()
    for child in children_of(world.counsel().store.job(wire["meta"]["job_id"])):
        trees.add(json.loads((child.path / "seed.json").read_text())["base_tree"])
        assert b"fresh.txt" in (child.path / "seed.patch").read_bytes()
    assert len(trees) == 1


def test_an_attempt_that_waits_for_a_place_begins_with_what_the_others_began_with(
    world: World, model: Model
) -> None:
    world.settings["MAX_RUNNING"] = "1"
    repository = world.repository.begin_with_work()
    gate = hold(set_answer(42))
    model([gate, say("Done.")])
    handle = start(world, attempts=2)
    assert gate.reached.wait(60)
    assert not Path(handle.job.spec().scratch, "tree").exists()  # nothing is checked
    repository.write("app.py", "answer = 7\n")
    repository.write("later.txt", "mine\n")
    gate.release.set()
    wire = wait(handle)
    assert [row["diffstat"] for row in wire["attempts"]] == [
        "1 file changed, 1 insertion(+), 1 deletion(-)"
    ] * 2
    assert wire["attempts"][0]["agrees"][0]["all"]


def test_no_attempt_finds_a_secret_file_and_each_can_run_commands(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.begin_with_work()
    repository.write("conf/.env", "VALUE=committed\n")
    repository.write("unchanged/.env", "VALUE=committed\n")
    repository.write(".env", "VALUE=committed\n")
    repository.commit()
    repository.write("conf/.env", "VALUE=mine-alone\n")
    server = each_model(
        [set_answer(42, "; cat .env */.env; echo ran; git status"), say("Done.")]
    )
    wire = delegate(each_release, attempts=2, check="grep 42 app.py && git status")
    assert [row["check"]["status"] for row in wire["attempts"]] == ["passed"] * 2
    for request in server.requests:
        for output in request.outputs:
            assert "ran" in output
            assert "VALUE=" not in output
            assert "deleted" not in output


# The limit may be met before a command of the same response has begun.
MUCH = shell("sleep 600").but(usage=Usage(input=4_000, output=10))


def test_a_winner_that_used_up_its_share_of_the_tokens_says_so(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    model([set_answer(42), MUCH, say("As far as I came.")])
    wire = delegate(world, attempts=2, max_tokens=6_000)
    assert wire["ok"]
    assert wire["partial"]
    assert wire["meta"]["budget_reached"]["limit"] == 3_000
    assert "Cut short" in wire["summary"]


def test_an_attempt_that_used_up_its_tokens_comes_after_one_that_was_done(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    short = (set_answer(42), MUCH, say("As far as I came."))
    cast = Cast({"short": short, "right": RIGHT})
    model(cast)
    wire = delegate(world, max_tokens=6_000, **cast.arguments)
    assert [pick(row, "model", "why") for row in wire["attempts"]] == [
        {
            "model": "right",
            "why": "its work is whole, that of attempt 1 is partial",
        },
        {"model": "short", "why": "its work is partial"},
    ]
    assert "partial" not in wire


def test_attempts_can_go_on_from_an_earlier_diff_in_threads_of_their_own(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    server = model([set_answer(42), say("Done.")])
    earlier = delegate(world)
    cast = Cast(
        {
            "one": (set_answer(0, "; echo one > one.txt"), say("One.")),
            "two": (set_answer(0, "; echo two > two.txt; seq 9 > n"), say("Two.")),
        }
    )
    server = model(cast)
    wire = delegate(world, from_job=earlier["meta"]["job_id"], **cast.arguments)
    assert "+answer = 42" in wire["diff"]
    assert "one.txt" in wire["diff"]
    sessions = {row["session_id"] for row in wire["attempts"]}
    assert len(sessions) == 2
    assert earlier["meta"]["session_id"] not in sessions
    for request in server.requests:
        assert "what was made of an earlier task" in request.prompt
        assert "earlier in this thread" not in request.prompt


def test_a_later_task_goes_on_from_the_winner_in_its_thread(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    cast = Cast({"wrong": WRONG, "right": RIGHT})
    model(cast)
    several = delegate(world, check=CHECK, **cast.arguments)
    model([set_answer(0, "; echo more > more.txt"), say("More.")])
    wire = delegate(world, from_job=several["meta"]["job_id"])
    assert wire["meta"]["session_id"] == several["meta"]["session_id"]
    assert "+answer = 42" in wire["diff"]
    assert "more.txt" in wire["diff"]


# --- what else takes the job


def test_the_winner_is_applied_by_the_id_of_the_run_and_any_attempt_by_its_own(
    world: World, model: Model
) -> None:
    workspace = world.repository.begin_with_work().root
    cast = Cast({"wrong": WRONG, "right": RIGHT})
    model(cast)
    wire = delegate(world, check=CHECK, **cast.arguments)
    counsel = world.counsel()
    job_id = wire["meta"]["job_id"]

    assert counsel.apply(parse(Apply, {"job_id": job_id}))["ok"]
    assert "answer = 42" in (workspace / "app.py").read_text()
    assert counsel.apply(parse(Apply, {"job_id": job_id, "undo": True}))["ok"]
    loser = by_model(wire)["wrong"]["job_id"]
    assert counsel.apply(parse(Apply, {"job_id": loser}))["ok"]
    assert "answer = 43" in (workspace / "app.py").read_text()


def test_without_an_id_the_run_is_meant_and_not_one_of_its_attempts(
    world: World, model: Model
) -> None:
    workspace = world.repository.begin_with_work().root
    cast = Cast({"wrong": WRONG, "right": RIGHT})
    model(cast)
    wire = delegate(world, check=CHECK, **cast.arguments)
    counsel = world.counsel()
    store = counsel.store

    def unapplied() -> list[str]:
        rows = choosing.rows(store, parse(JobList, {}))
        return [
            row["job_id"] for row in rows if choosing.has_unapplied_diff(store, row)
        ]

    assert unapplied() == [wire["meta"]["job_id"]]
    loser = by_model(wire)["wrong"]["job_id"]
    assert counsel.apply(parse(Apply, {"job_id": loser}))["ok"]
    assert unapplied() == []
    row = choosing.newest(
        store, workspace, lambda row: choosing.has_applied_diff(store, row), "diff"
    )
    assert row["job_id"] == loser


def test_the_attempts_are_listed_with_their_run_and_delivered_with_it(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    cast = Cast({"wrong": WRONG, "right": RIGHT})
    model(cast)
    wire = delegate(world, judge=True, **cast.arguments)
    job_id = wire["meta"]["job_id"]
    rows = world.counsel().store.rows()
    parents = [row.get("parent") for row in rows]
    assert sorted(parents, key=str) == sorted([job_id] * 3 + [None], key=str)
    assert sorted(row["tool"] for row in rows) == [
        "codex_consult",
        "codex_delegate",
        "codex_delegate",
        "codex_delegate",
    ]
    assert all(job.is_delivered() for job in world.counsel().store.jobs())
    run = world.counsel().store.job(job_id)
    for child in children_of(run):
        assert child.spec().created > run.spec().created


def test_the_ledger_counts_every_token_once(world: World, model: Model) -> None:
    world.repository.begin_with_work()
    cast = Cast({"wrong": WRONG, "right": RIGHT})
    model(cast)
    wire = delegate(world, judge=True, **cast.arguments)
    total = usage.report(Store(world.state), "day", "1d")["data"]["total"]
    assert total["tokens"]["input"] == wire["meta"]["usage"]["input"] == 500
    assert total["runs"] == 3


def test_the_stored_diff_is_paged_whole_when_it_is_long(
    world: World, model: Model
) -> None:
    world.settings["MAX_DELEGATE_DIFF_BYTES"] = "2000"
    world.repository.begin_with_work()
    model([set_answer(42, "; seq 30000 > long.txt"), say("Long.")])
    wire = delegate(world, attempts=2)
    counsel, pages = world.counsel(), []
    request = parse(JobResult, {"job_id": wire["meta"]["job_id"]})
    while True:
        page = fetch(counsel, request)
        pages.append(page.get("diff", ""))
        cursor = page["meta"].get("next_cursor")
        if cursor is None:
            break
        request = parse(JobResult, {"job_id": wire["meta"]["job_id"], "cursor": cursor})
    patch = Path(wire["diff_path"]).read_text()
    assert "".join(pages) == patch


# --- arguments


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "models for one": ({"models": ("a",)}, "for one there is `model`"),
    "too few models": ({"attempts": 3, "models": ("a", "b")}, "names 2 for 3 attempts"),
    "too many efforts": (
        {"attempts": 2, "efforts": ("low", "low", "high")},
        "names 3 for 2 attempts",
    ),
    "a judge for one": ({"judge": True}, "`attempts` must be 2 to 5"),
    "a thread": (
        {"attempts": 2, "session_id": "01a1fd13-60ab-7632-8f92-823f89c4f967"},
        "begins a thread of its own",
    ),
    "too few tokens": (
        {"attempts": 3, "judge": True, "max_tokens": 3999},
        "at least 4000 are needed",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_arguments_that_do_not_go_together_are_refused_before_anything_is_spent(
    world: World, model: Model, arguments: dict[str, Any], words: str
) -> None:
    world.repository.begin_with_work()
    server = model()
    with pytest.raises(CounselError) as caught:
        start(world, **arguments)
    assert caught.value.code == "invalid_arguments"
    assert words in caught.value.message
    assert server.requests == []
    assert_nothing_is_left(world)


def test_the_tokens_of_the_run_are_shared_out(world: World, model: Model) -> None:
    world.repository.begin_with_work()
    model(list(RIGHT))
    wire = delegate(world, attempts=2, judge=True, max_tokens=10_000)
    job = world.counsel().store.job(wire["meta"]["job_id"])
    assert [child.spec().max_tokens for child in children_of(job)] == [3333] * 3


def test_the_same_key_is_the_same_run_with_all_its_attempts(
    world: World, model: Model
) -> None:
    world.repository.begin_with_work()
    server = model(list(RIGHT))
    first = delegate(world, attempts=2, idempotency_key="k")
    count = len(server.requests)
    again = start(world, attempts=2, idempotency_key="k")
    assert wait(again)["meta"]["job_id"] == first["meta"]["job_id"]
    assert len(server.requests) == count
    request = {"task": "Fix the answer.", "attempts": 3, "idempotency_key": "k"}
    with pytest.raises(CounselError) as caught:
        world.counsel().delegate(parse(Delegate, request))
    assert caught.value.code == "idempotency_conflict"


# --- the queue


def test_one_place_is_enough_and_is_given_to_one_attempt_after_the_other(
    world: World, model: Model
) -> None:
    world.settings["MAX_RUNNING"] = "1"
    world.repository.begin_with_work()
    gates = {name: hold(set_answer(42)) for name in ("one", "two")}
    cast = Cast({name: (gate, say("Done.")) for name, gate in gates.items()})
    model(cast)
    handle = start(world, check=CHECK, judge=True, **cast.arguments)
    until(lambda: any(gate.reached.is_set() for gate in gates.values()))
    until(lambda: len(children_of(handle.job)) == 2)
    until(lambda: any(job.state().codex for job in children_of(handle.job)))
    waiting = [job for job in children_of(handle.job) if not job.state().codex]
    until(lambda: waiting[0].state().worker)
    assert [job.state().phase for job in waiting] == ["queued"]
    assert [gate.reached.is_set() for gate in gates.values()].count(True) == 1
    until(lambda: handle.job.state().phase == "waiting")
    for gate in gates.values():
        gate.release.set()
    wire = wait(handle)
    assert wire["ok"]
    assert len(cast.judged) == 1
    assert_nothing_is_left(world)
