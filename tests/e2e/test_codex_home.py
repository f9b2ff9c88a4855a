"""Where Codex keeps its things: without CODEX_HOME, as most users have it, and with unusual values of it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.codex import inspect
from codex_counsel.contract.request import (
    Delegate,
    DryRun,
    Status,
    Transfer,
    parse,
)
from codex_counsel.errors import CounselError
from codex_counsel.loopback import Loopback, hold, say, shell, usage_limit
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, consult, start_consult, wait
from tests.e2e.fakes import executable
from tests.e2e.runs import counsel_with
from tests.reviews import reply, review

Model = Callable[..., Loopback]
SESSION = "11111111-2222-3333-4444-555555555555"
QUESTION = {
    "type": "user",
    "message": {"role": "user", "content": "Why is the cache cold?"},
    "cwd": "/a/project",
    "sessionId": SESSION,
    "uuid": "u0",
    "timestamp": "2026-01-01T00:00:00.000Z",
}
ASKED = json.dumps(QUESTION) + "\n"


@pytest.fixture
def transcript(each_release: World) -> Path:
    """A session of Claude Code in the world's home."""
    file = each_release.home / f".claude/projects/-a-project/{SESSION}.jsonl"
    file.parent.mkdir(parents=True)
    row = {**QUESTION, "cwd": str(each_release.workspace)}
    file.write_text(json.dumps(row) + "\n", "utf-8")
    return file


def rollouts(codex_home: Path) -> list[Path]:
    return sorted(codex_home.glob("sessions/*/*/*/rollout-*.jsonl"))


