"""What is said of several attempts whose records are damaged, incomplete or concluded before."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.attempts.conclude import conclude
from codex_counsel.attempts.record import RECORD, AttemptsRecord
from codex_counsel.contract.envelope import CheckResult, DiffFile, Envelope, Meta
from codex_counsel.delegate.record import WORK, DelegateResult
from codex_counsel.errors import Code, CounselError
from codex_counsel.kind import ChildOutcome, EndedRun
from tests.repositories import write

PATCH = b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+2\n"


class Jobs:
    """A job with prepared attempts, of which some have ended."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.directory = base / ("f" * 32)
        self.directory.mkdir()
        self.ids = [str(number) * 32 for number in (1, 2, 3)]
        self.children: list[ChildOutcome] = []

    def end(self, number: int, patch: bytes = PATCH, **fields: Any) -> Path:
        """An attempt that completed, with the envelope and the files that a delegate has."""
        directory = self.base / self.ids[number - 1]
        write(directory, "diff.patch", patch)
        file = DiffFile(path="a", status="M", added=1, deleted=1)
        result = DelegateResult(
            base_sha="0" * 40,
            diff=patch.decode(),
            diff_exact=True,
            diff_path=str(directory / "diff.patch"),
            diffstat="1 file changed",
            files=[asdict(file)],
            names=[["a", None, "100644"]],
        )
        write(directory, WORK, json.dumps(asdict(result)))
        envelope = Envelope(
            ok=True,
            status="completed",
            tool="codex_delegate",
            summary="Done.",
            answer=f"Attempt {number}.",
            diff=patch.decode(),
            diff_path=result.diff_path,
            diffstat="1 file changed",
            files=[file],
            meta=Meta(session_id=f"thread {number}"),
        )
        for name, value in fields.items():
            setattr(envelope, name, value)
        self.children.append(ChildOutcome(directory.name, directory, envelope.wire()))
        return directory

    def conclude(
        self, error: CounselError | None = None, judge: str | None = None
    ) -> Envelope:
        attempts = {"jobs": self.ids, "judge": judge}
        return conclude(
            EndedRun(
                tool="codex_delegate",
                directory=self.directory,
                scratch=self.base / "scratch",
                details={"attempts": attempts},
                meta=Meta(),
                error=error,
                children=tuple(self.children),
            )
        )


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


def statuses(envelope: Envelope) -> dict[int, tuple[str, str | None]]:
    return {row.attempt: (row.status, row.error) for row in envelope.attempts or ()}


def test_an_attempt_that_could_not_be_started_says_why_and_has_no_job(
    jobs: Jobs,
) -> None:
    jobs.end(1)
    jobs.end(2)
    AttemptsRecord(without_result={jobs.ids[2]: "storage_failed"}).store(jobs.directory)
    envelope = jobs.conclude()
    assert envelope.ok
    assert statuses(envelope)[3] == ("failed", "storage_failed")
    assert [row.job_id for row in envelope.attempts or ()][2] is None


def test_where_none_could_be_started_that_is_the_failure(jobs: Jobs) -> None:
    codes = dict.fromkeys(jobs.ids, "resource_limit")
    AttemptsRecord(without_result=codes).store(jobs.directory)
    envelope = jobs.conclude()
    assert envelope.error
    assert envelope.error.code == "resource_limit"
    assert len(statuses(envelope)) == 3


def test_a_run_that_ended_before_its_attempts_lists_none(jobs: Jobs) -> None:
    envelope = jobs.conclude(CounselError(Code.WORKTREE_FAILED, "no room"))
    assert envelope.attempts is None
    assert envelope.summary == "codex_delegate failed: no room"


def test_attempts_that_never_began_share_the_fate_of_their_run(jobs: Jobs) -> None:
    jobs.end(2)
    envelope = jobs.conclude(CounselError(Code.CANCELLED, "The run was cancelled"))
    assert envelope.status == "cancelled"
    assert statuses(envelope) == {
        1: ("cancelled", "cancelled"),
        2: ("completed", None),
        3: ("cancelled", "cancelled"),
    }
    assert envelope.partial
    assert envelope.answer == "Attempt 2."
    assert (jobs.directory / "diff.patch").read_bytes() == PATCH


def test_a_damaged_record_of_an_attempt_costs_the_others_nothing(jobs: Jobs) -> None:
    jobs.end(1)
    damaged = jobs.end(2)
    jobs.children[1].envelope["meta"] = 7
    (damaged / WORK).write_text("{")
    (jobs.base / jobs.ids[2]).mkdir()
    envelope = jobs.conclude()
    assert envelope.ok
    assert statuses(envelope) == {
        1: ("completed", None),
        2: ("failed", "job_corrupt"),
        3: ("failed", "job_corrupt"),
    }


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"unknown": 1}'])
def test_a_damaged_note_is_none(jobs: Jobs, text: str) -> None:
    jobs.end(1)
    (jobs.directory / RECORD).write_text(text)
    assert jobs.conclude().ok


