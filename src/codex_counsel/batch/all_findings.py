"""All findings of a batch: each once, with the items that reported it, and of very many the gravest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from codex_counsel.contract.envelope import Finding
from codex_counsel.contract.vocabulary import GROUNDINGS, SEVERITIES, Severity
from codex_counsel.system.text import one_line

MAX_FINDINGS = 2_000
MAX_TEXT = 2_000
"""Characters of one text of a finding."""
MAX_REPLACEMENT = 4_000
"""Characters of a proposed replacement or a test; a longer one is left out."""
MAX_NAMES = 5
"""Items that a finding names."""
_KNOWN = ("returned", "new", None, "open", "rejected")
"""States of a finding on record, the one first that says most for it."""
Key = tuple[object, ...]


@dataclass(slots=True)
class ReportedFinding:
    """A finding as the gravest item has it, cut to what documents show, and who reported it.

    `file` is its path in the repository that the job `job_id` reviewed. Of the `count`
    items that reported it, `items` has the first ones.
    """

    finding: Finding
    file: str | None
    job_id: str
    items: list[str]
    count: int = 1

    def with_items(self) -> Finding:
        """The finding, with the items that reported it in its text: no format has a field for them."""
        label = "Items" if self.count > 1 else "Item"
        sentence = f"{label}: {listed(self.items, self.count)}"
        risk = sentence
        if self.finding.risk:
            risk = f"{self.finding.risk}\n\n{sentence}"
        return replace(self.finding, risk=risk)


class AllFindings:
    """Merges findings as they come. `repository` is the number of the repository that a finding is about."""

    def __init__(self) -> None:
        self.left_out = 0
        self.open_left_out: Counter[Severity] = Counter()
        """Of those that were left out, without those that decide nothing."""
        self._kept: dict[Key, ReportedFinding] = {}
        self._seen: set[Key] = set()

    def add(
        self,
        finding: Finding,
        *,
        repository: int,
        shown_file: str | None,
        item_id: str,
        job_id: str,
    ) -> None:
        """One more finding. `shown_file` is how documents call its file."""
        key = _key(repository, finding)
        known = self._kept.get(key)
        if known is None:
            if key in self._seen:
                return
            self._seen.add(key)
            cut = _trimmed(finding, shown_file)
            self._kept[key] = ReportedFinding(cut, finding.file, job_id, [item_id])
            if len(self._kept) >= 2 * MAX_FINDINGS:
                self._keep_gravest()
            return
        known.count += 1
        if len(known.items) < MAX_NAMES:
            known.items.append(item_id)
        if _gravity(finding) < _gravity(known.finding):
            known.finding = _trimmed(finding, shown_file)
            known.file, known.job_id = finding.file, job_id

    def has(self, repository: int, finding_id: str) -> bool:
        """Whether an item has reported the finding with this id, be it left out."""
        return (repository, finding_id) in self._seen

    def gravest(self) -> list[ReportedFinding]:
        """Those that are kept, the gravest first; the others are counted as left out."""
        self._keep_gravest()
        return sorted(self._kept.values(), key=lambda one: _gravity(one.finding))

    def _keep_gravest(self) -> None:
        order = sorted(self._kept, key=lambda key: _gravity(self._kept[key].finding))
        for key in order[MAX_FINDINGS:]:
            finding = self._kept.pop(key).finding
            self.left_out += 1
            if not finding.is_settled:
                self.open_left_out[finding.severity] += 1


def listed(names: list[str], count: int) -> str:
    """The first names of `count`, and how many more there are."""
    text = ", ".join(names)
    if count > len(names):
        text += f" and {count - len(names)} more"
    return text


def _key(repository: int, finding: Finding) -> Key:
    """What makes two findings one: a repository and the id; a finding without an id is what it says and where."""
    if finding.id:
        return repository, finding.id
    return (
        repository,
        None,
        finding.file,
        finding.section,
        finding.line,
        one_line(finding.title, 500),
    )


def _gravity(finding: Finding) -> tuple[int, ...]:
    """The lower, the graver."""
    grounded = finding.grounded or "unverified"
    return (
        int(finding.is_settled),
        SEVERITIES.index(finding.severity),
        _KNOWN.index(finding.known),
        GROUNDINGS.index(grounded),
    )


def _trimmed(finding: Finding, file: str | None) -> Finding:
    """With what documents show of it, in a copy."""
    suggestion = finding.suggestion
    if suggestion and len(suggestion.replacement) > MAX_REPLACEMENT:
        suggestion = None
    proof = finding.proof
    if proof:
        is_long = len(proof.patch or "") > MAX_REPLACEMENT
        proof = replace(
            proof,
            reason=_cut(proof.reason) or "",
            patch=None if is_long else proof.patch,
            output_tail=_cut(proof.output_tail),
            command=_cut(proof.command),
        )
    return replace(
        finding,
        file=file,
        title=one_line(finding.title, 500),
        section=_cut(finding.section),
        evidence=_cut(finding.evidence),
        risk=_cut(finding.risk),
        recommendation=_cut(finding.recommendation),
        reason=_cut(finding.reason),
        suggestion=suggestion,
        proof=proof,
    )


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_TEXT:
        return text
    # An ellipsis would double the bytes of a text that is ASCII.
    return f"{text[:MAX_TEXT]} [...]"
