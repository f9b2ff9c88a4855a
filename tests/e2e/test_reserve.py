"""A part of the account's usage windows is left to the user: launches look at them, at most once a minute."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import (
    Delegate,
    DryRun,
    ReviewChanges,
    ReviewPlan,
    Status,
    parse,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import Account, Loopback, Window, say
from codex_counsel.prepare import reserve
from tests.conftest import World, consult
from tests.e2e.fakes import executable
from tests.e2e.runs import chatgpt, command_line

Model = Callable[..., Loopback]
HOUR = 3600
USAGE = "/backend-api/wham/usage"


def account_with(primary: int | None, secondary: int | None = None) -> Account:
    """An account that has used so many per cent of its windows, which reset in one and in two hours."""
    now = int(time.time())
    windows = [
        None if used is None else Window(used, minutes, now + hours * HOUR)
        for used, minutes, hours in ((primary, 300, 1), (secondary, 10_080, 2))
    ]
    return Account(primary=windows[0], secondary=windows[1])


def headers_with(used: int) -> dict[str, str]:
    """What the model service says of the windows in each reply."""
    return {
        "x-codex-primary-used-percent": str(used),
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": str(int(time.time()) + HOUR),
    }


def readings(server: Loopback) -> int:
    """How often the account's windows were asked for."""
    return sum(visit.path == USAGE for visit in server.visits)


def refusal_of(world: World, **arguments: Any) -> CounselError:
    with pytest.raises(CounselError) as refusal:
        consult(world.counsel(), **arguments)
    assert refusal.value.code == Code.QUOTA_RESERVED
    return refusal.value


def warnings(wire: EnvelopeDict) -> list[str]:
    return [text for text in wire["meta"].get("warnings", ()) if "reserve of" in text]


LEFT = {
    "the 5-hour window": ((85, 10), ["5-hour"], HOUR),
    "the weekly window": ((10, 85), ["weekly"], 2 * HOUR),
    "both windows": ((85, 85), ["5-hour", "weekly"], 2 * HOUR),
    "nothing at all": ((100, None), ["5-hour"], HOUR),
}


@pytest.mark.parametrize(("used", "short", "wait"), LEFT.values(), ids=LEFT.keys())
def test_a_run_is_refused_where_less_than_the_reserve_is_left(
    each_release: World, used: tuple[int, int | None], short: list[str], wait: int
) -> None:
    account = account_with(*used)
    each_release.settings["RESERVE"] = "20"
    with Loopback(say("Never."), account) as server:
        chatgpt(each_release, server, account)
        refusal = refusal_of(each_release)
        assert server.requests == []
    told = refusal.details["windows"]
    assert [window["window"] for window in told] == short
    assert [window["left_percent"] for window in told] == [
        100 - percent for percent in used if percent and percent > 80
    ]
    assert refusal.details["reserve"] == 20
    assert refusal.retry_after_ms
    assert (wait - 120) * 1000 < refusal.retry_after_ms <= wait * 1000
    assert all(f"The {title} window" in refusal.message for title in short)
    assert list((each_release.state / "jobs").glob("*")) == []


def test_the_user_may_spend_the_reserve_on_one_call(each_release: World) -> None:
    account = account_with(95)
    each_release.settings["RESERVE"] = "20"
    with Loopback(say("Spent."), account) as server:
        chatgpt(each_release, server, account)
        refusal_of(each_release)
        wire = consult(each_release.counsel(), use_reserve=True)
        assert wire["answer"] == "Spent."
        said = "the reserve of 20 % was not kept: the call has use_reserve"
        assert warnings(wire) == [said]
        each_release.settings["RESERVE"] = "0"
        assert warnings(consult(each_release.counsel(), use_reserve=True)) == []


@pytest.mark.parametrize(
    ("used", "percent", "runs"),
    [(80, 20, True), (81, 20, False), (1, 99, True), (2, 99, False), (99, 1, True)],
)
def test_what_is_left_must_be_less_than_the_reserve(
    world: World, used: int, percent: int, runs: bool
) -> None:
    account = account_with(used)
    world.settings["RESERVE"] = str(percent)
    with Loopback(say("Hello."), account) as server:
        chatgpt(world, server, account)
        if runs:
            assert consult(world.counsel())["ok"]
        else:
            refusal_of(world)


def test_a_window_that_was_reset_since_is_full(world: World) -> None:
    past = Window(100, 300, int(time.time()) - 60)
    account = Account(primary=past, secondary=None)
    world.settings["RESERVE"] = "50"
    with Loopback(say("Hello."), account) as server:
        chatgpt(world, server, account)
        assert consult(world.counsel())["answer"] == "Hello."


