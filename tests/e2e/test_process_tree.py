"""Ending a process tree: what is found, what is ended, and who is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from codex_counsel.system import process_tree
from codex_counsel.system.process_tree import Identity
from tests.conftest import until

SLEEPER = [sys.executable, "-I", "-S", "-c", "import time\nwhile True: time.sleep(60)"]
HAS_PS = (
    subprocess.run(
        ["/bin/sh", "-c", "command -v ps"], capture_output=True, check=False
    ).returncode
    == 0
)


def start_sleeper(argv: list[str] | None = None, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv or SLEEPER, start_new_session=True, env={**os.environ, **env}
    )


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is no business of ours."""
    with start_sleeper() as process:
        yield process
        process.kill()


def script(
    text: str, *args: str, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python in a process whose descendants are its own."""
    preamble = "import json, os, signal, subprocess, sys\nfrom codex_counsel.system import process_tree\n"
    argv = [*prefix, sys.executable, "-c", preamble + textwrap.dedent(text), *args]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=60, encoding="utf-8"
    )


def test_a_process_is_recognised_until_it_is_reaped(
    sleeper: subprocess.Popen[bytes],
) -> None:
    identity = Identity.of(sleeper.pid)
    assert identity
    assert identity.alive()
    sleeper.kill()
    sleeper.wait()
    assert not identity.alive()
    assert Identity.of(sleeper.pid) is None


def test_a_zombie_is_not_alive() -> None:
    process = start_sleeper()
    identity = Identity.of(process.pid)
    assert identity
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: not identity.alive())
    process.wait()


def test_the_same_pid_of_another_time_or_another_boot_is_someone_else(
    sleeper: subprocess.Popen[bytes],
) -> None:
    identity = Identity.of(sleeper.pid)
    assert identity
    assert not identity._replace(start=identity.start - 1).alive()
    assert not identity._replace(boot="another").alive()


REUSE = """
    import time
    def sleeper(*more):
        code = "import time, os, sys\\n" + ";".join(more) + "\\nwhile True: time.sleep(60)"
        argv = [sys.executable, "-I", "-S", "-c", code]
        return subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE)
    def reused(pid, *more):
        for _ in range(200):
            open("/proc/sys/kernel/ns_last_pid", "w").write(str(pid - 1))
            process = sleeper(*more)
            if process.pid == pid and process_tree.Identity.of(pid).start != codex.start:
                return process
            process.kill(); process.wait()
        sys.exit("not reused")
    first = sleeper()
    codex = process_tree.Identity.of(first.pid)
    first.kill(); first.wait()
    stranger = reused(first.pid)
    ended = process_tree.end_stray(codex, ("MARK=none",), patience=30)
    alive = [codex.alive(), stranger.poll() is None]
    stranger.kill(); stranger.wait()
    leader = reused(first.pid, "pid = os.fork() or None", "pid and (print(pid, flush=True), os._exit(0))")
    member = int(leader.stdout.readline()); leader.wait()
    same_session = os.getsid(member) == codex.pid
    process_tree.end_stray(codex, ("MARK=none",))
    print(json.dumps([ended, alive, same_session, os.path.exists(f"/proc/{member}")]))
    os.kill(member, 9)
