"""Codex's own record of a thread: found by the thread's id, read for the last turn, and never a reason to fail."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex import rollout
from codex_counsel.codex.events import Tokens
from codex_counsel.codex.rollout import TurnRecord

THREAD = "01a1fd1a-7cc9-76f3-b57a-2db62e07b46f"


def record(kind: str, **payload: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-21T07:55:33.971Z",
        "ordinal": 1,
        "type": kind,
        "payload": payload,
    }


def turn_start() -> dict[str, Any]:
    return record("event_msg", type="task_started", turn_id="t")


def context(model: str, effort: str | None = None) -> dict[str, Any]:
    return record("turn_context", turn_id="t", model=model, effort=effort)


def token_count(*numbers: int, **limits: Any) -> dict[str, Any]:
    names = (
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_output_tokens",
    )
    usage = dict(zip(names, numbers, strict=True))
    return record(
        "event_msg",
        type="token_count",
        info={"total_token_usage": usage},
        rate_limits=limits or None,
    )


def tool_call(name: str, call_id: str = "c1") -> dict[str, Any]:
    kind = "custom_tool_call" if name == "exec" else "function_call"
    return record(
        "response_item", type=kind, name=name, call_id=call_id, arguments="{}"
    )


def tool_output(output: Any, call_id: str = "c1") -> dict[str, Any]:
    return record(
        "response_item", type="function_call_output", call_id=call_id, output=output
    )


def write_rollout(directory: Path, *lines: dict[str, Any], tail: bytes = b"") -> Path:
    file = directory / "rollout.jsonl"
    file.write_bytes(
        b"".join(json.dumps(line).encode() + b"\n" for line in lines) + tail
    )
    return file


# --- what the thread still holds


def write_thread(home: Path, *lines: dict[str, Any]) -> Path:
    folder = home / "sessions/2026/11/21"
    folder.mkdir(parents=True)
    return write_rollout(folder, *lines).rename(
        folder / f"rollout-2026-11-21T07-55-33-{THREAD}.jsonl"
    )


def test_a_thread_on_record_holds_everything_it_was_sent(tmp_path: Path) -> None:
    write_thread(
        tmp_path, turn_start(), tool_output('the word "compacted" in an output')
    )
    assert rollout.holds_everything(tmp_path, THREAD)


@pytest.mark.parametrize(
    "line",
    [
        record("compacted", message="A summary."),
        record("event_msg", type="context_compacted"),
        record("response_item", type="compaction", encrypted_content="x"),
        record("event_msg", type="thread_rolled_back", num_turns=1),
    ],
)
def test_a_thread_that_was_summarised_or_taken_back_may_have_lost_it(
    tmp_path: Path, line: dict[str, Any]
) -> None:
    write_thread(tmp_path, turn_start(), line, turn_start())
    assert not rollout.holds_everything(tmp_path, THREAD)


def test_a_thread_without_a_record_is_not_believed_to_hold_anything(
    tmp_path: Path,
) -> None:
    assert not rollout.holds_everything(tmp_path, THREAD)
    assert not rollout.holds_everything(tmp_path, "no id")


# --- where it is


def test_the_file_is_found_in_the_folder_of_the_threads_birth(tmp_path: Path) -> None:
    born = time.strftime(
        "%Y/%m/%d", time.localtime(int(THREAD.replace("-", "")[:12], 16) / 1000)
    )
    folder = tmp_path / "sessions" / born
    folder.mkdir(parents=True)
    file = folder / f"rollout-2026-11-21T07-55-33-{THREAD}.jsonl"
    file.touch()
    (
        folder
        / "rollout-2026-11-21T07-55-33-01a1fd1a-7cc9-76f3-b57a-000000000000.jsonl"
    ).touch()
    assert rollout.find(tmp_path, THREAD) == file


def test_the_file_is_found_in_any_other_folder_too(tmp_path: Path) -> None:
    folder = tmp_path / "sessions/1999/12/31"
    folder.mkdir(parents=True)
    (folder / f"rollout-x-{THREAD}.jsonl").touch()
    assert rollout.find(tmp_path, THREAD) == folder / f"rollout-x-{THREAD}.jsonl"


@pytest.mark.parametrize(
    "thread",
    [
        "",
        "../../*",
        "*",
        "no-thread",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        THREAD,
        "------------",
    ],
)
def test_a_thread_without_a_record_has_none_whatever_its_id(
    tmp_path: Path, thread: str
) -> None:
    (tmp_path / "sessions/2026/11/21").mkdir(parents=True)
    (tmp_path / "sessions/2026/11/21/rollout-x-other.jsonl").touch()
    assert rollout.find(tmp_path, thread) is None
    assert rollout.find(tmp_path / "absent", thread) is None


# --- how long it has been quiet


def test_quiet_seconds_count_from_the_last_growth(tmp_path: Path) -> None:
    file = write_rollout(tmp_path, turn_start())
    os.utime(file, (time.time() - 100, time.time() - 100))
    assert 100 <= rollout.seconds_since_growth(file) < 160


def test_without_a_file_it_has_always_been_quiet(tmp_path: Path) -> None:
    assert rollout.seconds_since_growth(None) == float("inf")
    assert rollout.seconds_since_growth(tmp_path / "absent") == float("inf")


# --- what it says


def test_the_last_turn_is_counted_apart_from_those_before_it(tmp_path: Path) -> None:
    file = write_rollout(
        tmp_path,
        *(
            turn_start(),
            context("old", "low"),
            token_count(100, 40, 10, 5),
            token_count(200, 80, 20, 10),
        ),
        *(
            turn_start(),
            context("new", "high"),
            token_count(300, 120, 30, 15),
            token_count(450, 200, 45, 21),
        ),
    )
    assert rollout.last_turns(file) == TurnRecord(
        "new", "high", Tokens(250, 120, 25, 11), None
    )
    for count in (2, 3):
        assert rollout.last_turns(file, count) == TurnRecord(
            "new", "high", Tokens(450, 200, 45, 21), None
        )


def test_what_was_said_in_a_long_thread_is_not_held_in_memory(tmp_path: Path) -> None:
    said = record("response_item", type="message", role="assistant", text="x" * 10**6)
    file = write_rollout(
        tmp_path, turn_start(), *[said] * 30, context("m"), token_count(1, 1, 1, 1)
    )
    tracemalloc.start()
    try:
        assert rollout.last_turns(file).model == "m"
        assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    finally:
        tracemalloc.stop()


def test_a_turn_that_ended_before_it_was_counted_has_no_tokens(tmp_path: Path) -> None:
    file = write_rollout(
        tmp_path,
        turn_start(),
        context("m"),
        token_count(100, 40, 10, 5),
        turn_start(),
        context("m"),
    )
    assert rollout.last_turns(file).tokens is None


def response(*numbers: int) -> dict[str, Any]:
    usage = token_count(*numbers)["payload"]["info"]["total_token_usage"]
    return record("token_usage_record", turn_id="t", usage=usage)


EMPTIED = token_count(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("lines", "tokens"),
    [
        ([token_count(50, 0, 20, 0)], Tokens(50, 0, 20, 0)),
        ([token_count(150, 50, 20, 5), EMPTIED], Tokens(50, 10, 10, 0)),
        (
            [token_count(150, 40, 10, 5), EMPTIED, EMPTIED, token_count(70, 7, 1, 0)],
            Tokens(120, 7, 1, 0),
        ),
        (
            [response(30, 20, 5, 1), token_count(130, 60, 15, 6), response(9, 3, 1, 1)],
            Tokens(39, 23, 6, 2),
        ),
        ([response(30, 20, 5, 1), token_count(230, 60, 15, 6)], Tokens(130, 20, 5, 1)),
        ([response(30, 20, 5, 1)], Tokens(30, 20, 5, 1)),
    ],
    ids=["anew", "full", "full and on", "last response", "unnoted response", "killed"],
)
def test_every_token_of_a_turn_counts_once(
    tmp_path: Path, lines: list[dict[str, Any]], tokens: Tokens
) -> None:
    before = [turn_start(), response(100, 40, 10, 5), token_count(100, 40, 10, 5)]
    file = write_rollout(tmp_path, *before, turn_start(), *lines)
    assert rollout.last_turns(file).tokens == tokens


@pytest.mark.parametrize(
    "name", ["task_started", "token_count", "turn_context", "token_usage_record"]
)
def test_a_tool_that_is_called_like_a_line_of_the_record_changes_nothing(
    tmp_path: Path, name: str
) -> None:
    called = [tool_call(name), tool_output("unsupported call"), tool_call("exec", name)]
    turn = [turn_start(), context("m", "high"), *called, token_count(100, 40, 10, 5)]
    file = write_rollout(
        tmp_path,
        *turn,
        *called,
        token_count(
            300, 40, 20, 5, primary={"used_percent": 100.0, "resets_at": 2_000_000_000}
        ),
        *called,
    )
    assert rollout.last_turns(file) == TurnRecord(
        "m", "high", Tokens(300, 40, 20, 5), 2_000_000_000
    )


def test_a_turn_is_seen_in_a_line_that_was_cut_before_it(tmp_path: Path) -> None:
    half = json.dumps(tool_call("exec")).encode()[:90]
    turn = [turn_start(), context("m"), token_count(150, 40, 20, 5)]
    lines = b"\n".join(json.dumps(line).encode() for line in turn)
    file = write_rollout(
        tmp_path, turn_start(), token_count(100, 40, 10, 5), tail=half + lines
    )
    assert rollout.last_turns(file).tokens == Tokens(50, 0, 10, 0)


FULL, FREE = (
    {"used_percent": 100.0, "resets_at": 2_000_000_000},
    {"used_percent": 12.5, "resets_at": 1_900_000_000},
)
WINDOWS: dict[str, tuple[dict[str, Any], float | None]] = {
    "the first is full": ({"primary": FULL, "secondary": FREE}, 2_000_000_000),
    "the second is full": ({"primary": FREE, "secondary": FULL}, 2_000_000_000),
    "both are": (
        {"primary": FULL, "secondary": {**FULL, "resets_at": 2_100_000_000}},
        2_100_000_000,
    ),
    "none is": ({"primary": FREE, "secondary": None}, None),
    "no reset": ({"primary": {"used_percent": 100.0, "resets_at": None}}, None),
}


@pytest.mark.parametrize(("limits", "reset"), WINDOWS.values(), ids=WINDOWS.keys())
def test_the_reset_is_that_of_the_exhausted_window(
    tmp_path: Path, limits: dict[str, Any], reset: float | None
) -> None:
    file = write_rollout(
        tmp_path, turn_start(), context("m"), token_count(1, 1, 1, 1, **limits)
    )
    assert rollout.last_turns(file).resets_at == reset


DENIED = (
    "Chunk ID: caa2c6\nWall time: 0.0000 seconds\nProcess exited with code 1\n"
    "Output:\nbwrap: setting up uid map: no"
)
WORKED = "Chunk ID: caa2c6\nWall time: 0.0000 seconds\nProcess exited with code 0\nOutput:\nthe word bwrap: in a file"
SCRIPT = [
    {"type": "input_text", "text": "Script completed\nOutput:\n"},
    {"type": "input_text", "text": "bwrap: no\n"},
]
BLIND: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "no command": ([], False),
    "one that could not start": (
        [tool_call("exec_command"), tool_output(DENIED)],
        True,
    ),
    "in code mode": ([tool_call("exec"), tool_output(SCRIPT)], True),
    "without the host of code mode": (
        [
            tool_call("exec"),
            tool_output(
                "failed to spawn code-mode host /x: No such file or directory (os error 2)"
            ),
        ],
        True,
    ),
    "one that worked": ([tool_call("exec_command"), tool_output(WORKED)], False),
    "one of each": (
        [
            tool_call("exec_command"),
            tool_output(DENIED),
            tool_call("exec_command", "c2"),
            tool_output(WORKED, "c2"),
        ],
        False,
    ),
    "another tool": (
        [
            tool_call("exec_command"),
            tool_output(DENIED),
            tool_call("view_image", "c2"),
            tool_output("ok", "c2"),
        ],
        True,
    ),
    "only another tool": ([tool_call("view_image"), tool_output("bwrap: no")], False),
    "in the turn before": (
        [tool_call("exec_command"), tool_output(DENIED), turn_start()],
        False,
    ),
}


@pytest.mark.parametrize(("lines", "blind"), BLIND.values(), ids=BLIND.keys())
def test_a_turn_is_blind_when_each_of_its_commands_failed_at_the_sandbox(
    tmp_path: Path, lines: list[dict[str, Any]], blind: bool
) -> None:
    assert (
        rollout.last_turns(write_rollout(tmp_path, turn_start(), *lines)).sandbox_broken
        is blind
    )


ODD = {
    "empty": b"",
    "text": b"nothing to see",
    "half a line": b'{"type":"event_msg","payload":{"type":"token_count"',
    "another shape": b'{"type":"event_msg","payload":["token_count"]}\n',
    "a word for a number": b'{"payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":"x"}}}}\n',
    "endless": b'{"payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":1e999}}}}\n',
    "a number for a record": b'7 "token_count"\n',
    "bottomless": b'{"payload":{"type":"token_count","x":' + b"[" * 100_000,
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_a_record_that_cannot_be_read_tells_nothing(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "rollout.jsonl").write_bytes(data)
    assert rollout.last_turns(tmp_path / "rollout.jsonl") == TurnRecord()


def test_no_record_tells_nothing(tmp_path: Path) -> None:
    assert (
        rollout.last_turns(None)
        == rollout.last_turns(tmp_path / "absent")
        == TurnRecord()
    )
    assert rollout.last_turns(tmp_path) == TurnRecord()


def test_words_of_a_conversation_are_not_taken_for_records(tmp_path: Path) -> None:
    line = json.dumps({"type": "event_msg", "payload": {"type": "task_started"}})
    spoken = record(
        "response_item",
        type="message",
        role="user",
        content=[{"type": "input_text", "text": line}],
    )
    file = write_rollout(
        tmp_path, turn_start(), context("m"), token_count(100, 40, 10, 5), spoken
    )
    assert rollout.last_turns(file).tokens == Tokens(100, 40, 10, 5)


# --- the usage windows of the account

FIVE_HOURS = {"used_percent": 55.5, "window_minutes": 300, "resets_at": 1795305651}
WEEK = {"used_percent": 12.0, "window_minutes": 10_080, "resets_at": 1795305660}
NOTED_AT = 1_795_247_733.971


def noted(**limits: Any) -> dict[str, Any]:
    return token_count(1, 1, 1, 1, limit_id="codex", **limits)


NOTES: dict[str, tuple[list[dict[str, Any]], dict[str, Any] | None]] = {
    "the last one": ([noted(primary=WEEK), noted(primary=FIVE_HOURS)], FIVE_HOURS),
    "before a long answer": (
        [
            noted(primary=WEEK),
            record("event_msg", type="task_complete", last_agent_message="x" * 100_000),
        ],
        WEEK,
    ),
    "before one without": ([noted(primary=WEEK), token_count(1, 1, 1, 1)], WEEK),
    "before one of a model": (
        [noted(primary=WEEK), token_count(1, 1, 1, 1, limit_id="x", primary=WEEK)],
        WEEK,
    ),
    "of an API key": ([token_count(1, 1, 1, 1)], None),
    "no note": ([turn_start()], None),
    "words of a conversation": (
        [tool_output(json.dumps(noted(primary=WEEK)))],
        None,
    ),
    "without a time": ([{**noted(primary=WEEK), "timestamp": None}], None),
    "a word for a time": ([{**noted(primary=WEEK), "timestamp": "soon"}], None),
}


@pytest.mark.parametrize(("lines", "window"), NOTES.values(), ids=NOTES.keys())
def test_the_newest_note_of_the_usage_windows_is_found(
    tmp_path: Path, lines: list[dict[str, Any]], window: dict[str, Any] | None
) -> None:
    found = rollout.rate_limits(write_rollout(tmp_path, *lines, tail=b'{"half'))
    if window is None:
        assert found is None
    else:
        assert found == (NOTED_AT, {"limit_id": "codex", "primary": window})


@pytest.mark.parametrize("data", ODD.values(), ids=ODD.keys())
def test_a_record_that_cannot_be_read_notes_no_windows(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "rollout.jsonl").write_bytes(data)
    assert rollout.rate_limits(tmp_path / "rollout.jsonl") is None
    assert rollout.rate_limits(tmp_path / "absent") is None
    assert rollout.rate_limits(None) is None


def test_only_the_end_of_a_long_record_is_read_for_the_windows(tmp_path: Path) -> None:
    file = write_rollout(tmp_path, tail=b'{"filler": 1}\n' * 4_000_000)
    with file.open("ab") as stream:
        stream.write(json.dumps(noted(primary=WEEK)).encode() + b"\n")
    tracemalloc.start()
    found = rollout.rate_limits(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == (NOTED_AT, {"limit_id": "codex", "primary": WEEK})
    assert peak < 4_000_000
