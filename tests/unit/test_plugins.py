"""Other plugins of Claude Code that claim the same: found in its settings, whatever these hold."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from codex_counsel.claude import plugins
from codex_counsel.codex import binary
from tests.conftest import World


def enable(file: Path, **ids: bool) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps(
            {
                "enabledPlugins": {
                    name.replace("__", "@"): on for name, on in ids.items()
                }
            }
        ),
        "utf-8",
    )


def conflicting(world: World, **env: str) -> list[str]:
    return plugins.conflicting_plugins({**world.env, **env}, world.workspace)


def test_a_plugin_of_our_name_or_our_job_is_found_and_our_own_is_not(
    world: World,
) -> None:
    names = {
        "codex__openai-codex": True,
        "amicus__amicus": True,
        "codex__codex-counsel": True,
        "lint__tools": True,
    }
    enable(world.home / ".claude/settings.json", **names)
    assert conflicting(world) == ["amicus@amicus", "codex@openai-codex"]
    notices = plugins.notices(world.env, world.workspace)
    assert "`claude plugin disable amicus@amicus` switches it off" in notices[0]
    assert "runs that of the plugin installed first" in notices[1]


def test_a_setting_of_the_project_goes_before_that_of_the_user(world: World) -> None:
    enable(world.home / ".claude/settings.json", codex__openai=True)
    enable(world.workspace / ".claude/settings.local.json", codex__openai=False)
    assert conflicting(world) == []
    enable(world.workspace / ".claude/settings.local.json", amicus__a=True)
    assert conflicting(world) == ["amicus@a", "codex@openai"]


def test_the_configuration_directory_of_the_user_is_the_one_that_counts(
    world: World,
) -> None:
    enable(world.base / "elsewhere/settings.json", codex__openai=True)
    assert conflicting(world) == []
    assert conflicting(world, CLAUDE_CONFIG_DIR=str(world.base / "elsewhere")) == [
        "codex@openai"
    ]


@pytest.mark.parametrize("made", ["link", "pipe", "device", "huge"])
def test_a_project_cannot_hold_us_up_with_its_settings(made: str, world: World) -> None:
    file = world.workspace / ".claude/settings.json"
    enable(file, codex__openai=True)
    if made == "huge":
        file.write_text(" " * plugins.MAX_SETTINGS + file.read_text())
    else:
        kept = file.rename(world.base / "kept.json")
        os.mkfifo(file) if made == "pipe" else file.symlink_to(
            {"link": str(kept)}.get(made, "/dev/zero")
        )
    assert conflicting(world) == []


def test_the_users_own_settings_may_be_a_link_into_a_repository_of_dotfiles(
    world: World,
) -> None:
    enable(world.base / "dotfiles/settings.json", codex__openai=True)
    (world.home / ".claude").mkdir()
    (world.home / ".claude/settings.json").symlink_to(
        world.base / "dotfiles/settings.json"
    )
    assert conflicting(world) == ["codex@openai"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"enabledPlugins": 3}', '{"enabledPlugins": {"codex@a": "yes"}}'],
)
def test_settings_that_say_nothing_readable_say_nothing(
    text: str, world: World
) -> None:
    enable(world.home / ".claude/settings.json")
    (world.home / ".claude/settings.json").write_text(text, "utf-8")
    assert conflicting(world) == []


def test_a_server_knows_them_and_a_missing_codex_before_the_first_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    enable(world.home / ".claude/settings.json", codex__openai=True)
    (notice,) = world.counsel().notices()
    assert "codex@openai" in notice
    monkeypatch.setattr(binary, "_package_binary", lambda: None)
    missing, same = world.counsel(
        CODEX_COUNSEL_CODEX_BIN="", PATH="/nonexistent"
    ).notices()
    assert "no Codex is installed here" in missing
    assert same == notice
