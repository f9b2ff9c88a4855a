"""One key, one run: in one process or in two, now or later."""

from __future__ import annotations

import errno
import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.errors import CounselError
from codex_counsel.jobs import idempotency, launcher
from codex_counsel.jobs.handle import Handle
from codex_counsel.loopback import Loopback, failed, hold, say
from codex_counsel.services.counsel import Counsel
from tests.conftest import World, consult, start_consult, until, wait

Model = Callable[..., Loopback]
ASKER = """
import json, os, sys
from pathlib import Path
from codex_counsel.contract.request import Consult, parse
from codex_counsel.services.counsel import Counsel
from tests.conftest import wait
counsel = Counsel(dict(os.environ), Path(sys.argv[1]))
print("up", flush=True)
sys.stdin.readline()
handle = counsel.consult(parse(Consult, {"question": "Is it fine?", "idempotency_key": "k"}))
print(handle.job.id, flush=True)
print(json.dumps(wait(handle)["answer"]))
"""


def ask(
    counsel: Counsel, key: str = "k", question: str = "Is it fine?", **arguments: Any
) -> Handle:
    return start_consult(counsel, question, idempotency_key=key, **arguments)


def asker(world: World) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", ASKER, str(world.workspace)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(
        argv, env=world.env, text=True, encoding="utf-8", cwd=".", **pipes
    )  # type: ignore[call-overload]
    assert isinstance(process, subprocess.Popen)
    return process


def test_the_same_key_and_arguments_are_the_same_run_now_and_later(
    world: World, model: Model
) -> None:
    gate = hold(say("Once."))
    server = model(gate)
    counsel = world.counsel()
    first = ask(counsel)
    joined = ask(counsel)
    assert joined.job.id == first.job.id
    gate.release.set()
    assert wait(first) == wait(joined)
    assert wait(ask(world.counsel()))["answer"] == "Once."
    assert len(server.requests) == 1
    another = ask(counsel, "another")
    assert another.job.id != first.job.id
    wait(another)


def test_the_same_key_for_other_arguments_is_a_conflict(
    world: World, model: Model
) -> None:
    model([say("Once.")])
    counsel = world.counsel()
    first = ask(counsel)
    for more in (
        {"question": "Another?"},
        {"effort": "high"},
        {"workspace_root": str(world.temp)},
    ):
        with pytest.raises(CounselError) as caught:
            ask(counsel, **more)
        assert caught.value.code == "idempotency_conflict"
        assert first.job.id in caught.value.message
    with pytest.raises(CounselError, match="idempotency_conflict"):
        ask(world.counsel(CLAUDE_PROJECT_DIR=str(world.temp)))
    wait(first)


def test_a_run_that_failed_or_was_cancelled_is_not_replayed(
    world: World, model: Model
) -> None:
    model([failed("invalid_prompt")])
    counsel = world.counsel()
    first = ask(counsel)
    assert wait(first)["status"] == "failed"
    gate = hold(say("Held."))
    model(gate)
    second = ask(counsel)
    assert second.job.id != first.job.id
    assert counsel.store.cancel(second.job)["status"] == "cancelled"
    assert wait(second)["status"] == "cancelled"
    model([say("At last.")])
    third = ask(counsel, question="Asked differently?")
    assert wait(third)["answer"] == "At last."
    assert len({first.job.id, second.job.id, third.job.id}) == 3


def test_one_key_in_many_threads_and_two_processes_at_once_is_one_run(
    world: World, model: Model
) -> None:
    gate = hold(say("Once."))
    server = model(gate)
    askers = [asker(world) for _ in range(2)]
    for process in askers:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
    for process in askers:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    counsel = world.counsel()
    with ThreadPoolExecutor(4) as pool:
        handles = list(pool.map(lambda _: ask(counsel), range(4)))
    ids = {handle.job.id for handle in handles}
    ids |= {process.stdout.readline().strip() for process in askers if process.stdout}
    gate.release.set()
    assert [wait(handle)["answer"] for handle in handles] == ["Once."] * 4
    answers = [process.communicate(timeout=30)[0].strip() for process in askers]
    assert answers == [json.dumps("Once.")] * 2
    assert len(ids) == 1
    assert len(server.requests) == 1


def test_a_run_that_someone_joined_outlives_the_process_that_began_it(
    world: World, model: Model
) -> None:
    gate = hold(say("For the second."))
    model(gate)
    process = asker(world)
    process.stdin and process.stdin.write("go\n")
    process.stdin and process.stdin.flush()
    assert gate.reached.wait(60)
    joined = ask(world.counsel())
    assert joined.detached
    process.kill()
    process.communicate()
    until(lambda: joined.job.state().detached)
    gate.release.set()
    assert wait(joined)["answer"] == "For the second."


