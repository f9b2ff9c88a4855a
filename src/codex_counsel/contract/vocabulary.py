"""The fixed words of the wire, each list once: as a type, and as a tuple for checks, choices and the fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Severity = Literal["critical", "high", "medium", "low", "nit"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Gravest first."""

FailOn = Literal["critical", "high", "medium", "low", "nit", "never"]
"""The least severity of a finding that fails a review. `never`: none does."""
FAIL_ON: tuple[FailOn, ...] = get_args(FailOn)
DEFAULT_FAIL_ON: FailOn = "high"

PROJECT_FILE = ".codex-counsel.toml"
"""At the top of the repository: see `contract/project_file.py`."""

Verdict = Literal["pass", "concerns", "fail", "unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Confidence = Literal["low", "medium", "high"]
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)

Grounding = Literal["proven", "verified", "moved", "unverified"]
"""Whether the evidence of a finding was found where the finding says, elsewhere in the file, or not at all.
`proven`: found, and a test that we ran shows the failure."""
GROUNDINGS: tuple[Grounding, ...] = get_args(Grounding)

Category = Literal[
    "logic",
    "crash",
    "data_loss",
    "security",
    "concurrency",
    "error_handling",
    "resource_leak",
    "compatibility",
    "performance",
    "missing_step",
    "test",
    "documentation",
    "configuration",
    "other",
]
"""The kind of fault. A part of the identity of a finding: a word that is dropped here orphans what is on record."""
CATEGORIES: tuple[Category, ...] = get_args(Category)

FindingState = Literal["open", "accepted", "rejected", "fixed", "stale"]
"""What is on record of a finding. `accepted`: somebody agrees with it, and it counts until its evidence is gone.
`fixed`: its evidence is gone, and a review saw what stands there now. `stale`: it is gone unseen, or with its file."""
FINDING_STATES: tuple[FindingState, ...] = get_args(FindingState)
UNSETTLED: tuple[FindingState, ...] = ("open", "accepted")

Known = Literal["new", "open", "rejected", "returned"]
"""What was on record of a finding before this review. `returned`: it was fixed or stale, and is there again."""
KNOWNS: tuple[Known, ...] = get_args(Known)

FindingAction = Literal["list", "show", "accept", "reject", "reopen", "forget"]
FINDING_ACTIONS: tuple[FindingAction, ...] = get_args(FindingAction)
FINDING_ID = r"^[0-9a-f]{16}$"

Since = Literal["base", "last"]
"""What of a branch or range is sent: all since its base, or what no review has seen yet."""
SINCE: tuple[Since, ...] = get_args(Since)

Prove = Literal["none", "high", "all"]
"""Which findings of a review are to be proven. `high`: critical and high ones."""
PROVE: tuple[Prove, ...] = get_args(Prove)
ProofStatus = Literal["proven", "refuted", "inconclusive"]
PROOF_STATUSES: tuple[ProofStatus, ...] = get_args(ProofStatus)
ComparedState = Literal["base", "patched"]
"""The state in which a test that fails on the reviewed state must pass."""
CheckStatus = Literal["passed", "failed", "not_started", "timed_out", "not_run"]
"""`not_started`: the command or its first test could not begin, which says nothing about the change."""
CHECK_STATUSES: tuple[CheckStatus, ...] = get_args(CheckStatus)

ScopeKind = Literal["working_tree", "staged", "branch", "commit", "range", "files"]
SCOPES: tuple[ScopeKind, ...] = get_args(ScopeKind)
DEFAULT_SCOPE: ScopeKind = "working_tree"

AdviceStance = Literal["advise", "challenge"]
ADVICE_STANCES: tuple[AdviceStance, ...] = get_args(AdviceStance)
ReviewStance = Literal["review", "challenge"]
REVIEW_STANCES: tuple[ReviewStance, ...] = get_args(ReviewStance)

Detail = Literal["summary", "full"]
DETAILS: tuple[Detail, ...] = get_args(Detail)

RunStatus = Literal["completed", "queued", "running", "failed", "cancelled"]
STATUSES: tuple[RunStatus, ...] = get_args(RunStatus)
TERMINAL: tuple[RunStatus, ...] = ("completed", "failed", "cancelled")
StatusFilter = Literal["queued", "running", "completed", "failed", "cancelled"]
"""The same words in the order of a job's life, as `codex_job_list` publishes them."""
STATUS_FILTERS: tuple[StatusFilter, ...] = get_args(StatusFilter)

Phase = Literal[
    "queued",
    "starting",
    "thinking",
    "command",
    "answering",
    "checking",
    "waiting",
    "finishing",
]
"""`answering`: the budget of tokens is used up, and Codex was asked to answer now. `checking`: Codex has finished, and
a command of ours runs. `waiting`: for the jobs that this one has started."""
PHASES: tuple[Phase, ...] = get_args(Phase)

Isolation = Literal["lean", "inherit", "strict"]
ISOLATIONS: tuple[Isolation, ...] = get_args(Isolation)

Instructions = Literal["own", "codex"]
"""The base instructions of a consultation or review: those of `prompts/base.md`, or Codex's."""
INSTRUCTIONS: tuple[Instructions, ...] = get_args(Instructions)

SandboxMode = Literal["read-only", "worktree-write", "workspace-write"]
"""What commands may write besides their TMPDIR: nothing, the throwaway copy, or the user's workspace itself."""
SANDBOX_MODES: tuple[SandboxMode, ...] = get_args(SandboxMode)
Reads = Literal["workspace", "toolchains", "host"]
"""The read boundary that a caller may choose."""
READ_BOUNDARIES: tuple[Reads, ...] = get_args(Reads)
EnforcedReads = Literal["workspace", "toolchains", "partial", "host"]
"""The read boundary that was enforced."""
ENFORCED_READS: tuple[EnforcedReads, ...] = get_args(EnforcedReads)
HostControls = Literal["writable"]
HostControlsPolicy = Literal["report", "refuse"]
"""What to do where the sandbox leaves settings of the machine writable."""
HOST_CONTROLS_POLICIES: tuple[HostControlsPolicy, ...] = get_args(HostControlsPolicy)

EffortSource = Literal["caller", "setting", "codex", "opinion", "model"]
"""Who decided the reasoning effort. `opinion`: nobody did, and a second opinion is asked at a high one."""
EFFORT_SOURCES: tuple[EffortSource, ...] = get_args(EffortSource)

JOB_ID = r"^[0-9a-f]{32}$"
"""128 random bits. Check it before building any path with it."""
THREAD_ID = (
    r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
)


def strictest(bars: Iterable[FailOn]) -> FailOn:
    """Of these the one at which the most findings fail a review. Raises ValueError for none."""
    return max(bars, key=("never", *SEVERITIES).index)


CodexSandbox = Literal["read-only", "workspace-write", "danger-full-access"]
CODEX_SANDBOXES: tuple[CodexSandbox, ...] = get_args(CodexSandbox)
"""The sandboxes that Codex names: what the tool `codex` takes."""

ApprovalPolicy = Literal["untrusted", "on-failure", "on-request", "never"]
APPROVAL_POLICIES: tuple[ApprovalPolicy, ...] = get_args(ApprovalPolicy)
"""Codex's policies, those of earlier releases too: `untrusted` was dropped by 0.149, `on-failure` by 0.143."""


def severities_from(least: Severity) -> tuple[Severity, ...]:
    """`least` and all graver ones, gravest first."""
    return SEVERITIES[: SEVERITIES.index(least) + 1]
