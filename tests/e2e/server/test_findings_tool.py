"""`codex_findings`: what a client sees of the record, and what it may change."""

from __future__ import annotations

import json
from typing import Any

import pytest

from codex_counsel.contract.paging import BUDGETS
from tests import hostile
from tests.conftest import World
from tests.e2e.server.conftest import Connect
from tests.e2e.server.test_tools import call
from tests.e2e.server.wire import ServerProcess
from tests.records import entry, ledger_of, put

pytestmark = pytest.mark.usefixtures("own_git_settings")

ID = entry().id


@pytest.fixture
def repository(world: World) -> World:
    """The world with a repository, on whose record is one open finding."""
    world.repository.begin()
    put(ledger_of(world), entry())
    return world


async def test_a_client_lists_rejects_and_reopens_in_its_own_name(
    repository: World, connect: Connect
) -> None:
    async with connect("claude-code") as client:
        listed = await call(client, "codex_findings")
        assert listed["data"]["counts"] == {"open": 1}
        assert listed["summary"] == "1 finding on record: 1 open; 1 shown"
        rejected = await call(
            client, "codex_findings", action="reject", id=ID[:4], reason="It is 70."
        )
        (row,) = rejected["data"]["findings"]
        assert (row["state"], row["reason"], row["by"]) == (
            "rejected",
            "It is 70.",
            "claude-code",
        )
        shown = await call(client, "codex_findings", action="show", id=ID)
        assert shown["data"]["findings"][0]["words"] == "seven = 70"
        await call(client, "codex_findings", action="reopen", id=ID)
        assert ledger_of(repository).read().entries[ID].state == "open"
        forgotten = await call(client, "codex_findings", action="forget", id=ID)
        assert "is forgotten; it was open" in forgotten["summary"]
        assert ledger_of(repository).read().entries == {}


async def test_a_client_without_a_name_is_called_one(
    repository: World, connect: Connect
) -> None:
    async with connect("") as client:
        await call(client, "codex_findings", action="accept", id=ID)
    assert ledger_of(repository).read().entries[ID].by == "MCP client"


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no such action": ({"action": "fix", "id": ID}, "invalid_arguments", "action"),
    "no id": ({"action": "accept"}, "invalid_arguments", "id: accept needs one"),
    "a path": ({"action": "show", "id": "../.."}, "invalid_arguments", "id: "),
    "no reason": ({"action": "reject", "id": ID}, "invalid_arguments", "reason: "),
    "a NUL": (
        {"action": "reject", "id": ID, "reason": "a\0"},
        "invalid_arguments",
        "reason: holds a NUL byte",
    ),
    "too long": (
        {"action": "reject", "id": ID, "reason": "a" * 100_000},
        "invalid_arguments",
        "at most 2000 characters",
    ),
    "a number": ({"action": "show", "id": 7}, "invalid_arguments", "id: "),
    "another argument": ({"by": "the user"}, "invalid_arguments", "by is not"),
    "nobody's id": (
        {"action": "show", "id": "f" * 16},
        "finding_not_found",
        "No finding on record",
    ),
    "another place": ({"workspace_root": "/"}, "workspace_invalid", "/ "),
    "a relative place": ({"workspace_root": "."}, "workspace_invalid", "absolute"),
}


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_an_error_that_says_what_to_do(
    repository: World, arguments: dict[str, Any], code: str, words: str
) -> None:
    before = ledger_of(repository).file.read_bytes()
    with ServerProcess(repository) as wire:
        wire.initialize()
        envelope = wire.tool("codex_findings", arguments)
        error = envelope["error"]
        wire.close()
        assert wire.wait_for_exit() == 0
    assert error["code"] == code
    assert words in error["message"]
    assert error["repair"]
    assert ledger_of(repository).file.read_bytes() == before


def test_ten_thousand_long_findings_fit_a_page(world: World) -> None:
    world.repository.begin()
    long = '\u65e5\u202e"\\' * 75
    many = [
        entry(f"word {number}", title=long, reason=long, state="rejected")
        for number in range(10_000)
    ]
    put(ledger_of(world), *many, entry("grave", severity="critical"))
    with ServerProcess(world) as wire:
        wire.initialize()
        listed = wire.tool("codex_findings")
        shown = wire.tool("codex_findings", {"action": "show", "id": many[0].id})
        wire.close()
        assert wire.wait_for_exit() == 0
    for envelope in (listed, shown):
        spelled = json.dumps(envelope, separators=(",", ":"), ensure_ascii=False)
        assert len(spelled.encode()) <= BUDGETS["full"]
    assert listed["meta"]["truncated"] is True
    (warning,) = listed["meta"]["warnings"]
    assert "codex-counsel findings --limit 10001" in warning
    assert listed["data"]["total"] == 10_001
    assert listed["data"]["findings"][0]["severity"] == "critical"
    assert 1 < listed["data"]["shown"] <= 50


def test_no_hidden_character_reaches_a_client(world: World) -> None:
    world.repository.begin()
    parts = [hostile.ALL[start : start + 290] for start in range(0, 2_000, 290)]
    put(ledger_of(world), *(entry(part, title=part) for part in parts))
    with ServerProcess(world) as wire:
        wire.initialize()
        texts = [json.dumps(wire.tool("codex_findings"), ensure_ascii=False)]
        for part in parts:
            arguments = {"action": "show", "id": entry(part).id}
            shown = wire.tool("codex_findings", arguments)
            texts.append(json.dumps(shown, ensure_ascii=False))
        wire.close()
        assert wire.wait_for_exit() == 0
    for text in texts:
        assert hostile.hidden_characters(text) <= {"\ufe0f"}
