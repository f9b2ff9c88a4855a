"""Calls of a hub's API by the real `gh`, and by a stand-in for `glab`: answers, failures, and hostile ones."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from codex_counsel.errors import Code, CounselError
from codex_counsel.hub import api
from codex_counsel.hub.api import call
from codex_counsel.hub.reference import HubKind, PullRequest
from tests.conftest import World, living, until
from tests.e2e.hub import TOKEN, Answer, Hub, install_glab, needs_gh

SECRET = "ghp_" + "a1B2c3D4e5" * 4


def pull_request(hub: Hub, project: str = "team/shop") -> PullRequest:
    return PullRequest("github", hub.address, project, 7, hub.url(project))


def merge_request(hub: Hub, project: str = "team/sub/shop") -> PullRequest:
    return PullRequest("gitlab", hub.address, project, 7, hub.url(project))


def environment(world: World, hub: Hub, **env: str) -> dict[str, str]:
    return {**world.env, **hub.environment(), **env}


def failure(pull: PullRequest, env: dict[str, str], world: World) -> CounselError:
    """The error of a simple request."""
    with pytest.raises(CounselError) as caught:
        call(pull, "user", env, world.workspace)
    assert caught.value.code == Code.HUB_FAILED
    return caught.value


def program(folder: Path, name: str, script: str) -> Path:
    """An executable with this script of the shell; returns its directory."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return folder


@needs_gh
def test_gh_asks_the_hub_of_the_pull_request_and_no_other(
    world: World, hub: Hub
) -> None:
    hub.pull("team/shop", 7, title="Seven")
    pull = pull_request(hub)
    env = environment(
        world,
        hub,
        GITHUB_SERVER_URL=f"https://{hub.address}",
        GH_HOST="elsewhere.invalid",
        GH_REPO="elsewhere.invalid/o/r",
        GH_DEBUG="api",
        GH_FORCE_TTY="100%",
        CLICOLOR_FORCE="1",
        GH_PAGER="false",
    )
    path = f"{api.project_path(pull)}/pulls/7"
    assert call(pull, path, env, world.workspace)["title"] == "Seven"
    (request,) = hub.calls
    assert (request.path, request.token) == ("/api/v3/repos/team/shop/pulls/7", TOKEN)


@needs_gh
def test_a_body_reaches_the_hub_whole(world: World, hub: Hub) -> None:
    hub.respond = lambda _call: Answer(200, {})
    text = "a\n@b \u202e \N{GRINNING FACE} " + "x" * 60_000
    call(
        pull_request(hub),
        "graphql",
        environment(world, hub),
        world.workspace,
        method="POST",
        body={"query": text},
    )
    assert [request.json for request in hub.calls] == [{"query": text}]


def test_glab_sends_json_and_the_project_as_one_part_of_the_path(
    world: World, hub: Hub, tmp_path: Path
) -> None:
    pull = hub.pull("team/sub/shop", 7)
    programs = install_glab(tmp_path / "programs")
    env = environment(world, hub, PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    request = merge_request(hub)
    path = f"{api.project_path(request)}/merge_requests/7/notes"
    call(request, path, env, world.workspace, method="POST", body={"body": "Hello"})
    assert [comment.body for comment in pull.comments] == ["Hello"]
    assert call(request, f"{path}/1", env, world.workspace, method="DELETE") is None
    assert pull.comments == []


@needs_gh
@pytest.mark.parametrize(
    ("answer", "words", "status"),
    [
        (Answer(403, {"message": "No\n::error::me"}), "403 Forbidden: No ::error", 403),
        (Answer(404, {"message": "Not Found"}), "404 Not Found: Not Found", 404),
        (Answer(502, b"<html><h1>Bad</h1></html>"), "answered 502 Bad Gateway", 502),
        (Answer(200, b"<html>Log in</html>"), "its answer is no JSON", 200),
        (Answer(200, b"[" * 100_000), "its answer is no JSON", 200),
        (Answer(422, {"errors": [{"message": "too long"}]}), "Entity: too long", 422),
    ],
)
def test_an_answer_that_is_an_error_is_quoted_on_one_line(
    world: World, hub: Hub, answer: Answer, words: str, status: int
) -> None:
    hub.respond = lambda _call: answer
    error = failure(pull_request(hub), environment(world, hub), world)
    assert words in error.message
    assert error.message.startswith(f"{hub.address}: ")
    assert error.message.isprintable()
    assert "<" not in error.message
    assert error.details == {"host": hub.address, "status": status}


def test_what_gitlab_says_may_be_an_object(
    world: World, hub: Hub, tmp_path: Path
) -> None:
    hub.respond = lambda _call: Answer(400, {"message": {"base": ["a", "b"]}})
    programs = install_glab(tmp_path / "programs")
    env = environment(world, hub, PATH=str(programs))
    error = failure(merge_request(hub), env, world)
    assert '400 Bad Request: {"base": ["a", "b"]}' in error.message


@needs_gh
def test_an_error_of_graphql_is_one_though_its_status_is_200(
    world: World, hub: Hub
) -> None:
    refusal = {"type": "FORBIDDEN", "message": "Resource not accessible"}
    hub.respond = lambda _call: Answer(200, {"data": None, "errors": [refusal]})
    with pytest.raises(CounselError, match="403: Resource not accessible") as caught:
        call(
            pull_request(hub),
            "graphql",
            environment(world, hub),
            world.workspace,
            method="POST",
            body={"query": "query { viewer { login } }"},
        )
    assert caught.value.details["status"] == 403


@needs_gh
@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Answer(429, {"message": "slow"}, {"Retry-After": "90"}), 90),
        (Answer(429, {"message": "slow"}), 60),
        (Answer(403, {"message": "You have exceeded a secondary rate limit."}), 60),
        (Answer(403, {"message": "x"}, {"X-RateLimit-Remaining": "0"}), 60),
        (Answer(200, {"errors": [{"type": "RATE_LIMITED", "message": "x"}]}), 60),
        (Answer(403, {"message": "x"}, {"X-RateLimit-Remaining": "9"}), None),
    ],
)
def test_a_hub_that_wants_a_pause_is_believed(
    world: World, hub: Hub, answer: Answer, seconds: int | None
) -> None:
    hub.respond = lambda _call: answer
    with pytest.raises(CounselError) as caught:
        call(pull_request(hub), "graphql", environment(world, hub), world.workspace)
    pause = caught.value.retry_after_ms
    assert pause == (seconds and seconds * 1000)


