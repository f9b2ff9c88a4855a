"""A consultation from the request to the envelope, on the real Codex, with a scripted model."""

from __future__ import annotations

from collections.abc import Callable

from codex_counsel.loopback import Loopback, say, shell
from tests.conftest import World, consult, living

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
    assert wire["meta"]["sandbox"] == {
        "mode": "read-only",
        "read_boundary": "workspace",
        "network": False,
    }


def test_codex_reads_the_workspace_and_nothing_is_left_afterwards(
    each_release: World, each_model: Model
) -> None:
    (each_release.workspace / "app.py").write_text("answer = 42\n")
    server = each_model([shell("cat app.py"), say("It says 42.")])
    wire = consult(each_release.counsel())
    assert "answer = 42" in server.requests[-1].outputs[0]
    assert list(each_release.temp.iterdir()) == []
    assert living(wire["meta"]["job_id"]) == []
