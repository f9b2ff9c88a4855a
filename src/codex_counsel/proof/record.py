"""What is kept of the proofs of a review: in its own job directory, and in those of the jobs that prove.

The review stores `proofs.json` before its proofs start, and each proof `proof.json`
when its runs have ended. So whatever is killed, what has ended is found.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codex_counsel.contract.envelope import Proof, Suggestion
from codex_counsel.contract.reading import read, read_file
from codex_counsel.system.files import write_atomically
from codex_counsel.system.json_values import Json

ASSIGNMENTS = "proofs.json"
"""The file of the review's job directory that holds its `Assignments`."""
PROOF = "proof.json"
"""The file of a proof's job directory that holds a `ProofRecord`."""
UNFINISHED = "its worker was ended before the test had been run"
"""Why there is none, of a job whose turn was completed."""
LEAST_TOKENS = 20_000
"""Of one proof. With fewer, a prover has read its instructions and little else."""


@dataclass(frozen=True, kw_only=True)
class ProofPlan:
    """What a review needs to start proofs, as it stands in its record.

    Findings of `severities` are proven. `jobs` are the ids of the prepared jobs, `prompt`
    is theirs up to the finding. `base` is the commit that the change is compared with.
    `max_tokens` are those of the review and all its proofs together; a proof for which
    fewer than `least_tokens` are left is not begun.
    """

    severities: list[str]
    jobs: list[str]
    prompt: str
    base: str | None = None
    max_tokens: int | None = None
    least_tokens: int = 0

    @classmethod
    def from_json(cls, raw: Json) -> ProofPlan:
        """Raises ValueError."""
        plan: ProofPlan = read(cls, raw, "prove")
        return plan


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The finding that a job is to prove: its position in the sorted reply, its place, and what it proposes.

    `base` is the commit that the change is compared with.
    """

    job_id: str
    finding: int
    file: str
    line: int | None = None
    base: str | None = None
    suggestion: Suggestion | None = None


@dataclass(frozen=True, kw_only=True)
class Assignments:
    """Which job proves what. `notes` say what is not proven, and why."""

    jobs: list[Assignment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path) -> Assignments | None:
        """Those in this job directory; None where there are none that can be read."""
        return read_file(cls, directory / ASSIGNMENTS)

    def store(self, directory: Path) -> None:
        """Raises OSError."""
        write_atomically(
            directory / ASSIGNMENTS, json.dumps(asdict(self), ensure_ascii=False)
        )

    def of_job(self, job_id: str) -> Assignment | None:
        """What this job is to prove."""
        for assignment in self.jobs:
            if assignment.job_id == job_id:
                return assignment
        return None


@dataclass(frozen=True, kw_only=True)
class ProofRecord:
    """What came of a proof. `suggestion` is a replacement that the test passed with and the finding does not have."""

    proof: Proof
    suggestion: Suggestion | None = None

    @classmethod
    def load(cls, directory: Path) -> ProofRecord | None:
        """The record in this job directory; None where there is none that can be read."""
        return read_file(cls, directory / PROOF)

    def store(self, directory: Path) -> None:
        """Raises OSError."""
        write_atomically(
            directory / PROOF, json.dumps(asdict(self), ensure_ascii=False)
        )
