"""Batches that need no file: pull requests, commits, files and repositories, from the flags to what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.loopback import Loopback, Reply, Request, say
from codex_counsel.system.json_values import JsonObject
from tests.conftest import World
from tests.e2e.batch.runs import batch, codes, results
from tests.e2e.test_pull_request import set_scene
from tests.repositories import contents, numbered_lines
from tests.reviews import change, reply

Model = Callable[..., Loopback]
pytestmark = pytest.mark.usefixtures("own_git_settings")
WHERE = pytest.mark.parametrize(
    "where", [(), ("--cluster", "local")], ids=["slots", "cluster"]
)


@pytest.fixture
def directory(world: World) -> Path:
    """Where the batches of a test are kept."""
    return world.base / "batch"


def judge(request: Request) -> Reply:
    """Find fault with a change that makes the seventh line 70."""
    if "\n+seven = 70" not in change(request.prompt):
        return say(json.dumps(reply()))
    bad = {"severity": "high", "evidence": "seven = 70"}
    return say(json.dumps(reply(bad, verdict="fail")))


def verdicts(directory: Path) -> dict[str, str]:
    return {row["id"]: row["verdict"] for row in results(directory)}


def all_findings(directory: Path) -> list[JsonObject]:
    """The results of the SARIF file."""
    text = (directory / "summary.sarif").read_text("utf-8")
    (run,) = json.loads(text)["runs"]
    found: list[JsonObject] = run["results"]
    return found


@WHERE
def test_pull_requests_are_reviewed_each_with_its_own_changes(
    world: World, model: Model, directory: Path, where: tuple[str, ...]
) -> None:
    scene = set_scene(world)
    scene.push("seven", "refs/pull/7/head", app=numbered_lines(l7="seven = 70"))
    scene.push("nine", "refs/pull/9/head", app=numbered_lines(l9="nine = 90"))
    before = contents(world.workspace)
    server = model(judge)
    numbers = world.base / "prs.txt"
    numbers.write_text("7\n9\n", "utf-8")
    ended = batch(
        world, "--review-prs", f"@{numbers}", "--output-dir", directory, *where
    )
    assert verdicts(directory) == {"pr-7": "fail", "pr-9": "pass"}, ended.stderr
    assert ended.returncode == 1
    assert len(server.requests) == 2
    assert contents(world.workspace) == before
    (found,) = all_findings(directory)
    assert "pr-7" in json.dumps(found)
    assert "| `pr-7` |" in (directory / "summary.md").read_text("utf-8")


@WHERE
def test_each_commit_of_a_range_is_reviewed_by_itself(
    world: World, model: Model, directory: Path, where: tuple[str, ...]
) -> None:
    repository = world.repository.begin()
    made = []
    for number in (6, 70, 8):
        repository.write("app.py", numbered_lines(l7=f"seven = {number}"))
        made.append(repository.commit(f"make it {number}")[:12])
    server = model(judge)
    ended = batch(
        world, "--review-range", "HEAD~3..HEAD", "--output-dir", directory, *where
    )
    assert ended.returncode == 1, ended.stderr
    # The fault is in the second commit, and the third takes it away.
    found = verdicts(directory)
    assert [found[f"commit-{name}"] for name in made] == ["pass", "fail", "pass"]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (("--per", "file"), 3),
        (("--per", "directory"), 2),
        (("--per", "directory", "--cluster", "local"), 2),
    ],
)
def test_an_audit_reads_whole_files(
    world: World, model: Model, directory: Path, options: tuple[str, ...], count: int
) -> None:
    repository = world.repository.init()
    for name in ("src/a.py", "src/b.py", "src/lib/c.py"):
        repository.write(name, numbered_lines(l7=f"name = {name!r}"))
    repository.write("src/lib/app.py", b"\0binary")
    repository.write("src/readme.md", "# Title\n")
    repository.commit("begin")
    bad = {"severity": "high", "file": "src/lib/c.py", "evidence": "name = 'src/lib/c"}

    def play(request: Request) -> Reply:
        if "src/lib/c.py" in change(request.prompt):
            return say(json.dumps(reply(bad, verdict="fail")))
        return say(json.dumps(reply()))

    server = model(play)
    ended = batch(world, "--audit", "src/**/*.py", "--output-dir", directory, *options)
    assert (ended.returncode, len(server.requests)) == (1, count), ended.stderr
    assert "left out: src/lib/app.py: " in ended.stderr
    (found,) = all_findings(directory)
    (place,) = found["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "src/lib/c.py"


@WHERE
def test_a_repository_with_an_address_is_cloned_once_and_asked_about(
    world: World, model: Model, directory: Path, where: tuple[str, ...]
) -> None:
    remote = world.repository_at(world.base / "shop").begin()
    model(lambda _request: say("It is there."))
    rows = [
        {
            "id": str(number),
            "kind": "consult",
            "arguments": {"question": "Why?"},
            "repo": f"file://{remote.root}",
        }
        for number in range(3)
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    ended = batch(world, "--output-dir", directory, *where, stdin=text)
    assert ended.returncode == 0, ended.stderr
    assert codes(directory) == dict.fromkeys(["0", "1", "2"])
    clones = directory / "repositories"
    assert len([path for path in clones.iterdir() if path.is_dir()]) == 1
    again = batch(world, "--resume", directory)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("flags", [("--dry-run",), ()], ids=["dry run", "start"])
def test_repositories_that_are_not_there_are_named_by_their_lines_before_anything_starts(
    world: World, model: Model, directory: Path, flags: tuple[str, ...]
) -> None:
    server = model(lambda _request: say("It is there."))
    world.repository_at(world.base / "shop").begin()
    (world.base / "plain").mkdir()
    (world.base / "services.txt").write_text("shop\n\nnone\nplain\n", "utf-8")
    rows = [
        {"id": "a", "kind": "review", "repo": "shop"},
        {"id": "b", "kind": "review", "repo": "none"},
    ]
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (world.base / "requests.jsonl").write_text(text, "utf-8")

    own: tuple[str | Path, ...] = ("--output-dir", directory, *flags)
    task = ("--delegate", "Fix it.", "--repos")
    listed = batch(world, *task, f"@{world.base}/services.txt", *own)
    assert listed.returncode == 2, listed.stderr
    assert "2 repositories cannot be used; nothing was started" in listed.stderr
    missing = f"line 3: repo: {world.base}/none: No such file or directory"
    assert missing in listed.stderr
    assert "line 4: repo: " in listed.stderr
    named = batch(world, *task, f"{world.base}/shop,{world.base}/none", *own)
    assert "delegate-none: repo: " in named.stderr
    assert "delegate-shop" not in named.stderr
    requested = batch(world, world.base / "requests.jsonl", *own)
    assert "line 2: repo: none: No such file or directory" in requested.stderr
    assert (server.requests, directory.exists()) == ([], False)
