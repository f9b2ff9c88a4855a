"""Everything a worker needs to know of its run, as it stands in `spec.json`. Never an environment."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

FORMAT = 1
LATEST = 1e11
"""Epoch seconds that no clock shows before the year 5000."""
_KINDS: dict[str, Any] = {
    "str": str,
    "str | None": str | None,
    "int": int,
    "float": int | float,
    "bool": bool,
    "tuple[str, ...]": tuple,
    "dict[str, Any]": dict,
    "dict[str, Any] | None": dict | None,
}


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
    review: dict[str, Any] | None = None
    delegate: dict[str, Any] | None = None
    library: str | None = None
    detached: bool = False
    private: bool = False
    format: int = FORMAT

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Spec:
        """Raises ValueError for a record of another format, with fields missing, or of the wrong kind."""
        if raw.get("format") != FORMAT:
            raise ValueError(f"it is not of the format {FORMAT} that this release reads")
        try:
            spec = cls(**{**raw, "argv": tuple(raw["argv"])})
        except (TypeError, KeyError) as error:
            raise ValueError(str(error)) from None
        wrong = [item.name for item in fields(cls) if not isinstance(getattr(spec, item.name), _KINDS[str(item.type)])]
        if wrong or not 0 <= spec.created < LATEST or not 0 <= spec.ttl < LATEST:
            raise ValueError(f"of the wrong kind: {', '.join(wrong) or 'created, ttl'}")
        return spec

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