def test_a_run_that_is_joined_before_its_worker_is_up_outlives_its_launcher(
    world: World, model: Model
) -> None:
    gate = hold(say("For the second."))
    model(gate)
    counsel = world.counsel()
    first, joined = ask(counsel), ask(counsel)
    first.release()
    gate.release.set()
    assert wait(joined)["answer"] == "For the second."


def test_a_key_that_nothing_can_be_read_of_begins_anew(
    world: World, model: Model
) -> None:
    model([say("Again.")])
    counsel = world.counsel()
    first = ask(counsel)
    wait(first)
    (key,) = (
        file for file in (world.state / "keys").iterdir() if file.suffix != ".lock"
    )
    for damage in (
        "",
        "[]",
        "{}",
        '{"job_id": 5}',
        '{"job_id": "../../x", "arguments": ""}',
    ):
        key.write_text(damage)
        again = ask(counsel)
        assert wait(again)["answer"] == "Again."
        assert again.job.id != first.job.id


def test_a_key_whose_run_is_being_started_elsewhere_holds_up_no_other_and_its_own_callers_not_for_ever(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "KEY_PATIENCE", 0.1)
    model([say("Once.")])
    counsel = world.counsel()
    wait(ask(counsel))
    (lock,) = (world.state / "keys").glob("*.lock")
    with lock.open("rb") as held, (world.state / "keys" / "lock").open("wb") as old:
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.flock(old, fcntl.LOCK_EX)
        with pytest.raises(CounselError, match="Another session is starting") as caught:
            ask(counsel)
        assert caught.value.code == "session_busy"
        wait(ask(counsel, "another"))
    assert wait(ask(counsel))["answer"] == "Once."


def test_a_run_whose_key_cannot_be_written_down_is_not_started(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = model([say("Never.")])

    def write(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(idempotency, "write_atomically", write)
    with pytest.raises(CounselError, match="needs the state directory") as caught:
        ask(world.counsel())
    assert caught.value.code == "storage_failed"
    assert list(world.counsel().store.jobs()) == []
    assert server.requests == []


LAUNCHER = """
import os, signal, sys
from pathlib import Path
from codex_counsel.contract.request import Consult, parse
from codex_counsel.jobs import launcher
from codex_counsel.services.counsel import Counsel

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv[2]
if moment == "note":
    launcher.launch = die
elif moment == "directory":
    launcher.lock_file = die
elif moment == "publish":
    launcher._spawn = die
elif moment == "spawn":
    launcher.Handle = die
request = parse(Consult, {"question": "Is it fine?", "idempotency_key": "k"})
Counsel(dict(os.environ), Path(sys.argv[1])).consult(request)
die()
"""


@pytest.mark.parametrize("moment", ["note", "directory", "publish", "spawn", "launch"])
def test_a_caller_killed_after_any_step_of_a_launch_leaves_a_key_that_is_paid_once(
    world: World, model: Model, moment: str
) -> None:
    server = model([say("Once.")])
    argv = [sys.executable, "-c", LAUNCHER, str(world.workspace), moment]
    killed = subprocess.run(argv, env=world.env, check=False)
    assert killed.returncode == -signal.SIGKILL
    again = ask(world.counsel())
    assert wait(again)["answer"] == "Once."
    assert again.is_joined == (moment in ("spawn", "launch"))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(errno.EMFILE, "resource_limit"), (errno.EIO, "storage_failed")],
)
def test_a_note_that_cannot_be_opened_is_not_taken_for_a_free_key(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch, error: int, code: str
) -> None:
    server = model([say("Once.")])
    counsel = world.counsel()
    wait(ask(counsel))

    def read_json(_: object) -> None:
        raise OSError(error, "no")

    with monkeypatch.context() as patched:
        patched.setattr(idempotency, "read_json", read_json)
        with pytest.raises(CounselError, match=code):
            ask(counsel)
    assert wait(ask(counsel))["answer"] == "Once."
    assert len(server.requests) == 1


def test_a_run_with_a_key_is_not_kept_in_a_private_directory(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = model([say("Never.")])

    def publish(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(launcher, "_publish", publish)
    with pytest.raises(CounselError, match="idempotency key need") as caught:
        ask(world.counsel())
    assert caught.value.code == "storage_failed"
    assert server.requests == []


def test_a_launch_that_fails_on_the_disk_under_a_key_is_a_failure_of_storage(
    world: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model([say("Never.")])

    def launch(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(launcher, "launch", launch)
    with pytest.raises(CounselError, match="needs the state directory") as caught:
        ask(world.counsel())
    assert caught.value.code == "storage_failed"


def test_without_a_key_every_claim_is_free_and_nothing_is_kept(
    world: World, model: Model
) -> None:
    model([say("Once."), say("Twice.")])
    counsel = world.counsel()
    first, second = consult(counsel), consult(counsel)
    assert first["meta"]["job_id"] != second["meta"]["job_id"]
    assert list((world.state / "keys").iterdir()) == []