@pytest.mark.parametrize("reserve", [None, "0"])
def test_without_a_reserve_nobody_asks_for_the_windows(
    each_release: World, reserve: str | None
) -> None:
    account = account_with(100)
    if reserve:
        each_release.settings["RESERVE"] = reserve
    with Loopback(say("Hello."), account) as server:
        chatgpt(each_release, server, account)
        assert consult(each_release.counsel())["ok"]
        assert readings(server) == 0


def test_a_second_launch_within_a_minute_asks_nobody(each_release: World) -> None:
    account = account_with(10)
    each_release.settings["RESERVE"] = "20"
    with Loopback(say("Hello."), account) as server:
        chatgpt(each_release, server, account)
        for _ in range(3):
            assert consult(each_release.counsel())["ok"]
        assert readings(server) == 1
        age_reading(each_release, 61)
        assert consult(each_release.counsel())["ok"]
        assert readings(server) == 2


def age_reading(world: World, seconds: float) -> None:
    (file,) = (world.state / "windows").glob("*.json")
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "taken": stored["taken"] - seconds}))


def test_a_run_leaves_a_reading_for_the_next_launch(each_release: World) -> None:
    account = account_with(1)
    with Loopback(say("Hello.").but(headers=headers_with(90)), account) as server:
        chatgpt(each_release, server, account)
        assert consult(each_release.counsel())["ok"]
        each_release.settings["RESERVE"] = "20"
        refusal = refusal_of(each_release)
        assert refusal.details["windows"][0]["left_percent"] == 10
        assert readings(server) == 0


def test_the_reading_of_another_account_does_not_count(world: World) -> None:
    world.settings["RESERVE"] = "20"
    poor = account_with(95)
    with Loopback(say("Never."), poor) as server:
        chatgpt(world, server, poor)
        refusal_of(world)
    now = int(time.time())
    rich = Account(
        id="00000000-0000-4000-8000-000000000002", primary=Window(5, 300, now + HOUR)
    )
    with Loopback(say("Hello."), rich) as server:
        chatgpt(world, server, rich)
        assert consult(world.counsel())["answer"] == "Hello."
        assert readings(server) == 1


def test_logins_without_windows_run_and_say_that_nothing_was_checked(
    world: World, model: Model
) -> None:
    server = model()
    world.settings["RESERVE"] = "20"
    assert warnings(consult(world.counsel())) == [
        "the reserve of 20 % was not checked: your own model provider has no usage windows"
    ]
    assert server.visits == []
    world.configure(f'openai_base_url = "{server.base_url}"\n')
    said = warnings(consult(world.counsel(CODEX_API_KEY="sk-x")))
    assert "an API key has no usage windows" in said[0]
    assert readings(server) == 0


def test_windows_that_cannot_be_read_hold_nobody_up(each_release: World) -> None:
    each_release.settings["RESERVE"] = "20"
    account = account_with(95)
    with Loopback(say("Hello."), account) as server:
        chatgpt(each_release, server, account)
        broken = f'openai_base_url = "{server.base_url}"\nchatgpt_base_url = "http://127.0.0.1:1/"\n'
        each_release.configure(
            f"{broken}[features]\nenable_request_compression = false\n"
        )
        wire = consult(each_release.counsel())
        assert wire["answer"] == "Hello."
        assert "was not checked" in warnings(wire)[0]


def test_a_reserve_that_is_known_to_be_touched_is_kept_where_nobody_can_tell(
    each_release: World,
) -> None:
    each_release.settings["RESERVE"] = "20"
    account = account_with(95)
    with Loopback(say("Never."), account) as server:
        chatgpt(each_release, server, account)
        refusal_of(each_release)
        broken = f'openai_base_url = "{server.base_url}"\nchatgpt_base_url = "http://127.0.0.1:1/"\n'
        each_release.configure(
            f"{broken}[features]\nenable_request_compression = false\n"
        )
        age_reading(each_release, HOUR / 2)
        assert refusal_of(each_release).details["windows"][0]["left_percent"] == 5
        status = each_release.counsel().status(parse(Status, {}))["data"]
        assert "5 % left" in status["limits"]["reserve"]["refusal"]
        assert server.requests == []


def test_a_reading_that_takes_too_long_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve, "READ_SECONDS", 0.3)
    script = f'[ "$1" = app-server ] && exec sleep 600\nexec {world.binary} "$@"'
    account = account_with(95)
    with Loopback(say("Hello."), account) as server:
        chatgpt(world, server, account)
        real = world.codex()
        slow = executable(world.base / "slow" / "codex", script)
        begin = time.monotonic()
        problem = reserve.read(replace(real, path=slow), world.env).problem
        assert problem == "Codex did not report the account's limits"
        assert time.monotonic() - begin < 60


