"""What the model is told before and around our prompt, word for word, on the real Codex with a scripted model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex.inspect import PROBE_PREFIX
from codex_counsel.contract.request import DelegateDryRun, DryRun, Status, parse
from codex_counsel.errors import Code
from codex_counsel.loopback import Account, Loopback, http_error, say, shell
from codex_counsel.loopback.request import Request
from codex_counsel.prepare.prompt_parts import prompt_file, read_only
from tests.conftest import World, consult
from tests.e2e.delegation import delegate
from tests.e2e.runs import chatgpt
from tests.reviews import reply, review, review_plan

Model = Callable[..., Loopback]
pytestmark = pytest.mark.usefixtures("own_git_settings")

BASE = prompt_file("base").strip()
CODEXS_OWN = "You and the user share one"
"""Words of Codex's own base instructions, for every model of the two releases."""
WRITABLE = "`sandbox_mode` is `workspace-write`"
"""Words of Codex's text about the sandbox, which it also says of our read-only profile."""
READ_ONLY = read_only().strip()
TASK = "You are carrying out a coding task"
SCHEMA = {
    "type": "object",
    "properties": {},
    "required": [],
    "additionalProperties": False,
}
REFUSAL = {"detail": "Instructions are not valid"}
MODELS = pytest.mark.parametrize("model", [None, "gpt-5.5"], ids=["code", "direct"])


def said(request: Request) -> str:
    """Everything that the model is told, in its order, but the names and arguments of its tools."""
    parts = [request.body.get("instructions") or ""]
    for item in request.items("message"):
        content = item["content"]
        if isinstance(content, str):
            parts.append(content)
        else:
            parts += [part.get("text", "") for part in content]
    return "\n".join(parts)


def ask(world: World, **arguments: Any) -> Any:
    return consult(world.counsel(), **arguments)


OPINIONS: dict[str, Callable[[World], Any]] = {
    "consult": ask,
    "text_only": lambda world: ask(world, text_only=True),
    "challenge": lambda world: ask(world, stance="challenge"),
    "review": lambda world: review(world.counsel()),
    "plan": lambda world: review_plan(world.counsel(), plan="Build it."),
}


@MODELS
@pytest.mark.parametrize("kind", OPINIONS)
def test_an_opinion_gets_our_base_instructions_and_nothing_of_codexs(
    each_release: World, each_model: Model, kind: str, model: str | None
) -> None:
    each_release.repository.begin_changed()
    server = each_model([say(reply())], model=model)
    assert OPINIONS[kind](each_release)["ok"]
    first = server.requests[0]
    assert first.developer.strip() == BASE
    text = said(first)
    assert text.count(READ_ONLY) == (kind != "text_only")
    for word in ("workspace-write", "editing files", "<permissions", "Default mode"):
        assert word not in text


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("run", [consult, review], ids=["consult", "review"])
def test_the_model_is_told_whether_its_commands_can_use_the_network(
    world: World, model: Model, run: Callable[..., Any], network: bool
) -> None:
    world.repository.begin_changed()
    server = model([say(reply())])
    wire = run(world.counsel(), network=network)
    assert wire["meta"]["sandbox"]["network"] is network
    text = said(server.requests[0])
    assert ("They can use the network." in text) is network
    assert ("They reach no other machine." in text) is not network


@MODELS
def test_a_resumed_opinion_is_told_the_same_and_our_base_only_once(
    each_release: World, each_model: Model, model: str | None
) -> None:
    server = each_model([say("One."), say("Two.")], model=model)
    thread = ask(each_release)["meta"]["session_id"]
    assert ask(each_release, session_id=thread)["answer"] == "Two."
    resumed = server.requests[-1]
    assert resumed.developer.strip() == BASE
    assert said(resumed).count(READ_ONLY) == 2
    assert WRITABLE not in said(resumed)


@MODELS
def test_what_the_user_has_set_up_is_still_told_with_isolation_inherit(
    each_release: World, each_model: Model, model: str | None
) -> None:
    each_release.settings["ISOLATION"] = "inherit"
    server = each_model(model=model)
    ask(each_release)
    developer = server.requests[0].developer
    assert developer.count(BASE) == 1
    assert "<skills_instructions>" in developer
    assert CODEXS_OWN not in developer
    assert WRITABLE not in said(server.requests[0])


