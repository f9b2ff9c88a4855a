"""What the installed Codex would do here: its configuration, servers, models, and whether its sandbox can be used."""

from __future__ import annotations

import json
import subprocess

import pytest

from codex_counsel.codex.binary import Codex
from codex_counsel.codex.inspect import (
    SandboxState,
    configuration,
    mcp_servers,
    models,
    sandbox_state,
)
from codex_counsel.codex.probe import ProbeCache
from codex_counsel.contract.request import Status, parse
from codex_counsel.errors import Code, CounselError
from tests.conftest import World
from tests.e2e.fakes import executable

# --- configuration


def test_the_profile_is_laid_over_the_configuration(world: World) -> None:
    world.configure('model = "a"\nmodel_reasoning_effort = "low"\n')
    (world.codex_home / "work.config.toml").write_text('model = "b"\n')
    assert configuration(world.codex_home, None)["model"] == "a"
    assert configuration(world.codex_home, "work") == {
        "model": "b",
        "model_reasoning_effort": "low",
    }


@pytest.mark.parametrize("text", ["model = [\n", "\x00", "= 1"])
def test_a_broken_configuration_says_nothing_here(world: World, text: str) -> None:
    world.configure(text)
    assert configuration(world.codex_home, "missing") == {}


def servers(
    world: World, probes: ProbeCache, profile: str | None = None
) -> tuple[str, ...]:
    run = {**world.env, "CODEX_HOME": str(world.codex_home)}
    return mcp_servers(world.codex(), run, world.workspace, profile, probes)


def test_every_mcp_server_is_named_and_none_is_started(
    each_release: World, probes: ProbeCache
) -> None:
    started = executable(
        each_release.base / "server", f"touch {each_release.base}/started"
    )
    names = ("plain", "with.dot", "with space", 'quo"te')
    tables = [
        f"[mcp_servers.{json.dumps(name)}]\ncommand = {json.dumps(str(started))}\n"
        for name in names
    ]
    each_release.configure("".join(tables))
    (each_release.codex_home / "work.config.toml").write_text(
        f'[mcp_servers.more]\ncommand = "{started}"\n'
    )
    assert set(servers(each_release, probes)) == set(names)
    assert "more" in servers(each_release, probes, "work")
    assert not (each_release.base / "started").exists()


def test_the_servers_are_asked_for_again_when_the_configuration_changes(
    world: World, probes: ProbeCache
) -> None:
    world.configure("")
    assert servers(world, probes) == ()
    world.configure('[mcp_servers.one]\nurl = "http://127.0.0.1:9/"\n')
    assert servers(world, probes) == ("one",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model = [\n", "unclosed array"),
        ('sandbox_mode = "weird"\n', "unknown variant `weird`"),
        ("[mcp_servers.x]\n", "invalid transport"),
        ('default_permissions = "mine"\n', "requires a `[permissions]` table"),
    ],
)
def test_a_broken_configuration_is_reported_in_codexs_own_words(
    each_release: World, probes: ProbeCache, text: str, reason: str
) -> None:
    each_release.configure(text)
    with pytest.raises(CounselError) as caught:
        servers(each_release, probes)
    assert caught.value.code == Code.CODEX_CONFIG_INVALID
    assert reason in caught.value.message


def test_models_come_with_their_efforts_and_the_default_first(
    each_release: World, probes: ProbeCache
) -> None:
    env = {**each_release.env, "CODEX_HOME": str(each_release.codex_home)}
    listed = models(each_release.codex(), env, probes)
    assert listed[0]["default"] is True
    assert all(row["model"] and row["efforts"] for row in listed)
    assert "gpt-5.5" in [row["model"] for row in listed]


# --- the sandbox


def problem_of(world: World, found: Codex, probes: ProbeCache) -> str | None:
    return state_of(world, found, probes).problem


def state_of(world: World, found: Codex, probes: ProbeCache) -> SandboxState:
    return sandbox_state(
        found, {**world.env, "CODEX_HOME": str(world.codex_home)}, probes
    )


