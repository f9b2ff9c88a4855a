"""The result of every call: one flat dataclass, told apart by `ok` and `status`. Fields that do not apply are left out.

`Envelope.wire()` makes the JSON object that is stored and sent; `Envelope.parse()`
reads it back. The class names are the `$defs` of the published schema.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from codex_counsel import __version__
from codex_counsel.contract.reading import read
from codex_counsel.contract.vocabulary import (
    Category,
    CheckStatus,
    ComparedState,
    Confidence,
    EffortSource,
    EnforcedReads,
    FailOn,
    FindingState,
    Grounding,
    HostControls,
    Known,
    Phase,
    ProofStatus,
    RunStatus,
    SandboxMode,
    Severity,
    Verdict,
)
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import clean, clean_tree, cut, one_line, visible

SUMMARY_BYTES = 2_000
FAILURE_BYTES = 6_000
MAX_LINE_NUMBER = 2**31 - 1
TEXT_BUDGET = 45_000
"""Bytes of the text beside an envelope: room for the longest page of an answer, and still shown inline."""

EnvelopeDict = JsonObject
"""An envelope as it is stored and sent: JSON-ready, control characters removed, without fields that do not apply."""


def _optional_field(description: str) -> Any:
    """An optional field with a description in the published schema."""
    return field(default=None, metadata={"description": description})


def _required_field(description: str) -> Any:
    return field(metadata={"description": description})


@dataclass(kw_only=True)
class Rule:
    """A rule of the team that a finding rests on, quoted from one of the rule files that were sent."""

    file: str
    quote: str


@dataclass(kw_only=True)
class Suggestion:
    """Whole lines of the reviewed state, and what to put in their place; an empty text removes them."""

    start_line: int
    end_line: int
    replacement: str


@dataclass(kw_only=True)
class Proof:
    """What running a test says about a finding. All exit codes are of our own runs.

    The test was written by one further turn of Codex, the job `job_id`; codex_apply puts it
    into the working tree.
    """

    status: ProofStatus
    reason: str = _required_field("why the status is this one")
    command: str | None = _optional_field("runs the test")
    exit_head: int | None = _optional_field("on the reviewed state with the test")
    exit_other: int | None = None
    other: ComparedState | None = _optional_field(
        "what exit_other is of: the base, or the reviewed state with the proposed replacement"
    )
    patch: str | None = _optional_field("adds the test")
    output_tail: str | None = _optional_field("of the run on the reviewed state")
    job_id: str | None = None


@dataclass(kw_only=True)
class Finding:
    """One finding of a review."""

    id: str | None = _optional_field(
        "the same in every review, wherever the code moves; codex_findings takes it"
    )
    severity: Severity
    title: str
    category: Category | None = None
    known: Known | None = _optional_field(
        "what was on record before; rejected: it does not decide the verdict"
    )
    reason: str | None = _optional_field("why it was rejected, and who said so")
    carried: bool | None = _optional_field(
        "true: of an earlier review, not raised by this one, and its code still stands"
    )
    file: str | None = None
    line: int | None = None
    line_end: int | None = None
    section: str | None = _optional_field("plan reviews: the part of the plan")
    evidence: str | None = _optional_field("quoted from the reviewed state")
    risk: str | None = None
    recommendation: str | None = None
    grounded: Grounding | None = _optional_field(
        "whether the evidence was found where the finding says"
    )
    in_diff: bool | None = None
    rule: Rule | None = _optional_field(
        "the team's review rule that it rests on; it was found in the rules sent"
    )
    suggestion: Suggestion | None = _optional_field(
        "replaces whole lines; it was checked against the reviewed state"
    )
    proof: Proof | None = _optional_field(
        "prove: what a test says that was run for this finding; refuted: lowered to nit"
    )
    fail_on: FailOn | None = _optional_field(
        "the severity that fails the review in this file, where the project file sets a stricter one for it"
    )

    @property
    def is_rejected(self) -> bool:
        """Whether somebody rejected it before."""
        return self.known == "rejected"

    @property
    def is_refuted(self) -> bool:
        """Whether a test that we ran says that the claim is wrong."""
        return self.proof is not None and self.proof.status == "refuted"

    @property
    def is_settled(self) -> bool:
        """Whether it is shown, and decides nothing: rejected before, or refuted."""
        return self.is_rejected or self.is_refuted


@dataclass(kw_only=True)
class Resolved:
    """A finding of an earlier review whose evidence is gone. See `FindingState`."""

    id: str
    state: FindingState
    severity: Severity
    title: str
    file: str | None = None


@dataclass(kw_only=True)
class Omission:
    """A part of the material that was not sent, and why."""

    path: str
    reason: str
    bytes: int | None = None


@dataclass(kw_only=True)
class RuleFile:
    """A file with review rules of the team, as it is in the base revision."""

    path: str
    folder: str = _required_field("what its rules hold for; ./ is the repository")
    sha: str | None = _optional_field("git's id of the content that was read")
    bytes: int = _required_field("bytes of its rules that were sent")
    omitted: str | None = _optional_field(
        "why its rules, or a part of them, were not sent; new: only the change brings them"
    )
    changed: bool | None = _optional_field(
        "true: the change touches these rules; those of the base were used"
    )


@dataclass(kw_only=True)
class SeenEarlier:
    """An earlier review that was sent files of this change, whole and as they are now."""

    job_id: str
    ended: str = _required_field("UTC")
    head_sha: str | None = None
    files: int = 0


@dataclass(kw_only=True)
class Coverage:
    """What of the change a review was sent."""

    base_sha: str | None = None
    head_sha: str | None = None
    files: int = 0
    bytes: int = 0
    omitted: list[Omission] = field(default_factory=list)
    redactions: int = 0
    complete: bool = False
    rules: list[RuleFile] | None = _optional_field(
        "files with review rules, those that hold for most of the change first"
    )
    skipped: int | None = _optional_field(
        "files that the project file leaves out of reviews; they do not make the material incomplete"
    )
    seen: list[SeenEarlier] | None = _optional_field(
        "since: last: what was not sent because these reviews saw it"
    )


@dataclass(kw_only=True)
class Check:
    """A command that a delegate ran. `exit_code` is None where the run ended first."""

    command: str
    exit_code: int | None = None


@dataclass(kw_only=True)
class CheckResult:
    """The caller's check, run on the returned diff after Codex had finished, in the sandbox of the task.

    `base_exit` and `base_status` are of the same command on the untouched start.
    """

    command: str
    status: CheckStatus
    reason: str | None = _optional_field("why it was not started, not run or ended")
    exit: int | None = None
    seconds: float | None = None
    output_tail: str | None = _optional_field("paths in the copy begin with `.`")
    base_exit: int | None = None
    base_status: CheckStatus | None = None


@dataclass(kw_only=True)
class Agreement:
    """Files that another attempt left with the very same content. `all`: the two diffs are the same."""

    attempt: int
    files: list[str]
    all: bool


@dataclass(kw_only=True)
class Attempt:
    """One of several attempts at a task. `rank` 1 is the best; attempts that nothing tells apart share one."""

    attempt: int
    rank: int
    tie: bool | None = _optional_field("true: another attempt has the same rank")
    why: str = _required_field("what decided the rank")
    job_id: str | None = _optional_field("codex_apply takes it")
    status: RunStatus
    error: str | None = _optional_field("its code")
    check: CheckResult | None = None
    diffstat: str | None = None
    files: list[str] = field(default_factory=list)
    changed_lines: int | None = _optional_field("outside tests")
    agrees: list[Agreement] | None = None
    judge_rank: int | None = None
    judge_reason: str | None = None
    model: str | None = None
    effort: str | None = None
    usage: Usage | None = None
    session_id: str | None = None


@dataclass(kw_only=True)
class DiffFile:
    """A file of a diff. `status` is a letter of git; `sensitive` marks what tools execute or obey.

    `build` marks what building, testing or installing the project executes.
    """

    path: str
    status: str
    added: int | None = None
    deleted: int | None = None
    sensitive: bool | None = None
    build: bool | None = None


@dataclass(kw_only=True)
class Next:
    """The next call to make."""

    tool: str
    arguments: JsonObject


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    phase: Phase
    last_command: str | None = None
    elapsed_ms: int
    silent_ms: int | None = _optional_field("since Codex's last event")


@dataclass(kw_only=True)
class Failure:
    """What failed and what to do about it."""

    code: str
    message: str = _required_field(
        "Codex's own first specific sentence where it was Codex that failed"
    )
    repair: str
    retryable: bool
    retry_after_ms: int | None = None
    repair_tool: str | None = None
    repair_tool_params: JsonObject | None = None
    details: JsonObject | None = None


@dataclass(kw_only=True)
class Workspace:
    """The directory that a run was given, and where its name came from."""

    root: str
    source: str = _required_field(
        "argument, CLAUDE_PROJECT_DIR or the server's own directory"
    )
    warning: str | None = None


@dataclass(kw_only=True)
class Sandbox:
    """What a run could touch."""

    mode: SandboxMode
    read_boundary: EnforcedReads = _required_field(
        "what was really enforced; partial: some secret files could not be denied"
    )
    network: bool
    host_controls: HostControls | None = _optional_field(
        "writable: commands could change settings of the machine (/proc/sys), because Codex ran as root"
    )


@dataclass(kw_only=True)
class CodexUsed:
    """The Codex binary of a run."""

    path: str
    version: str


@dataclass(kw_only=True)
class Usage:
    """Tokens."""

    input: int
    cached_input: int
    output: int
    reasoning: int

    @classmethod
    def total(cls, usages: Iterable[Usage]) -> Usage | None:
        """The sum of these; None where there are none."""
        totals: Counter[str] = Counter()
        for usage in usages:
            totals.update(asdict(usage))
        if not totals:
            return None
        return cls(**{item.name: totals[item.name] for item in fields(cls)})


@dataclass(kw_only=True)
class BudgetReached:
    """A run that was cut short at its limit of tokens. `used` are all of the run, with those of its answer."""

    limit: int
    used: int


@dataclass(kw_only=True)
class ProjectFile:
    """The project file `.codex-counsel.toml` that was in force."""

    revision: str = _required_field("the commit that it was read from")
    used: list[str] = _required_field(
        "what it decided: scope, base, skip, fail_on, focus, check"
    )
    fail_on: FailOn | None = _optional_field(
        "the severity that fails the review where the caller names none"
    )
    strictest_fail_on: FailOn | None = _optional_field(
        "the strictest of those that hold for some files alone"
    )
    changed: bool | None = _optional_field(
        "true: the change touches this file; its new form was not in force"
    )


@dataclass(kw_only=True)
class Meta:
    """Where a result came from."""

    job_id: str | None = None
    session_id: str | None = _optional_field(
        "the Codex thread; pass it back to continue"
    )
    workspace: Workspace | None = None
    sandbox: Sandbox | None = None
    codex: CodexUsed | None = None
    model: str | None = None
    effort: str | None = None
    effort_source: EffortSource | None = _optional_field(
        "who decided it; codex: the user's Codex configuration; opinion: nobody, so this server asked for a high one; "
        "model: its own default"
    )
    usage: Usage | None = _optional_field("tokens of this run")
    usage_thread: Usage | None = _optional_field(
        "tokens of the whole thread up to now, where this run continued one"
    )
    usage_proofs: Usage | None = _optional_field(
        "tokens of the runs that wrote the tests of a review, which `usage` does not count"
    )
    budget_reached: BudgetReached | None = _optional_field(
        "the run was cut short at max_tokens"
    )
    elapsed_ms: int | None = None
    scope: JsonObject | None = None
    project_file: ProjectFile | None = None
    isolation: str | None = None
    warnings: list[str] = field(default_factory=list)
    truncated: bool | None = None
    next_cursor: str | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    server_version: str = __version__
    fingerprint: str | None = _optional_field(
        "changes when the tools or this schema change"
    )


@dataclass(kw_only=True)
class Envelope:
    """The result of a call. `error` is there unless `ok`; which other fields are there depends on the tool."""

    ok: bool
    status: RunStatus
    tool: str
    summary: str
    answer: str | None = _optional_field("Codex's answer, verbatim")
    verdict: Verdict | None = None
    confidence: Confidence | None = None
    findings: list[Finding] | None = None
    resolved: list[Resolved] | None = _optional_field(
        "findings of earlier reviews whose evidence is gone"
    )
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
    checks: list[Check] | None = _optional_field("commands that Codex ran itself")
    check: CheckResult | None = _optional_field(
        "the command of the caller (argument `check`), run by this server"
    )
    attempts: list[Attempt] | None = None
    ignored: list[str] | None = None
    planted: list[str] | None = None
    partial: bool | None = None
    job_id: str | None = None
    poll_after_ms: int | None = None
    next: Next | None = None
    progress: Progress | None = None
    data: Json = _optional_field(
        "a free tool's object, or the reply that matched output_schema"
    )
    error: Failure | None = None
    meta: Meta

    @classmethod
    def parse(cls, raw: Json) -> Envelope:
        """The inverse of `wire`. Unknown keys are ignored, and lines that no file has.

        Raises ValueError, with the place of the value, where a field is missing or has
        a value of the wrong kind.
        """
        envelope: Envelope = read(cls, raw, "envelope")
        for finding in envelope.findings or ():
            _drop_impossible_lines(finding)
        return envelope

    def wire(self) -> EnvelopeDict:
        """JSON-ready: control characters removed, without the fields that do not apply."""
        present = _without_absent(asdict(self))
        if not self.meta.warnings:
            del present["meta"]["warnings"]
        envelope: EnvelopeDict = clean_tree(present)
        return envelope


def _drop_impossible_lines(finding: Finding) -> None:
    """Leave only line numbers that formats have a place for; what replaces other lines replaces nothing."""
    first, last = _possible(finding.line), _possible(finding.line_end)
    finding.line = first or last
    finding.line_end = last
    if finding.line and last and last < finding.line:
        finding.line_end = None
    suggestion = finding.suggestion
    if suggestion is None:
        return
    first, last = _possible(suggestion.start_line), _possible(suggestion.end_line)
    if first is None or last is None or last < first:
        finding.suggestion = None


def _possible(line: int | None) -> int | None:
    if line is None or not 1 <= line <= MAX_LINE_NUMBER:
        return None
    return line


def _without_absent(value: Json) -> Json:
    """Drop the None fields of our own classes; `data` belongs to someone else and keeps its nulls."""
    if isinstance(value, list):
        return [_without_absent(item) for item in value]
    if not isinstance(value, dict):
        return value

    present = {}
    for name, item in value.items():
        if item is None:
            continue
        present[name] = item if name == "data" else _without_absent(item)
    return present


# --- making one


def failure(error: CounselError) -> Failure:
    """The `error` object of an envelope; where the error brings no repair, that of its code."""
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


def failed(
    tool: str, error: CounselError, meta: Meta | None = None, **extra: Json
) -> Envelope:
    """The envelope of a failure: status `cancelled` for the code `cancelled`, else `failed`."""
    status: RunStatus = "failed"
    if error.code == Code.CANCELLED:
        status = "cancelled"
    return Envelope(
        ok=False,
        status=status,
        tool=tool,
        summary=f"{tool} {status}: {one_line(error.message, 300)}",
        error=failure(error),
        meta=meta or Meta(),
        **extra,
    )


def completed(
    tool: str, summary: str, data: Json, meta: Meta | None = None
) -> Envelope:
    """The envelope of a tool that runs no model."""
    return Envelope(
        ok=True,
        status="completed",
        tool=tool,
        summary=summary,
        data=data,
        meta=meta or Meta(),
    )


# --- text for people


def progress_line(progress: Progress) -> str:
    """A progress line, such as `running make test (12s)`. What the model put into a command shows, and stays inert."""
    seconds = progress.elapsed_ms // 1000
    words: str = progress.phase
    if progress.last_command and progress.phase in _WITH_WORDS:
        command = one_line(visible(progress.last_command[:500]), 120)
        words = f"{_WITH_WORDS[progress.phase]}{command}"
    return f"{words} ({seconds}s)"


_WITH_WORDS: dict[Phase, str] = {
    "command": "running ",
    "checking": "running the check: ",
    "waiting": "waiting: ",
}
"""What a progress line of a phase begins with where `last_command` is known: a command, or how many jobs have ended."""


def text_of(wire: EnvelopeDict) -> str:
    """The short text that goes with an envelope or a page of one: all that a client shows of a failure."""
    if wire["ok"]:
        return cut(str(wire["summary"]), SUMMARY_BYTES)

    text = cut("\n".join(_failure_lines(wire)), FAILURE_BYTES)
    answer = wire.get("answer")
    if not answer:
        return text
    return cut(
        f"{text}\n\nInterim message, not a finished answer:\n{answer}", TEXT_BUDGET
    )


def _failure_lines(wire: EnvelopeDict) -> list[str]:
    """What went wrong, what to do, and where to find the part of the work that exists."""
    error = wire.get("error")
    if error is None:
        return [str(wire["summary"]), *_partial_work(wire)]

    lines = [f"{error['code']}: {error['message']}", f"What to do: {error['repair']}"]
    if "retry_after_ms" in error:
        lines.append(f"Retry after {error['retry_after_ms'] // 1000} s.")
    for name, value in error.get("details", {}).items():
        lines.append(f"{name}: {value}")
    if "job_id" in wire["meta"]:
        lines.append(f"job_id: {wire['meta']['job_id']}")
    lines += _partial_work(wire)
    lines.append("A second opinion is optional: go on without it if it cannot be had.")
    return lines


def _partial_work(wire: EnvelopeDict) -> list[str]:
    lines = [
        f"{name}: {wire[name]}" for name in ("diff_path", "diffstat") if name in wire
    ]
    if "next_cursor" in wire["meta"]:
        lines.append(
            f"There is more of it: codex_job_result with cursor {wire['meta']['next_cursor']}"
        )
    return lines