@pytest.mark.parametrize("isolation", ["lean", "inherit", "strict"])
def test_a_dry_run_shows_our_base_instructions_with_every_isolation(
    each_release: World, each_model: Model, isolation: str
) -> None:
    each_model()
    each_release.repository.begin_changed()
    each_release.settings["ISOLATION"] = isolation
    counsel = each_release.counsel(CODEX_API_KEY="sk-of-the-user")
    data = counsel.dry_run(DryRun())["data"]
    assert data["instructions"] == "own"
    begins = "\n".join(part["begins"] for part in data["codex_adds"])
    assert begins.count("You are Codex") == begins.count(BASE[:60]) == 1
    assert "<permissions" not in begins
    assert list(each_release.temp.glob(f"{PROBE_PREFIX}*")) == []


@MODELS
def test_a_task_keeps_codexs_own_text(
    each_release: World, each_model: Model, model: str | None
) -> None:
    each_release.repository.begin()
    server = each_model(model=model)
    assert delegate(each_release)["ok"]
    text = said(server.requests[0])
    assert CODEXS_OWN in text
    assert WRITABLE in text
    assert BASE not in text
    request = parse(DelegateDryRun, {"task": "Fix it."})
    data = each_release.counsel().delegate_dry_run(request)["data"]
    assert data["instructions"] == "codex"


@MODELS
def test_a_task_in_the_thread_of_an_opinion_is_told_last_that_it_may_write(
    each_release: World, each_model: Model, model: str | None
) -> None:
    each_release.repository.begin()
    edit = shell("echo changed > app.py; cat app.py")
    replies = iter([say("One."), edit, say("Done.")])
    server = each_model(lambda _: next(replies), model=model)
    thread = ask(each_release)["meta"]["session_id"]
    wire = delegate(each_release, session_id=thread)
    assert [file["path"] for file in wire["files"]] == ["app.py"]
    text = said(server.requests[-1])
    assert text.index(BASE) < text.index(READ_ONLY) < text.index(WRITABLE)
    assert text.index(WRITABLE) < text.index(TASK)
    assert READ_ONLY not in text[text.index(TASK) :]
    assert "you may now, even if an earlier request" in text[text.index(TASK) :]


@MODELS
def test_an_opinion_in_the_thread_of_a_task_is_told_last_that_it_may_not_write(
    each_release: World, each_model: Model, model: str | None
) -> None:
    each_release.repository.begin()
    replies = iter([say("Done."), shell("echo x > app.py"), say("Two.")])
    server = each_model(lambda _: next(replies), model=model)
    thread = delegate(each_release)["meta"]["session_id"]
    assert ask(each_release, session_id=thread)["answer"] == "Two."
    assert "Read-only file system" in server.requests[-1].outputs[-1]
    text = said(server.requests[-1])
    assert text.count(BASE) == 1
    assert text.rindex(WRITABLE) < text.rindex(READ_ONLY)
    if CODEXS_OWN in text:
        replaced = "The following instructions replace the previous base instructions"
        assert text.index(CODEXS_OWN) < text.index(replaced) < text.index(BASE)


@MODELS
def test_the_setting_brings_codexs_own_text_back(
    each_release: World, each_model: Model, model: str | None
) -> None:
    each_release.repository.begin_changed()
    each_release.settings["INSTRUCTIONS"] = "codex"
    server = each_model(model=model)
    wire = ask(each_release)
    text = said(server.requests[0])
    assert CODEXS_OWN in text
    assert BASE not in text
    assert text.index(WRITABLE) < text.index(READ_ONLY)
    counsel = each_release.counsel()
    assert not (
        counsel.store.job(wire["meta"]["job_id"]).path / "instructions.md"
    ).exists()
    assert counsel.dry_run(DryRun())["data"]["instructions"] == "codex"
    assert counsel.status(Status())["data"]["defaults"]["instructions"] == "codex"


@MODELS
def test_a_thread_keeps_the_base_instructions_it_began_with(
    each_release: World, each_model: Model, model: str | None
) -> None:
    server = each_model(model=model)
    thread = ask(each_release)["meta"]["session_id"]
    each_release.settings["INSTRUCTIONS"] = "codex"
    assert ask(each_release, session_id=thread)["ok"]
    text = said(server.requests[-1])
    assert text.count(BASE) == 1
    assert CODEXS_OWN not in text
    assert text.index(WRITABLE) < text.rindex(READ_ONLY)


def test_a_chatgpt_account_is_sent_ours_as_a_message_and_in_no_other_place(
    each_release: World,
) -> None:
    with Loopback([say("Hello.")], Account()) as server:
        chatgpt(each_release, server, Account())
        assert ask(each_release)["answer"] == "Hello."
    [request] = [row for row in server.requests if row.items("message")]
    assert not request.body.get("instructions")
    assert request.developer.strip() == BASE


