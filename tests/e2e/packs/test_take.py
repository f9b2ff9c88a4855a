"""Results of another machine, taken into the jobs of this one: all verbs treat them as if they had run here."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from codex_counsel.contract.request import Apply, JobList, JobResult, parse
from codex_counsel.errors import CATALOG, Code, CounselError
from codex_counsel.jobs import ledger, retention
from codex_counsel.jobs.store import Store
from codex_counsel.loopback import failed, say, shell
from codex_counsel.packs.take import id_here
from codex_counsel.prepare.context import Memory
from codex_counsel.services import checking, comparison
from codex_counsel.services.take import take_file
from tests.conftest import consult
from tests.e2e.attempts import CHECK, RIGHT, WRONG, Cast
from tests.e2e.delegation import assert_unchanged, delegate
from tests.e2e.packs.machines import PACK, Machines
from tests.e2e.proving import BAD, CLAIM, Prover, begin, prove, script
from tests.e2e.runs import assert_nothing_is_left, command_line, fetch
from tests.repositories import numbered_lines
from tests.reviews import reply, review

EDIT = shell("sed -i 's/41/42/' app.py && echo made > made.txt && chmod +x made.txt")


def test_a_consultation_is_listed_and_delivered_here_as_if_it_had_run_here(
    each_machines: Machines,
) -> None:
    machines = each_machines
    there, here = machines.there, machines.here
    machines.model([say("It is fine.")])
    asked = consult(there.counsel())
    taken = machines.bring(asked)
    counsel = here.counsel()
    assert taken.is_new
    (row,) = counsel.job_list(parse(JobList, {}))["data"]["jobs"]
    assert row["job_id"] == taken.job_id
    assert row["status"] == "completed"
    assert row["workspace"] == str(here.workspace)
    assert row["subject"] == "As it was asked"
    assert row["tokens"]["output"] == asked["meta"]["usage"]["output"]
    job = Store(here.state).job(taken.job_id)
    assert not job.is_delivered()
    page = fetch(counsel, parse(JobResult, {"job_id": taken.job_id}))
    assert page["answer"] == "It is fine."
    assert page["meta"]["session_id"] == asked["meta"]["session_id"]
    assert page["meta"]["workspace"]["root"] == str(here.workspace)
    assert str(there.base) not in json.dumps(page)
    assert job.is_delivered()
    assert_nothing_is_left(here)


def test_a_diff_is_applied_here_and_taken_back(each_machines: Machines) -> None:
    machines = each_machines
    machines.there.repository.begin_with_work()
    machines.copy_repository()
    machines.model([EDIT, say("It is 42 now.")])
    wire = delegate(machines.there, check=CHECK)
    taken = machines.bring(wire)
    envelope = taken.envelope
    assert envelope["diff"] == wire["diff"]
    assert envelope["files"] == wire["files"]
    assert envelope["check"]["status"] == "passed"
    assert Path(envelope["diff_path"]).read_text() == wire["diff"]
    workspace = machines.here.workspace
    counsel = machines.here.counsel()
    with assert_unchanged(workspace):
        counsel.apply(parse(Apply, {"job_id": taken.job_id, "check_only": True}))
    counsel.apply(parse(Apply, {"job_id": taken.job_id}))
    assert (workspace / "app.py").read_text() == "answer = 42\n"
    assert (workspace / "made.txt").stat().st_mode & 0o111
    counsel.apply(parse(Apply, {"job_id": taken.job_id, "undo": True}))
    assert (workspace / "app.py").read_text() == "answer = 41\n"
    assert not (workspace / "made.txt").exists()


def test_a_file_that_changed_here_meanwhile_is_merged(machines: Machines) -> None:
    machines.there.repository.begin()
    machines.copy_repository()
    machines.model([shell("sed -i 's/line_18 = 18/line_18 = 0/' app.py"), say("Done.")])
    taken = machines.bring(delegate(machines.there))
    file = machines.here.workspace / "app.py"
    file.write_text(numbered_lines(l2="mine = 2"))
    applied = machines.here.counsel().apply(parse(Apply, {"job_id": taken.job_id}))
    assert applied["data"]["merged"] == ["app.py"]
    assert file.read_text() == numbered_lines(l2="mine = 2", l18="line_18 = 0")


def test_several_attempts_are_compared_here(machines: Machines) -> None:
    machines.there.repository.begin_with_work()
    machines.copy_repository()
    cast = Cast({"a": RIGHT, "b": WRONG}, preferred="why 42")
    machines.model(cast)
    wire = delegate(machines.there, check=CHECK, judge=True, **cast.arguments)
    taken = machines.bring(wire)
    rows = taken.envelope["attempts"]
    here = [{**row, "job_id": ""} for row in rows]
    assert here == [{**row, "job_id": ""} for row in wire["attempts"]]
    assert [row["status"] for row in rows] == ["completed", "completed"]
    store = Store(machines.here.state)
    compared = comparison.compare(store, [taken.job_id])["data"]
    assert {row["job_id"] for row in compared["jobs"]} == {
        row["job_id"] for row in rows
    }
    machines.here.counsel().apply(parse(Apply, {"job_id": rows[1]["job_id"]}))
    assert "43" in (machines.here.workspace / "app.py").read_text()
    listed = machines.here.counsel().job_list(parse(JobList, {}))["data"]["jobs"]
    assert len(listed) == 4
    retention.drop(store, store.job(taken.job_id))
    assert [name for name in machines.jobs if not name.startswith(".")] == []


def test_findings_get_their_state_from_the_ledger_here(machines: Machines) -> None:
    machines.there.repository.begin_changed()
    machines.there.repository.commit("seven")
    machines.copy_repository()
    finding = {"severity": "high", "title": "The seventh line is wrong"}
    machines.model([say(reply(finding, verdict="fail"))])
    wire = review(machines.there.counsel(), scope="commit")
    taken = machines.bring(wire)
    (found,) = taken.envelope["findings"]
    assert found["known"] == "new"
    assert found["grounded"] == "verified"
    assert found["id"] == wire["findings"][0]["id"]
    assert taken.envelope["verdict"] == "fail"
    rejected = command_line(
        machines.here, "findings", "reject", found["id"], "--reason", "it is meant so"
    )
    assert rejected.returncode == 0, rejected.stderr
    machines.note(wire["tool"], "cd" * 16)
    again = machines.take(machines.result(wire["meta"]["job_id"], "cd" * 16))
    (known,) = again.envelope["findings"]
    assert known["known"] == "rejected"
    assert again.envelope["verdict"] == "pass"
    checked = checking.read_review(Store(machines.here.state), again.job_id)
    assert checked["verdict"] == "pass"


def test_proofs_come_with_their_review(machines: Machines) -> None:
    begin(machines.there)
    machines.there.repository.git("commit", "-qam", "wrong")
    machines.copy_repository()
    machines.model(script([CLAIM], Prover()))
    wire = prove(machines.there, scope="commit")
    taken = machines.bring(wire)
    (finding,) = taken.envelope["findings"]
    assert finding["grounded"] == "proven"
    proof = finding["proof"]
    assert proof["status"] == "proven"
    assert "def test_of_two" in proof["patch"]
    machines.here.counsel().apply(parse(Apply, {"job_id": proof["job_id"]}))
    assert (machines.here.workspace / "test_mean.py").is_file()
    assert (machines.here.workspace / "stats.py").read_text() == BAD


def test_a_run_is_counted_once_and_at_its_own_time(machines: Machines) -> None:
    machines.model([say("It is fine.")])
    asked = consult(machines.there.counsel())
    taken = machines.bring(asked)
    machines.take(machines.result(asked["meta"]["job_id"]))
    there = ledger.read(machines.there.state, 0).entries
    here = ledger.read(machines.here.state, 0).entries
    (ran,) = there.values()
    (counted,) = here.values()
    assert counted.job_id == taken.job_id
    assert counted.usage == ran.usage
    assert abs(counted.ended - ran.ended) <= 2


def test_taking_twice_changes_nothing_and_another_result_of_the_job_is_refused(
    machines: Machines,
) -> None:
    machines.model([say("It is fine."), say("It is not.")])
    asked = consult(machines.there.counsel())
    job_id = asked["meta"]["job_id"]
    first = machines.bring(asked)
    again = machines.take(machines.result(job_id, events=True))
    assert not again.is_new
    assert again.envelope == first.envelope
    stored = machines.there.state / "jobs" / job_id / "result.json"
    stored.write_text(stored.read_text().replace("It is fine.", "It is not."))
    with pytest.raises(CounselError, match="taken before") as caught:
        machines.take(machines.result(job_id))
    assert caught.value.code == Code.PACK_INVALID
    assert machines.jobs == [first.job_id]
    assert first.job_id == id_here(PACK, job_id)


def test_a_batch_looks_once_whether_the_repository_is_the_one_that_was_packed(
    machines: Machines,
) -> None:
    machines.there.repository.begin()
    machines.copy_repository()
    machines.model([say("It is fine.")])
    here = machines.here
    batch = replace(here.counsel().context, memory=Memory())
    root = str(here.workspace)
    jobs = [consult(machines.there.counsel())["meta"]["job_id"] for _ in range(3)]
    first, second, third = (machines.result(job, secrets.token_hex(16)) for job in jobs)
    assert (
        take_file(batch, first, workspace_root=root).envelope["answer"] == "It is fine."
    )
    (here.workspace / ".git").rename(here.base / "git")
    assert (
        take_file(batch, second, workspace_root=root).envelope["answer"]
        == "It is fine."
    )
    with pytest.raises(CounselError) as error:
        take_file(here.counsel().context, third, workspace_root=root)
    assert error.value.code in (Code.WORKSPACE_INVALID, Code.NOT_A_GIT_REPO)


def test_a_failure_is_taken_with_its_reason(machines: Machines) -> None:
    machines.there.repository.begin()
    machines.copy_repository()
    machines.model([failed("server_error")])
    wire = delegate(machines.there)
    taken = machines.bring(wire)
    assert taken.envelope["error"]["code"] == wire["error"]["code"]
    assert not taken.envelope["ok"]


# --- the command line


def test_the_command_line_takes_several_files_and_names_the_one_that_is_refused(
    machines: Machines,
) -> None:
    machines.model([say("It is fine.")])
    first = consult(machines.there.counsel())
    machines.note("codex_consult")
    good = machines.result(first["meta"]["job_id"])
    bad = machines.there.base / "bad.result"
    bad.write_bytes(good.read_bytes()[:-2000])
    done = command_line(machines.here, "take", str(good))
    assert done.returncode == 0, done.stderr
    assert "1 taken" in done.stdout
    both = command_line(machines.here, "take", "--json", str(bad), str(good))
    assert both.returncode == CATALOG[Code.PACK_INVALID].exit_code
    report = json.loads(both.stdout)
    refused, known = report["data"]["results"]
    assert refused["code"] == "pack_invalid"
    assert known["new"] is False
    assert report["summary"] == "0 taken, 1 taken before, 1 refused"
    listed = command_line(machines.here, "take", str(bad), str(good)).stdout
    assert listed.count("pack_invalid") == 1
    assert "  what to do: Make it again" in listed
    alone = command_line(machines.here, "take", str(bad))
    assert alone.returncode == CATALOG[Code.PACK_INVALID].exit_code
    assert "pack_invalid" in alone.stderr
    assert_nothing_is_left(machines.here)


def test_a_result_comes_by_standard_input_too(machines: Machines) -> None:
    machines.model([say("It is fine.")])
    wire = consult(machines.there.counsel())
    machines.note("codex_consult")
    done = subprocess.run(
        [sys.executable, "-m", "codex_counsel", "take", "-", "--json"],
        input=machines.result(wire["meta"]["job_id"]).read_bytes(),
        env=machines.here.env,
        cwd=machines.here.workspace,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["data"]["results"]
    assert row["new"] is True
    shown = command_line(machines.here, "result", row["job_id"])
    assert "It is fine." in shown.stdout
