"""What a thread keeps comes back from its note as it was, and is checked again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codex_counsel.compat.kept import options_of
from codex_counsel.compat.options import of_call
from codex_counsel.contract.compat import CodexCall, ServerOptions, ThreadOptions
from codex_counsel.contract.request import parse
from codex_counsel.errors import Code, CounselError
from tests.conftest import World

CALLS: tuple[dict[str, Any], ...] = (
    {},
    {"sandbox": "workspace-write", "model": "gpt-5", "profile": "fast", "cwd": "."},
    {"base-instructions": "A\nB", "compact-prompt": "ü", "developer-instructions": "x"},
    {"config": {"model_reasoning_effort": "low", "model_verbosity": "high"}},
    {"config": {"web_search": "live"}},
    {"config": {"web_search": "cached"}},
    {"config": {"web_search": "disabled", "tool_output_token_limit": 1000}},
)


@pytest.mark.parametrize("arguments", CALLS, ids=str)
def test_options_come_back_from_a_note_as_they_were(
    world: World, arguments: dict[str, Any]
) -> None:
    context = world.counsel().context
    call = parse(CodexCall, {"prompt": "Begin.", **arguments})
    options = of_call(context, call, ServerOptions())
    noted = json.loads(json.dumps(options.to_json()))
    assert options_of(context, noted) == options


def test_options_of_no_call_are_none(world: World) -> None:
    context = world.counsel().context
    for changes in (
        {"sandbox": "danger-full-access"},
        {"sandbox": None, "model": ["x"]},
        {"config": {"mcp_servers.x.command": "sh"}},
        {"config": "x"},
        {"effort": {"a": 1}},
        {"effort": "high", "config": [1]},
        {"model": "-c"},
    ):
        noted = {"root": str(world.workspace), "sandbox": "read-only", **changes}
        assert options_of(context, noted) is None, changes


def test_an_empty_note_is_that_of_a_call_that_named_nothing(world: World) -> None:
    context = world.counsel().context
    world.configure('sandbox_mode = "workspace-write"\n')
    for noted in ({}, {"sandbox": None}):
        assert options_of(context, noted) == ThreadOptions()


def test_a_workspace_that_is_gone_is_named(world: World) -> None:
    context = world.counsel().context
    with pytest.raises(CounselError) as refused:
        options_of(context, {"root": str(world.base / "gone")})
    assert refused.value.code == Code.WORKSPACE_INVALID
