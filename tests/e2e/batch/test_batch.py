"""Many requests at once on one machine: real processes, real Codex, scripted model."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from codex_counsel.loopback import (
    Loopback,
    Reply,
    Request,
    error,
    failed,
    hold,
    http_error,
    patch,
    say,
    usage_limit,
)
from tests import reviews
from tests.conftest import World, living, until
from tests.e2e.batch.runs import (
    argv_of,
    asked,
    batch,
    codes,
    names,
    number_of,
    obey,
    results,
    started,
    until_recorded,
    write_requests,
)
from tests.e2e.cli.terminal import CTRL_C, terminal
from tests.namespaces import NAMESPACE

Model = Callable[..., Loopback]
pytestmark = pytest.mark.usefixtures("own_git_settings")


@pytest.fixture
def directory(world: World) -> Path:
    """Where the batches of a test are kept."""
    return world.base / "batch"


def reply(request: Request) -> Reply:
    return say(f"It is {number_of(request)}.")


def test_thirty_items_are_each_asked_once_and_a_failure_stands_beside_the_answers(
    world: World, model: Model, directory: Path
) -> None:
    def play(request: Request) -> Reply:
        if number_of(request) % 10 == 3:
            return http_error(400, error("bad_thing", "No such thing."))
        return reply(request)

    server = model(play, request_max_retries=0)
    requests = write_requests(world, 30)
    ended = batch(world, requests, "--output-dir", directory, "--jobs", "4")
    failing = [number for number in range(30) if number % 10 == 3]
    found = codes(directory)
    assert {name for name, code in found.items() if code} == set(names(failing))
    assert (len(found), ended.returncode) == (30, 5), ended.stderr
    assert asked(server) == dict.fromkeys(range(30), 1)
    answers = {row["id"]: row.get("answer") for row in results(directory)}
    assert answers["item-7"] == "It is 7."
    assert "item-23" in ended.stdout

    again = batch(world, "--resume", directory)
    assert (again.returncode, len(server.requests)) == (5, 30), again.stderr
    jobs = list((world.state / "jobs").iterdir())
    assert (len(jobs), all((job / "delivered").exists() for job in jobs)) == (30, True)


def test_requests_come_from_standard_input_and_a_dry_run_spends_nothing(
    world: World, model: Model, directory: Path
) -> None:
    server = model(reply)
    line = json.dumps(
        {"id": "a", "kind": "consult", "arguments": {"question": "What is item 5?"}}
    )
    preview = batch(world, "--dry-run", stdin=line)
    assert preview.returncode == 0, preview.stderr
    assert "a  consult  .  What is item 5?" in preview.stdout
    assert (server.requests, list(world.workspace.iterdir())) == ([], [])

    ended = batch(world, "-", "--output-dir", directory, "--json", stdin=line)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["data"]["completed"] == 1
    assert codes(directory) == {"a": None}


def test_a_rate_limit_pauses_the_batch_until_its_reset_and_fails_nothing(
    world: World, model: Model, directory: Path
) -> None:
    met: list[int] = []

    def play(request: Request) -> Reply:
        if number_of(request) == 2 and not met:
            met.append(2)
            return failed("rate_limit_exceeded", "Please try again in 2.0s.")
        return reply(request)

    server = model(play, request_max_retries=0, stream_max_retries=0)
    requests = write_requests(world, 6)
    ended = batch(world, requests, "--output-dir", directory, "--jobs", "1")
    assert (ended.returncode, codes(directory)) == (
        0,
        dict.fromkeys(names(range(6))),
    ), ended.stderr
    assert "batch: paused until " in ended.stderr
    assert asked(server) == {**dict.fromkeys(range(6), 1), 2: 2}


def test_a_usage_limit_pauses_until_the_reset_that_the_service_names(
    world: World, model: Model, directory: Path
) -> None:
    met: list[int] = []

    def play(request: Request) -> Reply:
        if met:
            return reply(request)
        met.append(number_of(request))
        reset = int(time.time()) + 30
        headers = {
            "x-codex-primary-used-percent": "100",
            "x-codex-primary-window-minutes": "300",
            "x-codex-primary-reset-at": str(reset),
        }
        # The batch would not end in the time of this test if it went by the message.
        return usage_limit("plus", reset + 3600, headers)

    server = model(play)
    requests = write_requests(world, 4)
    ended = batch(world, requests, "--output-dir", directory, "--jobs", "2")
    assert (ended.returncode, codes(directory)) == (
        0,
        dict.fromkeys(names(range(4))),
    ), ended.stderr
    assert "batch: paused until " in ended.stderr
    assert asked(server) == {**dict.fromkeys(range(4), 1), met[0]: 2}


def test_without_a_login_the_batch_stops_at_once_and_goes_on_after_it(
    world: World, model: Model, directory: Path
) -> None:
    def play(request: Request) -> Reply:
        return http_error(401, error("invalid_api_key", "Incorrect API key provided"))

    model(play, request_max_retries=0, stream_max_retries=0)
    requests = write_requests(world, 5)
    ended = batch(world, requests, "--output-dir", directory, "--jobs", "1")
    assert (ended.returncode, codes(directory)) == (3, {}), ended.stderr
    assert "auth_required: " in ended.stderr
    assert f"go on with: codex-counsel batch --resume {directory}" in ended.stderr

    server = model(reply)
    ended = batch(world, "--resume", directory)
    assert (ended.returncode, len(codes(directory))) == (0, 5), ended.stderr
    assert asked(server) == dict.fromkeys(range(5), 1)


@pytest.mark.parametrize("moment", [0, 3, 7])
def test_after_a_kill_a_resume_asks_nothing_twice(
    world: World, model: Model, directory: Path, moment: int
) -> None:
    """Killed while the first runs go on, and after some results."""
    server = model(reply)
    requests = write_requests(world, 10)
    with started(world, requests, "--output-dir", directory, "--jobs", "3") as process:
        server.asked(1)
        until_recorded(directory, moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    ended = batch(world, "--resume", directory)
    lost = [code for code in codes(directory).values() if code]
    if lost:
        # The kill came between the record of a job and the start of its worker.
        assert (lost, ended.returncode) == (["process_died"], 5), ended.stderr
        ended = batch(world, "--resume", directory, "--retry-lost")
    assert (ended.returncode, codes(directory)) == (
        0,
        dict.fromkeys(names(range(10))),
    ), ended.stderr
    assert asked(server) == dict.fromkeys(range(10), 1)


def test_a_resume_joins_the_runs_that_go_on(
    world: World, model: Model, directory: Path
) -> None:
    gate = hold(say("It is there."))
    server = model(gate)
    requests = write_requests(world, 3)
    with started(world, requests, "--output-dir", directory, "--jobs", "3") as process:
        server.asked(3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with started(world, "--resume", directory, "--jobs", "1") as process:
        assert process.stderr
        assert "3 items in" in process.stderr.readline()
        gate.release.set()
        assert process.wait(60) == 0
    assert codes(directory) == dict.fromkeys(names(range(3)))
    assert asked(server) == dict.fromkeys(range(3), 1)


def test_of_two_resumes_at_once_one_is_refused_by_name(
    world: World, model: Model, directory: Path
) -> None:
    gate = hold(say("It is there."))
    server = model(gate)
    requests = write_requests(world, 2)
    with started(world, requests, "--output-dir", directory) as process:
        server.asked(2)
        second = batch(world, "--resume", directory)
        assert second.returncode == 3
        assert f"Another process works on the batch in {directory}" in second.stderr
        gate.release.set()
        assert process.wait(60) == 0
    assert asked(server) == dict.fromkeys(range(2), 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_after_one_interrupt_what_runs_ends_and_is_recorded(
    world: World, model: Model, directory: Path, number: signal.Signals
) -> None:
    gate = hold(say("It is there."))
    server = model(gate)
    requests = write_requests(world, 6)
    with started(world, requests, "--output-dir", directory, "--jobs", "2") as process:
        server.asked(2)
        process.send_signal(number)
        gate.release.set()
        assert process.wait(60) == 130
        assert process.stderr
        told = process.stderr.read()
    assert codes(directory) == dict.fromkeys(names(range(2)))
    if number == signal.SIGINT:
        assert "The batch was interrupted; 4 items without a result" in told
        assert f"go on with: codex-counsel batch --resume {directory}" in told
    # A result is recorded before its worker has ended.
    until(lambda: not living(str(world.base)))


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)])
def test_after_two_interrupts_nothing_runs_and_a_resume_asks_again(
    world: World,
    model: Model,
    directory: Path,
    signals: tuple[signal.Signals, ...],
) -> None:
    gate = hold(say("It is there."))
    server = model(gate)
    requests = write_requests(world, 4)
    with started(world, requests, "--output-dir", directory, "--jobs", "2") as process:
        server.asked(2)
        process.send_signal(signals[0])
        for number in signals[1:]:
            # Two signals at once may arrive as one.
            assert process.stderr
            assert any("Ctrl-C again ends it" in line for line in process.stderr)
            process.send_signal(number)
        assert process.wait(60) == 130
    until(lambda: not living(str(world.base)))
    assert codes(directory) == {}
    gate.release.set()
    ended = batch(world, "--resume", directory)
    assert (ended.returncode, len(codes(directory))) == (0, 4), ended.stderr


def test_in_a_terminal_ctrl_c_lets_running_items_end(
    world: World, model: Model, directory: Path
) -> None:
    gate = hold(say("It is there."))
    server = model(gate)
    requests = write_requests(world, 4)
    arguments = ("batch", str(requests), "--output-dir", str(directory), "--jobs", "2")
    with terminal(world, *arguments) as opened:
        server.asked(2)
        opened.wait_for("0/4 done, 2 running")
        opened.type(CTRL_C)
        opened.wait_for("Ctrl-C again ends it now")
        opened.wait_for("stopping")
        gate.release.set()
        assert opened.finish() == 130
    assert codes(directory) == dict.fromkeys(names(range(2)))


def test_a_worker_that_is_killed_is_lost_by_name_and_repeated_only_if_asked(
    world: World, model: Model, directory: Path
) -> None:
    gate = hold(say("It is there."))
    server = model(lambda request: gate if number_of(request) == 1 else reply(request))
    requests = write_requests(world, 3)
    with started(world, requests, "--output-dir", directory, "--jobs", "3") as process:
        until_recorded(directory, 2)
        server.asked(3)
        os.kill(_worker_of(world, "item 1"), signal.SIGKILL)
        assert process.wait(60) == 5
    assert codes(directory)["item-1"] == "process_died"
    assert batch(world, "--resume", directory).returncode == 5
    assert asked(server) == dict.fromkeys(range(3), 1)

    gate.release.set()
    ended = batch(world, "--resume", directory, "--retry-lost")
    assert (ended.returncode, codes(directory)) == (
        0,
        dict.fromkeys(names(range(3))),
    ), ended.stderr
    assert asked(server)[1] == 2


def test_what_failed_is_asked_again_if_that_is_asked_for_and_no_answer_is(
    world: World, model: Model, directory: Path
) -> None:
    is_mended: list[bool] = []

    def play(request: Request) -> Reply:
        if number_of(request) == 1 and not is_mended:
            return http_error(400, error("bad_thing", "No such thing."))
        if request.schema is not None:
            return say(json.dumps(reviews.reply()))
        return reply(request)

    server = model(play, request_max_retries=0)
    requests = write_requests(world, 2)
    plan = {"plan_path": "plan.md", "focus": "item 2"}
    with requests.open("a", encoding="utf-8") as file:
        line = {"id": "item-2", "kind": "plan", "arguments": plan}
        file.write(f"{json.dumps(line)}\n")
    ended = batch(world, requests, "--output-dir", directory)
    found = codes(directory)
    assert (ended.returncode, found["item-0"], bool(found["item-1"])) == (5, None, True)
    assert found["item-2"] == "invalid_arguments"
    assert asked(server) == {0: 1, 1: 1}

    again = batch(world, "--resume", directory, "--retry-failed", "--dry-run")
    assert "2 requests would be asked" in again.stdout
    is_mended.append(True)
    (world.workspace / "plan.md").write_text("1. Do item 2.\n")
    again = batch(world, "--resume", directory, "--retry-failed")
    assert (again.returncode, codes(directory)) == (
        0,
        dict.fromkeys(names(range(3))),
    ), again.stderr
    assert asked(server) == {0: 1, 1: 2, 2: 1}

    other = batch(world, requests, "--retry-failed")
    assert (other.returncode, "belongs to --resume" in other.stderr) == (2, True)


def _worker_of(world: World, words: str) -> int:
    for path in (world.state / "jobs").iterdir():
        if words in json.loads((path / "spec.json").read_bytes())["subject"]:
            state = path / "state.json"
            return int(json.loads(state.read_bytes())["worker"][0])
    raise AssertionError(words)


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=100k,mode=0700 none "$OUT" || exit 77
"$@" "$REQUESTS" --output-dir "$OUT" --jobs 2
echo "ended with $?"
cat "$OUT/results.jsonl" > "$KEPT"
echo second >> "$KEPT"
mount -o remount,size=10m "$OUT"
"$@" --resume "$OUT"
echo "ended with $?"
cat "$OUT/results.jsonl" >> "$KEPT"
"""


