"""A user's repository with work of every kind in progress, a task for the real Codex, and a look at what is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from codex_counsel.contract import settings
from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Delegate, parse
from codex_counsel.jobs.handle import Handle
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, living, wait
from tests.git.delegate.states import state


def begun(world: World, root: Path | None = None) -> Path:
    """One commit, and work of every kind on top of it."""
    top = root or world.workspace
    top.mkdir(exist_ok=True)
    world.git("init", "-q", "-b", "main", cwd=top)
    texts = {
        "app.py": "answer = 41\n",
        "lib/util.py": "x = 1\n",
        "old.txt": "old\n",
        "gone.txt": "gone\n",
    }
    for name, text in {**texts, ".gitignore": "*.log\n"}.items():
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(text)
    (top / "dos.txt").write_bytes(b"a\r\nb\r\n")
    (top / "logo.bin").write_bytes(bytes(range(256)))
    world.git("add", ".", cwd=top)
    world.git("commit", "-qm", "begin", cwd=top)
    (top / "lib/util.py").write_text("x = 2\n")
    world.git("add", "lib", cwd=top)
    (top / "lib/util.py").write_text("x = 3\n")
    (top / "logo.bin").write_bytes(b"\0mine")
    (top / "dos.txt").write_bytes(b"a\r\nmine\r\n")
    (top / "gone.txt").unlink()
    (top / "notes.md").write_text("mine\n")
    (top / "noise.log").write_text("ignored\n")
    world.git("mv", "old.txt", "new.txt", cwd=top)
    return top


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


def limited(world: World, **limits: float) -> Counsel:
    """A counsel with limits below what the settings allow, so that a test need not wait long."""
    own = settings.load(world.env)
    return Counsel(world.env, world.workspace, replace(own, **limits))  # type: ignore[arg-type]


def delegate(
    world: World, task: str = "Fix the answer.", **arguments: Any
) -> EnvelopeDict:
    """Have it done and wait: the whole envelope."""
    handle = start(world, task, **arguments)
    return world.counsel().deliver(handle, wait(handle))


def trees(world: World) -> list[Path]:
    folder = world.home / ".cache/codex-counsel/trees"
    return list(folder.iterdir()) if folder.is_dir() else []


def nothing_is_left(world: World) -> None:
    """No process, no tree, no temporary file, no half-made record."""
    assert living(str(world.base)) == []
    assert trees(world) == []
    assert list(world.temp.iterdir()) == []
    assert list((world.state / "jobs").glob(".*")) == []


@contextmanager
def untouched(*roots: Path) -> Iterator[None]:
    """The user's files and repository are the same afterwards, to the byte."""
    before = state(*roots)
    yield
    assert state(*roots) == before
