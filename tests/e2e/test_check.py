"""A task with a check, on the real Codex: what the check says, what it can do, and what is left however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import Delegate, JobCancel, JobResult, parse
from codex_counsel.errors import Code
from codex_counsel.jobs.job import Job
from codex_counsel.loopback import Loopback, patch, say, shell
from tests.conftest import World, pick, until, wait
from tests.e2e.delegation import assert_unchanged, delegate, start
from tests.e2e.runs import (
    assert_nothing_is_left,
    cancel_run,
    counsel_with,
    fetch,
    kill_worker,
    trees,
    worker_of,
)
from tests.e2e.server.wire import ServerProcess
from tests.e2e.test_project_tests import environment, packages  # noqa: F401  # a fixture
from tests.e2e.test_token_budget import LIMIT, Endless, assert_cut_short
from tests.repositories import write

Model = Callable[..., Loopback]
FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-answer = 41\n+answer = 42\n*** End Patch\n"
)
DONE = say("It is 42 now.")
IS_RIGHT = "grep -q 42 app.py"


@pytest.fixture
def fixed(world: World, model: Model, workspace: Path) -> World:
    """A world whose model changes 41 to 42."""
    model([FIX, DONE])
    return world


def checked(world: World, command: str, **arguments: Any) -> EnvelopeDict:
    """A completed task with this check. The user's files stay as they are, and nothing is left."""
    with assert_unchanged(world.workspace):
        wire = delegate(world, check=command, **arguments)
    assert wire["status"] == "completed", wire
    assert "-answer = 41\n+answer = 42\n" in wire["diff"]
    assert_nothing_is_left(world)
    return wire


# --- what it says


def test_a_check_that_passes_on_the_diff_and_failed_before_says_both(
    each_release: World, each_model: Model
) -> None:
    each_release.repository.begin_with_work()
    server = each_model([FIX, DONE])
    wire = checked(each_release, f"echo looking; {IS_RIGHT}")
    check = dict(wire["check"])
    assert check.pop("seconds") > 0
    assert check == {
        "command": f"echo looking; {IS_RIGHT}",
        "status": "passed",
        "exit": 0,
        "output_tail": "looking\n",
        "base_exit": 1,
        "base_status": "failed",
    }
    assert wire["summary"].startswith(
        "Check passed; it failed before the change. 1 file changed"
    )
    assert IS_RIGHT in server.requests[0].prompt


@pytest.mark.parametrize(
    ("command", "status", "before", "line"),
    [
        ("exit 3", "failed", "failed", "failed (exit 3); it failed before the change too."),
        ("grep -q 41 app.py", "failed", "passed", "failed (exit 1); it passed before the change."),
        ("true", "passed", "passed", "passed."),
        ("echo FAILED", "passed", "passed", "passed."),
        ("kill -SEGV $$", "failed", "failed", "failed (exit 139); it failed before the change too."),
    ],
)  # fmt: skip
def test_the_exit_code_decides_and_the_first_words_say_so(
    fixed: World, command: str, status: str, before: str, line: str
) -> None:
    wire = checked(fixed, command)
    found = pick(wire["check"], "status", "base_status")
    assert found == {"status": status, "base_status": before}
    assert wire["summary"].startswith(f"Check {line} ")


def test_a_check_whose_program_is_missing_is_not_red_and_says_how_to_go_on(
    fixed: World,
) -> None:
    wire = checked(fixed, "no-such-tool --all")
    found = pick(wire["check"], "status", "exit", "base_status")
    assert found == {
        "status": "not_started",
        "exit": 127,
        "base_status": "not_started",
    }
    reason = wire["check"]["reason"]
    assert "a program of the command was not found" in reason
    assert "no-such-tool" in reason
    assert "only .venv, venv and node_modules" in reason
    assert wire["summary"].startswith("Check could not start (exit 127): a program ")


