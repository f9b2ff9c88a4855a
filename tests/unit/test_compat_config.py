"""What a `config` of `codex` may set, by the table; and the command line of the server, which is read by the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.compat import command_line, config
from codex_counsel.compat.options import notes, with_config
from codex_counsel.contract.compat import CodexCall, ServerOptions
from codex_counsel.errors import Code, CounselError

ROOT = Path(__file__).parents[2]
VALUES: dict[str, tuple[Any, Any]] = {
    "model_reasoning_effort": ("low", "x" * 101),
    "model_reasoning_summary": ("concise", "odd"),
    "model_verbosity": ("high", "odd"),
    "personality": ("pragmatic", "odd"),
    "model_context_window": (100_000, True),
    "model_auto_compact_token_limit": (50_000, 9_999),
    "tool_output_token_limit": (5_000, "5000"),
    "web_search": ("cached", True),
}
"""For each key that is passed on, a value and one that is refused."""


def refusal(tree: Mapping[str, Any]) -> str:
    with pytest.raises(CounselError) as caught:
        config.read(tree)
    assert caught.value.code == Code.INVALID_ARGUMENTS
    return caught.value.message


def test_the_values_below_are_all_that_is_passed_on() -> None:
    assert set(VALUES) == set(config.PASSED)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_passed_on_and_one_of_another_kind_refused(name: str) -> None:
    right, wrong = VALUES[name]
    assert config.read({name: right}).passed == {name: right}
    others: tuple[Any, ...] = (wrong, [right], 1.5, "", "a\0b", "\ud800")
    for value in others:
        assert refusal({name: value}).startswith(f"config: {name} ")


@pytest.mark.parametrize(
    "tree",
    [
        {"sandbox_workspace_write": {"network_access": True}},
        {"sandbox_workspace_write.writable_roots": ["/"]},
        {"sandbox_permissions": ["disk-full-read-access"]},
        {"permissions": {"x": {"filesystem": {"/": "write"}}}},
        {"default_permissions": "x"},
        {"shell_environment_policy": {"inherit": "all"}},
        {"allow_login_shell": True},
        {"approvals_reviewer": "auto_review"},
        {"projects": {"/": {"trust_level": "trusted"}}},
        {"mcp_servers": {"x": {"command": "sh"}}},
        {"notify": ["sh", "-c", "id"]},
        {"hooks": {"x": 1}},
        {"features": {"apps": True}},
        {"features.web_search_request.x": True},
        {"plugins": {"x": {"enabled": True}}},
        {"tools": {"experimental_request_user_input": {"enabled": True}}},
        {"model_provider": "evil"},
        {"model_providers": {"openai": {"base_url": "http://evil"}}},
        {"openai_base_url": "http://evil"},
        {"chatgpt_base_url": "http://evil"},
        {"service_tier": "fast"},
        {"otel": {"exporter": "x"}},
        {"model_instructions_file": "/etc/passwd"},
        {"experimental_compact_prompt_file": "/etc/passwd"},
        {"experimental_use_unified_exec_tool": True},
        {"profiles": {"x": {"model": "y"}}},
        {"project_doc_max_bytes": 1},
        {"model_catalog_json": "/x"},
        {"log_dir": "/x"},
        {"history": {"persistence": {"x": 1}}},
        {"Model": "x"},
        {" model": "x"},
        {"model ": "x"},
        {'"model"': "x"},
        {"model\n": "x"},
        {"model=1\nnotify": "x"},
        {"tui": "x", "tui2": {"x": 1}},
        {"": 1},
        {".": 1},
        {"model.x": 1},
    ],
    ids=str,
)
def test_what_could_widen_a_run_is_refused_by_name(tree: Mapping[str, Any]) -> None:
    message = refusal(tree)
    assert "is refused: it " in message
    assert next(iter(tree)).strip().partition("\n")[0] in message or "tui2" in message
    assert "\n" not in message


def test_a_message_names_five_keys_and_counts_the_rest() -> None:
    message = refusal({f"x{number}\x1b[31m": 1 for number in range(9)})
    assert message.count("is refused") == 5
    assert message.endswith("and 4 more keys")
    assert "\x1b" not in message
    assert len(refusal({"x" * 1_000_000: 1})) < 200


def test_the_same_key_in_both_forms_is_refused() -> None:
    assert "tools.web_search is given twice" in refusal(
        {"tools": {"web_search": True}, "tools.web_search": True}
    )


def test_empty_tables_and_nulls_set_nothing() -> None:
    read = config.read({"mcp_servers": {}, "a": {"b": {}}, "notify": None})
    assert read == config.ConfigValues({}, {})


def test_a_tree_has_bounds() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert "nested deeper" in refusal(deep)
    assert "more than 200" in refusal({f"tui.{number}": 1 for number in range(201)})
    assert config.read({f"tui.{number}": 1 for number in range(200)}).passed == {}


@pytest.mark.parametrize("name", ["tools.web_search", "features.web_search_request"])
def test_older_names_switch_web_search(name: str) -> None:
    assert config.read({name: True}).passed == {"web_search": "live"}
    assert config.read({name: False}).passed == {"web_search": "disabled"}
    assert config.read({name: True, "web_search": "live"}).passed
    assert "different things" in refusal({name: True, "web_search": "cached"})
    assert "should be true or false" in refusal({name: "true"})


@pytest.mark.parametrize(
    "tree",
    [
        {"tui": {"notifications": ["x"], "theme": {"a": 1}}},
        {"notice.hide_full_access_warning": True},
        {"history": {"persistence": "none", "max_bytes": 1}},
        {"hide_agent_reasoning": True, "show_raw_agent_reasoning": False},
        {"disable_response_storage": True, "file_opener": "cursor"},
        {"include_plan_tool": True, "approval_policy": "never"},
    ],
    ids=str,
)
def test_what_asks_for_no_more_than_there_is_has_no_effect(
    tree: Mapping[str, Any],
) -> None:
    assert config.read(tree).passed == {}


@pytest.mark.parametrize(
    ("key", "argument", "right", "wrong"),
    [
        ("model", "model", "m", "-m"),
        ("profile", "profile", "work", "../evil"),
        ("approval_policy", "approval_policy", "on-failure", {"granular": {"x": 1}}),
        ("sandbox_mode", "sandbox", "read-only", "none"),
        ("instructions", "base_instructions", "Be.", " "),
        ("base_instructions", "base_instructions", "Be.", "\ud800"),
        ("developer_instructions", "developer_instructions", "Be.", "\0"),
        ("compact_prompt", "compact_prompt", "Be.", 3),
        ("include_plan_tool", "include_plan_tool", True, "maybe"),
    ],
)
def test_a_key_that_is_an_argument_too_counts_as_the_argument(
    key: str, argument: str, right: Any, wrong: Any
) -> None:
    call, passed = with_config(CodexCall(prompt="x", config={key: right}))
    assert getattr(call, argument) == right
    assert passed == {}
    assert key in refusal({key: wrong})
    same: dict[str, Any] = {argument: right}
    assert with_config(CodexCall(prompt="x", config={key: right}, **same))
    other: dict[str, Any] = {argument: "another"}
    with pytest.raises(CounselError, match="say different things"):
        with_config(CodexCall(prompt="x", config={key: right}, **other))


def test_two_keys_of_one_meaning_must_agree() -> None:
    assert "different things about base-instructions" in refusal(
        {"instructions": "a", "base_instructions": "b"}
    )


def test_a_policy_is_answered_in_one_line_wherever_it_is_named() -> None:
    for call in (
        CodexCall(prompt="x", approval_policy="on-request"),
        CodexCall(prompt="x", config={"approval_policy": "on-request"}),
    ):
        (line,) = notes(call)
        assert line.startswith("approval-policy on-request: nothing is ever asked")
    assert notes(CodexCall(prompt="x", config={"approval_policy": "never"})) == ()


def test_the_guide_lists_the_keys_that_a_caller_may_set() -> None:
    guide = (ROOT / "docs" / "how-to" / "mcp-server.md").read_text("utf-8")
    table = guide.partition("### The argument `config`")[2].partition("\n\nKeys of")[0]
    listed = set()
    for row in table.splitlines():
        if row.startswith("| `"):
            listed.update(re.findall("`([a-z_.]+)`", row.split("|")[1]))
    allowed = {*config.PASSED, *config.ARGUMENTS, *config.SWITCHES_OF_WEB_SEARCH}
    assert listed == allowed


# --- the command line


def options_of(*words: str, **named: Any) -> tuple[ServerOptions, list[str]]:
    return command_line.server_options(config=words, features={}, **named)


def test_words_of_the_command_line_are_toml_or_else_text() -> None:
    options, remarks = options_of(
        'model="m"',
        " model_verbosity = low ",
        "model_context_window=50000",
        "tools={web_search=true}",
        "tui={a={b=[1, 2]}}",
        "model_reasoning_effort=low",
        "model_reasoning_effort='high'",
    )
    assert options == ServerOptions(
        model="m",
        config={
            "model_verbosity": "low",
            "model_context_window": 50000,
            "web_search": "live",
            "model_reasoning_effort": "high",
        },
    )
    assert remarks == []


def test_a_flag_wins_over_a_value() -> None:
    options, _ = options_of("model=a", "sandbox_mode=read-only", model="b")
    assert options == ServerOptions(model="b", sandbox="read-only")


def test_full_access_of_the_user_counts_as_writing_and_is_remarked() -> None:
    for options, remarks in (
        options_of(sandbox="danger-full-access"),
        options_of('sandbox_mode="danger-full-access"'),
    ):
        assert options.sandbox == "workspace-write"
        assert "danger-full-access" in remarks[0]


def test_a_policy_of_the_user_is_remarked() -> None:
    _, [remark] = options_of(approval_policy="on-request")
    assert "on-request has no effect" in remark


@pytest.mark.parametrize(
    "word",
    [
        "model",
        "=x",
        "sandbox_workspace_write.network_access=true",
        'mcp_servers={x={command="sh"}}',
        'x=1\n[permissions]\ny="z"',
        "model_context_window=2020-01-01",
        "model=2020-01-01",
        "model_verbosity=[",
        "model_verbosity=" + "[" * 5_000,
        f"developer_instructions={'x' * 140_000}",
    ],
    ids=lambda word: word[:40],
)
def test_what_a_caller_may_not_set_the_command_line_may_not_either(word: str) -> None:
    with pytest.raises(CounselError) as caught:
        options_of(word)
    assert caught.value.repair


def test_features_are_refused_but_for_the_older_name_of_web_search() -> None:
    with pytest.raises(CounselError, match=r"features\.apps is refused"):
        command_line.server_options(config=(), features={"apps": True})
    options, _ = command_line.server_options(
        config=(), features={"web_search_request": True}
    )
    assert options.config == {"web_search": "live"}
