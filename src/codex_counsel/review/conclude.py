"""Kind 2, a review, after the run: the reply parsed, its evidence checked, and the envelope made of it."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from codex_counsel.contract.envelope import Coverage, Envelope, Finding, Meta, Rule
from codex_counsel.contract.vocabulary import PROOF_STATUSES, SEVERITIES
from codex_counsel.errors import CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.kind import MASKED, EndedRun, failed_run, remove_scratch
from codex_counsel.review import reply as replies
from codex_counsel.review.bars import add_bars
from codex_counsel.review.grounding import ReviewedFiles
from codex_counsel.review.on_record import (
    OnRecord,
    entries_on_record,
    note_refuted,
    put_on_record,
)
from codex_counsel.review.proofs import add_proofs, lower_refuted, tokens_of
from codex_counsel.review.quotations import (
    MAX_EVIDENCE,
    PlanText,
    Quotation,
    is_quoted_from,
    loosely_normalized,
)
from codex_counsel.review.record import ReviewRecord
from codex_counsel.review.remember import remember
from codex_counsel.review.reply import ReviewReply
from codex_counsel.review.standing import (
    Look,
    look_at_files,
    look_at_plan,
    reviewed_branch,
)
from codex_counsel.review.suggestion import (
    Proposal,
    checked,
    dropped_note,
    take_proposals,
)
from codex_counsel.review.testimony import Testimony
from codex_counsel.review.verdict import final_verdict
from codex_counsel.system.redact import mask
from codex_counsel.system.text import clean, one_line, visible
from codex_counsel.system.time_limit import TimeLimitExceeded, time_limit

GROUNDING_SECONDS = 12
"""For checking all findings together: a reviewer may quote without end. A cancel waits a little longer for it."""

_MARKUP = re.compile(r"[*_`]")


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of a review. Prose instead of the JSON that was asked for is `unknown`, its text kept."""
    remove_scratch(ended)
    if ended.error:
        return failed_run(ended, ended.error)
    return conclude_reply(ended, ReviewRecord.from_json(ended.details["review"]))


def conclude_reply(
    ended: EndedRun, record: ReviewRecord, testimony: Testimony | None = None
) -> Envelope:
    """The envelope of a completed run. `testimony` is that of another machine, where the run was."""
    coverage = Coverage(**record.coverage) if record.coverage else None
    text = ended.answer or ""
    reply = replies.parse_reply(
        text, plan=record.plan is not None, rules=bool(record.rules)
    )
    if reply is None:
        return _from_prose(ended, text, coverage)

    on_record = check_reply(reply, record, ended, testimony)
    # What was seen is not sent again, so what was found in it must not be lost.
    if on_record.kept:
        ended.meta.warnings += remember(ended, record, reply)
    if record.prove:
        ended.meta.warnings += add_proofs(reply.findings, ended)
        ended.meta.warnings += note_refuted(reply.findings, record)
        ended.meta.usage_proofs = tokens_of(ended.children)
    return _from_reply(ended, reply, coverage, record, on_record)


def check_reply(
    reply: ReviewReply,
    record: ReviewRecord,
    ended: EndedRun,
    testimony: Testimony | None = None,
) -> OnRecord:
    """Mask the reply, sort its findings by severity, compare them with the reviewed state and put them on record.

    Warnings go to the `meta` of the run. Calling it again changes nothing.
    """
    masked = mask_reply(reply)
    if masked:
        ended.meta.warnings.append(
            f"{masked} token-like strings were masked in the reply"
        )
    ended.meta.warnings += drop_unfounded_rules(reply, record)
    reply.findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    quotations, look = ground(reply, record, ended.meta, testimony)
    on_record = put_on_record(reply.findings, quotations, record, look, ended)
    ended.meta.warnings += on_record.warnings
    return on_record


