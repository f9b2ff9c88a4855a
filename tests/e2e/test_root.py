"""What Codex's sandbox leaves open to root, and not to others: settings of the machine, secrets of the system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import codex_counsel
from codex_counsel.codex.binary import Codex
from codex_counsel.codex.inspect import SandboxState, sandbox_state
from codex_counsel.codex.probe import ProbeCache, file_stamp
from codex_counsel.contract.request import DryRun, Status, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import Loopback, say, shell
from codex_counsel.prepare import system_files
from codex_counsel.system.process_tree import boot_id
from tests.conftest import World, consult
from tests.e2e.fakes import executable

Model = Callable[..., Loopback]
NOBODY = 65534
WRITABLE = SandboxState(None, host_controls_writable=True)

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can do what is tested"
)


def state_of(
    world: World, probes: ProbeCache, codex: Codex | None = None
) -> SandboxState:
    return sandbox_state(codex or world.codex(), world.env, probes)


def pretending(world: World, *words: str) -> Codex:
    """A Codex whose sandbox prints these words for the canary."""
    lines = "; ".join(f"echo {word}" for word in words)
    path = executable(world.base / "pretending", lines)
    return Codex(path, (world.base,), "0.169.0", "setting")


# --- settings of the machine


@as_root
def test_a_sandbox_that_leaves_sysctls_writable_is_usable_and_found_out(
    each_release: World, probes: ProbeCache
) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    assert state_of(each_release, probes) == WRITABLE
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before


@as_root
def test_a_command_of_a_run_can_open_a_sysctl_for_writing(
    each_release: World, each_model: Model
) -> None:
    """The trap works: without it the report would say something false."""
    server = each_model(
        [
            shell("( : >> /proc/sys/kernel/core_pattern ) && echo it-opens"),
            say("ok"),
        ]
    )
    wire = consult(each_release.counsel())
    assert "it-opens" in server.requests[-1].outputs[0]
    assert wire["meta"]["sandbox"]["host_controls"] == "writable"


@pytest.fixture
def open_base() -> Iterator[Path]:
    """A directory of nobody's, in one that every user can reach: those of the tests are root's alone."""
    base = Path(tempfile.mkdtemp(prefix="codex-counsel-test-", dir="/tmp"))
    shutil.chown(base, NOBODY, NOBODY)
    yield base
    shutil.rmtree(base)


PROBE = """
import json, sys
from pathlib import Path
from codex_counsel.codex.binary import Codex
from codex_counsel.codex.inspect import sandbox_state
from codex_counsel.codex.probe import ProbeCache
path, needs, base = sys.argv[1], sys.argv[2].split(":"), Path(sys.argv[3])
codex = Codex(Path(path), tuple(map(Path, needs)), "0.169.0", "setting")
state = sandbox_state(codex, {"HOME": str(base), "PATH": "/usr/bin:/bin"}, ProbeCache(base / "probes.json"))
print(json.dumps([state.problem, state.host_controls_writable]))
"""


@as_root
def test_an_unprivileged_user_finds_no_setting_of_the_machine_writable(
    each_release: World, open_base: Path
) -> None:
    codex = each_release.codex()
    source = Path(codex_counsel.__file__).parents[1]
    env = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(open_base),
        "LANG": "C.UTF-8",
    }

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd="/",
            env=env,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    python = shutil.which("python3", path="/usr/bin")
    imports = "import codex_counsel.codex.inspect"
    if not python or run(python, "-c", imports).returncode:
        pytest.skip("there is no Python here that every user can run")
    if run(str(codex.path), "--version").returncode:
        pytest.skip("not every user can run this Codex")

    needs = ":".join(map(str, codex.needs))
    result = run(python, "-c", PROBE, str(codex.path), needs, str(open_base))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [None, False]


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (("canary", "probed"), SandboxState(None)),
        (("canary", "probed", "writable"), WRITABLE),
        (("canary", "probed", "writable", "writable"), WRITABLE),
    ],
)
def test_what_was_found_is_remembered_with_what_it_is_about(
    world: World, probes: ProbeCache, words: tuple[str, ...], state: SandboxState
) -> None:
    found = pretending(world, *words)
    assert state_of(world, probes, found) == state
    stamp = found.path.stat()
    found.path.write_text("#!/bin/sh\n" + "#" * (stamp.st_size - 11) + "\n")
    os.utime(found.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert state_of(world, probes, found) == state


def test_a_success_that_an_earlier_version_remembered_hides_nothing(
    world: World, probes: ProbeCache
) -> None:
    found = pretending(world, "canary", "probed", "writable")
    config = file_stamp(world.codex_home / "config.toml")
    probes.put("", "sandbox", file_stamp(found.path), boot_id(), config)
    assert state_of(world, probes, found) == WRITABLE


@pytest.fixture
def writable(world: World) -> World:
    """The world, with a Codex whose sandbox leaves settings of the machine writable, whoever runs the tests."""
    real = world.binary
    world.binary = str(
        executable(
            world.base / "codex",
            'if [ "$1" = sandbox ]; then echo canary; echo probed; echo writable; exit; fi\n'
            f'exec {real} "$@"',
        )
    )
    return world


def test_every_result_says_so_and_a_run_without_commands_has_nothing_to_say(
    writable: World, model: Model
) -> None:
    model()
    writable.repository.begin_changed()
    counsel = writable.counsel()
    assert consult(counsel)["meta"]["sandbox"]["host_controls"] == "writable"
    data = counsel.dry_run(parse(DryRun, {}))["data"]
    assert data["sandbox"]["host_controls"] == "writable"
    assert "host_controls" not in consult(counsel, text_only=True)["meta"]["sandbox"]


def test_where_nothing_is_writable_nothing_is_said(world: World, model: Model) -> None:
    model()
    real = world.binary
    closed = 'if [ "$1" = sandbox ]; then echo canary; echo probed; exit; fi'
    world.binary = str(executable(world.base / "codex", f'{closed}\nexec {real} "$@"'))
    world.settings["HOST_CONTROLS"] = "refuse"
    assert "host_controls" not in consult(world.counsel())["meta"]["sandbox"]
    wire = world.counsel().status(parse(Status, {}))
    assert "host_controls" not in wire["data"]["sandbox"]
    assert "/proc/sys" not in json.dumps(wire)


def test_status_says_so_with_the_remedy(writable: World, model: Model) -> None:
    model()
    wire = writable.counsel().status(parse(Status, {}))
    assert wire["data"]["usable"] is True
    assert wire["data"]["sandbox"]["host_controls"] == "writable"
    (warning,) = [text for text in wire["meta"]["warnings"] if "/proc/sys" in text]
    assert "unprivileged user" in warning


def test_a_setting_refuses_before_anything_is_spent(
    writable: World, model: Model
) -> None:
    server = model()
    writable.settings["HOST_CONTROLS"] = "refuse"
    with pytest.raises(CounselError) as caught:
        consult(writable.counsel())
    error = caught.value
    assert error.code == Code.SANDBOX_UNAVAILABLE
    assert "/proc/sys" in error.message
    assert "unprivileged user" in (error.repair or "")
    assert "CODEX_COUNSEL_HOST_CONTROLS=report" in (error.repair or "")
    wire = writable.counsel().status(parse(Status, {}))
    assert wire["data"]["usable"] is False
    assert "unprivileged user" in wire["next_steps"][0]
    assert server.requests == []
    assert consult(writable.counsel(), text_only=True)["ok"]


# --- secrets of the system


def readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("reads", ["workspace", "host"])
def test_no_run_reads_secrets_of_the_system(
    each_release: World, each_model: Model, reads: str
) -> None:
    secrets = [path for path in system_files.named() if path.is_file()]
    secrets += [path for path in system_files.not_for_everybody() if path.is_file()]
    open_to_us = [path for path in secrets if readable(path)]
    if not open_to_us:
        pytest.skip("this user can read none of them anyway")
    attempts = [f"cat {path} > /dev/null && echo read {path}" for path in open_to_us]
    server = each_model([shell("; ".join([*attempts, "echo tried"])), say("ok")])
    each_release.settings["READ_BOUNDARY"] = reads
    consult(each_release.counsel())
    (output,) = server.requests[-1].outputs
    assert "tried" in output
    assert "read /" not in output


def test_a_state_directory_in_the_codex_home_breaks_no_command(
    each_release: World, each_model: Model
) -> None:
    """Both are denied, and Codex cannot deny what lies below a denied directory."""
    each_release.settings["STATE_DIR"] = str(each_release.codex_home / "counsel")
    (each_release.workspace / "app.py").write_text("answer = 42\n")
    server = each_model([shell("cat app.py"), say("ok")])
    each_release.settings["READ_BOUNDARY"] = "host"
    assert consult(each_release.counsel())["ok"]
    assert "answer = 42" in server.requests[-1].outputs[0]