"""


def test_a_reused_pid_or_session_number_is_a_stranger_and_left_alone() -> None:
    namespace = (
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    )
    if script("", prefix=namespace).returncode != 0:
        pytest.skip("this machine makes no pid namespaces")
    result = script(REUSE, prefix=namespace)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [[], [False, True], True, True]


def test_what_a_killed_worker_left_is_ended_by_identity_session_and_mark(
    sleeper: subprocess.Popen[bytes],
) -> None:
    waits = f"import subprocess, time; subprocess.run({SLEEPER!r}, process_group=0); time.sleep(600)"
    leader = start_sleeper([sys.executable, "-c", waits])
    (member,) = until(lambda: process_tree.descendants(leader.pid))
    marked = start_sleeper(CODEX_COUNSEL_JOB="0123")
    almost = start_sleeper(CODEX_COUNSEL_JOB="01234")
    member_identity = Identity.of(member)
    assert member_identity
    try:
        assert (
            process_tree.end_stray(
                Identity.of(leader.pid), ("CODEX_COUNSEL_JOB=0123",), patience=30
            )
            == []
        )
        assert leader.wait() == -signal.SIGKILL
        assert marked.wait() == -signal.SIGKILL
        assert not member_identity.alive()
        assert almost.poll() is None
        assert sleeper.poll() is None
    finally:
        almost.kill()
        almost.wait()


def test_nothing_of_another_boot_is_ended() -> None:
    with start_sleeper(MARK="of this test") as marked:
        identity = Identity.of(marked.pid)
        assert identity
        assert (
            process_tree.end_stray(
                identity._replace(boot="another"), ("MARK=of this test",)
            )
            == []
        )
        assert identity.alive()
        marked.kill()


SWEEP = """
    process_tree.become_subreaper()
    if "ps" in sys.argv:
        process_tree.PROC = "/nonexistent"
    if "no subreaper" in sys.argv:
        process_tree._LIBC.prctl(36, 0, 0, 0, 0)
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    loop = "import time\\nwhile True: time.sleep(60)"
    below = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {loop!r}], process_group=0);"
    leader = subprocess.Popen([sys.executable, "-c", below + "print(p.pid)"], start_new_session=True, **quiet)
    orphan = int(leader.stdout.readline())
    leader.wait()
    hasty = process_tree.sweep(leader.pid, patience=-1)
    survivors = process_tree.sweep(leader.pid, patience=30)
    left = process_tree.Identity.of(orphan)
    print(json.dumps([hasty == [orphan], survivors, bool(left and left.alive())]))
"""


@pytest.mark.parametrize(
    "how",
    ["proc", pytest.param("ps", marks=pytest.mark.skipif(not HAS_PS, reason="no ps"))],
)
@pytest.mark.parametrize("parent", ["subreaper", "no subreaper"])
def test_a_sweep_ends_orphans_and_names_what_it_had_no_time_for(
    how: str, parent: str
) -> None:
    result = script(SWEEP, how, parent)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [True, [], False]


SEEN = """
    sleeper = subprocess.Popen([*json.loads(sys.argv[1])], start_new_session=True)
    below = f"import subprocess; subprocess.run({json.loads(sys.argv[1])!r}, start_new_session=True)"
    family = subprocess.Popen([sys.executable, "-c", below])
    while not process_tree.descendants(family.pid):
        pass
    known = process_tree.descendants(os.getpid())
    process_tree.PROC = "/nonexistent"
    seen = process_tree.descendants(os.getpid())
    print(json.dumps([len(known), sorted(seen) == sorted(known)]))
    process_tree.sweep()
"""


@pytest.mark.skipif(not HAS_PS, reason="no ps")
def test_without_proc_all_descendants_are_seen() -> None:
    result = script(SEEN, json.dumps(SLEEPER))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [3, True]


@pytest.mark.skipif(not HAS_PS, reason="no ps")
def test_without_proc_the_same_processes_are_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    family = start_sleeper(
        [
            sys.executable,
            "-c",
            f"import subprocess; subprocess.run({SLEEPER!r}, start_new_session=True)",
        ]
    )
    (below,) = until(lambda: process_tree.descendants(family.pid))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(process_tree, "PROC", str(tmp_path / "none"))
            assert process_tree.descendants(family.pid) == [below]
            identity = Identity.of(below)
            assert identity
            assert identity.alive()
            assert not identity._replace(start=identity.start - 60).alive()
            os.kill(below, signal.SIGKILL)
            until(lambda: not identity.alive())
    finally:
        family.kill()
        family.wait()


def test_without_proc_and_ps_nothing_is_seen_and_nothing_fails(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process_tree, "PROC", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Identity.of(sleeper.pid) is None
    assert process_tree.end_stray(None, ("MARK=none",)) == []
