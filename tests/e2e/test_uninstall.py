"""`uninstall`: shows what is there, removes it after a question, and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_counsel.cli import run, uninstall
from codex_counsel.codex.windows import Reading, Readings, Window
from codex_counsel.contract.request import Delegate
from codex_counsel.fleet.tickets import Tickets
from codex_counsel.jobs import ledger
from codex_counsel.loopback import Loopback, hold, patch, say
from tests.conftest import World, consult, living, start_consult, until
from tests.e2e.runs import kill_worker
from tests.records import entry, ledger_of, put

Model = Callable[..., Loopback]
CACHE = ".cache/codex-counsel"
EDIT = "*** Begin Patch\n*** Add File: new.txt\n+new\n*** End Patch\n"


@pytest.fixture
def used(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A machine on which the gate and an environment of the plugin are installed."""
    for name in os.environ:
        if name.startswith(("CODEX_", "CLAUDE_", "XDG_")):
            monkeypatch.delenv(name)
    for name, value in world.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(world.workspace)
    world.repository.init().commit()
    settings(world).parent.mkdir()
    settings(world).write_text(json.dumps({"theme": "dark"}), "utf-8")
    assert run(["gate", "install"]) == 0
    environment(world).mkdir(parents=True)
    (environment(world) / "in-use").touch()
    return world


def settings(world: World) -> Path:
    return world.home / ".claude/settings.json"


def environment(world: World) -> Path:
    return world.home / ".claude/plugins/data/codex-codex-counsel/venv-0123"


def files_of(world: World) -> list[str]:
    """All files and directories of the user but the workspace, what Codex keeps, and what makes lists fast."""
    roots = (world.home, world.state)
    paths = [path for root in roots for path in root.rglob("*")]
    return sorted(
        str(path.relative_to(world.base))
        for path in paths
        if not path.is_relative_to(world.codex_home)
        and path.name not in ("summary.json", "evicted")
    )


def has_evicted(world: World) -> bool:
    """Whether the process that drops old records has ended its work."""
    marker = world.state / "evicted"
    return marker.exists() and float(marker.read_text("ascii")) > 0


