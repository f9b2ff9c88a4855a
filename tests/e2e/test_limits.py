"""A limit that one run met is known to the next one of the same account, whichever process asks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex.limits import MAX_LIMIT_SECONDS, Limit, Limits, add_exact_reset
from codex_counsel.contract.envelope import Failure, failure
from codex_counsel.contract.request import Status, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import (
    Account,
    Loopback,
    Reply,
    Request,
    Window,
    error,
    failed,
    http_error,
    say,
    usage_limit,
)
from tests.conftest import World, consult, start_consult, wait
from tests.e2e import fakes
from tests.e2e.runs import chatgpt

Model = Callable[..., Loopback]
HOUR = 3600


def refusal_of(world: World, **env: str) -> CounselError:
    """The refusal of a call that is not even started."""
    with pytest.raises(CounselError) as refusal:
        consult(world.counsel(**env))
    assert refusal.value.code == Code.BACKING_OFF
    return refusal.value


def limit_marks(world: World) -> list[dict[str, Any]]:
    return [
        json.loads(file.read_text()) for file in (world.state / "limits").glob("*.json")
    ]


def limits(world: World, **arguments: Any) -> dict[str, Any]:
    wire = world.counsel().status(parse(Status, arguments))
    found: dict[str, Any] = wire["data"]["limits"]
    return found


def test_after_a_usage_limit_the_next_call_is_refused_at_once_until_the_reset(
    each_release: World, each_model: Model
) -> None:
    reset = int(time.time()) // 60 * 60 + 2 * HOUR
    server = each_model(usage_limit("plus", reset))
    begin = time.time()
    met = consult(each_release.counsel())["error"]
    took = time.time() - begin
    assert met["code"] == Code.USAGE_LIMIT
    refusal = refusal_of(each_release)
    assert "hit your usage limit" in refusal.message
    # The end of the minute that Codex names, counted from when it was read, in whole seconds.
    assert reset <= refusal.details["until"] <= reset + 60 + took + 1
    assert refusal.details["limit"] == "usage_limit"
    assert refusal.retry_after_ms
    assert 0 < refusal.retry_after_ms <= met["retry_after_ms"]
    assert len(server.requests) == 1


RESETS = {
    "same day, west": ("America/Los_Angeles", 0),
    "same day, half an hour off": ("Asia/Kolkata", 0),
    "another day": ("Europe/Berlin", 20 * 24 * HOUR),
}


@pytest.mark.parametrize(("name", "later"), RESETS.values(), ids=RESETS.keys())
def test_the_reset_is_read_in_the_zone_that_codex_writes_it_in(
    each_release: World,
    each_model: Model,
    zone: Callable[[str], None],
    name: str,
    later: int,
) -> None:
    zone(name)
    today = datetime.now().astimezone()
    reset = int(today.replace(hour=23, minute=58, second=30).timestamp()) + later
    if reset < time.time() + 60:
        pytest.skip("the local day is over")
    each_model(usage_limit("enterprise", reset))
    consult(each_release.counsel(TZ=name))
    assert reset <= limit_marks(each_release)[0]["until"] <= reset + 60


@pytest.mark.parametrize(
    ("settings", "seconds"), [({}, 300), ({"BACKOFF_SECONDS": "600"}, 600)]
)
def test_a_limit_without_a_reset_is_tried_again_after_minutes_or_as_the_setting_says(
    each_release: World, each_model: Model, settings: dict[str, str], seconds: int
) -> None:
    each_model(usage_limit("team"))
    each_release.settings |= settings
    begin = time.time()
    met = consult(each_release.counsel())["error"]
    assert "retry_after_ms" not in met
    end = time.time()
    refusal = refusal_of(each_release)
    # In whole seconds.
    assert begin + seconds <= refusal.details["until"] <= end + seconds + 1
    assert "names no end; the next try" in refusal.message


def test_the_exact_reset_of_the_account_is_used_where_codex_recorded_it(
    each_release: World, each_model: Model
) -> None:
    reset = int(time.time()) + 3 * HOUR + 17
    headers = {
        "x-codex-primary-used-percent": "100",
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": str(reset),
    }
    each_model(usage_limit("pro", reset + 900, headers))
    met = consult(each_release.counsel())["error"]
    ended = time.time()
    assert met["details"]["until"] == reset
    assert reset - ended <= met["retry_after_ms"] / 1000 <= 3 * HOUR + 17
    assert refusal_of(each_release).details["until"] == reset


RATES: dict[str, tuple[Reply, bool]] = {
    "with its own time": (
        failed("rate_limit_exceeded", "Please try again in 20m0s."),
        True,
    ),
    "without": (http_error(429, error("rate_limit_exceeded")), False),
}


@pytest.mark.parametrize(("reply", "kept"), RATES.values(), ids=RATES.keys())
def test_a_rate_limit_is_remembered_only_with_a_time_of_its_own(
    each_release: World, each_model: Model, reply: Reply, kept: bool
) -> None:
    server = each_model(reply)
    assert consult(each_release.counsel())["error"]["code"] == Code.RATE_LIMITED
    if kept:
        refusal_of(each_release)
    else:
        consult(each_release.counsel())
    assert len(server.requests) == (1 if kept else 2)


def test_another_provider_and_another_key_are_not_held_up(
    world: World, model: Model
) -> None:
    model(usage_limit("pro", int(time.time()) + HOUR), env_key="THE_KEY")
    assert consult(world.counsel(THE_KEY="one"))["error"]["code"] == Code.USAGE_LIMIT
    refusal_of(world, THE_KEY="one")
    assert consult(world.counsel(THE_KEY="two"))["error"]["code"] == Code.USAGE_LIMIT
    model([say("Not me.")])
    assert consult(world.counsel())["ok"]


def test_a_limit_of_one_chatgpt_account_does_not_hold_up_another(
    each_release: World,
) -> None:
    one, two = Account(), Account(id="00000000-0000-4000-8000-000000000002")
    with Loopback(
        [usage_limit("plus", int(time.time()) + HOUR), say("Hello.")], one
    ) as server:
        chatgpt(each_release, server, one)
        assert consult(each_release.counsel())["error"]["code"] == Code.USAGE_LIMIT
        refusal_of(each_release)
    with Loopback(say("Hello."), two) as server:
        chatgpt(each_release, server, two)
        assert consult(each_release.counsel())["answer"] == "Hello."


def test_a_success_clears_the_limit(world: World, model: Model) -> None:
    until = int(time.time()) + HOUR
    model([usage_limit("pro", until)])
    consult(world.counsel())
    (mark,) = (world.state / "limits").glob("*.json")
    stored = mark.read_text()
    mark.unlink()
    fakes.install(
        world,
        f"open({str(mark)!r}, 'w').write({stored!r}); begin(); message('Fine.'); end()",
    )
    assert consult(world.counsel())["ok"]
    assert limit_marks(world) == []


def test_a_success_of_a_run_that_began_before_does_not_clear_the_limit(
    world: World, model: Model
) -> None:
    """It may have been answered before the other one met the limit."""
    is_asked, has_met = threading.Event(), threading.Event()

    def play(request: Request) -> Reply:
        if "the first" not in request.prompt:
            return usage_limit("pro", int(time.time()) + HOUR)
        is_asked.set()
        assert has_met.wait(60)
        return say("Fine.")

    model(play)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(consult, world.counsel(), "the first")
        assert is_asked.wait(60)
        met = consult(world.counsel(), "the second")["error"]
        assert met["code"] == Code.USAGE_LIMIT
        has_met.set()
        assert first.result()["ok"]
    refusal_of(world)


def test_a_success_of_a_run_that_was_queued_meanwhile_clears_the_limit(
    world: World, model: Model
) -> None:
    world.settings["MAX_RUNNING"] = "1"
    is_asked, is_queued = threading.Event(), threading.Event()

    def play(request: Request) -> Reply:
        if "the first" not in request.prompt:
            return say("Fine.")
        is_asked.set()
        assert is_queued.wait(60)
        return usage_limit("pro", int(time.time()) + HOUR)

    model(play)
    first = start_consult(world.counsel(), "the first")
    assert is_asked.wait(60)
    second = start_consult(world.counsel(), "the second")
    is_queued.set()
    assert wait(first)["error"]["code"] == Code.USAGE_LIMIT
    assert wait(second)["ok"]
    assert limit_marks(world) == []


def limit(seconds: float, code: Code = Code.USAGE_LIMIT) -> Failure:
    """A failure that names the end of its limit."""
    error = CounselError(code, "No more.", retry_after_ms=int(seconds * 1000))
    return failure(error)


@pytest.mark.parametrize("seconds", [(HOUR, 20), (20, HOUR)], ids=str)
def test_of_two_limits_that_runs_met_at_once_the_longer_one_stays(
    tmp_path: Path, seconds: tuple[float, float]
) -> None:
    own = Limits(tmp_path, "me")
    begin = time.time()
    own.remember(limit(seconds[0]), default_seconds=300, began=begin)
    own.remember(limit(seconds[1], Code.RATE_LIMITED), default_seconds=300, began=begin)
    stored = own.in_force()
    assert stored
    assert begin + HOUR <= stored.until <= time.time() + HOUR


def test_a_limit_that_a_later_run_met_takes_the_place_of_a_longer_one(
    tmp_path: Path,
) -> None:
    own = Limits(tmp_path, "me")
    own.remember(limit(20 * HOUR), default_seconds=300, began=time.time())
    own.remember(limit(HOUR), default_seconds=300, began=time.time() + 1)
    stored = own.in_force()
    assert stored
    assert stored.until < time.time() + 2 * HOUR


@pytest.mark.parametrize("reset", [None, 0.0, 1.0, float("nan"), float("inf")])
def test_a_reset_that_is_over_or_none_leaves_the_time_that_the_message_names(
    reset: float | None,
) -> None:
    error = CounselError(Code.USAGE_LIMIT, "You have had enough.", retry_after_ms=7000)
    add_exact_reset(error, reset)
    assert (error.retry_after_ms, error.details) == (7000, {})


def test_a_limit_that_is_met_while_an_older_one_is_forgotten_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codex_counsel.system.files.CHANGE_PATIENCE", 60.0)
    own = Limits(tmp_path, "me")
    begin = time.time()
    own.remember(limit(60), default_seconds=300, began=begin)
    others: list[threading.Thread] = []
    clear = own.clear

    def meet() -> None:
        Limits(tmp_path, "me").remember(limit(HOUR), default_seconds=300, began=begin)

    def clear_late() -> bool:
        others.append(threading.Thread(target=meet))
        others[0].start()
        # It waits for its turn, or else it has stored its limit by then.
        others[0].join(0.5)
        return clear()

    monkeypatch.setattr(own, "clear", clear_late)
    own.forget_met_before(time.time() + 1)
    others[0].join()
    stored = own.in_force()
    assert stored
    assert stored.until > time.time() + HOUR / 2


def test_status_shows_the_limit_and_clears_it_on_demand(
    world: World, model: Model
) -> None:
    server = model([usage_limit("pro", int(time.time()) + HOUR), say("Again.")])
    consult(world.counsel())
    wire = world.counsel().status(parse(Status, {}))
    assert wire["data"]["usable"] is False
    assert "hit your usage limit" in wire["summary"]
    assert any("--clear-limits" in step for step in wire["next_steps"])
    assert limits(world)["in_force"]["code"] == "usage_limit"
    cleared = limits(world, clear_limits=True)
    assert (cleared["in_force"], cleared["cleared"]) == (None, True)
    consult(world.counsel())
    assert len(server.requests) == 2


def test_a_mark_that_has_run_out_is_ignored(world: World, model: Model) -> None:
    replies = iter([usage_limit("pro", int(time.time()) + HOUR), say("Welcome back.")])
    model(lambda _: next(replies))
    consult(world.counsel())
    (file,) = (world.state / "limits").glob("*.json")
    file.write_text(
        json.dumps({"code": "usage_limit", "message": "over", "until": time.time() - 1})
    )
    assert consult(world.counsel())["answer"] == "Welcome back."


CORRUPT = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "other fields": '{"until": 9}',
    "a word for a time": '{"code": "x", "message": "y", "until": "soon"}',
    "no end": '{"code": "x", "message": "y", "until": Infinity}',
    "the year 33658": '{"code": "x", "message": "y", "until": 1e12}',
    "bytes": "\x00\x01",
}


@pytest.mark.parametrize("text", CORRUPT.values(), ids=CORRUPT.keys())
def test_a_corrupt_mark_blocks_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "me.json").write_text(text)
    own = Limits(tmp_path, "me")
    own.check()
    assert own.in_force() is None
    assert own.clear()


def test_a_mark_in_force_names_its_end(tmp_path: Path) -> None:
    (tmp_path / "limits").mkdir()
    until = time.time() + MAX_LIMIT_SECONDS - 60
    mark = Limit("usage_limit", "You have had enough.", until)
    (tmp_path / "limits" / "me.json").write_text(json.dumps(vars(mark)))
    assert Limits(tmp_path, "me").in_force() == mark
    assert Limits(tmp_path, "you").in_force() is None
    with pytest.raises(
        CounselError, match=r"until \d{4}-\d\d-\d\d \d\d:\d\d .*: You have had enough\."
    ) as refusal:
        Limits(tmp_path, "me").check()
    assert refusal.value.code == Code.BACKING_OFF


def test_a_reset_years_ahead_holds_the_account_up_for_weeks_at_most(
    world: World, model: Model
) -> None:
    model(usage_limit("pro", 4_000_000_000))
    consult(world.counsel())
    (mark,) = limit_marks(world)
    assert MAX_LIMIT_SECONDS - HOUR < mark["until"] - time.time() <= MAX_LIMIT_SECONDS
    refusal_of(world)


def test_a_limit_of_one_model_does_not_hold_up_the_others(
    world: World, model: Model
) -> None:
    model()
    sentence = "You have hit your usage limit for GPT-X. Switch to another model now, or try again later."
    sentence = sentence.replace("You have", "You\\u2019ve")
    fakes.install(
        world,
        f'begin(); event("turn.failed", error={{"message": "{sentence}"}}); sys.exit(1)',
    )
    assert consult(world.counsel())["error"]["code"] == Code.USAGE_LIMIT
    assert consult(world.counsel(), model="gpt-y")["error"]["code"] == Code.USAGE_LIMIT
    assert limit_marks(world) == []


def test_where_nothing_can_be_written_a_limit_is_met_again_and_nothing_breaks(
    world: World, model: Model
) -> None:
    (world.base / "file").write_text("")
    world.settings["STATE_DIR"] = str(world.base / "file" / "state")
    server = model(usage_limit("pro", int(time.time()) + HOUR))
    for _ in range(2):
        assert consult(world.counsel())["error"]["code"] == Code.USAGE_LIMIT
    assert len(server.requests) == 2


def test_status_tells_the_live_quota_of_a_chatgpt_account_without_asking_the_model(
    each_release: World,
) -> None:
    reset = int(time.time()) + HOUR
    account = Account("pro", primary=Window(77, 300, reset), secondary=None)
    with Loopback(say("Never."), account) as server:
        chatgpt(each_release, server, account)
        report = limits(each_release)
        assert server.requests == []
    assert report["quota"]["primary"] == {
        "usedPercent": 77,
        "windowDurationMins": 300,
        "resetsAt": reset,
    }
    assert report["quota"]["planType"] == "pro"
    assert report["in_force"] is None


def test_a_quota_that_cannot_be_read_is_said_and_does_not_make_codex_unusable(
    each_release: World,
) -> None:
    with Loopback(say("Never.")) as server:
        chatgpt(each_release, server, Account())
    wire = each_release.counsel().status(parse(Status, {}))
    assert wire["data"]["limits"]["quota_error"]
    assert wire["data"]["usable"] is True
