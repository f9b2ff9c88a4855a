"""Kind 2, a review, after the run: the reply parsed, its evidence checked, and the envelope made of it."""

from __future__ import annotations

import os
import re
import time

from codex_counsel.contract.envelope import Coverage, Envelope, Finding, Meta, Rule
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.errors import CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.kind import EndedRun, failed_run, remove_scratch
from codex_counsel.review import reply as replies
from codex_counsel.review.grounding import (
    MAX_EVIDENCE,
    MAX_FRAGMENTS,
    MIN_EVIDENCE,
    ReviewedFiles,
)
from codex_counsel.review.record import ReviewRecord
from codex_counsel.review.remember import remember
from codex_counsel.review.reply import ReviewReply
from codex_counsel.review.suggestion import (
    Proposal,
    checked,
    dropped_note,
    take_proposals,
)
from codex_counsel.review.verdict import final_verdict
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, one_line, visible
from codex_counsel.system.time_limit import TimeLimitExceeded, time_limit

GROUNDING_SECONDS = 10
"""For checking all findings together: a reviewer may quote without end."""

_MARKUP = re.compile(r"[*_`]")
_ELLIPSIS = re.compile(r"\.{3,}|…")


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of a review. Prose instead of the JSON that was asked for is `unknown`, its text kept."""
    remove_scratch(ended)
    if ended.error:
        return failed_run(ended, ended.error)

    record = ReviewRecord(**ended.details["review"])
    coverage = Coverage(**record.coverage) if record.coverage else None
    text = ended.answer or ""
    reply = replies.parse_reply(
        text, plan=record.plan is not None, rules=bool(record.rules)
    )
    if reply is None:
        return _from_prose(ended, text, coverage)

    masked = mask_reply(reply)
    if masked:
        ended.meta.warnings.append(
            f"{masked} token-like strings were masked in the reply"
        )
    ended.meta.warnings += drop_unfounded_rules(reply, record)
    ground(reply, record, ended.meta)
    ended.meta.warnings += remember(ended, record, reply)
    return _from_reply(ended, reply, coverage, record)


def _from_prose(ended: EndedRun, text: str, coverage: Coverage | None) -> Envelope:
    """The envelope for a reply that is not the JSON of `reply_schema`."""
    answer, masked = mask(clean(text))
    ended.meta.warnings.append(
        "the reviewer answered in prose or broken JSON, so there is no verdict"
    )
    if masked:
        ended.meta.warnings.append(
            f"{masked} token-like strings were masked in the answer"
        )
    return Envelope(
        ok=True,
        status="completed",
        tool=ended.tool,
        summary=f"unknown: the reply is not the JSON that was asked for. {one_line(answer, 300)}",
        answer=answer,
        verdict="unknown",
        coverage=coverage,
        meta=ended.meta,
    )


def _from_reply(
    ended: EndedRun, reply: ReviewReply, coverage: Coverage | None, record: ReviewRecord
) -> Envelope:
    complete = coverage.complete if coverage else record.plan is not None
    cut_short = ended.meta.budget_reached is not None
    verdict, reasons = final_verdict(reply, complete=complete, cut_short=cut_short)
    ended.meta.warnings += [*reply.warnings, *reasons]
    findings = sorted(
        reply.findings, key=lambda finding: SEVERITIES.index(finding.severity)
    )
    return Envelope(
        ok=True,
        status="completed",
        tool=ended.tool,
        summary=_summary(verdict, findings, reply.summary),
        verdict=verdict,
        confidence=reply.confidence,
        findings=findings,
        questions=reply.questions,
        assumptions=reply.assumptions,
        next_steps=reply.next_steps,
        coverage=coverage,
        meta=ended.meta,
    )


def _summary(verdict: str, findings: list[Finding], words: str) -> str:
    counts = []
    for severity in SEVERITIES:
        count = sum(finding.severity == severity for finding in findings)
        if count:
            counts.append(f"{count} {severity}")
    return f"{verdict}: {', '.join(counts) or 'no findings'}. {one_line(words, 600)}"


def mask_reply(reply: ReviewReply) -> int:
    """Mask every text of the reply and return how many strings were masked.

    This comes before grounding, because the files that the evidence is compared with
    are masked as well.
    """
    total = 0

    def masked(text: str) -> str:
        nonlocal total
        result, count = mask(clean(text))
        total += count
        return result

    for finding in reply.findings:
        # Written out as in the material, so that it is found there, whether the
        # reviewer quotes the spelling or the character itself.
        if finding.evidence:
            finding.evidence = visible(finding.evidence)
        if finding.rule:
            quote = masked(visible(finding.rule.quote))
            finding.rule = Rule(file=masked(finding.rule.file), quote=quote)
        for name in ("title", "section", "evidence", "risk", "recommendation"):
            text = getattr(finding, name)
            if text:
                setattr(finding, name, masked(text))
    for name in ("questions", "assumptions", "next_steps", "warnings"):
        texts = getattr(reply, name)
        setattr(reply, name, [masked(text) for text in texts])
    reply.summary = masked(reply.summary)
    return total


def drop_unfounded_rules(reply: ReviewReply, record: ReviewRecord) -> list[str]:
    """Drop each rule that is not in the file that it names, as it was sent, and return the warnings. Findings stay."""
    sent = {}
    for rules in record.rules:
        sent[rules["file"]] = _normalized(_MARKUP.sub("", rules["text"]))
    dropped = 0
    for finding in reply.findings:
        if finding.rule is None:
            continue
        text = sent.get(finding.rule.file.removeprefix("./"), "")
        quote = _MARKUP.sub("", finding.rule.quote)
        if len(quote) > MAX_EVIDENCE or not _is_quoted_from(text, quote):
            finding.rule = None
            dropped += 1
    if not dropped:
        return []
    return [
        f"{dropped} findings name a rule that is not in the review rules sent: the name was dropped, the findings stay"
    ]


def ground(reply: ReviewReply, record: ReviewRecord, meta: Meta) -> None:
    """Check each finding's evidence against the reviewed state, within `GROUNDING_SECONDS`."""
    for finding in reply.findings:
        finding.grounded = "unverified"
    proposals = take_proposals(reply.findings)
    try:
        with time_limit(GROUNDING_SECONDS):
            _ground_all(reply, record, meta, proposals)
    except TimeLimitExceeded:
        message = f"not every finding could be checked against the files within {GROUNDING_SECONDS:g} seconds"
        meta.warnings.append(f"{message}: the rest is unverified")
    meta.warnings += dropped_note(proposals, reply.findings)


