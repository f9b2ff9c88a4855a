"""The failures a caller can meet: one code each, what it means and how to go on."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """The codes of all failures, as they stand in envelopes."""

    INVALID_ARGUMENTS = "invalid_arguments"
    WORKSPACE_INVALID = "workspace_invalid"
    NOT_A_GIT_REPO = "not_a_git_repo"
    NO_COMMITS = "no_commits"
    NOTHING_TO_REVIEW = "nothing_to_review"
    UNKNOWN_REF = "unknown_ref"
    INPUT_TOO_LARGE = "input_too_large"
    PROJECT_FILE_INVALID = "project_file_invalid"
    NOT_INSTALLED = "not_installed"
    CODEX_NOT_FOUND = "codex_not_found"
    CODEX_TOO_OLD = "codex_too_old"
    UNSUPPORTED_PLATFORM = "unsupported_platform"
    AUTH_REQUIRED = "auth_required"
    USAGE_LIMIT = "usage_limit"
    RATE_LIMITED = "rate_limited"
    BACKING_OFF = "backing_off"
    QUOTA_RESERVED = "quota_reserved"
    MODEL_REJECTED = "model_rejected"
    MODEL_CAPACITY = "model_capacity"
    CONTEXT_EXCEEDED = "context_exceeded"
    STREAM_DISCONNECTED = "stream_disconnected"
    SANDBOX_UNAVAILABLE = "sandbox_unavailable"
    BOUNDARY_INCOMPLETE = "boundary_incomplete"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    CANCELLED = "cancelled"
    PROCESS_DIED = "process_died"
    RESOURCE_LIMIT = "resource_limit"
    EMPTY_OUTPUT = "empty_output"
    WORKTREE_FAILED = "worktree_failed"
    QUOTA_EXCEEDED = "quota_exceeded"
    BUDGET_REACHED = "budget_reached"
    APPLY_CONFLICT = "apply_conflict"
    JOB_NOT_FOUND = "job_not_found"
    FINDING_NOT_FOUND = "finding_not_found"
    JOB_RUNNING = "job_running"
    JOB_CORRUPT = "job_corrupt"
    PACK_INVALID = "pack_invalid"
    WORKER_LOST = "worker_lost"
    CLUSTER_FAILED = "cluster_failed"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    STORAGE_FAILED = "storage_failed"
    SESSION_NOT_FOUND = "session_not_found"
    SESSION_BUSY = "session_busy"
    CODEX_CONFIG_INVALID = "codex_config_invalid"
    NETWORK_UNAVAILABLE = "network_unavailable"
    UPSTREAM_ERROR = "upstream_error"
    HUB_FAILED = "hub_failed"
    INCOMPLETE = "incomplete"
    POLICY_REFUSED = "policy_refused"
    ALREADY_APPLIED = "already_applied"
    INTERNAL = "internal"


DONE = 0
FOUND = 1
USAGE = 2
UNAVAILABLE = 3
TIMED_OUT = 4
FAILED = 5
UNFINISHED = 6
NOTHING = 7
OVER_BUDGET = 8
INTERRUPTED = 130
NO_READER = 141

EXIT_CODES: dict[int, str] = {
    DONE: "done; a review has no finding at or above --fail-on",
    FOUND: "a finding at or above --fail-on; check not passed; diff does not apply",
    USAGE: "wrong arguments, wrong directory, no such run or finding",
    UNAVAILABLE: "could not run or refused: Codex, login, sandbox, limit, network, storage",
    TIMED_OUT: "the run reached its time limit, or Codex was silent too long",
    FAILED: "the run failed, or a review has no verdict: inconclusive",
    UNFINISHED: "the run has not ended yet",
    NOTHING: "there is nothing to review",
    OVER_BUDGET: "the run used up its tokens before it was done",
    INTERRUPTED: "cancelled or interrupted",
    NO_READER: "nobody reads the output",
}
"""The exit codes of the command line, which its help and the reference list."""


@dataclass(frozen=True)
class Meaning:
    """What a code stands for. `exit_code` is the command line's; `retryable` means: the same call may succeed later.

    `repair` speaks of tools and their arguments, `terminal_repair` of verbs and flags,
    where other words do not make the one out of the other.
    """

    meaning: str
    repair: str
    terminal_repair: str | None = None
    retryable: bool = False
    exit_code: int = FAILED


CATALOG: dict[Code, Meaning] = {
    Code.INVALID_ARGUMENTS: Meaning(
        "An argument is missing, unknown, blank or malformed; nothing was spent.",
        "Correct the arguments named in the message and call again.",
        terminal_repair="Correct what the message names; --help shows what can be given.",
        exit_code=USAGE,
    ),
    Code.WORKSPACE_INVALID: Meaning(
        "The workspace is missing, unreadable, not a directory, or one that runs may not use.",
        "Pass workspace_root as the absolute path of the project's directory.",
        terminal_repair="Change to the project's directory, or name it with -C.",
        exit_code=USAGE,
    ),
    Code.NOT_A_GIT_REPO: Meaning(
        "The workspace is not inside a git repository.",
        "Choose a workspace inside a repository, or use codex_consult, which works outside git.",
        exit_code=USAGE,
    ),
    Code.NO_COMMITS: Meaning(
        "The repository has no commit yet.",
        "Commit once. A review works without a commit too, with scope files.",
        exit_code=USAGE,
    ),
    Code.NOTHING_TO_REVIEW: Meaning(
        "The chosen scope holds no change.",
        "Choose another scope, base or paths.",
        terminal_repair="Choose another --scope, --base or other files.",
        exit_code=NOTHING,
    ),
    Code.UNKNOWN_REF: Meaning(
        "Git knows no such commit, or more than one.",
        "Name an existing branch, tag or commit.",
        exit_code=USAGE,
    ),
    Code.INPUT_TOO_LARGE: Meaning(
        "The text is longer than a run accepts; nothing was spent.",
        "Shorten it, or name files of the workspace instead of pasting them.",
        exit_code=USAGE,
    ),
    Code.PROJECT_FILE_INVALID: Meaning(
        "The project file `.codex-counsel.toml` of the base revision cannot be read, or names a branch that is not "
        "there; nothing was spent.",
        "Mend it in the base revision, or set CODEX_COUNSEL_PROJECT_FILE=ignore to go on without it.",
        exit_code=USAGE,
    ),
    Code.NOT_INSTALLED: Meaning(
        "The Claude Code plugin has not installed its server: the first start is still doing that, or could not.",
        "Remove the cause that the message names, such as a missing network or a full disk, then call again: "
        "that repeats the installation.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.CODEX_NOT_FOUND: Meaning(
        "No usable Codex binary was found.",
        "Install Codex (`npm install -g @openai/codex`) or set CODEX_COUNSEL_CODEX_BIN to the binary.",
        exit_code=UNAVAILABLE,
    ),
    Code.CODEX_TOO_OLD: Meaning(
        "The installed Codex is older than codex-counsel supports.",
        "Update Codex (`npm install -g @openai/codex@latest`).",
        exit_code=UNAVAILABLE,
    ),
    Code.UNSUPPORTED_PLATFORM: Meaning(
        "This system is not POSIX.",
        "On Windows, run Claude Code and Codex inside WSL.",
        exit_code=UNAVAILABLE,
    ),
    Code.AUTH_REQUIRED: Meaning(
        "Codex has no valid login.",
        "Run `codex login`, or set CODEX_API_KEY; OPENAI_API_KEY alone is not read by `codex exec`.",
        exit_code=UNAVAILABLE,
    ),
    Code.USAGE_LIMIT: Meaning(
        "The account's Codex allowance is used up.",
        "Go on without Codex until the reset; continue this thread afterwards with its session_id.",
        exit_code=UNAVAILABLE,
    ),
    Code.RATE_LIMITED: Meaning(
        "The model service is limiting requests.",
        "Wait as long as retry_after_ms says, a minute where it is missing, then call again.",
        terminal_repair="Wait a while, then call again.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.BACKING_OFF: Meaning(
        "An earlier call of this account met a limit that has not reset yet; Codex was not started.",
        "Go on without Codex until then, or remove the limit with `codex-counsel status --clear-limits`.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.QUOTA_RESERVED: Meaning(
        "Less of a usage window of the account is left than the user keeps in reserve; Codex was not started.",
        "Tell the user, and go on without Codex until the reset. Call again with use_reserve only if he asks for it.",
        terminal_repair="Wait for the reset, or spend from the reserve with --use-reserve.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.MODEL_REJECTED: Meaning(
        "The model service refused the request as it was made: the model, the effort, the schema or an option.",
        "Read the quoted sentence; codex_models lists the models and efforts of the installed Codex.",
    ),
    Code.MODEL_CAPACITY: Meaning(
        "The model is overloaded.",
        "Call again later or with another model.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.CONTEXT_EXCEEDED: Meaning(
        "The conversation no longer fits the model's context window.",
        "Start a new thread (no session_id) with less material.",
    ),
    Code.STREAM_DISCONNECTED: Meaning(
        "The connection to the model broke and Codex's own retries did not restore it.",
        "Call again; session_id continues the same thread.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.SANDBOX_UNAVAILABLE: Meaning(
        "Codex's sandbox cannot be set up or does not bound commands on this machine; nothing was run.",
        "Allow unprivileged user namespaces (on Ubuntu an AppArmor profile for bwrap; in containers the user "
        "namespace), check with `codex sandbox -- true`, or consult with text_only.",
        exit_code=UNAVAILABLE,
    ),
    Code.BOUNDARY_INCOMPLETE: Meaning(
        "The workspace has more secret files than can be denied to a run, or is too large to search; nothing was run.",
        "Name a smaller directory as workspace_root, move the files away, or accept it with "
        "CODEX_COUNSEL_INCOMPLETE_BOUNDARY=report.",
        terminal_repair="Name a smaller directory with -C, move the files away, or accept it with "
        "CODEX_COUNSEL_INCOMPLETE_BOUNDARY=report.",
        exit_code=UNAVAILABLE,
    ),
    Code.TIMEOUT: Meaning(
        "The run reached its total time limit and was ended.",
        "Continue the thread with session_id, narrow the request, or raise timeout_seconds.",
        exit_code=TIMED_OUT,
    ),
    Code.STALLED: Meaning(
        "Codex was silent for the idle limit and was ended.",
        "Call again; session_id continues the thread. CODEX_COUNSEL_IDLE_SECONDS sets the limit.",
        retryable=True,
        exit_code=TIMED_OUT,
    ),
    Code.CANCELLED: Meaning(
        "The run was cancelled, or its caller went away.",
        "Continue the thread with session_id, or call again.",
        exit_code=INTERRUPTED,
    ),
    Code.PROCESS_DIED: Meaning(
        "Codex or the worker that supervises it died before a result was written.",
        "Call again; session_id continues the thread where one is named.",
        retryable=True,
    ),
    Code.RESOURCE_LIMIT: Meaning(
        "Codex or a process around it ran out of file descriptors, threads or memory.",
        "Raise the limit of this session or container (`ulimit -n`: 256 or more; `ulimit -v` and `ulimit -u`: "
        "unlimited) or end other programs, then call again.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.EMPTY_OUTPUT: Meaning(
        "Codex finished its turn without an answer.",
        "Call again, or ask more specifically.",
        retryable=True,
    ),
    Code.WORKTREE_FAILED: Meaning(
        "The temporary copy could not be made, or the changes in it could not be captured.",
        "Read the quoted message; free disk space if it says so. A copy whose changes were not captured is kept, and "
        "the message names it.",
    ),
    Code.QUOTA_EXCEEDED: Meaning(
        "The run put more into its working tree and temporary directory than the limits allow, and was ended.",
        "Narrow the request, or raise CODEX_COUNSEL_MAX_TREE_BYTES or CODEX_COUNSEL_MAX_TREE_ENTRIES; session_id "
        "continues the thread.",
    ),
    Code.BUDGET_REACHED: Meaning(
        "The run used up its tokens, was ended, and gave no answer when it was asked for one.",
        "Continue the thread with session_id and a higher max_tokens, or narrow the request.",
        exit_code=OVER_BUDGET,
    ),
    Code.APPLY_CONFLICT: Meaning(
        "The stored diff does not apply to the tree as it is now; nothing was changed.",
        "Look at the named files, or delegate again from the present state.",
        exit_code=FOUND,
    ),
    Code.JOB_NOT_FOUND: Meaning(
        "There is no such job, or its record has expired.",
        "codex_job_list shows the jobs that exist.",
        terminal_repair="`codex-counsel jobs --all` lists the runs that exist.",
        exit_code=USAGE,
    ),
    Code.FINDING_NOT_FOUND: Meaning(
        "There is no such finding on the record of this repository.",
        "codex_findings lists those on record; pass workspace_root for another repository.",
        terminal_repair="`codex-counsel findings list --state all` lists those on record; -C names another repository.",
        exit_code=USAGE,
    ),
    Code.JOB_RUNNING: Meaning(
        "The job has not finished.",
        "Poll codex_job_status, or wait with wait_seconds.",
        terminal_repair="Wait for it with `codex-counsel result --wait JOB`.",
        retryable=True,
        exit_code=UNFINISHED,
    ),
    Code.JOB_CORRUPT: Meaning(
        "The job's record cannot be read.",
        "Look into its directory; codex_job_cancel removes what still runs.",
        terminal_repair="Look into its directory; `codex-counsel cancel JOB` removes what still runs.",
    ),
    Code.PACK_INVALID: Meaning(
        "The file is no pack or result of this format, is damaged, or belongs to something else; nothing was run.",
        "Make it again with the same release of codex-counsel on both machines, and copy it whole.",
        exit_code=USAGE,
    ),
    Code.WORKER_LOST: Meaning(
        "The node that had this item of a batch did not come back; whether it was run there, nobody knows.",
        "Resume the batch when the node is there again: it is asked first. To run lost items anew: "
        "`codex-counsel batch --resume DIR --retry-lost`.",
        retryable=True,
    ),
    Code.CLUSTER_FAILED: Meaning(
        "The Dask cluster cannot be reached or used.",
        "Check the address of the scheduler, that its workers have codex-counsel and a resource `codex`, and that "
        "`codex-counsel[fleet]` is installed here; then resume the batch.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.IDEMPOTENCY_CONFLICT: Meaning(
        "This idempotency key was used for other arguments.",
        "Use a new key for a new request.",
        exit_code=USAGE,
    ),
    Code.STORAGE_FAILED: Meaning(
        "The job's directory could not be written.",
        "Free disk space or set CODEX_COUNSEL_STATE_DIR to a writable directory.",
        exit_code=UNAVAILABLE,
    ),
    Code.SESSION_NOT_FOUND: Meaning(
        "Codex has no thread of this id.",
        "Leave session_id out to start a new thread; codex_job_list shows earlier ones.",
        terminal_repair="Leave --session-id out to start a new thread; `codex-counsel jobs --json` has earlier ones.",
        exit_code=USAGE,
    ),
    Code.SESSION_BUSY: Meaning(
        "Another run is writing to this thread.",
        "Wait for it, or start a new thread.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.CODEX_CONFIG_INVALID: Meaning(
        "Codex refused its configuration.",
        "Correct the file or option that the message names ($CODEX_HOME/config.toml), or set "
        "CODEX_COUNSEL_ISOLATION=strict.",
        exit_code=UNAVAILABLE,
    ),
    Code.NETWORK_UNAVAILABLE: Meaning(
        "The model service could not be reached.",
        "Check the network and proxy settings, then call again.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.UPSTREAM_ERROR: Meaning(
        "The model service failed.",
        "Call again later.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.HUB_FAILED: Meaning(
        "The service that has the pull request, such as GitHub, did not answer, or refused.",
        "Check the address of the remote, the login of git and of `gh` or `glab`, and the network; then call again.",
        retryable=True,
        exit_code=UNAVAILABLE,
    ),
    Code.INCOMPLETE: Meaning(
        "The answer was cut off by the model service.",
        "Continue with session_id and ask for the rest.",
        terminal_repair="Continue with --session-id and ask for the rest.",
        retryable=True,
    ),
    Code.POLICY_REFUSED: Meaning(
        "The model service refused the request for its content, or does not serve this account or place.",
        "Read the quoted sentence; rephrase the request, or go on without Codex.",
    ),
    Code.ALREADY_APPLIED: Meaning(
        "This job's diff was applied before.",
        "There is nothing more to apply. codex_apply with undo takes the diff back.",
        terminal_repair="There is nothing more to apply. `codex-counsel apply --undo JOB` takes the diff back.",
        exit_code=USAGE,
    ),
    Code.INTERNAL: Meaning(
        "A defect of codex-counsel.",
        "Please report it with the message; go on without Codex.",
    ),
}


@dataclass
class CounselError(Exception):
    """A failure on its way to an envelope. Without `repair`, the sentence of its code in `CATALOG` applies."""

    code: Code
    message: str
    repair: str | None = None
    retry_after_ms: int | None = None
    repair_tool: str | None = None
    repair_tool_params: dict[str, Any] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


USED_UP = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


def error_of(code: Code, message: str, error: OSError) -> CounselError:
    """The error with this code for what the system refused; with `resource_limit` where it had no more to give."""
    if error.errno in USED_UP:
        code = Code.RESOURCE_LIMIT
    return CounselError(code, f"{message}: {error}")
