"""Replacements that a reviewer proposes: each is checked to apply to the reviewed state before anybody is shown it.

A proposal is dropped, and the finding stays, unless

- the file is UTF-8 text of the reviewed state, and the lines are in it, where the
  evidence stands or directly beside it;
- these lines were sent as they are: nothing in them is masked or hidden;
- the replacement is another text, of bounded length, with nothing to mask, no control
  character, no stand-in of a masked or hidden character, and nothing behind so many
  blanks that it would stand out of sight.

Where the evidence was found elsewhere than the finding says, the lines move by the same
distance. The replacement that comes out has the line ends of the lines that it
replaces, CRLF or LF, and none at the end of a file that has none: put in their place,
character by character, it gives the new file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codex_counsel.contract.envelope import Finding, Suggestion
from codex_counsel.findings.replacement import (
    MAX_LINES,
    is_harmless,
    lines_of,
    with_line_ends,
)
from codex_counsel.review.grounding import ReviewedFiles
from codex_counsel.review.quotations import LineRange


class Proposal(NamedTuple):
    """What a reviewer proposed, and the lines that the finding named then: grounding may correct these."""

    suggestion: Suggestion
    named: LineRange


def take_proposals(findings: Sequence[Finding]) -> list[Proposal | None]:
    """The proposal of each finding, which has none afterwards: what is not checked is not shown."""
    proposals: list[Proposal | None] = []
    for finding in findings:
        proposal = None
        if finding.suggestion:
            named = LineRange.of_finding(finding.line, finding.line_end)
            proposal = Proposal(finding.suggestion, named)
        proposals.append(proposal)
        finding.suggestion = None
    return proposals


def dropped_note(
    proposals: Sequence[Proposal | None], findings: Sequence[Finding]
) -> list[str]:
    """At most one warning: how many proposals became no suggestion."""
    proposed = sum(proposal is not None for proposal in proposals)
    dropped = proposed - sum(finding.suggestion is not None for finding in findings)
    if not dropped:
        return []
    return [
        f"{dropped} proposed replacements do not apply to the reviewed state: they were dropped, the findings stay"
    ]


def checked(
    proposal: Proposal, finding: Finding, files: ReviewedFiles
) -> Suggestion | None:
    """The suggestion as it applies to the file of a grounded finding, or None. See the module."""
    if not is_harmless(proposal.suggestion.replacement):
        return None
    place = _place(proposal, finding, files)
    lines = lines_of(files.content(finding.file or ""))
    if place is None or not 1 <= place.first <= place.last <= len(lines):
        return None
    if place.last - place.first >= MAX_LINES:
        return None

    replaced = lines[place.first - 1 : place.last]
    sent = files.lines(finding.file or "") or []
    if sent[place.first - 1 : place.last] != [line.rstrip("\r\n") for line in replaced]:
        return None
    # The line before tells how lines end where only the last one is replaced.
    around = lines[max(place.first - 2, 0) : place.last]
    after = with_line_ends(proposal.suggestion.replacement, around, replaced[-1])
    if after is None or after == "".join(replaced):
        return None
    return Suggestion(start_line=place.first, end_line=place.last, replacement=after)


def _place(
    proposal: Proposal, finding: Finding, files: ReviewedFiles
) -> LineRange | None:
    """The lines to replace, as far from the evidence as the reviewer put them; None unless the two touch."""
    named = proposal.named
    evidence = files.place(
        finding.file or "", named.first, named.last, finding.evidence or ""
    )
    if evidence is None:
        return None
    shift = 0
    if named.first and named.distance(evidence):
        # Evidence of another length does not tell which of its lines was meant.
        if named.last - named.first != evidence.last - evidence.first:
            return None
        shift = evidence.first - named.first
    first = proposal.suggestion.start_line + shift
    place = LineRange(first, proposal.suggestion.end_line + shift)
    if place.distance(evidence) > 1:
        return None
    return place
