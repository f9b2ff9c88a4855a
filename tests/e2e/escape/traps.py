"""What a trap is: a world prepared so that plain Codex lets something through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.escape.scene import Scene

FULL_ACCESS = ("--dangerously-bypass-approvals-and-sandbox",)


@dataclass(frozen=True)
class Trap:
    """Lines for config.toml, and what plain Codex then lets through: `wins`, of which `ring` may come later.

    A run of ours may be refused with one of the codes in `refused` instead of being
    held.
    """

    wins: frozenset[str]
    top: str = ""
    tables: str = ""
    flags: tuple[str, ...] = ("-s", "read-only")
    ring: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    workspace: Path | None = None
    argv: tuple[str, ...] = ()
    refused: frozenset[str] = frozenset()


def trap_that_runs(name: str, **rest: Any) -> Trap:
    return Trap(frozenset({f"ran {name}"}), ring=name, **rest)


def trap_that_is_obeyed(**rest: Any) -> Trap:
    return Trap(frozenset({"OBEYED", "ran project"}), ring="project", flags=(), **rest)


def trap_that_writes(*names: str, **rest: Any) -> Trap:
    return Trap(frozenset(f"wrote {name}" for name in names), **rest)


def trap_that_tells(
    *secrets: str, refused: frozenset[str] = frozenset(), **rest: Any
) -> Trap:
    """One that tells these secrets to a model with full access: `SECRET-` and the name."""
    wins = frozenset(f"SECRET-{name}" for name in secrets)
    return Trap(wins, flags=FULL_ACCESS, refused=refused, **rest)


@dataclass(frozen=True)
class Row:
    """A trap as a row of the matrix. `attack` is a sentence for SECURITY.md; `lay` prepares the scene."""

    attack: str
    lay: Callable[[Scene], Trap]


TRAPS: dict[str, Row] = {}


def trap(
    attack: str,
) -> Callable[[Callable[[Scene], Trap]], Callable[[Scene], Trap]]:
    def add(lay: Callable[[Scene], Trap]) -> Callable[[Scene], Trap]:
        TRAPS[lay.__name__] = Row(attack, lay)
        return lay

    return add
