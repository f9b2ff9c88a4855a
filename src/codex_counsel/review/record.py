"""What a review rests on, kept with its job; and the envelope that a reviewer's reply earns."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codex_counsel.contract.envelope import Coverage, Envelope, Finding, Meta, Omission
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.errors import Code, CounselError
from codex_counsel.git.repo import Repo
from codex_counsel.review import reply as findings
from codex_counsel.review.changes.changes import Changes
from codex_counsel.review.changes.comparison import Comparison
from codex_counsel.review.changes.model import ChangedFile, Scope
from codex_counsel.review.grounding import MIN_EVIDENCE, ReviewedFiles
from codex_counsel.review.reply import Reply
from codex_counsel.system import redact
from codex_counsel.system.text import one_line, size
from codex_counsel.system.time_limit import TimeLimitExceeded, time_limit

MAX_OMITTED = 200
MAX_OMITTED_BYTES = 12_000
"""Of the names listed: the list rides in every page of a result."""
GROUNDING_SECONDS = 10
"""For all findings together: a reviewer may quote without end."""
_BYTES = ("raw", "old_raw")


@dataclass(frozen=True)
class ReviewRecord:
    """JSON-ready. `scope` and `frame` name the reviewed state; a plan outside git has none.

    `sent` is a digest of the material, by which a follow-up knows that its thread has it already.
    """

    workspace: str
    coverage: dict[str, Any] | None = None
    scope: dict[str, Any] | None = None
    frame: dict[str, Any] | None = None
    entries: list[dict[str, Any]] | None = None
    fingerprint: str = ""
    sent: str = ""
    plan: str | None = None

    @classmethod
    def of_changes(cls, repo: Repo, changes: Changes) -> ReviewRecord:
        return cls(
            workspace=str(repo.workspace),
            coverage=asdict(coverage(changes)),
            scope=asdict(changes.scope),
            frame=asdict(changes.frame),
            entries=[_packed(entry) for entry in changes.entries],
            fingerprint=changes.fingerprint,
            sent=digest(changes),
        )

    @classmethod
    def of_plan(cls, workspace: Path, plan: str, head: str | None) -> ReviewRecord:
        frame = asdict(Comparison("working_tree", base=head, whole=True))
        return cls(str(workspace), scope=asdict(Scope("files")), frame=frame, entries=[], plan=plan)

    def repository(self) -> Repo:
        if self.frame is None:
            raise CounselError(Code.NOT_A_GIT_REPO, "the workspace is in no repository that may be read")
        return Repo.open(Path(self.workspace))

    def changes(self) -> Changes:
        """As gathered, but for the diff itself."""
        scope = Scope(**{**(self.scope or {}), "paths": tuple((self.scope or {}).get("paths", ()))})
        entries = tuple(_unpacked(entry) for entry in self.entries or ())
        return Changes(scope, Comparison(**(self.frame or {})), entries, b"", (), 0, (), self.fingerprint)


def digest(changes: Changes) -> str:
    return hashlib.sha256(changes.diff).hexdigest()


def _packed(entry: ChangedFile) -> dict[str, Any]:
    """JSON knows no bytes: Latin-1 keeps each as one character."""
    raw = {name: value.decode("latin-1") for name in _BYTES if (value := getattr(entry, name)) is not None}
    return asdict(entry) | raw


def _unpacked(packed: dict[str, Any]) -> ChangedFile:
    raw = {name: packed[name].encode("latin-1") for name in _BYTES if packed.get(name) is not None}
    pairs = {name: tuple(packed[name]) for name in ("modes", "sides")}
    return ChangedFile(**{**packed, **raw, **pairs})


def coverage(changes: Changes) -> Coverage:
    """What was really sent, and what was not."""
    listed: list[Omission] = []
    room = MAX_OMITTED_BYTES
    for omitted in changes.omitted[:MAX_OMITTED]:
        room -= size(omitted.path)
        if room < 0:
            break
        listed.append(Omission(path=omitted.path, reason=str(omitted.reason), bytes=omitted.bytes))
    if rest := changes.omitted[len(listed) :]:
        more = f"(and {len(rest)} more)"
        listed.append(Omission(path=more, reason="listing", bytes=sum(omitted.bytes for omitted in rest)))
    return Coverage(
        base_sha=changes.base_sha,
        head_sha=changes.head_sha,
        files=len(changes.entries),
        bytes=len(changes.diff),
        omitted=listed,
        redactions=changes.redactions,
        complete=changes.complete,
    )


def answered(tool: str, text: str, basis: ReviewRecord, meta: Meta) -> Envelope:
    """The envelope of a completed review. Prose instead of the schema is `unknown`, its text kept."""
    seen = Coverage(**basis.coverage) if basis.coverage else None
    reply = findings.read(text, plan=basis.plan is not None)
    if reply is None:
        return _prose(tool, text, seen, meta)
    if count := _mask(reply):
        meta.warnings.append(f"{count} token-like strings were masked in the reply")
    _ground(reply, basis, meta)
    return _judged(tool, reply, seen, basis, meta)


def _prose(tool: str, text: str, seen: Coverage | None, meta: Meta) -> Envelope:
    answer, count = redact.mask(text)
    meta.warnings.append("the reviewer answered in prose or broken JSON: no verdict can rest on it")
    if count:
        meta.warnings.append(f"{count} token-like strings were masked in the answer")
    return Envelope(
        ok=True,
        status="completed",
        tool=tool,
        summary=f"unknown: the reply is not the JSON that was asked for. {one_line(answer, 300)}",
        answer=answer,
        verdict="unknown",
        coverage=seen,
        meta=meta,
    )


def _judged(tool: str, reply: Reply, seen: Coverage | None, basis: ReviewRecord, meta: Meta) -> Envelope:
    verdict, reasons = findings.earned(reply, complete=seen.complete if seen else basis.plan is not None)
    ranked = sorted(reply.findings, key=lambda finding: SEVERITIES.index(finding.severity))
    meta.warnings += reply.warnings + reasons
    return Envelope(
        ok=True,
        status="completed",
        tool=tool,
        summary=_summary(verdict, ranked, reply.summary),
        verdict=verdict,
        confidence=reply.confidence,
        findings=ranked,
        questions=reply.questions,
        assumptions=reply.assumptions,
        next_steps=reply.next_steps,
        coverage=seen,
        meta=meta,
    )


def _summary(verdict: str, ranked: list[Finding], words: str) -> str:
    counts = {name: sum(finding.severity == name for finding in ranked) for name in SEVERITIES}
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no findings"
    return f"{verdict}: {listed}. {one_line(words, 600)}"


def _mask(reply: Reply) -> int:
    """Mask every text of the reply, before it is held against files that are masked as well."""
    total = 0

    def masked(text: str) -> str:
        nonlocal total
        text, count = redact.mask(text)
        total += count
        return text

    for finding in reply.findings:
        for name in ("title", "section", "evidence", "risk", "recommendation"):
            if text := getattr(finding, name):
                setattr(finding, name, masked(text))
    for name in ("questions", "assumptions", "next_steps", "warnings"):
        setattr(reply, name, [masked(text) for text in getattr(reply, name)])
    reply.summary = masked(reply.summary)
    return total


def _ground(reply: Reply, basis: ReviewRecord, meta: Meta) -> None:
    """Hold each finding against the reviewed state; where that cannot be opened any more, say so."""
    for finding in reply.findings:
        finding.grounded = "unverified"
    try:
        with time_limit(GROUNDING_SECONDS):
            _ground_all(reply, basis, meta)
    except TimeLimitExceeded:
        words = f"not every finding could be checked against the files within {GROUNDING_SECONDS:g} seconds"
        meta.warnings.append(f"{words}: the rest is unverified")


def _ground_all(reply: Reply, basis: ReviewRecord, meta: Meta) -> None:
    end = time.monotonic() + GROUNDING_SECONDS
    repo, reviewed = None, None
    try:
        repo = basis.repository()
        reviewed = ReviewedFiles(repo, basis.changes())
    except (CounselError, OSError) as error:
        meta.warnings.append(f"the findings could not be checked against the files: {error}")
    for finding in reply.findings:
        if time.monotonic() > end:  # also where no alarm rings
            raise TimeLimitExceeded
        _ground_one(finding, reviewed, basis)
    if repo and basis.plan is None and basis.changes().moved(repo):
        meta.warnings.append("the files changed while they were reviewed: the verdict is about the state that was sent")


def _ground_one(finding: Finding, reviewed: ReviewedFiles | None, basis: ReviewRecord) -> None:
    if reviewed and finding.file:
        found = reviewed.ground(finding.file, finding.line, finding.line_end, finding.evidence or "")
        finding.grounded, finding.line, finding.line_end = found.grounded, found.line, found.line_end
        finding.file = reviewed.name(finding.file)
        finding.in_diff = found.in_diff if basis.plan is None else None
    if basis.plan is not None and not _names_a_file(finding, reviewed) and _stands_in(basis.plan, finding.evidence):
        finding.grounded = "verified"


def _names_a_file(finding: Finding, reviewed: ReviewedFiles | None) -> bool:
    return bool(reviewed and finding.file and reviewed.lines(finding.file) is not None)


def _stands_in(plan: str, evidence: str | None) -> bool:
    """Whether the plan says these words; between the parts of a shortened quotation anything may stand."""
    parts = [words for part in re.split(r"\.{3,}|…", evidence or "") if (words := _words(part))]
    return sum(map(len, parts)) >= MIN_EVIDENCE and all(part in _words(plan) for part in parts)


def _words(text: str) -> str:
    return " ".join(text.split()).strip("\"'“”`> .[]").lower()
