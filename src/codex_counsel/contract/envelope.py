"""The result of every call: one flat model, told apart by `ok` and `status`. Absent fields are left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from codex_counsel import __version__
from codex_counsel.errors import CATALOG, CounselError
from codex_counsel.system.text import clean, clean_tree, cut, one_line

Status = Literal["completed", "queued", "running", "failed", "cancelled"]
Phase = Literal["queued", "starting", "thinking", "command", "finishing"]
TEXT_BUDGET = 45_000
"""Bytes of the text beside an envelope: room for the longest page of an answer, and still shown inline."""
TERMINAL = ("completed", "failed", "cancelled")
Severity = Literal["critical", "high", "medium", "low", "nit"]


EnvelopeDict = dict[str, Any]
"""An envelope as it is stored and sent: JSON-ready, scrubbed, without what does not apply."""


def _described(text: str) -> Any:
    return field(default=None, metadata={"description": text})


@dataclass(kw_only=True)
class Finding:
    severity: Severity
    title: str
    file: str | None = None
    line: int | None = None
    line_end: int | None = None
    section: str | None = _described("plan reviews: the part of the plan")
    evidence: str | None = _described("quoted from the reviewed state")
    risk: str | None = None
    recommendation: str | None = None
    grounded: Literal["verified", "moved", "unverified"] | None = _described(
        "whether the evidence was found where the finding says"
    )
    in_diff: bool | None = None


@dataclass(kw_only=True)
class Omission:
    path: str
    reason: str
    bytes: int | None = None


@dataclass(kw_only=True)
class Coverage:
    base_sha: str | None = None
    head_sha: str | None = None
    files: int = 0
    bytes: int = 0
    omitted: list[Omission] = field(default_factory=list)
    redactions: int = 0
    complete: bool = False


@dataclass(kw_only=True)
class Check:
    command: str
    exit_code: int | None = None


@dataclass(kw_only=True)
class DiffFile:
    path: str
    status: str
    added: int | None = None
    deleted: int | None = None
    sensitive: bool | None = None


@dataclass(kw_only=True)
class Next:
    tool: str
    arguments: dict[str, Any]


@dataclass(kw_only=True)
class Progress:
    phase: Phase
    last_command: str | None = None
    elapsed_ms: int
    silent_ms: int | None = _described("since Codex's last event")


@dataclass(kw_only=True)
class Failure:
    code: str
    message: str = field(metadata={"description": "Codex's own first specific sentence where it was Codex that failed"})
    repair: str
    retryable: bool
    retry_after_ms: int | None = None
    repair_tool: str | None = None
    repair_tool_params: dict[str, Any] | None = None
    details: dict[str, Any] | None = None


@dataclass(kw_only=True)
class Workspace:
    root: str
    source: str = field(metadata={"description": "argument, CLAUDE_PROJECT_DIR or the server's own directory"})
    warning: str | None = None


@dataclass(kw_only=True)
class Sandbox:
    mode: Literal["read-only", "worktree-write"]
    read_boundary: Literal["workspace", "toolchains", "partial", "host"] = field(
        metadata={"description": "what was really enforced; partial: some secret files could not be denied"}
    )
    network: bool


@dataclass(kw_only=True)
class CodexUsed:
    path: str
    version: str


@dataclass(kw_only=True)
class Usage:
    input: int
    cached_input: int
    output: int
    reasoning: int


@dataclass(kw_only=True)
class Meta:
    job_id: str | None = None
    session_id: str | None = _described("the Codex thread; pass it back to continue")
    workspace: Workspace | None = None
    sandbox: Sandbox | None = None
    codex: CodexUsed | None = None
    model: str | None = None
    effort: str | None = None
    usage: Usage | None = field(default=None, metadata={"description": "tokens of this run"})
    elapsed_ms: int | None = None
    scope: dict[str, Any] | None = None
    isolation: str | None = None
    warnings: list[str] = field(default_factory=list)
    truncated: bool | None = None
    next_cursor: str | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    server_version: str = __version__
    fingerprint: str | None = _described("changes when the tools or this schema change")


@dataclass(kw_only=True)
class Envelope:
    ok: bool
    status: Status
    tool: str
    summary: str
    answer: str | None = _described("Codex's answer, verbatim")
    verdict: Literal["pass", "concerns", "fail", "unknown"] | None = None
    confidence: Literal["low", "medium", "high"] | None = None
    findings: list[Finding] | None = None
    questions: list[str] | None = None
    assumptions: list[str] | None = None
    next_steps: list[str] | None = None
    coverage: Coverage | None = None
    diff: str | None = None
    diff_exact: bool | None = None
    diff_path: str | None = None
    diffstat: str | None = None
    files: list[DiffFile] | None = None
    base_sha: str | None = None
    checks: list[Check] | None = None
    ignored: list[str] | None = None
    planted: list[str] | None = None
    partial: bool | None = None
    job_id: str | None = None
    poll_after_ms: int | None = None
    next: Next | None = None
    progress: Progress | None = None
    data: Any = field(
        default=None, metadata={"description": "a free tool's object, or the reply that matched output_schema"}
    )
    error: Failure | None = None
    meta: Meta

    def wire(self) -> EnvelopeDict:
        """JSON-ready, scrubbed, without what does not apply."""
        dumped = _pruned(asdict(self))
        if not self.meta.warnings:
            del dumped["meta"]["warnings"]
        scrubbed: EnvelopeDict = clean_tree(dumped)
        return scrubbed


def _pruned(value: Any) -> Any:
    """Without the absent fields of our own models; a caller's `data` keeps its nulls."""
    if isinstance(value, dict):
        return {name: item if name == "data" else _pruned(item) for name, item in value.items() if item is not None}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def failure(error: CounselError) -> Failure:
    """What an error tells the caller."""
    meaning = CATALOG[error.code]
    return Failure(
        code=error.code,
        message=clean(error.message),
        repair=clean(error.repair or meaning.repair),
        retryable=meaning.retryable,
        retry_after_ms=error.retry_after_ms,
        repair_tool=error.repair_tool,
        repair_tool_params=error.repair_tool_params,
        details=clean_tree(error.details) or None,
    )


