"""Which transcript may be handed over, and how Codex's refusals come back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.claude import session_import as transfer
from codex_counsel.codex import thread_import
from codex_counsel.contract.request import Transfer, parse
from codex_counsel.errors import CounselError
from tests.conftest import World, consult, living, until
from tests.e2e.fakes import executable

ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def session(world: World) -> Path:
    """A transcript as Claude Code writes one."""
    file = world.home / f".claude/projects/-a-project/{ID}.jsonl"
    file.parent.mkdir(parents=True)
    messages = [
        ("user", "Why is the cache cold?"),
        ("assistant", [{"type": "text", "text": "It is cleared at start."}]),
    ]
    rows = [
        {
            "type": role,
            "message": {"role": role, "content": content},
            "cwd": str(world.workspace),
            "sessionId": ID,
            "uuid": f"u{number}",
            "timestamp": f"2026-01-01T00:00:0{number}.000Z",
        }
        for number, (role, content) in enumerate(messages)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def import_session(
    world: World, env: dict[str, str] | None = None, **arguments: Any
) -> dict[str, Any]:
    return world.counsel(**(env or {})).transfer(parse(Transfer, arguments))


def test_a_session_becomes_a_thread_that_knows_what_was_said(
    world: World, session: Path, model: Any
) -> None:
    server = model()
    wire = import_session(world, transcript_path=str(session))
    thread = wire["meta"]["session_id"]
    assert wire["data"]["resume_command"] == f"codex resume {thread}"
    consult(world.counsel(), session_id=thread)
    assert "Why is the cache cold?" in server.requests[-1].prompt
    until(lambda: living(str(world.base)) == [])


def append(session: Path, *rows: dict[str, Any]) -> None:
    number = len(session.read_text("utf-8").splitlines())
    common = {"cwd": "/a/project", "sessionId": ID}
    with session.open("a", encoding="utf-8") as file:
        for row in rows:
            number += 1
            about = {"uuid": f"u{number}", "timestamp": f"2026-01-01T00:00:{number}Z"}
            file.write(json.dumps({**common, **about, **row}) + "\n")


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": role, "message": {"role": role, "content": content}, **more}


def use_of(tool: str, call_id: str) -> dict[str, Any]:
    call = {"type": "tool_use", "id": call_id, "name": tool, "input": {}}
    return message("assistant", [call])


TYPED = "<command-message>codex:transfer</command-message>\n<command-name>/codex:transfer</command-name>"
TRANSFER = "mcp__plugin_codex_counsel__codex_transfer"
RESULT = {"type": "tool_result", "tool_use_id": "call", "content": "codex resume X"}


def test_the_hand_over_itself_is_left_out_and_what_was_taken_is_said(
    world: World, session: Path, model: Any
) -> None:
    server = model()
    hand_over = (
        message("user", TYPED),
        message("user", "Copy this session", isMeta=True),
        use_of(TRANSFER, "call"),
        message("user", [RESULT]),
        message("assistant", [{"type": "text", "text": "It goes on in Codex."}]),
    )
    append(session, *hand_over, message("user", "And\nwhy is it slow?"), *hand_over[:3])
    wire = import_session(world, transcript_path=str(session))
    data = wire["data"]
    assert (data["turns"], data["first_words"], data["last_words"]) == (
        2,
        "Why is the cache cold?",
        "And why is it slow?",
    )
    assert data["transcript"] == str(session)
    assert "2 turns" in wire["summary"]

    consult(world.counsel(), session_id=wire["meta"]["session_id"])
    for words in ("Why is the cache cold?", "It is cleared", "why is it slow?"):
        assert words in json.dumps(server.requests[-1].body)
    for words in ("codex:transfer", "It goes on in Codex", TRANSFER, "resume X"):
        assert words not in json.dumps(server.requests[-1].body)


def test_a_call_without_the_command_is_left_out_and_the_words_of_the_user_stay(
    world: World, session: Path, model: Any
) -> None:
    server = model()
    append(session, message("user", "Now Codex."), use_of(TRANSFER, "call"))
    wire = import_session(world, transcript_path=str(session))
    consult(world.counsel(), session_id=wire["meta"]["session_id"])
    assert wire["data"]["last_words"] == "Now Codex."
    assert "Now Codex." in server.requests[-1].prompt
    assert TRANSFER not in json.dumps(server.requests[-1].body)


def test_a_session_that_holds_only_its_hand_over_is_refused(
    world: World, session: Path, model: Any
) -> None:
    model()
    session.write_text("", "utf-8")
    append(session, message("user", TYPED), use_of(TRANSFER, "call"))
    with pytest.raises(CounselError, match="nothing that could be handed over"):
        import_session(world, transcript_path=str(session))


def test_a_session_that_is_removed_while_it_is_imported_is_handed_over(
    world: World, session: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model()
    size = session.stat().st_size
    counsel = "codex_counsel.services.counsel"

    def remove_and_import(*arguments: Any, **more: Any) -> str:
        session.unlink()
        return thread_import.import_session(*arguments, **more)

    monkeypatch.setattr(f"{counsel}.import_session", remove_and_import)
    data = import_session(world, transcript_path=str(session))["data"]
    assert (data["turns"], data["bytes"]) == (1, size)


def test_without_a_path_it_is_the_session_that_started_this_process(
    world: World, session: Path, model: Any
) -> None:
    model()
    moved = world.base / "elsewhere"
    (world.home / ".claude").rename(moved)
    wire = import_session(
        world, {"CLAUDE_CODE_SESSION_ID": ID, "CLAUDE_CONFIG_DIR": str(moved)}
    )
    assert wire["data"]["transcript"] == str(moved / f"projects/-a-project/{ID}.jsonl")
    assert "warnings" not in wire["meta"]


def test_a_session_of_the_project_that_was_written_later_is_named(
    world: World, session: Path, model: Any
) -> None:
    model()
    newer = session.with_name("newer.jsonl")
    newer.write_bytes(session.read_bytes())
    session.with_name("loop.jsonl").symlink_to("loop.jsonl")
    session.with_name("lost.jsonl").symlink_to("nowhere")
    os.utime(session, (0, 0))
    (warning,) = import_session(world, {"CLAUDE_CODE_SESSION_ID": ID})["meta"][
        "warnings"
    ]
    assert str(newer) in warning


def test_only_transcripts_of_claude_code_are_taken(
    world: World, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FLUSH_SECONDS", 0)
    outside = world.base / "outside.jsonl"
    outside.write_text("{}", "utf-8")
    link = session.with_name("link.jsonl")
    link.symlink_to(outside)
    other = session.with_name("notes.txt")
    other.touch()
    for path in (
        outside,
        link,
        other,
        session.parent,
        session.parent / "../../../.ssh/id.jsonl",
        "nothing.jsonl",
    ):
        with pytest.raises(CounselError, match="transcript_path") as error:
            import_session(world, transcript_path=str(path))
        assert error.value.code == "invalid_arguments"
    with pytest.raises(CounselError, match="not started by a session of Claude Code"):
        import_session(world)


FAILED = {
    "itemType": "SESSIONS",
    "successes": [],
    "failures": [{"message": "It is torn."}],
}
DONE = {
    "method": "externalAgentConfig/import/completed",
    "params": {"itemTypeResults": [FAILED]},
}


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        (
            {"id": 1, "error": {"code": -32601, "message": "no such method"}},
            "codex_too_old",
            "cannot import sessions",
        ),
        (
            {"id": 1, "error": {"code": -32000, "message": "Not today."}},
            "upstream_error",
            "Not today.",
        ),
        (DONE, "upstream_error", "It is torn."),
        ([], "upstream_error", "did not finish the import"),
    ],
)
def test_what_codex_says_against_it_comes_back(
    world: World, session: Path, output: Any, code: str, words: str
) -> None:
    script = f"case $1 in --version) echo codex-cli 0.163.0;; *) echo '{json.dumps(output)}';; esac"
    world.binary = str(executable(world.base / "codex", script))
    with pytest.raises(CounselError, match=words) as error:
        import_session(world, transcript_path=str(session))
    assert error.value.code == code


@pytest.mark.parametrize("exchanged", ["the file", "its folder"])
def test_a_transcript_that_is_exchanged_for_a_link_after_it_was_checked_is_not_copied(
    world: World, session: Path, exchanged: str
) -> None:
    private = world.home / "private"
    private.mkdir()
    (private / session.name).write_text("the secret")
    found = transfer.find(str(session), world.env)
    if exchanged == "the file":
        session.unlink()
        session.symlink_to(private / session.name)
    else:
        session.parent.rename(world.base / "moved")
        session.parent.symlink_to(private)
    with (
        pytest.raises(CounselError, match="cannot be read"),
        transfer.private_copy(found.path),
    ):
        pass


def test_damaged_rows_and_endless_tags_end_no_copy(world: World, session: Path) -> None:
    """A search that begins anew at each tag would take hours."""
    append(
        session,
        use_of(TRANSFER, "call"),
        message("user", [{**RESULT, "tool_use_id": ["call"]}]),
        message("user", "<command-name>" * 200_000),
        message("user", "Go on."),
    )
    found = transfer.find(str(session), world.env)
    with transfer.private_copy(found.path) as copy:
        assert copy.contents.last_words == "Go on."
