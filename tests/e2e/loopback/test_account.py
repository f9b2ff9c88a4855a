"""A real Codex takes the scripted account for a ChatGPT login."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from codex_counsel.loopback import (
    Account,
    Loopback,
    Window,
    error,
    http_error,
    say,
    usage_limit,
)
from tests.e2e.loopback.conftest import FLAGS, finish

if TYPE_CHECKING:
    from tests.e2e.loopback.conftest import Codex, Outcome

ACCOUNT = Account(
    "pro", "me@example.com", primary=Window(100, 300, 1_900_000_000), secondary=None
)


def ask_app_server(
    codex: Codex, server: Loopback, *methods: str
) -> list[dict[str, Any]]:
    """The results of these methods, in the same order. Its input stays open until all have come."""
    process = codex.run(
        "app-server", "-c", f'chatgpt_base_url="{server.chatgpt_base_url}"', *FLAGS
    )
    assert process.stdin
    assert process.stdout
    initialize = {
        "id": 0,
        "method": "initialize",
        "params": {"clientInfo": {"name": "test", "version": "0"}},
    }
    calls = [
        {"id": number, "method": method, "params": {}}
        for number, method in enumerate(methods, 1)
    ]
    with process:
        for line in [initialize, {"method": "initialized"}, *calls]:
            process.stdin.write(json.dumps(line).encode() + b"\n")
        process.stdin.flush()
        found: dict[int, dict[str, Any]] = {}
        while len(found) <= len(methods):
            message: dict[str, Any] = json.loads(process.stdout.readline())
            if "id" in message:
                found[int(message["id"])] = message["result"]
        process.communicate()
    return [found[number] for number in range(1, len(found))]


def exec_with_login(codex: Codex, server: Loopback) -> Outcome:
    (codex.home / "auth.json").write_text(server.account.auth_json(), encoding="utf-8")
    flags = [
        "-c",
        f'chatgpt_base_url="{server.chatgpt_base_url}"',
        "-c",
        "features.enable_request_compression=false",
    ]
    flags += [
        "-c",
        f'openai_base_url="{server.base_url}"',
        "-c",
        'model_provider="openai"',
    ]
    signed_in = replace(
        codex, environment={"CODEX_REFRESH_TOKEN_URL_OVERRIDE": server.refresh_url}
    )
    return finish(signed_in.start(server, *flags))


def test_app_server_reads_the_limits_and_the_account(codex: Codex) -> None:
    (codex.home / "auth.json").write_text(ACCOUNT.auth_json(), encoding="utf-8")
    with Loopback(say("Yes."), ACCOUNT) as server:
        limits, account = ask_app_server(
            codex, server, "account/rateLimits/read", "account/read"
        )
    assert limits["rateLimits"]["planType"] == "pro"
    assert limits["rateLimits"]["primary"] == {
        "usedPercent": 100,
        "windowDurationMins": 300,
        "resetsAt": 1_900_000_000,
    }
    assert limits["rateLimits"]["secondary"] is None
    assert (account["account"]["email"], account["account"]["planType"]) == (
        "me@example.com",
        "pro",
    )


def test_login_is_enough_for_an_answer(codex: Codex) -> None:
    with Loopback(say("Yes."), ACCOUNT) as server:
        outcome = exec_with_login(codex, server)
    assert outcome.texts() == ["Yes."]
    assert server.requests[0].headers["chatgpt-account-id"] == ACCOUNT.id
    assert outcome.events[-1]["type"] == "turn.completed"


def test_usage_limit_names_the_advice_of_the_plan_and_the_reset(codex: Codex) -> None:
    with Loopback(usage_limit("plus", 1_900_000_000)) as server:
        failure = exec_with_login(codex, server).failure
    assert "hit your usage limit. Upgrade to Pro" in failure
    assert failure.endswith("try again at Mar 17th, 2030 5:46 PM.")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "refresh_token_expired",
            "because your refresh token has expired. Please log out and sign in again.",
        ),
        (
            "refresh_token_reused",
            "because your refresh token was already used. Please log out and sign in again.",
        ),
    ],
)
def test_refused_refresh_fails_the_turn(codex: Codex, code: str, words: str) -> None:
    with Loopback(
        http_error(401, error("token_expired")), replace(ACCOUNT, refresh_code=code)
    ) as server:
        outcome = exec_with_login(codex, server)
    assert outcome.failure.endswith(words)


def test_refreshed_login_goes_on(codex: Codex) -> None:
    """Codex reads its login again on the first refusal and renews it on the second."""
    expired = http_error(401, error("token_expired"))
    with Loopback([expired, expired, say("Yes.")], ACCOUNT) as server:
        assert exec_with_login(codex, server).texts() == ["Yes."]
    assert "/oauth/token" in [visit.path for visit in server.visits]
