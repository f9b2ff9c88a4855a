"""A consultation from the request to the envelope, on the real Codex, with a scripted model."""

from __future__ import annotations

from collections.abc import Callable

from codex_counsel.loopback import Loopback, say, shell
from tests.conftest import World, consult, pick
from tests.e2e.runs import assert_nothing_is_left

Model = Callable[..., Loopback]


def test_a_question_comes_back_with_codexs_answer_and_where_it_came_from(
    each_release: World, each_model: Model
) -> None:
    each_model([say("Use a queue.")])
    wire = consult(each_release.counsel(), "Queue or lock?")
    assert (wire["ok"], wire["status"], wire["tool"], wire["answer"]) == (
        True,
        "completed",
        "codex_consult",
        "Use a queue.",
    )
    assert wire["meta"]["session_id"]
    assert wire["meta"]["codex"] == {
        "path": each_release.binary,
        "version": each_release.codex().version,
    }
    assert wire["meta"]["usage"] == {
        "input": 100,
        "cached_input": 40,
        "output": 10,
        "reasoning": 5,
    }
    assert pick(wire["meta"]["sandbox"], "mode", "read_boundary", "network") == {
        "mode": "read-only",
        "read_boundary": "workspace",
        "network": False,
    }


def test_the_settings_that_bound_a_run_are_those_of_its_record(
    world: World, model: Model
) -> None:
    model()
    world.settings |= {
        "TIMEOUT_SECONDS": "61",
        "IDLE_SECONDS": "62",
        "MAX_RUNNING": "63",
        "BACKOFF_SECONDS": "64",
        "JOB_TTL": "65",
    }
    counsel = world.counsel()
    job_id = consult(counsel)["meta"]["job_id"]
    spec = counsel.store.job(job_id).spec()
    bounds = (spec.total, spec.idle, spec.slots, spec.backoff, spec.ttl)
    assert bounds == (61, 62, 63, 64, 65)


def test_codex_reads_the_workspace_and_nothing_is_left_afterwards(
    each_release: World, each_model: Model
) -> None:
    (each_release.workspace / "app.py").write_text("answer = 42\n")
    server = each_model([shell("cat app.py"), say("It says 42.")])
    wire = consult(each_release.counsel())
    assert "answer = 42" in server.requests[-1].outputs[0]
    assert wire["answer"] == "It says 42."
    assert_nothing_is_left(each_release)
