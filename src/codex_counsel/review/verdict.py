"""The verdict that remains of the one that a reviewer gave: `pass` has to be justified."""

from __future__ import annotations

from collections.abc import Sequence

from codex_counsel.contract.envelope import Finding
from codex_counsel.contract.vocabulary import Severity, Verdict
from codex_counsel.review.reply import ReviewReply

GRAVE: tuple[Severity, ...] = ("critical", "high")
_GRAVITY: tuple[Verdict, ...] = ("pass", "concerns", "unknown", "fail")
"""Verdicts, the worst last."""


def final_verdict(
    reply: ReviewReply,
    *,
    complete: bool,
    cut_short: bool = False,
    blind: bool = False,
    carried: Sequence[Finding] = (),
) -> tuple[Verdict, list[str]]:
    """The verdict of the review, and why it differs from the reviewer's own.

    Findings that are settled are left out. `complete` says whether reviewers were
    sent all of the change, `cut_short` whether this one had to answer before it was done.
    `carried` are findings of earlier reviews that still stand: they can make the verdict
    worse only. `blind`: there may be others, in what was not sent again.
    """
    verdict, reasons = _without_rejected(reply)
    if verdict == "pass":
        verdict, doubts = _justified_pass(reply, complete=complete, cut_short=cut_short)
        reasons += doubts
    # Concerns below the bar would pass a gate as well.
    if verdict in ("pass", "concerns") and blind:
        reasons.append(
            f"the verdict was {verdict}, but the open findings of earlier reviews could not be looked up: unknown"
        )
        verdict = "unknown"
    implied = _implied(carried)
    if _GRAVITY.index(implied) > _GRAVITY.index(verdict):
        reasons.append(
            f"the verdict {verdict} became {implied}, because findings of earlier reviews still stand"
        )
        verdict = implied
    return verdict, reasons


def _without_rejected(reply: ReviewReply) -> tuple[Verdict, list[str]]:
    """The reviewer's verdict as far as it does not rest on findings that do not count."""
    dropped = [finding for finding in reply.findings if finding.is_settled]
    rejected = {finding.severity for finding in dropped}
    others = {finding.severity for finding in reply.findings if not finding.is_settled}
    said = f"the reviewer said {reply.verdict}"
    if reply.verdict not in ("concerns", "fail") or not rejected - {"nit"}:
        return reply.verdict, []
    why = _why_dropped(dropped)
    if not others - {"nit"}:
        return "pass", [f"{said}, but what it rests on was {why}: pass"]
    is_grave = not rejected.isdisjoint(GRAVE)
    if reply.verdict == "fail" and is_grave and others.isdisjoint(GRAVE):
        return "concerns", [
            f"{said}, but the critical and high findings were {why}: concerns"
        ]
    return reply.verdict, []


def _why_dropped(dropped: Sequence[Finding]) -> str:
    refuted = sum(finding.is_refuted for finding in dropped)
    if not refuted:
        return "rejected earlier"
    if refuted == len(dropped):
        return "refuted by a test"
    return "rejected earlier or refuted by a test"


def _justified_pass(
    reply: ReviewReply, *, complete: bool, cut_short: bool
) -> tuple[Verdict, list[str]]:
    """What remains of a `pass`, and why."""
    for finding in reply.findings:
        if finding.severity in GRAVE and not finding.is_settled:
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


def _implied(carried: Sequence[Finding]) -> Verdict:
    """The best verdict that these findings allow."""
    severities = {finding.severity for finding in carried}
    if not severities.isdisjoint(GRAVE):
        return "fail"
    if severities - {"nit"}:
        return "concerns"
    return "pass"
