"""Batches on a real Dask cluster: each item is asked once, whatever ends on the way."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from codex_counsel.loopback import (
    Reply,
    Request,
    error,
    hold,
    http_error,
    say,
    usage_limit,
)
from tests.conftest import living, until
from tests.e2e.batch.runs import (
    argv_of,
    asked,
    batch,
    codes,
    names,
    number_of,
    results,
    started,
    until_recorded,
    write_requests,
)
from tests.e2e.fleet.conftest import Fleet, answer
from tests.e2e.fleet.nodes import SECONDS, Node
from tests.e2e.runs import command_line
from tests.namespaces import NAMESPACE

pytestmark = pytest.mark.timeout(400)
DASK = re.compile("dask|spawn_main|resource_tracker")
"""In the command lines of what a `dask worker` consists of."""
LATER = str(Path(__file__).with_name("later_release.py"))
OLDER = str(Path(__file__).with_name("older_release.py"))

PATIENT = f"""
from codex_counsel.fleet import dispatcher
dispatcher.CANCEL_SECONDS = {SECONDS / 2}
"""
"""A client that cancels waits for a restarted worker as long as that may take beside other tests."""


def all_answered(count: int) -> dict[str, None]:
    return dict.fromkeys(names(range(count)))


def kept_foundations(node: Node) -> list[str]:
    folder = node.world.home / ".cache/codex-counsel/packs"
    return [path.name for path in folder.iterdir() if len(path.name) == 64]


def is_delivered(node: Node) -> bool:
    """Whether all jobs of the node are marked, and no result file is kept for the client."""
    results = list((node.world.state / "fleet/results").iterdir())
    return not results and all((job / "delivered").exists() for job in node.jobs)


def test_two_nodes_share_the_items_and_each_is_asked_once(fleet: Fleet) -> None:
    model = fleet.model()
    nodes = [fleet.add_node("one"), fleet.add_node("two")]
    ended = fleet.batch(write_requests(fleet.client, 8))
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(8)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(8), 1)
    answers = {row["id"]: row["answer"] for row in results(fleet.directory)}
    assert answers["item-5"] == "It is 5."
    assert all(node.jobs for node in nodes)
    assert sum(len(node.jobs) for node in nodes) == 8
    assert len({name for node in nodes for name in kept_foundations(node)}) == 1
    # A node is told of what was received, and may take a while to remove it.
    until(lambda: all(map(is_delivered, nodes)), SECONDS)
    left = {path.name for path in fleet.directory.iterdir()}
    assert not left & {"arriving", "dask", "packing"}


def test_a_result_of_a_node_is_a_job_of_this_user(fleet: Fleet) -> None:
    fleet.model()
    fleet.add_node("one")
    fleet.batch(write_requests(fleet.client, 1))
    (row,) = results(fleet.directory)
    shown = command_line(fleet.client, "result", row["meta"]["job_id"])
    assert "It is 0." in shown.stdout, shown.stderr


def test_a_node_that_has_the_repository_is_not_sent_it_again(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    fleet.add_node("one")
    with fleet.started(write_requests(fleet.client, 6)) as process:
        model.asked(2, SECONDS)
        process.kill()
    (tar,) = (fleet.directory / "foundations").glob("*.tar")
    tar.write_bytes(b"")
    gate.release.set()
    ended = fleet.resume()
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(6)), (
        ended.stderr
    )


def test_a_run_outlives_the_dask_worker_that_started_it(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    node = fleet.add_node("one")
    with fleet.started(write_requests(fleet.client, 4)) as process:
        model.asked(2, SECONDS)
        for pid in node.worker_pids():
            os.kill(pid, signal.SIGKILL)
        gate.release.set()
        assert process.wait(SECONDS) == 0
        assert process.stderr
        told = process.stderr.read()
    assert f"node {node.id[:8]} is away" in told
    assert codes(fleet.directory) == all_answered(4)
    assert asked(model) == dict.fromkeys(range(4), 1)


def test_items_of_a_node_that_stays_away_are_lost_by_name_until_it_is_back(
    fleet: Fleet,
) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(lambda r: gate if number_of(r) in {0, 1} else answer(r))
    first = fleet.add_node("one")
    with fleet.started(write_requests(fleet.client, 6), "--lost-after", "1") as process:
        model.asked(2, SECONDS)
        first.kill()
        fleet.add_node("two")
        assert process.wait(SECONDS) == 5
        assert process.stderr
        told = process.stderr.read()
    assert f"item-0 is lost: Node {first.id} was away for 1 s" in told
    found = codes(fleet.directory)
    lost = {name for name, code in found.items() if code == "worker_lost"}
    # One more item may have been sent ahead to the node that is gone.
    assert lost >= {"item-0", "item-1"}
    assert len(lost) <= 3
    assert len(found) == 6

    gate.release.set()
    fleet.dask.start_worker(first)
    ended = fleet.resume("--lost-after", "150")
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(6)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(6), 1)


def test_items_go_to_another_node_while_one_is_awaited(
    fleet: Fleet,
) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(lambda r: gate if number_of(r) == 0 else answer(r))
    first = fleet.add_node("one", slots=1)
    flags = ("--lost-after", "300")
    with fleet.started(write_requests(fleet.client, 4), *flags) as process:
        model.asked(1, SECONDS)
        first.kill()
        fleet.add_node("two", slots=1)
        # Two were on their way to the first node; the other two need no more than the second.
        until_recorded(fleet.directory, 2, SECONDS)
        fleet.dask.start_worker(first)
        gate.release.set()
        assert process.wait(SECONDS) == 0
    assert codes(fleet.directory) == all_answered(4)
    assert asked(model) == dict.fromkeys(range(4), 1)


def test_a_lost_item_runs_on_another_node_only_if_that_is_asked(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(lambda r: answer(r) if model.requests[2:] else gate)
    first = fleet.add_node("one")
    with fleet.started(write_requests(fleet.client, 2), "--lost-after", "1") as process:
        model.asked(2, SECONDS)
        first.kill()
        assert process.wait(SECONDS) == 5
    fleet.add_node("two")
    assert fleet.resume("--lost-after", "1").returncode == 5
    assert len(model.requests) == 2

    ended = fleet.resume("--retry-lost")
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(2)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(2), 2)


def test_the_batch_waits_for_a_scheduler_that_is_started_again(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    nodes = [fleet.add_node("one"), fleet.add_node("two")]
    with fleet.started(write_requests(fleet.client, 8)) as process:
        model.asked(4, SECONDS)
        assert fleet.dask.scheduler
        fleet.dask.scheduler.kill()
        fleet.dask.scheduler.wait()
        for node in nodes:
            node.kill()
        gate.release.set()
        assert process.stderr
        assert any("the Dask scheduler is gone" in line for line in process.stderr)
        fleet.dask.start_scheduler()
        for node in nodes:
            fleet.dask.start_worker(node)
        assert process.wait(SECONDS) == 0
        told = process.stderr.read()
    assert "the Dask scheduler is there again" in told
    assert codes(fleet.directory) == all_answered(8)
    assert asked(model) == dict.fromkeys(range(8), 1)


def test_after_a_kill_of_the_client_a_resume_asks_the_nodes_first(
    fleet: Fleet,
) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(lambda r: gate if number_of(r) > 2 else answer(r))
    fleet.add_node("one")
    fleet.add_node("two")
    with fleet.started(write_requests(fleet.client, 10)) as process:
        until_recorded(fleet.directory, 3, SECONDS)
        model.asked(7, SECONDS)
        process.kill()
    gate.release.set()
    ended = fleet.resume()
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(10)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(10), 1)


def test_a_damaged_place_is_lost_by_name_and_writes_nowhere(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    node = fleet.add_node("one", slots=1)
    with fleet.started(write_requests(fleet.client, 1)) as process:
        model.asked(1, SECONDS)
        process.kill()
    place = {"id": "item-0", "node": f"{node.id}/../../requests.jsonl"}
    (fleet.directory / "places.jsonl").write_text(f"{json.dumps(place)}\n")
    gate.release.set()
    asked_for = (fleet.directory / "requests.jsonl").read_bytes()
    assert fleet.resume().returncode == 5
    assert codes(fleet.directory) == {"item-0": "worker_lost"}
    assert (fleet.directory / "requests.jsonl").read_bytes() == asked_for
    assert len(model.requests) == 1


def test_a_cancel_leaves_nothing_on_any_node_and_a_resume_asks_again(
    fleet: Fleet,
) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(lambda r: gate if number_of(r) else answer(r))
    nodes = [fleet.add_node("one"), fleet.add_node("two")]
    with fleet.started(write_requests(fleet.client, 10)) as process:
        until_recorded(fleet.directory, 1, SECONDS)
        model.asked(5, SECONDS)
        process.terminate()
        assert process.wait(SECONDS) == 130
    until(lambda: not _runs(nodes), SECONDS)
    assert codes(fleet.directory) == all_answered(1)
    count = len(model.requests)

    gate.release.set()
    ended = fleet.resume()
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(10)), (
        ended.stderr
    )
    assert len(model.requests) == count + 9


def _runs(nodes: list[Node]) -> list[str]:
    """The processes of the jobs of these nodes."""
    commands = [command for node in nodes for command in living(str(node.world.base))]
    return [command for command in commands if not DASK.search(command)]


def test_a_cancel_reaches_a_node_whose_dask_worker_is_just_restarted(
    fleet: Fleet,
) -> None:
    model = fleet.model(hold(say("It is there.")))
    node = fleet.add_node("one")
    requests = write_requests(fleet.client, 3)
    with fleet.started(requests, before=PATIENT) as process:
        model.asked(2, SECONDS)
        for pid in node.worker_pids():
            os.kill(pid, signal.SIGKILL)
        process.terminate()
        assert process.wait(SECONDS) == 130
        assert process.stderr
        assert "did not answer" not in process.stderr.read()
    until(lambda: not _runs([node]), SECONDS)


def test_a_node_that_does_not_answer_a_cancel_is_named(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    node = fleet.add_node("one")
    with fleet.started(write_requests(fleet.client, 2)) as process:
        model.asked(2, SECONDS)
        node.kill()
        process.terminate()
        assert process.wait(SECONDS) == 130
        assert process.stderr
        told = process.stderr.read()
    assert f"node {node.id[:8]} did not answer: 2 runs may go on there" in told

    gate.release.set()
    fleet.dask.start_worker(node)
    ended = fleet.resume()
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(2)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(2), 1)


def test_a_cluster_of_this_machine_runs_the_items_as_jobs_of_this_user(
    fleet: Fleet,
) -> None:
    model = fleet.model()
    fleet.client.configure(model.config_toml())
    requests = write_requests(fleet.client, 5)
    own = ("--cluster", "local", "--jobs", "2", "--output-dir", fleet.directory)
    ended = batch(fleet.client, requests, *own)
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(5)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(5), 1)
    assert not list(fleet.client.base.rglob("dask-scratch-space"))


def test_runs_that_were_begun_without_a_cluster_are_joined(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    fleet.client.configure(model.config_toml())
    requests = write_requests(fleet.client, 4)
    own = ("--jobs", "2", "--output-dir", fleet.directory)
    with started(fleet.client, requests, *own) as process:
        model.asked(2, SECONDS)
        process.kill()
    node = fleet.add_node("one")
    gate.release.set()
    ended = fleet.resume("--cluster", fleet.dask.address)
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(4)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(4), 1)
    assert len(node.jobs) == 2


def test_an_item_that_met_a_limit_is_asked_again_after_the_reset(fleet: Fleet) -> None:
    met: list[int] = []

    def play(request: Request) -> Reply:
        if not met:
            met.append(number_of(request))
            return usage_limit("plus", int(time.time()) + 15)
        return answer(request)

    fleet.model(play)
    fleet.add_node("one", slots=1)
    ended = fleet.batch(write_requests(fleet.client, 3))
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(3)), (
        ended.stderr
    )
    assert "batch: paused until " in ended.stderr


def test_a_node_without_a_login_stops_the_batch_until_it_has_one(fleet: Fleet) -> None:
    model = fleet.model()
    node = fleet.add_node("one")
    node.world.configure("")
    ended = fleet.batch(write_requests(fleet.client, 3))
    assert (ended.returncode, codes(fleet.directory)) == (3, {}), ended.stderr
    assert "auth_required: " in ended.stderr
    assert model.requests == []

    node.world.configure(model.config_toml())
    ended = fleet.resume()
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(3)), (
        ended.stderr
    )
    assert asked(model) == dict.fromkeys(range(3), 1)


def test_workers_that_cannot_be_used_are_named_and_the_others_do_the_work(
    fleet: Fleet,
) -> None:
    model = fleet.model()
    older = fleet.add_node("older", preload=OLDER)
    without = fleet.add_node("without", slots=0)
    until(lambda: older.worker_pids() and without.worker_pids(), SECONDS)
    log = fleet.dask.base / "scheduler.log"
    until(lambda: log.read_text().count("Register worker") >= 2, SECONDS)
    node = fleet.add_node("one", preload=LATER)
    ended = fleet.batch(write_requests(fleet.client, 3))
    assert ended.returncode == 0, ended.stderr
    assert "the Dask worker one has codex-counsel 99.0, and this is" in ended.stderr
    assert "the Dask worker older is not used: it has codex-counsel" in ended.stderr
    assert "the Dask worker without is not used: its resource codex" in ended.stderr
    assert (len(node.jobs), older.jobs, without.jobs) == (3, [], [])
    assert asked(model) == dict.fromkeys(range(3), 1)


def test_a_scheduler_that_is_not_there_is_an_error_before_anything_is_sent(
    fleet: Fleet,
) -> None:
    requests = write_requests(fleet.client, 1)
    own = ("--cluster", "tcp://127.0.0.1:9", "--output-dir", fleet.directory)
    ended = batch(fleet.client, requests, *own)
    told = "tcp://127.0.0.1:9 does not answer: nobody listens there"
    assert (ended.returncode, told in ended.stderr) == (3, True), ended.stderr
    assert "--cluster ADDRESS for another scheduler" in ended.stderr
    assert results(fleet.directory) == []


def test_an_answer_of_more_than_a_message_holds_comes_over_whole(fleet: Fleet) -> None:
    text = "It is a long answer.\n" * 300_000
    fleet.model(say(text))
    fleet.add_node("one")
    ended = fleet.batch(write_requests(fleet.client, 1))
    (row,) = results(fleet.directory)
    assert (ended.returncode, row["answer"].strip()) == (0, text.strip()), ended.stderr


def test_an_item_that_cannot_be_packed_fails_beside_the_others(fleet: Fleet) -> None:
    fleet.model()
    fleet.add_node("one")
    requests = write_requests(fleet.client, 1)
    arguments = {"scope": "range", "range": "nowhere..HEAD"}
    line = {"id": "bad", "kind": "review", "arguments": arguments}
    with requests.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(line)}\n")
    ended = fleet.batch(requests)
    assert codes(fleet.directory) == {"item-0": None, "bad": "unknown_ref"}
    assert ended.returncode == 5, ended.stderr


def test_a_paid_answer_that_does_not_fit_here_is_kept_as_a_file(fleet: Fleet) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    node = fleet.add_node("one")
    workspace, away = fleet.client.workspace, fleet.client.base / "away"
    with fleet.started(write_requests(fleet.client, 1)) as process:
        model.asked(1, SECONDS)
        workspace.rename(away)
        workspace.mkdir()
        fleet.client.repository.init()
        gate.release.set()
        assert process.wait(SECONDS) == 5
    (row,) = results(fleet.directory)
    assert row["error"]["code"] == "workspace_invalid"
    (kept,) = (fleet.directory / "refused").iterdir()
    assert row["error"]["repair"].endswith(f"codex-counsel take {kept}")
    (job,) = node.jobs
    assert not (job / "delivered").exists()

    shutil.rmtree(workspace)
    away.rename(workspace)
    taken = command_line(fleet.client, "take", str(kept))
    assert (taken.returncode, "It is there." in taken.stdout) == (0, True), taken.stderr
    ended = fleet.resume("--retry-failed")
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(1)), (
        ended.stderr
    )
    assert len(model.requests) == 1


def test_what_failed_on_a_node_is_asked_again_if_that_is_asked_for(
    fleet: Fleet,
) -> None:
    met: list[int] = []

    def play(request: Request) -> Reply:
        if number_of(request) == 1 and not met:
            met.append(1)
            return http_error(400, error("bad_thing", "No such thing."))
        return answer(request)

    model = fleet.model(play)
    fleet.add_node("one")
    ended = fleet.batch(write_requests(fleet.client, 3))
    assert (ended.returncode, len(codes(fleet.directory))) == (5, 3), ended.stderr
    assert fleet.resume().returncode == 5
    assert asked(model) == dict.fromkeys(range(3), 1)

    ended = fleet.resume("--retry-failed")
    assert (ended.returncode, codes(fleet.directory)) == (0, all_answered(3)), (
        ended.stderr
    )
    assert asked(model) == {**dict.fromkeys(range(3), 1), 1: 2}


def test_a_resume_takes_the_answer_that_did_not_fit_without_its_node(
    fleet: Fleet,
) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    node = fleet.add_node("one")
    workspace, away = fleet.client.workspace, fleet.client.base / "away"
    with fleet.started(write_requests(fleet.client, 1)) as process:
        model.asked(1, SECONDS)
        workspace.rename(away)
        gate.release.set()
        assert process.wait(SECONDS) == 5
    assert codes(fleet.directory) == {"item-0": "workspace_invalid"}
    node.kill()

    # The other directory that is there by now is not the one that was packed.
    workspace.mkdir()
    fleet.client.repository.init()
    ended = fleet.resume("--cluster", "none")
    assert codes(fleet.directory) == {"item-0": "workspace_invalid"}, ended.stderr

    shutil.rmtree(workspace)
    away.rename(workspace)
    ended = fleet.resume("--cluster", "none")
    assert ended.returncode == 0, ended.stderr
    (row,) = results(fleet.directory)
    assert row["answer"] == "It is there."
    assert list((fleet.directory / "refused").iterdir()) == []
    assert len(model.requests) == 1


def test_without_the_directory_of_a_batch_only_what_was_fetched_is_said_to_be_here(
    fleet: Fleet,
) -> None:
    gate = hold(say("It is there."))
    model = fleet.model(gate)
    fleet.add_node("one")
    with fleet.started(write_requests(fleet.client, 1)) as process:
        model.asked(1, SECONDS)
        shutil.rmtree(fleet.directory)
        gate.release.set()
        _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 3
    assert "the answers that were fetched from nodes are in" in stderr


ON_A_SMALL_DISK = """
mount -t tmpfs -o size=200k,mode=0700 none "$OUT" || exit 77
"$@" "$REQUESTS" --output-dir "$OUT" --cluster "$CLUSTER"
echo "ended with $?"
mount -o remount,size=50m "$OUT"
"$@" --resume "$OUT"
echo "ended with $?"
cat "$OUT/results.jsonl" > "$KEPT"
"""


def test_a_client_without_room_for_an_answer_stops_and_fetches_it_later(
    fleet: Fleet,
) -> None:
    model = fleet.model(say("It is a long answer.\n" * 20_000))
    fleet.add_node("one")
    requests = write_requests(fleet.client, 3)
    fleet.directory.mkdir(mode=0o700)
    script, kept = fleet.client.base / "disk.sh", fleet.client.base / "kept"
    script.write_text(ON_A_SMALL_DISK, "utf-8")
    paths = {"OUT": fleet.directory, "KEPT": kept, "REQUESTS": requests}
    ended = subprocess.run(
        [*NAMESPACE, "sh", str(script), *argv_of()],
        env={
            **fleet.client.env,
            **{name: str(path) for name, path in paths.items()},
            "CLUSTER": fleet.dask.address,
        },
        cwd=fleet.client.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if ended.returncode == 77 or "unshare" in ended.stderr:
        pytest.skip("this machine mounts no file system without privileges")
    assert ended.stdout.count("ended with 3") == 1, ended.stderr
    assert "storage_failed" in ended.stderr
    assert ended.stdout.count("ended with 0") == 1, ended.stderr
    found = sorted(json.loads(line)["id"] for line in kept.read_text().splitlines())
    assert found == names(range(3))
    assert asked(model) == dict.fromkeys(range(3), 1)


def test_of_two_machines_with_copies_of_one_state_directory_one_is_used(
    fleet: Fleet,
) -> None:
    model = fleet.model()
    first = fleet.add_node("one")
    fleet.batch(write_requests(fleet.client, 1))
    second = fleet.add_node("two")
    # Whether its worker was asked already, this is the id it has from now on.
    copy = second.world.state / "fleet" / "node"
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    second.world.state.chmod(0o700)
    copy.write_text(first.id)
    log = fleet.dask.base / "scheduler.log"
    until(lambda: log.read_text().count("Register worker") >= 2, SECONDS)

    again = fleet.client.base / "again"
    requests = write_requests(fleet.client, 6)
    own = ("--cluster", fleet.dask.address, "--output-dir", again)
    ended = batch(fleet.client, requests, *own)
    assert (ended.returncode, codes(again)) == (0, all_answered(6)), ended.stderr
    assert "another machine has the same state directory, or a copy" in ended.stderr
    assert (len(first.jobs), len(second.jobs)) in {(7, 0), (1, 6)}
    assert asked(model) == {**dict.fromkeys(range(6), 1), 0: 2}
