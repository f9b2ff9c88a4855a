"""Other plugins of Claude Code that claim our commands or our job, as its settings files name them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codex_counsel.prepare.workspace import read_text

NAME = "codex"
OWN_MARKETPLACE = "codex-counsel"
SAME_JOB = ("codex-in-claude", "amicus")
MAX_SETTINGS = 1_000_000


def rivals(env: Mapping[str, str], project: Path) -> list[str]:
    """Enabled plugins as `name@marketplace` that are called like this one or do the same. Never fails."""
    enabled: dict[str, bool] = {}
    for file in _settings(env, project):
        enabled |= _enabled(file)
    return sorted(plugin for plugin, on in enabled.items() if on and _rival(plugin))


def notices(env: Mapping[str, str], project: Path) -> list[str]:
    """One sentence for each of them, with what to do."""
    return [_notice(plugin) for plugin in rivals(env, project)]


def _notice(plugin: str) -> str:
    switch_off = f"`claude plugin disable {plugin}` switches it off"
    if plugin.partition("@")[0] == NAME:
        return (
            f"another plugin is called {NAME}, too ({plugin}): where both have a /codex: command of one name, the one "
            f"that was installed first wins without a word; {switch_off}"
        )
    return f"the plugin {plugin} does the same job and may be called instead; {switch_off}"


def _settings(env: Mapping[str, str], project: Path) -> list[Path]:
    """In the order in which they override each other."""
    config = Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME") or "/nonexistent") / ".claude")
    own = project / ".claude"
    return [_followed(config / "settings.json"), own / "settings.json", own / "settings.local.json"]


def _followed(file: Path) -> Path:
    """The user's own settings may be a link into a repository of dotfiles; a project's links lead nowhere."""
    return Path(os.path.realpath(file))


def _enabled(file: Path) -> dict[str, bool]:
    try:
        found: Any = json.loads(read_text(file, MAX_SETTINGS) or "")["enabledPlugins"]
        return {str(plugin): on is True for plugin, on in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _rival(plugin: str) -> bool:
    name, _, marketplace = plugin.partition("@")
    return name in SAME_JOB or (name == NAME and marketplace != OWN_MARKETPLACE)
