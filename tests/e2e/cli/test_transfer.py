"""Going on in Codex with a session of Claude Code: the newest of this directory, or a named one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from codex_counsel.loopback import Loopback
from tests.conftest import World
from tests.e2e.cli.test_verbs import run

Model = Callable[..., Loopback]
OLD, NEW = (f"{digit * 8}-2222-3333-4444-555555555555" for digit in "12")


def write_session(world: World, directory: Path, name: str, question: str) -> Path:
    folder = re.sub("[^A-Za-z0-9]", "-", str(directory))
    file = world.home / ".claude/projects" / folder / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    answer = [{"type": "text", "text": "It is cleared at start."}]
    rows = []
    for role, content in (("user", question), ("assistant", answer)):
        row = {
            "type": role,
            "message": {"role": role, "content": content},
            "cwd": str(directory),
            "sessionId": name,
            "uuid": f"{name}-{role}",
            "timestamp": "2026-01-01T00:00:00.000Z",
        }
        rows.append(json.dumps(row) + "\n")
    file.write_text("".join(rows), "utf-8")
    return file


def test_the_newest_session_of_this_directory_becomes_a_thread(
    world: World, model: Model
) -> None:
    server = model()
    old = write_session(world, world.workspace, OLD, "The old question?")
    os.utime(old, (0, 0))
    new = write_session(world, world.workspace, NEW, "Why is the cache cold?")
    write_session(world, world.base, OLD, "Asked elsewhere?")
    result = run(world, "transfer")
    assert result.code == 0, result.err
    thread = re.search(r"codex resume ([0-9a-f-]{36})", result.out)
    assert thread
    assert f"session: {new}" in result.out
    assert run(world, "consult", "--session-id", thread[1], "And now?").code == 0
    assert "Why is the cache cold?" in server.requests[-1].prompt


def test_a_session_may_be_named_by_its_id_or_its_file(
    world: World, model: Model
) -> None:
    model()
    elsewhere = world.base / "elsewhere"
    elsewhere.mkdir()
    session = write_session(world, elsewhere, OLD, "Elsewhere?")
    for name in (
        OLD,
        f"{OLD}.jsonl",
        str(session),
        os.path.relpath(session, world.workspace),
    ):
        result = run(world, "transfer", name, "--json")
        assert result.code == 0, result.out
        assert result.json["data"]["transcript"] == str(session)


def test_without_a_session_it_says_so(world: World, model: Model) -> None:
    model()
    result = run(world, "transfer")
    assert (result.code, "Claude Code has no session of" in result.err) == (2, True)
    assert "transcript_path" not in result.err
    missing = run(world, "transfer", OLD)
    assert (missing.code, f"there is no {OLD}.jsonl" in missing.err) == (2, True)