def test_a_check_that_cannot_start_since_the_change_is_red(
    world: World, model: Model, workspace: Path
) -> None:
    world.repository.write("check.sh", "#!/bin/sh\n")
    world.repository.commit("a check")
    model([FIX, shell("echo '#!/no/such/shell' > check.sh"), DONE])
    wire = checked(world, "chmod +x check.sh && ./check.sh")
    found = pick(wire["check"], "status", "exit", "base_status")
    assert (
        found == {"status": "failed", "exit": 2, "base_status": "passed"}
        or found["exit"] == 127
    )
    assert wire["check"]["status"] == "failed"


def test_a_task_that_changes_nothing_is_checked_once(
    world: World, model: Model, workspace: Path
) -> None:
    model([say("There is nothing to do.")])
    with socket.create_server(("127.0.0.1", 0)) as server:
        count = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]}; exit 5"
        wire = delegate(world, check=f"bash -c '{count}'", network=True)
        server.settimeout(0.5)
        server.accept()[0].close()
        with pytest.raises(TimeoutError):
            server.accept()
    found = pick(wire["check"], "status", "exit", "base_status", "base_exit")
    assert found == {
        "status": "failed",
        "exit": 5,
        "base_status": "failed",
        "base_exit": 5,
    }


def test_the_check_runs_on_what_is_returned_not_on_what_codex_left(
    world: World, model: Model, workspace: Path
) -> None:
    world.repository.write(".gitignore", "*.log\n")
    world.repository.commit("ignored")
    model([FIX, shell("echo x > left.log; chmod 000 lib; mkdir -p empty/dir"), DONE])
    wire = checked(world, "test ! -e left.log && cat lib/util.py")
    assert wire["check"]["status"] == "passed", wire["check"]
    assert wire["check"]["output_tail"] == "x = 3\n"


def test_the_base_of_a_task_that_goes_on_is_that_of_the_earlier_one(
    world: World, model: Model, workspace: Path
) -> None:
    model([FIX, DONE, shell("echo more > more.txt"), say("More.")])
    first = delegate(world)
    wire = delegate(world, check=IS_RIGHT, from_job=first["meta"]["job_id"])
    found = pick(wire["check"], "status", "base_status")
    assert found == {"status": "passed", "base_status": "failed"}


# --- the command


LONG = "test a = a && " + ": " * 1_980 + "&& exit 7"


@pytest.mark.parametrize(
    ("command", "code", "output"),
    [
        ("echo one\necho two\nexit 4", 4, "one\ntwo\n"),
        ("""echo "a 'b' \\"c\\"" '$HOME'""", 0, "a 'b' \"c\" $HOME\n"),
        ("cat <<'END'\n$x `y`\nEND\nexit 6", 6, "$x `y`\n"),
        ("set -e\nfalse\necho no", 1, ""),
        ("exit 0; exit 9", 0, ""),
        ("cat; echo end", 0, "end\n"),
        (LONG, 7, ""),
        ("echo err >&2; echo out", 0, "err\nout\n"),
        ("printf 'no line end'", 0, "no line end\n"),
        ("(exit 255)", 255, ""),
        ("# a comment", 0, ""),
        ("--help", 127, None),
        ("head -c 50 /proc/$PPID/cmdline >/dev/null; echo $0", 0, None),
        ("tr '\\0' '\\n' < /proc/$$/cmdline | grep -A1 printf | tail -1; echo shown", 0, None),
        ("printf '\\033[31mred\\033[0m \\007bell\\n'", 0, "red bell\n"),
        ("echo ghp_0123456789abcdefghijABCDEFGHIJ012345", 0, None),
        ("echo $PWD:$PWD/app.py", 0, ".:./app.py\n"),
    ],
)  # fmt: skip
def test_a_command_is_what_a_shell_makes_of_it(
    fixed: World, command: str, code: int, output: str | None
) -> None:
    assert len(command) <= 4_000
    check = checked(fixed, command)["check"]
    assert check["exit"] == code
    if output is not None:
        assert check.get("output_tail", "") == output
    assert "ghp_" not in str(check)


def test_a_command_that_no_shell_can_read_was_not_started(fixed: World) -> None:
    check = checked(fixed, "echo 'not ended\nexit 0; \"")["check"]
    assert pick(check, "status", "exit") == {"status": "not_started", "exit": 2}
    assert "the shell cannot read the command" in check["reason"]


