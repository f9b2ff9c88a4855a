"""The words of a failure for a caller who has `codex` and `codex-reply`, and a person with a terminal beside him."""

from __future__ import annotations

import re

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.errors import CATALOG, Code
from codex_counsel.system.json_values import JsonObject

REPAIRS: dict[Code, str] = {
    Code.WORKSPACE_INVALID: "Pass cwd as the absolute path of the project's directory.",
    Code.NOT_A_GIT_REPO: "Choose a cwd inside a repository, or sandbox read-only, which works outside git.",
    Code.NO_COMMITS: "Commit once, or choose sandbox read-only.",
    Code.NOTHING_TO_REVIEW: "Send another prompt.",
    Code.USAGE_LIMIT: "Go on without Codex until the reset; codex-reply continues this thread afterwards.",
    Code.RATE_LIMITED: "Wait as long as is said here, a minute where nothing is, then call again.",
    Code.QUOTA_RESERVED: "Tell the user, and go on without Codex until the reset.",
    Code.MODEL_REJECTED: "Read the quoted sentence; `codex-counsel models` lists the models and efforts of the "
    "installed Codex.",
    Code.CONTEXT_EXCEEDED: "Begin a new thread with codex, with less material.",
    Code.STREAM_DISCONNECTED: "Call again; codex-reply continues the same thread.",
    Code.SANDBOX_UNAVAILABLE: "Allow unprivileged user namespaces (on Ubuntu an AppArmor profile for bwrap; in "
    "containers the user namespace), and check with `codex sandbox -- true`.",
    Code.BOUNDARY_INCOMPLETE: "Name a smaller directory as cwd, move the files away, or have the user accept it with "
    "CODEX_COUNSEL_INCOMPLETE_BOUNDARY=report.",
    Code.TIMEOUT: "Continue the thread with codex-reply, or narrow the request. CODEX_COUNSEL_TIMEOUT_SECONDS sets "
    "the limit.",
    Code.STALLED: "Call again; codex-reply continues the thread. CODEX_COUNSEL_IDLE_SECONDS sets the limit.",
    Code.CANCELLED: "Continue the thread with codex-reply, or call again.",
    Code.PROCESS_DIED: "Call again; codex-reply continues the thread where one is named.",
    Code.QUOTA_EXCEEDED: "Narrow the request, or have the user raise CODEX_COUNSEL_MAX_TREE_BYTES or "
    "CODEX_COUNSEL_MAX_TREE_ENTRIES; codex-reply continues the thread.",
    Code.BUDGET_REACHED: "Narrow the request, or have the user raise CODEX_COUNSEL_MAX_TOKENS; codex-reply continues "
    "the thread.",
    Code.JOB_NOT_FOUND: "Begin a new thread with codex; `codex-counsel jobs --all` lists the runs that exist.",
    Code.FINDING_NOT_FOUND: "`codex-counsel findings list --state all` lists those on record.",
    Code.JOB_RUNNING: "Call codex-reply with the prompt wait.",
    Code.JOB_CORRUPT: "Begin a new thread with codex; `codex-counsel cancel JOB` removes what still runs.",
    Code.SESSION_NOT_FOUND: "Begin a new thread with codex, and name the threadId that it returns.",
    Code.INCOMPLETE: "Call codex-reply with this threadId, and ask for the rest.",
    Code.ALREADY_APPLIED: "There is nothing more to apply. `codex-counsel apply --undo JOB` takes the diff back.",
}
"""What to do, where the sentence of the code names tools or arguments that this caller has not."""
ARGUMENTS = {"session_id": "threadId", "workspace_root": "cwd"}
FOREIGN = re.compile(
    r"\bcodex_[a-z_]+|\b(?:session_id|workspace_root|timeout_seconds|wait_seconds|max_tokens|text_only|use_reserve"
    r"|retry_after_ms|output_schema|from_job|job_id|scope)\b"
)
"""Tools and arguments of the other server. Names of Codex's files, such as config.toml, are none."""
TOLD_OTHERWISE = ("session_id", "last_message", "until")
"""Details that stand elsewhere in the answer."""
LABELS = {"survivors": "processes that live on"}
_OWN_PLACE = re.compile(r"\A(session_id|workspace_root)(?=: )")


def words_of(wire: EnvelopeDict) -> str:
    """Code, message and what to do, of an envelope that is not `ok`; without an interim message."""
    error = wire.get("error")
    if error is None:
        return str(wire["summary"])
    message = _OWN_PLACE.sub(_renamed, str(error["message"]))
    lines = [f"{error['code']}: {message}", f"What to do: {repair_of(error)}"]
    if "retry_after_ms" in error:
        lines.append(f"Retry after {error['retry_after_ms'] // 1000} s.")
    for name, value in error.get("details", {}).items():
        if name not in TOLD_OTHERWISE and not FOREIGN.search(name):
            lines.append(f"{LABELS.get(name, name)}: {value}")
    return "\n".join(lines)


def repair_of(error: JsonObject) -> str:
    """What to do about the `error` of an envelope, in words of the two tools."""
    repair = str(error["repair"])
    try:
        code = Code(error["code"])
    except ValueError:  # of a newer release
        return repair
    if repair == CATALOG[code].repair:
        return REPAIRS.get(code, repair)
    repair = re.sub(r"\b(session_id|workspace_root)\b", _renamed, repair)
    if FOREIGN.search(repair):
        return REPAIRS.get(code, CATALOG[code].repair)
    return repair


def _renamed(match: re.Match[str]) -> str:
    return ARGUMENTS[match[1]]