def resume_as_the_user(world: World, thread: str) -> subprocess.CompletedProcess[str]:
    """Go on with the thread in a terminal, in which no variable names the Codex home."""
    env = {"PATH": os.environ["PATH"], "HOME": str(world.home), "LANG": "C.UTF-8"}
    argv = [world.binary, "exec", "--json", "--skip-git-repo-check", "resume", thread]
    return subprocess.run(
        [*argv, "And now?"],
        cwd=world.workspace,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- the hand-over of a session


@pytest.mark.parametrize("codex_home", [None, ""], ids=["named", "not named"])
def test_a_handed_over_session_can_be_resumed_in_the_users_own_terminal(
    each_release: World,
    each_model: Model,
    transcript: Path,
    codex_home: str | None,
) -> None:
    each_release.codex_home_value = codex_home
    server = each_model()
    wire = each_release.counsel().transfer(
        parse(Transfer, {"transcript_path": str(transcript)})
    )
    thread = wire["meta"]["session_id"]
    (rollout,) = rollouts(each_release.home / ".codex")
    assert thread in rollout.name

    resumed = resume_as_the_user(each_release, thread)
    assert resumed.returncode == 0, resumed.stderr
    assert f'"thread_id":"{thread}"' in resumed.stdout
    assert "Why is the cache cold?" in server.requests[-1].prompt


def test_a_handed_over_session_makes_the_codex_home_of_a_new_user(
    each_release: World, transcript: Path
) -> None:
    each_release.codex_home_value = ""
    each_release.codex_home.rmdir()
    wire = each_release.counsel().transfer(
        parse(Transfer, {"transcript_path": str(transcript)})
    )
    (rollout,) = rollouts(each_release.home / ".codex")
    assert wire["meta"]["session_id"] in rollout.name
    assert (each_release.home / ".codex").stat().st_mode & 0o777 == 0o700


def test_a_thread_that_codex_did_not_store_is_no_success(
    world: World, tmp_path: Path
) -> None:
    done = {
        "method": "externalAgentConfig/import/completed",
        "params": {
            "itemTypeResults": [
                {"itemType": "SESSIONS", "successes": [{"target": SESSION}]}
            ]
        },
    }
    script = f"case $1 in --version) echo codex-cli 0.163.0;; *) echo '{json.dumps(done)}';; esac"
    world.binary = str(executable(tmp_path / "codex", script))
    file = world.home / f".claude/projects/-a-project/{SESSION}.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(ASKED, "utf-8")
    with pytest.raises(
        CounselError, match=f"no record of it in {world.codex_home}"
    ) as caught:
        world.counsel().transfer(parse(Transfer, {"transcript_path": str(file)}))
    assert caught.value.code == "upstream_error"


# --- everything else that lies in the Codex home


def not_named(world: World) -> None:
    world.codex_home_value = ""


def relative(world: World) -> None:
    world.codex_home_value = "home/.codex"


def with_a_trailing_slash(world: World) -> None:
    world.codex_home_value = f"{world.codex_home}/"


def behind_a_link(world: World) -> None:
    link = world.base / "link"
    link.symlink_to(world.codex_home)
    world.codex_home_value = str(link)


def below_a_link(world: World) -> None:
    link = world.base / "link"
    link.symlink_to(world.home)
    world.codex_home_value = str(link / ".codex")


def by_a_detour(world: World) -> None:
    world.codex_home_value = f"{world.home}/../home/.codex"


PLACES = (
    not_named,
    relative,
    with_a_trailing_slash,
    behind_a_link,
    below_a_link,
    by_a_detour,
)


@pytest.fixture(params=PLACES, ids=lambda place: place.__name__)
def placed(
    world: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> World:
    """The world, with its Codex home named in each of these ways. A relative path counts from the base."""
    monkeypatch.chdir(world.base)
    request.param(world)
    return world


def test_a_run_and_its_continuation_are_those_of_the_users_codex(
    placed: World, model: Model
) -> None:
    """The provider of config.toml is asked, and the tokens and the thread are those of the rollout there."""
    server = model()
    first = consult(placed.counsel())
    thread = first["meta"]["session_id"]
    (rollout,) = rollouts(placed.codex_home)
    assert thread in rollout.name
    second = consult(placed.counsel(), session_id=thread)
    assert second["ok"], second
    assert second["meta"]["session_id"] == thread
    # The events count the whole thread; only the rollout has the turn's own tokens.
    assert first["meta"]["usage"] == second["meta"]["usage"]
    assert server.requests[0].model == first["meta"]["model"]


def test_a_run_reads_nothing_of_the_codex_home(placed: World, model: Model) -> None:
    """Also where the whole host may be read."""
    (placed.codex_home / "auth.json").write_text('{"OPENAI_API_KEY": "SECRET"}')
    placed.settings["READ_BOUNDARY"] = "host"
    paths = {
        placed.codex_home,
        placed.base / placed.env.get("CODEX_HOME", "home/.codex"),
    }
    command = "; ".join(f"cat {path}/auth.json" for path in paths)
    server = model([shell(f"{command}; echo tried"), say("ok")])
    consult(placed.counsel())
    (output,) = server.requests[-1].outputs
    assert "tried" in output
    assert "SECRET" not in output


def test_a_home_behind_a_link_hides_its_credentials_and_breaks_no_command(
    each_release: World, each_model: Model
) -> None:
    """As where /home is a link to /var/home."""
    link = each_release.base / "link"
    link.symlink_to(each_release.home)
    key = each_release.home / ".ssh/id_ed25519"
    key.parent.mkdir()
    key.write_text("SECRET", "utf-8")
    each_release.codex_home_value = ""
    each_release.settings["READ_BOUNDARY"] = "host"
    server = each_model(
        [shell(f"cat {key} {link}/.ssh/id_ed25519; echo tried"), say("ok")]
    )
    consult(each_release.counsel(HOME=str(link)))
    (output,) = server.requests[-1].outputs
    assert "tried" in output
    assert "SECRET" not in output


def test_the_login_and_the_profile_are_found(placed: World) -> None:
    placed.configure("")
    wire = placed.counsel().status(parse(Status, {}))
    assert wire["data"]["login"]["kind"] == "none"
    (placed.codex_home / "auth.json").write_text('{"OPENAI_API_KEY": "sk-1"}')
    assert (
        placed.counsel().status(parse(Status, {}))["data"]["login"]["kind"] == "api_key"
    )

    (placed.codex_home / "work.config.toml").write_text('model = "gpt-5.5"\n')
    data = placed.counsel(CODEX_COUNSEL_PROFILE="work").status(parse(Status, {}))[
        "data"
    ]
    assert data["defaults"]["model"] == "gpt-5.5"


def test_the_users_mcp_servers_are_switched_off(placed: World, model: Model) -> None:
    started = placed.base / "started"
    server = executable(placed.base / "server", f"touch {started}")
    model(extra=f'[mcp_servers.mine]\ncommand = "{server}"\n')
    assert consult(placed.counsel())["ok"]
    assert not started.exists()


def test_a_usage_limit_is_remembered_until_the_reset_that_codex_recorded(
    placed: World, model: Model
) -> None:
    reset = int(time.time()) + 10_817
    headers = {
        "x-codex-primary-used-percent": "100",
        "x-codex-primary-window-minutes": "300",
        "x-codex-primary-reset-at": str(reset),
    }
    model(usage_limit("pro", reset + 900, headers))
    consult(placed.counsel())
    with pytest.raises(CounselError) as refusal:
        consult(placed.counsel())
    assert refusal.value.details["until"] == reset


def test_a_dry_run_shows_what_codex_adds(placed: World, model: Model) -> None:
    model()
    placed.repository.begin_changed()
    data = placed.counsel().dry_run(parse(DryRun, {}))["data"]
    assert "blocked" not in data
    assert data["codex_adds"]


def test_a_follow_up_of_a_review_knows_that_the_change_was_sent(
    placed: World, model: Model
) -> None:
    placed.repository.begin_changed()
    placed.repository.write("long.py", "a long line of it\n" * 200)
    server = model([say(reply())])
    thread = review(placed.counsel())["meta"]["session_id"]
    review(placed.counsel(), session_id=thread)
    prompts = [request.prompt for request in server.requests]
    assert [prompt.count('from="the change">') for prompt in prompts] == [1, 1]


def test_a_delegated_task_is_done(placed: World, model: Model) -> None:
    placed.repository.begin()
    model([shell("echo made > made.txt"), say("ok")])
    counsel = placed.counsel()
    handle = counsel.delegate(parse(Delegate, {"task": "Make it."}))
    wire = counsel.deliver(handle, wait(handle))
    assert wire["ok"], wire
    assert [file["path"] for file in wire["files"]] == ["made.txt"]


def test_a_record_that_grows_keeps_a_silent_run_alive(
    placed: World, model: Model
) -> None:
    """Codex prints nothing while the model thinks, but notes in the rollout what it does."""
    gate = hold(say("ok"))
    model(gate)
    handle = start_consult(counsel_with(placed, idle_seconds=6))
    assert gate.reached.wait(60)
    (rollout,) = rollouts(placed.codex_home)
    deadline = time.monotonic() + 9
    while time.monotonic() < deadline:
        rollout.touch()
        time.sleep(0.2)
    gate.release.set()
    assert wait(handle)["ok"]


def test_a_named_codex_home_that_is_missing_is_an_error_by_name(
    world: World, model: Model, tmp_path: Path
) -> None:
    model()
    world.codex_home_value = str(tmp_path / "missing")
    file = world.home / f".claude/projects/-a-project/{SESSION}.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(ASKED, "utf-8")
    with pytest.raises(CounselError, match="missing cannot be used") as caught:
        world.counsel().transfer(parse(Transfer, {"transcript_path": str(file)}))
    assert caught.value.code == "codex_config_invalid"
    world.settings["ISOLATION"] = "strict"
    with pytest.raises(CounselError) as caught:
        consult(world.counsel(CODEX_API_KEY="k"))
    assert caught.value.code == "codex_config_invalid"
    assert "CODEX_HOME" in caught.value.message


def test_without_home_the_directories_are_those_of_the_account(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codex takes the home directory of the account then, and so do we."""
    monkeypatch.delenv("HOME", raising=False)
    env = {
        name: value
        for name, value in world.env.items()
        if name not in ("HOME", "CODEX_HOME")
    }
    counsel = Counsel(env, world.workspace)
    account_home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    assert counsel.context.directories.codex_home == account_home / ".codex"
    assert inspect.home_of(env) == account_home / ".codex"
