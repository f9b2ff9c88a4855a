"""A request packed on one machine, run on another, and its result taken where it was made: by command lines alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.loopback import say, shell
from tests.conftest import World
from tests.e2e.attempts import CHECK, RIGHT, WRONG, Cast
from tests.e2e.delegation import assert_unchanged
from tests.e2e.packs.machines import Machines
from tests.e2e.proving import BAD, CLAIM, GOOD, Prover, script
from tests.e2e.runs import assert_nothing_is_left
from tests.repositories import numbered_lines
from tests.reviews import reply

EDIT = shell("sed -i 's/41/42/' app.py && echo made > made.txt")


def counsel(
    world: World, *arguments: str, codes: tuple[int, ...] = (0,)
) -> dict[str, Any]:
    """Run a verb that prints JSON, in the workspace, and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-m", "codex_counsel", *arguments, "--json"],
        env=world.env,
        cwd=world.workspace,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode in codes, result.stderr + result.stdout
    wire: dict[str, Any] = json.loads(result.stdout)
    return wire


def travel(machines: Machines, *request: str) -> dict[str, Any]:
    """Pack here, run there, take here; returns the result as it is shown here."""
    pack, result = machines.there.base / "x.pack", machines.there.base / "x.result"
    with assert_unchanged(machines.here.workspace):
        counsel(machines.here, "pack", *request, "-o", str(pack))
        # A review that found something ends with 1.
        counsel(machines.there, "run", str(pack), "-o", str(result), codes=(0, 1))
        taken = counsel(machines.here, "take", str(result))
    (row,) = taken["data"]["results"]
    assert row["new"] is True
    assert_nothing_is_left(machines.here)
    return counsel(machines.here, "result", row["job_id"], codes=(0, 1))


def names(machines: Machines, wire: dict[str, Any]) -> bool:
    """Whether what is shown names a path of the machine that ran it."""
    return str(machines.there.base) in json.dumps(wire)


def test_a_question_travels_with_the_files_as_they_are(
    each_machines: Machines,
) -> None:
    machines = each_machines
    machines.here.repository.begin_with_work()
    server = machines.model([shell("cat lib/util.py; pwd"), say("It adds.")])
    wire = travel(machines, "consult", "What does it do?")
    assert wire["answer"] == "It adds."
    (output,) = server.requests[-1].outputs
    assert "x = 3" in output
    assert str(machines.here.base) not in server.requests[0].prompt
    assert wire["meta"]["workspace"]["root"] == str(machines.here.workspace)
    assert not names(machines, wire)
    (row,) = counsel(machines.here, "jobs")["data"]["jobs"]
    assert row["job_id"] == wire["meta"]["job_id"]
    assert row["subject"] == "What does it do?"
    assert len(server.requests) == 2


def test_a_task_travels_and_its_diff_is_applied_and_taken_back(
    each_machines: Machines,
) -> None:
    machines = each_machines
    workspace = machines.here.repository.begin_with_work().root
    machines.model([EDIT, say("It is 42 now.")])
    wire = travel(machines, "delegate", "Make it 42.", "--check", CHECK)
    assert wire["check"]["status"] == "passed"
    assert wire["base_sha"] == machines.here.repository.head
    assert not names(machines, wire)
    with assert_unchanged(workspace):
        counsel(machines.here, "apply", wire["meta"]["job_id"], "--check-only")
    before = (workspace / "lib/util.py").read_bytes()
    counsel(machines.here, "apply", wire["meta"]["job_id"])
    assert (workspace / "app.py").read_text() == "answer = 42\n"
    assert (workspace / "made.txt").is_file()
    assert (workspace / "lib/util.py").read_bytes() == before
    counsel(machines.here, "apply", "--undo", wire["meta"]["job_id"])
    assert (workspace / "app.py").read_text() == "answer = 41\n"


def test_several_attempts_travel_and_are_compared_here(machines: Machines) -> None:
    machines.here.repository.begin_with_work()
    cast = Cast({"a": RIGHT, "b": WRONG})
    machines.model(cast)
    wire = travel(
        machines,
        *("delegate", "Make it 42.", "--check", CHECK, "--attempts", "2"),
        *("--models", "a", "--models", "b"),
    )
    assert [row["rank"] for row in wire["attempts"]] == [1, 2]
    compared = counsel(machines.here, "compare", wire["meta"]["job_id"])
    assert len(compared["data"]["jobs"]) == 2