def test_a_binary_that_vanished_is_no_reason_to_fail(world: World) -> None:
    real = world.codex()
    gone = replace(real, path=world.base / "gone")
    assert "No such file" in reserve.read(gone, world.env).problem


def test_a_key_joins_its_run_whatever_is_left(world: World) -> None:
    world.settings["RESERVE"] = "20"
    account = account_with(10)
    with Loopback(say("Once."), account) as server:
        chatgpt(world, server, account)
        first = consult(world.counsel(), idempotency_key="k")
    poor = account_with(95)
    with Loopback(say("Twice."), poor) as server:
        chatgpt(world, server, poor)
        age_reading(world, 61)
        refusal_of(world)
        for spends in (False, True):
            joined = consult(world.counsel(), idempotency_key="k", use_reserve=spends)
            assert joined["meta"]["job_id"] == first["meta"]["job_id"]
        assert server.requests == []


def test_a_refused_call_keeps_its_key_free(world: World) -> None:
    world.settings["RESERVE"] = "20"
    account = account_with(95)
    with Loopback(say("Now."), account) as server:
        chatgpt(world, server, account)
        refusal_of(world, idempotency_key="k")
        wire = consult(world.counsel(), idempotency_key="k", use_reserve=True)
        assert wire["answer"] == "Now."


def test_launches_at_the_same_time_ask_once(world: World) -> None:
    world.settings["RESERVE"] = "20"
    account = account_with(95)
    with Loopback(say("Never."), account) as server:
        chatgpt(world, server, account)
        refused: list[CounselError] = []
        threads = [
            threading.Thread(target=lambda: refused.append(refusal_of(world)))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 6
        assert readings(server) == 1


def test_a_damaged_reading_is_read_anew(world: World) -> None:
    world.settings["RESERVE"] = "20"
    account = account_with(95)
    with Loopback(say("Never."), account) as server:
        chatgpt(world, server, account)
        refusal_of(world)
        (file,) = (world.state / "windows").glob("*.json")
        file.write_text("{")
        refusal_of(world)
        assert readings(server) == 2


def test_every_tool_that_runs_the_model_keeps_the_reserve(world: World) -> None:
    world.repository.init().write("a.py")
    world.repository.commit("first")
    world.settings["RESERVE"] = "20"
    account = account_with(95)
    with Loopback(say("Never."), account) as server:
        chatgpt(world, server, account)
        counsel = world.counsel()
        for method, request in (
            (counsel.delegate, parse(Delegate, {"task": "Do it."})),
            (counsel.review_plan, parse(ReviewPlan, {"plan": "A plan."})),
            (counsel.review_changes, parse(ReviewChanges, {"scope": "commit"})),
        ):
            start: Callable[..., Any] = method
            with pytest.raises(CounselError) as refusal:
                start(request)
            assert refusal.value.code == Code.QUOTA_RESERVED


def test_a_dry_run_and_status_show_what_is_left(each_release: World) -> None:
    repository = each_release.repository.init()
    repository.write("a.py")
    each_release.settings["RESERVE"] = "20"
    for used, blocked in ((40, False), (95, True)):
        account = account_with(used)
        with Loopback(say("Never."), account) as server:
            chatgpt(each_release, server, account)
            status = each_release.counsel().status(parse(Status, {}))
            preview = each_release.counsel().dry_run(parse(DryRun, {}))["data"]
            assert server.requests == []
            assert readings(server) == 1
        kept = status["data"]["limits"]["reserve"]
        assert kept["percent"] == 20
        assert kept["windows"][0]["left_percent"] == 100 - used
        assert status["data"]["usable"] is not blocked
        shown = preview["reserve"]
        assert shown["percent"] == 20
        assert shown["windows"][0]["left_percent"] == 100 - used
        code = preview.get("blocked", {}).get("code")
        assert code == (Code.QUOTA_RESERVED if blocked else None)


def test_status_says_why_a_reserve_is_not_checked(world: World, model: Model) -> None:
    model()
    world.settings["RESERVE"] = "20"
    kept = world.counsel().status(parse(Status, {}))["data"]["limits"]["reserve"]
    assert kept == {
        "percent": 20,
        "problem": "your own model provider has no usage windows",
    }


def test_a_terminal_is_told_how_to_go_on(world: World) -> None:
    world.settings["RESERVE"] = "20"
    account = account_with(95)
    with Loopback(say("Spent."), account) as server:
        chatgpt(world, server, account)
        # The processes find this reading: they wait for one of their own for three seconds only.
        refusal_of(world)
        refused = command_line(world, "consult", "Is it fine?")
        assert refused.returncode == 3
        assert "--use-reserve" in refused.stderr
        assert "5 % left" in refused.stderr
        spent = command_line(world, "consult", "--use-reserve", "Is it fine?")
        assert (spent.returncode, "Spent." in spent.stdout) == (0, True)
