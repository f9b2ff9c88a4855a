"""A run executes the tests of the project in a real environment, on the real Codex, and leaves nothing of that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.envelope import EnvelopeDict
from codex_counsel.contract.request import (
    Consult,
    Delegate,
    ReviewChanges,
    ReviewPlan,
    parse,
)
from codex_counsel.errors import Code
from codex_counsel.loopback import Loopback, say, shell
from tests.conftest import World, living, pick
from tests.e2e.delegation import assert_unchanged
from tests.e2e.escape.attacks import attack
from tests.e2e.escape.scene import MODEL
from tests.e2e.runs import assert_nothing_is_left
from tests.repositories import write
from tests.reviews import reply

Model = Callable[..., Loopback]
PACKAGES = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
"""What pytest consists of; copied from the environment of these tests, so that none is downloaded."""
TEST = """
import tempfile
from calc import add
def test_add(tmp_path):
    (tmp_path / "file").write_text("x")
    assert tmp_path.is_relative_to(tempfile.gettempdir())
    assert add(1, 2) == 3
def test_that_fails():
    assert add(1, 2) == 4
"""
RUN = "python -m pytest -p no:cacheprovider tests/test_calc.py"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with pytest and what it needs."""
    target = tmp_path_factory.mktemp("packages")
    for name in PACKAGES:
        for file in distribution(name).files or ():
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            copy = target / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(file.locate()), copy)
    return target


@pytest.fixture
def project(each_release: World, packages: Path) -> World:
    """A Python project with an uncommitted change, and a virtual environment that git ignores."""
    repository = each_release.repository.init()
    repository.write("calc.py", "def add(a, b):\n    return a - b\n")
    repository.write("tests/test_calc.py", TEST)
    repository.write(".gitignore", ".venv\n__pycache__\n")
    repository.commit()
    repository.write("calc.py", "def add(a, b):\n    return a + b\n")
    environment(each_release.workspace / ".venv", packages)
    return each_release


def environment(folder: Path, packages: Path) -> None:
    """Make a virtual environment of this Python, with these packages."""
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True)
    (library,) = folder.glob("lib/python*/site-packages")
    shutil.copytree(packages, library, dirs_exist_ok=True)


def start_run(world: World, kind: str, **arguments: Any) -> EnvelopeDict:
    counsel = world.counsel()
    match kind:
        case "consult":
            handle = counsel.consult(parse(Consult, {"question": "?", **arguments}))
        case "plan":
            handle = counsel.review_plan(
                parse(ReviewPlan, {"plan": "Add.", **arguments})
            )
        case "review":
            handle = counsel.review_changes(parse(ReviewChanges, arguments))
        case _:
            handle = counsel.delegate(parse(Delegate, {"task": "?", **arguments}))
    return counsel.follow(handle, lambda _: None)


def told(
    world: World, start: Model, kind: str, *commands: str, **arguments: Any
) -> tuple[list[str], EnvelopeDict]:
    """What the commands of such a run said, and its envelope."""
    answer = reply() if kind in ("review", "plan") else "Done."
    # Codex waits ten seconds for a command, where a call says nothing else.
    calls = [shell(command, yield_time_ms=30_000) for command in commands]
    server = start([*calls, say(answer)], model=MODEL)
    wire = start_run(world, kind, **arguments)
    assert wire["status"] == "completed", wire
    return server.requests[-1].outputs, wire


@pytest.mark.parametrize("kind", ["review", "plan", "delegate"])
def test_the_tests_of_a_python_project_run_as_their_author_runs_them(
    project: World, each_model: Model, kind: str
) -> None:
    with assert_unchanged(project.workspace):
        (output,), wire = told(project, each_model, kind, RUN)
    assert "1 failed, 1 passed" in output
    assert "assert 3 == 4" in output
    assert wire["meta"]["sandbox"]["read_boundary"] == "toolchains"
    assert_nothing_is_left(project)


