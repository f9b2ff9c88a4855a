"""The environments of a project: packages that its own tools need and git ignores, and the interpreter they run in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.prepare.toolchains import interpreter

if TYPE_CHECKING:
    from codex_counsel.prepare.workspace import ResolvedWorkspace

NAMES = (".venv", "venv", "node_modules")
"""Directories of a project that hold such packages."""


@dataclass(frozen=True)
class Environments:
    """`readable` are directories to open. `python` is a virtual environment whose interpreter is among them."""

    readable: tuple[Path, ...] = ()
    python: Path | None = None


def of_project(workspace: ResolvedWorkspace) -> Environments:
    """The environments of the workspace and of each directory above it, up to the top of its repository.

    `python` is the nearest one. The directories may come from a repository: the gate
    refuses links, and `interpreter` says which installation they may lead to.
    """
    readable: list[Path] = []
    python = None
    for folder in (workspace.root, *workspace.root.parents):
        if not folder.is_relative_to(workspace.outermost):
            break
        for name in NAMES:
            environment = folder / name
            # Path.is_dir raises where os.path.isdir answers no: a name that is too long.
            is_there = os.path.isdir(environment)  # noqa: PTH112
            if not is_there or workspace.gate.why_closed(environment):
                continue
            installation = interpreter(environment, workspace.gate)
            readable += [environment, *installation]
            if installation and python is None:
                python = environment
    return Environments(tuple(dict.fromkeys(readable)), python)
