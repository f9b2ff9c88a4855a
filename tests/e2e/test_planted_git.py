"""Programs of the workspace that PATH leads to are not run as git, by any verb, worker or reader."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import (
    Apply,
    Delegate,
    DelegateDryRun,
    Status,
    parse,
)
from codex_counsel.jobs import recovery
from codex_counsel.loopback import Loopback, Request, hold, say, shell
from tests import reviews
from tests.conftest import World, consult, until, wait
from tests.e2e.runs import kill_worker
from tests.e2e.test_stop_gate import Session, finding, review

Model = Callable[..., Loopback]
FOLDERS = (".venv/bin", "node_modules/.bin", ".direnv/bin", "bin", ".")
"""Folders of a project that tools put on PATH."""


class Plant:
    """A recording git in every folder of the workspace that PATH leads to, in every way."""

    def __init__(self, world: World, path: str) -> None:
        self._mark = world.base / "rang"
        real = shutil.which("git", path=path)
        assert real
        text = f'#!/bin/sh\necho "$0 $*" >> {shlex.quote(str(self._mark))}\nexec {real} "$@"\n'
        for folder in FOLDERS:
            program = world.workspace / folder / "git"
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(text, "utf-8")
            program.chmod(0o755)

        outside = world.base / "outside"
        outside.mkdir()
        (outside / "git").symlink_to(world.workspace / "bin/git")
        linked = world.base / "linked"
        linked.symlink_to(world.workspace / "bin")
        elsewhere = world.base / "elsewhere"
        elsewhere.mkdir()
        shutil.copy(world.workspace / "bin/git", elsewhere)
        (world.workspace / "tools").symlink_to(elsewhere)
        entries = [
            *(str(world.workspace / folder) for folder in FOLDERS),
            *FOLDERS,
            "",
            str(linked),
            str(outside),
            str(world.workspace / "tools"),
        ]
        self.entries = [entry for entry in entries if entry.startswith("/")]
        self.path = os.pathsep.join([*entries, path])

    def rings(self) -> list[str]:
        """What ran since the last call."""
        if not self._mark.exists():
            return []
        lines = self._mark.read_text("utf-8").splitlines()
        self._mark.unlink()
        return lines


@pytest.fixture
def planted(each_release: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    """A world whose workspace is on PATH, of this process too: readers conclude with their own environment."""
    world = each_release
    world.repository.begin_with_work()
    world.repository.commit("work")
    world.repository.git("branch", "base", "HEAD~1")
    plant = Plant(world, os.environ["PATH"])
    (world.workspace / ".git/info/exclude").write_text(
        "git\n.venv\nnode_modules\n.direnv\nbin\ntools\n", "utf-8"
    )
    world.repository.write("app.py", "".join(f"line {n}\n" for n in range(40)))
    world.repository.git("add", "app.py")
    world.repository.write("notes.md", "mine too\n")
    monkeypatch.setenv("PATH", plant.path)
    monkeypatch.chdir(world.workspace)
    yield plant
    assert plant.rings() == []


def test_every_one_of_these_entries_leads_to_a_program_that_rings(
    planted: Plant,
) -> None:
    for entry in planted.entries:
        assert shutil.which("git", path=entry) == str(Path(entry, "git"))
        program = str(Path(entry, "git"))
        os.spawnv(os.P_WAIT, program, [program, "version"])
        assert planted.rings() == [f"{program} version"]


@pytest.mark.parametrize(
    "scope",
    [
        {"scope": "working_tree"},
        {"scope": "staged"},
        {"scope": "branch", "base": "base"},
        {"scope": "commit"},
        {"scope": "range", "range": "base..HEAD"},
        {"scope": "files", "paths": ["app.py"]},
    ],
    ids=lambda scope: scope["scope"],
)
def test_a_review_and_its_dry_run_run_none_of_them(
    planted: Plant, each_release: World, each_model: Model, scope: dict[str, Any]
) -> None:
    each_model(
        [say(reviews.reply({"evidence": "line 7", "line": 8}, verdict="concerns"))]
    )
    counsel = each_release.counsel()
    assert reviews.dry_run(counsel, **scope)["ok"]
    assert reviews.review(counsel, **scope)["ok"]
    assert planted.rings() == []


def test_a_consultation_and_what_costs_nothing_run_none_of_them(
    planted: Plant, each_release: World, each_model: Model
) -> None:
    each_model([shell("git status --short"), say("It is fine.")])
    counsel = each_release.counsel()
    assert counsel.status(parse(Status, {}))["ok"]
    assert counsel.models()["ok"]
    assert counsel.capabilities()["ok"]
    assert consult(counsel)["ok"]
    reviews.review_plan(counsel, plan="Change app.py.")
    assert planted.rings() == []


def delegate(world: World, **arguments: Any) -> str:
    counsel = world.counsel()
    handle = counsel.delegate(parse(Delegate, {"task": "Fix it.", **arguments}))
    wire = counsel.deliver(handle, wait(handle))
    assert wire["ok"], wire
    return str(wire["meta"]["job_id"])


def test_a_task_its_follow_up_and_applying_it_run_none_of_them(
    planted: Plant, each_release: World, each_model: Model
) -> None:
    world = each_release

    def script(request: Request) -> Any:
        if not request.outputs:
            return shell("sed -i 's/^line 2$/theirs/' app.py; echo x > new.txt")
        return say("Done.")

    each_model(script)
    counsel = world.counsel()
    preview = parse(DelegateDryRun, {"task": "Fix it."})
    assert counsel.delegate_dry_run(preview)["ok"]
    job = delegate(world)
    text = (world.workspace / "app.py").read_text("utf-8")
    # So that applying it needs a merge.
    world.repository.write("app.py", text.replace("line 33\n", "mine\n"))
    for arguments in ({"check_only": True}, {}, {"undo": True}):
        applied = counsel.apply(parse(Apply, {"job_id": job, **arguments}))
        assert applied["ok"]
        assert planted.rings() == []
    delegate(world, from_job=job)
    assert planted.rings() == []


@pytest.mark.parametrize("reader", ["result", "sweep"])
def test_a_reader_who_concludes_for_a_killed_worker_runs_none_of_them(
    planted: Plant, each_release: World, each_model: Model, reader: str
) -> None:
    gate = hold(say("Done."))
    each_model([shell("echo x > new.txt"), gate])
    counsel = each_release.counsel()
    request = parse(Delegate, {"task": "Fix it."})
    handle = counsel.delegate(request, background=True)
    assert gate.reached.wait(60)
    kill_worker(handle.job)
    if reader == "sweep":
        assert counsel.sweep() == 1
    wire = until(lambda: recovery.outcome(handle.job))
    gate.release.set()
    handle.release()
    assert [file["path"] for file in wire["files"]] == ["new.txt"]
    assert planted.rings() == []


def test_the_stop_gate_runs_none_of_them(
    world: World,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model([say(review(finding()))])
    session = Session(world, monkeypatch, capsys)
    plant = Plant(world, os.environ["PATH"])
    session.breaks()
    monkeypatch.setenv("PATH", plant.path)
    decision = session.stops()
    assert decision is not None
    assert decision["decision"] == "block"
    assert plant.rings() == []
