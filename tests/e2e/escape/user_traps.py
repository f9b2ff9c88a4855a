"""Traps that a user's machine has ready for Codex: configuration, rules, hooks, programs on PATH."""

from __future__ import annotations

import json
from pathlib import Path

from codex_counsel.codex import app_server
from codex_counsel.codex.sandbox import toml
from tests.e2e.escape.attempts import EVERYTHING
from tests.e2e.escape.scene import Scene
from tests.e2e.escape.traps import (
    Trap,
    trap,
    trap_that_is_obeyed,
    trap_that_runs,
    trap_that_writes,
)


@trap("Codex's rules of the user allow a command without the sandbox")
def rules_of_the_user(scene: Scene) -> Trap:
    folder = scene.world.codex_home / "rules"
    folder.mkdir()
    (folder / "default.rules").write_text(
        'prefix_rule(pattern=["touch"], decision="allow")\n', "utf-8"
    )
    return trap_that_writes("outside/simple")


@trap(
    "The user lets a model approve requests to leave the sandbox, and it approves them all"
)
def a_reviewer_that_approves(scene: Scene) -> Trap:
    return trap_that_writes(
        "outside/escalated",
        top='approval_policy = "on-request"\napprovals_reviewer = "auto_review"',
    )


@trap("An MCP server of the user would be started")
def an_mcp_server_of_the_user(scene: Scene) -> Trap:
    tables = [
        f'[mcp_servers."{name}"]\ncommand = "{scene.program(scene.base / name, name)}"'
        for name in ("mcp", "with.dot")
    ]
    return trap_that_runs("mcp", tables="\n".join(tables))


@trap("A notification program of the user would be started")
def a_notification_program(scene: Scene) -> Trap:
    program = scene.program(scene.base / "notify.sh", "notify")
    return trap_that_runs("notify", top=f'notify = ["{program}"]')


@trap("Codex hooks that the user allowed would run")
def hooks_that_the_user_has_reviewed(scene: Scene) -> Trap:
    hook = [{"hooks": [{"type": "command", "command": scene.ringing("hook")}]}]
    events = ("SessionStart", "UserPromptSubmit", "PreToolUse", "Stop")
    (scene.world.codex_home / "hooks.json").write_text(
        json.dumps({"hooks": dict.fromkeys(events, hook)}), "utf-8"
    )
    return trap_that_runs("hook", tables=_trust_hooks(scene))


def _trust_hooks(scene: Scene) -> str:
    """Return the lines that `/hooks` writes when the user allows these commands."""
    with app_server.connect(scene.world.codex(), scene.world.env, seconds=60) as server:
        server.request("hooks/list", {"cwds": [str(scene.workspace)]})
        answer = server.answer()
    assert answer
    hooks = answer["result"]["data"][0]["hooks"]
    return "\n".join(
        f"[hooks.state.{toml(hook['key'])}]\ntrusted_hash = {toml(hook['currentHash'])}"
        for hook in hooks
    )


@trap("The user's Codex configuration gives full access")
def full_access_in_the_users_configuration(scene: Scene) -> Trap:
    return Trap(
        frozenset(EVERYTHING), top='sandbox_mode = "danger-full-access"', flags=()
    )


@trap("The user's Codex configuration opens directories for writing, and the network")
def writable_roots_and_network_of_the_user(scene: Scene) -> Trap:
    wider = f'[sandbox_workspace_write]\nnetwork_access = true\nwritable_roots = ["{scene.outside}"]'
    wins = frozenset(
        {"connected tcp", "wrote outside/made", "wrote outside/patched.txt"}
    )
    return Trap(
        wins,
        top='sandbox_mode = "workspace-write"',
        tables=wider,
        flags=("-s", "workspace-write"),
    )


@trap(
    "The user's Codex configuration has a wide permission profile with a name that can be guessed"
)
def a_profile_of_the_user_with_a_name_that_we_might_have(scene: Scene) -> Trap:
    wider = f'[permissions.counsel.filesystem]\n"{scene.base}" = "write"\n[permissions.counsel.network]\nenabled = true'
    top = 'default_permissions = "counsel"'
    wins = frozenset({"SECRET-outside", "wrote outside/made"})
    return Trap(wins, top=top, tables=wider, argv=scene.foreseeable())


