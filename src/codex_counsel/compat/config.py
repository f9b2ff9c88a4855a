"""Which values of Codex's configuration a caller of `codex` may set: the argument `config`, a tree or dotted names.

The caller is a model, and may have read anything. What is passed on changes how the model
answers, and nothing that a run reads, writes, starts or reaches, nor where the prompt is
sent. `-c` on the command line of the server is checked by the same table. Names and values
are those of codex-cli 0.148 to 0.169.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from codex_counsel.contract.compat import CodexCall
from codex_counsel.contract.request import check_text, is_unicode, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.system.json_values import Json, JsonObject
from codex_counsel.system.text import one_line, visible

MAX_LEVELS = 8
"""Tables within tables of a `config`."""
MAX_VALUES = 200
MAX_NAMED = 5
"""Keys that one message names."""
MAX_SHOWN = 80
"""Characters of a key in a message."""

Check = Callable[[Json], None]
"""Raises ValueError with what the value should be."""


# --- kinds of values


def _word(value: Json) -> None:
    if not isinstance(value, str) or len(value) > 100 or not is_unicode(value):
        raise ValueError("should be a word")
    check_text(value)


def _flag(value: Json) -> None:
    if not isinstance(value, bool):
        raise ValueError("should be true or false")  # noqa: TRY004  # as every check


def _anything(_value: Json) -> None:
    """Of a key that has no effect."""


def _one_of(*words: str) -> Check:
    def check(value: Json) -> None:
        if value not in words:
            raise ValueError(f"should be one of {', '.join(words)}")

    return check


def _number(low: int, high: int) -> Check:
    def check(value: Json) -> None:
        # A bool is an int to Python.
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"should be a whole number from {low} to {high}")

    return check


# --- the keys

EFFORT = "model_reasoning_effort"
WEB_SEARCH = "web_search"

PASSED: Mapping[str, Check] = {
    EFFORT: _word,
    "model_reasoning_summary": _one_of("auto", "concise", "detailed", "none"),
    "model_verbosity": _one_of("low", "medium", "high"),
    "personality": _one_of("none", "friendly", "pragmatic"),
    # Below, Codex would summarise the thread before every request.
    "model_context_window": _number(10_000, 1_000_000_000),
    "model_auto_compact_token_limit": _number(10_000, 1_000_000_000),
    "tool_output_token_limit": _number(100, 1_000_000),
    WEB_SEARCH: _one_of("live", "cached", "disabled"),
}
"""What is passed on."""

SWITCHES_OF_WEB_SEARCH = ("tools.web_search", "features.web_search_request")
"""Older names of `web_search`, each true or false."""

ARGUMENTS: Mapping[str, str] = {
    "model": "model",
    "profile": "profile",
    "approval_policy": "approval-policy",
    "sandbox_mode": "sandbox",
    "instructions": "base-instructions",
    "base_instructions": "base-instructions",
    "developer_instructions": "developer-instructions",
    "compact_prompt": "compact-prompt",
    "include_plan_tool": "include-plan-tool",
}
"""Keys that are an argument of `codex` too, and that argument."""

WITHOUT_EFFECT: Mapping[str, Check] = {
    "hide_agent_reasoning": _flag,
    "show_raw_agent_reasoning": _flag,
    "model_supports_reasoning_summaries": _flag,
    "model_reasoning_summary_format": _word,
    "disable_response_storage": _flag,
    # No release had this key, but public command lines name it, and it was ignored.
    "reasoning_effort": _word,
    "check_for_update_on_startup": _flag,
    "disable_paste_burst": _flag,
    "suppress_unstable_features_warning": _flag,
    "file_opener": _word,
    "history.persistence": _one_of("save-all", "none"),
    "history.max_bytes": _anything,
}
"""What is about a terminal or a history that a run here has not, or what releases of today no longer know."""
TABLES_WITHOUT_EFFECT = ("tui", "notice")

SANDBOX = "it would change what commands may read, write, reach or see"
PROGRAMS = "it would start programs or switch on more of Codex"
SERVICE = "it would change where the prompt is sent, who pays, or what that costs"
REASONS: Mapping[str, tuple[str, ...]] = {
    SANDBOX: (
        "sandbox_workspace_write",
        "sandbox_permissions",
        "permissions",
        "default_permissions",
        "shell_environment_policy",
        "approvals_reviewer",
        "allow_login_shell",
        "projects",
        "project_root_markers",
    ),
    PROGRAMS: (
        "mcp_servers",
        "notify",
        "hooks",
        "features",
        "plugins",
        "marketplaces",
        "apps",
        "skills",
        "agents",
        "rules",
        "tools",
    ),
    SERVICE: (
        "model_provider",
        "model_providers",
        "openai_base_url",
        "chatgpt_base_url",
        "oss_provider",
        "service_tier",
        "otel",
        "forced_login_method",
        "forced_chatgpt_workspace_id",
        "preferred_auth_method",
        "cli_auth_credentials_store",
    ),
}
"""Tables and keys that callers are known to set, by the reason why they may not."""
UNKNOWN = "it is none of the keys that a caller may set"


@dataclass(frozen=True)
class ConfigValues:
    """What a `config` asks for: `arguments` of `codex` by their wire names, and values that are passed on."""

    arguments: JsonObject
    passed: JsonObject


def read(tree: Mapping[str, Json]) -> ConfigValues:
    """The argument `config`. A null is a key left out, and an empty table sets nothing.

    Raises `invalid_arguments` that names what is given twice, of the wrong kind, or not
    for a caller to set.
    """
    values: JsonObject = {}
    for name, value in flatten(tree):
        if name in values:
            raise _invalid(f"{_shown(name)} is given twice")
        values[name] = value
    return check(values)


def check(values: Mapping[str, Json]) -> ConfigValues:
    """The values by their dotted names. Raises as `read`."""
    refused = [name for name in values if not _is_known(name)]
    if refused:
        raise _refusal(sorted(refused))

    arguments: JsonObject = {}
    passed: JsonObject = {}
    for name, value in values.items():
        if name in ARGUMENTS:
            _put(arguments, ARGUMENTS[name], _argument(name, value), name)
        elif name in SWITCHES_OF_WEB_SEARCH:
            _check(name, value, _flag)
            _put(passed, WEB_SEARCH, "live" if value else "disabled", name)
        elif name in PASSED:
            _check(name, value, PASSED[name])
            _put(passed, name, value, name)
        else:
            _check(name, value, WITHOUT_EFFECT.get(name, _anything))
    return ConfigValues(arguments, passed)


def flatten(tree: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    """The values of a tree, each by its dotted name. Raises `invalid_arguments` for one too deep or too large."""
    for count, pair in enumerate(_leaves(tree, "", MAX_LEVELS)):
        if count == MAX_VALUES:
            raise _invalid(f"has more than {MAX_VALUES} values")
        yield pair


def _leaves(
    tree: Mapping[str, Json], prefix: str, levels: int
) -> Iterator[tuple[str, Json]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            if value is not None:
                yield name, value
        elif levels == 0:
            raise _invalid(f"is nested deeper than {MAX_LEVELS} tables")
        else:
            yield from _leaves(value, f"{name}.", levels - 1)


def _is_known(name: str) -> bool:
    return (
        name in PASSED
        or name in ARGUMENTS
        or name in WITHOUT_EFFECT
        or name in SWITCHES_OF_WEB_SEARCH
        or _table(name) in TABLES_WITHOUT_EFFECT
    )


def _table(name: str) -> str:
    return name.partition(".")[0]


def _put(values: JsonObject, name: str, value: Json, key: str) -> None:
    """Raise where another key of the same meaning has another value."""
    if values.setdefault(name, value) != value:
        raise _invalid(f"{key} and another key say different things about {name}")


def _check(name: str, value: Json, check_value: Check) -> None:
    try:
        check_value(value)
    except ValueError as error:
        raise _invalid(f"{name} {error}") from None


def _argument(key: str, value: Json) -> Json:
    """The value, as the argument of that meaning takes it."""
    name = ARGUMENTS[key]
    try:
        parse(CodexCall, {"prompt": "-", name: value})
    except CounselError as error:
        raise _invalid(f"{key}, which is the argument {error.message}") from None
    return value


def _refusal(names: list[str]) -> CounselError:
    """Why these may not be set, at most `MAX_NAMED` of them by name."""
    sentences = [
        f"{_shown(name)} is refused: {_reason(name)}" for name in names[:MAX_NAMED]
    ]
    if len(names) > MAX_NAMED:
        sentences.append(f"and {len(names) - MAX_NAMED} more keys")
    allowed = ", ".join([*PASSED, *ARGUMENTS])
    return _invalid(
        "; ".join(sentences),
        "Leave these keys out. What runs may do is the user's to decide, by the settings of codex-counsel and "
        f"Codex's config.toml. These keys can be set: {allowed}.",
    )


def _reason(name: str) -> str:
    for reason, tables in REASONS.items():
        if _table(name) in tables:
            return reason
    return UNKNOWN


def _shown(name: str) -> str:
    return one_line(visible(name), MAX_SHOWN)


def _invalid(what: str, repair: str = "") -> CounselError:
    return CounselError(
        Code.INVALID_ARGUMENTS,
        f"config: {what}",
        repair=repair or "Correct or leave out what the message names, and call again.",
    )
