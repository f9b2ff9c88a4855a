"""The client of Codex's app server: what it reads, how long it waits, and that no process is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codex_counsel.codex import app_server
from codex_counsel.codex.binary import Codex
from tests.conftest import World, living, until
from tests.e2e.fakes import executable


def server_that(world: World, script: str) -> Codex:
    path = executable(world.base / "codex", script)
    return Codex(path, (), "0.169.0", "setting")


def answer_of(world: World, codex: Codex, seconds: float = 30) -> dict[str, Any] | None:
    with app_server.connect(codex, world.env, ("a=1",), seconds=seconds) as server:
        server.request("question", {"key": "value"})
        return server.answer()


def test_the_answer_is_found_among_other_messages_and_lines_that_are_none(
    world: World,
) -> None:
    noise = [
        "not json",
        "7",
        '{"id": 0, "result": {}}',
        '{"method": "notice"}',
        "[" * 100_000,
    ]
    (world.base / "noise").write_text("\n".join(noise) + "\n", "utf-8")
    codex = server_that(
        world, f'cat {world.base}/noise; echo \'{{"id": 1, "result": 42}}\'; sleep 600'
    )
    assert answer_of(world, codex) == {"id": 1, "result": 42}
    until(lambda: not living(str(world.base)))


def test_it_introduces_itself_and_passes_the_configuration_on(world: World) -> None:
    codex = server_that(
        world,
        f'echo "$@" > {world.base}/argv; head -n 3 > {world.base}/stdin; echo \'{{"id": 1}}\'',
    )
    assert answer_of(world, codex) == {"id": 1}
    argv = (world.base / "argv").read_text().split()
    assert argv == [
        "app-server",
        "-c",
        "analytics.enabled=false",
        "-c",
        "features.plugins=false",
        "-c",
        "a=1",
    ]
    lines = (world.base / "stdin").read_text().splitlines()
    assert [
        word in line
        for word, line in zip(
            ("initialize", "initialized", "question"), lines, strict=True
        )
    ]


@pytest.mark.parametrize(
    "script", ["sleep 600 & sleep 600", "exec 1>&-; sleep 600", "exit 1"]
)
def test_a_server_that_does_not_answer_is_given_up_and_ended_with_its_children(
    world: World, script: str
) -> None:
    assert answer_of(world, server_that(world, script), seconds=0.3) is None
    until(lambda: not living(str(world.base)))


def test_a_caller_that_fails_leaves_no_server_behind(
    world: World, tmp_path: Path
) -> None:
    codex = server_that(world, "sleep 600")
    with pytest.raises(RuntimeError), app_server.connect(codex, world.env, seconds=30):
        raise RuntimeError
    until(lambda: not living(str(world.base)))