def test_a_review_of_commits_is_known_by_its_findings_here(
    each_machines: Machines,
) -> None:
    machines = each_machines
    repository = machines.here.repository.begin()
    repository.git("checkout", "-q", "-b", "seven")
    repository.write("app.py", numbered_lines(l7="seven = 70"))
    repository.commit("seven")
    finding = {"severity": "high"}
    machines.model([say(reply(finding, verdict="fail"))])
    wire = travel(machines, "review", "--scope", "branch", "--base", "main")
    (found,) = wire["findings"]
    assert found["grounded"] == "verified"
    assert found["known"] == "new"
    assert wire["verdict"] == "fail"
    assert not names(machines, wire)
    listed = counsel(machines.here, "findings")["data"]["findings"]
    assert [row["id"] for row in listed] == [found["id"]]
    rejecting = ("findings", "reject", found["id"], "--reason", "it is meant so")
    counsel(machines.here, *rejecting)
    again = travel(machines, "review", "--scope", "branch", "--base", "main")
    assert again["findings"][0]["known"] == "rejected"
    assert again["verdict"] == "pass"
    counsel(machines.here, "check", again["meta"]["job_id"])


@pytest.mark.parametrize(
    "asked",
    [
        ["--scope", "commit", "--commit", "HEAD~1"],
        ["--scope", "range", "--range", "HEAD~2..HEAD"],
        ["--scope", "staged"],
        ["--scope", "working_tree"],
        ["--scope", "files", "lib", "logo.bin", "link", "new.txt"],
    ],
    ids=lambda asked: asked[1],
)
def test_what_was_reviewed_is_what_was_packed_in_each_scope(
    machines: Machines, asked: list[str]
) -> None:
    repository = machines.here.repository.init()
    for number in (3, 7):
        repository.write("seven.py", numbered_lines(**{f"l{number}": "seven = 70"}))
        repository.commit(f"change {number}")
    repository.begin_with_work()
    (machines.here.workspace / "link").symlink_to("new.txt")
    machines.model([say(reply(verdict="pass"))])
    assert travel(machines, "review", *asked)["coverage"]["files"]


def test_a_pull_request_travels_and_what_is_found_in_it_is_known_here(
    machines: Machines,
) -> None:
    repository = machines.here.repository.begin()
    hub = machines.here.base / "hub.git"
    repository.git("checkout", "-q", "-b", "seven")
    repository.write("app.py", numbered_lines(l7="seven = 70"))
    repository.commit("seven")
    repository.git("clone", "-q", "--bare", str(repository.root), str(hub))
    repository.git("--git-dir", str(hub), "symbolic-ref", "HEAD", "refs/heads/main")
    repository.git("push", "-q", str(hub), "seven:refs/pull/7/head", ":seven")
    repository.git("checkout", "-q", "main")
    repository.git("branch", "-q", "-D", "seven")
    repository.git("remote", "add", "origin", f"file://{hub}")
    repository.git("fetch", "-q", "origin")
    machines.model([say(reply({"severity": "high"}, verdict="fail"))])
    wire = travel(machines, "review", "--pr", "7")
    (found,) = wire["findings"]
    assert found["grounded"] == "verified"
    assert wire["meta"]["scope"]["kind"] == "pull_request"


def test_a_review_of_uncommitted_work_is_checked_against_the_files_here(
    machines: Machines,
) -> None:
    machines.here.repository.begin_changed()
    machines.model([say(reply({"severity": "medium"}, verdict="concerns"))])
    wire = travel(machines, "review")
    (found,) = wire["findings"]
    assert found["grounded"] == "verified"
    assert "warnings" not in wire["meta"]


def test_a_plan_travels_with_the_files_that_it_is_about(
    each_machines: Machines,
) -> None:
    machines = each_machines
    repository = machines.here.repository.begin()
    plan = repository.write("plan.md", "1. Delete the seventh line of app.py.\n")
    finding = {
        "section": "1",
        "file": None,
        "line": None,
        "evidence": "Delete the seventh line of app.py.",
    }
    machines.model([say(reply(finding, verdict="concerns"))])
    wire = travel(machines, "plan", str(plan))
    (found,) = wire["findings"]
    assert found["grounded"] == "verified"
    assert wire["verdict"] == "concerns"


def test_a_review_travels_with_its_proofs(machines: Machines) -> None:
    repository = machines.here.repository.init()
    repository.write("stats.py", GOOD)
    repository.commit("right")
    repository.write("stats.py", BAD)
    repository.commit("wrong")
    machines.model(script([CLAIM], Prover()))
    wire = travel(machines, "review", "--scope", "commit", "--prove", "high")
    (found,) = wire["findings"]
    assert found["proof"]["status"] == "proven"
    counsel(machines.here, "apply", found["proof"]["job_id"])
    assert Path(machines.here.workspace, "test_mean.py").is_file()


def test_one_machine_may_do_all_of_it(machines: Machines) -> None:
    machines.here.repository.begin_with_work()
    server = machines.model([EDIT, say("It is 42 now.")])
    machines.here.configure(server.config_toml())
    alone = Machines(machines.here, machines.here, [])
    wire = travel(alone, "delegate", "Make it 42.")
    counsel(machines.here, "apply", wire["meta"]["job_id"])
    used = counsel(machines.here, "usage", "--since", "1d")["data"]
    assert used["total"]["runs"] == 1