def test_the_output_of_a_test_is_evidence_that_a_review_quotes(
    project: World, each_model: Model
) -> None:
    seen: list[str] = []

    def script(request: Any) -> Any:
        if not request.outputs:
            return shell(RUN, yield_time_ms=30_000)
        seen.extend(
            line
            for line in request.outputs[-1].splitlines()
            if "AssertionError" in line
        )
        return say(reply(summary=f"The tests say: {seen[0]}"))

    each_model(script, model=MODEL)
    wire = start_run(project, "review")
    assert "tests/test_calc.py:9: AssertionError" in wire["summary"]


def test_the_tests_of_a_subdirectory_run_in_the_environment_at_the_top(
    project: World, each_model: Model
) -> None:
    folder = str(project.workspace / "tests")
    run = "PYTHONPATH=.. python -m pytest -p no:cacheprovider test_calc.py"
    (output,), _ = told(project, each_model, "review", run, workspace_root=folder)
    assert "1 failed, 1 passed" in output


def test_the_boundary_workspace_closes_the_environment_again(
    project: World, each_model: Model
) -> None:
    project.settings["READ_BOUNDARY"] = "workspace"
    look = 'echo "[$VIRTUAL_ENV]"; command -v python | grep codex-counsel; echo END'
    (output,), wire = told(project, each_model, "review", look)
    assert "[]\nEND" in output
    assert wire["meta"]["sandbox"]["read_boundary"] == "workspace"


def test_a_consultation_reads_no_more_than_the_workspace(
    project: World, each_model: Model
) -> None:
    look = 'echo "[$VIRTUAL_ENV]"; command -v python | grep codex-counsel; echo END'
    (output,), wire = told(project, each_model, "consult", look)
    assert "[]\nEND" in output
    assert wire["meta"]["sandbox"]["read_boundary"] == "workspace"


CLOSED = (
    "made",
    ".git/made",
    ".venv/made",
    "tests/made",
    "$TMPDIR/../bin/made",
    "$TMPDIR/../bin/python",
    "$TMPDIR/../bin/bwrap",
)
OUTSIDE = ("$HOME/made", "/tmp/made", "/var/tmp/made")
"""Refused, or private to the sandbox."""
WRITE = """
import os, sys
for place in sys.argv[1:]:
    try:
        open(os.path.expandvars(place), "a").write("x")
        print("WROTE", place)
    except OSError:
        print("REFUSED", place)
"""


def test_a_test_changes_nothing_but_its_temporary_directory(
    project: World, each_model: Model
) -> None:
    project.repository.write("tests/write.py", WRITE)
    places = " ".join(f"'{place}'" for place in (*CLOSED, *OUTSIDE, "$TMPDIR/made"))
    run = f"python tests/write.py {places}"
    with assert_unchanged(project.workspace):
        (output,), _ = told(project, each_model, "review", run)
    lines = output.splitlines()
    assert {f"REFUSED {place}" for place in CLOSED} <= set(lines)
    assert "WROTE $TMPDIR/made" in lines
    for folder in (project.home, Path("/tmp"), Path("/var/tmp")):
        assert not (folder / "made").exists()
    assert_nothing_is_left(project)


CACHES = """
import os, pathlib
for name in ("TMPDIR", "TMP", "TEMP", "XDG_CACHE_HOME", "COVERAGE_FILE", "MYPY_CACHE_DIR",
             "RUFF_CACHE_DIR", "HYPOTHESIS_STORAGE_DIRECTORY", "CARGO_TARGET_DIR"):
    path = pathlib.Path(os.environ[name])
    assert path.is_relative_to(os.environ["TMPDIR"]), name
    if name == "COVERAGE_FILE":
        path.write_text("cache")
    else:
        path.mkdir(parents=True, exist_ok=True)
print("ALL WRITTEN", os.environ["PYTHONDONTWRITEBYTECODE"])
"""


def test_every_cache_has_a_place_that_can_be_written(
    project: World, each_model: Model
) -> None:
    project.repository.write("tests/caches.py", CACHES)
    (output,), _ = told(project, each_model, "review", "python tests/caches.py")
    assert "ALL WRITTEN 1" in output


def test_a_task_brings_no_caches_of_its_tests_back(
    project: World, each_model: Model
) -> None:
    project.repository.write(".gitignore", ".venv\n")
    project.repository.commit("no caches ignored")
    commands = (RUN, 'test -e "$XDG_CACHE_HOME"; echo x > made.txt')
    _, wire = told(project, each_model, "delegate", *commands)
    assert [file["path"] for file in wire["files"]] == ["made.txt"]


