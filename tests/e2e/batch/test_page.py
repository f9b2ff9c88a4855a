"""The guide to batches: what it shows is run as it stands there, and jq finds what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import Code
from codex_counsel.loopback import Loopback, Reply, Request, patch, say
from codex_counsel.system.json_values import JsonObject
from tests.conftest import World
from tests.e2e.batch.runs import results
from tests.e2e.runs import command_line
from tests.fences import fences
from tests.repositories import numbered_lines
from tests.reviews import reply
from tests.unit.batches import failure, finding, review, task

Model = Callable[..., Loopback]
PAGE = (Path(__file__).parents[3] / "docs/how-to/batch.md").read_text("utf-8")
LINES = "json lines"
ADDED = patch(
    "*** Begin Patch\n*** Add File: test_empty.py\n+def test(): ...\n*** End Patch\n"
)
pytestmark = pytest.mark.usefixtures("own_git_settings")


def commands() -> Iterator[list[str]]:
    """Every command of ours that the page shows, without the name of the program."""
    for block in fences(PAGE, ""):
        for line in block.splitlines():
            words = shlex.split(line)
            if words[0] == "codex-counsel":
                yield words[1:]


NEW = [words for words in commands() if words[0] == "batch" and "--resume" not in words]
AFTERWARDS = [words for words in commands() if "--resume" in words or "check" in words]


@pytest.fixture
def project(world: World) -> World:
    """A repository with two commits between `v1.2` and `v1.3`, and the files that the page names."""
    repository = world.repository.begin()
    repository.git("tag", "v1.2")
    for number in (1, 2):
        repository.write("src/app.py", numbered_lines(l7=f"seven = {number}"))
        repository.commit(f"change {number}")
    repository.git("tag", "v1.3")
    (requests,) = fences(PAGE, LINES)
    repository.write("requests.jsonl", requests)
    repository.write("prs.txt", "12\nhttps://github.com/octo/shop/pull/15\n")
    repository.write("services.txt", "../shop\nhttps://github.com/octo/cart\n")
    for name in ("shop", "cart"):
        world.repository_at(world.base / name).begin()
    return world


@pytest.mark.parametrize("words", NEW, ids=" ".join)
def test_a_batch_of_the_page_lists_what_it_would_ask(
    project: World, words: list[str]
) -> None:
    ended = command_line(project, *words, "--dry-run", "--json", timeout=120)
    assert ended.returncode == 0, ended.stderr
    items = json.loads(ended.stdout)["data"]["items"]
    counts = {
        "12,15,17": 3,
        "@prs.txt": 2,
        "v1.2..v1.3": 2,
        "src/**/*.py": 1,
        "@services.txt": 2,
        "requests.jsonl": 4,
    }
    assert [len(items)] == [count for word, count in counts.items() if word in words]
    assert not (project.state / "jobs").exists()


@pytest.mark.parametrize(
    "where", [(), ("--cluster", "local")], ids=["slots", "cluster"]
)
def test_the_requests_of_the_page_are_answered_and_the_diff_can_be_applied(
    project: World, model: Model, where: tuple[str, ...]
) -> None:
    repository = project.repository
    repository.write("docs/migration.md", "# Migration\n\nMove the table.\n")
    file = repository.root / "requests.jsonl"
    cart = project.repository_at(project.base / "cart")
    text = file.read_text("utf-8")
    assert "https://github.com/octo/cart" in text
    file.write_text(text.replace("https://github.com/octo/cart", f"file://{cart.root}"))
    shop = project.repository_at(project.base / "shop")
    shop.git("checkout", "--quiet", "-b", "feature")
    shop.write("app.py", numbered_lines(l7="seven = 70"))
    shop.commit("change")

    def play(request: Request) -> Reply:
        if "Add a test for empty carts" in request.prompt:
            return say("It is done.") if request.outputs else ADDED
        if "Move the table" in request.prompt or "seven = 70" in request.prompt:
            return say(json.dumps(reply()))
        return say("No.")

    model(play)
    words = ["batch", "requests.jsonl", "--output-dir", "out", "--color", "never"]
    ended = command_line(project, *words, *where, timeout=120)
    rows = {row["id"]: row for row in results(repository.root / "out")}
    assert ended.returncode == 0, ended.stderr
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(
        ["auth", "plan", "shop", "cart"], "completed"
    )
    assert rows["auth"]["answer"] == "No."
    assert rows["shop"]["verdict"] == rows["plan"]["verdict"] == "pass"

    meta = rows["cart"]["meta"]
    clone = Path(meta["workspace"]["root"])
    assert clone.parent == repository.root / "out/repositories"
    ended = command_line(
        project, "apply", meta["job_id"], "-C", str(clone), timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert (clone / "test_empty.py").read_text("utf-8") == "def test(): ...\n"


def test_the_commands_for_a_batch_that_ended_repeat_nothing_and_judge_it(
    project: World, model: Model
) -> None:
    found = {"severity": "medium", "file": "src/app.py", "line": 7}
    server = model(
        lambda _request: say(json.dumps(reply(found, verdict="concerns"))),
    )
    begin = ["batch", "--review-range", "v1.2..v1.3", "--output-dir", "reviews"]
    assert command_line(project, *begin, timeout=120).returncode == 0
    assert len(server.requests) == 2
    codes = [
        command_line(project, *words, timeout=120).returncode for words in AFTERWARDS
    ]
    assert [words[:1] for words in AFTERWARDS] == [["batch"]] * 4 + [["check"]]
    assert codes == [0, 0, 0, 1, 0]
    assert len(server.requests) == 2
    directory = project.workspace / "reviews"
    named = set(re.findall(r"`([\w.]+)`", PAGE))
    names = {path.name for path in directory.iterdir()} - {".gitignore"}
    assert names - named == set()
    assert len(results(directory)) == 2
    assert (project.workspace / "quality.json").exists()


# --- jq


def questions() -> list[list[str]]:
    """The calls of jq."""
    (block,) = fences(PAGE, "bash")
    return [shlex.split(line) for line in block.splitlines() if line.startswith("jq")]


def answers(folder: Path, wires: dict[str, EnvelopeDict]) -> list[list[str]]:
    """The lines that each call prints about these results."""
    (folder / "reviews").mkdir()
    rows: list[JsonObject] = [{"id": name, **wire} for name, wire in wires.items()]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "reviews/results.jsonl").write_text(lines, "utf-8")
    found = []
    for words in questions():
        ended = subprocess.run(
            words, cwd=folder, check=True, capture_output=True, text=True
        )
        found.append(ended.stdout.splitlines())
    return found


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_the_questions_to_jq_have_answers(tmp_path: Path) -> None:
    failed, grave, costly, passed = answers(
        tmp_path,
        {
            "pr-1": review(finding(severity="high"), verdict="fail"),
            "pr-2": failure(Code.TIMEOUT, "It took too long"),
            "shop": task("passed"),
            "cart": task("failed"),
        },
    )
    assert failed == ["pr-2\ttimeout\tIt took too long"]
    assert json.loads(grave[0]) == {
        "item": "pr-1",
        "file": "src/app.py",
        "line": 3,
        "title": "Off by one",
    }
    assert costly[0] == "pr-1\t1050"
    assert passed == ["b" * 32]
