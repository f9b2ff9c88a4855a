"""Which credentials Codex would use: recognised, and told apart without being shown."""

from __future__ import annotations

import json

import pytest

from codex_counsel.codex.account import Login, login, rate_limits
from codex_counsel.codex.binary import Codex
from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import Account
from tests.conftest import World
from tests.e2e.fakes import executable


def login_of(world: World, **config: object) -> Login:
    return login(world.codex(), world.codex_home, world.env, config)


def test_without_credentials_there_is_no_login(world: World) -> None:
    assert (login_of(world).kind, login_of(world).present) == ("none", False)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"OPENAI_API_KEY": "sk-test"}', "api_key"),
        (Account().auth_json(), "chatgpt"),
        ('{"OPENAI_API_KEY": null, "tokens": {"access_token": "x"}}', "chatgpt"),
        ('{"OPENAI_API_KEY": "", "tokens": null}', "keyring"),
        ("{}", "keyring"),
        ("[]", "none"),
        ("not json", "none"),
        ("", "none"),
        ('{"tokens": 7}', "none"),
    ],
)
def test_the_stored_login_is_recognised(world: World, text: str, kind: str) -> None:
    (world.codex_home / "auth.json").write_text(text)
    assert login_of(world).kind == kind


def test_a_key_in_the_environment_is_a_login_and_openais_own_name_is_not(
    world: World,
) -> None:
    for name, kind in (("CODEX_API_KEY", "api_key"), ("OPENAI_API_KEY", "none")):
        assert (
            login(world.codex(), world.codex_home, {**world.env, name: "sk-x"}, {}).kind
            == kind
        )


def test_a_provider_of_the_users_own_needs_no_login(world: World) -> None:
    assert (
        login_of(
            world,
            model_provider="mine",
            model_providers={"mine": {"base_url": "http://x"}},
        ).kind
        == "provider"
    )
    assert login_of(world, model_provider="mine").kind == "provider"
    assert login_of(world, model_provider="openai").kind == "none"


def test_accounts_are_told_apart_and_not_named(world: World) -> None:
    identities = []
    for key in ("sk-one", "sk-two", "sk-one"):
        (world.codex_home / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": key}))
        identities.append(login_of(world).identity)
    assert identities[0] == identities[2] != identities[1]
    assert "sk" not in "".join(identities)


REPORTS = {
    "windows": ({"result": {"rateLimits": {"primary": {"usedPercent": 1}}}}, True),
    "none": ({"result": {"rateLimits": None}}, True),
    "a list of them": ({"result": {"rateLimits": []}}, True),
    "a refusal": ({"error": {"code": 1, "message": "no"}}, False),
    "a word": ({"error": "no"}, False),
    "a list": ({"result": []}, False),
    "nothing": ({}, False),
}


@pytest.mark.parametrize(("answer", "is_one"), REPORTS.values(), ids=REPORTS.keys())
def test_whatever_the_app_server_answers_is_a_report_or_a_typed_error(
    world: World, answer: dict[str, object], is_one: bool
) -> None:
    script = f"echo '{json.dumps({'id': 1, **answer})}'; sleep 600"
    codex = Codex(executable(world.base / "codex", script), (), "0.169.0", "setting")
    if is_one:
        assert set(rate_limits(codex, world.env)) <= {"primary"}
        return
    with pytest.raises(CounselError) as refusal:
        rate_limits(codex, world.env)
    assert refusal.value.code == Code.UPSTREAM_ERROR