def _ground_all(
    reply: ReviewReply,
    record: ReviewRecord,
    meta: Meta,
    proposals: list[Proposal | None],
) -> None:
    deadline = time.monotonic() + GROUNDING_SECONDS
    repo, files = _open_reviewed_files(record, meta)
    for finding, proposal in zip(reply.findings, proposals, strict=True):
        # The alarm of `time_limit` rings in the main thread only; a reader may conclude
        # in another one.
        if time.monotonic() > deadline:
            raise TimeLimitExceeded
        if record.plan is None:
            _ground_in_files(finding, files)
        else:
            _ground_in_plan(finding, files, record.plan)
        if files and proposal and record.plan is None:
            finding.suggestion = checked(proposal, finding, files)

    if repo and record.plan is None and record.changes().moved(repo):
        meta.warnings.append(
            "the files changed while they were reviewed: the verdict is about the state that was sent"
        )


def _open_reviewed_files(
    record: ReviewRecord, meta: Meta
) -> tuple[Repo | None, ReviewedFiles | None]:
    """The reviewed state. None, with a warning, where it cannot be opened any more."""
    try:
        repo = record.repository(os.environ)
        return repo, ReviewedFiles(repo, record.changes())
    except (CounselError, OSError) as error:
        meta.warnings.append(
            f"the findings could not be checked against the files: {error}"
        )
        return None, None


def _ground_in_files(finding: Finding, files: ReviewedFiles | None) -> None:
    if files is None or not finding.file:
        return
    grounded = files.ground(
        finding.file, finding.line, finding.line_end, finding.evidence or ""
    )
    finding.grounded = grounded.grounded
    finding.line = grounded.line
    finding.line_end = grounded.line_end
    finding.in_diff = grounded.in_diff
    finding.file = files.name(finding.file)


def _ground_in_plan(finding: Finding, files: ReviewedFiles | None, plan: str) -> None:
    """A finding on a plan quotes a file of the repository, or the plan itself."""
    _ground_in_files(finding, files)
    finding.in_diff = None
    names_a_file = bool(
        files and finding.file and files.lines(finding.file) is not None
    )
    if not names_a_file and _is_quoted_from(_normalized(plan), finding.evidence):
        finding.grounded = "verified"


def _is_quoted_from(text: str, evidence: str | None) -> bool:
    """Whether the normalized text holds these words. Between the parts of a shortened quotation anything may stand.

    One of more parts than can be searched for is none.
    """
    parts = [_normalized(part) for part in _ELLIPSIS.split(evidence or "")]
    parts = [part for part in parts if part]
    if sum(map(len, parts)) < MIN_EVIDENCE or len(parts) > MAX_FRAGMENTS:
        return False
    return all(part in text for part in parts)


def _normalized(text: str) -> str:
    return " ".join(text.split()).strip("\"'“”`> .[]").lower()
