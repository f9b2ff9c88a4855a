"""The command line of the server that takes the place of `codex mcp-server`: what its user names for all calls."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from codex_counsel.compat import config as configs
from codex_counsel.compat import options
from codex_counsel.contract.compat import CodexCall, ServerOptions, ThreadOptions
from codex_counsel.contract.request import parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject

FULL_ACCESS = "danger-full-access is not offered, it counts as workspace-write"
CORRECT = (
    "Correct the command line of the server in the configuration of the MCP client."
)
NOTHING_IS_ASKED = "the approval policy {policy} has no effect: nothing is ever asked"


def server_options(
    *,
    config: Iterable[str],
    features: Mapping[str, bool],
    model: str | None = None,
    profile: str | None = None,
    sandbox: str | None = None,
    approval_policy: str | None = None,
) -> tuple[ServerOptions, list[str]]:
    """The options, and remarks for the user. `config` are the words `KEY=VALUE` after each `-c`, the last one wins.

    Raises `invalid_arguments`, and `input_too_large` for instructions.
    """
    values: JsonObject = {}
    for word in config:
        values |= _assignment(word)
    for feature, enabled in features.items():
        values[f"features.{feature}"] = enabled
    if not values and not any((model, profile, sandbox, approval_policy)):
        return ServerOptions(), []

    named = configs.check(values)
    flags = {
        "model": model,
        "profile": profile,
        "sandbox": sandbox,
        "approval-policy": approval_policy,
    }
    # A flag wins over `-c`, as it did.
    flags = {name: value for name, value in flags.items() if value is not None}
    call = _parsed({**named.arguments, **flags})

    remarks = []
    wanted = call.sandbox
    if wanted == "danger-full-access":
        wanted = "workspace-write"
        remarks.append(FULL_ACCESS)
    if call.approval_policy not in (None, "never"):
        remarks.append(NOTHING_IS_ASKED.format(policy=call.approval_policy))
    found = ServerOptions(
        sandbox=wanted,
        model=call.model,
        profile=call.profile,
        base_instructions=call.base_instructions,
        developer_instructions=call.developer_instructions,
        compact_prompt=call.compact_prompt,
        config=named.passed,
    )
    options.check_lengths(
        ThreadOptions(
            developer_instructions=found.developer_instructions,
            compact_prompt=found.compact_prompt,
        )
    )
    return found, remarks


def _parsed(arguments: JsonObject) -> CodexCall:
    """The arguments as those of a call. Raises `invalid_arguments`."""
    try:
        return parse(CodexCall, {"prompt": "-", **arguments})
    except CounselError as error:
        raise replace(error, repair=CORRECT, details={}) from None


def _assignment(word: str) -> JsonObject:
    """The values of one `KEY=VALUE` by their dotted names. What is no TOML is text, as Codex had it."""
    key, equals, written = word.partition("=")
    if not equals or not key.strip():
        raise CounselError(
            Code.INVALID_ARGUMENTS,
            f"-c {word[:80]}: should be KEY=VALUE",
            repair=CORRECT,
        )
    return dict(configs.flatten({key.strip(): _toml_value(written.strip())}))


def _toml_value(written: str) -> Json:
    try:
        return tomllib.loads(f"value = {written}")["value"]
    except (ValueError, RecursionError):
        return written.strip("\"'")
