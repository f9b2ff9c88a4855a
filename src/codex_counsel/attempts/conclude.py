"""Several attempts, after the run: they are ranked, and the result of the best is the result of the job.

Its files are linked into the directory of this job (`work.json`, `diff.patch`, `base.tar`,
`diff.txt`), so that whatever takes a delegate's job takes this one, too.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from codex_counsel.attempts import judge
from codex_counsel.attempts.agreement import agreements, changes_of, names_of
from codex_counsel.attempts.ended import (
    PATCH,
    EndedAttempt,
    envelope_of,
    read_attempts,
)
from codex_counsel.attempts.judge import Opinion
from codex_counsel.attempts.ranking import Rank, rank
from codex_counsel.attempts.record import AttemptsRecord, AttemptsSpec
from codex_counsel.contract.envelope import (
    Agreement,
    Attempt,
    CheckResult,
    Envelope,
    Usage,
    failed,
)
from codex_counsel.delegate.conclude import check_line
from codex_counsel.delegate.record import READABLE_DIFF, WORK
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import EndedRun, remove_scratch
from codex_counsel.system.files import write_atomically
from codex_counsel.system.text import clean, one_line

BASE = "base.tar"
MAX_FILES = 100
"""Files that the row of an attempt lists."""
MAX_TAIL = 1_000
"""Characters of the output of a check that the row of an attempt shows."""
MAX_WARNINGS = 30
"""Warnings of the attempts that are passed on."""
FROM_WINNER = (
    "answer",
    "diff",
    "diff_exact",
    "diffstat",
    "files",
    "base_sha",
    "checks",
    "check",
    "ignored",
    "planted",
    "partial",
)
"""The fields of the envelope that are those of the best attempt."""


def conclude(ended: EndedRun) -> Envelope:
    """The envelope of several attempts, finished or not, with the diff of the best and a comparison of all."""
    remove_scratch(ended)
    spec = AttemptsSpec.parse(ended.details["attempts"])
    record = AttemptsRecord.load(ended.directory)
    attempts = read_attempts(ended, spec, record)
    opinions, judge_warning = _opinions(ended, spec, record)
    ranks = rank(
        [attempt.candidate(opinions.get(attempt.number)) for attempt in attempts]
    )
    by_number = {attempt.number: attempt for attempt in attempts}
    best = by_number[ranks[0].attempt]

    _add_meta(ended, best)
    warnings = [*_warnings(attempts), *judge_warning]
    if record.base_reason:
        warnings.append(
            f"the check of the start could not be run: {record.base_reason}"
        )
    ended.meta.warnings += [
        text for text in warnings if text not in ended.meta.warnings
    ]

    error = ended.error
    if error is None and not best.ok:
        error = _common_error(attempts)
    if error:
        envelope = failed(ended.tool, error, ended.meta)
    else:
        envelope = Envelope(
            ok=True, status="completed", tool=ended.tool, summary="", meta=ended.meta
        )
    if ended.children or record.without_result:
        envelope.attempts = _rows(ranks, by_number, opinions)
    _add_work(envelope, best, ended.directory)
    if envelope.ok:
        envelope.summary = _summary(ranks, by_number, opinions)
    elif best.has_diff:
        envelope.partial = True
        envelope.summary += f"; what attempt {best.number} had done is kept"
    return envelope


# --- the judge


def _opinions(
    ended: EndedRun, spec: AttemptsSpec, record: AttemptsRecord
) -> tuple[dict[int, Opinion], list[str]]:
    """What the judge thinks of each attempt, by its number; and a warning where it was to say so and did not."""
    if spec.judge is None:
        return {}, []
    if not record.shown:
        reason = "fewer than two attempts ended with a diff"
        if ended.error:
            reason = "the run ended before"
        return {}, [f"the judge was not asked: {reason}"]
    reason = record.without_result.get(spec.judge, "it did not end")
    answer = None
    envelope = _envelopes(ended).get(spec.judge)
    if envelope is not None and envelope.ok:
        answer = envelope.answer
    elif envelope is not None and envelope.error:
        reason = envelope.error.code
    if answer is None:
        return {}, [f"the judge gave no ranking: {reason}"]
    try:
        return judge.opinions(answer, record.shown), []
    except ValueError as error:
        return {}, [f"the judge gave no ranking: {error}"]


def _envelopes(ended: EndedRun) -> dict[str, Envelope]:
    """Those of the jobs that can be read, by their ids."""
    envelopes = {}
    for child in ended.children:
        envelope = envelope_of(child)
        if envelope is not None:
            envelopes[child.job_id] = envelope
    return envelopes


# --- what the envelope says of all attempts


def _rows(
    ranks: Sequence[Rank],
    by_number: Mapping[int, EndedAttempt],
    opinions: Mapping[int, Opinion],
) -> list[Attempt]:
    changes = {}
    for number, attempt in by_number.items():
        if attempt.directory is not None and attempt.has_diff:
            found = changes_of(attempt.directory / PATCH)
            if found is not None:
                changes[number] = found
    rows = []
    for place in ranks:
        attempt = by_number[place.attempt]
        agrees: list[Agreement] = []
        if attempt.result is not None and attempt.number in changes:
            others = {
                number: other
                for number, other in changes.items()
                if number != attempt.number
            }
            names = names_of(attempt.result)
            agrees = agreements(changes[attempt.number], names, others)
        rows.append(_row(attempt, place, opinions.get(attempt.number), agrees))
    return rows


def _row(
    attempt: EndedAttempt,
    place: Rank,
    opinion: Opinion | None,
    agrees: list[Agreement],
) -> Attempt:
    row = Attempt(
        attempt=attempt.number,
        rank=place.rank,
        tie=bool(place.tied_with) or None,
        why=place.why,
        job_id=attempt.directory.name if attempt.directory else None,
        status=attempt.status,
        error=attempt.error,
        check=_short_check(attempt.check),
        agrees=agrees or None,
    )
    if opinion:
        row.judge_rank = opinion.rank
        row.judge_reason = opinion.reason
    envelope = attempt.envelope
    if envelope is None:
        return row
    row.diffstat = envelope.diffstat
    row.files = [file.path for file in attempt.files[:MAX_FILES]]
    if envelope.diffstat is not None:
        row.changed_lines = attempt.changed_lines
    row.model = envelope.meta.model
    row.effort = envelope.meta.effort
    row.usage = envelope.meta.usage
    row.session_id = envelope.meta.session_id
    return row


def _short_check(check: CheckResult | None) -> CheckResult | None:
    if check is None or check.output_tail is None:
        return check
    return replace(check, output_tail=check.output_tail[-MAX_TAIL:])


def _add_meta(ended: EndedRun, best: EndedAttempt) -> None:
    """The tokens of all with the judge's; thread, model and effort of the best."""
    usages = [envelope.meta.usage for envelope in _envelopes(ended).values()]
    ended.meta.usage = Usage.total(filter(None, usages)) or ended.meta.usage
    if best.envelope is None:
        return
    ended.meta.session_id = best.envelope.meta.session_id
    ended.meta.model = best.envelope.meta.model
    ended.meta.effort = best.envelope.meta.effort
    ended.meta.effort_source = best.envelope.meta.effort_source
    ended.meta.budget_reached = best.envelope.meta.budget_reached


