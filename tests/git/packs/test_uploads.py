"""Foundations that a client sends to a node in parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_counsel.fleet import node
from codex_counsel.fleet.tickets import Tickets
from codex_counsel.packs import archive
from tests.conftest import World
from tests.foundations import draft
from tests.repositories import Repository


def test_of_two_calls_that_keep_one_upload_the_second_finds_its_repository(
    world: World,
    own_git_settings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As two clients make them that send the same foundation at once, or one whose first call took long."""
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    file = draft(sender_of(tmp_path, world)).write(tmp_path / "foundation.tar")
    digest, size = archive.digest_of(file), file.stat().st_size
    assert node._put(digest, 0, file.read_bytes()) == {"size": size}
    whole_upload = Tickets.whole_upload

    def whole_upload_before_the_other_call(
        tickets: Tickets, digest: str, size: int
    ) -> Path | None:
        found = whole_upload(tickets, digest, size)
        monkeypatch.setattr(Tickets, "whole_upload", whole_upload)
        assert node._keep_foundation(digest, size) == {"kept": True}
        return found

    monkeypatch.setattr(Tickets, "whole_upload", whole_upload_before_the_other_call)
    assert node._keep_foundation(digest, size) == {"kept": True}


def sender_of(tmp_path: Path, world: World) -> Repository:
    repository = world.repository_at(tmp_path / "sender")
    repository.root.mkdir()
    return repository.begin()