def test_the_sandbox_of_the_real_codex_holds(
    each_release: World, probes: ProbeCache
) -> None:
    assert problem_of(each_release, each_release.codex(), probes) is None
    assert list(each_release.temp.iterdir()) == []


def test_a_sandbox_that_cannot_start_says_why_and_is_tried_again(
    each_release: World, probes: ProbeCache
) -> None:
    """No user namespaces, as in a container or under a strict AppArmor: allowed none, bubblewrap cannot make one."""
    real = each_release.codex()
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces"
    if subprocess.run(
        ["unshare", "-Ur", "sh", "-c", forbid], capture_output=True, check=False
    ).returncode:
        pytest.skip("user namespaces cannot be switched off here")
    wrapper = executable(
        each_release.base / "wrapper",
        f'test -e {each_release.base}/well && exec {real.path} "$@"\n'
        f'exec unshare -Ur sh -c \'{forbid}; exec "$0" "$@"\' {real.path} "$@"',
    )
    crippled = Codex(wrapper, real.needs, real.version, "setting")
    assert "bwrap" in (problem_of(each_release, crippled, probes) or "")
    (each_release.base / "well").touch()
    assert problem_of(each_release, crippled, probes) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('while [ "$1" != -- ]; do shift; done; shift; exec "$@"', "does not bound"),
        ("echo canary; echo probed", None),
        ("exit 0", "no answer"),
        ("echo it broke >&2; exit 1", "it broke"),
        ("echo probed", "does not bound"),
    ],
    ids=["no sandbox at all", "as it should be", "silent", "broken", "reads nothing"],
)
def test_a_sandbox_that_does_not_do_its_work_is_found_out(
    world: World, probes: ProbeCache, body: str, reason: str | None
) -> None:
    found = Codex(
        executable(world.base / "codex", body), (world.base,), "0.169.0", "setting"
    )
    problem = problem_of(world, found, probes)
    assert problem is None if reason is None else reason in (problem or "")


def test_a_sandbox_that_does_not_bound_reads_is_found_out_in_a_temporary_directory_of_any_name(
    world: World, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = world.base / "my temporary 'files'; x"
    spaced.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spaced))
    unwritable = executable(world.base / "tools/touch", "exit 1")
    shim = f'while [ "$1" != -- ]; do shift; done; shift; PATH={unwritable.parent}:$PATH exec "$@"'
    found = Codex(
        executable(world.base / "codex", shim), (world.base,), "0.169.0", "setting"
    )
    assert "does not bound" in (problem_of(world, found, probes) or "")
    assert problem_of(world, world.codex(), probes) is None


def test_a_sandbox_that_holds_is_tried_again_only_when_the_configuration_changes(
    world: World, probes: ProbeCache
) -> None:
    path = executable(
        world.base / "codex",
        f"echo tried >> {world.base}/tried; echo canary; echo probed",
    )
    for _ in range(3):
        assert (
            problem_of(world, Codex(path, (world.base,), "0.169.0", "setting"), probes)
            is None
        )
    assert (world.base / "tried").read_text().split() == ["tried"]
    world.configure("[features]\nuse_legacy_landlock = true\n")
    assert (
        problem_of(world, Codex(path, (world.base,), "0.169.0", "setting"), probes)
        is None
    )
    assert (world.base / "tried").read_text().split() == ["tried"] * 2


def test_status_tells_what_each_kind_of_run_may_read(world: World) -> None:
    readable = world.counsel().status(parse(Status, {}))["data"]["sandbox"][
        "read_boundary"
    ]
    assert readable == {
        "consult": "workspace",
        "review": "toolchains",
        "delegate": "toolchains",
    }
    world.settings["READ_BOUNDARY"] = "host"
    readable = world.counsel().status(parse(Status, {}))["data"]["sandbox"][
        "read_boundary"
    ]
    assert set(readable.values()) == {"host"}
