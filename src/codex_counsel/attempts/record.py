"""What is kept of several attempts: which jobs they are (`spec.json`), and what was found out (`attempts.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from codex_counsel.contract.vocabulary import CheckStatus
from codex_counsel.system.files import read_json_or_none, write_atomically
from codex_counsel.system.json_values import Json

RECORD = "attempts.json"
"""The file of the job directory that holds an `AttemptsRecord`."""


@dataclass(frozen=True)
class AttemptsSpec:
    """As it stands in `spec.json` under the key `attempts`: the job ids of the attempts, and that of the judge."""

    jobs: tuple[str, ...]
    judge: str | None = None

    @classmethod
    def parse(cls, raw: Mapping[str, Json]) -> AttemptsSpec:
        """From the JSON of `spec.json`. Raises KeyError for a record without the jobs."""
        return cls(tuple(raw["jobs"]), raw.get("judge"))


@dataclass
class AttemptsRecord:
    """What the worker noted, JSON-ready.

    `without_result` are jobs that could not be started, or did not end when they were
    cancelled, with the code of the error. `base_exit` and `base_status` are of the check on
    the untouched start; the status is None where nobody asked for it, or the worker did not
    get so far. `base_reason` is why it could not be run. `shown` are the numbers of the
    attempts that the judge was shown as A, B, C ..., in this order.
    """

    without_result: dict[str, str] = field(default_factory=dict)
    base_exit: int | None = None
    base_status: CheckStatus | None = None
    base_reason: str | None = None
    shown: list[int] = field(default_factory=list)

    @classmethod
    def load(cls, directory: Path) -> AttemptsRecord:
        """The stored record; an empty one where nothing was noted yet."""
        try:
            return cls(**read_json_or_none(directory / RECORD))
        except TypeError:
            return cls()

    def store(self, directory: Path) -> None:
        """Raises OSError."""
        write_atomically(directory / RECORD, json.dumps(asdict(self)))