def test_a_disk_without_room_for_results_stops_the_batch_and_loses_none(
    world: World, model: Model, directory: Path
) -> None:
    server = model(lambda request: say(f"It is {number_of(request)}. " * 1500))
    requests = write_requests(world, 8)
    directory.mkdir(mode=0o700)
    script = world.base / "disk.sh"
    script.write_text(ON_A_SMALL_DISK, "utf-8")
    kept = world.base / "kept"
    ended = subprocess.run(
        [*NAMESPACE, "sh", str(script), *argv_of()],
        env={
            **world.env,
            "OUT": str(directory),
            "KEPT": str(kept),
            "REQUESTS": str(requests),
        },
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip("this machine mounts no file system without privileges")
    first, second = kept.read_text("utf-8").split("second\n")
    found = [json.loads(line)["id"] for line in first.splitlines()]
    assert 0 < len(found) < 8, ended.stderr
    assert "storage_failed: The batch in " in ended.stderr
    found = sorted(json.loads(line)["id"] for line in second.splitlines())
    assert (
        found,
        ended.stdout.count("ended with 3"),
        ended.stdout.count("ended with 0"),
    ) == (
        names(range(8)),
        1,
        1,
    )
    assert asked(server) == dict.fromkeys(range(8), 1)


def test_a_batch_ends_at_its_tokens_and_goes_on_with_more_of_them(
    world: World, model: Model, directory: Path
) -> None:
    server = model(reply)
    requests = write_requests(world, 5)
    flags = ("--jobs", "1", "--max-tokens", "200")
    ended = batch(world, requests, "--output-dir", directory, *flags)
    assert (ended.returncode, len(codes(directory))) == (8, 2), ended.stderr
    assert "--max-tokens is 200; 3 items without a result" in ended.stderr
    assert "Resume it with a higher --max-tokens" in ended.stderr

    ended = batch(world, "--resume", directory)
    assert (ended.returncode, len(server.requests)) == (8, 2), ended.stderr
    ended = batch(world, "--resume", directory, "--max-tokens", "1000000")
    assert (ended.returncode, len(codes(directory))) == (0, 5), ended.stderr
    assert asked(server) == dict.fromkeys(range(5), 1)


def test_a_batch_ends_at_its_failures(
    world: World, model: Model, directory: Path
) -> None:
    def play(request: Request) -> Reply:
        return http_error(400, error("bad_thing", "No such thing."))

    server = model(play, request_max_retries=0)
    requests = write_requests(world, 5)
    flags = ("--jobs", "1", "--max-failures", "2")
    ended = batch(world, requests, "--output-dir", directory, *flags)
    assert (ended.returncode, len(codes(directory))) == (5, 2), ended.stderr
    assert "2 items have failed; --max-failures is 2; 3 items without" in ended.stderr
    assert len(server.requests) == 2


CODE = "def last(rows):\n    return rows[len(rows)]\n"
FOUND_FAULT = {
    "summary": "It reads past the end.",
    "verdict": "fail",
    "confidence": "high",
    "findings": [
        {
            "severity": "medium",
            "category": "logic",
            "title": "Reads past the end",
            "file": "rows.py",
            "line": 2,
            "line_end": 2,
            "evidence": "return rows[len(rows)]",
            "risk": "It always fails.",
            "recommendation": "Subtract one.",
            "replace_from": None,
            "replace_to": None,
            "replacement": None,
        }
    ],
    "questions": [],
    "assumptions": [],
    "next_steps": [],
}


@pytest.fixture
def reviewed(world: World, model: Model) -> Loopback:
    """Three commits after the first, of which the first two touch the faulty file."""
    repository = world.repository
    repository.git("init", "-q", "-b", "main")
    (world.workspace / "rows.py").write_text("", "utf-8")
    repository.commit("Begin")
    for number, text in enumerate((CODE, f"{CODE}\n\nLIMIT = 10\n")):
        (world.workspace / "rows.py").write_text(text, "utf-8")
        repository.commit(f"Change {number}")
    (world.workspace / "other.py").write_text("LIMIT = 10\n", "utf-8")
    repository.commit("Add another file")

    clean = {
        **FOUND_FAULT,
        "verdict": "pass",
        "summary": "It is fine.",
        "findings": [],
    }

    def play(request: Request) -> Reply:
        if "rows[len(rows)]" in request.prompt:
            return say(FOUND_FAULT)
        return say(clean)

    return model(play)


def test_a_fault_that_two_commits_have_is_one_in_every_format(
    world: World, reviewed: Loopback, directory: Path
) -> None:
    flags = ("--fail-on", "medium", "--output", f"junit={world.base / 'junit.xml'}")
    argv = ("--review-range", "HEAD~3..HEAD", "--output-dir", directory, *flags)
    ended = batch(world, *argv)
    assert ended.returncode == 1, ended.stderr
    assert "fail: 1 medium. 3 items: 3 completed." in ended.stdout
    assert "rows.py:2 (verified" in ended.stdout
    assert len(reviewed.requests) == 3

    sarif = json.loads((directory / "summary.sarif").read_text("utf-8"))
    titles = [row["message"]["text"] for row in sarif["runs"][0]["results"]]
    assert [title.count("Reads past the end") for title in titles] == [1]
    assert "Reads past the end" in (world.base / "junit.xml").read_text("utf-8")
    assert (directory / "summary.md").read_text("utf-8").count("### medium: ") == 1

    # The results are there: another format costs nothing, nor another bar, which then holds.
    for bar, exit_code in {(): 1, ("--fail-on", "high"): 0, ("--json",): 0}.items():
        again = batch(world, "--resume", directory, *bar)
        assert (again.returncode, len(reviewed.requests)) == (exit_code, 3)
    wire = json.loads(again.stdout)
    assert (wire["verdict"], len(wire["findings"])) == ("fail", 1)


def test_a_batch_without_its_cluster_goes_on_where_it_is_told_to(
    world: World, model: Model, directory: Path
) -> None:
    server = model(reply)
    requests = write_requests(world, 2)
    flags = ("--output-dir", directory, "--cluster", "nowhere")
    # Nodes get repositories: elsewhere nothing is begun.
    for arguments in (flags, (*flags, "--dry-run")):
        refused = batch(world, requests, *arguments)
        assert (refused.returncode, directory.exists()) == (2, False)
        assert "line 1: repo: " in refused.stderr
        assert "in no git repository" in refused.stderr

    world.repository.begin()
    ended = batch(world, requests, *flags)
    assert (ended.returncode, len(server.requests)) == (3, 0)
    assert ended.stderr.count("cluster_failed: ") == 1
    command = f"codex-counsel batch --resume {directory}"
    assert f"Go on with: {command}" in ended.stderr
    ended = batch(world, "--resume", directory, "--cluster", "none")
    assert (ended.returncode, len(codes(directory))) == (0, 2), ended.stderr


def test_an_interrupt_ends_the_wait_for_a_cluster_and_names_the_way_on(
    world: World, directory: Path
) -> None:
    world.repository.begin()
    requests = write_requests(world, 2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        flags = ("--output-dir", directory, "--cluster", address)
        with started(world, requests, *flags) as process:
            connection, _ = mute.accept()
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
            connection.close()
    assert process.returncode == 130, stderr
    assert "nothing was sent" in stderr
    assert f"Go on with: codex-counsel batch --resume {directory}" in stderr


def test_an_interrupt_while_the_summary_is_made_names_the_way_on(
    world: World, model: Model, directory: Path
) -> None:
    server = model([say("It is there.")])
    requests = write_requests(world, 1)
    ended = batch(world, requests, "--output-dir", directory)
    assert ended.returncode == 0, ended.stderr
    (directory / "summary.md").unlink()
    with full_pipe() as (drain, full):
        process = subprocess.Popen(
            argv_of("--resume", directory),
            env=world.env,
            cwd=world.workspace,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=obey,  # noqa: PLW1509  # what it calls takes no lock
        )
        until((directory / "summary.md").exists, 120)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        while "what to do" not in (line := process.stderr.readline()):
            assert line
        drain()
        process.communicate(timeout=60)
    assert (process.returncode, len(server.requests)) == (130, 1)
    assert f"Go on with: codex-counsel batch --resume {directory}" in line
    assert "again" not in line


@contextmanager
def full_pipe() -> Iterator[tuple[Callable[[], None], int]]:
    """A pipe that takes no more before it was drained, and its end for writing."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    size = 0
    with suppress(BlockingIOError):
        while True:
            size += os.write(writing, b" " * 4096)
    os.set_blocking(writing, True)

    def drain() -> None:
        left = size
        while left:
            left -= len(os.read(reading, left))

    try:
        yield drain, writing
    finally:
        os.close(reading)
        os.close(writing)


def test_a_batch_whose_directory_is_moved_away_goes_on_where_it_is_then(
    world: World, model: Model, directory: Path
) -> None:
    gate = hold(say("It is there."))
    server = model(gate)
    moved = world.base / "moved"
    flags = ("--output-dir", directory, "--jobs", "1")
    with started(world, write_requests(world, 3), *flags) as process:
        server.asked(1)
        directory.rename(moved)
        gate.release.set()
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 3, stderr
    assert "what to do: Put the directory back, or name it where it is now" in stderr
    ended = batch(world, "--resume", moved)
    assert (ended.returncode, codes(moved)) == (0, dict.fromkeys(names(range(3))))
    assert set(asked(server).values()) == {1}


def test_a_batch_whose_notes_nobody_reads_goes_on(
    world: World, model: Model, directory: Path
) -> None:
    model([say("It is there.")])
    requests = write_requests(world, 2)
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            argv_of(requests, "--output-dir", directory),
            env=world.env,
            cwd=world.workspace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=full,
            timeout=300,
            check=False,
        )
    assert ended.returncode == 0
    assert b"2 items: 2 completed." in ended.stdout
    assert codes(directory) == dict.fromkeys(names(range(2)))


def test_a_page_that_cannot_be_printed_is_printed_again_by_a_resume(
    world: World, model: Model, directory: Path
) -> None:
    model([say("It is there.")])
    requests = write_requests(world, 1)
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            argv_of(requests, "--output-dir", directory),
            env=world.env,
            cwd=world.workspace,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert ended.returncode == 3
    assert f"what to do: Go on with: codex-counsel batch --resume {directory}" in (
        ended.stderr
    )


def test_the_diffs_of_delegates_can_be_applied_after_the_batch(
    world: World, model: Model, directory: Path
) -> None:
    for name in ("shop", "bank"):
        repository = world.repository_at(world.base / name)
        repository.root.mkdir()
        repository.git("init", "-q", "-b", "main")
        (repository.root / "a.txt").write_text("a\n", "utf-8")
        repository.commit("Begin")
    added = patch("*** Begin Patch\n*** Add File: NEW.txt\n+new\n*** End Patch\n")

    def play(request: Request) -> Reply:
        if request.outputs:
            return say("I added it.")
        return added

    model(play)
    argv = ("--delegate", "Add NEW.txt", "--repos", "../shop,../bank")
    ended = batch(world, *argv, "--output-dir", directory)
    assert ended.returncode == 0, ended.stderr
    assert "apply a diff with: codex-counsel apply JOB" in ended.stdout
    for row in results(directory):
        applied = subprocess.run(
            [sys.executable, "-m", "codex_counsel", "apply", row["meta"]["job_id"][:8]],
            env=world.env,
            cwd=row["meta"]["workspace"]["root"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert applied.returncode == 0, applied.stderr
    for name in ("shop", "bank"):
        assert (world.base / name / "NEW.txt").read_text("utf-8") == "new\n"
