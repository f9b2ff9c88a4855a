"""Ten faults, each proven; and the same findings about the right versions, each refuted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codex_counsel.loopback import Loopback, Request, say
from tests.conftest import World
from tests.e2e.proof_samples import SAMPLES, Sample
from tests.e2e.proving import CLAIM, Prover, is_proof, prove
from tests.e2e.runs import assert_nothing_is_left
from tests.reviews import reply

Model = Callable[..., Loopback]

pytestmark = [pytest.mark.usefixtures("own_git_settings"), pytest.mark.timeout(300)]


def claim(sample: Sample, line: str) -> dict[str, Any]:
    return CLAIM | {
        "title": f"{sample.name} is wrong",
        "file": f"{sample.name}.py",
        "line": sample.line,
        "evidence": line.strip(),
    }


def model_of(claims: list[dict[str, Any]], verdict: str) -> Callable[[Request], Any]:
    """A reviewer with these claims, and a prover who finds them all shown or all wrong."""
    provers = {}
    for sample in SAMPLES:
        name = f"test_of_{sample.name}.py"
        provers[f"{sample.name} is wrong"] = Prover(
            files={name: sample.test},
            command=f"python3 {name}",
            verdict=verdict,
            failure=sample.failure,
        )

    def answer(request: Request) -> Any:
        if not is_proof(request):
            return say(reply(*claims, verdict="fail"))
        (title,) = [title for title in provers if title in request.prompt]
        return provers[title].reply_to(request)

    return answer


def begin(world: World, before: dict[str, str], after: dict[str, str]) -> None:
    repository = world.repository.init()
    for name, text in before.items():
        repository.write(f"{name}.py", text)
    repository.commit("before")
    for name, text in after.items():
        repository.write(f"{name}.py", text)
    world.settings["MAX_PROOFS"] = str(len(SAMPLES))


def statuses(wire: dict[str, Any]) -> dict[str, str]:
    found = {}
    for finding in wire["findings"]:
        told = finding["proof"]["status"]
        if told == "inconclusive":
            told = finding["proof"]["reason"]
        found[finding["title"].removesuffix(" is wrong")] = told
    return found


def test_each_fault_is_proven(world: World, model: Model) -> None:
    right = {sample.name: sample.program for sample in SAMPLES}
    faulty = {sample.name: sample.faulty for sample in SAMPLES}
    begin(world, right, faulty)
    model(model_of([claim(sample, sample.wrong) for sample in SAMPLES], "shown"))
    wire = prove(world)
    assert statuses(wire) == {sample.name: "proven" for sample in SAMPLES}
    assert wire["verdict"] == "fail"
    assert_nothing_is_left(world)


def test_each_right_version_is_cleared(world: World, model: Model) -> None:
    faulty = {sample.name: sample.faulty for sample in SAMPLES}
    right = {sample.name: sample.program for sample in SAMPLES}
    begin(world, faulty, right)
    model(model_of([claim(sample, sample.right) for sample in SAMPLES], "wrong"))
    wire = prove(world)
    assert statuses(wire) == {sample.name: "refuted" for sample in SAMPLES}
    assert wire["verdict"] == "pass"
    assert_nothing_is_left(world)