def failed(tool: str, error: CounselError, meta: Meta | None = None, **fields: Any) -> Envelope:
    """The envelope of a failure; `cancelled` is its own status."""
    status: Status = "cancelled" if error.code == "cancelled" else "failed"
    summary = f"{tool} {status}: {one_line(error.message, 300)}"
    kept = meta or Meta()
    return Envelope(ok=False, status=status, tool=tool, summary=summary, error=failure(error), meta=kept, **fields)


def free(tool: str, summary: str, data: Any, meta: Meta | None = None) -> Envelope:
    """The envelope of a tool that runs no model."""
    return Envelope(ok=True, status="completed", tool=tool, summary=summary, data=data, meta=meta or Meta())


def text_of(wire: EnvelopeDict) -> str:
    """The short text that goes with an envelope: all that a client shows of a failure."""
    if wire["ok"]:
        return cut(str(wire["summary"]), 2000)
    told = cut("\n".join(_told(wire)), 6000)
    answer = wire.get("answer")
    return cut(f"{told}\n\nSaid before it ended, no finished answer:\n{answer}", TEXT_BUDGET) if answer else told


def _told(wire: EnvelopeDict) -> list[str]:
    """What went wrong, and where to find what was had of it all the same."""
    kept = [f"{name}: {wire[name]}" for name in ("diff_path", "diffstat") if name in wire]
    if cursor := wire["meta"].get("next_cursor"):
        kept.append(f"There is more of it: codex_job_result with cursor {cursor}")
    if not (error := wire.get("error")):
        return [str(wire["summary"]), *kept]
    lines = [f"{error['code']}: {error['message']}", f"What to do: {error['repair']}"]
    if "retry_after_ms" in error:
        lines.append(f"Retry after {error['retry_after_ms'] // 1000} s.")
    for name, value in (error.get("details") or {}).items():
        lines.append(f"{name}: {value}")
    if job_id := wire["meta"].get("job_id"):
        lines.append(f"job_id: {job_id}")
    return [*lines, *kept, "A second opinion is a help, not a condition: go on without it if it cannot be had."]
