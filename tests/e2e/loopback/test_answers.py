"""What a scripted model says and does is what Codex reports and does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from codex_counsel.loopback import (
    Loopback,
    Usage,
    call,
    items,
    patch,
    run_code,
    say,
    shell,
    think,
)

if TYPE_CHECKING:
    from tests.e2e.loopback.conftest import Codex

MODELS = pytest.mark.parametrize(
    "model", [["-m", "gpt-5.5"], []], ids=["direct", "code-mode"]
)

PATCH = """*** Begin Patch
*** Update File: app.py
@@
-print('hello')
+print('hello, "world"')
*** Add File: new.py
+x = 1
*** End Patch
"""


def test_message_is_the_answer_of_the_turn(codex: Codex) -> None:
    with Loopback(say("Yes.")) as server:
        outcome = codex.ask(server)
    assert (outcome.code, outcome.texts()) == (0, ["Yes."])


def test_mapping_is_said_as_json(codex: Codex) -> None:
    with Loopback(say({"verdict": "fine"})) as server:
        assert codex.ask(server).texts() == ['{"verdict": "fine"}']


@MODELS
def test_shell_runs_the_command_and_the_next_request_holds_its_output(
    codex: Codex, model: list[str]
) -> None:
    with Loopback(
        [shell("cat app.py; echo 'it'\"'\"'s'; exit 3"), say("Seen.")]
    ) as server:
        outcome = codex.ask(server, *model)
    (command,) = [item for item in outcome.items if item["type"] == "command_execution"]
    assert (command["exit_code"], command["aggregated_output"]) == (
        3,
        "print('hello')\nit's\n",
    )
    assert [len(request.outputs) for request in server.requests] == [0, 1]
    assert "print('hello')\nit's" in server.requests[1].outputs[0]
    assert outcome.texts() == ["Seen."]


@MODELS
def test_patch_edits_the_workspace(codex: Codex, model: list[str]) -> None:
    with Loopback([patch(PATCH), say("Done.")]) as server:
        outcome = codex.ask(server, *model, sandbox="workspace-write")
    (change,) = [item for item in outcome.items if item["type"] == "file_change"]
    assert sorted(entry["kind"] for entry in change["changes"]) == ["add", "update"]
    assert (codex.workspace / "app.py").read_text(
        encoding="utf-8"
    ) == "print('hello, \"world\"')\n"
    assert len(server.requests[1].outputs) == 1


@MODELS
def test_several_items_come_in_their_order(codex: Codex, model: list[str]) -> None:
    first = items(
        think("Hm."),
        say("Looking.", phase="commentary"),
        shell("echo one"),
        shell("echo two"),
    )
    with Loopback([first, say("Done.", phase="final_answer")]) as server:
        outcome = codex.ask(server, *model, "-c", 'model_reasoning_summary="auto"')
    assert outcome.texts("reasoning") == ["Hm."]
    assert outcome.texts() == ["Looking.", "Done."]
    assert [
        "one" in output or "two" in output for output in server.requests[1].outputs
    ] == [True, True]


def test_unfinished_turn_makes_codex_ask_again(codex: Codex) -> None:
    with Loopback([say("Wait.").but(end_turn=False), say("Done.")]) as server:
        outcome = codex.ask(server)
    assert outcome.texts() == ["Wait.", "Done."]
    assert len(server.requests) == 2


def test_usage_is_reported(codex: Codex) -> None:
    with Loopback(
        say("Yes.").but(usage=Usage(input=7, cached=3, output=5, reasoning=2))
    ) as server:
        usage = codex.ask(server).events[-1]["usage"]
    assert usage == {
        "input_tokens": 7,
        "cached_input_tokens": 3,
        "cache_write_input_tokens": 0,
        "output_tokens": 5,
        "reasoning_output_tokens": 2,
    }


def test_unknown_tool_is_answered_by_codex(codex: Codex) -> None:
    with Loopback([call("teleport", {"to": "moon"}), say("Stayed.")]) as server:
        assert codex.ask(server, "-m", "gpt-5.5").code == 0
    assert server.requests[1].outputs == ["unsupported call: teleport"]


def test_code_returns_what_it_prints(codex: Codex) -> None:
    with Loopback([run_code("text(6 * 7);"), say("Counted.")]) as server:
        codex.ask(server)
    assert "42" in server.requests[1].outputs[0]