FORKS = """
import multiprocessing, socket, subprocess, sys
def test_pool():
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
def test_pair():
    socket.socketpair()
def test_child_that_stays():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "MARK"], start_new_session=True)
def test_server():
    socket.create_server(("127.0.0.1", 0))
"""


def test_processes_of_tests_end_with_the_run_and_sockets_stay_closed(
    project: World, each_model: Model
) -> None:
    mark = f"left-by-a-test-{project.base.name}"
    project.repository.write("tests/test_forks.py", FORKS.replace("MARK", mark))
    run = "python -m pytest -p no:cacheprovider -q tests/test_forks.py"
    (output,), _ = told(project, each_model, "review", run)
    assert "1 failed, 3 passed" in output
    assert "PermissionError: [Errno 1] Operation not permitted" in output
    assert living(mark) == []
    assert_nothing_is_left(project)


def test_what_tests_write_counts_against_the_quota(
    project: World, each_model: Model
) -> None:
    project.settings["MAX_TREE_BYTES"] = "1000000"
    fill = 'head -c 5000000 /dev/zero > "$TMPDIR/big"; sleep 600'
    each_model([shell(fill), say(reply())], model=MODEL)
    wire = start_run(project, "review")
    assert (wire["error"] or {}).get("code") == Code.QUOTA_EXCEEDED
    assert_nothing_is_left(project)


# --- Node


@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
def test_the_tests_of_a_node_project_run_with_its_packages(
    each_release: World, each_model: Model
) -> None:
    repository = each_release.repository.init()
    scripts = {"test": "runner", "builtin": "node --test"}
    repository.write("package.json", json.dumps({"name": "p", "scripts": scripts}))
    repository.write(".gitignore", "node_modules\n")
    repository.write(
        "test/sum.test.js",
        'const {test} = require("node:test");\n'
        'const {sum} = require("adder");\n'
        'test("adds", () => { if (sum(1, 2) !== 3) throw new Error("wrong"); });\n',
    )
    repository.commit()
    packages = each_release.workspace / "node_modules"
    write(packages, "adder/package.json", '{"name": "adder", "main": "i.js"}')
    write(packages, "adder/i.js", "exports.sum = (a, b) => a + b;\n")
    runner = write(
        packages,
        ".bin/runner",
        "#!/usr/bin/env node\n"
        'require("fs").writeFileSync(require("os").tmpdir() + "/cache", "x");\n'
        'console.log("the sum is", require("adder").sum(1, 2));\n',
    )
    runner.chmod(0o755)
    commands = ("npm test", "npm run builtin")
    outputs, _ = told(each_release, each_model, "plan", *commands)
    assert "the sum is 3" in outputs[0]
    assert "# pass 1" in outputs[1] or "pass 1" in outputs[1]
    assert_nothing_is_left(each_release)


# --- what a repository prepares


@attack(
    "The programs of a committed virtual environment have the names of those that Codex runs outside the sandbox",
)
@pytest.mark.parametrize("kind", ["review", "delegate"])
def test_no_program_of_the_projects_environment_runs_outside_the_sandbox(
    project: World, each_model: Model, kind: str
) -> None:
    programs = project.workspace / ".venv/bin"
    names = (
        "bwrap",
        "getconf",
        "lsb_release",
        "git",
        "rg",
        "codex",
        "bash",
        "sh",
        "node",
    )
    rung = project.base / "rung"
    for name in (*names, "pytest", "mypy"):
        program = programs / name
        program.write_text(f"#!/bin/sh\necho {name} >> {rung}\necho HOSTILE {name}\n")
        program.chmod(0o755)
    commands = ("pytest; mypy; rg --version", "git --version; sh -c 'echo fine'", RUN)
    outputs, _ = told(project, each_model, kind, *commands)
    assert "HOSTILE pytest\nHOSTILE mypy" in outputs[0]
    assert "ripgrep" in outputs[0]
    assert "git version" in outputs[1]
    assert "fine" in outputs[1]
    assert "1 failed, 1 passed" in outputs[2]
    assert not rung.exists()


