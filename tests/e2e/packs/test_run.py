"""`codex-counsel run`: a pack in, a result file out; interrupted, killed, and where it cannot be run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import (
    Apply,
    Delegate,
    ReviewChanges,
    parse,
)
from codex_counsel.errors import Code
from codex_counsel.loopback import Loopback, error, hold, http_error, say, shell, stall
from codex_counsel.packs import archive, foundation
from codex_counsel.prepare import workspace as workspaces
from codex_counsel.prepare.context import Context
from codex_counsel.services.take import take_file
from tests.conftest import World, living, until
from tests.e2e.runs import assert_nothing_is_left, begin, command_line
from tests.foundations import draft
from tests.packs import ID, DraftPack
from tests.repositories import Repository
from tests.reviews import reply

Model = Callable[..., Loopback]
NOBODY = 65534


def as_nobody() -> list[str]:
    """The beginning of a command line that is run by another user; skips the test where he cannot start Python."""
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    user = ["setpriv", *ids, "--inh-caps=-all", "--bounding-set=-all"]
    try:
        # The first one may have been opened before the user was changed.
        child = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
        argv = [*user, sys.executable, "-c", child]
        subprocess.run(argv, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no other user can start this Python")
    return user


def envelope_in(result: Path, folder: Path) -> dict[str, Any]:
    """What the result file has of the job that ran."""
    folder.mkdir()
    with result.open("rb") as file:
        about = archive.unpack(file, "it", "result", folder)
    assert about["pack"] == ID
    return dict(json.loads((folder / about["job"] / "result.json").read_text()))


def test_an_answer_is_printed_and_written_to_the_result_file(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    model([say("It adds.")])
    ran = command_line(world, "run", str(pack), "-o", str(result))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("It adds.")
    assert envelope_in(result, world.base / "unpacked")["answer"] == "It adds."
    assert result.stat().st_mode & 0o777 == 0o600
    assert_nothing_is_left(world)


def test_a_pack_on_standard_input_is_run(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    model([say("It adds.")])
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "codex_counsel",
            "run",
            "-",
            "-o",
            str(result),
            "--json",
        ],
        env=world.env,
        cwd=world.workspace,
        input=pack.read_bytes(),
        capture_output=True,
        check=True,
    )
    assert json.loads(ran.stdout)["answer"] == "It adds."
    assert result.exists()


def test_a_task_travels_with_all_work_and_its_diff_is_applied_where_it_came_from(
    world: World, model: Model, result: Path
) -> None:
    model([shell("echo 'answer = 42' > app.py; rm notes.md"), say("Done.")])
    home = World(world.base / "home-of-sender")
    home.repository.begin_with_work()
    context = Context.of(home.env, home.workspace)
    workspace = workspaces.resolve(context, None)
    made = foundation.make(context, workspace, home.base / "foundation.tar")
    travelling = DraftPack(Delegate, {"task": "Correct it."}, made.path, home.base)
    file = travelling.write(home.base / "x.pack")

    ran = command_line(world, "run", str(file), "-o", str(result))
    assert (ran.returncode, ran.stderr) == (0, "")
    taken = take_file(context, result, workspace_root=str(home.workspace))
    envelope = taken.envelope
    assert envelope["status"] == "completed"
    job_id = envelope["meta"]["job_id"]
    home.counsel().apply(parse(Apply, {"job_id": job_id}))
    assert (home.workspace / "app.py").read_text() == "answer = 42\n"
    assert not (home.workspace / "notes.md").exists()
    assert (home.workspace / "lib/util.py").read_text() == "x = 3\n"


def test_a_review_has_the_exit_code_and_the_formats_of_a_review(
    world: World, model: Model, sender: Repository, result: Path
) -> None:
    finding = {
        "file": "lib/util.py",
        "line": 1,
        "evidence": "x = 3",
        "severity": "high",
    }
    model([say(reply(finding, verdict="fail"))])
    asked = {"scope": "working_tree"}
    pack = DraftPack(ReviewChanges, asked, draft(sender), world.base).write(
        world.base / "x.pack"
    )
    sarif = world.base / "x.sarif"
    ran = command_line(
        world, "run", str(pack), "-o", str(result), "--output", f"sarif={sarif}"
    )
    assert ran.returncode == 1
    assert len(json.loads(sarif.read_text())["runs"][0]["results"]) == 1
    again = command_line(
        world, "run", str(pack), "-o", str(result), "--fail-on", "critical", "--events"
    )
    assert again.returncode == 0
    envelope_in(result, world.base / "unpacked")
    assert len(list((world.base / "unpacked").glob("*/events.jsonl"))) == 1


def test_a_format_of_reviews_for_a_question_is_refused_after_the_result_was_written(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    model([say("It adds.")])
    ran = command_line(world, "run", str(pack), "-o", str(result), "--format", "sarif")
    assert ran.returncode == 2
    assert "nothing is spent twice" in ran.stderr
    assert envelope_in(result, world.base / "unpacked")["answer"] == "It adds."


def test_a_run_that_failed_has_a_result_file_and_running_the_pack_again_starts_anew(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    server = model([http_error(400, error("No."))])
    ran = command_line(world, "run", str(pack), "-o", str(result))
    assert ran.returncode != 0
    assert envelope_in(result, world.base / "unpacked")["status"] == "failed"
    command_line(world, "run", str(pack), "-o", str(result))
    assert len(server.requests) == 2


def test_a_killed_run_goes_on_and_the_same_pack_gets_its_answer(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    answer = hold(say("Paid once."))
    server = model([answer, say("Paid twice.")])
    child = begin(world, "run", str(pack), "-o", str(result))
    server.asked(1)
    child.kill()
    child.communicate()
    assert not result.exists()
    answer.release.set()
    again = command_line(world, "run", str(pack), "-o", str(result))
    assert again.stdout.startswith("Paid once.")
    assert len(server.requests) == 1
    assert result.exists()
    assert_nothing_is_left(world)


def test_an_interrupt_ends_the_run_and_its_result_file_says_so(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    server = model([stall()])
    child = begin(world, "run", str(pack), "-o", str(result))
    server.asked(1)
    child.send_signal(signal.SIGINT)
    assert b"cancelled" in child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert envelope_in(result, world.base / "unpacked")["status"] == "cancelled"
    assert_nothing_is_left(world)


def test_two_runs_of_one_pack_at_once_get_one_answer(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    server = model([say("Once."), say("Twice.")])
    files = [result.with_name(f"{number}.result") for number in range(2)]
    children = [begin(world, "run", str(pack), "-o", str(file)) for file in files]
    outputs = [child.communicate(timeout=60)[0] for child in children]
    assert [output[:5] for output in outputs] == [b"Once."] * 2
    assert len(server.requests) == 1
    assert all(file.exists() for file in files)


def test_a_run_that_is_killed_while_it_unpacks_leaves_nothing_for_good(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    model([say("It adds.")])
    fifo = world.base / "slow.pack"
    os.mkfifo(fifo)
    child = begin(world, "run", str(fifo), "-o", str(result))
    packs = world.home / ".cache/codex-counsel/packs"
    with fifo.open("wb", buffering=0) as writer:
        writer.write(pack.read_bytes()[:2_000])
        until(lambda: packs.is_dir() and list(packs.glob("scratch-*/lock")))
        child.kill()
        child.communicate()
    (left,) = packs.iterdir()
    os.utime(left, (0, 0))
    assert command_line(world, "run", str(pack), "-o", str(result)).returncode == 0
    assert not left.exists()


# --- where it cannot be run


@pytest.mark.parametrize(
    "named",
    [
        "missing/x.result",
        ".",
        "x.pack",
        "link.pack",
        "fifo",
        "to-null",
        "/dev/stdout",
        "x" * 300,
    ],
)
def test_a_result_file_that_cannot_be_written_is_refused_before_anything_is_spent(
    world: World, model: Model, pack: Path, named: str
) -> None:
    server = model([say("Never.")])
    (world.base / "link.pack").symlink_to("x.pack")
    (world.base / "to-null").symlink_to("/dev/null")
    os.mkfifo(world.base / "fifo")
    before = pack.read_bytes()
    ran = command_line(world, "run", str(pack), "-o", str(world.base / named))
    assert ran.returncode == 2
    assert "-o: " in ran.stderr
    assert server.requests == []
    assert pack.read_bytes() == before


def test_standard_output_is_no_result_file(
    world: World, model: Model, pack: Path
) -> None:
    server = model([say("Never.")])
    ran = command_line(world, "run", str(pack), "-o", "-")
    assert ran.returncode == 2
    assert "-o -: " in ran.stderr
    assert server.requests == []
    assert not (world.workspace / "-").exists()


@pytest.mark.parametrize("named", ["missing.pack", ".", "text.pack"])
def test_what_is_no_pack_is_refused_by_name_and_leaves_no_result_file(
    world: World, model: Model, result: Path, named: str
) -> None:
    model([say("Never.")])
    (world.base / "text.pack").write_text("text\n" * 1_000)
    ran = command_line(world, "run", str(world.base / named), "-o", str(result))
    assert ran.returncode == 2
    assert named in ran.stderr
    assert not result.exists()


def test_without_a_login_no_result_file_is_left_and_stderr_names_the_login_of_this_machine(
    world: World, pack: Path, result: Path
) -> None:
    ran = command_line(world, "run", str(pack), "-o", str(result))
    assert ran.returncode == 3
    assert Code.AUTH_REQUIRED in ran.stderr
    assert "A pack brings no login. On this machine run" in ran.stderr
    assert not result.exists()
    assert_nothing_is_left(world)


@pytest.mark.parametrize("closed", ["state", "home/.cache"])
def test_a_directory_that_cannot_be_made_is_named_and_nothing_is_spent(
    world: World, model: Model, pack: Path, result: Path, closed: str
) -> None:
    server = model([say("Never.")])
    (world.base / closed).write_text("no directory")
    ran = command_line(world, "run", str(pack), "-o", str(result))
    assert ran.returncode == 3
    assert ran.stderr.startswith("storage_failed: ")
    assert str(world.base / closed) in ran.stderr
    assert server.requests == []
    assert not result.exists()


def test_without_codex_home_the_login_in_the_home_directory_is_used(
    world: World, model: Model, pack: Path, result: Path
) -> None:
    world.codex_home_value = ""
    model([say("It adds.")])
    assert command_line(world, "run", str(pack), "-o", str(result)).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", [None, "state", "home/.cache"])
def test_another_user_runs_it_and_a_directory_that_he_cannot_write_is_a_typed_error(
    world: World, model: Model, pack: Path, result: Path, closed: str | None
) -> None:
    model([say("It adds.")])
    out = world.base / "out"
    for name in ("out", "state", "home/.cache"):
        (world.base / name).mkdir(mode=0o700)
    for path in (world.base, *world.base.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    if closed:
        os.chown(world.base / closed, 0, 0)
        (world.base / closed).chmod(0o755)
    # The directories above the test's are closed to him.
    for folder in world.base.parents[:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    user = as_nobody()
    command = [sys.executable, "-m", "codex_counsel", "run", str(pack)]
    ran = subprocess.run(
        [*user, *command, "-o", str(out / "x.result")],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if closed is None:
        assert (ran.returncode, ran.stderr) == (0, "")
        assert (out / "x.result").exists()
        return
    assert ran.returncode == 3
    assert ran.stderr.startswith("storage_failed: ")
    assert str(world.base / closed) in ran.stderr
    assert not (out / "x.result").exists()
    assert living(str(world.base)) == []
