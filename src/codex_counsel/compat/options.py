"""From a call of `codex` to what its thread keeps. Bad values are refused here, before anything is spent."""

from __future__ import annotations

from codex_counsel.compat import config as configs
from codex_counsel.contract.compat import (
    CodexCall,
    CodexSandbox,
    ServerOptions,
    ThreadOptions,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare import preflight
from codex_counsel.prepare.context import Context

NOTHING_IS_ASKED = (
    "approval-policy {policy}: nothing is ever asked here. What the sandbox forbids fails, "
    "and the run goes on."
)


def of_call(context: Context, call: CodexCall, server: ServerOptions) -> ThreadOptions:
    """Raises `invalid_arguments` for what would widen the sandbox."""
    config = configs.passed({**server.config, **(call.config or {})})
    effort = config.pop(configs.EFFORT, None)
    root = str(context.cwd / call.cwd) if call.cwd else None
    return ThreadOptions(
        root=root,
        sandbox=_sandbox(context, call, server),
        model=call.model or server.model,
        profile=call.profile or server.profile,
        effort=str(effort) if effort else None,
        base_instructions=call.base_instructions,
        developer_instructions=call.developer_instructions,
        compact_prompt=call.compact_prompt,
        config=config,
    )


def notes(call: CodexCall) -> tuple[str, ...]:
    """What the caller should know of arguments that have no effect here."""
    if call.approval_policy in (None, "never"):
        return ()
    return (NOTHING_IS_ASKED.format(policy=call.approval_policy),)


def _sandbox(context: Context, call: CodexCall, server: ServerOptions) -> CodexSandbox:
    """What the caller names, else the command line, else what the user's Codex is configured for.

    Raises `invalid_arguments` for full access, and for an unknown profile.
    """
    named = call.sandbox or server.sandbox
    if named == "danger-full-access":
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            "sandbox: danger-full-access is not offered, every run is sandboxed",
            repair="Use workspace-write, which returns a diff, or read-only. What must run without a sandbox, "
            "the user runs himself with `codex`.",
        )
    if named:
        return named
    profile = call.profile or server.profile or context.settings.profile
    # Checked first: the name becomes part of a path.
    known = preflight.known_profile(context, profile)
    mode = preflight.configuration(context, known).get("sandbox_mode")
    if mode in ("workspace-write", "danger-full-access"):
        return "workspace-write"
    return "read-only"
