"""Other plugins of Claude Code that claim our commands or do our job, as Claude Code's settings files name them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from codex_counsel.system.files import read_regular

PLUGIN_NAME = "codex"
OWN_MARKETPLACE = "codex-counsel"
SAME_JOB = ("codex-in-claude", "amicus")
MAX_SETTINGS = 1_000_000
"""Bytes of a settings file that are read; a longer one is ignored."""


def conflicting_plugins(env: Mapping[str, str], project: Path) -> list[str]:
    """Enabled plugins, as `name@marketplace`, that have our name or do the same job. Never raises."""
    enabled: dict[str, bool] = {}
    for file in _settings_files(env, project):
        enabled |= _enabled_plugins(file)
    conflicting = [
        plugin for plugin in enabled if enabled[plugin] and _conflicts(plugin)
    ]
    return sorted(conflicting)


def notices(env: Mapping[str, str], project: Path) -> list[str]:
    """One sentence for each conflicting plugin, with the command that switches it off."""
    return [_notice(plugin) for plugin in conflicting_plugins(env, project)]


def _notice(plugin: str) -> str:
    switch_off = f"`claude plugin disable {plugin}` switches it off"
    name, _, _ = plugin.partition("@")
    if name == PLUGIN_NAME:
        return (
            f"another plugin is called {PLUGIN_NAME}, too ({plugin}): where both have a /codex: command of the same "
            f"name, Claude Code silently runs that of the plugin installed first; {switch_off}"
        )
    return (
        f"the plugin {plugin} does the same job and may be called instead; {switch_off}"
    )


def _settings_files(env: Mapping[str, str], project: Path) -> list[Path]:
    """Settings of the user, of the project, and of the user for the project: each overrides those before it."""
    home = env.get("HOME") or "/nonexistent"
    config = env.get("CLAUDE_CONFIG_DIR") or Path(home, ".claude")
    # The user's own file may be a link into a repository of dotfiles. Links in a
    # project are not followed.
    user = os.path.realpath(Path(config, "settings.json"))
    return [
        Path(user),
        project / ".claude/settings.json",
        project / ".claude/settings.local.json",
    ]


def _enabled_plugins(file: Path) -> dict[str, bool]:
    data = read_regular(file, MAX_SETTINGS)
    if data is None:
        return {}
    try:
        settings = json.loads(data.decode("utf-8", "replace"))
        plugins = settings["enabledPlugins"]
        return {str(plugin): on is True for plugin, on in plugins.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _conflicts(plugin: str) -> bool:
    name, _, marketplace = plugin.partition("@")
    if name == PLUGIN_NAME:
        return marketplace != OWN_MARKETPLACE
    return name in SAME_JOB
