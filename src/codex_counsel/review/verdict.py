"""The verdict that remains of the one that a reviewer gave: `pass` has to be justified."""

from __future__ import annotations

from codex_counsel.contract.vocabulary import Severity, Verdict
from codex_counsel.review.reply import ReviewReply

GRAVE: tuple[Severity, ...] = ("critical", "high")


def final_verdict(
    reply: ReviewReply, *, complete: bool, cut_short: bool = False
) -> tuple[Verdict, list[str]]:
    """The verdict of the review, and why it differs from the reviewer's own. Only a `pass` is ever changed.

    `complete` says whether the reviewer was sent all of the change, `cut_short` whether it
    had to answer before it was done.
    """
    if reply.verdict != "pass":
        return reply.verdict, []
    if any(finding.severity in GRAVE for finding in reply.findings):
        return "concerns", [
            "the reviewer said pass beside a critical or high finding: concerns"
        ]
    if not reply.matches_schema:
        return "unknown", [
            "the reviewer said pass in a reply that breaks the schema: unknown"
        ]
    if cut_short:
        return "unknown", [
            "the reviewer said pass, but its tokens were used up before it was done: unknown"
        ]
    if not complete:
        return "unknown", [
            "the reviewer said pass, but not all of the change was seen: unknown"
        ]
    return "pass", []
