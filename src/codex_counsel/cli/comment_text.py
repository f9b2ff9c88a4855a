"""A review as the text of the one comment that stands on a pull request: what is new first, the rest in brief.

No text of the model is active in it. It has at most as many characters as it is given
room for; what does not fit is left out by whole findings and lines, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from codex_counsel.cli.formats.markdown import finding_lines
from codex_counsel.cli.inert_markdown import code_span, inline, prose
from codex_counsel.cli.review_text import (
    MAX_ENTRY,
    counted,
    coverage_lines,
    doubt_about,
    lists_of,
    place_of,
    reason_of,
    record_line,
    resolved_lines,
    title_of,
)
from codex_counsel.cli.words import in_terminal_words, repair_of
from codex_counsel.contract.envelope import Envelope, Finding
from codex_counsel.services.pull_request_comment import commits_of

SHARE_OF_NEW = 0.7
"""Of the room, for findings in full; the rest is for what is said in brief."""
RESERVE = 2_000
"""Characters for the headings of the parts, and for the sentences that count what is left out."""
MAX_ENTRIES = 100
"""Of a list."""
SHORT_SHA = 12
VERDICTS = {
    "pass": "pass",
    "concerns": "concerns",
    "fail": "fail",
    "unknown": "no verdict",
}


@dataclass
class _Groups:
    """The findings of a review by what is said about them."""

    new: list[Finding] = field(default_factory=list)
    known: list[Finding] = field(default_factory=list)
    settled: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, review: Envelope) -> _Groups:
        groups = cls()
        for finding in review.findings or ():
            if finding.is_settled:
                groups.settled.append(finding)
            elif finding.known == "open" or finding.carried:
                groups.known.append(finding)
            else:
                # One that came back is as urgent as a new one, and so is one without a record.
                groups.new.append(finding)
        return groups


class _Text:
    """Lines that have room. `whole` is the command that shows what does not fit."""

    def __init__(self, room: int, whole: str) -> None:
        self.lines: list[str] = []
        self.room = room
        self._whole = whole

    def add(self, *lines: str) -> None:
        """Add lines, whatever they take."""
        self.lines += lines
        self.room -= _size(lines)

    def add_list(self, title: str, entries: list[str], noun: str) -> None:
        """Add a list below its title; nothing where it has no entries."""
        if entries:
            self.add(f"**{title}**", "")
            self._add_entries(entries, noun)

    def add_folded(self, title: str, entries: list[str], noun: str) -> None:
        """Add a list that a reader must unfold; nothing where it has no entries."""
        if entries:
            self.add(f"<details><summary>{title}</summary>", "")
            self._add_entries(entries, noun)
            self.add("</details>", "")

    def _add_entries(self, entries: list[str], noun: str) -> None:
        """Add the entries that there is room for, and say how many of this `noun` are left out."""
        left_out = len(entries[MAX_ENTRIES:])
        for entry in entries[:MAX_ENTRIES]:
            line = f"- {inline(entry, MAX_ENTRY)}"
            if _size([line]) > self.room:
                left_out += 1
            else:
                self.add(line)
        if left_out:
            self.add("", f"Not shown here: {counted(left_out, noun)}. {self._whole}")
        self.add("")


def comment_text(review: Envelope, room: int, newest: str | None = None) -> str:
    """The text of the comment, of at most `room` characters.

    `newest` is the id of the newest commit of the pull request, where the review is of another one.
    """
    job_id = review.meta.job_id or review.job_id
    command = code_span(f"codex-counsel result {job_id or 'JOB'}")
    text = _Text(room - RESERVE, f"{command} shows all.")
    if review.error:
        _add_failure(text, review)
    else:
        _add_head(text, review)
    _add_commits(text, review, newest)
    if not review.error:
        _add_findings(text, review)
    _add_rest(text, review)
    text.add("---", _footer(review, job_id))
    return "\n".join(text.lines)


# --- parts


def _add_head(text: _Text, review: Envelope) -> None:
    verdict = VERDICTS[review.verdict or "unknown"]
    text.add(f"## Codex review: {verdict}", "", inline(review.summary, MAX_ENTRY), "")
    problem = doubt_about(review)
    if problem:
        text.add(f"**{inline(problem)}**", "")
    counts = _counts(review)
    if counts:
        text.add(counts, "")


def _add_failure(text: _Text, review: Envelope) -> None:
    assert review.error is not None  # noqa: S101  # the caller has looked
    text.add(
        "## Codex review: failed",
        "",
        "**Nothing was reviewed. This says neither that the change is good nor that it is bad.**",
        "",
        inline(reason_of(review.error), MAX_ENTRY),
        "",
    )
    repair = in_terminal_words(repair_of(review.error))
    text.add(inline(f"What to do: {repair}", MAX_ENTRY), "")


def _add_commits(text: _Text, review: Envelope, newest: str | None) -> None:
    """Which commit was reviewed against which, and whether the pull request has gone on since."""
    head, base = commits_of(review)
    if head:
        words = f"Commit {code_span(head[:SHORT_SHA])}"
        if base:
            words += f", compared with {code_span(base[:SHORT_SHA])}"
        text.add(f"{words}.", "")
    if newest:
        text.add(
            f"**The newest commit is {code_span(newest[:SHORT_SHA])}: this review does not know it.**",
            "",
        )


def _add_findings(text: _Text, review: Envelope) -> None:
    groups = _Groups.of(review)
    too_long = _add_in_full(text, groups.new)
    text.add_list("New, and too long to be shown in full", too_long, "finding")
    known = [_short(finding) for finding in groups.known]
    text.add_list("Raised before, and still there", known, "finding")
    resolved = resolved_lines(review)
    text.add_list("Resolved since the last review", resolved, "finding")
    settled = [_short(finding) for finding in groups.settled]
    title = (
        f"{counted(len(settled), 'finding')} rejected or refuted: they decide nothing"
    )
    text.add_folded(title, settled, "finding")


def _add_in_full(text: _Text, findings: list[Finding]) -> list[str]:
    """Add the findings that there is room for; returns the others in brief."""
    kept_free = int(text.room * (1 - SHARE_OF_NEW))
    too_long = []
    for finding in findings:
        block = finding_lines(finding)
        if _size(block) > text.room - kept_free:
            too_long.append(_short(finding))
        else:
            text.add(*block)
    return too_long


def _add_rest(text: _Text, review: Envelope) -> None:
    """What the reviewer said beside findings, what was sent, and the warnings."""
    if review.answer and not review.error:
        lines = [
            "**What Codex said instead of findings**",
            "",
            prose(review.answer),
            "",
        ]
        if _size(lines) <= text.room:
            text.add(*lines)
    for name, entries in lists_of(review).items():
        title = name.replace("_", " ").capitalize()
        text.add_folded(title, entries, "entry")
    notes = coverage_lines(review)
    for warning in review.meta.warnings:
        notes.append(f"note: {in_terminal_words(warning)}")
    text.add_folded("What was sent, and notes", notes, "line")


def _footer(review: Envelope, job_id: str | None) -> str:
    parts = []
    if job_id:
        parts.append(f"job {code_span(job_id)}")
    if review.meta.model:
        parts.append(inline(review.meta.model, 100))
    if review.meta.usage:
        usage = review.meta.usage
        parts.append(f"{usage.input:,} tokens in, {usage.output:,} out")
    if review.findings:
        parts.append(
            'a finding does not hold? `codex-counsel findings reject ID --reason "..."`'
        )
    return " · ".join(["codex-counsel", *parts])


# --- words


def _counts(review: Envelope) -> str:
    """`2 new · 1 open · 1 returned · 1 rejected · 3 resolved`, without what there is none of."""
    groups = _Groups.of(review)
    returned = [finding for finding in groups.new if finding.known == "returned"]
    rejected = [finding for finding in groups.settled if finding.is_rejected]
    counts = {
        "new": len(groups.new) - len(returned),
        "open": len(groups.known),
        "returned": len(returned),
        "rejected": len(rejected),
        "refuted": len(groups.settled) - len(rejected),
        "resolved": len(review.resolved or ()),
    }
    parts = [f"{count} {word}" for word, count in counts.items() if count]
    return " · ".join(parts)


def _short(finding: Finding) -> str:
    """`high: Off by one · src/app.py:3 (verified) · id 01... · raised before`."""
    words = f"{finding.severity}: {title_of(finding)} · {place_of(finding)}"
    record = record_line(finding)
    if record:
        words += f" · {record}"
    return words


def _size(lines: Iterable[str]) -> int:
    """Characters of these lines with their line ends."""
    return sum(len(line) + 1 for line in lines)