def _warnings(attempts: Sequence[EndedAttempt]) -> list[str]:
    """Those of the attempts, each once, with the numbers of those that have it; one that all have, without."""
    numbers: dict[str, list[str]] = {}
    for attempt in attempts:
        if attempt.envelope is None:
            continue
        for text in attempt.envelope.meta.warnings:
            numbers.setdefault(text, []).append(str(attempt.number))
    warnings = []
    for text, those in numbers.items():
        label = "attempt" if len(those) == 1 else "attempts"
        if len(those) == len(attempts):
            warnings.append(text)
        else:
            warnings.append(f"{label} {', '.join(those)}: {text}")
    return warnings[:MAX_WARNINGS]


def _common_error(attempts: Sequence[EndedAttempt]) -> CounselError:
    """Why no attempt completed: the first error that the same call would meet again, else the first one."""
    failures = []
    for attempt in attempts:
        if attempt.envelope is not None and attempt.envelope.error:
            failures.append((attempt.number, attempt.envelope.error))
    if not failures:
        codes = [f"attempt {attempt.number}: {attempt.error}" for attempt in attempts]
        return CounselError(
            Code(attempts[0].error or Code.PROCESS_DIED),
            f"None of the {len(attempts)} attempts completed: {'; '.join(codes)}",
        )
    # False sorts first.
    number, failure = min(failures, key=lambda item: item[1].retryable)
    details = dict(failure.details or {})
    return CounselError(
        Code(failure.code),
        f"None of the {len(attempts)} attempts completed. Attempt {number}: {failure.message}",
        repair=failure.repair,
        retry_after_ms=failure.retry_after_ms,
        repair_tool=failure.repair_tool,
        repair_tool_params=failure.repair_tool_params,
        details=details,
    )


