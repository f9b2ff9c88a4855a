"""A delegated task from the request to the diff, on the real Codex: what comes back, what is left however it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codex_counsel.contract.request import (
    Delegate,
    DelegateDryRun,
    JobCancel,
    JobResult,
    Status,
    parse,
)
from codex_counsel.errors import Code, CounselError
from codex_counsel.jobs import launcher, recovery, retention
from codex_counsel.jobs.job import Job
from codex_counsel.jobs.store import Store
from codex_counsel.loopback import (
    Loopback,
    Reply,
    Request,
    failed,
    hold,
    patch,
    say,
    shell,
    stall,
    usage_limit,
)
from codex_counsel.system.json_values import Json
from tests.conftest import World, consult, pick, until, wait
from tests.e2e import fakes
from tests.e2e.delegation import (
    assert_unchanged,
    delegate,
    start,
)
from tests.e2e.runs import (
    assert_nothing_is_left,
    cancel_run,
    codex_of,
    counsel_with,
    fetch,
    kill_worker,
    trees,
)
from tests.e2e.server.wire import ServerProcess

Model = Callable[..., Loopback]
FIX = patch(
    "*** Begin Patch\n*** Update File: app.py\n@@\n-answer = 41\n+answer = 42\n*** End Patch\n"
)
EDIT = shell("sed -i 's/41/42/' app.py && echo made > made.txt")


# --- what comes back


def test_a_task_comes_back_as_a_proven_diff_with_its_evidence_and_the_user_is_left_alone(
    each_release: World, each_model: Model
) -> None:
    world, workspace = each_release, each_release.repository.begin_with_work().root
    each_model(
        [
            FIX,
            shell("python3 -B -c 'import app; assert app.answer == 42'"),
            shell("exit 3"),
            say("It is 42 now."),
        ]
    )
    with assert_unchanged(workspace):
        wire = delegate(world)
    assert pick(wire, "ok", "status", "tool", "answer", "diff_exact", "diffstat") == {
        "ok": True,
        "status": "completed",
        "tool": "codex_delegate",
        "answer": "It is 42 now.",
        "diff_exact": True,
        "diffstat": "1 file changed, 1 insertion(+), 1 deletion(-)",
    }
    assert wire["files"] == [
        {"path": "app.py", "status": "M", "added": 1, "deleted": 1}
    ]
    assert wire["base_sha"] == world.repository.head
    assert Path(wire["diff_path"]).read_text() == wire["diff"]
    assert "-answer = 41\n+answer = 42\n" in wire["diff"]
    assert [check["exit_code"] for check in wire["checks"]] == [0, 3]
    assert pick(wire["meta"]["sandbox"], "mode", "read_boundary", "network") == {
        "mode": "worktree-write",
        "read_boundary": "toolchains",
        "network": False,
    }
    assert wire["meta"]["session_id"]
    assert "partial" not in wire
    assert_nothing_is_left(world)


def test_codex_finds_no_uncommitted_secret_and_no_file_that_the_repository_names(
    each_release: World, each_model: Model
) -> None:
    world = each_release
    repository = world.repository.begin()
    repository.write("conf/.env", "VALUE=committed\n")
    repository.write(".env", "VALUE=committed\n")
    repository.commit()
    repository.write("conf/.env", "VALUE=mine-alone\n")
    repository.write(".env", "VALUE=mine-alone\n")
    repository.git("config", "core.excludesFile", str(world.home / "private.txt"))
    (world.home / "private.txt").write_text("VALUE=mine-alone\n")
    look = (
        "git show :.env :conf/.env HEAD:.env; mkdir conf; mv conf other && cat other/.env .env;"
        " git status --short; grep -rs mine-alone . $(git rev-parse --git-dir); rmdir other"
    )
    server = each_model([shell(look), say("Done.")])
    wire = delegate(world)
    output = server.requests[-1].outputs[0]
    assert output.count("VALUE=committed") == 3
    assert "mine-alone" not in output
    assert wire["files"] == []
    (warning,) = [text for text in wire["meta"]["warnings"] if "not copied" in text]
    assert ".env (secret_file)" in warning


def test_codex_works_on_what_the_user_sees(
    world: World, model: Model, workspace: Path
) -> None:
    server = model(
        [
            shell(
                "cat lib/util.py notes.md dos.txt new.txt; ls; git status --short; git log --oneline"
            ),
            say("ok"),
        ]
    )
    delegate(world)
    output = server.requests[-1].outputs[0].replace("\r", "")
    assert "x = 3\nmine\na\nmine\nold\n" in output
    assert "gone.txt\n" not in output.partition("M  ")[0]
    assert "noise.log" not in output
    assert "begin" in output


def test_a_model_that_changes_nothing_is_completed_and_says_so(
    world: World, model: Model, workspace: Path
) -> None:
    model([say("There is nothing to do.")])
    wire = delegate(world)
    assert pick(wire, "ok", "diff", "diffstat", "files", "diff_exact") == {
        "ok": True,
        "diff": "",
        "diffstat": "no changes",
        "files": [],
        "diff_exact": True,
    }
    assert wire["summary"].startswith("No files were changed. ")


def test_what_is_ignored_planted_sensitive_or_built_with_is_named(
    world: World, model: Model, workspace: Path
) -> None:
    script = "mkdir -p sub/.git; echo x > sub/.git/config; echo x > run.log; ln -s /etc/passwd out"
    script += "; echo x > CLAUDE.md; echo x > Makefile; ln -s app.py in"
    model([shell(script), say("Done.")])
    wire = delegate(world)
    assert wire["ignored"] == ["run.log"]
    assert wire["planted"] == [
        "sub/.git (a git directory, removed)",
        "out (a link that leads to /etc/passwd)",
    ]
    assert {file["path"]: file.get("sensitive") for file in wire["files"]} == {
        "CLAUDE.md": True,
        "Makefile": None,
        "in": None,
        "out": True,
    }
    assert [file["path"] for file in wire["files"] if file.get("build")] == ["Makefile"]


def test_a_long_diff_begins_in_the_result_is_paged_and_is_whole_on_disk(
    world: World, model: Model, workspace: Path
) -> None:
    world.settings["MAX_DELEGATE_DIFF_BYTES"] = "60000"
    model([shell("seq 50000 > long.txt"), say("Done.")])
    counsel, handle = world.counsel(), start(world)
    page = counsel.deliver(handle, wait(handle))
    diff = page["diff"]
    while cursor := page["meta"].get("next_cursor"):
        page = fetch(
            counsel, parse(JobResult, {"job_id": handle.job.id, "cursor": cursor})
        )
        diff += page.get("diff", "")
    whole = (handle.job.path / "diff.patch").read_text()
    assert diff == whole
    assert (page["status"], whole.endswith("+50000\n")) == ("completed", True)
    assert len((handle.job.result() or {})["diff"]) == 60_000


def test_a_workspace_below_the_root_is_where_codex_works(
    world: World, model: Model, workspace: Path
) -> None:
    server = model(
        [shell("basename $PWD; echo x > here; echo x > ../above"), say("Done.")]
    )
    wire = delegate(world, workspace_root=str(workspace / "lib"))
    assert "lib" in server.requests[-1].outputs[0]
    assert [file["path"] for file in wire["files"]] == ["above", "lib/here"]


def test_a_linked_worktree_as_workspace_is_left_alone_with_its_repository(
    world: World, model: Model, workspace: Path
) -> None:
    linked = world.base / "linked"
    world.repository.git("worktree", "add", "-q", str(linked), "-b", "side")
    listed = world.repository.git("worktree", "list", "--porcelain")
    model([EDIT, say("Done.")])
    with assert_unchanged(workspace, linked):
        wire = delegate(world, workspace_root=str(linked))
    assert [file["path"] for file in wire["files"]] == ["app.py", "made.txt"]
    assert world.repository.git("worktree", "list", "--porcelain") == listed


def test_two_tasks_in_one_repository_at_once_do_not_meet(
    world: World, model: Model, workspace: Path
) -> None:
    def script(request: Any) -> Any:
        word = "first" if "FIRST" in request.prompt else "second"
        done = len(request.outputs)
        return gates[word] if not done else say(f"{word}: {request.outputs[0]}")

    gates = {
        word: hold(shell(f"echo {word} > {word}; ls")) for word in ("first", "second")
    }
    model(script)
    with assert_unchanged(workspace):
        handles = [start(world, task) for task in ("FIRST", "SECOND")]
        assert all(gate.reached.wait(60) for gate in gates.values())
        for gate in gates.values():
            gate.release.set()
        wires = [wait(handle) for handle in handles]
    assert [[file["path"] for file in wire["files"]] for wire in wires] == [
        ["first"],
        ["second"],
    ]
    assert_nothing_is_left(world)


# --- what cannot be begun


def corrupt_owner(world: World, workspace: Path) -> None:
    for path in (workspace, *workspace.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)


REFUSALS: dict[str, tuple[Code, Callable[[World], object]]] = {
    "no repository": (Code.NOT_A_GIT_REPO, lambda world: None),
    "no commits": (Code.NO_COMMITS, lambda world: world.repository.init()),
    "bare": (
        Code.NOT_A_GIT_REPO,
        lambda world: world.repository.init("--bare"),
    ),
    "somebody else's": (
        Code.WORKSPACE_INVALID,
        lambda world: corrupt_owner(world, world.repository.begin_with_work().root),
    ),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_a_workspace_that_no_task_can_be_done_in_is_refused_before_anything_is_spent(
    world: World, model: Model, case: tuple[Code, Callable[[World], object]]
) -> None:
    if case[0] == Code.WORKSPACE_INVALID and os.getuid():
        pytest.skip("only root gives files away")
    server = model([say("No.")])
    case[1](world)
    with pytest.raises(CounselError) as error:
        start(world)
    assert (error.value.code, server.requests, trees(world)) == (case[0], [], [])


def test_a_home_that_is_a_repository_is_not_copied_for_a_task_in_a_folder_of_it(
    world: World, model: Model
) -> None:
    world.repository_at(world.home).begin_with_work()
    model([say("No.")])
    with pytest.raises(CounselError) as error:
        start(world, workspace_root=str(world.home / "lib"))
    assert (error.value.code, trees(world)) == (Code.WORKSPACE_INVALID, [])


@pytest.mark.parametrize("task", ["", "  \n"])
def test_a_blank_task_is_refused(world: World, workspace: Path, task: str) -> None:
    with pytest.raises(CounselError) as error:
        start(world, task)
    assert error.value.code == Code.INVALID_ARGUMENTS


def test_an_image_that_may_not_be_sent_is_refused(
    world: World, model: Model, workspace: Path
) -> None:
    model()
    with pytest.raises(
        CounselError, match="is not a PNG, JPEG, GIF or WebP"
    ) as refused:
        start(world, images=[str(workspace / "app.py")])
    assert refused.value.code == Code.INVALID_ARGUMENTS


def test_the_dry_run_shows_what_a_task_would_start_from_and_spends_nothing(
    world: World, model: Model, workspace: Path
) -> None:
    server = model([say("No.")])
    (workspace / ".env").write_text("KEY=1\n")
    with assert_unchanged(workspace):
        wire = world.counsel().delegate_dry_run(
            parse(DelegateDryRun, {"task": "Fix it."})
        )
    seed = wire["data"]["seed"]
    assert pick(seed, "head", "untracked", "omitted") == {
        "head": world.repository.head,
        "untracked": 1,
        "omitted": [[".env", "secret_file"]],
    }
    assert seed["bytes"] == sum(
        (workspace / name).stat().st_size for name in visible(world)
    )
    assert str(workspace / ".git/objects") in wire["data"]["sandbox"]["readable"]
    assert wire["data"]["sandbox"]["mode"] == "worktree-write"
    assert (server.requests, trees(world)) == ([], [])


TURNS: dict[str, tuple[dict[str, Json], dict[str, Json], str]] = {
    "a task": ({}, {}, "; nothing was spent"),
    "a check": (
        {"check": "make test"},
        {"check": {"command": "make test", "runs": 2, "seconds": 77}},
        "; the check may run 2 times, at most 77 s each; nothing was spent",
    ),
    "attempts with a judge": (
        {"attempts": 3, "judge": True},
        {"turns": {"attempts": 3, "judge": 1}},
        "; may take up to 4 turns; nothing was spent",
    ),
    "attempts with a check": (
        {"attempts": 2, "check": "make test"},
        {
            "turns": {"attempts": 2},
            "check": {"command": "make test", "runs": 3, "seconds": 77},
        },
        "; may take up to 2 turns; the check may run 3 times, at most 77 s each; nothing was spent",
    ),
}


@pytest.mark.parametrize(
    ("arguments", "expected", "words"), TURNS.values(), ids=TURNS.keys()
)
def test_the_dry_run_says_how_many_turns_there_are_and_how_often_a_check_runs(
    world: World,
    workspace: Path,
    arguments: dict[str, Json],
    expected: dict[str, Json],
    words: str,
) -> None:
    world.settings["CHECK_SECONDS"] = "77"
    wire = world.counsel().delegate_dry_run(
        parse(DelegateDryRun, {"task": "Fix it.", **arguments})
    )
    assert pick(wire["data"], *expected) == expected
    assert not {"check", "turns"} & set(wire["data"]) - set(expected)
    assert wire["summary"].endswith(f"files{words}")


MISFITS: dict[str, dict[str, Json]] = {
    "a judge of one attempt": {"judge": True},
    "models of other attempts": {"attempts": 3, "models": ["a"]},
    "efforts of one attempt": {"efforts": ["high"]},
    "a thread for several": {
        "attempts": 2,
        "session_id": f"{'0' * 8}-0000-0000-0000-{'0' * 12}",
    },
    "too few tokens": {"attempts": 5, "max_tokens": 4000},
}


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS.keys())
def test_a_dry_run_refuses_what_the_task_would_refuse(
    world: World, model: Model, workspace: Path, misfit: dict[str, Json]
) -> None:
    model([])
    arguments = {"task": "Fix it.", **misfit}
    with pytest.raises(CounselError) as refused:
        world.counsel().delegate(parse(Delegate, arguments))
    with pytest.raises(CounselError) as previewed:
        world.counsel().delegate_dry_run(parse(DelegateDryRun, arguments))
    assert previewed.value.message == refused.value.message
    assert previewed.value.code == refused.value.code == Code.INVALID_ARGUMENTS


def visible(world: World) -> list[str]:
    names = world.repository.git(
        "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    ).split("\0")
    return [
        name
        for name in names
        if name and name != ".env" and (world.workspace / name).exists()
    ]


# --- ends of every kind


def cancel(world: World, job: Job) -> None:
    cancel_run(world.counsel(), parse(JobCancel, {"job_id": job.id}))


ENDS: dict[str, tuple[Reply, dict[str, float]]] = {
    "stream_disconnected": (failed("server_error", "it broke"), {}),
    "usage_limit": (usage_limit(), {}),
    "timeout": (stall("before_headers"), {"timeout_seconds": 15}),
    "stalled": (stall("before_headers"), {"idle_seconds": 8}),
    "cancelled": (stall("before_headers"), {}),
    "process_died": (stall("before_headers"), {}),
}


@pytest.mark.parametrize("code", ENDS)
def test_a_run_that_does_not_finish_gives_back_what_it_did_and_another_goes_on_from_it(
    world: World, model: Model, workspace: Path, code: str
) -> None:
    last, limits = ENDS[code]
    tries = 1 + (code == "stream_disconnected")
    server = model([EDIT, *[last] * tries, *RESUMED], stream_max_retries=1)
    with assert_unchanged(workspace):
        handle = counsel_with(world, **limits).delegate(
            parse(Delegate, {"task": "Fix it."})
        )
        if code in ("cancelled", "process_died"):
            server.asked(2)
            end(world, handle.job, code)
        wire = wait(handle)
        assert (wire["ok"], wire["error"]["code"]) == (False, code), wire
        assert (wire["partial"], "+answer = 42" in wire["diff"]) == (True, True)
        assert wire["diffstat"] == "2 files changed, 2 insertions(+), 1 deletion(-)"
        assert_nothing_is_left(world)
        world.counsel().status(parse(Status, {"clear_limits": True}))
        goes_on(world, server, handle.job, wire)
    assert_nothing_is_left(world)


RESUMED = [shell("cat app.py made.txt; echo two >> made.txt"), say("Finished.")]


def end(world: World, job: Job, code: str) -> None:
    if code == "cancelled":
        cancel(world, job)
    else:
        os.kill(codex_of(job).pid, signal.SIGKILL)


def goes_on(world: World, server: Loopback, job: Job, earlier: dict[str, Any]) -> None:
    """Same thread, same base, the earlier diff there, and a new diff that holds both."""
    (world.workspace / "app.py").touch()
    wire = delegate(world, "Go on.", from_job=job.id)
    assert wire["ok"] is True, wire
    assert wire["meta"]["session_id"] == earlier["meta"]["session_id"]
    assert wire["base_sha"] == earlier["base_sha"]
    assert "answer = 42\nmade\n" in server.requests[-1].outputs[-1].replace("\r", "")
    assert [(file["path"], file["added"]) for file in wire["files"]] == [
        ("app.py", 1),
        ("made.txt", 2),
    ]
    assert "-answer = 41\n+answer = 42\n" in wire["diff"]


def test_going_on_starts_from_the_earlier_base_also_when_the_user_has_moved_on(
    world: World, model: Model, workspace: Path
) -> None:
    server = model([EDIT, say("Begun."), shell("cat notes.md app.py"), say("Done.")])
    first = delegate(world)
    (workspace / "notes.md").write_text("changed meanwhile\n")
    world.repository.git("commit", "-qam", "meanwhile")
    second = delegate(world, from_job=first["meta"]["job_id"])
    assert "you made earlier in this thread" in server.requests[-1].prompt
    assert "mine\nanswer = 42" in server.requests[-1].outputs[-1].replace("\r", "")
    assert (second["diff"], second["base_sha"]) == (first["diff"], first["base_sha"])


def test_a_task_that_made_what_git_refuses_can_be_gone_on_from(
    world: World, model: Model, workspace: Path
) -> None:
    spoil = "echo made > made.txt; rm app.py; mkfifo app.py; ln -s notes.md .gitmodules"
    server = model([shell(spoil), say("Begun."), shell("cat made.txt"), say("Done.")])
    first = delegate(world)
    assert (first["ok"], len(first["planted"])) == (True, 2), first
    second = delegate(world, from_job=first["meta"]["job_id"])
    assert "made" in server.requests[-1].outputs[-1]
    assert second["diff"] == first["diff"]
    assert_nothing_is_left(world)


def test_only_a_finished_task_of_the_same_workspace_can_be_gone_on_from(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Done."))
    model(lambda request: gate if "HOLD" in request.prompt else say("Fine."))
    consultation = consult(world.counsel())["meta"]["job_id"]
    running = start(world, "HOLD")
    assert gate.reached.wait(60)
    done = delegate(world)["meta"]["job_id"]
    world.repository_at(world.base / "other").begin_with_work()
    cases = [
        (consultation, {}, Code.INVALID_ARGUMENTS),
        (running.job.id, {}, Code.JOB_RUNNING),
        (done, {"workspace_root": str(world.base / "other")}, Code.WORKSPACE_INVALID),
        ("0" * 32, {}, Code.JOB_NOT_FOUND),
    ]
    assert [refusal(world, from_job=job, **more) for job, more, _ in cases] == [
        code for *_, code in cases
    ]
    gate.release.set()
    wait(running)
    retention.drop(Store(world.state), Job(world.state / "jobs" / done))
    assert refusal(world, from_job=done) == Code.JOB_NOT_FOUND
    assert trees(world) == []


def refusal(world: World, **arguments: Any) -> Code:
    with pytest.raises(CounselError) as error:
        start(world, **arguments)
    return error.value.code


# --- the sandbox


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_model_writes_in_its_tree_and_temporary_directory_and_reads_no_more_than_it_needs(
    each_release: World, each_model: Model, listener: int
) -> None:
    world, workspace = each_release, each_release.repository.begin_with_work().root
    (workspace / "conf").mkdir()
    (workspace / "conf/id_rsa").write_text("SECRET-tracked\n")
    world.repository.git("add", "conf")
    for path in (
        world.home / ".ssh/id_rsa",
        world.home / "private.txt",
        world.base / "outside.txt",
        workspace / ".env",
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text("SECRET-file\n")
    tries = {
        "own secret": "cat conf/id_rsa",
        "ssh": f"cat {world.home}/.ssh/id_rsa",
        "private": f"cat {world.home}/private.txt",
        "outer file": f"cat {world.base}/outside.txt",
        "live file": f"cat {workspace}/notes.md",
        "live secret": f"cat {workspace}/.env",
        "login": f"cat {world.codex_home}/config.toml",
        "connect": f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {listener}))'",
        "objects": f"echo x > {workspace}/.git/objects/made",
        "pointer": "echo x > .git",
        "replaced": "rm .git && mkdir .git",
        "moved": "mv .git elsewhere",
        "repository": "echo x > ../repo.git/config",
        "hook": "mkdir -p ../repo.git/hooks && echo x > ../repo.git/hooks/post-index-change",
        "stage": "git add app.py",
        "commit": "git -c user.name=a -c user.email=a@b commit -qam x",
        "branch": "git branch made",
        "works: write": "echo 42 > app.py",
        "works: tmp": "echo x > $TMPDIR/made && cat $TMPDIR/made",
        "works: status": "git status --short",
        "works: log": "git log --oneline && git show HEAD:app.py && git diff",
        "works: python": "python3 -c 'print(1)'",
    }
    script = "; ".join(
        f"( {command} ) > /dev/null 2>&1 && echo 'did {name}.'"
        for name, command in tries.items()
    )
    places = (
        f"{world.base}/outside.txt {world.home}/made {workspace}/app.py $OLDPWD/../made"
    )
    away = f"cd /; for f in {places}; do echo x > $f; done"
    found = "find / -xdev -name '*.txt' -exec grep -l SECRET-file {} + 2> /dev/null"
    gate = hold(say("Done."))
    server = each_model([shell(f"{script}; {found}; {away}"), gate])
    outside = (
        world.home / ".ssh",
        world.home / "private.txt",
        world.base / "outside.txt",
    )
    with assert_unchanged(workspace), assert_unchanged(*outside):
        handle = start(world)
        assert gate.reached.wait(60)
        (tree,) = trees(world)
        assert {path.name for path in tree.iterdir()} == {
            "excludes",
            "job",
            "repo.git",
            "tmp",
            "tree",
        }
        gate.release.set()
        wire = wait(handle)
    assert not (world.home / "made").exists()
    output = "".join(server.requests[-1].outputs).replace("\r", "")
    assert sorted(
        line for line in output.splitlines() if line.startswith("did ")
    ) == sorted(f"did {name}." for name in tries if name.startswith("works: "))
    assert "SECRET" not in output
    assert "private.txt" not in output
    assert ([file["path"] for file in wire["files"]], wire.get("planted")) == (
        ["app.py"],
        None,
    )
    assert_nothing_is_left(world)


def test_the_network_is_there_when_it_is_asked_for(
    world: World, model: Model, workspace: Path, listener: int
) -> None:
    connect = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {listener}))' && echo CONNECTED"
    server = model([shell(connect), say("Done.")])
    wire = delegate(world, network=True)
    assert "CONNECTED" in server.requests[-1].outputs[0]
    assert wire["meta"]["sandbox"]["network"] is True


def test_a_cache_directory_behind_a_link_works(
    world: World, model: Model, workspace: Path
) -> None:
    (world.base / "disk").mkdir()
    (world.home / ".cache").symlink_to(world.base / "disk")
    model([EDIT, say("Done.")])
    assert (
        delegate(world)["diffstat"] == "2 files changed, 2 insertions(+), 1 deletion(-)"
    )
    assert_nothing_is_left(world)


def test_a_process_left_in_the_background_ends_with_the_run(
    world: World, model: Model, workspace: Path
) -> None:
    model([shell("setsid sleep 987 > /dev/null 2>&1 & echo x > made"), say("Done.")])
    wire = delegate(world)
    assert [file["path"] for file in wire["files"]] == ["made"]
    assert_nothing_is_left(world)


# --- sudden ends


def test_a_background_task_is_found_by_its_job_id(
    world: World, model: Model, workspace: Path
) -> None:
    model([EDIT, say("Done.")])
    handle = start(world, background=True)
    wire = until(
        lambda: fetch(
            world.counsel(),
            parse(JobResult, {"job_id": handle.job.id, "wait_seconds": 50}),
        )
    )
    handle.release()
    assert (wire["status"], "+answer = 42" in wire["diff"]) == ("completed", True)
    assert_nothing_is_left(world)


def test_a_tree_that_a_reader_had_no_time_to_remove_goes_with_the_next_sweep(
    world: World, model: Model, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold(say("Done."))
    model(lambda request: script(request, gate))
    handle = start(world, background=True)
    assert gate.reached.wait(60)
    kill_worker(handle.job)
    with monkeypatch.context() as patched:
        patched.setattr("codex_counsel.delegate.conclude.PROMPT_SECONDS", -1.0)
        wire = recovery.outcome(handle.job)
    assert wire
    assert "+answer = 42" in wire["diff"]
    assert len(trees(world)) == 1
    assert world.counsel().sweep() == 1
    assert recovery.outcome(handle.job) == wire
    handle.release()
    assert_nothing_is_left(world)


POINTS: dict[str, Callable[[World, Job, Any], object]] = {
    "before the tree": lambda world, job, _: job.state().worker,
    "while it is filled": lambda world, job, _: any(
        path.name == "tree" for tree in trees(world) for path in inside(tree)
    ),
    "when Codex starts": lambda world, job, _: job.state().codex,
    "while the model thinks": lambda world, job, gate: (
        gate.reached.is_set() and job.state().thread_id
    ),
    "in a long command": lambda world, job, _: (
        job.state().phase == "command"
        and any((tree / "tree/slow.txt").exists() for tree in trees(world))
    ),
    "while it is captured": lambda world, job, gate: (
        gate.release.set() or any(job.path.glob("*diff.patch*"))
    ),
    "when it was captured": lambda world, job, gate: (
        gate.release.set() or (job.path / "work.json").exists()
    ),
}
EDITED = (
    "while the model thinks",
    "in a long command",
    "while it is captured",
    "when it was captured",
)


def inside(tree: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(tree.iterdir())
    return []


READERS = [("result", point) for point in POINTS]
READERS += [
    (reader, point)
    for reader in ("sweep", "next task")
    for point in ("while it is filled", EDITED[0])
]


@pytest.mark.parametrize(("reader", "point"), READERS)
def test_a_killed_worker_touches_nothing_of_the_users_and_loses_nothing_that_was_on_disk(
    world: World, model: Model, workspace: Path, point: str, reader: str
) -> None:
    for number in range(300):
        (workspace / f"file{number}").write_text(str(number))
    gate = hold(say("Done."))
    slow = shell("echo x > slow.txt; sleep 600 & sleep 601")
    server = model(
        lambda request: script(request, slow if point == "in a long command" else gate)
    )
    listed = world.repository.git("worktree", "list", "--porcelain")
    with assert_unchanged(workspace):
        handle = start(world, background=True)
        until(lambda: POINTS[point](world, handle.job, gate))
        kill_worker(handle.job)
        if reader == "sweep":
            assert world.counsel().sweep() == 1
            assert trees(world) == []
        elif reader == "next task":
            gate.release.set()
            assert delegate(world)["ok"] is True
        wire = until(lambda: recovery.outcome(handle.job))
    handle.release()
    assert wire["status"] in ("failed", "completed")
    if wire["status"] == "failed":
        assert wire["error"]["code"] == "process_died"
    if point in EDITED:
        assert "+answer = 42" in wire["diff"]
        assert (handle.job.path / "diff.patch").read_text() == wire["diff"]
        assert wire["meta"]["session_id"] == server.requests[0].thread_id
        assert wire["ok"] or wire["partial"] is True
    assert world.repository.git("worktree", "list", "--porcelain") == listed
    assert recovery.outcome(handle.job) is not None
    assert_nothing_is_left(world)


def test_a_task_that_was_done_when_its_worker_died_is_done_and_has_its_diff(
    world: World, model: Model, workspace: Path
) -> None:
    model([say("Never.")])
    fakes.install(
        world,
        "tree = sys.argv[sys.argv.index('-C') + 1]; begin(); open(f'{tree}/new.txt', 'w').write('new\\n');"
        " message('Done.'); end(); signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)",
    )
    with assert_unchanged(workspace):
        handle = start(world, background=True)
        until(lambda: handle.job.state().phase == "finishing")
        kill_worker(handle.job)
        wire = until(lambda: recovery.outcome(handle.job))
    handle.release()
    assert (wire["status"], wire["answer"]) == ("completed", "Done.")
    assert "+new\n" in wire["diff"]
    assert handle.job.result() == wire
    assert_nothing_is_left(world)


def script(request: Request, last: Reply) -> Reply:
    return EDIT if not request.outputs else last


def test_readers_at_once_of_a_killed_run_all_get_its_work(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Done."))
    model([EDIT, gate])
    handle = start(world, background=True)
    assert gate.reached.wait(60)
    kill_worker(handle.job)
    wires: list[Any] = []

    def read() -> None:
        wires.append(until(lambda: recovery.outcome(handle.job)))

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    handle.release()
    assert [("+answer = 42" in wire["diff"], wire["partial"]) for wire in wires] == [
        (True, True)
    ] * 6
    assert_nothing_is_left(world)


def test_a_killed_server_ends_its_waiting_task_and_its_edits_are_kept(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Done."))
    model([EDIT, gate])
    with assert_unchanged(workspace):
        with ServerProcess(world) as server:
            server.initialize()
            server.call("codex_delegate", {"task": "Fix it."})
            assert gate.reached.wait(60)
            server.process.send_signal(signal.SIGKILL)
        job = next(Store(world.state).jobs())
        wire = until(lambda: recovery.outcome(job))
    assert (wire["status"], wire["partial"], "+answer = 42" in wire["diff"]) == (
        "cancelled",
        True,
        True,
    )
    until(lambda: not job.alive())
    assert_nothing_is_left(world)


def test_another_sessions_state_directory_does_not_lose_its_running_tree_to_ours(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Done."))
    model([EDIT, gate])
    handle = start(world)
    assert gate.reached.wait(60)
    assert (
        world.counsel(CODEX_COUNSEL_STATE_DIR=str(world.base / "another")).sweep() == 0
    )
    gate.release.set()
    assert "+answer = 42" in wait(handle)["diff"]
    assert_nothing_is_left(world)


def test_a_tree_without_a_record_goes_and_one_whose_work_cannot_be_captured_stays_with_its_record(
    world: World, model: Model, workspace: Path
) -> None:
    gate = hold(say("Done."))
    model([EDIT, gate])
    handle = start(world, background=True)
    assert gate.reached.wait(60)
    kill_worker(handle.job)
    seed = (handle.job.path / "seed.json").read_text()
    (handle.job.path / "seed.json").write_text(
        json.dumps({**json.loads(seed), "base_tree": "0" * 40})
    )
    wire = until(lambda: recovery.outcome(handle.job))
    (tree,) = trees(world)
    assert str(tree) in wire["meta"]["warnings"][-1]
    assert "diff" not in wire
    assert (tree / "tree/made.txt").exists()
    assert world.counsel().sweep() == 0
    (handle.job.path / "seed.json").write_text(seed)
    assert "+answer = 42" in until(lambda: recovery.outcome(handle.job))["diff"]
    assert trees(world) == []
    handle.release()


def test_a_new_task_removes_the_trees_that_nobody_owns(
    world: World, model: Model, workspace: Path
) -> None:
    model([say("Fine.")])
    left = world.home / ".cache/codex-counsel/trees" / f"codex-counsel-{'0' * 32}"
    (left / "tree").mkdir(parents=True)
    (left / "job").write_text(str(world.state / "jobs" / ("0" * 32)))
    assert delegate(world)["ok"]
    assert trees(world) == []


def test_a_tree_that_is_only_just_being_made_stays_and_an_old_one_of_nobody_goes(
    world: World,
) -> None:
    folder = world.home / ".cache/codex-counsel/trees"
    young, old = folder / "codex-counsel-young", folder / "codex-counsel-old"
    young.mkdir(parents=True)
    old.mkdir()
    os.utime(old, (1_000_000_000, 1_000_000_000))
    assert world.counsel().sweep() == 1
    assert trees(world) == [young]


# --- bad days


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("kilobytes", [16, 200, 2000])
def test_a_full_disk_half_way_is_a_failure_by_name_and_leaves_nothing(
    world: World, model: Model, workspace: Path, kilobytes: int
) -> None:
    server = model([say("No.")])
    (workspace / "large").write_bytes(os.urandom(3_000_000))
    cache = world.home / ".cache"
    cache.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", cache], check=False
    )
    if mounted.returncode:
        pytest.skip("this container does not mount")
    try:
        with assert_unchanged(workspace):
            wire = delegate(world)
        assert (wire["status"], wire["error"]["code"]) == ("failed", "worktree_failed")
        assert (server.requests, trees(world)) == ([], [])
        assert_nothing_is_left(world)
    finally:
        subprocess.run(["umount", cache], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="only root mounts")
def test_work_that_fills_the_disk_is_no_success_and_stays_where_it_is(
    world: World, model: Model, workspace: Path
) -> None:
    model(
        [
            shell("head -c 20000000 /dev/urandom > big; echo made > made.txt"),
            say("Done."),
        ]
    )
    cache = world.home / ".cache"
    cache.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", cache], check=False
    ).returncode:
        pytest.skip("this container does not mount")
    try:
        wire = delegate(world)
        (tree,) = trees(world)
        assert pick(wire, "ok", "status", "partial", "answer") == {
            "ok": False,
            "status": "failed",
            "partial": True,
            "answer": "Done.",
        }
        assert (wire["error"]["code"], str(tree) in wire["error"]["message"]) == (
            "worktree_failed",
            True,
        )
        assert (tree / "tree/big").stat().st_size == 20_000_000
        assert world.counsel().sweep() == 0
        retention.drop(
            Store(world.state), Job(world.state / "jobs" / wire["meta"]["job_id"])
        )
        assert (world.counsel().sweep(), trees(world)) == (1, [])
    finally:
        subprocess.run(["umount", cache], check=True)


def test_a_task_without_a_place_for_its_record_is_refused(
    world: World, model: Model, workspace: Path
) -> None:
    server = model([say("No.")])
    world.state.write_text("a file")
    assert (refusal(world), server.requests) == (Code.STORAGE_FAILED, [])


def test_a_task_whose_record_cannot_be_made_is_not_run_from_a_private_directory(
    world: World, model: Model, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = launcher._fill

    def fail_once(*_: object) -> None:
        monkeypatch.setattr(launcher, "_fill", fill)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    server = model([say("No.")])
    monkeypatch.setattr(launcher, "_fill", fail_once)
    assert (refusal(world), server.requests) == (Code.STORAGE_FAILED, [])


def test_a_cache_directory_that_codex_takes_for_a_pattern_is_refused(
    world: World, model: Model, workspace: Path
) -> None:
    model([say("No.")])
    with pytest.raises(CounselError) as error:
        world.counsel(XDG_CACHE_HOME=str(world.base / "ca[ch]e")).delegate(
            parse(Delegate, {"task": "Fix it."})
        )
    assert error.value.code == Code.WORKTREE_FAILED


def test_a_cache_directory_that_cannot_be_made_is_a_failure_by_name(
    world: World, model: Model, workspace: Path
) -> None:
    server = model([say("No.")])
    (world.home / ".cache").write_text("a file")
    wire = delegate(world)
    assert (wire["error"]["code"], server.requests) == ("worktree_failed", [])


def test_a_codex_that_vanished_leaves_no_tree(
    world: World, model: Model, workspace: Path
) -> None:
    model([say("No.")])
    fakes.install(world, "os.unlink(sys.argv[0])")
    counsel = world.counsel()
    handle = counsel.delegate(parse(Delegate, {"task": "Fix it."}))
    assert wait(handle)["ok"] is False
    assert_nothing_is_left(world)
