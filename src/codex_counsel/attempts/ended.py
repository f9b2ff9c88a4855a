"""What came of one attempt, read from its job: the envelope, the stored result, the check."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from codex_counsel.attempts.judge import Opinion
from codex_counsel.attempts.ranking import Candidate, Standing, is_test
from codex_counsel.attempts.record import AttemptsRecord, AttemptsSpec
from codex_counsel.contract.envelope import CheckResult, DiffFile, Envelope
from codex_counsel.contract.vocabulary import RunStatus
from codex_counsel.delegate.check import judge_by_base
from codex_counsel.delegate.record import DelegateResult
from codex_counsel.errors import Code
from codex_counsel.kind import ChildOutcome, EndedRun

PATCH = "diff.patch"
CHANGED_LINES = re.compile(r"([0-9]+) (?:insertion|deletion)")
"""The numbers in git's summary line that are of lines."""


@dataclass(frozen=True)
class EndedAttempt:
    """`number` counts from 1. `envelope` is None for one that was not started, or whose record cannot be read.

    `error` is the code of one that did not complete. `check` has what is known of the
    start too. `directory` is the job's, None where there is none.
    """

    number: int
    directory: Path | None
    envelope: Envelope | None
    result: DelegateResult | None
    check: CheckResult | None
    status: RunStatus
    error: str | None

    @property
    def ok(self) -> bool:
        """Whether it completed."""
        return self.envelope is not None and self.envelope.ok

    @property
    def is_partial(self) -> bool:
        """Whether it completed, but was not done, or its diff lacks files."""
        return self.envelope is not None and self.ok and bool(self.envelope.partial)

    @property
    def has_diff(self) -> bool:
        """Whether it changed anything that can be applied."""
        return self.result is not None and bool(self.result.files)

    @property
    def standing(self) -> Standing:
        """What it left."""
        if self.ok and self.has_diff:
            return "changed"
        if self.ok:
            return "unchanged"
        if self.has_diff:
            return "cut_short"
        return "nothing"

    @property
    def files(self) -> list[DiffFile]:
        """The changed files."""
        if self.envelope is None:
            return []
        return self.envelope.files or []

    @property
    def changed_lines(self) -> int:
        """Added and deleted lines outside tests, with those of all files that the result has no room to list."""
        total = 0
        if self.result is not None:
            total = sum(map(int, CHANGED_LINES.findall(self.result.diffstat)))
        for file in self.files:
            if is_test(file.path):
                total -= (file.added or 0) + (file.deleted or 0)
        return total

    @property
    def uncounted(self) -> int:
        """The binary files outside tests: git counts no lines of them."""
        return sum(file.added is None and not is_test(file.path) for file in self.files)

    @property
    def by_tests_alone(self) -> bool:
        """Whether the check, which failed before, passes and nothing but tests was changed."""
        check = self.check
        if check is None or (check.base_status, check.status) != ("failed", "passed"):
            return False
        names = self.result.names if self.result else []
        # A file that was renamed must have been a test before, too.
        return all(
            is_test(name or "") and is_test(old or name or "") for name, old, _ in names
        )

    @property
    def diff_bytes(self) -> int:
        """The size of the patch."""
        if self.directory is not None:
            with contextlib.suppress(OSError):
                return (self.directory / PATCH).stat().st_size
        return 0

    def candidate(self, opinion: Opinion | None) -> Candidate:
        """What its rank depends on. `opinion` is the judge's."""
        return Candidate(
            attempt=self.number,
            standing=self.standing,
            check=self.check.status if self.check else None,
            judge_rank=opinion.rank if opinion else None,
            changed_lines=self.changed_lines,
            diff_bytes=self.diff_bytes,
            error=self.error,
            partial=self.is_partial,
            by_tests_alone=self.by_tests_alone,
            uncounted=self.uncounted,
        )


def read_attempts(
    ended: EndedRun, spec: AttemptsSpec, record: AttemptsRecord
) -> list[EndedAttempt]:
    """All attempts in their order, also those that never began."""
    outcomes = {child.job_id: child for child in ended.children}
    attempts = []
    for number, job_id in enumerate(spec.jobs, 1):
        outcome = outcomes.get(job_id)
        if outcome is None:
            attempts.append(_missing(number, job_id, ended, record))
        else:
            attempts.append(_read(number, outcome, record))
    return attempts


def _missing(
    number: int, job_id: str, ended: EndedRun, record: AttemptsRecord
) -> EndedAttempt:
    """One that was not started, or of which nothing can be read."""
    code = record.without_result.get(job_id)
    directory = ended.directory.parent / job_id
    if code is None and directory.is_dir():
        code = Code.JOB_CORRUPT
    if code is None and ended.error:
        code = ended.error.code
    code = code or Code.PROCESS_DIED
    status: RunStatus = "cancelled" if code == Code.CANCELLED else "failed"
    known = directory if directory.is_dir() else None
    return EndedAttempt(number, known, None, None, None, status, str(code))


def envelope_of(outcome: ChildOutcome) -> Envelope | None:
    """The envelope of an ended job; None for a damaged one."""
    try:
        return Envelope.parse(outcome.envelope)
    except ValueError:
        return None


def _read(number: int, outcome: ChildOutcome, record: AttemptsRecord) -> EndedAttempt:
    directory = outcome.directory
    envelope = envelope_of(outcome)
    if envelope is None:
        code = str(Code.JOB_CORRUPT)
        return EndedAttempt(number, directory, None, None, None, "failed", code)
    result = DelegateResult.load(directory)
    if result is not None and result.lost:
        result = None
    check = envelope.check
    if check is not None and check.status != "not_run":
        check.base_exit = record.base_exit
        check.base_status = record.base_status
        judge_by_base(check)
    return EndedAttempt(
        number=number,
        directory=directory,
        envelope=envelope,
        result=result,
        check=check,
        status=envelope.status,
        error=envelope.error.code if envelope.error else None,
    )