# --- what the envelope says of the best


def _add_work(envelope: Envelope, best: EndedAttempt, directory: Path) -> None:
    """Make the work of the best attempt that of this job."""
    if best.envelope is None or best.directory is None:
        return
    for name in FROM_WINNER:
        setattr(envelope, name, getattr(best.envelope, name))
    if best.result is None:
        return
    try:
        _link_work(best, directory)
    except OSError as error:
        envelope.meta.warnings.append(
            f"this job has no diff of its own ({error.strerror}): apply that of {best.directory.name}"
        )
        envelope.diff_path = best.envelope.diff_path
        return
    envelope.diff_path = str(directory / PATCH)


def _link_work(best: EndedAttempt, directory: Path) -> None:
    """Raises OSError."""
    assert best.directory is not None  # noqa: S101  # it has a result
    assert best.result is not None  # noqa: S101
    for name in (PATCH, BASE, READABLE_DIFF):
        # One that this job was concluded with before, by a process that was killed then.
        (directory / name).unlink(missing_ok=True)
    os.link(best.directory / PATCH, directory / PATCH)
    for name in (BASE, READABLE_DIFF):
        with contextlib.suppress(FileNotFoundError):
            os.link(best.directory / name, directory / name)
    # Last: with it the job has a diff.
    work = replace(best.result, diff_path=str(directory / PATCH))
    write_atomically(directory / WORK, json.dumps(asdict(work)))


def _summary(
    ranks: Sequence[Rank],
    by_number: Mapping[int, EndedAttempt],
    opinions: Mapping[int, Opinion],
) -> str:
    """The winner and why, what came of all, and what the winner says."""
    best = by_number[ranks[0].attempt]
    parts = []
    # A check that it passed is said with its rank.
    if best.check is not None and best.check.status != "passed":
        parts.append(check_line(best.check))
    in_order = [by_number[place.attempt] for place in ranks]
    parts.append(f"{_place(ranks)}; {_tally(in_order)}.")
    preferred = min(opinions, key=lambda number: opinions[number].rank, default=None)
    if preferred not in (None, best.number):
        parts.append(f"The judge prefers attempt {preferred}.")
    envelope = best.envelope
    assert envelope is not None  # noqa: S101  # it completed
    if best.has_diff:
        parts.append(f"{envelope.diffstat}.")
    else:
        parts.append("No files were changed.")
    parts.append(one_line(clean(envelope.answer or ""), 400))
    return " ".join(parts)


def _place(ranks: Sequence[Rank]) -> str:
    best = ranks[0]
    this = f"Attempt {best.attempt} of {len(ranks)}"
    if best.tied_with:
        others = " and ".join(map(str, best.tied_with))
        return f"{this} is returned, but nothing tells it from attempt {others}"
    return f"{this} ranks first: {best.why}"


def _tally(attempts: Sequence[EndedAttempt]) -> str:
    """How many ended how."""
    counts: Counter[str] = Counter()
    for attempt in attempts:
        counts[_ending(attempt)] += 1
    return ", ".join(f"{count} {words}" for words, count in counts.items())


def _ending(attempt: EndedAttempt) -> str:
    if attempt.status == "cancelled":
        return "was cancelled"
    if not attempt.ok:
        return "ended with an error"
    if attempt.check is None:
        return "completed"
    match attempt.check.status:
        case "passed":
            return "passed the check"
        case "failed":
            return "failed the check"
    return f"completed, with the check {attempt.check.status.replace('_', ' ')}"
