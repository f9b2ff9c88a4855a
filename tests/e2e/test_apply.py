"""A delegate's diff on its way into the live tree, by the services that tools and command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import Apply, JobConsume, parse
from codex_counsel.delegate.apply_plan import PatchPlan, plan_apply
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import retention
from codex_counsel.loopback import Loopback, hold, say, shell
from tests.conftest import World, consult, until, wait
from tests.e2e.delegation import assert_unchanged, delegate, start
from tests.e2e.runs import fetch
from tests.git.delegate.states import state

Model = Callable[..., Loopback]
EVERYTHING = r"""sed -i 's/41/42/' app.py; printf 'b\r\n' >> dos.txt; printf '\1' >> logo.bin; chmod +x app.py
mv new.txt lib/moved.txt; rm notes.md; echo odd > $'caf\xe9'; printf end > lib/end; : > none; ln -s app.py link"""


def apply(world: World, job_id: str, **arguments: Any) -> dict[str, Any]:
    return dict(
        world.counsel().apply(parse(Apply, {"job_id": job_id, **arguments}))["data"]
    )


def refusal(world: World, job_id: str, **arguments: Any) -> CounselError:
    """Refused, with nothing touched."""
    with assert_unchanged(world.workspace), pytest.raises(CounselError) as error:
        apply(world, job_id, **arguments)
    return error.value


def test_a_diff_of_every_kind_is_checked_applied_refused_a_second_time_and_undone(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell(EVERYTHING), say("Done.")])
    before = state(workspace)
    job = delegate(world)["meta"]["job_id"]
    with assert_unchanged(workspace):
        checked = apply(world, job, check_only=True)
    result = apply(world, job)
    assert (checked["applied"], result["applied"], checked["files"]) == (
        False,
        True,
        result["files"],
    )
    assert "files changed" in checked["diffstat"]
    assert (workspace / "app.py").read_text() == "answer = 42\n"
    assert os.access(workspace / "app.py", os.X_OK)
    assert (workspace / "dos.txt").read_bytes() == b"a\r\nmine\r\nb\r\n"
    assert (workspace / "logo.bin").read_bytes() == b"\0mine\1"
    assert (workspace / "lib/moved.txt").read_text() == "old\n"
    assert (workspace / "link").readlink() == Path("app.py")
    assert (workspace / "none").read_bytes() == b""
    assert os.fsencode(workspace) + b"/caf\xe9" in {
        entry.path for entry in os.scandir(os.fsencode(workspace))
    }
    assert not (workspace / "notes.md").exists()
    assert {n: seen for n, seen in state(workspace).items() if "/.git" in n} == {
        n: seen for n, seen in before.items() if "/.git" in n
    }
    assert refusal(world, job).code == Code.ALREADY_APPLIED
    assert result["undo"] == {
        "tool": "codex_apply",
        "arguments": {"job_id": job, "undo": True},
    }
    apply(world, job, undo=True)
    assert state(workspace) == before


def test_a_change_inside_a_submodule_is_made_applied_there_and_undone(
    world: World, model: Model, workspace: Path
) -> None:
    library = world.repository_at(world.base / "library").begin()
    allow = ("-c", "protocol.file.allow=always")
    world.repository.git(*allow, "submodule", "--quiet", "add", str(library.root))
    world.repository.write("library/app.py", "answer = 41\n")
    before = state(workspace)
    model([shell("cat library/app.py; sed -i 's/41/42/' library/app.py"), say("Done.")])
    result = delegate(world)
    assert [row["path"] for row in result["files"]] == ["library/app.py"]
    assert any("library" in warning for warning in result["meta"]["warnings"])
    apply(world, result["meta"]["job_id"])
    assert (workspace / "library/app.py").read_text() == "answer = 42\n"
    apply(world, result["meta"]["job_id"], undo=True)
    assert state(workspace) == before


def test_a_diff_in_a_linked_tree_is_undone_there_without_naming_it(
    world: World, model: Model, workspace: Path
) -> None:
    linked = world.base / "linked"
    world.repository.git("worktree", "add", "--quiet", str(linked), "-b", "side")
    model([shell("echo new > fresh.txt"), say("Done.")])
    job = delegate(world)["meta"]["job_id"]
    apply(world, job, workspace_root=str(linked))
    assert (linked / "fresh.txt").exists()
    with assert_unchanged(workspace):
        apply(world, job, undo=True)
    assert not (linked / "fresh.txt").exists()


def test_the_stored_reverse_patch_undoes_by_hand_too(
    world: World, model: Model, workspace: Path
) -> None:
    model(
        [
            shell(r"sed -i 's/41/42/' app.py; printf '\1' >> logo.bin; rm notes.md"),
            say("Done."),
        ]
    )
    before = state(workspace)
    result = apply(world, delegate(world)["meta"]["job_id"])
    subprocess.run(
        ["git", "apply", "--binary", result["undo_patch"]], cwd=workspace, check=True
    )
    assert state(workspace) == before


def test_it_lands_in_the_repository_it_was_made_for_whatever_folder_the_workspace_is(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell("echo x > here; echo x > ../above"), say("Done.")])
    job = delegate(world, workspace_root=str(workspace / "lib"))["meta"]["job_id"]
    world.repository_at(world.base / "other").begin_with_work()
    assert (
        refusal(world, job, workspace_root=str(world.base / "other")).code
        == Code.WORKSPACE_INVALID
    )
    apply(world, job)
    assert (
        (workspace / "lib/here").read_text(),
        (workspace / "above").read_text(),
    ) == (
        "x\n",
        "x\n",
    )


def test_partial_work_can_be_applied(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Never."))
    model([shell("echo half > half.txt"), gate])
    handle = start(world)
    assert gate.reached.wait(60)
    handle.job.request_cancel()
    wire = wait(handle)
    assert (wire["status"], wire["partial"]) == ("cancelled", True)
    apply(world, handle.job.id)
    assert (workspace / "half.txt").read_text() == "half\n"


def test_what_has_no_diff_is_refused_by_name(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Nothing done."))
    model(lambda request: gate if "HOLD" in request.prompt else say("Nothing done."))
    consultation = consult(world.counsel())["meta"]["job_id"]
    running = start(world, "HOLD")
    assert gate.reached.wait(60)
    assert refusal(world, running.job.id).code == Code.JOB_RUNNING
    gate.release.set()
    wait(running)
    assert "nothing to apply" in refusal(world, running.job.id).message
    assert "not a delegate" in refusal(world, consultation).message
    assert refusal(world, "0" * 32).code == Code.JOB_NOT_FOUND


def test_a_consumed_result_takes_its_diff_along_when_its_record_goes(
    world: World, model: Model, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model([shell("echo x > new"), say("Done.")])
    counsel = world.counsel()
    job = delegate(world)["meta"]["job_id"]
    fetch(counsel, parse(JobConsume, {"job_id": job}))
    counsel.drop_consumed()
    assert apply(world, job, check_only=True)["files"] == ["new"]
    monkeypatch.setattr(retention, "READER_SECONDS", 0)
    counsel.drop_consumed()
    assert refusal(world, job).code == Code.JOB_NOT_FOUND


def test_a_record_does_not_go_while_its_diff_is_being_applied(
    world: World, model: Model, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model([shell("sed -i 's/41/42/' app.py"), say("Done.")])
    job = world.counsel().store.job(delegate(world)["meta"]["job_id"])
    until(lambda: not job.alive())
    real = plan_apply

    def plan_late(*arguments: Any, **names: Any) -> PatchPlan:
        retention.drop(world.counsel().store, job)
        return real(*arguments, **names)

    monkeypatch.setattr("codex_counsel.delegate.apply.plan_apply", plan_late)
    before = state(workspace)
    assert apply(world, job.id)["applied"]
    apply(world, job.id, undo=True)
    assert state(workspace) == before
    retention.drop(world.counsel().store, job)
    assert not job.path.exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_takes_nothing_leaves_everything_as_it_was(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell("echo x > a; echo x > lib/b"), say("Done.")])
    job = delegate(world)["meta"]["job_id"]
    (workspace / "lib").chmod(0o500)
    assert refusal(world, job).code == Code.STORAGE_FAILED


def test_of_two_processes_at_once_one_applies(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell("for i in $(seq 200); do echo $i > new$i; done"), say("Done.")])
    job = delegate(world)["meta"]["job_id"]
    argv = [sys.executable, "-m", "codex_counsel", "apply", job]
    both = [
        subprocess.Popen(
            argv,
            env=world.env,
            cwd=workspace,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    errors = [child.communicate(timeout=60)[1] for child in both]
    assert sorted(child.returncode for child in both) == [0, 2]
    assert sum(b"already_applied" in text for text in errors) == 1
    assert until(lambda: (workspace / "new200").read_text() == "200\n")
