"""From a call of `codex` to what its thread keeps. Bad values are refused here, before anything is spent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from codex_counsel.codex import sandbox
from codex_counsel.codex.sandbox import toml
from codex_counsel.compat import config as configs
from codex_counsel.contract.compat import CodexCall, ServerOptions, ThreadOptions
from codex_counsel.contract.vocabulary import CodexSandbox
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare import preflight
from codex_counsel.prepare import workspace as workspaces

if TYPE_CHECKING:
    from codex_counsel.prepare.context import Context
    from codex_counsel.system.json_values import JsonObject

NOTHING_IS_ASKED = (
    "approval-policy {policy}: nothing is ever asked here. What the sandbox forbids fails, "
    "and the run goes on."
)
MAX_ARGUMENT_BYTES = 131_072
"""What Linux takes as one argument of a command, the NUL at its end included."""


def of_call(context: Context, call: CodexCall, server: ServerOptions) -> ThreadOptions:
    """Raises `invalid_arguments` for what would widen the sandbox, `workspace_invalid` (`cwd`), `input_too_large`."""
    call, passed = with_config(call)
    config = {**server.config, **passed}
    effort = config.pop(configs.EFFORT, None)
    web_search = config.get(configs.WEB_SEARCH, "disabled")
    if web_search != "cached":
        config.pop(configs.WEB_SEARCH, None)
    options = ThreadOptions(
        root=_root(context, call.cwd),
        sandbox=_sandbox(context, call, server),
        model=call.model or server.model,
        profile=call.profile or server.profile,
        effort=effort,
        web_search=web_search != "disabled",
        base_instructions=call.base_instructions or server.base_instructions,
        developer_instructions=call.developer_instructions
        or server.developer_instructions,
        compact_prompt=call.compact_prompt or server.compact_prompt,
        config=config,
    )
    check_lengths(options)
    return options


def with_config(call: CodexCall) -> tuple[CodexCall, JsonObject]:
    """The call with the arguments that its `config` names, and the values that are passed on.

    Raises `invalid_arguments` as `config.read`, and where an argument and its key differ.
    """
    values = configs.read(call.config or {})
    changes: JsonObject = {}
    for name, value in values.arguments.items():
        attribute = name.replace("-", "_")
        if getattr(call, attribute) not in (None, value):
            raise CounselError(
                Code.INVALID_ARGUMENTS,
                f"{name} and config say different things",
                repair=f"Leave {name} out of config.",
            )
        changes[attribute] = value
    return replace(call, **changes), values.passed


def notes(call: CodexCall) -> tuple[str, ...]:
    """What the caller should know of arguments that have no effect here."""
    policy = with_config(call)[0].approval_policy
    if policy in (None, "never"):
        return ()
    return (NOTHING_IS_ASKED.format(policy=policy),)


def check_lengths(options: ThreadOptions) -> None:
    """Raise `input_too_large` for a text that does not fit on the command line of Codex."""
    texts = {
        "developer-instructions": options.developer_instructions,
        "compact-prompt": options.compact_prompt,
    }
    for name, text in texts.items():
        # As `command.further_values` writes it, with a NUL at its end.
        written = f"{name}={toml(text or '')}\0".encode()
        if len(written) > MAX_ARGUMENT_BYTES:
            raise CounselError(
                Code.INPUT_TOO_LARGE,
                f"{name}: {len(written)} bytes as Codex gets it on its command line, "
                f"which takes {MAX_ARGUMENT_BYTES}",
                repair="Shorten it, or say it in the prompt, or in a file of the workspace that the prompt names.",
            )


def _root(context: Context, cwd: str | None) -> str | None:
    """The directory that `cwd` names. Raises `workspace_invalid`, for the server's own directory too."""
    root = str(context.cwd / cwd) if cwd else None
    try:
        workspaces.resolve(context, root)
    except CounselError as error:
        raise replace(
            error,
            message=f"cwd: {error.message}",
            repair="Name the directory of the project in cwd: absolute, or relative to that of the server.",
        ) from None
    return root


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
    mode = preflight.configuration(context, known).get(sandbox.USERS_MODE)
    if mode in ("workspace-write", "danger-full-access"):
        return "workspace-write"
    return "read-only"
