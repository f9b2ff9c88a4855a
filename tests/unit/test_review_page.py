"""A review on a terminal: what a test said about a finding."""

from __future__ import annotations

from typing import Any

import pytest

from codex_counsel.cli.page import Page
from codex_counsel.cli.render import add_envelope
from codex_counsel.contract.envelope import Envelope
from tests.hostile import TEXTS, hidden_characters

JOB = "5" * 32
PROVEN: dict[str, Any] = {
    "status": "proven",
    "reason": "it fails on the reviewed state and passes on the base",
    "command": "pytest -q test_sum.py",
    "exit_head": 1,
    "exit_other": 0,
    "other": "base",
    "patch": "diff --git a/test_sum.py b/test_sum.py\n",
    "output_tail": "1 failed\n",
    "job_id": JOB,
}


def text(*findings: dict[str, Any], meta: dict[str, Any] | None = None) -> str:
    finding = {
        "id": "0123456789abcdef",
        "severity": "high",
        "title": "Off by one",
        "file": "a.py",
        "line": 3,
        "grounded": "proven",
    }
    wire = {
        "ok": True,
        "status": "completed",
        "tool": "codex_review_changes",
        "summary": "fail: 1 high.",
        "verdict": "fail",
        "findings": [finding | each for each in findings],
        "meta": meta or {},
    }
    page = Page()
    add_envelope(page, Envelope.parse(wire))
    return str(page)


def test_a_proven_finding_says_which_test_shows_it_and_how_to_get_it() -> None:
    lines = text({"proof": PROVEN}).splitlines()
    assert lines[2:6] == [
        "HIGH  Off by one",
        "  a.py:3 (proven)",
        "  proven: pytest -q test_sum.py fails here (exit 1) and passes on the base",
        f"  add the test with: codex-counsel apply {JOB}",
    ]
    patched = text({"proof": PROVEN | {"other": "patched"}})
    assert "fails here (exit 1) and passes with the proposed replacement" in patched


def test_the_tokens_of_the_proofs_are_said_beside_those_of_the_review() -> None:
    usage = {"input": 100, "cached_input": 40, "output": 10, "reasoning": 5}
    proofs = usage | {"input": 900, "output": 80}
    lines = text(meta={"usage": usage, "usage_proofs": proofs}).splitlines()
    assert lines[-2:] == [
        "  tokens: 100 in (40 cached), 10 out",
        "  tokens of its proofs: 900 in (40 cached), 80 out",
    ]


def test_a_refuted_finding_comes_last_with_the_reason() -> None:
    refuted = {
        "title": "A false one",
        "severity": "nit",
        "proof": {"status": "refuted", "reason": "the test passes"},
    }
    lines = text(refuted, {"severity": "low", "title": "A small one"}).splitlines()
    start = lines.index("refuted by a test that was run:")
    assert lines.index("LOW  A small one") < start
    assert lines[start + 1] == "NIT  A false one"
    assert lines.count("NIT  A false one") == 1
    assert "  refuted: the test passes" in lines[start:]
    assert "findings reject" not in text(refuted)
    assert "findings reject" in text({})


def test_a_finding_that_could_not_be_proven_says_why_and_offers_no_test() -> None:
    proof = PROVEN | {"status": "inconclusive", "reason": "the test fails at random"}
    shown = text({"proof": proof, "grounded": "verified"})
    assert "  not proven: the test fails at random\n" in shown
    assert "add the test with" not in shown


@pytest.mark.parametrize("hostile", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("status", ["proven", "refuted", "inconclusive"])
def test_hostile_text_of_a_proof_hides_nothing(hostile: str, status: str) -> None:
    proof = PROVEN | {"reason": hostile, "command": hostile, "status": status}
    assert hidden_characters(text({"proof": proof})) <= {"\n", "\t", "\ufe0f"}