@attack("Put a `bwrap` into the directory that comes first on the PATH of commands")
@pytest.mark.parametrize("kind", ["review", "delegate"])
def test_no_command_adds_a_program_to_the_directory_of_programs(
    project: World, each_model: Model, kind: str
) -> None:
    rung = project.base / "rung"
    project.repository.write("bwrap", f"#!/bin/sh\necho bwrap >> {rung}\n")
    (project.workspace / "bwrap").chmod(0o755)
    add = (
        'for folder in $(echo "$PATH" | tr : " "); do cp bwrap "$folder"; done; '
        'bin="${TMPDIR%/tmp}/bin"; '
        'unshare -Urm sh -c "umount $bin; mount -o remount,rw,bind $bin; mount -o remount,rw /; cp bwrap $bin"; '
        'mv "$bin" "$bin.old"; mkdir -p "$bin"; cp bwrap "$bin"; ls "$bin"'
    )
    outputs, _ = told(project, each_model, kind, add, "python -c 'print(6 * 7)'")
    assert "apply_patch" in outputs[0]
    assert "42" in outputs[1]
    assert not rung.exists()


def test_a_boundary_is_a_trap_where_the_environment_itself_is_on_the_path(
    project: World, each_model: Model
) -> None:
    """What the private directory of programs is for: without it, Codex runs what a repository calls `bwrap`."""
    programs = project.base / "project/.venv/bin"
    rung = project.base / "rung"
    program = write(
        programs.parent, "bin/bwrap", f"#!/bin/sh\necho x >> {rung}\nexit 1\n"
    )
    program.chmod(0o755)
    table = (
        f'[shell_environment_policy]\nset = {{ PATH = "{programs}:/usr/bin:/bin" }}\n'
    )
    each_model([shell("true"), say("Done.")], table, model=MODEL)
    command = [project.binary, "exec", "-s", "read-only", "--skip-git-repo-check", "-"]
    subprocess.run(
        command,
        input=b"Go.",
        cwd=project.workspace,
        env=project.env,
        check=True,
        capture_output=True,
    )
    assert rung.exists()


@pytest.mark.parametrize("place", ["a link", "committed"])
def test_a_hostile_environment_opens_nothing(
    each_release: World, each_model: Model, place: str
) -> None:
    secret = write(each_release.home, "private/lib/python3.12/os.py", "SECRET-home\n")
    python = write(
        each_release.home, "private/bin/python3.12", "#!/bin/sh\necho SECRET\n"
    )
    python.chmod(0o755)
    repository = each_release.repository.init()
    repository.write("app.py", "answer = 42\n")
    venv = each_release.workspace / ".venv"
    if place == "a link":
        venv.symlink_to(each_release.home / "private")
    else:
        write(venv, "pyvenv.cfg", f"home = {python.parent}\n")
        write(venv, "lib/python3.12/site-packages/x.pth", f"{secret.parent}\n")
        (venv / "bin").mkdir()
        (venv / "bin/python").symlink_to(python)
    repository.commit()
    repository.write("app.py", "answer = 43\n")
    look = (
        f"cat app.py {secret} .venv/lib/python3.12/os.py; .venv/bin/python; "
        'echo "[$VIRTUAL_ENV]"'
    )
    (output,), _ = told(each_release, each_model, "review", look)
    assert "answer = 43" in output
    assert "SECRET" not in output
    assert "[]" in output


def test_a_secret_file_in_an_environment_stays_closed(
    project: World, each_model: Model
) -> None:
    write(project.workspace, ".venv/lib/.env", "SECRET-env\n")
    write(project.workspace, "node_modules/tool/server.pem", "SECRET-pem\n")
    look = "cat .venv/lib/.env node_modules/tool/server.pem; cat .gitignore"
    (output,), wire = told(project, each_model, "review", look)
    assert "__pycache__" in output
    assert "SECRET" not in output
    assert pick(wire["meta"]["sandbox"], "mode", "read_boundary") == {
        "mode": "read-only",
        "read_boundary": "toolchains",
    }
