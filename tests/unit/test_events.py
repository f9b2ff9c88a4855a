"""Each line that Codex prints, and lines that it does not, as one event; and what a run has said, folded together."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from codex_counsel.codex import events
from codex_counsel.codex.events import (
    CommandEnded,
    CommandStarted,
    Damaged,
    Event,
    FilesChanged,
    ItemWarning,
    Message,
    Noise,
    Notice,
    OtherItem,
    Reasoning,
    ThreadStarted,
    Tokens,
    TurnCompleted,
    TurnFailed,
    TurnStarted,
)
from codex_counsel.codex.transcript import MAX_WARNINGS, Transcript

THREAD = "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f"


def item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "item.completed", "item": {"id": "item_0", "type": kind, **fields}}


def before(done: dict[str, Any], stage: str = "started") -> dict[str, Any]:
    return {**done, "type": f"item.{stage}"}


COMMAND: dict[str, Any] = {
    "command": "/bin/bash -c 'ls'",
    "aggregated_output": "",
    "exit_code": None,
    "status": "in_progress",
}
DONE: dict[str, Any] = {
    "command": "/bin/bash -c 'ls'",
    "aggregated_output": "a\n",
    "exit_code": 2,
    "status": "failed",
}
CHANGES = [{"path": "/w/a", "kind": "add"}, {"path": "/w/b", "kind": "delete"}]
USAGE = {
    "input_tokens": 7,
    "cached_input_tokens": 5,
    "output_tokens": 3,
    "reasoning_output_tokens": 1,
}

LINES: dict[str, tuple[dict[str, Any], Event]] = {
    "thread.started": (
        {"type": "thread.started", "thread_id": THREAD},
        ThreadStarted(THREAD),
    ),
    "turn.started": ({"type": "turn.started"}, TurnStarted()),
    "turn.completed": (
        {"type": "turn.completed", "usage": USAGE},
        TurnCompleted(Tokens(7, 5, 3, 1)),
    ),
    "turn.completed, newer": (
        {"type": "turn.completed", "usage": {**USAGE, "cache_write_input_tokens": 9}},
        TurnCompleted(Tokens(7, 5, 3, 1)),
    ),
    "turn.completed, no usage": (
        {"type": "turn.completed"},
        TurnCompleted(Tokens(0, 0, 0, 0)),
    ),
    "turn.completed, null usage": (
        {"type": "turn.completed", "usage": {"input_tokens": None}},
        TurnCompleted(Tokens(0, 0, 0, 0)),
    ),
    "turn.failed": (
        {"type": "turn.failed", "error": {"message": "no"}},
        TurnFailed("no"),
    ),
    "error": (
        {"type": "error", "message": "Reconnecting... 1/5"},
        Notice("Reconnecting... 1/5"),
    ),
    "agent_message": (item("agent_message", text="Hello."), Message("Hello.")),
    "reasoning": (item("reasoning", text="Hm."), Reasoning("Hm.")),
    "reasoning, empty": (item("reasoning"), Reasoning("")),
    "command, started": (
        before(item("command_execution", **COMMAND)),
        CommandStarted("item_0", COMMAND["command"]),
    ),
    "command, updated": (
        before(item("command_execution", **COMMAND), "updated"),
        CommandStarted("item_0", COMMAND["command"]),
    ),
    "command, done": (
        item("command_execution", **DONE),
        CommandEnded("item_0", "/bin/bash -c 'ls'", 2, "a\n"),
    ),
    "command, done without a code": (
        item("command_execution", command="x", exit_code=None),
        CommandEnded("item_0", "x", None, ""),
    ),
    "file_change, started": (
        before(item("file_change", changes=CHANGES)),
        OtherItem("file_change"),
    ),
    "file_change": (
        item("file_change", changes=CHANGES, status="completed"),
        FilesChanged(("/w/a", "/w/b"), ok=True),
    ),
    "file_change, failed": (
        item("file_change", changes=[], status="failed"),
        FilesChanged((), ok=False),
    ),
    "mcp_tool_call": (
        item("mcp_tool_call", server="s", tool="t", error=None),
        OtherItem("mcp_tool_call"),
    ),
    "collab_tool_call": (
        item("collab_tool_call", tool="wait"),
        OtherItem("collab_tool_call"),
    ),
    "web_search": (item("web_search", query="q"), OtherItem("web_search")),
    "todo_list": (
        before(item("todo_list", items=[]), "updated"),
        OtherItem("todo_list"),
    ),
    "error item": (
        item("error", message="Model metadata for `x` not found."),
        ItemWarning("Model metadata for `x` not found."),
    ),
    "an item of tomorrow": (item("hologram"), OtherItem("hologram")),
}


@pytest.mark.parametrize(("line", "event"), LINES.values(), ids=LINES.keys())
def test_each_line_of_codex_is_its_event(line: dict[str, Any], event: Event) -> None:
    assert events.parse(json.dumps(line).encode()) == event


def test_a_line_that_has_one_key_twice_is_read() -> None:
    line = b'{"type":"item.started","item":{"id":"item_3","type":"web_search","id":"ws_1","query":"q"}}'
    assert events.parse(line) == OtherItem("web_search")


def test_an_answer_may_hold_any_character_and_any_length() -> None:
    text = "\u2028\u0085\x00\U0001f600" + "x" * 3_000_000
    assert events.parse(
        json.dumps(item("agent_message", text=text), ensure_ascii=False).encode()
    ) == Message(text)


GARBAGE = {
    "empty": b"",
    "text": b"WARNING: something",
    "a list": b"[]",
    "a number": b"7",
    "null": b"null",
    "no type": b"{}",
    "another type": b'{"type": "thread.renamed"}',
    "no thread id": b'{"type": "thread.started"}',
    "a command without an id": b'{"type": "item.completed", "item": {"type": "command_execution"}}',
    "a word for an exit code": b'{"type":"item.completed","item":{"type":"command_execution","id":1,"exit_code":"x"}}',
    "an error that is a word": b'{"type": "turn.failed", "error": "no"}',
    "bottomless": b"[" * 200_000,
    "changes that are none": b'{"type":"item.completed","item":{"type":"file_change","changes":[{}]}}',
}


@pytest.mark.parametrize("line", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_no_event_is_noise_and_no_crash(line: bytes) -> None:
    assert events.parse(line) == Noise(line)
    assert Transcript().add(events.parse(line)) is False


ANSWER = json.dumps(item("agent_message", text="The answer.")).encode()
DAMAGED = {
    "half": b'{"type": "turn.st',
    "a beginning that is lost": ANSWER[7:],
    "no item": b'{"type": "item.completed"}',
    "an item that is none": b'{"type": "item.completed", "item": []}',
    "a null item": b'{"type": "item.completed", "item": null}',
    "an item without a type": b'{"type": "item.completed", "item": {}}',
    "a message without text": b'{"type": "item.completed", "item": {"type": "agent_message"}}',
    "a message that is no text": b'{"type": "item.completed", "item": {"type": "agent_message", "text": null}}',
    "usage as a list": b'{"type": "turn.completed", "usage": [1]}',
    "endless usage": b'{"type": "turn.completed", "usage": {"input_tokens": 1e999}}',
    "no number": b'{"type": "turn.completed", "usage": {"input_tokens": NaN}}',
    "too many digits": b'{"type": "turn.completed", "usage": {"input_tokens": '
    + b"9" * 5000
    + b"}}",
    "invalid UTF-8": ANSWER.replace(b"answer", b"\xff\xfe"),
    **{f"cut at {at}": ANSWER[:at] for at in range(1, len(ANSWER), 13)},
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_line_that_may_have_been_the_answer_or_the_end_is_damaged(
    line: bytes,
) -> None:
    assert events.parse(line) == Damaged(line)
    transcript = Transcript()
    assert transcript.add(events.parse(line)) is False
    assert transcript.answer_lost
    transcript.add(Message("A later answer."))
    assert not transcript.answer_lost


def test_damage_after_the_end_of_a_turn_costs_no_answer() -> None:
    transcript = Transcript()
    for event in (Message("It."), TurnCompleted(Tokens(1, 1, 1, 1)), Damaged(b"{")):
        transcript.add(event)
    assert not transcript.answer_lost


def test_a_message_of_which_only_the_start_was_reported_may_have_been_the_answer() -> (
    None
):
    transcript = transcript_of(
        item("agent_message", text="Looking."), before(item("agent_message", text=""))
    )
    assert transcript.answer_lost


# --- folded together


def transcript_of(*lines: dict[str, Any]) -> Transcript:
    transcript = Transcript()
    for line in lines:
        transcript.add(events.parse(json.dumps(line).encode()))
    return transcript


def test_the_last_message_that_says_something_is_the_answer() -> None:
    items = [
        item("agent_message", text=text) for text in ("Looking.", "Found it.", " \n")
    ]
    assert transcript_of(*items).answer == "Found it."
    assert transcript_of().answer is None


def test_the_phase_follows_the_run() -> None:
    begin: list[dict[str, Any]] = [
        {"type": "thread.started", "thread_id": THREAD},
        {"type": "turn.started"},
    ]
    started, ended = (
        before(item("command_execution", **COMMAND)),
        item("command_execution", **DONE),
    )
    assert transcript_of().phase == "starting"
    assert transcript_of(*begin).phase == "thinking"
    assert transcript_of(*begin, started).phase == "command"
    assert transcript_of(*begin, started, ended).phase == "thinking"
    assert transcript_of(*begin, {"type": "turn.completed"}).phase == "finishing"
    assert (
        transcript_of(*begin, {"type": "turn.failed", "error": {"message": "no"}}).phase
        == "finishing"
    )


def test_the_last_command_is_the_running_one_or_else_the_latest() -> None:
    first = item("command_execution", **{**DONE, "command": "first"})
    running = before(item("command_execution", **{**COMMAND, "command": "second"}))
    assert transcript_of().last_command is None
    assert transcript_of(first).last_command == "first"
    assert transcript_of(first, running).last_command == "second"


def test_a_long_run_is_held_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codex_counsel.codex.transcript.MAX_TEXT", 10)
    transcript = Transcript()
    for number in range(1000):
        transcript.add(Message(f"{number} " + "answer " * 1000))
        transcript.add(ItemWarning(f"{number}" + " warning" * 100))
        transcript.add(Notice(f"{number}" + " notice" * 100))
        transcript.add(CommandStarted(f"open {number}", "open " * 100))
        transcript.add(CommandStarted(str(number), "make " * 100))
        transcript.add(CommandEnded(str(number), "make " * 100, 0, "out " * 100))
    assert transcript.answer == "999 " + "answer " * 1000
    assert len(pickle.dumps(transcript)) < 15_000


def test_warnings_are_kept_once_and_not_without_end() -> None:
    warned = [item("error", message=f"warning {number % 15}") for number in range(45)]
    assert transcript_of(*warned).warnings == [
        f"warning {number}" for number in range(MAX_WARNINGS)
    ]


def test_what_our_own_options_provoke_is_no_warning() -> None:
    assert (
        transcript_of(
            item(
                "error",
                message="Codex is ignoring 1 unrecognized configuration setting: x",
            )
        ).warnings
        == []
    )


def test_a_retry_notice_is_no_failure_and_the_latest_is_kept() -> None:
    notices = [
        {"type": "error", "message": f"Reconnecting... {number}/5"} for number in (1, 2)
    ]
    transcript = transcript_of(*notices)
    assert (transcript.notice, transcript.failure, transcript.completed) == (
        "Reconnecting... 2/5",
        None,
        False,
    )


def test_the_sandbox_is_broken_when_every_command_failed_at_it() -> None:
    failed = item(
        "command_execution", **{**DONE, "aggregated_output": "bwrap: No permissions"}
    )
    honest = item("command_execution", **DONE)
    lucky = item(
        "command_execution",
        **{**DONE, "aggregated_output": "bwrap: printed by a test", "exit_code": 0},
    )
    assert transcript_of(failed, failed).sandbox_broken
    assert not transcript_of(failed, honest).sandbox_broken
    assert not transcript_of(lucky).sandbox_broken
    assert not transcript_of().sandbox_broken