@needs_gh
def test_a_pause_lasts_until_the_limit_is_lifted(world: World, hub: Hub) -> None:
    headers = {
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(time.time()) + 600),
    }
    hub.respond = lambda _call: Answer(403, {"message": "x"}, headers)
    error = failure(pull_request(hub), environment(world, hub), world)
    assert error.retry_after_ms in range(500_000, 601_000)


@needs_gh
@pytest.mark.parametrize("token", [TOKEN, SECRET])
def test_a_token_is_in_no_message(world: World, hub: Hub, token: str) -> None:
    hub.respond = lambda _call: Answer(400, {"message": f"bad {token} here"})
    error = failure(pull_request(hub), environment(world, hub), world)
    assert token not in str(error)
    assert "here" in error.message


@needs_gh
@pytest.mark.parametrize("token", ["", "wrong"])
def test_a_missing_or_wrong_login_says_how_to_log_in(
    world: World, hub: Hub, token: str
) -> None:
    env = environment(world, hub, GH_ENTERPRISE_TOKEN=token)
    error = failure(pull_request(hub), env, world)
    assert "401 Unauthorized: Bad credentials" in error.message
    assert error.repair is not None
    assert f"gh auth login --hostname {hub.address}" in error.repair
    assert "GH_ENTERPRISE_TOKEN" in error.repair


def test_a_gh_that_asks_nobody_without_a_login_means_the_same(
    world: World, hub: Hub, tmp_path: Path
) -> None:
    script = "echo 'To get started, run: gh auth login' >&2; exit 4"
    programs = program(tmp_path / "programs", "gh", script)
    env = environment(world, hub, PATH=f"{programs}:/usr/bin:/bin")
    error = failure(pull_request(hub), env, world)
    assert "gh has no login for it" in error.message
    assert error.repair is not None
    assert "GH_ENTERPRISE_TOKEN" in error.repair


@needs_gh
def test_a_hub_that_does_not_answer_ends_after_the_time_and_leaves_no_process(
    world: World, hub: Hub
) -> None:
    hub.respond = lambda _call: Answer(held=True)
    with pytest.raises(CounselError, match="did not answer within"):
        call(
            pull_request(hub),
            "user",
            environment(world, hub),
            world.workspace,
            seconds=0.5,
        )
    until(lambda: living(str(world.base)) == [])


@needs_gh
def test_a_hub_that_is_not_there_is_named(world: World, hub: Hub) -> None:
    pull = PullRequest("github", "127.0.0.1:9", "team/shop", 7, "")
    error = failure(pull, environment(world, hub), world)
    assert "connection refused" in error.message


