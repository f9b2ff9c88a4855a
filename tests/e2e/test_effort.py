"""How hard the model is asked to think: what Codex really sent, and what the result says about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from codex_counsel.contract.request import (
    Delegate,
    DelegateDryRun,
    DryRun,
    ReviewPlan,
    Status,
)
from codex_counsel.loopback import Loopback, say
from tests.conftest import World, consult, pick

Model = Callable[..., Loopback]

PLAN = {
    "verdict": "pass",
    "confidence": "high",
    "summary": "It holds.",
    "findings": [],
    "questions": [],
    "assumptions": [],
    "next_steps": [],
}


def asked(server: Loopback, wire: dict[str, Any]) -> tuple[object, object, object]:
    """The effort that Codex sent, and what the result says."""
    meta = wire["meta"]
    return server.requests[-1].effort, meta.get("effort"), meta["effort_source"]


def test_an_opinion_for_which_nobody_named_an_effort_is_asked_at_a_high_one(
    each_release: World, each_model: Model
) -> None:
    server = each_model()
    wire = consult(each_release.counsel())
    assert asked(server, wire) == ("high", "high", "opinion")


def test_the_review_of_a_plan_is_an_opinion_too(world: World, model: Model) -> None:
    server = model([say(json.dumps(PLAN))])
    counsel = world.counsel()
    handle = counsel.review_plan(ReviewPlan(plan="Cache every answer."))
    wire = counsel.follow(handle, lambda _: None)
    assert asked(server, wire) == ("high", "high", "opinion")


def test_a_delegates_model_decides_by_itself(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.init()
    (each_release.workspace / "a.py").write_text("1\n")
    repository.commit("first")
    server = each_model([say("Nothing to do.")])
    counsel = each_release.counsel()
    handle = counsel.delegate(Delegate(task="Look."))
    wire = counsel.follow(handle, lambda _: None)
    default = counsel.status(Status())["data"]["defaults"]["model_effort"]
    assert server.requests[-1].effort in (None, default)
    assert wire["meta"]["effort_source"] == "model"


@pytest.mark.parametrize(
    ("setting", "argument", "expected"),
    [
        ("", None, ("medium", "codex")),
        ("low", None, ("low", "setting")),
        ("low", "xhigh", ("xhigh", "caller")),
    ],
)
def test_whoever_names_an_effort_decides(
    world: World,
    model: Model,
    setting: str,
    argument: str | None,
    expected: tuple[str, str],
) -> None:
    server = model()
    file = world.codex_home / "config.toml"
    world.configure('model_reasoning_effort = "medium"\n' + file.read_text("utf-8"))
    world.settings["EFFORT"] = setting
    effort, source = expected
    wire = consult(world.counsel(), effort=argument)
    assert asked(server, wire) == (effort, effort, source)


def test_a_model_that_codex_does_not_list_is_told_no_effort(
    world: World, model: Model
) -> None:
    server = model(model="my-own-model")
    wire = consult(world.counsel())
    assert server.requests[-1].effort is None
    assert wire["meta"]["effort_source"] == "model"


def test_one_setting_leaves_every_effort_to_the_model(
    world: World, model: Model
) -> None:
    server = model()
    world.settings |= {"OPINION_EFFORT": "model"}
    counsel = world.counsel()
    wire = consult(counsel)
    defaults = counsel.status(Status())["data"]["defaults"]
    assert server.requests[-1].effort in (None, defaults["model_effort"])
    assert wire["meta"]["effort_source"] == "model"
    assert pick(defaults, "effort", "effort_source") == {
        "effort": None,
        "effort_source": "model",
    }


def test_status_and_dry_runs_say_model_and_effort_before_anything_is_spent(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.init()
    (each_release.workspace / "a.py").write_text("1\n")
    repository.commit("first")
    (each_release.workspace / "a.py").write_text("2\n")
    server = each_model()
    counsel = each_release.counsel()
    listed = counsel.models()["data"]["models"][0]

    assert counsel.status(Status())["data"]["defaults"] == {
        "model": listed["model"],
        "model_source": "default",
        "model_effort": listed["default_effort"],
        "effort": "high",
        "effort_source": "opinion",
        "delegate_effort": None,
        "delegate_effort_source": "model",
        "isolation": "lean",
        "instructions": "own",
    }
    review = counsel.dry_run(DryRun())["data"]
    delegate = counsel.delegate_dry_run(DelegateDryRun(task="Look."))["data"]
    assert pick(review, "effort", "effort_source") == {
        "effort": "high",
        "effort_source": "opinion",
    }
    assert pick(delegate, "effort", "effort_source") == {
        "effort": None,
        "effort_source": "model",
    }
    assert server.requests == []


def test_the_models_are_asked_once_per_release(world: World, model: Model) -> None:
    server = model()
    consult(world.counsel())
    cache = json.loads((world.state / "probes.json").read_text("utf-8"))
    [key] = [key for key in cache if key.startswith("models\n")]
    for row in cache[key]:
        row["efforts"] = ["low", "medium"]
    (world.state / "probes.json").write_text(json.dumps(cache))
    consult(world.counsel())
    assert [request.effort for request in server.requests] == ["high", "medium"]
