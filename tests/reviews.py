"""What tests of reviews share: a reviewer's reply, calls of the tools, and the parts of a prompt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import DryRun, ReviewChanges, ReviewPlan, parse
from tests.conftest import wait

if TYPE_CHECKING:
    from codex_counsel.services.counsel import Counsel

TOKEN = "ghp_" + "a1B2c3D4e5" * 4
FINDING: dict[str, Any] = {
    "severity": "medium",
    "category": "logic",
    "title": "The seventh line is wrong",
    "file": "app.py",
    "line": 7,
    "line_end": None,
    "evidence": "seven = 70",
    "risk": "Seven is not seventy.",
    "recommendation": "Write 7.",
    "replace_from": None,
    "replace_to": None,
    "replacement": None,
}


def reply(
    *findings: dict[str, Any], verdict: str = "pass", **changes: Any
) -> dict[str, Any]:
    """A reviewer's reply that matches the schema; each finding is what differs from `FINDING`.

    One with a `section` is about a plan, and proposes no replacement.
    """
    answer: dict[str, Any] = {
        "summary": "Read it all.",
        "verdict": verdict,
        "confidence": "high",
    }
    answer["findings"] = [_finding(finding) for finding in findings]
    return {**answer, "questions": [], "assumptions": [], "next_steps": [], **changes}


def _finding(changes: dict[str, Any]) -> dict[str, Any]:
    finding = FINDING | changes
    if "section" in changes:
        for name in ("replace_from", "replace_to", "replacement"):
            del finding[name]
    return finding


def review(counsel: Counsel, **arguments: Any) -> EnvelopeDict:
    """Review changes and wait, and return the envelope as it is delivered."""
    handle = counsel.review_changes(parse(ReviewChanges, arguments))
    return counsel.deliver(handle, wait(handle))


def review_plan(counsel: Counsel, **arguments: Any) -> EnvelopeDict:
    handle = counsel.review_plan(parse(ReviewPlan, arguments))
    return counsel.deliver(handle, wait(handle))


def dry_run(counsel: Counsel, **arguments: Any) -> EnvelopeDict:
    return counsel.dry_run(parse(DryRun, arguments))


def material(prompt: str, name: str) -> str | None:
    """The last material of this name in a prompt, or None."""
    blocks: list[tuple[str, str]] = re.findall(
        rf'^<material id="([0-9a-f]{{12}})" from="{re.escape(name)}">\n(.*?)\n</material \1>$',
        prompt,
        re.DOTALL | re.MULTILINE,
    )
    return blocks[-1][1] if blocks else None


def criteria(prompt: str) -> list[tuple[str, str, str]]:
    """From, for and text of each block of criteria that stands in no other block of a prompt."""
    blocks: list[tuple[str, str, str, str, str]] = re.findall(
        r'^<(criteria|material) id="([0-9a-f]{12})" from="([^"]*)"(?: for="([^"]*)")?>\n(.*?)\n</\1 \2>$',
        prompt,
        re.DOTALL | re.MULTILINE,
    )
    return [
        (name, folder, text)
        for kind, _, name, folder, text in blocks
        if kind == "criteria"
    ]


FILES, LACKING = (
    "the files of the change",
    "what the text of the change lacks, or has only in part",
)


def change(prompt: str) -> str:
    """The text of the change in a prompt."""
    text = material(prompt, "the change")
    assert text is not None
    return text
