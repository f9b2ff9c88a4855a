"""Taking results under stress: killed half-way, a full disk, many at once; and the keys by which they are found."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from codex_counsel.contract.request import Consult, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.findings.ledger import Ledger
from codex_counsel.jobs import idempotency, ledger, retention
from codex_counsel.jobs.store import Store
from codex_counsel.loopback import failed, say, shell
from codex_counsel.packs.sent import Sent, note_sent, read_sent
from codex_counsel.packs.take import id_here
from tests.conftest import World, consult
from tests.e2e.attempts import RIGHT, WRONG, Cast
from tests.e2e.delegation import delegate
from tests.e2e.packs.machines import PACK, Machines
from tests.e2e.runs import command_line
from tests.reviews import reply, review

DAY = 86_400


@pytest.fixture
def attempts(machines: Machines) -> Path:
    """The result of a task of two attempts: three jobs that belong together."""
    machines.there.repository.begin_with_work()
    machines.copy_repository()
    cast = Cast({"a": RIGHT, "b": WRONG})
    machines.model(cast)
    wire = delegate(machines.there, **cast.arguments)
    machines.note("codex_delegate")
    return machines.result(wire["meta"]["job_id"])


def parts(machines: Machines, file: Path) -> tuple[str, set[str]]:
    """The ids that the job and its attempts have here."""
    store = Store(machines.there.state)
    children = store.job(file.stem).spec().children
    return id_here(PACK, file.stem), {
        id_here(PACK, file.stem, child) for child in children
    }


def sweep(machines: Machines) -> None:
    """What a sweep does hours later."""
    jobs = machines.here.state / "jobs"
    for hidden in jobs.glob(".*"):
        os.utime(hidden, (0, 0))
    retention.evict(Store(machines.here.state), 30 * DAY, 50)


def test_a_call_that_is_killed_at_any_moment_leaves_the_whole_job_or_none(
    machines: Machines, attempts: Path
) -> None:
    job_id, children = parts(machines, attempts)
    argv = [sys.executable, "-m", "codex_counsel", "take", str(attempts)]
    here = machines.here
    begun = time.monotonic()
    subprocess.run(argv, env=here.env, cwd=here.workspace, check=True, stdout=-3)
    whole = time.monotonic() - begun
    store = Store(here.state)
    chance = random.Random(16)
    for _ in range(12):
        retention.drop(store, store.job(job_id))
        process = subprocess.Popen(argv, env=here.env, cwd=here.workspace, stdout=-3)
        # Where the first call took long for another reason, this one ends before.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.3, 1.0) * whole)
        process.send_signal(signal.SIGKILL)
        process.wait()
        is_there = (store.directory / job_id).is_dir()
        if is_there:
            assert children <= set(machines.jobs)
            assert store.job(job_id).result() is not None
        sweep(machines)
        assert set(machines.jobs) in (set(), {job_id, *children})
        machines.take(attempts)
        assert set(machines.jobs) == {job_id, *children}
    counted = ledger.read(here.state, 0).entries
    assert len(counted) == 2


def test_attempts_whose_job_was_never_published_are_removed_by_the_sweep(
    machines: Machines, attempts: Path
) -> None:
    job_id, children = parts(machines, attempts)
    machines.take(attempts)
    jobs = machines.here.state / "jobs"
    hidden = jobs / ".birth-0123456789abcdef"
    hidden.mkdir()
    (jobs / job_id).rename(hidden / job_id)
    assert set(machines.jobs) == {hidden.name, *children}
    sweep(machines)
    assert machines.jobs == []


def test_without_room_on_the_disk_nothing_is_kept_and_the_call_can_be_made_again(
    machines: Machines, attempts: Path
) -> None:
    argv = [sys.executable, "-m", "codex_counsel", "take", str(attempts)]
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (2_000, 2_000))
    result = subprocess.run(
        argv,
        env=machines.here.env,
        cwd=machines.here.workspace,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert "storage_failed" in result.stderr
    assert machines.jobs == []
    assert machines.take(attempts).is_new


def test_of_many_calls_at_once_one_takes_the_result(
    machines: Machines, attempts: Path
) -> None:
    with ThreadPoolExecutor(6) as pool:
        taken = list(pool.map(machines.take, [attempts] * 6))
    assert sum(each.is_new for each in taken) == 1
    assert len({each.job_id for each in taken}) == 1
    job_id, children = parts(machines, attempts)
    assert set(machines.jobs) == {job_id, *children}


def test_a_review_that_is_taken_again_after_a_kill_is_on_record_once(
    machines: Machines,
) -> None:
    machines.there.repository.begin_changed()
    machines.there.repository.commit("seven")
    machines.copy_repository()
    machines.model([say(reply({"severity": "high"}, verdict="fail"))])
    wire = review(machines.there.counsel(), scope="commit")
    machines.note(wire["tool"])
    file = machines.result(wire["meta"]["job_id"])
    taken = machines.take(file)
    # As a kill leaves it between the record of the findings and the job.
    store = Store(machines.here.state)
    (store.directory / taken.job_id).rename(machines.here.base / "lost")
    again = machines.take(file)
    assert again.is_new
    assert again.envelope["findings"] == taken.envelope["findings"]
    findings = Ledger.of(machines.here.state, machines.here.workspace / ".git")
    assert len(findings.read().entries) == 1


# --- keys


def test_a_call_with_the_key_of_a_pack_gets_the_run_that_was_taken(
    machines: Machines,
) -> None:
    machines.model([say("It is fine.")])
    wire = consult(machines.there.counsel())
    machines.note("codex_consult", key="mine")
    taken = machines.take(machines.result(wire["meta"]["job_id"]))
    again = consult(machines.here.counsel(), idempotency_key="mine")
    assert again["meta"]["job_id"] == taken.job_id


def test_a_call_with_the_key_and_other_arguments_is_refused_where_they_are_known(
    machines: Machines,
) -> None:
    machines.model([say("It is fine.")])
    wire = consult(machines.there.counsel())
    asked = parse(Consult, {"question": "Is it fine?", "idempotency_key": "mine"})
    arguments = idempotency.digest(asked.canonical(), str(machines.here.workspace))
    machines.note("codex_consult", key="mine", arguments=arguments)
    taken = machines.take(machines.result(wire["meta"]["job_id"]))
    counsel = machines.here.counsel()
    assert consult(counsel, idempotency_key="mine")["meta"]["job_id"] == taken.job_id
    with pytest.raises(CounselError) as caught:
        consult(counsel, "Is it bad?", idempotency_key="mine")
    assert caught.value.code == Code.IDEMPOTENCY_CONFLICT


def test_a_batch_finds_by_its_key_what_was_taken_even_if_it_had_failed(
    machines: Machines,
) -> None:
    machines.there.repository.begin()
    machines.copy_repository()
    machines.model([failed("server_error")])
    wire = delegate(machines.there)
    taken = machines.bring(wire, key="e" * 32)
    store = Store(machines.here.state)
    job = idempotency.find(store, "codex_delegate", "e" * 32)
    assert job is not None
    assert job.id == taken.job_id


def test_a_result_that_was_taken_by_hand_gets_the_key_of_the_batch_later(
    machines: Machines,
) -> None:
    machines.model([say("It is fine.")])
    wire = consult(machines.there.counsel())
    taken = machines.bring(wire)
    again = machines.bring(wire, key="e" * 32)
    assert not again.is_new
    job = idempotency.find(Store(machines.here.state), "codex_consult", "e" * 32)
    assert job is not None
    assert job.id == taken.job_id


# --- going on


def test_a_task_goes_on_from_a_diff_that_was_taken_in_a_thread_of_its_own(
    machines: Machines,
) -> None:
    machines.there.repository.begin_with_work()
    machines.copy_repository()
    server = machines.model([shell("sed -i 's/41/42/' app.py"), say("It is 42 now.")])
    taken = machines.bring(delegate(machines.there))
    machines.here.configure(server.config_toml())
    wire = delegate(machines.here, "And more.", from_job=taken.job_id)
    assert wire["ok"], wire
    assert wire["meta"]["session_id"] != taken.envelope["meta"]["session_id"]


def test_a_run_under_the_same_state_directory_is_taken_and_counted_once(
    world: World, machines: Machines
) -> None:
    machines.model([say("It is fine.")])
    wire = consult(machines.there.counsel())
    same = Machines(machines.there, machines.there, [])
    taken = same.bring(wire)
    assert taken.is_new
    assert taken.job_id != wire["meta"]["job_id"]
    assert len(ledger.read(machines.there.state, 0).entries) == 1
    shown = command_line(machines.there, "result", taken.job_id)
    assert "It is fine." in shown.stdout


# --- packs that were sent


def test_what_is_noted_of_a_pack_is_forgotten_after_its_time(world: World) -> None:
    store = Store(world.state)
    store.prepare()
    sent = Sent(tool="codex_consult", workspace="/w", subject="s", key="k")
    for pack in ("a" * 32, "b" * 32):
        note_sent(world.state, pack, sent)
    old = time.time() - 100 * DAY
    os.utime(world.state / "sent" / f"{'a' * 32}.json", (old, old))
    retention.evict(store, 30 * DAY, 50)
    assert read_sent(world.state, "a" * 32) is None
    assert read_sent(world.state, "b" * 32) == sent
    (world.state / "sent" / f"{'b' * 32}.json").write_text('{"tool": 7}')
    assert read_sent(world.state, "b" * 32) is None
