"""A review and the ledger of findings: each finding gets its id and what was known of it, and the record its news."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.contract.envelope import Finding, Proof, Resolved
from codex_counsel.errors import CounselError
from codex_counsel.findings.identity import recorded_path
from codex_counsel.findings.ledger import Ledger
from codex_counsel.findings.matching import (
    MAX_NEW,
    Raised,
    Review,
    Settlement,
    Standing,
    settle,
)

if TYPE_CHECKING:
    from codex_counsel.contract.vocabulary import Grounding, Known
    from codex_counsel.findings.entry import Entry
    from codex_counsel.kind import EndedRun
    from codex_counsel.review.quotations import Quotation
    from codex_counsel.review.record import ReviewRecord
    from codex_counsel.review.standing import Look


@dataclass
class OnRecord:
    """What the ledger says of a review.

    `kept`: all of its findings are on record. `blind`: the review was sent only what is new,
    and nobody knows whether findings in the rest are open.
    """

    carried: list[Finding] = field(default_factory=list)
    resolved: list[Resolved] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: bool = False
    blind: bool = False


def entries_on_record(record: ReviewRecord) -> dict[str, Entry]:
    """The findings on record. Raises `storage_failed`."""
    if not record.ledger:
        return {}
    return Ledger(Path(record.ledger)).read().entries


def put_on_record(
    findings: Sequence[Finding],
    quotations: Mapping[int, Quotation],
    record: ReviewRecord,
    look: Look,
    ended: EndedRun,
) -> OnRecord:
    """Give each finding its id and, where a ledger is kept, what was known of it; and write the ledger.

    `quotations` are those of the findings with these positions. Where the ledger cannot be
    written, findings have ids all the same, and a warning says so.
    """
    raised = _raised(findings, quotations, record)
    review = Review(
        job=ended.directory.name,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        thread=ended.meta.session_id,
        head=look.head,
        branch=look.branch,
        line_of_history=look.line_of_history,
        relied_on=look.relied_on,
        standings=look.standings,
        carries=record.since == "last",
        resolves=look.resolves and ended.meta.budget_reached is None,
    )
    if not record.ledger:
        _give_ids(findings, settle(raised, {}, review))
        return OnRecord()
    ledger = Ledger(Path(record.ledger))
    try:
        with ledger.changing() as changing:
            entries = changing.findings.entries
            settlement = settle(raised, entries, review)
            for entry in settlement.changed:
                changing.put(entry)
    # A finding that could not be read back must not cost the others either.
    except (CounselError, ValueError) as error:
        _give_ids(findings, settle(raised, {}, review))
        warning = f"the findings are not on record: {error}"
        return OnRecord(warnings=[warning], blind=review.carries)
    _give_ids(findings, settlement)
    _tell_known(findings, settlement)
    on_record = _on_record(settlement, review)
    is_clear = look.complete and not changing.findings.unclear
    on_record.blind = review.carries and not is_clear
    if changing.findings.damaged:
        on_record.warnings.append(
            f"{changing.findings.damaged} lines of the record of findings cannot be read: {ledger.file}"
        )
    return on_record


def note_refuted(findings: Sequence[Finding], record: ReviewRecord) -> list[str]:
    """Put on record which findings a test has refuted, and return the warnings.

    They keep their severity there: it holds again as soon as a review raises them again.
    """
    jobs = {}
    for finding in findings:
        if finding.id and finding.proof and finding.is_refuted:
            jobs[finding.id] = finding.proof.job_id
    if not jobs or not record.ledger:
        return []
    try:
        with Ledger(Path(record.ledger)).changing() as changing:
            entries = changing.findings.entries
            for finding_id in jobs.keys() & entries.keys():
                entry = replace(entries[finding_id], refuted_by=jobs[finding_id])
                changing.put(entry)
    except (CounselError, ValueError) as error:
        return [f"it is not on record which findings were refuted: {error}"]
    return []


def _raised(
    findings: Sequence[Finding],
    quotations: Mapping[int, Quotation],
    record: ReviewRecord,
) -> list[Raised]:
    """The findings as they are compared with those on record."""
    old_names: dict[str, str] = {}
    if record.frame is not None:
        for changed in record.changes().entries:
            if changed.status == "R":
                old_path = changed.old_path or ""
                old_names[recorded_path(changed.path)] = recorded_path(old_path)
    raised: list[Raised] = []
    for index, finding in enumerate(findings):
        quotation = quotations.get(index)
        file = finding.file
        if file is not None:
            file = recorded_path(file)
        common = Raised(
            severity=finding.severity,
            category=finding.category or "other",
            title=finding.title,
            file=file,
            old_file=old_names.get(file or ""),
            line=finding.line,
            words=_words(finding),
            risk=finding.risk,
            recommendation=finding.recommendation,
            plan=record.plan_name,
        )
        if quotation is not None:
            common = common.quoting(
                quotation.words,
                copy=quotation.copy,
                copies=quotation.copies,
                removed=quotation.removed,
            )
        raised.append(common)
    return raised


def _words(finding: Finding) -> str:
    """What the id of a finding rests on that quotes nothing which was found."""
    if finding.file and finding.evidence:
        return finding.evidence
    return finding.section or finding.title


def _give_ids(findings: Sequence[Finding], settlement: Settlement) -> None:
    for finding, (entry, _) in zip(findings, settlement.raised, strict=True):
        finding.id = entry.id


def _tell_known(findings: Sequence[Finding], settlement: Settlement) -> None:
    for finding, (entry, known) in zip(findings, settlement.raised, strict=True):
        finding.known = known
        finding.severity = entry.severity
        if known == "rejected":
            finding.reason = _reason(entry)


def _reason(entry: Entry) -> str | None:
    """Why it was rejected, and who said so: the words of a caller."""
    if entry.by is None:
        return entry.reason
    return f"{entry.reason or 'no reason'} (said by {entry.by})"


def _on_record(settlement: Settlement, review: Review) -> OnRecord:
    carried = [
        _carried(entry, known, standing)
        for entry, known, standing in settlement.carried
    ]
    resolved = [
        Resolved(
            id=entry.id,
            state=entry.state,
            severity=entry.severity,
            title=entry.title,
            file=entry.file,
        )
        for entry in settlement.resolved
    ]
    new = sum(known == "new" for _, known in settlement.raised)
    on_record = OnRecord(carried, resolved, kept=new <= MAX_NEW)
    if new > MAX_NEW:
        on_record.warnings.append(
            f"of {new} new findings, the first {MAX_NEW} are on record"
        )
    if settlement.not_raised:
        places = "in files of this change"
        if review.carries:
            places = "without a place"
        on_record.warnings.append(
            f"open findings of earlier reviews {places} that were not raised again: {settlement.not_raised}; "
            "`codex-counsel findings` lists them"
        )
    return on_record


def _carried(entry: Entry, known: Known, standing: Standing) -> Finding:
    """A finding of an earlier review that still counts."""
    grounded: Grounding = "unverified"
    if entry.quotes:
        grounded = "verified"
    severity, proof = entry.severity, None
    if entry.refuted_by and entry.state != "accepted":
        severity = "nit"
        reason = "a test refuted it in an earlier review"
        proof = Proof(status="refuted", reason=reason, job_id=entry.refuted_by)
    return Finding(
        id=entry.id,
        severity=severity,
        proof=proof,
        title=entry.title,
        category=entry.category,
        known=known,
        carried=True,
        file=entry.file,
        line=standing.line or entry.line,
        line_end=standing.line_end,
        evidence=entry.words.replace("\n\n", "\n...\n"),
        risk=entry.risk,
        recommendation=entry.recommendation,
        grounded=grounded,
        in_diff=standing.in_change,
    )
