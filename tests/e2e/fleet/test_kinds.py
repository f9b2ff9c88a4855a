"""What items of each kind bring back from a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.loopback import Reply, Request, say, shell
from tests.e2e.batch.runs import codes, results
from tests.e2e.fleet.conftest import Fleet
from tests.e2e.pictures import RED_PIXEL
from tests.e2e.runs import command_line
from tests.reviews import reply

pytestmark = pytest.mark.timeout(400)

FINDING = {
    "title": "The answer is wrong",
    "file": "app.py",
    "line": 1,
    "evidence": "answer = 41",
}


def play(request: Request) -> Reply:
    if request.schema is not None:
        return say(json.dumps(reply(FINDING, verdict="concerns")))
    if "Make it 42" not in request.prompt:
        return say("It is red.")
    if request.index == 0:
        return shell("sed -i 's/41/42/' app.py; seq -f 'line %.0f' 50000 > long.txt")
    return say("It is 42 now.")


def write_lines(fleet: Fleet, *lines: dict[str, Any]) -> Path:
    path = fleet.client.base / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    return path


def test_a_review_a_task_and_a_question_about_a_large_image_come_back_as_local_ones(
    fleet: Fleet,
) -> None:
    repository = fleet.client.repository
    (fleet.client.base / "red.png").write_bytes(RED_PIXEL + bytes(1_500_000))
    model = fleet.model(play)
    node = fleet.add_node("one")
    picture = {
        "question": "What colour is it?",
        "images": [str(fleet.client.base / "red.png")],
    }
    review = {"scope": "files", "paths": ["app.py"]}
    requests = write_lines(
        fleet,
        {"id": "picture", "kind": "consult", "arguments": picture},
        {"id": "task", "kind": "delegate", "arguments": {"task": "Make it 42."}},
        {"id": "review", "kind": "review", "arguments": review},
    )
    ended = fleet.batch(requests)
    found = codes(fleet.directory)
    assert found == {"picture": None, "task": None, "review": None}, ended.stderr
    rows = {row["id"]: row for row in results(fleet.directory)}
    assert any(
        "data:image/png" in json.dumps(request.body) for request in model.requests
    )
    (finding,) = rows["review"]["findings"]
    assert finding["title"] == "The answer is wrong"
    assert repository.root.joinpath("app.py").read_text() == "answer = 41\n"

    job_id = rows["task"]["meta"]["job_id"]
    applied = command_line(fleet.client, "apply", job_id)
    assert applied.returncode == 0, applied.stderr
    assert rows["task"]["diff"].count("\n+line ") == 50_000
    assert repository.root.joinpath("app.py").read_text() == "answer = 42\n"
    text = (fleet.directory / "results.jsonl").read_text()
    assert str(node.world.base) not in text


def test_reviews_of_commits_come_back_for_the_commits_that_were_sent(
    fleet: Fleet,
) -> None:
    repository = fleet.client.repository
    first = repository.head
    second = repository.commit()
    repository.write("app.py", "answer = 40\n")
    repository.commit()
    fleet.model(say(json.dumps(reply())))
    fleet.add_node("one")
    reviews = {
        "commit": {"scope": "commit", "commit": second},
        "head": {"scope": "commit"},
        "range": {"scope": "range", "range": f"{first}..{second}"},
        "branch": {"scope": "branch", "base": first},
    }
    lines = [
        {"id": name, "kind": "review", "arguments": arguments}
        for name, arguments in reviews.items()
    ]
    ended = fleet.batch(write_lines(fleet, *lines))
    assert codes(fleet.directory) == dict.fromkeys(reviews), ended.stderr
