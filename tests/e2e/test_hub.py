"""The hub of the tests, as git and the real `gh` see it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import World
from tests.e2e.hub import TOKEN, Answer, Hub, install_glab, needs_gh
from tests.repositories import Repository


def _run(
    hub: Hub, *argv: str, body: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a program away from any repository, with the host of the hub for `gh` and `glab`."""
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(hub.folder),
        "GH_HOST": hub.address,
        "GITLAB_HOST": f"https://{hub.address}",
        **hub.environment(),
        **env,
    }
    return subprocess.run(
        argv,
        env=variables,
        cwd=hub.folder,
        input=body,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def fork(world: World, hub: Hub) -> Repository:
    """A repository with one commit, whose `main` and `refs/pull/7/head` the hub has."""
    repository = world.repository.begin()
    for ref in ("refs/heads/main", "refs/pull/7/head", "refs/merge-requests/7/head"):
        hub.push(repository, "HEAD", "team/shop", ref)
    (world.home / ".gitconfig").write_text(hub.git_settings())
    return repository


def test_git_fetches_the_head_of_a_pull_request(fork: Repository, hub: Hub) -> None:
    for ref in ("refs/pull/7/head", "refs/merge-requests/7/head"):
        fork.git("fetch", "--quiet", hub.url("team/shop"), ref)
        assert fork.git("rev-parse", "FETCH_HEAD") == fork.head


def test_a_push_by_git_is_refused(fork: Repository, hub: Hub) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        fork.git("push", hub.url("team/shop"), "HEAD:refs/heads/other")


def test_a_private_hub_wants_the_token(fork: Repository, hub: Hub) -> None:
    hub.private = True
    silent = {"GIT_TERMINAL_PROMPT": "0"}
    with pytest.raises(subprocess.CalledProcessError):
        fork.git("fetch", hub.url("team/shop"), "refs/pull/7/head", env=silent)
    address = hub.url("team/shop").replace("//", f"//x:{TOKEN}@")
    fork.git("fetch", "--quiet", address, "refs/pull/7/head", env=silent)


@needs_gh
def test_gh_reads_a_pull_request(hub: Hub) -> None:
    hub.pull("team/shop", 7, title="Seven")
    result = _run(hub, "gh", "api", "repos/team/shop/pulls/7")
    assert json.loads(result.stdout)["title"] == "Seven"
    assert hub.calls[-1].token == TOKEN


@needs_gh
def test_gh_posts_a_comment_and_says_what_the_hub_refuses(hub: Hub) -> None:
    pull = hub.pull("team/shop", 7)
    post = ("gh", "api", "--include", "--method=POST", "--input=-", "graphql")
    query = "mutation { addComment(input: ...) { commentEdge { node { url } } } }"
    variables = {"subject": "PR_team/shop#7", "body": "Hello"}
    request = json.dumps({"query": query, "variables": variables})
    result = _run(hub, *post, body=request)
    assert result.stdout.startswith("HTTP/1.1 200 OK")
    assert [comment.body for comment in pull.comments] == ["Hello"]
    pull.locked = True
    result = _run(hub, *post, body=request)
    assert result.returncode == 1
    assert "issue is locked" in result.stderr


@needs_gh
def test_a_request_may_be_answered_by_the_test(hub: Hub) -> None:
    hub.respond = lambda _call: Answer(502, b"<html>Bad gateway</html>")
    result = _run(hub, "gh", "api", "user")
    assert (result.returncode, result.stdout) == (1, "<html>Bad gateway</html>")


def test_the_stand_in_for_glab_reads_and_writes_notes(hub: Hub, tmp_path: Path) -> None:
    pull = hub.pull("team/sub/shop", 7)
    glab = str(install_glab(tmp_path / "programs") / "glab")
    path = "projects/team%2Fsub%2Fshop/merge_requests/7/notes"
    header = "--header=Content-Type: application/json"
    sent = json.dumps({"body": "Hello"})
    options = ("--include", "--method=POST", header, "--input=-")
    result = _run(hub, glab, "api", *options, path, body=sent)
    assert result.stdout.startswith("HTTP/1.1 201 Created\n")
    assert [comment.body for comment in pull.comments] == ["Hello"]
    listing = f"{path}?order_by=updated_at&sort=desc"
    result = _run(hub, glab, "api", listing)
    assert [note["body"] for note in json.loads(result.stdout)] == ["Hello"]
