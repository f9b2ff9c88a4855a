"""All that a worker needs to know about its run, as stored in `spec.json`. Never an environment."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from types import UnionType

from codex_counsel.contract.envelope import Meta
from codex_counsel.contract.vocabulary import JOB_ID
from codex_counsel.jobs import kinds
from codex_counsel.system.json_values import JsonObject

FORMAT = 1
NO_LIMIT = 2**63 - 1
"""Stands in the records of releases that knew no such limit."""
THREAD = "THREAD"
"""Stands in `last_turn` for the id of a thread that does not exist yet."""
RETIRED = ("request",)
"""Fields that earlier releases of this format wrote and nobody reads."""
MAX_SUBJECT = 200
"""Characters of a request by which a person recognises its job."""
MAX_EPOCH_SECONDS = 1e11
"""No clock shows this many seconds since the epoch before the year 5000."""
FIELD_TYPES: tuple[tuple[type | UnionType, tuple[str, ...]], ...] = (
    (
        str,
        (
            "job_id",
            "tool",
            "subject",
            "cwd",
            "codex_home",
            "state",
            "scratch",
            "account",
            "workspace",
            "codex",
        ),
    ),
    (str | None, ("session_id", "library", "environment", "parent")),
    (int | None, ("max_tokens",)),
    (tuple | None, ("last_turn",)),
    (int | float, ("created", "total", "idle", "backoff")),
    (int, ("slots", "ttl", "max_records", "format", "max_bytes", "max_entries")),
    (bool, ("detached", "stays", "private")),
    (tuple, ("argv", "children")),
    (dict, ("meta",)),
    (
        dict | None,
        (
            "output_schema",
            "review",
            "delegate",
            "attempts",
            "proof",
            "in_place",
            "thread",
            "checks",
        ),
    ),
)
"""What a stored field must be an instance of."""


@dataclass(frozen=True)
class Spec:
    """`created` is in epoch seconds; `total`, `idle`, `backoff` and `ttl` are seconds; paths are absolute.

    `meta` are the fields of the envelope's `meta` that are known before the run.
    `environment` is a virtual environment whose programs commands are given.
    `max_bytes` and `max_entries` are what the run may add to `scratch`. `max_tokens` are
    what it may use, `last_turn` is the command line that asks for an answer then, with
    `THREAD` in the place of the thread. `max_records` is
    how many delivered jobs of a workspace are kept, each for `ttl`. `stays` is true for
    a run that goes on without its launcher: a caller who named it by a key will come
    back for it. `output_schema`, `library`, `review`, `delegate`, `attempts`, `proof` and
    `in_place` belong to one kind of run each: see `details`.

    `codex` is the path of its binary. `argv` is empty for a job that runs no Codex itself.
    `checks` is None for a run after which no command of ours runs; else the beginning of
    its command line (`argv`), the `variables` that the command gets, and the `seconds` that
    it may take. `children` are the ids of the jobs that this one may start, `parent` is
    that of the job that started this one. `thread` is what the thread of this run keeps, for
    one that `codex` of the removed `codex mcp-server` began.
    """

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
    meta: JsonObject
    session_id: str | None = None
    output_schema: JsonObject | None = None
    review: JsonObject | None = None
    delegate: JsonObject | None = None
    attempts: JsonObject | None = None
    proof: JsonObject | None = None
    in_place: JsonObject | None = None
    thread: JsonObject | None = None
    checks: JsonObject | None = None
    children: tuple[str, ...] = ()
    parent: str | None = None
    codex: str = ""
    library: str | None = None
    environment: str | None = None
    max_bytes: int = NO_LIMIT
    max_entries: int = NO_LIMIT
    max_records: int = 50
    max_tokens: int | None = None
    last_turn: tuple[str, ...] | None = None
    detached: bool = False
    stays: bool = False
    private: bool = False
    format: int = FORMAT

    @classmethod
    def parse(cls, raw: JsonObject) -> Spec:
        """Raises ValueError for another format, missing or unknown fields, and values of the wrong type."""
        if raw.get("format") != FORMAT:
            raise ValueError(
                f"it is not of the format {FORMAT} that this release reads"
            )

        values = {name: value for name, value in raw.items() if name not in RETIRED}
        for name in ("argv", "last_turn", "children"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        try:
            spec = cls(**values)
        except TypeError as error:
            raise ValueError(str(error)) from None

        wrong = spec._wrong_fields()
        if wrong:
            raise ValueError(f"fields with an impossible value: {', '.join(wrong)}")
        return spec

    def _wrong_fields(self) -> list[str]:
        wrong = []
        for expected, names in FIELD_TYPES:
            for name in names:
                value = getattr(self, name)
                if not isinstance(value, expected):
                    wrong.append(name)
        if wrong:
            return wrong

        # Python's JSON reader takes NaN and Infinity, of which no date can be made.
        if not 0 <= self.created < MAX_EPOCH_SECONDS:
            wrong.append("created")
        if not 0 <= self.ttl < MAX_EPOCH_SECONDS:
            wrong.append("ttl")
        # Paths are made of them.
        for job_id in self.children:
            if not re.fullmatch(JOB_ID, str(job_id)):
                wrong.append("children")
        return wrong

    def to_json(self) -> JsonObject:
        """The fields of `spec.json`."""
        return asdict(self)

    @property
    def kind(self) -> kinds.KindName:
        """What the job is: a row of `kinds.KINDS`."""
        return kinds.name_of(self.details)

    @property
    def has_tree(self) -> bool:
        """Whether Codex works in a tree of its own, which is captured when it has ended."""
        return self.kind in ("delegate", "proof")

    @property
    def details(self) -> JsonObject:
        """The fields that only the kind of this run reads; None for those of other kinds."""
        return {name: getattr(self, name) for name in kinds.KIND_FIELDS}

    def new_meta(self) -> Meta:
        """What was known before the run, with when the record may be dropped at the earliest, counted from now."""
        # A record of a newer release may have fields that this one does not know.
        names = {item.name for item in fields(Meta)}
        known = {name: value for name, value in self.meta.items() if name in names}
        meta = Meta(**known)
        meta.warnings = list(meta.warnings or ())
        meta.ttl_seconds = self.ttl
        meta.expires_at = self.expiry(time.time())
        return meta

    def expiry(self, ended: float) -> str:
        """When the record of a run that ended then (epoch seconds) may be dropped at the earliest: ISO 8601, UTC."""
        expires = datetime.fromtimestamp(ended + self.ttl, UTC)
        return expires.isoformat(timespec="seconds")