def test_base_instructions_that_the_service_refuses_name_the_way_out(
    each_release: World, each_model: Model
) -> None:
    replies = iter([http_error(400, REFUSAL), say("Now.")])
    server = each_model(lambda _: next(replies))
    error = ask(each_release)["error"]
    assert error["code"] == Code.MODEL_REJECTED
    assert error["message"] == "Instructions are not valid"
    assert "CODEX_COUNSEL_INSTRUCTIONS=codex" in error["repair"]
    each_release.settings["INSTRUCTIONS"] = "codex"
    assert ask(each_release)["answer"] == "Now."
    assert CODEXS_OWN in said(server.requests[-1])


def test_a_users_own_base_instructions_are_used_where_the_setting_says_codex(
    each_release: World, each_model: Model
) -> None:
    own = each_release.base / "own.md"
    own.write_text("Speak like a pirate.")
    server = each_model()
    provider = (each_release.codex_home / "config.toml").read_text("utf-8")
    setting = f"model_instructions_file = {json.dumps(str(own))}\n"
    each_release.configure(setting + provider)
    ask(each_release)
    assert server.requests[0].developer.strip() == BASE
    each_release.settings["INSTRUCTIONS"] = "codex"
    ask(each_release)
    assert "Speak like a pirate." in server.requests[-1].developer


@pytest.mark.parametrize("isolation", ["lean", "inherit"])
def test_a_users_developer_instructions_are_sent_after_ours(
    each_release: World, each_model: Model, isolation: str
) -> None:
    each_release.settings["ISOLATION"] = isolation
    server = each_model()
    provider = (each_release.codex_home / "config.toml").read_text("utf-8")
    each_release.configure(f'developer_instructions = "Be brief."\n{provider}')
    ask(each_release)
    before, after = server.requests[0].developer.split(BASE)
    assert before.strip() == ""
    assert after.strip().startswith("Be brief.")


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_path_with_quotes_and_escapes_leads_to_the_text(
    each_release: World, each_model: Model, is_stored: bool
) -> None:
    state = each_release.base / 'st"a\\t\ne'
    if not is_stored:
        state.write_text("no directory")
    server = each_model([say({})])
    counsel = each_release.counsel(CODEX_COUNSEL_STATE_DIR=str(state))
    wire = consult(counsel, output_schema=SCHEMA)
    assert wire["ok"]
    warnings = " ".join(wire["meta"].get("warnings", ()))
    assert ("is not stored" not in warnings) is is_stored
    assert server.requests[0].developer.strip() == BASE


def test_a_state_directory_that_codex_cannot_be_told_of_costs_no_answer(
    each_release: World, each_model: Model
) -> None:
    server = each_model()
    state = str(each_release.base / "st\udcffte")
    counsel = each_release.counsel(CODEX_COUNSEL_STATE_DIR=state)
    assert consult(counsel)["ok"]
    assert CODEXS_OWN in said(server.requests[0])


def test_a_dry_run_without_room_for_the_text_says_why_it_could_not_run(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model()
    world.repository.begin_changed()
    assert "blocked" not in world.counsel().dry_run(DryRun())["data"]
    monkeypatch.setattr("tempfile.tempdir", str(world.base / "missing"))
    blocked = world.counsel().dry_run(DryRun())["data"]["blocked"]
    assert blocked["code"] == Code.STORAGE_FAILED


SPY = """
touch app.py 2>&1; echo "$TMPDIR"; touch "$TMPDIR/own" && echo scratch written
git status --short; cat .env 2>&1; grep -c . .env 2>&1; git diff .env 2>&1; echo end
"""


def test_what_the_prompt_says_of_the_sandbox_is_so(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.begin()
    repository.write(".env", "KEY=marker\n")
    repository.commit()
    asking = shell("ls", sandbox_permissions="require_escalated", justification="?")
    server = each_model([asking, shell("ls", login=True), shell(SPY), say("Seen.")])
    assert ask(each_release)["ok"]
    escalated, as_login, output = server.requests[-1].outputs
    assert "you cannot ask for escalated permissions" in escalated
    assert "login shell is disabled" in as_login
    assert "app.py': Read-only file system" in output
    assert "scratch written" in output
    [scratch] = [line for line in output.splitlines() if line.startswith("/")]
    assert not Path(scratch).exists()
    assert any(f" {mark} .env" in output for mark in "MD")
    assert "git calls them modified" in " ".join(READ_ONLY.split())
