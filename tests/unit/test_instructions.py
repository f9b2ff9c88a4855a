"""Whose base instructions a run gets, and what ours say: as tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codex_counsel.codex.account import Login
from codex_counsel.codex.binary import Codex
from codex_counsel.consult import prepare as consult
from codex_counsel.contract.request import Consult, ReviewPlan, parse
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.prepare import instructions
from codex_counsel.prepare.context import Context
from codex_counsel.prepare.prompt_parts import prompt_file, read_only
from codex_counsel.review import prompt as review

ANY = "0.148.0"


def chosen(login: str, version: str, setting: str, state: Path) -> str:
    env = {"CODEX_COUNSEL_STATE_DIR": str(state)}
    if setting:
        env["CODEX_COUNSEL_INSTRUCTIONS"] = setting
    codex = Codex(Path("/bin/codex"), (), version, "PATH")
    context = Context.of(env, Path("/"))
    return instructions.of_opinions(context, codex, Login(login, "0" * 16))


@pytest.mark.parametrize(
    ("login", "version", "setting", "expected"),
    [
        ("api_key", ANY, "", "own"),
        ("provider", ANY, "own", "own"),
        ("provider", "0.169.0", "codex", "codex"),
        ("chatgpt", ANY, "", "codex"),
        ("chatgpt", "0.161.9", "own", "codex"),
        ("chatgpt", "0.162.0-alpha.2", "", "own"),
        ("chatgpt", "0.163.0", "", "own"),
        ("chatgpt", "1.0.0", "", "own"),
        ("chatgpt", "0.163.0", "codex", "codex"),
        ("keyring", "0.161.0", "", "codex"),
        ("keyring", "0.169.0", "", "own"),
        ("api_key", "0.163.0", "mine", "own"),
    ],
)
def test_ours_are_sent_where_the_setting_and_the_service_allow_it(
    tmp_path: Path, login: str, version: str, setting: str, expected: str
) -> None:
    assert chosen(login, version, setting, tmp_path) == expected


def test_codexs_own_are_kept_where_codex_cannot_be_told_of_the_file(
    tmp_path: Path,
) -> None:
    state = tmp_path / "st\udcffte"
    assert chosen("api_key", "0.163.0", "own", state) == "codex"


def test_our_base_instructions_are_short_and_leave_to_the_request_what_may_be_done() -> (
    None
):
    base = prompt_file("base")
    assert 500 < len(base.encode()) < 1_300
    # The thread keeps them when a task goes on in it.
    for word in ("read-only", "opinion", "review", "advis", "do not act", "TMPDIR"):
        assert word not in base.lower()


def plan_prompt() -> str:
    return review.of_plan(parse(ReviewPlan, {"plan": "Build it."}), "Build it.")


def consult_prompt(**arguments: object) -> str:
    return consult.prompt(parse(Consult, {"question": "Why?", **arguments}))


@pytest.mark.parametrize(
    ("prompt", "has_sandbox", "has_tests"),
    [
        (consult_prompt(), True, False),
        (consult_prompt(stance="challenge"), True, False),
        (consult_prompt(text_only=True), False, False),
        (plan_prompt(), True, True),
    ],
    ids=["consult", "challenge", "text_only", "plan"],
)
def test_a_prompt_speaks_of_commands_where_there_are_any_and_of_tests_to_reviewers(
    prompt: str, has_sandbox: bool, has_tests: bool
) -> None:
    assert prompt.count(read_only().strip()) == has_sandbox
    assert ("python -m pytest -p no:cacheprovider" in prompt) is has_tests
    assert ("$TMPDIR" in prompt) is has_sandbox
    assert ("sandbox" in prompt) is has_sandbox


def test_a_consultation_whose_commands_may_use_the_network_is_not_told_otherwise() -> (
    None
):
    closed, opened = consult_prompt(), consult_prompt(network=True)
    assert "They reach no other machine." in closed
    assert "They can use the network." in opened
    assert "no other machine" not in opened
    assert "{" not in closed + opened


@pytest.mark.parametrize("name", ["review", "plan"])
def test_each_severity_is_told_apart_by_an_example(name: str) -> None:
    text = prompt_file(name)
    rows = re.findall(rf"^- (?:{'|'.join(SEVERITIES)}): .*", text, re.MULTILINE)
    assert [row[2:].partition(":")[0] for row in rows] == list(SEVERITIES)
    assert all("such as" in row for row in rows[1:])
    assert "For example: " in text
