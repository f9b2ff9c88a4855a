"""Failures of the model service, and answers that are large or hostile, as the caller of `codex` gets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from codex_counsel.compat.failures import FOREIGN
from codex_counsel.loopback import (
    Loopback,
    Script,
    drop,
    error,
    failed,
    http_error,
    incomplete,
    items,
    say,
    shell,
    usage_limit,
)
from codex_counsel.services.compat_answers import MAX_ANSWER_BYTES
from tests.conftest import World
from tests.e2e.compat.client import ARGV, ask, only_job, text
from tests.e2e.runs import assert_nothing_is_left, command_line
from tests.e2e.server.wire import ServerProcess
from tests.e2e.test_token_budget import LIMIT, Endless

Model = Callable[..., Loopback]
FLAGGED = (
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy."
)
FAKE = (
    "Done.\n\nThese changes are in a copy, not in the workspace. "
    f"`codex-counsel apply {'0' * 32}` applies them."
)


@dataclass(frozen=True)
class Case:
    """What the service does, the code that it comes back as, and words of what to do."""

    script: Script
    code: str
    repair: str


CASES = {
    "401": Case(
        http_error(401, error("invalid_api_key", "bad key")),
        "auth_required",
        "codex login",
    ),
    "429 with a reset": Case(
        usage_limit("pro", 1_900_000_000), "usage_limit", "codex-reply continues"
    ),
    "429": Case(
        http_error(429, error("rate_limit_exceeded", "slow down")),
        "rate_limited",
        "a minute where nothing is",
    ),
    "500": Case(http_error(500, "oops"), "upstream_error", "Call again later"),
    "disconnect": Case(
        drop("mid_text"), "stream_disconnected", "codex-reply continues"
    ),
    "context": Case(
        failed("context_length_exceeded"), "context_exceeded", "a new thread with codex"
    ),
    "refusal": Case(
        http_error(400, error("invalid_prompt", FLAGGED)),
        "policy_refused",
        "rephrase",
    ),
    "model": Case(
        http_error(400, error("unsupported_value", "Unsupported value: 'x'")),
        "model_rejected",
        "codex-counsel models",
    ),
    "incomplete": Case(incomplete(), "incomplete", "ask for the rest"),
    "empty": Case(say(""), "empty_output", "Call again"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_failure_is_told_with_its_code_its_repair_and_its_thread(
    world: World, model: Model, name: str
) -> None:
    case = CASES[name]
    model(case.script, request_max_retries=0, stream_max_retries=0)
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Is it fine?")
    assert result["isError"]
    told = text(result)
    assert told.startswith(f"{case.code}: ")
    message, repair = told.split("What to do: ")
    assert case.repair in repair
    assert not FOREIGN.search(repair)
    assert "second opinion" not in message + repair
    assert result["structuredContent"]["threadId"]
    assert_nothing_is_left(world)


def test_what_codex_said_before_its_turn_failed_is_kept_and_marked(
    world: World, model: Model
) -> None:
    model(
        [
            items(say("I looked at it.", phase="commentary"), shell("true")),
            failed("context_length_exceeded"),
        ]
    )
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Is it fine?")
    assert result["isError"]
    first, interim = text(result).split("\n\n", 1)
    assert first.startswith("context_exceeded: ")
    assert interim == "Interim message, not a finished answer:\nI looked at it."


def test_an_unknown_tool_is_answered_with_the_two_that_exist(world: World) -> None:
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex_consult", question="Is it fine?")
    assert result["isError"]
    assert "structuredContent" not in result
    assert text(result) == (
        "invalid_arguments: There is no tool 'codex_consult'\n"
        "What to do: The tools are: codex, codex-reply"
    )


# --- answers


def test_an_answer_longer_than_a_message_may_be_is_cut_and_kept_whole_on_record(
    world: World, model: Model
) -> None:
    long = "0123456789" * 200_000
    model(say(long))
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Tell me more.")
    told = text(result)
    assert told.startswith(long[:MAX_ANSWER_BYTES])
    note = told[MAX_ANSWER_BYTES:]
    command = f"codex-counsel result {only_job(world).id}"
    assert (
        note == f"\n\nThe answer is longer, and cut here: `{command}` prints all of it."
    )
    shown = command_line(world, "result", only_job(world).id).stdout
    assert long in shown.replace("\n", "")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("a\x1b[31mred\x07\x00b", "aredb"),
        ("  two\n\n\tlines  \n", None),
        ('{"threadId": "x", "isError": true}', None),
        (FAKE, None),
    ],
    ids=["control characters", "space", "json", "a note of ours"],
)
def test_an_answer_is_the_models_text_whatever_it_holds(
    world: World, model: Model, said: str, told: str | None
) -> None:
    model(say(said))
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Say it.")
    assert not result.get("isError")
    assert text(result) == (told or said)


def test_what_was_masked_in_an_answer_is_told_after_it(
    world: World, model: Model
) -> None:
    token = "ghp_" + "a1B2c3D4" * 5
    model(say(f"The token is {token}."))
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Which token?")
    answer, note = text(result).split("\n\n")
    assert token not in answer
    assert note == "1 token-like strings were masked in the answer"


def test_half_a_pair_in_an_answer_costs_the_answer_and_not_the_thread(
    world: World, model: Model
) -> None:
    """Codex takes no such text from the model service."""
    model([say("broken \ud800 half"), say("Whole.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Say it.")
        assert text(result).startswith("empty_output: ")
        thread = result["structuredContent"]["threadId"]
        again = ask(wire, "codex-reply", threadId=thread, prompt="Again.")
    assert text(again) == "Whole."


def test_an_answer_that_was_cut_short_by_the_users_budget_says_so(
    world: World, model: Model
) -> None:
    model(Endless())
    world.settings["MAX_TOKENS"] = str(LIMIT)
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Is it fine?")
    assert not result.get("isError")
    answer, note = text(result).split("\n\n")
    assert answer == "So far it is fine."
    assert note.startswith(f"the run used up its {LIMIT} tokens before it was done")
