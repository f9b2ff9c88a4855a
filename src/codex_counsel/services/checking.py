"""What a result comes to, as an exit code; and the gate over a stored review. No model, no Codex and no git is asked.

Findings that were rejected, or refuted by a test, count nowhere. Imports neither pydantic nor what is needed to
run Codex or git.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from codex_counsel.contract.envelope import (
    Envelope,
    EnvelopeDict,
    Finding,
    Meta,
    completed,
)
from codex_counsel.contract.request import ReviewChanges, ReviewPlan
from codex_counsel.contract.vocabulary import (
    DEFAULT_FAIL_ON,
    PROJECT_FILE,
    FailOn,
    FindingState,
    severities_from,
)
from codex_counsel.errors import (
    CATALOG,
    DONE,
    FAILED,
    FOUND,
    INTERRUPTED,
    OVER_BUDGET,
    UNFINISHED,
    Code,
    CounselError,
)
from codex_counsel.jobs.store import Store
from codex_counsel.services import choosing, results
from codex_counsel.system.files import open_regular
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line, visible

Outcome = Literal["pass", "fail", "inconclusive"]
TOOL = "codex-counsel check"
REVIEWS = (
    ReviewChanges.tool,
    f"{ReviewChanges.tool}_async",
    ReviewPlan.tool,
    "codex-counsel review",
    "codex-counsel plan",
    "codex-counsel batch",
)
"""What a review names as its tool; with the name of a verb where it failed before it was a run, or is of a batch."""
JOB_PREFIX = "[0-9a-f]{4,32}"
COMMIT = "[0-9a-fA-F]{7,64}"
MAX_RESULT = 64 * 1024 * 1024
"""Bytes of a file that are read."""


@dataclass(frozen=True)
class Bar:
    """Which findings decide: those of the severity `fail_on` or a graver one.

    `fail_on` is the caller's. Where that is None, the project file of the review decides,
    also for single files, else `DEFAULT_FAIL_ON`. `new_only` leaves out what an earlier
    review had raised already, and what is carried over from one. What no record is kept of
    counts as new.
    """

    fail_on: FailOn | None = None
    new_only: bool = False

    def counted(self, review: Envelope) -> list[Finding]:
        """The findings that decide."""
        least = self.least(review)
        return [
            finding
            for finding in review.findings or ()
            if self._may_count(finding) and self._is_grave(finding, least)
        ]

    def least(self, review: Envelope) -> FailOn:
        """The severity that decides in most files of this review."""
        if self.fail_on:
            return self.fail_on
        file = review.meta.project_file
        if file and file.fail_on:
            return file.fail_on
        return DEFAULT_FAIL_ON

    def is_per_file(self, review: Envelope) -> bool:
        """Whether findings in some files are held to a bar of their own."""
        if self.fail_on:
            return False
        file = review.meta.project_file
        if file and file.strictest_fail_on:
            return True
        return any(finding.fail_on for finding in review.findings or ())

    def _is_grave(self, finding: Finding, least: FailOn) -> bool:
        if self.fail_on is None and finding.fail_on:
            least = finding.fail_on
        return least != "never" and finding.severity in severities_from(least)

    def _may_count(self, finding: Finding) -> bool:
        if finding.is_settled:
            return False
        if not self.new_only:
            return True
        return finding.known != "open" and not finding.carried


@dataclass(frozen=True)
class Judgement:
    """What a review comes to: the exit code, and why in half a sentence."""

    exit_code: int
    reason: str

    @property
    def outcome(self) -> Outcome:
        """In a word."""
        words: dict[int, Outcome] = {DONE: "pass", FOUND: "fail"}
        return words.get(self.exit_code, "inconclusive")


# --- exit codes


def exit_code(wire: EnvelopeDict, bar: Bar | None = None) -> int:
    """The exit code of a run with this result; `bar` is for reviews."""
    if not wire["ok"]:
        return _exit_code_of_failure(wire)
    if is_unfinished(wire):
        return UNFINISHED
    if "verdict" in wire:
        return judge(parse_envelope(wire), bar or Bar()).exit_code
    return _exit_code_of_check(wire)


def _exit_code_of_check(wire: EnvelopeDict) -> int:
    """For a task: 1 unless its check passed, whatever the reason. Of several attempts, `check` is that of the first."""
    match wire.get("check"):
        case None | {"status": "passed"}:
            return DONE
    return FOUND


def _exit_code_of_failure(wire: EnvelopeDict) -> int:
    code = wire.get("error", {}).get("code")
    # Another release may have stored one that this release does not know.
    if code in set(Code):
        return CATALOG[Code(code)].exit_code
    if wire["status"] == "cancelled":
        return INTERRUPTED
    return FAILED


def is_unfinished(wire: EnvelopeDict) -> bool:
    """Whether the run waits or goes on."""
    return wire["status"] in ("queued", "running")


def judge(review: Envelope, bar: Bar) -> Judgement:
    """What a completed review comes to.

    Findings decide. Without one that counts, a review must have a verdict that its
    findings explain.
    """
    counted = bar.counted(review)
    if counted:
        kind = _kind_of_finding(bar, review, len(counted))
        return Judgement(FOUND, f"{len(counted)} {kind}")
    if bar.least(review) == "never" and not bar.is_per_file(review):
        return Judgement(DONE, "the review is complete, and no finding is to fail it")
    # What it had no tokens left to look at may be grave.
    if review.meta.budget_reached:
        return Judgement(
            OVER_BUDGET, "the review used up its tokens before it was done"
        )
    why = _why_inconclusive(review)
    if why:
        return Judgement(FAILED, why)
    return Judgement(DONE, f"no {_kind_of_finding(bar, review, 1)}")


def _why_inconclusive(review: Envelope) -> str:
    """Why no `pass` can rest on a review without a finding that counts; empty if one can."""
    if review.verdict in (None, "unknown"):
        return "the review has no verdict"
    if review.coverage and not review.coverage.complete:
        return "not all of the change was seen"
    if review.verdict == "fail" and not _counting(review):
        return "the verdict is fail, and no finding says why"
    return ""


def _counting(review: Envelope) -> list[Finding]:
    return [finding for finding in review.findings or () if not finding.is_settled]


def _kind_of_finding(bar: Bar, review: Envelope, count: int) -> str:
    noun = "finding" if count == 1 else "findings"
    if bar.new_only:
        noun = f"new {noun}"
    if bar.is_per_file(review):
        return f"{noun} of the severity that {PROJECT_FILE} sets for its file, or above"
    least = bar.least(review)
    if least == "critical":
        return f"critical {noun}"
    return f"{noun} of severity {least} or above"


def parse_envelope(wire: EnvelopeDict) -> Envelope:
    """The envelope of a wire object; raises `job_corrupt` for one that is damaged."""
    try:
        return Envelope.parse(wire)
    except ValueError as error:
        raise CounselError(
            Code.JOB_CORRUPT, f"The result is no envelope: {error}"
        ) from None


# --- the gate over a stored result


def read_review(store: Store, name: str) -> EnvelopeDict:
    """The stored result that is named by a job id, its first digits, a file, or `-` for standard input.

    Raises `invalid_arguments` for what is no result of a review, and as `choosing.job_id`.
    """
    if re.fullmatch(JOB_PREFIX, name):
        wire = results.whole_result(store, choosing.job_id(store, name))
        place = f"job {wire.get('job_id') or wire['meta'].get('job_id')}"
    elif name == "-":
        place = "standard input"
        wire = _parsed(sys.stdin.buffer.read(MAX_RESULT + 1), place)
    else:
        place = one_line(visible(name), 200)
        wire = _parsed(_content(name, place), place)

    if wire["tool"] not in REVIEWS:
        tool = one_line(visible(wire["tool"]), 80)
        raise _no_review(f"{place} is a result of {tool}, not of a review")
    return wire


def _content(name: str, place: str) -> bytes:
    try:
        with open_regular(name) as file:
            return file.read(MAX_RESULT + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise _no_review(f"{place}: {why}") from None


def _parsed(data: bytes, place: str) -> EnvelopeDict:
    """The wire object of an envelope; raises `invalid_arguments` for anything else."""
    if len(data) > MAX_RESULT:
        raise _no_review(f"{place} has more than {MAX_RESULT:,} bytes")
    if not data.strip():
        raise _no_review(f"{place} is empty")
    try:
        wire: Json = json.loads(data)
    except (ValueError, RecursionError):
        raise _no_review(f"{place} is no JSON, or only a part of it") from None
    try:
        return Envelope.parse(wire).wire()
    except (ValueError, RecursionError) as error:
        raise _no_review(f"{place} is no envelope: {error}") from None


def _no_review(message: str) -> CounselError:
    return CounselError(
        Code.INVALID_ARGUMENTS,
        f"RESULT: {message}",
        repair="Name a run that `codex-counsel jobs` lists, or a file that `codex-counsel review --json` wrote.",
    )


def as_decided(wire: EnvelopeDict, states: Mapping[str, FindingState]) -> EnvelopeDict:
    """The result with what was rejected or reopened since, as its next review would have it.

    `states` are those on record, by id. A `fail` that rested on findings which were all
    rejected since is a `pass`, if all of the change was seen.
    """
    review = parse_envelope(wire)
    before = _counting(review)
    for finding in review.findings or ():
        state = states.get(finding.id or "")
        if state == "rejected":
            finding.known = "rejected"
        elif state and finding.is_rejected:
            finding.known = "open"
    if review.verdict == "fail" and before and not _counting(review):
        is_complete = review.coverage is None or review.coverage.complete
        review.verdict = "pass" if is_complete else "unknown"
    return review.wire()


def check(wire: EnvelopeDict, bar: Bar, expected_head: str | None = None) -> Envelope:
    """What a stored review comes to by the rules of `review`; its exit code is in `data`.

    `expected_head` is a commit, 7 digits of it or more: the review of another one, or of
    what is not committed, is inconclusive. Raises `invalid_arguments` for what is none.
    """
    if expected_head is not None and not re.fullmatch(COMMIT, expected_head):
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "--expect-head: this is no commit id: one has 40 or 64 of the digits 0-9 and a-f, "
            "and its first 7 or more will do",
        )
    review = parse_envelope(wire)
    judgement = _judge_stored(wire, review, bar, expected_head)
    findings = review.findings or []
    job_id = review.meta.job_id or review.job_id
    data: JsonObject = {
        "outcome": judgement.outcome,
        "reason": judgement.reason,
        "exit_code": judgement.exit_code,
        "fail_on": bar.least(review),
        "new_only": bar.new_only,
        "findings": len(findings),
        "counted": len(bar.counted(review)),
        "rejected": sum(finding.is_rejected for finding in findings),
        "verdict": review.verdict,
        "head_sha": _head(review),
        "job_id": job_id,
    }
    present = {name: value for name, value in data.items() if value is not None}
    summary = f"{judgement.outcome}: {judgement.reason}"
    return completed(TOOL, summary, present, Meta(job_id=job_id))


def _judge_stored(
    wire: EnvelopeDict, review: Envelope, bar: Bar, expected_head: str | None
) -> Judgement:
    if review.error or not review.ok:
        return Judgement(_exit_code_of_failure(wire), _why_failed(review))
    if is_unfinished(wire):
        return Judgement(UNFINISHED, "the review has not ended")
    if review.status != "completed":
        return Judgement(FAILED, f"the review is {review.status}")
    if review.meta.next_cursor:
        return Judgement(FAILED, "this is one page of a result, not all of it")
    other = _other_commit(review, expected_head)
    if other:
        return Judgement(FAILED, other)
    return judge(review, bar)


def _other_commit(review: Envelope, expected_head: str | None) -> str | None:
    """What is wrong with the commit of the review, if anything is."""
    if expected_head is None:
        return None
    head = _head(review)
    if head is None:
        return "the review is of no commit"
    if head.startswith(expected_head.lower()):
        return None
    return f"the review is of commit {head[:12]}, not of {expected_head[:12]}"


def _why_failed(review: Envelope) -> str:
    if review.error is None:
        return "the review failed"
    message = one_line(visible(review.error.message), 300)
    return f"the review did not end: {review.error.code}: {message}"


def _head(review: Envelope) -> str | None:
    if review.coverage is None:
        return None
    return review.coverage.head_sha
