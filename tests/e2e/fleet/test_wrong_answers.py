"""Nodes that are broken or lie: they are named, cost the batch no end, and the other nodes do the work."""

from __future__ import annotations

import json

import pytest

from codex_counsel.errors import Code
from codex_counsel.fleet import answers
from codex_counsel.fleet.answers import WrongAnswerError
from codex_counsel.loopback import say
from tests.conftest import until
from tests.e2e.batch.runs import asked, codes, names, results, write_requests
from tests.e2e.fleet.conftest import Fleet
from tests.e2e.fleet.nodes import SECONDS
from tests.e2e.runs import command_line
from tests.reviews import reply

pytestmark = pytest.mark.timeout(400)

NO_COUNT = """
from codex_counsel.fleet import node

async def describe():
    return {"node": "a" * 32, "place": "", "version": "", "protocol": 1, "format": 1, "slots": float("inf")}

node.describe = describe
"""
NO_ANSWER = """
from codex_counsel.fleet import node

async def describe():
    return ["a" * 32]

node.describe = describe
"""
KEEPS_NOTHING = """
from codex_counsel.fleet import node

async def put(*_):
    return {"size": 0}

node.put = put
"""
OTHER_BYTES = """
from codex_counsel.fleet import node

node.run = lambda *_: {"is": "ended", "data": b"x", "size": 1, "sha256": "0" * 64}
"""
WITHOUT_END = """
from codex_counsel.fleet import node

async def part(*_):
    return {"data": b"x" * 4_000_000}

node.run = lambda *_: {"is": "ended", "size": 10**15, "sha256": "0" * 64}
node.part = part
"""
ALWAYS_MISSING = """
from codex_counsel.fleet import node

node.run = lambda *_: {"is": "missing"}
"""
HELD = """
import time
from pathlib import Path

def held(*arguments, lie=node.run):
    while not Path("GATE").exists():
        time.sleep(0.01)
    return lie(*arguments)

node.run = held
"""
"""Put behind another lie, it holds that back until there is the file GATE."""

OTHER_COMMIT = """
from codex_counsel.packs import result_writer

def details(spec, honest=result_writer._details):
    told = honest(spec)
    told["frame"]["head"] = "OTHER"
    return told

result_writer._details = details
"""


def add_liars(fleet: Fleet, *lies: str) -> None:
    """A node for each lie; they have come to the scheduler when this returns."""
    for number, lie in enumerate(lies):
        file = fleet.client.base / f"lie_{number}.py"
        file.write_text(lie)
        fleet.add_node(f"liar-{number}", preload=str(file))
    log = fleet.dask.base / "scheduler.log"
    until(lambda: log.read_text().count("Register worker") >= len(lies), SECONDS)


def test_nodes_that_cannot_be_used_are_named_and_another_one_gets_their_items(
    fleet: Fleet,
) -> None:
    model = fleet.model()
    add_liars(fleet, NO_COUNT, NO_ANSWER, KEEPS_NOTHING)
    node = fleet.add_node("one")
    ended = fleet.batch(write_requests(fleet.client, 6))
    assert (ended.returncode, len(node.jobs)) == (0, 6), ended.stderr
    assert "liar-0 is not used: slots is no count" in ended.stderr
    assert "liar-1 is not used: its answer is none" in ended.stderr
    assert "gets no more items: it does not keep what it is sent" in ended.stderr
    assert asked(model) == dict.fromkeys(range(6), 1)


def test_items_of_which_a_node_gives_no_result_are_lost_by_name(fleet: Fleet) -> None:
    fleet.model()
    gate = fleet.client.base / "gate"
    held = HELD.replace("GATE", str(gate))
    lies = (OTHER_BYTES, WITHOUT_END, ALWAYS_MISSING)
    add_liars(fleet, *(lie + held for lie in lies))
    with fleet.started(write_requests(fleet.client, 9)) as process:
        # A node that has lied gets no more items, and nobody else would take them.
        places = fleet.directory / "places.jsonl"
        until(lambda: places.exists() and places.read_text().count("\n") == 9, SECONDS)
        gate.touch()
        _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 5, stderr
    lost = dict.fromkeys(names(range(9)), "worker_lost")
    assert codes(fleet.directory) == lost
    for problem in (
        "its result has other bytes than were told",
        "its result has more than 8,016,000,000 bytes",
        "it misses what it was not sent",
    ):
        assert f"gets no more items: {problem}" in stderr


def test_the_review_of_another_commit_than_was_sent_is_refused_and_kept_as_a_file(
    fleet: Fleet,
) -> None:
    repository = fleet.client.repository
    other = repository.head
    asked_for = repository.commit()
    fleet.model(say(json.dumps(reply())))
    add_liars(fleet, OTHER_COMMIT.replace("OTHER", other))
    requests = fleet.client.base / "requests.jsonl"
    arguments = {"scope": "commit", "commit": asked_for}
    line = {"id": "one", "kind": "review", "arguments": arguments}
    requests.write_text(json.dumps(line), "utf-8")
    ended = fleet.batch(requests)
    assert codes(fleet.directory) == {"one": "pack_invalid"}, ended.stderr
    (row,) = results(fleet.directory)
    assert f"a review of the commit {other[:11]}" in row["error"]["message"]
    assert list((fleet.client.state / "jobs").iterdir()) == []

    (kept,) = (fleet.directory / "refused").iterdir()
    taken = command_line(fleet.client, "take", str(kept))
    assert (taken.returncode, "does not ask for" in taken.stderr) == (2, True)


@pytest.mark.parametrize("answer", [None, 7, "ended", [1], object()])
def test_what_is_no_answer_is_refused(answer: object) -> None:
    with pytest.raises(WrongAnswerError):
        answers.checked(answer)


@pytest.mark.parametrize("value", [None, True, "7", -1, 10**400, float("inf"), 1.0])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(WrongAnswerError):
        answers.count({"size": value}, "size")


def test_bytes_that_are_not_as_many_as_told_are_refused() -> None:
    assert answers.data({"data": b"ab"}, "data", 2) == b"ab"
    for value in (b"a", b"abc", "ab", None):
        with pytest.raises(WrongAnswerError):
            answers.data({"data": value}, "data", 2)


def test_an_error_has_no_text_that_a_terminal_obeys_and_no_value_of_another_kind() -> (
    None
):
    error = answers.error_from(
        {
            "code": "usage_limit",
            "message": "\x1b[31mx\ny",
            "repair": 7,
            "retry_after_ms": 10**400,
            "details": {"a": "\x1b]0;x", 5: "x", "b": object(), "c": 3},
        }
    )
    assert (error.code, error.repair) == (Code.USAGE_LIMIT, None)
    assert error.retry_after_ms is None
    assert "\x1b" not in error.message + str(error.details)
    assert set(error.details) == {"a", "c"}


def test_of_many_sentences_some_are_shown() -> None:
    answer = {"survivors": ["x"] * 500}
    assert answers.texts(answer, "survivors", 100) == ["x"] * 100
    with pytest.raises(WrongAnswerError):
        answers.texts({"survivors": [7]}, "survivors", 100)
