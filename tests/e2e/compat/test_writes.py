"""`sandbox: workspace-write` in a throwaway copy: what the answer says, and where the next turn begins."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.compat.options import of_call
from codex_counsel.contract.compat import CodexCall, ServerOptions
from codex_counsel.contract.vocabulary import CodexSandbox
from codex_counsel.loopback import Loopback, failed, say, shell
from tests.conftest import World
from tests.e2e.compat.client import ARGV, ask, text
from tests.e2e.delegation import assert_unchanged
from tests.e2e.runs import assert_nothing_is_left, command_line
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]


@pytest.fixture
def wire(world: World) -> Iterator[ServerProcess]:
    """A server with a repository as its workspace."""
    world.repository.begin()
    with ServerProcess(world, argv=ARGV) as server:
        server.initialize()
        yield server
    assert_nothing_is_left(world)


def write(wire: ServerProcess, **arguments: Any) -> dict[str, Any]:
    return ask(wire, "codex", prompt="Go.", sandbox="workspace-write", **arguments)


def go_on(wire: ServerProcess, result: dict[str, Any]) -> dict[str, Any]:
    thread_id = result["structuredContent"]["threadId"]
    return ask(wire, "codex-reply", threadId=thread_id, prompt="Go on.")


def job_of(result: dict[str, Any]) -> str:
    match = re.search(r"codex-counsel apply ([0-9a-f]{32})", text(result))
    assert match
    return match[1]


# --- what the answer says


def test_the_diff_follows_the_text_with_its_size_and_the_command_that_applies_it(
    world: World, model: Model, wire: ServerProcess
) -> None:
    model([shell("printf '```\\nx\\n````\\n' > notes.md"), say("Made notes.")])
    with assert_unchanged(world.workspace):
        result = write(wire)
    message, diff, stat, apply = text(result).split("\n\n", 3)
    assert message == "Made notes."
    assert diff.startswith("`````diff\n")
    assert diff.endswith("\n`````")
    assert "\n+````\n" in diff
    assert stat == "1 file changed, 3 insertions(+)"
    assert "in a copy, not in the workspace" in apply
    assert command_line(world, "apply", job_of(result)).returncode == 0
    assert (world.workspace / "notes.md").read_text() == "```\nx\n````\n"


HIDES_TEXT = "printf 'x = 1 # \\342\\200\\256\\n' > a.py"
IS_BINARY = "printf 'x = 1\\0\\n' > b.py"
IS_TOO_DEEP = "python3 -c \"import os\nfor _ in range(3000):\n os.mkdir('d' * 200)\n os.chdir('d' * 200)\""
NOTES = {
    HIDES_TEXT: "the changed files hold 1 characters that hide or reorder text",
    IS_BINARY: "git takes these 1 source files for binary",
    IS_TOO_DEEP: "not captured: what is in 1 directories that git cannot reach",
    "touch c.py": "not copied into the tree: .env (secret_file)",
}


@pytest.mark.parametrize("command", NOTES)
def test_what_a_reader_of_the_diff_would_not_see_of_a_turn_is_noted(
    world: World, model: Model, wire: ServerProcess, command: str
) -> None:
    (world.workspace / ".env").write_text("PIN=4711\n")
    model([shell(command), say("Done.")])
    assert f"\n\nNote: {NOTES[command]}" in text(write(wire))


def test_submodules_whose_files_are_in_the_diff_are_noted(
    world: World, model: Model, wire: ServerProcess
) -> None:
    library = world.repository_at(world.base / "library")
    library.root.mkdir()
    library.begin()
    allow = ("-c", "protocol.file.allow=always")
    world.repository.git(
        *allow, "submodule", "add", "--quiet", str(library.root), "lib"
    )
    world.repository.git("commit", "--quiet", "-m", "Add the library")
    model([shell("touch lib/new.py"), say("Done.")])
    told = "Note: the tree has the files of these submodules as its own: lib;"
    assert told in text(write(wire))


def test_a_long_diff_is_cut_at_a_line_and_the_command_for_the_rest_shows_it(
    world: World, model: Model, wire: ServerProcess
) -> None:
    model([shell("seq 1 9000 > numbers.txt"), say("Counted.")])
    result = write(wire)
    assert len(text(result).encode()) < 21_500
    assert "+8999\n" not in text(result)
    shown = text(result).split("```")[1]
    assert re.fullmatch(r"\+\d+", shown.rstrip().splitlines()[-1])
    assert f"`codex-counsel result {job_of(result)}` shows all of it" in text(result)
    assert "+8999\n" in command_line(world, "result", job_of(result)).stdout


def test_a_turn_that_changed_nothing_has_no_diff_and_nothing_to_apply(
    model: Model, wire: ServerProcess
) -> None:
    model(say("There is nothing to do."))
    assert text(write(wire)) == "There is nothing to do.\n\nNo file was changed."


def test_the_check_of_the_project_file_is_told_in_one_line(
    world: World, model: Model, wire: ServerProcess
) -> None:
    world.repository.write(
        ".codex-counsel.toml", '[delegate]\ncheck = "test -e made.txt"\n'
    )
    world.repository.commit()
    model([shell("touch made.txt"), say("Made.")])
    lines = text(write(wire)).splitlines()
    assert "Check passed; it failed before the change." in lines


def test_files_that_apply_would_refuse_are_named_with_the_way_to_accept_them(
    world: World, model: Model, wire: ServerProcess
) -> None:
    model(
        [
            shell("mkdir .vscode && echo {} > '.vscode/a b.json' && echo x > y.txt"),
            say("Set up."),
        ]
    )
    result = write(wire)
    assert "--allow-path: '.vscode/a b.json'" in text(result)
    refused = command_line(world, "apply", job_of(result))
    assert "policy_refused" in refused.stderr + refused.stdout
    accepted = command_line(
        world, "apply", job_of(result), "--allow-path", ".vscode/a b.json"
    )
    assert accepted.returncode == 0


def test_a_task_that_failed_half_way_keeps_its_diff_and_says_so(
    world: World, model: Model, wire: ServerProcess
) -> None:
    model([shell("echo half > half.txt"), failed("invalid_prompt"), say("More.")])
    result = write(wire)
    assert result["isError"]
    assert "is kept (1 file changed, 1 insertion(+))" in text(result)
    again = go_on(wire, result)
    assert not again.get("isError")
    assert "+half" in text(again)
    assert command_line(world, "apply", job_of(result)).returncode == 0
    assert (world.workspace / "half.txt").read_text() == "half\n"


@pytest.mark.parametrize("commits", [False, True], ids=["no repository", "no commit"])
def test_without_a_commit_the_error_names_the_setting_of_the_user(
    world: World, model: Model, *, commits: bool
) -> None:
    server = model(say("Never."))
    if commits:
        world.repository.init()
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = write(wire)
    assert result["isError"]
    code = "no_commits" if commits else "not_a_git_repo"
    assert text(result).startswith(code)
    assert "CODEX_COUNSEL_COMPAT_WRITES=in_place" in text(result)
    assert server.requests == []


# --- where the next turn begins

TWO_TURNS = [
    shell("echo one > one.txt"),
    say("Made one."),
    shell("cat one.txt app.py; echo two > two.txt"),
    say("Made two."),
]


def seen(server: Loopback) -> str:
    """What the command of the second turn read."""
    return server.requests[-1].outputs[-1]


def test_a_reply_goes_on_from_the_diff_that_was_not_applied(
    model: Model, wire: ServerProcess
) -> None:
    server = model(TWO_TURNS)
    second = go_on(wire, write(wire))
    assert "one\n" in seen(server)
    assert "+one" in text(second)
    assert "+two" in text(second)


@pytest.mark.parametrize("then", ["applied", "committed", "edited"])
def test_after_apply_a_reply_begins_with_the_workspace(
    world: World, model: Model, wire: ServerProcess, then: str
) -> None:
    server = model(TWO_TURNS)
    first = write(wire)
    assert command_line(world, "apply", job_of(first)).returncode == 0
    if then == "committed":
        world.repository.commit()
    if then == "edited":
        world.repository.write("one.txt", "one, edited\n")
    second = go_on(wire, first)
    expected = "one, edited" if then == "edited" else "one"
    assert expected in seen(server)
    assert "+two" in text(second)
    assert "+one" not in text(second)
    assert command_line(world, "apply", job_of(second)).returncode == 0
    assert (world.workspace / "one.txt").read_text() == f"{expected}\n"


def test_after_undo_a_reply_goes_on_from_the_diff(
    world: World, model: Model, wire: ServerProcess
) -> None:
    server = model(TWO_TURNS)
    first = write(wire)
    for options in ([], ["--undo"]):
        assert command_line(world, "apply", job_of(first), *options).returncode == 0
    second = go_on(wire, first)
    assert "one\n" in seen(server)
    assert "+one" in text(second)
    assert command_line(world, "apply", job_of(second)).returncode == 0


def test_a_reply_says_which_files_changed_in_the_workspace_meanwhile(
    world: World, model: Model, wire: ServerProcess
) -> None:
    model(TWO_TURNS)
    first = write(wire)
    world.repository.write("one.txt", "mine\n")
    second = go_on(wire, first)
    assert "In the workspace, one.txt changed since this thread began." in text(second)
    assert command_line(world, "apply", job_of(second)).returncode == 1
    assert (world.workspace / "one.txt").read_text() == "mine\n"


def test_after_a_turn_without_changes_a_reply_sees_the_workspace_as_it_is(
    world: World, model: Model, wire: ServerProcess
) -> None:
    server = model(
        [say("Nothing."), shell("cat one.txt && echo x > two.txt"), say("Done.")]
    )
    first = write(wire)
    world.repository.write("one.txt", "written meanwhile\n")
    second = go_on(wire, first)
    assert "written meanwhile" in seen(server)
    assert "written meanwhile" not in text(second)


def test_without_the_earlier_record_a_reply_begins_with_the_workspace_and_says_so(
    world: World, model: Model, wire: ServerProcess
) -> None:
    server = model(TWO_TURNS)
    first = write(wire)
    shutil.rmtree(world.state / "jobs" / job_of(first))
    second = go_on(wire, first)
    assert "No such file" in seen(server)
    assert "no record is kept" in text(second)
    assert "+two" in text(second)


# --- which sandbox where none is named


@pytest.mark.parametrize(
    ("configured", "isolation", "sandbox"),
    [
        ("", "lean", "read-only"),
        ('sandbox_mode = "read-only"', "lean", "read-only"),
        ('sandbox_mode = "anything"', "lean", "read-only"),
        ("sandbox_mode = 7", "lean", "read-only"),
        ('sandbox_mode = "workspace-write"', "lean", "workspace-write"),
        ('sandbox_mode = "danger-full-access"', "lean", "workspace-write"),
        ('sandbox_mode = "workspace-write"', "strict", "read-only"),
    ],
)
def test_where_nobody_names_a_sandbox_the_configuration_of_the_user_does(
    world: World, configured: str, isolation: str, sandbox: str
) -> None:
    world.settings["ISOLATION"] = isolation
    world.configure(configured)
    context = world.counsel().context
    call = CodexCall(prompt="Go.")
    assert of_call(context, call, ServerOptions()).sandbox == sandbox
    choices: tuple[CodexSandbox, ...] = ("read-only", "workspace-write")
    for named in choices:
        of_server = of_call(context, call, ServerOptions(sandbox=named))
        assert of_server.sandbox == named
        of_caller = of_call(
            context, replace(call, sandbox=named), ServerOptions(sandbox="read-only")
        )
        assert of_caller.sandbox == named


def test_the_profile_that_is_named_counts_and_a_path_is_none(
    world: World, model: Model
) -> None:
    world.repository.begin()
    profile = 'sandbox_mode = "workspace-write"\n'
    (world.codex_home / "writer.config.toml").write_text(profile)
    Path(world.workspace / "evil.config.toml").write_text(profile)
    server = model([shell("echo x > x.txt"), say("Done.")])
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        assert "+x" in text(ask(wire, "codex", prompt="Go.", profile="writer"))
        asked = len(server.requests)
        path = "../../workspace/evil"
        refused = ask(wire, "codex", prompt="Go.", profile=path)
    assert refused["isError"]
    assert len(server.requests) == asked


def test_a_turn_in_a_copy_needs_a_place_for_its_diff_and_removes_what_killed_runs_left(
    world: World, model: Model
) -> None:
    server = model([shell("echo 42 > made"), say("Made.")])
    world.repository.begin_with_work()
    left = world.home / ".cache/codex-counsel/trees" / f"codex-counsel-{'0' * 32}"
    (left / "tree").mkdir(parents=True)
    os.utime(left, (0, 0))
    with ServerProcess(world, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Go.", sandbox="workspace-write")
        assert "+42" in text(result)
        assert not left.exists()
    readonly = world.base / "file"
    readonly.write_text("")
    asked = len(server.requests)
    env = {"CODEX_COUNSEL_STATE_DIR": str(readonly / "state")}
    with ServerProcess(world, env, argv=ARGV) as wire:
        wire.initialize()
        result = ask(wire, "codex", prompt="Go.", sandbox="workspace-write")
    assert "storage_failed" in text(result)
    assert len(server.requests) == asked
