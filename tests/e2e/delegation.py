"""Tasks for the real Codex, and a check that the user's files stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Delegate, parse
from codex_counsel.jobs.handle import Handle
from tests.conftest import World, wait
from tests.git.delegate.states import state


def start(
    world: World,
    task: str = "Fix the answer.",
    *,
    background: bool = False,
    **arguments: Any,
) -> Handle:
    return world.counsel().delegate(
        parse(Delegate, {"task": task, **arguments}), background=background
    )


def delegate(
    world: World, task: str = "Fix the answer.", **arguments: Any
) -> EnvelopeDict:
    """Delegate a task and wait, and return the envelope as it is delivered."""
    handle = start(world, task, **arguments)
    return world.counsel().deliver(handle, wait(handle))


@contextmanager
def assert_unchanged(*roots: Path) -> Iterator[None]:
    """Assert that files and repositories below the directories are the same afterwards, byte for byte."""
    before = state(*roots)
    yield
    assert state(*roots) == before
