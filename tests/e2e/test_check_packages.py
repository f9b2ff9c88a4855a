"""What the how-to guide advises where a fresh copy lacks something, in the check of a task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import Delegate, parse
from codex_counsel.loopback import Loopback, say, shell
from tests.conftest import World
from tests.e2e.runs import assert_nothing_is_left
from tests.e2e.test_project_tests import environment, packages

Model = Callable[..., Loopback]
__all__ = ["packages"]


def check(world: World, model: Model, command: str) -> dict[str, Any]:
    """What such a check says of a task that adds a file."""
    model([shell("echo new > new.txt"), say("Done.")])
    counsel = world.counsel()
    handle = counsel.delegate(parse(Delegate, {"task": "?", "check": command}))
    wire = counsel.follow(handle, lambda _: None)
    assert wire["status"] == "completed", wire
    return dict(wire["check"])


@pytest.mark.parametrize(
    ("command", "passes"),
    [
        ("PYTHONPATH=src python -m pytest -q", True),
        ("python -m pytest -q", False),
    ],
)
def test_an_editable_installation_needs_the_directory_of_the_sources(
    world: World, model: Model, packages: Path, command: str, passes: bool
) -> None:
    repository = world.repository.init()
    repository.write("src/calc.py", "def add(a, b):\n    return a + b\n")
    repository.write(
        "tests/test_calc.py",
        "import calc\n\n\ndef test_add():\n"
        "    assert calc.add(1, 2) == 3\n"
        f"    assert {str(world.workspace)!r} not in calc.__file__\n",
    )
    repository.write(".gitignore", ".venv\n__pycache__\n")
    repository.commit()
    environment(world.workspace / ".venv", packages)
    (library,) = world.workspace.glob(".venv/lib/python*/site-packages")
    (library / "editable.pth").write_text(f"{world.workspace / 'src'}\n")
    result = check(world, model, command)
    assert (result["status"] == "passed") == passes, result
    assert_nothing_is_left(world)
