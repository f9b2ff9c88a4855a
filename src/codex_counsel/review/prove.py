"""A review with proofs, after its reply: one job for each finding that is to be proven.

Which job proves what is stored in `proofs.json` before the jobs start: whatever ends
the review then, what has been proven is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from codex_counsel.contract.envelope import Finding
from codex_counsel.contract.vocabulary import SEVERITIES
from codex_counsel.errors import CounselError
from codex_counsel.kind import ChildOutcome, EndedRun, Steps
from codex_counsel.prepare.prompt_parts import Material, fence, join_prompt
from codex_counsel.proof.record import Assignment, Assignments, ProofPlan
from codex_counsel.review import reply as replies
from codex_counsel.review.conclude import check_reply
from codex_counsel.review.record import ReviewRecord
from codex_counsel.system.text import cut

MAX_TEXT = 8_000
"""Bytes of each text of a finding that a prover is sent."""


def follow_up(ended: EndedRun, steps: Steps) -> None:
    """Start the proofs and wait for their end. What prevents them is noted in `proofs.json`, and costs nothing else."""
    record = ReviewRecord.from_json(ended.details["review"])
    # Before Codex started it was noted why there is nothing to start from.
    if record.prove is None or Assignments.load(ended.directory) is not None:
        return
    plan = ProofPlan.from_json(record.prove)
    reply = replies.parse_reply(ended.answer or "", rules=bool(record.rules))
    # Without `proofs.json` the result says that nothing was proven.
    with contextlib.suppress(OSError):
        if reply is None:
            Assignments().store(ended.directory)
            return
        check_reply(reply, record, ended)
        _start(reply.findings, plan, ended, steps)


def _start(
    findings: Sequence[Finding], plan: ProofPlan, ended: EndedRun, steps: Steps
) -> None:
    """Raises OSError."""
    chosen = choose(findings, plan.severities)
    notes = []
    if len(chosen) > len(plan.jobs):
        notes.append(
            f"proofs not tried: {len(chosen) - len(plan.jobs)}, because "
            f"one review tries {len(plan.jobs)} (CODEX_COUNSEL_MAX_PROOFS)"
        )
        chosen = chosen[: len(plan.jobs)]
    share = None
    if plan.max_tokens is not None and chosen:
        left = _tokens_left(plan.max_tokens, ended)
        affordable, share = shares(left, plan.least_tokens, len(chosen))
        if affordable < len(chosen):
            notes.append(
                f"proofs not tried: {len(chosen) - affordable}, because too few are left of the "
                f"{plan.max_tokens} tokens (max_tokens); a proof gets at least {plan.least_tokens}"
            )
            chosen = chosen[:affordable]

    jobs = []
    prompts = {}
    for job_id, index in zip(plan.jobs, chosen, strict=False):
        finding = findings[index]
        assignment = Assignment(
            job_id=job_id,
            finding=index,
            file=finding.file or "",
            line=finding.line,
            base=plan.base,
            suggestion=finding.suggestion,
        )
        jobs.append(assignment)
        prompts[job_id] = _prompt(plan, finding)
    Assignments(jobs=jobs, notes=notes).store(ended.directory)
    if not jobs:
        return
    try:
        outcomes = steps.run_jobs(list(prompts), prompts, share)
    except CounselError as error:
        notes.append(f"not everything was proven: {error}")
    else:
        notes += _why_not_started(outcomes)
    Assignments(jobs=jobs, notes=notes).store(ended.directory)


def _why_not_started(outcomes: Sequence[ChildOutcome]) -> list[str]:
    """A note for each reason why a job could not be started: no directory will tell it."""
    notes: dict[str, None] = {}
    for outcome in outcomes:
        error = outcome.envelope.get("error") or {}
        if error and not outcome.directory.is_dir():
            notes[f"a proof could not be started: {error['message']}"] = None
    return list(notes)


def choose(findings: Sequence[Finding], severities: Sequence[str]) -> list[int]:
    """The positions of the findings that are to be proven, the gravest first: of these severities and with a file.

    Those that are on record as rejected are not.
    """
    chosen = []
    for index, finding in enumerate(findings):
        if finding.severity in severities and finding.file and not finding.is_settled:
            chosen.append(index)
    chosen.sort(key=lambda index: SEVERITIES.index(findings[index].severity))
    return chosen


def shares(left: int, least: int, wanted: int) -> tuple[int, int | None]:
    """How many of the wanted proofs so many tokens are enough for, with `least` for each, and how many each gets."""
    affordable = min(wanted, left // least)
    if affordable <= 0:
        return 0, None
    return affordable, left // affordable


def _tokens_left(max_tokens: int, ended: EndedRun) -> int:
    used = ended.meta.usage
    if used is None:
        # Codex left no count: a limit could not be kept.
        return 0
    return max_tokens - used.input - used.output


def _prompt(plan: ProofPlan, finding: Finding) -> str:
    """The prompt of a prover. The finding is data, whatever it says."""
    change = ""
    if plan.base:
        change = f"The change under review is what `git diff {plan.base}` shows."
    return join_prompt(
        plan.prompt, change, fence(Material("the finding", _text_of(finding)))
    )


def _text_of(finding: Finding) -> str:
    place = finding.file or ""
    if finding.line:
        place = f"{place}, line {finding.line}"
    if finding.line and finding.line_end:
        place = f"{place} to {finding.line_end}"
    parts = [
        f"{finding.severity}, {finding.category}: {finding.title}",
        place,
        _labelled("Evidence", finding.evidence),
        _labelled("Risk", finding.risk),
        _labelled("Recommendation", finding.recommendation),
    ]
    if finding.suggestion:
        lines = f"{finding.suggestion.start_line} to {finding.suggestion.end_line}"
        parts.append(
            _labelled(
                f"Proposed in place of lines {lines}", finding.suggestion.replacement
            )
        )
    return "\n\n".join(cut(part, MAX_TEXT) for part in parts if part)


def _labelled(label: str, text: str | None) -> str:
    if not text:
        return ""
    return f"{label}:\n{text}"