def test_a_run_that_was_concluded_before_has_the_work_of_its_winner_alone(
    jobs: Jobs,
) -> None:
    first = jobs.end(1)
    write(first, "base.tar", "base of 1")
    write(first, "diff.txt", "readable of 1")
    jobs.conclude()
    assert (jobs.directory / "diff.txt").read_text() == "readable of 1"

    small = PATCH.replace(b"+2\n", b"+\n")
    second = jobs.end(2, small)
    write(second, "base.tar", "base of 2")
    for _ in range(2):
        envelope = jobs.conclude()
    assert envelope.answer == "Attempt 2."
    assert envelope.diff_path == str(jobs.directory / "diff.patch")
    assert (jobs.directory / "diff.patch").read_bytes() == small
    assert (jobs.directory / "base.tar").read_text() == "base of 2"
    assert not (jobs.directory / "diff.txt").exists()
    stored = DelegateResult.load(jobs.directory)
    assert stored
    assert stored.diff_path == envelope.diff_path
    # The record of the attempt is as it was.
    assert (first / "diff.patch").read_bytes() == PATCH
    assert (first / "base.tar").read_text() == "base of 1"


def test_a_diff_that_cannot_be_linked_is_that_of_the_attempt(jobs: Jobs) -> None:
    own = jobs.end(1)
    (jobs.directory / "diff.patch").mkdir()
    envelope = jobs.conclude()
    assert envelope.ok
    assert envelope.diff_path == str(own / "diff.patch")
    assert any(own.name in text for text in envelope.meta.warnings)


def test_a_lost_diff_is_no_diff(jobs: Jobs) -> None:
    directory = jobs.end(1)
    lost = DelegateResult.not_captured("0" * 40, "it is still in /tree")
    write(directory, WORK, json.dumps(asdict(lost)))
    jobs.end(2)
    envelope = jobs.conclude()
    assert envelope.answer == "Attempt 2."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "fewer than two attempts ended with a diff"),
        (CounselError(Code.PROCESS_DIED, "killed"), "the run ended before"),
    ],
)
def test_a_judge_that_was_not_asked_is_missed_with_the_reason(
    jobs: Jobs, error: CounselError | None, reason: str
) -> None:
    jobs.end(1)
    warnings = jobs.conclude(error, judge="4" * 32).meta.warnings
    assert warnings == [f"the judge was not asked: {reason}"]


def test_a_judge_whose_record_is_damaged_gave_no_ranking(jobs: Jobs) -> None:
    jobs.end(1)
    jobs.end(2)
    judge = "4" * 32
    outcome = ChildOutcome(judge, jobs.base / judge, {"ok": True, "meta": None})
    jobs.children.append(outcome)
    AttemptsRecord(shown=[2, 1]).store(jobs.directory)
    envelope = jobs.conclude(judge=judge)
    assert envelope.ok
    assert envelope.meta.warnings == ["the judge gave no ranking: it did not end"]


def test_warnings_name_those_attempts_that_have_them(jobs: Jobs) -> None:
    for number in (1, 2, 3):
        warnings = ["everywhere", f"only in {number}"]
        if number > 1:
            warnings.append("in two")
        jobs.end(number, meta=Meta(warnings=warnings))
    assert jobs.conclude().meta.warnings == [
        "everywhere",
        "attempt 1: only in 1",
        "attempt 2: only in 2",
        "attempts 2, 3: in two",
        "attempt 3: only in 3",
    ]


def test_the_row_of_an_attempt_has_the_end_of_a_long_output(jobs: Jobs) -> None:
    tail = "x" * 3_999 + "!"
    check = CheckResult(command="c", status="passed", exit=0, output_tail=tail)
    jobs.end(1, check=check)
    AttemptsRecord(base_exit=0, base_status="passed").store(jobs.directory)
    envelope = jobs.conclude()
    assert envelope.check
    assert envelope.check.output_tail == tail
    assert envelope.attempts
    row = envelope.attempts[0]
    assert row.check
    assert row.check.output_tail == tail[-1_000:]
    assert row.check.base_status == "passed"


def test_a_start_that_could_not_be_checked_says_why(jobs: Jobs) -> None:
    jobs.end(1, check=CheckResult(command="c", status="passed", exit=0))
    AttemptsRecord(base_status="not_run", base_reason="no room").store(jobs.directory)
    envelope = jobs.conclude()
    assert "the check of the start could not be run: no room" in envelope.meta.warnings
