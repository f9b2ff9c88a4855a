"""Findings that are proven: the real Codex, real git, a scripted reviewer and scripted provers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from codex_counsel.loopback import Loopback
from tests.conftest import World, pick
from tests.e2e.delegation import assert_unchanged
from tests.e2e.proving import CLAIM, TEST, Prover, begin, only, prove, script
from tests.e2e.runs import assert_nothing_is_left

Model = Callable[..., Loopback]

pytestmark = pytest.mark.usefixtures("own_git_settings")


def test_a_true_finding_is_proven_by_a_test_that_fails_here_and_passes_on_the_base(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    begin(world)
    each_model(script([CLAIM], Prover()))
    with assert_unchanged(world.workspace):
        wire = prove(world)
    finding, proof = only(wire)
    assert pick(finding, "severity", "grounded") == {
        "severity": "high",
        "grounded": "proven",
    }
    assert pick(proof, "status", "exit_head", "exit_other", "other", "command") == {
        "status": "proven",
        "exit_head": 1,
        "exit_other": 0,
        "other": "base",
        "command": "python3 -m unittest test_mean",
    }
    assert "AssertionError: 6.0 != 3" in proof["output_tail"]
    assert f"+{TEST.splitlines()[0]}\n" in proof["patch"]
    assert wire["verdict"] == "fail"
    assert wire["summary"].startswith("fail: 1 high; 1 proven.")
    assert_nothing_is_left(world)
