"""One call of the API of a hub, by its own program `gh` or `glab`, which knows the login."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codex_counsel.system.json_values import Json, JsonObject

if TYPE_CHECKING:
    from codex_counsel.hub.reference import HubKind, PullRequest


def program(hub: HubKind, env: Mapping[str, str], workspace: Path) -> Path | None:
    """`gh` or `glab` on PATH, but for a program of the project around `workspace`; None without one."""
    raise NotImplementedError


def call(
    pull: PullRequest,
    path: str,
    env: Mapping[str, str],
    workspace: Path,
    *,
    method: str = "GET",
    body: JsonObject | None = None,
    seconds: float = 30,
) -> Json:
    """What the API answers, such as to `repos/o/r/pulls/7`.

    Raises `hub_failed`: without the program, a login or an answer, and for an answer that
    is an error (`details.status`) or no JSON.
    """
    raise NotImplementedError