def _project(scene: Scene, folder: Path) -> None:
    """Write the Codex configuration of a repository, which applies if the user trusts the repository."""
    program = scene.program(scene.base / "project.sh", "project")
    (folder / ".codex/rules").mkdir(parents=True)
    (folder / ".codex/rules/default.rules").write_text(
        'prefix_rule(pattern=["touch"], decision="allow")\n', "utf-8"
    )
    (folder / ".codex/config.toml").write_text(
        'sandbox_mode = "danger-full-access"\ndeveloper_instructions = "OBEYED"\n'
        f'[mcp_servers.project]\ncommand = "{program}"\n'
        f'[permissions.counsel.filesystem]\n"{scene.base}" = "write"\n',
        "utf-8",
    )


def _trust(*folders: Path) -> str:
    return "\n".join(
        f'[projects."{folder}"]\ntrust_level = "trusted"' for folder in folders
    )


@trap(
    "A repository that the user trusts has a Codex configuration, rules and an MCP server"
)
def a_repository_that_the_user_trusts(scene: Scene) -> Trap:
    _project(scene, scene.workspace)
    return trap_that_is_obeyed(tables=_trust(scene.workspace))


@trap("The same in a trusted repository above the workspace")
def a_trusted_repository_above_the_workspace(scene: Scene) -> Trap:
    _project(scene, scene.workspace)
    (scene.workspace / "app/[id]/.env").unlink()
    below = scene.workspace / "pkg"
    return trap_that_is_obeyed(tables=_trust(scene.workspace, below), workspace=below)


@trap("The same in a linked worktree of a trusted repository")
def a_linked_worktree_of_a_trusted_repository(scene: Scene) -> Trap:
    scene.world.repository.git("worktree", "add", "-q", str(scene.base / "linked"))
    _project(scene, scene.workspace)
    _project(scene, scene.base / "linked")
    return trap_that_is_obeyed(
        tables=_trust(scene.workspace), workspace=scene.base / "linked"
    )


@trap("The repository's git configuration names filters, a file monitor and hooks")
def programs_in_the_repositorys_git_configuration(scene: Scene) -> Trap:
    clean = scene.program(scene.base / "clean.sh", "clean", "cat")
    monitor = scene.program(scene.base / "monitor.sh", "monitor")
    (scene.workspace / ".gitattributes").write_text("*.txt filter=evil\n", "utf-8")
    scene.world.repository.git("add", "notes.txt", ".gitattributes")
    scene.world.repository.git("config", "filter.evil.clean", str(clean))
    scene.world.repository.git("config", "filter.evil.process", str(clean))
    scene.world.repository.git("config", "core.fsmonitor", str(monitor))
    for hook in ("post-index-change", "post-checkout", "pre-commit"):
        scene.program(scene.workspace / ".git/hooks" / hook, hook)
    (scene.workspace / "notes.txt").write_text("INSIDE, changed\n", "utf-8")
    # The git that plain Codex starts beside a turn may be ended with it, or trust the size of a file.
    scene.tries.append(f"git -C {scene.workspace} diff")
    return trap_that_runs("clean")


@trap("The shell's start-up files of the user, also by BASH_ENV and ENV")
def rc_files_of_the_shell(scene: Scene) -> Trap:
    for name in (".bashrc", ".bash_profile", ".profile", ".zshenv", ".zshrc"):
        (scene.world.home / name).write_text(f"{scene.ringing('rc')}\n", "utf-8")
    return trap_that_runs(
        "rc",
        env={
            "BASH_ENV": str(scene.world.home / ".bashrc"),
            "ENV": str(scene.world.home / ".profile"),
        },
    )


@trap(
    "Programs of the repository named `git`, `bwrap` and others are found by a relative entry of PATH"
)
def programs_of_the_repository_on_a_relative_path(scene: Scene) -> Trap:
    for name in ("getconf", "lsb_release", "bwrap", "git", "rg", "codex"):
        scene.program(
            scene.workspace / name, name, f'PATH=/usr/bin:/bin exec {name} "$@"'
        )
    return trap_that_runs("getconf", env={"PATH": ".:/usr/bin:/bin"})


@trap(
    "Programs of the repository named `getconf`, `bwrap` and others are found by an absolute entry of PATH"
)
def programs_of_the_repository_on_an_absolute_path(scene: Scene) -> Trap:
    for name in ("getconf", "lsb_release", "bwrap"):
        scene.program(
            scene.workspace / "tools/bin" / name,
            name,
            f'PATH=/usr/bin:/bin exec {name} "$@"',
        )
    return trap_that_runs(
        "getconf", env={"PATH": f"{scene.workspace}/tools/bin:/usr/bin:/bin"}
    )