def _from_prose(ended: EndedRun, text: str, coverage: Coverage | None) -> Envelope:
    """The envelope for a reply that is not the JSON of `reply_schema`."""
    answer, masked = mask(clean(text))
    ended.meta.warnings.append(
        "the reviewer answered in prose or broken JSON, so there is no verdict"
    )
    if masked:
        ended.meta.warnings.append(f"{masked} {MASKED}")
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
    ended: EndedRun,
    reply: ReviewReply,
    coverage: Coverage | None,
    record: ReviewRecord,
    on_record: OnRecord,
) -> Envelope:
    complete = coverage.complete if coverage else record.plan is not None
    cut_short = ended.meta.budget_reached is not None
    verdict, reasons = final_verdict(
        reply,
        complete=complete,
        cut_short=cut_short,
        blind=on_record.blind,
        carried=on_record.carried,
    )
    ended.meta.warnings += [*reply.warnings, *reasons]
    lower_refuted(reply.findings)
    findings = [*reply.findings, *on_record.carried]
    findings.sort(key=_rank)
    ended.meta.warnings += add_bars(findings, record)
    return Envelope(
        ok=True,
        status="completed",
        tool=ended.tool,
        summary=_summary(verdict, findings, len(on_record.resolved), reply.summary),
        verdict=verdict,
        confidence=reply.confidence,
        findings=findings,
        resolved=on_record.resolved or None,
        questions=reply.questions,
        assumptions=reply.assumptions,
        next_steps=reply.next_steps,
        coverage=coverage,
        meta=ended.meta,
    )


def _rank(finding: Finding) -> tuple[bool, int]:
    """What counts comes first, and of that the gravest."""
    return finding.is_settled, SEVERITIES.index(finding.severity)


def _summary(verdict: str, findings: list[Finding], resolved: int, words: str) -> str:
    carried = sum(bool(finding.carried) for finding in findings)
    rejected = sum(finding.is_rejected for finding in findings)
    raised = Counter(
        finding.severity
        for finding in findings
        if not finding.carried and not finding.is_settled
    )
    listed_counts = [
        f"{raised[severity]} {severity}" for severity in SEVERITIES if raised[severity]
    ]
    if rejected:
        listed_counts.append(f"{rejected} rejected earlier")
    if carried:
        listed_counts.append(f"{carried} carried over")
    listed = ", ".join(listed_counts) or "no findings"
    proofs = Counter(finding.proof.status for finding in findings if finding.proof)
    if proofs:
        told = [
            f"{proofs[status]} {status}" for status in PROOF_STATUSES if proofs[status]
        ]
        listed = f"{listed}; {', '.join(told)}"
    if resolved:
        listed = f"{listed}; resolved: {resolved}"
    return f"{verdict}: {listed}. {one_line(words, 600)}"


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
        sent[rules["file"]] = loosely_normalized(_MARKUP.sub("", rules["text"]))
    dropped = 0
    for finding in reply.findings:
        if finding.rule is None:
            continue
        text = sent.get(finding.rule.file.removeprefix("./"), "")
        quote = _MARKUP.sub("", finding.rule.quote)
        if len(quote) > MAX_EVIDENCE or not is_quoted_from(text, quote):
            finding.rule = None
            dropped += 1
    if not dropped:
        return []
    return [
        f"{dropped} findings name a rule that is not in the review rules sent: the name was dropped, the findings stay"
    ]


