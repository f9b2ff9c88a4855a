"""`sandbox: workspace-write` in the workspace itself, which the user allows: what is written, and what is not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from codex_counsel.contract.compat import CodexCall, CodexReplyCall, ServerOptions
from codex_counsel.jobs import threads
from codex_counsel.loopback import (
    Answer,
    Loopback,
    Request,
    failed,
    hold,
    patch,
    say,
    shell,
)
from tests.conftest import World, until, wait
from tests.e2e.compat.client import ARGV, ask, text
from tests.e2e.delegation import assert_unchanged
from tests.e2e.escape.attacks import attack
from tests.e2e.escape.attempts import EVERYTHING
from tests.e2e.escape.scene import CALLERS_SECRETS, Scene, tool_outputs
from tests.e2e.escape.traps import FULL_ACCESS
from tests.e2e.runs import assert_nothing_is_left, command_line, kill_worker
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
MODEL = "gpt-5.5"


@contextmanager
def serving(world: World, **settings: str) -> Iterator[ServerProcess]:
    """A server whose user has turns write in place."""
    env = {"CODEX_COUNSEL_COMPAT_WRITES": "in_place", **settings}
    with ServerProcess(world, env, argv=ARGV) as wire:
        wire.initialize()
        yield wire


def change(wire: ServerProcess, **arguments: Any) -> dict[str, Any]:
    return ask(wire, "codex", prompt="Go.", sandbox="workspace-write", **arguments)


def go_on(wire: ServerProcess, result: dict[str, Any]) -> dict[str, Any]:
    thread_id = result["structuredContent"]["threadId"]
    return ask(wire, "codex-reply", threadId=thread_id, prompt="Go on.")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stored_meta(world: World) -> dict[str, Any]:
    """The `meta` of the only run."""
    (result,) = (world.state / "jobs").glob("*/result.json")
    meta: dict[str, Any] = json.loads(result.read_text())["meta"]
    return meta


def tries(*commands: str) -> Answer:
    """All of the commands, each in a shell of its own, with what became of it."""
    lines = [
        f"( {command} ) && echo DONE: '{number}'"
        for number, command in enumerate(commands)
    ]
    return shell("\n".join([*lines, "echo ALL-TRIED"]))


def done(server: Loopback) -> list[int]:
    """The numbers of the commands that succeeded."""
    outputs = "".join(server.requests[-1].outputs)
    assert "ALL-TRIED" in outputs
    return [int(number) for number in re.findall(r"DONE: (\d+)", outputs)]


# --- what is written


def test_a_turn_writes_in_the_workspace_and_its_answer_is_the_text_alone(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    world.repository.begin_with_work()
    server = each_model(
        [
            tries(
                "echo changed > app.py",
                "mkdir -p new/deep && echo x > new/deep/x.txt",
                "rm gone.txt old.txt 2>/dev/null; true",
                'echo x > "$TMPDIR/x"',
                "git status --short",
            ),
            patch(
                "*** Begin Patch\n*** Add File: patched.txt\n+patched\n*** End Patch\n"
            ),
            say("Done."),
        ],
        model=MODEL,
    )
    with serving(world) as wire:
        assert text(change(wire)) == "Done."
    assert done(server) == [0, 1, 2, 3, 4]
    assert (world.workspace / "app.py").read_text() == "changed\n"
    assert (world.workspace / "new/deep/x.txt").exists()
    assert (world.workspace / "patched.txt").read_text() == "patched\n"
    sandbox = stored_meta(world)["sandbox"]
    assert sandbox["mode"] == "workspace-write"
    assert sandbox["network"] is False
    assert_nothing_is_left(world)


def test_a_reply_writes_in_place_while_the_user_allows_it_and_else_in_a_copy(
    world: World, model: Model
) -> None:
    world.repository.begin()
    model(
        [
            *(shell("echo one > one.txt"), say("One.")),
            *(shell("echo two > two.txt"), say("Two.")),
            *(shell("cat one.txt two.txt > three.txt"), say("Three.")),
            *(shell("ls > four.txt"), say("Four.")),
        ]
    )
    with serving(world) as wire:
        first = change(wire)
        assert text(go_on(wire, first)) == "Two."
    assert (world.workspace / "two.txt").exists()
    with serving(world, CODEX_COUNSEL_COMPAT_WRITES="copy") as wire:
        with assert_unchanged(world.workspace):
            third = go_on(wire, first)
        assert "+one\n+two" in text(third)
    with serving(world) as wire:
        fourth = text(go_on(wire, first))
    assert fourth.startswith("Four.")
    assert "in a copy, and were not in the workspace" in fourth
    assert "three.txt" not in (world.workspace / "four.txt").read_text()


def test_it_works_without_a_repository(world: World, model: Model) -> None:
    server = model(
        [
            tries(
                "echo x > x.txt",
                "mkdir .git/x",
                "mkdir -p .codex/x",
                "echo x > .mcp.json",
            ),
            say("Done."),
        ]
    )
    with serving(world) as wire:
        assert text(change(wire)) == "Done."
    assert done(server) == [0]
    assert names(world.workspace) == ["x.txt"]


def test_only_the_environment_of_the_server_allows_it(
    world: World, model: Model
) -> None:
    world.repository.begin()
    world.repository.write(".env", "CODEX_COUNSEL_COMPAT_WRITES=in_place\n")
    server = model([shell("echo x > x.txt"), say("Done.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        for config in (
            {"compat_writes": "in_place"},
            {
                "shell_environment_policy": {
                    "set": {"CODEX_COUNSEL_COMPAT_WRITES": "in_place"}
                }
            },
            {"sandbox_workspace_write": {"writable_roots": ["/"]}},
        ):
            assert change(wire, config=config)["isError"]
        assert server.requests == []
        with assert_unchanged(world.workspace):
            assert "+x" in text(change(wire))


# --- what is closed

PATCHES = (
    ".vscode/tasks.json",
    ".git/hooks/post-checkout",
    ".claude/settings.json",
    "link/made",
    "AGENTS.md",
    "../outside.txt",
)


GUARDED = (
    ".git",
    ".claude",
    ".mcp.json",
    ".gemini",
    "tools",
    "dotfiles",
)


def lay(world: World) -> None:
    """A repository with files that tools execute or obey, and one directory of hooks that its configuration names."""
    repository = world.repository.begin()
    repository.write(".mcp.json", "{}\n")
    repository.write(".claude/settings.json", "{}\n")
    repository.write("pkg/CLAUDE.md", "Be kind.\n")
    repository.write("pkg/code.py", "x = 1\n")
    repository.write("tools/hooks/pre-commit", "#!/bin/sh\n")
    (world.workspace / "link").symlink_to("pkg")
    (world.workspace / ".gemini").symlink_to("dotfiles")
    repository.write("dotfiles/settings.json", "{}\n")
    repository.commit()
    repository.git("config", "core.hooksPath", "tools/hooks")


def test_what_tools_execute_or_obey_is_not_written_by_any_way(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    lay(world)
    attempts = (
        "touch app.py",  # this one succeeds
        *(
            "echo x >> .mcp.json",
            "rm .mcp.json",
            "mv .mcp.json x.json",
            "ln -f app.py .mcp.json",
        ),
        *(
            "echo x > .claude/settings.json",
            "echo x > .claude/new",
            "mv .claude c",
            "rm -r .claude",
        ),
        *("mkdir m && mv -T m .claude", "echo x >> pkg/CLAUDE.md", "rm pkg/CLAUDE.md"),
        *(
            "mv pkg pkg2",
            "mv tools t",
            "echo x >> tools/hooks/pre-commit",
            "echo x > tools/hooks/post-merge",
        ),
        *(
            "echo x >> link/CLAUDE.md",
            "echo x > dotfiles/settings.json",
            "mkdir .vscode",
        ),
        *(
            "mkdir v && echo x > v/tasks.json && mv -T v .vscode",
            "ln -s pkg .vscode",
            "ln -s pkg .github",
        ),
        *(
            "mkdir -p .github/workflows",
            "echo x > .envrc",
            "echo x > CLAUDE.md",
            "echo x > AGENTS.md",
        ),
        *(
            "mkdir -p .husky",
            "mkdir -p .idea",
            "mkdir -p .codex/x",
            "mkdir -p .agents/skills",
        ),
        *(
            "echo x > .git/hooks/x",
            "mkdir .git/x",
            "echo x >> .git/config",
            "mv .git g",
            "git commit -qam x",
        ),
        *(
            "ln -s .git g && echo x > g/hooks/x",
            "cp -al .git gg && echo x >> gg/config",
        ),
        "git worktree add -q ../w",
    )
    patches = [
        patch(f"*** Begin Patch\n*** Add File: {name}\n+patched\n*** End Patch\n")
        for name in PATCHES
    ]
    update = "*** Begin Patch\n*** Update File: {}\n@@\n-{}\n+patched\n*** End Patch\n"
    patches += [
        patch(update.format("pkg/CLAUDE.md", "Be kind.")),
        patch("*** Begin Patch\n*** Delete File: .mcp.json\n*** End Patch\n"),
        patch(
            "*** Begin Patch\n*** Update File: pkg/code.py\n*** Move to: .vscode/x.py\n"
            "@@\n-x = 1\n+x = 2\n*** End Patch\n"
        ),
    ]
    server = each_model(
        [tries(*attempts), *patches, tries("ls -a"), say("Done.")], model=MODEL
    )
    with assert_unchanged(*map(world.workspace.joinpath, GUARDED)), serving(world) as w:
        assert text(change(w)) == "Done."
    outputs = "".join(server.requests[-1].outputs)
    succeeded = [int(number) for number in re.findall(r"DONE: (\d+)", outputs)]
    assert [attempts[number] for number in succeeded if number] == []
    left = {"app.py", "docs", "link", "pkg", *GUARDED, "m", "v", "g", "gg"}
    assert set(names(world.workspace)) <= left
    assert (world.workspace / "pkg/code.py").read_text() == "x = 1\n"
    assert not (world.base / "outside.txt").exists()
    assert not (world.base / "w").exists()


def test_a_file_that_gits_configuration_includes_is_not_written(
    world: World, model: Model
) -> None:
    repository = world.repository.begin()
    repository.write("shared/git", "[alias]\n\tx = status\n")
    for name in ("../shared/git", "../shared/later"):
        repository.git("config", "--add", "include.path", name)
    server = model(
        [
            tries(
                "echo x > shared/other",
                "echo x >> shared/git",
                "echo x > shared/later",
                "mv shared s",
            ),
            say("Done."),
        ]
    )
    with serving(world) as wire:
        assert text(change(wire)) == "Done."
    assert done(server) == [0]


def test_what_could_not_be_closed_is_named_in_the_answer(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    lay(world)
    world.repository.write("app/[id]/CLAUDE.md", "Be kind.\n")
    each_model(
        [
            shell(
                "mkdir -p new/.claude && echo x > new/.claude/settings.json && echo x > new/AGENTS.md;"
                "rm .gemini && ln -s pkg .gemini; echo x >> 'app/[id]/CLAUDE.md'; git init -q sub"
            ),
            failed("invalid_prompt"),
        ],
        model=MODEL,
    )
    with serving(world) as wire:
        result = change(wire)
    assert result["isError"]
    for row in (
        "new/.claude (new)",
        "new/AGENTS.md (new)",
        ".gemini (changed)",
        "'app/[id]/CLAUDE.md' (changed)",
        "sub/.git (new)",
    ):
        assert row in text(result)
    assert "settings.json" not in text(result)
    (job,) = (world.state / "jobs").glob("[0-9a-f]*")
    shown = command_line(world, "result", job.name)
    assert "new/AGENTS.md" in shown.stdout + shown.stderr


def test_in_more_folders_than_can_be_closed_changes_are_named(
    world: World, model: Model
) -> None:
    folders = [world.workspace / f"r{number:03}" for number in range(110)]
    for folder in folders:
        (folder / ".git/hooks").mkdir(parents=True)
        (folder / ".git/objects").mkdir()
    # The sandbox lets some be written, and some be renamed and then be written.
    write = "for r in r*; do echo x > $r/.git/hooks/h && echo x > $r/.git/objects/o; done 2>/dev/null; true"
    server = model([tries(write, "mkdir -p new/node_modules/x"), say("Done.")])
    with serving(world) as wire:
        answer = text(change(wire))
    assert done(server) == [0, 1]
    (job,) = (world.state / "jobs").glob("[0-9a-f]*")
    named = {
        row["path"] for row in json.loads((job / "result.json").read_text())["files"]
    }
    written = {path.name for path in folders if (path / ".git/hooks/h").exists()}
    assert len(written) == 10
    assert named == {f"{name}/.git/hooks/h" for name in written} | {"new/node_modules"}
    assert "/.git/hooks/h (new)" in answer


# --- what is not read


def test_a_secret_stays_closed_also_when_its_folder_is_renamed(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    repository = world.repository.begin()
    # Files in their old places let Codex's sandbox start again.
    secrets = (
        "pkg/deep/values",
        "pkg/.env",
        "other/id_rsa",
        "third/.docker/config.json",
        "cloud/.aws/credentials",
    )
    for name in secrets:
        repository.write(name, "SECRET\n")
    (world.workspace / "values.env").symlink_to("pkg/deep/values")
    look = "grep -rs SECRET . ; cat */values */*/values */.env */id_rsa */*/config.json 2>/dev/null; true"
    server = each_model(
        [
            tries(
                "mv pkg p2",
                "mv pkg/deep pkg/d2",
                "mv other o2",
                "mv third t2",
                "mv cloud c2",
                f"mkdir -p pkg/deep other third/.docker cloud/.aws; touch {' '.join(secrets)}; true",
            ),
            tries(look),
            tries(
                "cp -r pkg other third cloud o2 t2 c2 p2 copy 2>/dev/null; ln values.env l; cat l",
                look,
            ),
            say("Done."),
        ],
        model=MODEL,
    )
    with serving(world) as wire:
        change(wire)
    assert "SECRET" not in "".join(server.requests[-1].outputs)


def test_more_renamable_secrets_than_can_be_closed_refuse_the_turn(
    world: World, model: Model
) -> None:
    for number in range(30):
        world.repository.write(f"d{number}/.docker/config.json", "SECRET\n")
    world.repository.begin()
    server = model([shell("echo x > x.txt"), say("Done.")])
    with serving(world) as wire:
        refused = change(wire)
    assert text(refused).startswith("boundary_incomplete")
    assert server.requests == []
    with serving(world, CODEX_COUNSEL_INCOMPLETE_BOUNDARY="report") as wire:
        assert not change(wire).get("isError")
    assert stored_meta(world)["sandbox"]["read_boundary"] == "partial"


# --- its end


def test_a_cancelled_turn_keeps_what_it_wrote_and_leaves_no_mount_points(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    world.repository.begin()
    (world.workspace / "pkg").mkdir()
    world.repository.write("pkg/CLAUDE.md")
    each_model([shell("echo x > x.txt; sleep 60")], model=MODEL)
    with serving(world, CODEX_COUNSEL_SYNC_SECONDS="1") as wire:
        result = change(wire)
        job = re.search(r"codex-counsel cancel ([0-9a-f]{32})", text(result))
        assert job
        until((world.workspace / "x.txt").exists)
        assert (world.workspace / ".vscode").exists()
        assert command_line(world, "cancel", job[1]).returncode == 0
        ended = ask(
            wire,
            "codex-reply",
            threadId=result["structuredContent"]["threadId"],
            prompt="wait",
        )
        assert text(ended).startswith("cancelled")
        assert "Look at these" not in text(ended)
    assert names(world.workspace) == [
        ".git",
        "app.py",
        "docs",
        "pkg",
        "x.txt",
    ]
    assert names(world.workspace / "pkg") == ["CLAUDE.md"]
    assert_nothing_is_left(world)


def test_after_the_worker_was_killed_the_next_look_removes_mount_points_and_names_files(
    world: World, model: Model
) -> None:
    world.repository.begin()
    model([shell("mkdir -p sub/.claude && echo x > x.txt; sleep 60")])
    with serving(world, CODEX_COUNSEL_SYNC_SECONDS="1") as wire:
        result = change(wire)
        until((world.workspace / "x.txt").exists)
        (path,) = (world.state / "jobs").glob("[0-9a-f]*")
        kill_worker(world.counsel().store.job(path.name))
        thread = result["structuredContent"]["threadId"]
        ended = ask(wire, "codex-reply", threadId=thread, prompt="wait")
    assert text(ended).startswith("process_died")
    assert "sub/.claude (new)" in text(ended)
    assert names(world.workspace) == [
        ".git",
        "app.py",
        "docs",
        "sub",
        "x.txt",
    ]
    assert_nothing_is_left(world)


@pytest.mark.parametrize("first", [".", "sub"])
@pytest.mark.parametrize("second", [".", "sub"])
def test_while_a_turn_writes_no_other_one_begins_in_its_workspace_around_or_below(
    world: World, model: Model, first: str, second: str
) -> None:
    world.repository.begin()
    (world.workspace / "sub").mkdir()
    gate = hold(say("Done."))
    server = model(gate)
    folders = [str(world.workspace / name) for name in (first, second)]
    arguments = {"prompt": "Go.", "sandbox": "workspace-write", "cwd": folders[0]}
    with serving(world) as wire:
        call = wire.call("codex", arguments)
        gate.reached.wait()
        refused = change(wire, cwd=folders[1])
        gate.release.set()
        assert text(wire.answer(call)["result"]) == "Done."
        assert text(refused).startswith("session_busy")
        assert len(server.requests) == 1
        assert text(change(wire, cwd=folders[1])) == "Done."


@pytest.mark.parametrize("sandbox", ["workspace-write", "read-only"])
def test_a_turn_in_place_cannot_lead_another_run_out_of_its_workspace(
    each_release: World, each_model: Model, sandbox: str
) -> None:
    world = each_release
    world.repository.begin()
    world.repository.write("sub/app.py")
    elsewhere = world.base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "notes").write_text("PRIVATE\n")
    reader_asks, writer_ended = Event(), Event()

    def reply(request: Request) -> Answer:
        if request.outputs:
            return say("Done.")
        if "WRITER" in request.prompt:
            return shell(f"mv sub moved; ln -s {elsewhere} sub")
        reader_asks.set()
        writer_ended.wait()
        return shell("cat notes; echo x > made")

    server = each_model(reply, model=MODEL)
    sub = str(world.workspace / "sub")
    with serving(world) as wire:
        reader = wire.call(
            "codex", {"prompt": "READER", "sandbox": sandbox, "cwd": sub}
        )
        reader_asks.wait()
        ask(wire, "codex", prompt="WRITER", sandbox="workspace-write")
        writer_ended.set()
        wire.answer(reader)
    assert "PRIVATE" not in "".join(server.requests[-1].outputs)
    assert names(elsewhere) == ["notes"]


# --- workspaces of other shapes


def test_below_the_top_of_a_repository_only_the_workspace_is_written(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    lay(world)
    server = each_model(
        [
            tries(
                "cat ../app.py",
                "echo x > made.py",
                "git log -1",
                "echo x > ../app.py",
                "touch ../new",
                "echo x > ../.git/x",
            ),
            patch(
                "*** Begin Patch\n*** Add File: ../patched.txt\n+patched\n*** End Patch\n"
            ),
            tries("true"),
            say("Done."),
        ],
        model=MODEL,
    )
    with serving(world) as wire:
        answer = text(change(wire, cwd=str(world.workspace / "pkg")))
    assert answer == "Done."
    outputs = "".join(server.requests[-1].outputs)
    assert re.findall(r"DONE: (\d+)", outputs) == ["0", "1", "2", "0"]
    assert world.repository.git("status", "--short") == "?? pkg/made.py"


def test_in_a_linked_worktree_neither_git_directory_is_written(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    repository = world.repository.begin()
    linked = world.base / "linked"
    repository.git("worktree", "add", "-q", str(linked))
    private = world.workspace / ".git"
    server = each_model(
        [
            tries(
                "echo x > made.py",
                "git log -1",
                "echo x > .git",
                "rm .git",
                f"echo x > {private}/hooks/x",
                f"echo x > {private}/worktrees/linked/x",
                "git add made.py",
                f"echo x > {world.workspace}/app.py",
            ),
            say("Done."),
        ],
        model=MODEL,
    )
    with assert_unchanged(world.workspace), serving(world) as wire:
        assert text(change(wire, cwd=str(linked))) == "Done."
    # What goes to the place of a directory that is not shown is written nowhere.
    assert done(server) in ([0, 1], [0, 1, 7])
    assert (linked / "made.py").exists()


def test_a_git_directory_of_another_name_and_a_submodule_are_closed(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    repository = world.repository.begin()
    inner = world.repository_at(world.workspace / "inner").begin()
    inner.git("init", "-q", "--separate-git-dir", str(world.workspace / "store"))
    repository.write("planted/.git", f"gitdir: {world.base}/elsewhere\n")
    (world.base / "elsewhere").mkdir()
    server = each_model(
        [
            tries(
                "echo x > inner/made.py",
                "echo x > store/hooks/x",
                "mv store s",
                "echo x > inner/.git",
                "rm inner/.git",
                "mv inner i",
                "echo x > planted/.git",
                f"echo x > {world.base}/elsewhere/x",
            ),
            say("Done."),
        ],
        model=MODEL,
    )
    with serving(world) as wire:
        assert text(change(wire)) == "Done."
    assert done(server) == [0]


def test_a_workspace_that_cannot_be_written_is_refused(
    world: World, model: Model
) -> None:
    world.repository.begin()
    server = model(say("Never."))
    world.workspace.chmod(0o555)
    try:
        if os.access(world.workspace, os.W_OK):
            pytest.skip("this user can write everywhere")
        with serving(world) as wire:
            result = change(wire)
    finally:
        world.workspace.chmod(0o755)
    assert text(result).startswith("workspace_invalid")
    assert server.requests == []


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        ".git/hooks",
        ".claude",
        ".claude/skills/kind",
        ".github/workflows",
        "node_modules/.bin",
        "tools/hooks",
        "bare/refs",
    ],
)
def test_a_workspace_in_what_tools_execute_or_obey_is_refused(
    world: World, model: Model, name: str
) -> None:
    lay(world)
    world.repository.git("init", "-q", "--bare", "bare")
    # A repository of its own, as a submodule is.
    world.repository_at(world.workspace / ".claude/skills/kind").begin()
    folder = world.workspace / name
    folder.mkdir(parents=True, exist_ok=True)
    server = model([shell("echo x > planted"), say("Done.")])
    with serving(world) as wire:
        refused = change(wire, cwd=str(folder))
    assert text(refused).startswith("workspace_invalid")
    assert server.requests == []
    assert not (folder / "planted").exists()


@pytest.mark.parametrize("place", [".claude/worktrees/kind", "bare/kind"])
def test_a_working_tree_in_such_a_place_is_a_workspace(
    world: World, model: Model, place: str
) -> None:
    world.repository.begin()
    world.repository.git("clone", "-q", "--bare", ".", "bare")
    tree = world.workspace / place
    repository = world.repository
    if place.startswith("bare"):
        repository = world.repository_at(world.workspace / "bare")
    repository.git("worktree", "add", "-q", str(tree))
    model([shell("echo x > made"), say("Done.")])
    with serving(world) as wire:
        assert text(change(wire, cwd=str(tree))) == "Done."
    assert (tree / "made").exists()


# --- a model that tries everything

WRITTEN = {
    "wrote workspace/made",
    "wrote workspace/notes.txt",
    "wrote workspace/patched.txt",
}
"""What the attempts write where a turn may write."""
HINDERED = "bwrap: Can't "
"""How a command fails, before it begins, whose mount point another one that has ended took away."""


@attack(
    "All that is tried in every run, in a turn of `codex` that writes in the workspace itself",
    read_only="does not apply",
    delegate="held: nothing but files of the workspace is written",
)
@pytest.mark.parametrize("model", [MODEL, None], ids=["direct tools", "code mode"])
def test_a_turn_that_writes_in_the_workspace_gets_no_further(
    each_release: World, model: str | None
) -> None:
    with Scene(each_release) as scene, scene.model(model=model) as server:
        thread = scene.plain(*FULL_ACCESS)
        assert EVERYTHING - scene.evidence(server) == set()
        env = {**CALLERS_SECRETS, "CODEX_COUNSEL_COMPAT_WRITES": "in_place"}
        counsel = scene.world.counsel(**env)
        call = CodexCall(prompt="Go.", sandbox="workspace-write")
        for resumed in (False, True):
            report = HINDERED
            while HINDERED in report:
                scene.restore()
                if resumed:
                    note = threads.Turn("0" * 32, {"sandbox": "workspace-write"})
                    threads.note_turn(scene.world.state, thread, note)
                    turn = counsel.codex_reply(
                        CodexReplyCall(prompt="Go.", thread_id=thread)
                    )
                else:
                    turn = counsel.codex(call, ServerOptions())
                wire = wait(turn.handle)
                assert wire["status"] == "completed", wire
                assert wire["meta"]["sandbox"]["mode"] == "workspace-write"
                # Of this turn: earlier ones of the thread may have been hindered.
                report = "".join(tool_outputs(server.requests[-1]))
                achieved = scene.evidence(server)
                assert achieved - WRITTEN == set()
            for sign in ("root:x:0", "INSIDE", "ALL-TRIED"):
                assert sign in report
            assert achieved & WRITTEN


def test_instructions_of_a_caller_replace_codexs_own_in_place_too(
    world: World, model: Model
) -> None:
    world.repository.begin()
    server = model(say("Done."))
    with serving(world, CODEX_COUNSEL_INSTRUCTIONS="codex") as wire:
        result = change(wire, **{"base-instructions": "Write like a poet."})
    assert text(result) == "Done."
    assert "Write like a poet." in server.requests[0].developer
    assert "You are Codex" not in server.requests[0].developer


def test_a_repository_that_git_cannot_open_is_not_written_in(
    world: World, model: Model
) -> None:
    world.repository.begin()
    with (world.workspace / ".git/config").open("a") as config:
        config.write("[core\n")
    server = model(say("Done."))
    with serving(world) as wire:
        result = change(wire)
    assert text(result).startswith("workspace_invalid: ")
    assert server.requests == []