@pytest.mark.parametrize("name", ["gh", "glab"])
def test_the_program_gets_the_users_environment_without_what_would_mislead_it(
    world: World, hub: Hub, tmp_path: Path, name: str
) -> None:
    seen = tmp_path / "seen"
    programs = program(tmp_path / "programs", name, f"env > {seen}; pwd >> {seen}")
    misleading = dict.fromkeys(api.IGNORED_VARIABLES, "misled")
    env = environment(
        world,
        hub,
        PATH=f"{programs}:.:/usr/bin:/bin",
        GH_CONFIG_DIR="/users/own",
        GIT_WORK_TREE="misled",
        GIT_DIR="misled",
        GITHUB_SERVER_URL=f"https://{hub.address}",
        CI_SERVER_URL=f"https://{hub.address}",
        **misleading,
    )
    pull = pull_request(hub) if name == "gh" else merge_request(hub)
    failure(pull, env, world)
    lines = seen.read_text().splitlines()
    assert not [line for line in lines if line.endswith("=misled")]
    expected = {
        f"GH_HOST={hub.address}",
        f"GITLAB_HOST=https://{hub.address}",
        "GH_CONFIG_DIR=/users/own",
        f"GH_ENTERPRISE_TOKEN={TOKEN}",
        "GH_PROMPT_DISABLED=1",
        f"PATH={programs}:/usr/bin:/bin",
        f"GIT_DIR={os.devnull}",
        "/",
    }
    assert expected <= set(lines)


@pytest.mark.parametrize(
    ("name", "host", "kept"),
    [
        ("gh", "github.com", {"GH_TOKEN", "GITHUB_TOKEN"}),
        ("gh", "git.example.org", set()),
        ("gh", "own.example.org", {*api.TOKEN_VARIABLES}),
        ("glab", "gitlab.com", {"GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN", "OAUTH_TOKEN"}),
        ("glab", "git.example.org", set()),
        ("glab", "ci.example.org:8443", {*api.TOKEN_VARIABLES}),
    ],
)
def test_a_token_of_the_environment_goes_to_the_host_it_is_for_and_to_no_other(
    world: World, tmp_path: Path, name: str, host: str, kept: set[str]
) -> None:
    seen = tmp_path / "seen"
    programs = program(tmp_path / "programs", name, f"env > {seen}")
    env = {
        **world.env,
        "PATH": f"{programs}:/usr/bin:/bin",
        "GH_HOST": "own.example.org",
        "CI_SERVER_URL": "https://ci.example.org:8443",
        **dict.fromkeys(api.TOKEN_VARIABLES, SECRET),
    }
    hub: HubKind = "github" if name == "gh" else "gitlab"
    url = f"https://{host}/team/shop"
    failure(PullRequest(hub, host, "team/shop", 7, url), env, world)
    lines = [line for line in seen.read_text().splitlines() if SECRET in line]
    assert {line.partition("=")[0] for line in lines} == kept


def test_a_program_that_hangs_with_a_child_is_ended_with_it(
    world: World, hub: Hub, tmp_path: Path
) -> None:
    programs = program(tmp_path / "programs", "gh", "sleep 1000 & sleep 1000")
    env = environment(world, hub, PATH=f"{programs}:/usr/bin:/bin")
    with pytest.raises(CounselError, match="did not answer"):
        call(pull_request(hub), "user", env, world.workspace, seconds=0.5)
    until(lambda: living(str(world.base)) == [])


def test_a_program_that_prints_without_end_is_ended(
    world: World, hub: Hub, tmp_path: Path
) -> None:
    programs = program(tmp_path / "programs", "gh", "yes")
    env = environment(world, hub, PATH=f"{programs}:/usr/bin:/bin")
    error = failure(pull_request(hub), env, world)
    assert "more than 67,108,864 bytes" in error.message


@pytest.mark.parametrize("where", ["folder", "link", "dot"])
def test_a_program_of_the_project_is_not_run(
    world: World, hub: Hub, tmp_path: Path, where: str
) -> None:
    world.repository.begin()
    mark = tmp_path / "mark"
    planted = program(world.workspace / "bin", "gh", f"touch {mark}")
    first = str(planted)
    if where == "dot":
        program(world.workspace, "gh", f"touch {mark}")
        first = "."
    if where == "link":
        outside = tmp_path / "programs"
        outside.mkdir()
        (outside / "gh").symlink_to(planted / "gh")
        first = str(outside)
    env = environment(world, hub, PATH=f"{first}:{tmp_path / 'empty'}")
    error = failure(pull_request(hub), env, world)
    assert "gh is not installed, or is on PATH only inside the project" in error.message
    assert not mark.exists()


@needs_gh
def test_neither_git_nor_the_repository_is_asked(world: World, hub: Hub) -> None:
    repository = world.repository.begin()
    repository.git("remote", "add", "origin", "https://elsewhere.invalid/o/r.git")
    hub.pull("team/shop", 7, title="Seven")
    env = environment(world, hub, GIT_DIR=str(repository.root / ".git"))
    answer = call(pull_request(hub), "repos/team/shop/pulls/7", env, world.workspace)
    assert answer["title"] == "Seven"