def test_the_line_that_marks_the_start_hides_no_output(fixed: World) -> None:
    """The mark is in the command line of the shell: whoever prints it again prints a line like any other."""
    again = (
        "mark=$(tr '\\0' '\\n' < /proc/$$/cmdline | sed -n 's/^printf .* //p' | head -1);"
        ' echo before; echo "$mark"; echo after; exit 3'
    )
    check = checked(fixed, again)["check"]
    lines = check["output_tail"].splitlines()
    assert (lines[0], len(lines[1]), lines[2]) == ("before", 32, "after")
    assert check["status"] == "failed"


# --- what it can do


def test_a_check_reads_no_secret_and_reaches_no_network(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    repository = world.repository.begin_with_work()
    repository.write("conf/.env", "SECRET=committed-secret\n")
    repository.commit("a secret")
    repository.write(".env", "SECRET=own-secret\n")
    write(world.home, ".ssh/id_rsa", "SECRET=home-secret\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = (
            "cat conf/.env .env ~/.ssh/id_rsa ~/.codex/config.toml; env;"
            f' python3 -c \'import socket; socket.create_connection(("127.0.0.1", {port}), 3); print("CONNECTED")\';'
            f" echo x > {world.workspace}/made; echo x > ~/made; echo x > ../made; echo end"
        )
        each_model([FIX, DONE])
        counsel = world.counsel(DATABASE_URL="database-secret")
        handle = counsel.delegate(parse(Delegate, {"task": "?", "check": probe}))
        tail = counsel.deliver(handle, wait(handle))["check"]["output_tail"]
    assert tail.endswith("end\n")
    for word in ("-secret", "CONNECTED", "model_providers", "CODEX_HOME"):
        assert word not in tail, tail
    assert not (world.home / "made").exists()


def test_a_check_reaches_the_network_of_a_task_that_may(fixed: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 9)'"
        wire = checked(fixed, probe, network=True)
    assert wire["check"]["status"] == "passed", wire["check"]


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf ./* .git ../tree; exit 3",
        "echo x > app.py; mkdir -p a/b; chmod -R 000 . ; exit 3",
        "rm -rf .git; git init -q .; git add -A; exit 3",
        "ln -s / out; rm app.py; ln -s /etc/passwd app.py; exit 3",
        "mkfifo app; sleep 600 < app & (setsid sleep 600 &) ; exit 3",
        "trap '' INT TERM HUP; (trap '' INT TERM HUP; sleep 600) & exit 3",
        "kill -9 -1; exit 3",
        "kill -9 $PPID; sleep 1; exit 3",
        "i=0; while [ $i -lt 200 ]; do (sleep 600 &); i=$((i+1)); done; exit 3",
    ],
)
def test_whatever_a_check_does_to_its_copy_the_diff_is_whole_and_nothing_is_left(
    fixed: World, command: str
) -> None:
    wire = checked(fixed, command)
    check = wire["check"]
    assert (check["status"], check["base_status"]) == ("failed", "failed")


def test_a_check_that_fills_the_disk_is_ended_by_the_quota(fixed: World) -> None:
    fixed.settings["MAX_TREE_BYTES"] = "1000000"
    fill = 'head -c 5000000 /dev/zero > "$TMPDIR/big"; sleep 600'
    check = checked(fixed, fill)["check"]
    assert check["status"] == "not_run"
    assert "too much" in check["reason"]


@pytest.mark.parametrize(
    "command",
    ["sleep 600", "yes endless", "head -c 100000000 /dev/zero; sleep 600"],
)
def test_a_check_that_does_not_end_is_timed_out(
    world: World, model: Model, workspace: Path, command: str
) -> None:
    model([FIX, DONE])
    counsel = counsel_with(world, check_seconds=1)
    handle = counsel.delegate(parse(Delegate, {"task": "Fix.", "check": command}))
    wire = counsel.deliver(handle, wait(handle))
    found = pick(wire["check"], "status", "base_status")
    assert found == {"status": "timed_out", "base_status": "timed_out"}
    assert "CHECK_SECONDS" in wire["check"]["reason"]
    assert "Check timed out" in wire["summary"]
    assert "+answer = 42" in wire["diff"]
    assert len(wire["check"].get("output_tail", "")) <= 4_000
    assert_nothing_is_left(world)


def test_a_link_in_place_of_the_workspace_is_not_followed(
    world: World, model: Model, workspace: Path
) -> None:
    world.repository.write("sub/app.py", "answer = 41\n")
    world.repository.commit("a folder")
    swap = f"cd .. && mv sub moved && ln -s {world.workspace} sub"
    model([shell(swap), DONE])
    folder = str(world.workspace / "sub")
    with assert_unchanged(world.workspace):
        wire = delegate(world, check="pwd; touch made", workspace_root=folder)
    assert wire["check"]["status"] == "not_run"
    assert "is a link" in wire["check"]["reason"]
    assert_nothing_is_left(world)


# --- its end


def running_check(world: World, **arguments: Any) -> Any:
    """The handle of a task whose check runs, and waits for ever."""
    handle = start(world, check="echo on > began; sleep 600 & sleep 601", **arguments)
    until(lambda: any((tree / "tree/began").is_file() for tree in trees(world)))
    return handle


def test_a_cancel_during_the_check_keeps_the_diff(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    world.repository.begin_with_work()
    each_model([FIX, DONE])
    handle = running_check(world, background=True)
    assert handle.job.state().phase == "checking"
    with assert_unchanged(world.workspace):
        wire = cancel_run(world.counsel(), JobCancel(job_id=handle.job.id))
    handle.release()
    assert pick(wire, "ok", "status") == {"ok": True, "status": "completed"}
    assert "+answer = 42" in wire["diff"]
    assert wire["check"]["status"] == "not_run"
    assert "cancelled" in wire["check"]["reason"]
    assert "base_status" not in wire["check"]
    assert_nothing_is_left(world)


def test_a_worker_killed_during_the_check_leaves_the_diff_to_its_reader(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    world.repository.begin_with_work()
    each_model([FIX, DONE])
    handle = running_check(world, background=True)
    with assert_unchanged(world.workspace):
        kill_worker(handle.job)
        wire = fetch(world.counsel(), JobResult(job_id=handle.job.id))
    handle.release()
    assert pick(wire, "ok", "status") == {"ok": True, "status": "completed"}
    assert "+answer = 42" in wire["diff"]
    found = pick(wire["check"], "status", "reason", "command")
    assert found["status"] == "not_run"
    assert "ended before" in found["reason"]
    assert wire["summary"].startswith("Check was not run: ")
    assert_nothing_is_left(world)


def test_what_the_first_of_the_two_runs_said_outlives_the_worker(fixed: World) -> None:
    """The check ends at once with the change, and never without."""
    command = f"{IS_RIGHT} || {{ echo on > began; sleep 600; }}"
    handle = start(fixed, check=command, background=True)
    until(lambda: any((tree / "tree/began").is_file() for tree in trees(fixed)))
    kill_worker(handle.job)
    wire = fetch(fixed.counsel(), JobResult(job_id=handle.job.id))
    handle.release()
    found = pick(wire["check"], "status", "base_status")
    assert found == {"status": "passed", "base_status": None}
    assert_nothing_is_left(fixed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_worker_ends_the_check(
    fixed: World, number: signal.Signals
) -> None:
    handle = running_check(fixed, background=True)
    os.kill(worker_of(handle.job).pid, number)
    wire = wait(handle)
    handle.release()
    assert wire["check"]["status"] == "not_run"
    assert "+answer = 42" in wire["diff"]
    assert_nothing_is_left(fixed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_check_ends_with_the_server_and_the_diff_stays(
    fixed: World, number: signal.Signals
) -> None:
    with ServerProcess(fixed) as server:
        server.initialize()
        command = "echo on > began; sleep 600 & sleep 601"
        server.call("codex_delegate", {"task": "Fix.", "check": command})
        until(lambda: any((tree / "tree/began").is_file() for tree in trees(fixed)))
        server.process.send_signal(number)
        server.process.wait(30)
    (path,) = (fixed.state / "jobs").glob("[0-9a-f]*")
    job = Job(path)
    until(lambda: not job.alive())
    wire = fetch(fixed.counsel(), JobResult(job_id=job.id))
    assert wire["check"]["status"] == "not_run"
    assert "+answer = 42" in wire["diff"]
    assert_nothing_is_left(fixed)


def test_a_task_that_failed_is_not_checked_and_says_why(
    world: World, model: Model, workspace: Path
) -> None:
    model([FIX, shell("sleep 600"), DONE])
    counsel = counsel_with(world, timeout_seconds=3)
    handle = counsel.delegate(parse(Delegate, {"task": "Fix.", "check": "true"}))
    wire = counsel.deliver(handle, wait(handle))
    assert wire["error"]["code"] == Code.TIMEOUT
    found = pick(wire["check"], "status", "reason")
    assert found == {"status": "not_run", "reason": "the task failed before"}
    assert_nothing_is_left(world)


@pytest.mark.usefixtures("own_git_settings")
def test_a_task_that_was_cut_short_is_not_checked_and_says_why(
    world: World, model: Model, workspace: Path
) -> None:
    model(Endless(command="sed -i 's/41/42/' app.py; sleep 0.1"))
    wire = delegate(world, check="touch /tmp/made", max_tokens=LIMIT)
    assert_cut_short(wire)
    assert wire["check"] == {
        "command": "touch /tmp/made",
        "status": "not_run",
        "reason": "the run used up its tokens before it was done",
    }
    assert_nothing_is_left(world)


# --- projects


def test_the_check_of_a_python_project_runs_in_its_environment(
    each_release: World,
    each_model: Model,
    packages: Path,  # noqa: F811  # the fixture
) -> None:
    repository = each_release.repository.init()
    repository.write("app.py", "answer = 41\n")
    repository.write("test_app.py", "import app\ndef test(): assert app.answer == 42\n")
    repository.write(".gitignore", ".venv/\n")
    repository.commit()
    environment(each_release.workspace / ".venv", packages)
    each_model([FIX, DONE])
    command = (
        "git status --porcelain; echo x > .venv/made;"
        " python -m pytest --version && .venv/bin/python -m pytest -q -p no:cacheprovider"
    )
    check = checked(each_release, command)["check"]
    assert "1 passed" in check["output_tail"]
    assert check["output_tail"].startswith("M  app.py\n/bin/sh: ")
    found = pick(check, "status", "base_status", "base_exit")
    assert found == {"status": "passed", "base_status": "failed", "base_exit": 1}


def test_a_check_whose_environment_is_missing_could_not_start(
    fixed: World,
) -> None:
    check = checked(fixed, "/usr/bin/env -S python3 -I -S -m pytest -q")["check"]
    found = pick(check, "status", "base_status")
    assert found == {"status": "not_started", "base_status": "not_started"}
    assert "No module named pytest" in check["reason"]


@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
def test_the_check_of_a_node_project_runs_with_its_packages(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.init()
    repository.write("app.py", "answer = 41\n")
    repository.write("package.json", '{"name": "p", "scripts": {"test": "runner"}}')
    repository.write(".gitignore", "node_modules\n")
    repository.commit()
    runner = write(
        each_release.workspace,
        "node_modules/.bin/runner",
        "#!/usr/bin/env node\n"
        'const text = require("fs").readFileSync("app.py", "utf8");\n'
        'console.log("read", text.trim());\n'
        'process.exit(text.includes("42") ? 0 : 1);\n',
    )
    runner.chmod(0o755)
    each_model([FIX, DONE])
    check = checked(each_release, "npm test")["check"]
    assert "read answer = 42" in check["output_tail"]
    found = pick(check, "status", "base_status", "base_exit")
    assert found == {"status": "passed", "base_status": "failed", "base_exit": 1}
