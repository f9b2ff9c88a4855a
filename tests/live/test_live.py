"""With the user's own Codex, login and tokens: `uv run pytest -m live`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codex_counsel.contract.request import Delegate, ReviewChanges, parse
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, consult, wait

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]


@pytest.fixture
def repository(world: World) -> Path:
    repository = world.repository.init()
    repository.write("sums.py", "def mean(xs):\n    return sum(xs) / len(xs)\n")
    repository.commit("Add mean")
    return repository.root


def counsel(world: World) -> Counsel:
    return Counsel(
        {**os.environ, "CODEX_COUNSEL_STATE_DIR": str(world.state)}, world.workspace
    )


def test_the_real_model_answers_from_the_workspace(
    world: World, repository: Path
) -> None:
    wire = consult(
        counsel(world), "What does mean([]) in sums.py do? Answer in one sentence."
    )
    assert wire["status"] == "completed", wire
    assert "ZeroDivisionError" in wire["answer"]
    assert wire["meta"]["usage"]["output"] > 0


def test_the_real_model_finds_a_planted_bug_and_quotes_what_stands_there(
    world: World, repository: Path
) -> None:
    (repository / "sums.py").write_text(
        "def mean(xs):\n    return sum(xs) / (len(xs) - 1)\n"
    )
    wire = wait(counsel(world).review_changes(parse(ReviewChanges, {})))
    assert wire["verdict"] in ("fail", "concerns"), wire
    assert any(
        finding["grounded"] in ("verified", "moved") for finding in wire["findings"]
    )


def test_the_real_model_does_a_task_and_the_diff_holds_it(
    world: World, repository: Path
) -> None:
    wire = wait(
        counsel(world).delegate(
            parse(Delegate, {"task": "Make mean([]) return 0.0. Change nothing else."})
        )
    )
    assert wire["status"] == "completed", wire
    assert [file["path"] for file in wire["files"]] == ["sums.py"]
