"""Everything a worker needs to know of its run, as it stands in `spec.json`. Never an environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT = 1
JOB_ID = r"^[0-9a-f]{32}$"
"""128 random bits; checked before any path is built."""


@dataclass(frozen=True)
class Spec:
    """`created` is in epoch seconds; `total` and `idle` are seconds; paths are absolute."""

    job_id: str
    tool: str
    subject: str
    created: float
    argv: tuple[str, ...]
    cwd: str
    codex_home: str
    state: str
    scratch: str
    total: float
    idle: float
    slots: int
    account: str
    backoff: float
    ttl: int
    workspace: str
    meta: dict[str, Any]
    request: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None
    output_schema: dict[str, Any] | None = None
    library: str | None = None
    detached: bool = False
    private: bool = False
    format: int = FORMAT

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Spec:
        """Raises ValueError for a record of another format or with fields missing."""
        if raw.get("format") != FORMAT:
            raise ValueError(f"format {raw.get('format')!r}, this release reads {FORMAT}")
        try:
            return cls(**{**raw, "argv": tuple(raw["argv"])})
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
