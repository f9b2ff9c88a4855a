"""What a person decides about a finding, and what later reviews, checks and the gate make of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from codex_counsel.loopback import Loopback, say
from tests.conftest import World
from tests.e2e.cli.test_check import job_of
from tests.e2e.cli.test_verbs import RunResult, run
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")

RAISED = say(reply({"severity": "high"}, verdict="fail"))


def finding_of(result: RunResult) -> dict[str, object]:
    (finding,) = result.json["findings"]
    return dict(finding)


@pytest.fixture
def raised(world: World, model: Model) -> str:
    """The id of a finding that each review of the world's change raises."""
    world.repository.begin_changed()
    model(lambda _: RAISED)
    result = run(world, "review", "--json")
    assert result.code == 1
    finding = finding_of(result)
    assert finding["known"] == "new"
    return str(finding["id"])


def test_what_a_review_raises_is_listed_and_shown(world: World, raised: str) -> None:
    assert raised in run(world, "findings").out
    shown = run(world, "findings", "show", raised[:4]).out
    assert "HIGH  The seventh line is wrong\n  app.py:7\n  | seven = 70\n" in shown
    assert "Seven is not seventy." in shown


def test_a_rejected_finding_fails_neither_a_review_nor_a_check(
    world: World, raised: str
) -> None:
    words = ("findings", "reject", raised, "--reason", "It is meant so.")
    assert run(world, *words).code == 0
    assert run(world, "result").code == 1
    assert run(world, "check", job_of(world)).code == 1
    decided = run(world, "check", job_of(world), "--on-record")
    assert (decided.code, decided.out[:5]) == (0, "pass:")

    again = run(world, "review", "--json", "--output", "review.json")
    assert again.code == 0, again.err
    stored = (world.workspace / "review.json").read_text()
    assert '"known": "rejected"' in stored
    assert "It is meant so." in stored
    assert run(world, "result").code == 0
    check = run(world, "check", "review.json")
    assert (check.code, check.out[:5]) == (0, "pass:")

    assert run(world, "findings", "reopen", raised).code == 0
    reopened = run(world, "review", "--json")
    assert (reopened.code, finding_of(reopened)["known"]) == (1, "open")
    assert run(world, "review", "--new-only").code == 0


def test_a_forgotten_finding_is_a_new_one(world: World, raised: str) -> None:
    assert run(world, "findings", "forget", raised).code == 0
    again = run(world, "review", "--json", "--new-only")
    assert (again.code, finding_of(again)["known"]) == (1, "new")
    assert finding_of(again)["id"] == raised


def test_an_accepted_finding_counts_until_it_is_mended(
    world: World, raised: str
) -> None:
    assert run(world, "findings", "accept", raised).code == 0
    assert run(world, "review").code == 1
    listed = run(world, "findings", "--json").json["data"]["findings"]
    assert [(row["id"], row["state"]) for row in listed] == [(raised, "accepted")]