def test_everything_is_shown_and_removed_and_what_is_not_ours_stays(
    used: World, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model([patch(EDIT), say("Done.")])
    assert run(["delegate", "Add a file"]) == 0
    consult(used.counsel())
    (used.state / "notes.txt").write_text("mine", "utf-8")
    # Whoever looks at an ended run first writes its summary.
    until(lambda: has_evicted(used))
    assert run(["jobs"]) == 0
    capsys.readouterr()
    before = files_of(used)

    assert run(["uninstall"]) == 2
    output = capsys.readouterr()
    assert "add --yes" in output.err
    for path in (used.state / "jobs", environment(used), settings(used)):
        assert str(path) in output.out
    assert files_of(used) == before

    assert run(["uninstall", "--yes"]) == 0
    assert "claude plugin uninstall codex@codex-counsel" in capsys.readouterr().out
    assert json.loads(settings(used).read_text("utf-8")) == {"theme": "dark"}
    assert [path.name for path in used.state.iterdir()] == ["notes.txt"]
    left = "\n".join(files_of(used))
    assert "venv-" not in left
    assert ".cache/codex-counsel" not in left
    assert run(["uninstall", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_the_readings_of_an_account_and_what_is_on_record_go_too(used: World) -> None:
    now = time.time()
    Readings(used.state, "0" * 16).keep(Reading(now, (Window("primary", 1.0),)))
    ledger.append(used.state, {"ended": "2026-11-21T00:00:00Z"})
    put(ledger_of(used), entry())
    (used.state / "pages").mkdir(0o700)
    names = {path.name for path in used.state.iterdir()}
    assert names >= {"windows", "usage", "findings", "pages"}
    assert run(["uninstall", "--yes", "--keep-results"]) == 0
    assert ledger_of(used).read().entries == {entry().id: entry()}
    assert run(["uninstall", "--yes"]) == 0
    assert not used.state.exists()


def test_what_is_known_of_packs_and_of_the_runs_of_a_cluster_goes_too(
    used: World,
) -> None:
    pack = used.base / "one.pack"
    assert run(["pack", "consult", "Why?", "-o", str(pack)]) == 0
    tickets = Tickets(used.state)
    tickets.prepare()
    tickets.write("0" * 32, "ran")
    assert {path.name for path in used.state.iterdir()} >= {"sent", "fleet"}
    assert run(["uninstall", "--yes"]) == 0
    assert not used.state.exists()
    assert pack.exists()


def test_the_usual_state_directory_goes_as_a_whole(
    used: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CODEX_COUNSEL_STATE_DIR")
    state = used.home / ".local/state/codex-counsel"
    (state / "of a later version").mkdir(parents=True)
    assert run(["uninstall", "--yes"]) == 0
    assert not state.exists()


def test_what_was_not_made_here_stays_though_it_has_a_name_of_ours(
    used: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory of the user's project, named as the place of our state."""
    theirs = used.state / "keys/mine.pem"
    theirs.parent.mkdir(parents=True)
    theirs.parent.chmod(0o755)
    theirs.write_text("mine", "utf-8")
    elsewhere = used.home / "photos"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "one.jpg").touch()
    (used.state / "queue").symlink_to(elsewhere)
    (used.state / "jobs").mkdir(mode=0o700)
    assert run(["uninstall", "--yes"]) == 0
    output = capsys.readouterr().out
    for name in ("keys", "queue"):
        assert f"stays  {used.state / name}" in output
    assert theirs.exists()
    assert (elsewhere / "one.jpg").exists()
    assert not (used.state / "jobs").exists()


@pytest.mark.parametrize("place", [".local/state", ".cache"])
def test_of_a_directory_behind_a_link_only_what_is_ours_goes(
    place: str, used: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CODEX_COUNSEL_STATE_DIR")
    disk = used.base / "disk"
    for name in ("jobs", "trees"):
        (disk / name).mkdir(mode=0o700, parents=True)
    (disk / "mine.txt").touch()
    link = used.home / place / "codex-counsel"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(disk)
    assert run(["uninstall", "--yes"]) == 0
    left = {"jobs", "trees", "mine.txt"}
    left.remove("jobs" if "state" in place else "trees")
    assert {path.name for path in disk.iterdir()} == left


def test_a_tree_that_a_run_closed_is_removed(used: World) -> None:
    closed = used.home / ".cache/codex-counsel/trees/one/closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0)
    try:
        assert run(["uninstall", "--yes"]) == 0
        assert not closed.parent.exists()
    finally:
        if closed.exists():
            closed.chmod(0o700)


def test_while_a_diff_is_half_in_its_tree_it_is_refused(
    used: World, capsys: pytest.CaptureFixture[str]
) -> None:
    job = "0" * 32
    draft = used.workspace / ".codex-counsel-token-0.part"
    draft.touch()
    info = used.workspace.stat()
    place = {
        "root": str(used.workspace),
        "device": info.st_dev,
        "inode": info.st_ino,
    }
    file = ["app.py", None, None]
    record = {"place": place, "token": "token", "submodules": [], "files": [file]}
    path = used.state / "applying" / f"{job}.json"
    for folder in (path.parent, used.state / "jobs" / job):
        folder.mkdir(parents=True, mode=0o700)
    (used.state / "jobs").chmod(0o700)
    path.write_text(json.dumps(record), "utf-8")

    assert run(["uninstall", "--yes"]) == 2
    assert f"apply {job}` finishes it" in capsys.readouterr().err
    assert path.exists()
    assert draft.exists()
    assert run(["uninstall", "--yes", "--end-runs"]) == 0
    assert not path.exists()
    assert not draft.exists()


def test_a_run_that_begins_while_it_asks_is_seen(
    used: World, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    model([hold(say("too late"))])
    counsel = used.counsel()
    handles = []

    def agree() -> bool:
        handles.append(start_consult(counsel, background=True))
        counsel.detach(handles[0])
        return True

    monkeypatch.setattr(uninstall, "_agrees", agree)
    assert run(["uninstall"]) == 2
    assert handles[0].job.path.exists()
    assert run(["uninstall", "--yes", "--end-runs"]) == 0


def test_with_keep_results_they_can_still_be_fetched(
    used: World, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model([say("It is fine.")])
    job = consult(used.counsel())["meta"]["job_id"]
    assert run(["uninstall", "--yes", "--keep-results"]) == 0
    assert not environment(used).exists()
    capsys.readouterr()
    assert run(["result", job]) == 0
    assert "It is fine." in capsys.readouterr().out


def test_with_keep_results_the_work_of_a_killed_run_is_captured_before_its_tree_goes(
    used: World, model: Model
) -> None:
    gate = hold(say("Done."))
    model([patch(EDIT), gate])
    counsel = used.counsel()
    handle = counsel.delegate(Delegate(task="Add a file"), background=True)
    counsel.detach(handle)
    until(gate.reached.is_set)
    kill_worker(handle.job)
    assert run(["uninstall", "--yes", "--keep-results"]) == 0
    assert not (used.home / ".cache/codex-counsel").exists()
    assert b"+new" in (handle.job.path / "diff.patch").read_bytes()


def test_while_a_run_lives_it_is_refused_unless_runs_are_to_be_ended(
    used: World, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    model([hold(say("too late"))])
    counsel = used.counsel()
    handle = start_consult(counsel, background=True)
    counsel.detach(handle)
    until(lambda: handle.job.state().phase not in ("queued", "starting"))
    assert run(["uninstall", "--yes"]) == 2
    assert "runs that have not ended: 1;" in capsys.readouterr().err
    assert handle.job.path.exists()

    assert run(["uninstall", "--yes", "--end-runs"]) == 0
    until(lambda: living(handle.job.id) == [])
    assert not used.state.exists()


@pytest.mark.parametrize("folder", [".claude/plugins/data/codex-codex-counsel", CACHE])
def test_while_a_session_uses_the_server_it_is_refused(
    used: World, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    used_by_a_server = used.home / folder / "venv-0123"
    used_by_a_server.mkdir(parents=True, exist_ok=True)
    with (used_by_a_server / "in-use").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert run(["uninstall", "--yes"]) == 2
    assert f"{used_by_a_server}: close it first" in capsys.readouterr().err
    assert used_by_a_server.exists()


@pytest.mark.parametrize(
    ("answer", "removed"), [("n", False), ("", False), ("y", True)]
)
def test_on_a_terminal_it_asks(answer: str, removed: bool, used: World) -> None:
    ours, theirs = os.openpty()
    argv = [sys.executable, "-m", "codex_counsel", "uninstall"]
    with subprocess.Popen(
        argv, stdin=theirs, stdout=subprocess.PIPE, cwd=used.workspace
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        output, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert b"Remove all of this? [y/N]" in output
    assert process.returncode == (0 if removed else 2)
    assert environment(used).exists() != removed
