"""What the machine that ran a review says of its evidence, for where the reviewed state is not here any more.

Where it is here, nobody is asked: a finding is verified if its quotation is found.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codex_counsel.review.changes.comparison import Comparison

if TYPE_CHECKING:
    from codex_counsel.contract.envelope import Finding
    from codex_counsel.contract.vocabulary import Grounding
    from codex_counsel.git.repo import Repo
    from codex_counsel.review.record import ReviewRecord

Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Testimony:
    """`groundings` by `key_of` a finding. `sent` is when the reviewed files were packed (epoch seconds), if known."""

    groundings: Mapping[Key, Grounding]
    sent: float | None = None

    @classmethod
    def of(cls, findings: Iterable[Finding], sent: float | None) -> Testimony:
        """That of the findings as the other machine concluded them."""
        groundings: dict[Key, Grounding] = {}
        for finding in findings:
            said = finding.grounded
            if said == "proven":
                # Proven findings are verified ones; the proof itself is told elsewhere.
                said = "verified"
            if said in ("verified", "moved"):
                groundings[key_of(finding)] = said
        return cls(groundings, sent)

    def fill_in(
        self, findings: Iterable[Finding], record: ReviewRecord, repo: Repo | None
    ) -> list[str]:
        """Take its word for findings that cannot be checked here, and return the warnings."""
        unchecked = 0
        is_here = _is_here(record, repo)
        for finding in findings:
            said = self.groundings.get(key_of(finding))
            if finding.grounded != "unverified" or said is None or is_here:
                continue
            if repo is not None and self._is_unchanged(finding, record, repo):
                continue
            finding.grounded = said
            unchecked += 1
        if not unchecked:
            return []
        warning = (
            f"{unchecked} findings quote text that is not in the files here as they are now: that it stood in what was "
            "reviewed is the word of the machine that ran the review"
        )
        return [warning]

    def _is_unchanged(self, finding: Finding, record: ReviewRecord, repo: Repo) -> bool:
        """Whether the file on disk is the one that was packed."""
        if self.sent is None or not finding.file:
            return False
        for entry in record.changes().entries:
            if entry.path == finding.file:
                return _changed_at(repo, entry.path_bytes) < self.sent
        name = finding.file.encode("utf-8", "surrogateescape")
        return _changed_at(repo, name) < self.sent


def key_of(finding: Finding) -> Key:
    """What a finding says, which is the same wherever its reply is read."""
    return finding.title, finding.section, finding.evidence, finding.risk


def _is_here(record: ReviewRecord, repo: Repo | None) -> bool:
    """Whether the reviewed state is a commit that this repository has: then what is not in it never was."""
    if repo is None or record.frame is None or record.plan is not None:
        return False
    comparison = Comparison.from_json(record.frame)
    if comparison.state != "commit" or comparison.head is None:
        return False
    code, _, _ = repo.try_git("cat-file", "-e", f"{comparison.head}^{{commit}}")
    return code == 0


def _changed_at(repo: Repo, name: bytes) -> float:
    """When the file was changed last; for one that is gone, now."""
    try:
        status = (repo.root / os.fsdecode(name)).lstat()
    except (OSError, ValueError):
        return float("inf")
    return max(status.st_mtime, status.st_ctime)
