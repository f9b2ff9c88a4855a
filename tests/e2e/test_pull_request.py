"""A review of a pull request: from a hub in a directory to an envelope, with the real Codex. Nothing of it is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.loopback import Loopback, say, shell
from tests.conftest import World
from tests.repositories import Repository, numbered_lines
from tests.reviews import change, reply, review

Model = Callable[..., Loopback]
GITHUB, GITLAB = "refs/pull/7/head", "refs/merge-requests/7/head"


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    """Every file and directory below, with its content, mode and time of change."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data: object = None
        if path.is_symlink():
            data = path.readlink()
        elif path.is_file():
            data = path.read_bytes()
        found[str(path)] = (status.st_mode, status.st_mtime_ns, data)
    return found


@dataclass(frozen=True)
class Scene:
    """A hub in a directory, the user's clone of it (the workspace), and the clone of an author."""

    world: World
    hub: Repository
    author: Repository

    @property
    def clone(self) -> Repository:
        return self.world.repository

    def push(self, message: str, *refs: str, **files: str) -> str:
        """Commit files of the author's (without `.py`), and let these refs of the hub name the commit."""
        for name, text in files.items():
            self.author.write(f"{name}.py", text)
        sha = self.author.commit(message)
        for ref in refs or (GITHUB,):
            self.author.git(
                "push", "--quiet", "--force", str(self.hub.root), f"HEAD:{ref}"
            )
        return sha

    def review(self, **arguments: Any) -> EnvelopeDict:
        return review(self.world.counsel(), **{"pr": "7", **arguments})


@pytest.fixture
def scene(world: World) -> Scene:
    return set_scene(world)


@pytest.fixture
def each_scene(each_release: World) -> Scene:
    return set_scene(each_release)


def set_scene(world: World) -> Scene:
    hub = world.repository_at(world.base / "hub/owner/name.git").init("--bare")
    author = world.repository_at(world.base / "author").begin()
    author.git("push", "--quiet", str(hub.root), "HEAD:refs/heads/main")
    world.workspace.rmdir()
    author.git("clone", "--quiet", str(hub.root), str(world.workspace))
    author.git("checkout", "--quiet", "-b", "feature")
    return Scene(world, hub, author)


def test_a_pull_request_is_reviewed_and_the_users_repository_stays_as_it_is(
    each_scene: Scene, each_model: Model
) -> None:
    scene = each_scene
    head = scene.push("seven", app=numbered_lines(l7="seven = 70"))
    scene.clone.write("mine.py", "mine = 1\n")
    before = contents(scene.world.workspace)
    look = shell(
        f"git show {head}:app.py; git merge-base --is-ancestor {head}~1 {head} && echo ANCESTOR; cat app.py"
    )
    server = each_model([look, say(reply({"line": 7}, verdict="concerns"))])

    wire = scene.review()

    assert wire["ok"], wire
    told = "\n".join(server.requests[1].outputs)
    assert "seven = 70" in told
    assert "line_7 = 7" in told
    assert "ANCESTOR" in told
    (finding,) = wire["findings"]
    assert finding["grounded"] == "verified"
    assert finding["in_diff"] is True
    scope = wire["meta"]["scope"]
    assert scope["kind"] == "pull_request"
    assert (scope["number"], scope["base"], scope["head_sha"]) == (7, "main", head)
    assert wire["meta"]["sandbox"]["read_boundary"] == "workspace"
    assert "mine.py" not in server.requests[0].prompt
    assert "+seven = 70" in change(server.requests[0].prompt)
    assert contents(scene.world.workspace) == before