def ground(
    reply: ReviewReply,
    record: ReviewRecord,
    meta: Meta,
    testimony: Testimony | None = None,
) -> tuple[dict[int, Quotation], Look]:
    """Check the findings, and those on record, against the reviewed state, within `GROUNDING_SECONDS`.

    Returns what the findings quote, by their positions, and what was found out about
    those on record. `testimony` is heard where the reviewed state is not here.
    """
    for finding in reply.findings:
        finding.grounded = "unverified"
    proposals = take_proposals(reply.findings)
    quotations: dict[int, Quotation] = {}
    look = Look()
    repo = None
    deadline = time.monotonic() + GROUNDING_SECONDS
    try:
        with time_limit(GROUNDING_SECONDS):
            state = _open_reviewed_state(record, meta, deadline)
            repo = state.repo
            look = reviewed_branch(record, repo)
            # One by one: what was found stays when the time is over.
            quotations.update(_ground_all(reply, state, proposals))
            _look_at_record(look, record, state)
            # Of files on disk only the machine that made them can tell.
            if testimony is None and state.moved(record):
                meta.warnings.append(
                    "the files changed while they were reviewed: the verdict is about the state that was sent"
                )
    except TimeLimitExceeded:
        meta.warnings.append(
            f"the checks against the files were ended after {GROUNDING_SECONDS:g} seconds: "
            "not every finding could be checked, and the rest is unverified; nor was all on record looked for"
        )
    if testimony:
        meta.warnings += testimony.fill_in(reply.findings, record, repo)
    meta.warnings += dropped_note(proposals, reply.findings)
    return quotations, look


@dataclass(frozen=True)
class _ReviewedState:
    """What findings are compared with: files, None where these cannot be read, or the text of a plan, or both.

    `deadline` is the time (monotonic) at which the comparing ends.
    """

    repo: Repo | None
    files: ReviewedFiles | None
    plan: PlanText | None
    deadline: float

    def moved(self, record: ReviewRecord) -> bool:
        """Whether the files are others by now."""
        if self.repo is None or self.plan is not None:
            return False
        return record.changes().moved(self.repo)


def _ground_all(
    reply: ReviewReply, state: _ReviewedState, proposals: list[Proposal | None]
) -> Iterator[tuple[int, Quotation]]:
    """Yields what the findings quote, with their positions. Raises TimeLimitExceeded."""
    for index, finding in enumerate(reply.findings):
        # The alarm of `time_limit` rings in the main thread only; a reader may conclude
        # in another one.
        if time.monotonic() > state.deadline:
            raise TimeLimitExceeded
        if state.plan is None:
            quotation = _ground_in_files(finding, state.files)
        else:
            quotation = _ground_in_plan(finding, state.files, state.plan)
        if quotation:
            yield index, quotation
        proposal = proposals[index]
        if state.files and proposal and state.plan is None:
            finding.suggestion = checked(proposal, finding, state.files)


def _look_at_record(look: Look, record: ReviewRecord, state: _ReviewedState) -> None:
    try:
        entries = entries_on_record(record)
    except CounselError:
        # It is told when the findings are put on record.
        return
    if state.plan is not None:
        look_at_plan(look, entries, state.plan, record.plan_name)
    elif state.files:
        look_at_files(look, entries, record, state.files, state.deadline)


def _open_reviewed_state(
    record: ReviewRecord, meta: Meta, deadline: float
) -> _ReviewedState:
    plan = None
    if record.plan is not None:
        plan = PlanText(record.plan)
    repo, files = _open_reviewed_files(record, meta)
    return _ReviewedState(repo, files, plan, deadline)


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


def _ground_in_files(finding: Finding, files: ReviewedFiles | None) -> Quotation | None:
    if files is None or not finding.file:
        return None
    grounded = files.ground(
        finding.file, finding.line, finding.line_end, finding.evidence or ""
    )
    finding.grounded = grounded.grounded
    finding.line = grounded.line
    finding.line_end = grounded.line_end
    finding.in_diff = grounded.in_diff
    finding.file = files.name(finding.file)
    return grounded.quotation


def _ground_in_plan(
    finding: Finding, files: ReviewedFiles | None, plan: PlanText
) -> Quotation | None:
    """A finding on a plan quotes a file of the repository, or the plan itself."""
    quotation = _ground_in_files(finding, files)
    finding.in_diff = None
    names_a_file = bool(
        files and finding.file and files.lines(finding.file) is not None
    )
    if names_a_file:
        return quotation
    quotation = plan.quotation(finding.evidence)
    if quotation:
        finding.grounded = "verified"
    return quotation
