"""Finding and judging the installed Codex: with the real binary, and with small programs that misbehave."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from codex_counsel.codex import binary as codex
from codex_counsel.codex import sandbox
from codex_counsel.codex.binary import (
    Codex,
    ProbeCache,
    configuration,
    find,
    login,
    mcp_servers,
    models,
    sandbox_problem,
)
from codex_counsel.contract.request import Status, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.loopback import Account
from codex_counsel.services.counsel import Counsel
from tests.conftest import BUNDLED, World, linked, until

NATIVE = "vendor/x86_64-unknown-linux-musl"


@pytest.fixture
def probes(tmp_path: Path) -> ProbeCache:
    return ProbeCache(tmp_path / "cache" / "probes.json")


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    path.chmod(0o755)
    return path


def says(path: Path, version: str) -> Path:
    return program(path, f"echo codex-cli {version}")


def refused(path: Path | str, probes: ProbeCache) -> CounselError:
    with pytest.raises(CounselError) as caught:
        find(str(path), "", probes)
    return caught.value


# --- finding


def test_the_setting_wins_over_the_path_and_the_path_over_the_package(tmp_path: Path, probes: ProbeCache) -> None:
    chosen, on_path = says(tmp_path / "chosen", "1.0.0"), says(tmp_path / "bin/codex", "2.0.0")
    found = [find(setting, str(on_path.parent), probes) for setting in (str(chosen), None)]
    assert [(f.path, f.version, f.source) for f in found] == [
        (chosen, "1.0.0", "setting"),
        (on_path, "2.0.0", "PATH"),
    ]
    bundled = find(None, str(tmp_path), probes)
    assert (str(bundled.path), bundled.source) == (BUNDLED, "package")


def test_a_codex_that_lies_in_the_current_directory_is_not_taken(
    tmp_path: Path, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "codex", f"touch {tmp_path}/executed; echo codex-cli 9.9.9")
    monkeypatch.chdir(tmp_path)
    for path in (".", "", ":", f".:{tmp_path}/none"):
        assert find(None, path, probes).source == "package"
    assert not (tmp_path / "executed").exists()


def test_without_any_codex_it_is_not_found(probes: ProbeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codex, "_bundled", lambda: None)
    with pytest.raises(CounselError) as caught:
        find(None, str(tmp_path), probes)
    assert caught.value.code == Code.CODEX_NOT_FOUND


def test_a_setting_that_names_nothing_executable_is_not_replaced_by_another_codex(
    tmp_path: Path, probes: ProbeCache
) -> None:
    (tmp_path / "text").write_text("no program")
    for name in ("missing", "text", "."):
        error = refused(tmp_path / name, probes)
        assert error.code == Code.CODEX_NOT_FOUND
        assert "setting" in error.message


def test_a_home_directory_in_the_setting_is_understood(
    tmp_path: Path, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    says(tmp_path / "bin/codex", "1.2.3")
    assert find("~/bin/codex", "", probes).version == "1.2.3"


def npm(prefix: Path, nested: bool) -> Path:
    """What `npm install -g @openai/codex` leaves, its native binary a link to the real one; the command."""
    launcher = program(prefix / "lib/node_modules/@openai/codex/bin/codex.js", "echo codex-cli 0.0.1")
    package = launcher.parent.parent
    homes = package / "node_modules/@openai" if nested else package.parent
    vendor = homes / "codex-linux-x64" / NATIVE
    (vendor / "bin").mkdir(parents=True)
    (vendor / "bin/codex").symlink_to(BUNDLED)
    (vendor / "codex-package.json").touch()
    (prefix / "bin").mkdir()
    (prefix / "bin/codex").symlink_to(launcher)
    return prefix / "bin/codex"


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "hoisted"])
def test_the_native_binary_is_taken_behind_npms_launcher(tmp_path: Path, probes: ProbeCache, nested: bool) -> None:
    command = npm(tmp_path, nested)
    found = find(None, str(command.parent), probes)
    assert found.path.name == "codex"
    assert NATIVE in str(found.path)
    assert found.version == codex.find(BUNDLED, "", probes).version
    assert found.path.resolve() in found.needs
    assert found.source == "PATH"


def test_a_launcher_without_its_native_binary_is_used_as_it_is(tmp_path: Path, probes: ProbeCache) -> None:
    launcher = program(tmp_path / "codex/bin/codex.js", "echo codex-cli 0.200.0")
    (tmp_path / "codex-linux-x64" / NATIVE / "bin").mkdir(parents=True)
    (tmp_path / "codex-linux-x64" / NATIVE / "bin/codex").write_text("not executable")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/codex").symlink_to(launcher)
    assert find(None, str(tmp_path / "bin"), probes).path == launcher


def test_of_a_package_its_parts_are_opened_and_not_what_lies_beside_them(tmp_path: Path, probes: ProbeCache) -> None:
    package = Path(BUNDLED).resolve().parent.parent
    names = ("bin/codex", "bin/codex-code-mode-host", "codex-resources", "codex-path", "codex-package.json")
    assert set(find(BUNDLED, "", probes).needs) == {package / name for name in names}
    home = tmp_path / "home"
    for folder in ("codex-resources", "elsewhere"):
        (home / folder).mkdir(parents=True)
    (home / "diary.txt").touch()
    (home / "codex-path").symlink_to(home / "elsewhere")
    for alone in (says(home / "codex", "1.0.0"), says(home / "bin/codex", "1.0.0")):
        assert find(str(alone), "", probes).needs == (alone, home / "codex-resources")


@pytest.mark.parametrize("resources", [True, False], ids=["with its resources", "bwrap on PATH"])
@pytest.mark.parametrize("folder", ["", "bin", ".codex/bin"])
def test_a_codex_that_lies_in_a_home_opens_nothing_else_of_it(
    world: World, probes: ProbeCache, folder: str, resources: bool
) -> None:
    package = Path(BUNDLED).resolve().parent.parent
    binary = world.home / folder / "codex"
    binary.parent.mkdir(exist_ok=True, parents=True)
    shutil.copy(package / "bin/codex", binary)
    bwrap = binary.parent / "codex-resources/bwrap" if resources else world.base / "tools/bwrap"
    bwrap.parent.mkdir()
    shutil.copy(package / "codex-resources/bwrap", bwrap)
    (world.home / "diary.txt").write_text("PRIVATE")
    path = f"{world.base / 'tools'}:{world.env['PATH']}"
    run = {**world.env, "PATH": path, "CODEX_HOME": str(world.codex_home)}
    found = find(str(binary), "", probes)
    assert sandbox_problem(found, run, probes) is None
    boundary = sandbox.Boundary(world.workspace, readable=found.needs)
    config = [part for value in sandbox.overrides(boundary, "p") for part in ("-c", value)]
    look = f"ls {world.home}; cat {world.home}/diary.txt; echo looked"
    answer = codex.probe([str(found.path), "sandbox", *config, "--", "/bin/sh", "-c", look], world.workspace, run)
    assert "looked" in answer.out
    assert "PRIVATE" not in answer.out
    assert "diary" not in answer.out


def test_a_codex_inside_the_project_is_not_taken(world: World) -> None:
    world.git("init", "-q")
    inside = program(world.workspace / "node_modules/.bin/codex", f"touch {world.base}/executed; echo codex-cli 9.9.9")
    (world.workspace / "sub").mkdir()
    env = {**world.env, "PATH": f"{inside.parent}:/usr/bin:/bin"}
    del env["CODEX_COUNSEL_CODEX_BIN"]
    for cwd in (world.workspace, world.workspace / "sub"):
        counsel = Counsel(env, cwd)
        assert counsel.codex.source == "package"
        assert counsel.status(parse(Status, {}))["data"]["codex"]["source"] == "package"
    assert not (world.base / "executed").exists()


def test_a_missing_host_of_code_mode_is_told_of(world: World) -> None:
    shutil.copytree(Path(BUNDLED).parent.parent, world.base / "codex", copy_function=linked)
    (world.base / "codex/bin/codex-code-mode-host").unlink()
    world.binary = str(world.base / "codex/bin/codex")
    for told, counsel in ((True, world.counsel()), (False, world.counsel(CODEX_COUNSEL_CODEX_BIN=BUNDLED))):
        warnings = counsel.status(parse(Status, {}))["meta"].get("warnings", [])
        assert any("codex-code-mode-host is missing" in warning for warning in warnings) is told


def test_status_tells_what_each_kind_of_run_may_read(world: World) -> None:
    asked = world.counsel().status(parse(Status, {}))["data"]["sandbox"]["read_boundary"]
    assert asked == {"consult": "workspace", "review": "workspace", "delegate": "toolchains"}
    world.settings["READ_BOUNDARY"] = "host"
    asked = world.counsel().status(parse(Status, {}))["data"]["sandbox"]["read_boundary"]
    assert set(asked.values()) == {"host"}


# --- the version


@pytest.mark.parametrize(
    "body",
    [
        "echo hello",
        "true",
        "echo codex-cli unknown",
        "printf '\\377\\376\\000'",
        "exit 3",
        "kill -9 $$",
        "cat",
        "yes | head -c 99999",
    ],
)
def test_a_program_that_tells_no_version_is_no_codex(tmp_path: Path, probes: ProbeCache, body: str) -> None:
    error = refused(program(tmp_path / "codex", body), probes)
    assert error.code == Code.CODEX_NOT_FOUND
    assert "--version" in error.message
    assert len(error.message) < 400


def test_a_file_that_cannot_be_started_is_no_codex(tmp_path: Path, probes: ProbeCache) -> None:
    path = tmp_path / "codex"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    assert refused(path, probes).code == Code.CODEX_NOT_FOUND


def test_a_codex_that_hangs_is_ended_with_its_children(
    tmp_path: Path, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codex, "PROBE_SECONDS", 0.3)
    os.mkfifo(tmp_path / "never")
    path = program(tmp_path / "codex", f"cat {tmp_path}/never & echo $! > {tmp_path}/pid; cat {tmp_path}/never")
    error = refused(path, probes)
    assert error.code == Code.CODEX_NOT_FOUND
    assert "did not answer" in error.message
    until(lambda: not alive(int((tmp_path / "pid").read_text())))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("version", ["0.147.9", "0.99.0", "0.0.1"])
def test_an_old_codex_is_refused_with_what_it_would_have_to_be(
    tmp_path: Path, probes: ProbeCache, version: str
) -> None:
    error = refused(says(tmp_path / "codex", version), probes)
    assert error.code == Code.CODEX_TOO_OLD
    assert version in error.message
    assert "0.148.0" in error.message


@pytest.mark.parametrize("version", ["0.148.0", "0.169.0", "0.170.0-alpha.3", "1.0.0", "10.2.33+build"])
def test_the_oldest_supported_codex_and_everything_newer_is_taken(
    tmp_path: Path, probes: ProbeCache, version: str
) -> None:
    assert find(str(says(tmp_path / "codex", version)), "", probes).version == version


def test_notices_around_the_version_do_no_harm(tmp_path: Path, probes: ProbeCache) -> None:
    path = program(tmp_path / "codex", "echo WARNING: something >&2; echo a notice; echo codex-cli 0.160.1; echo bye")
    assert find(str(path), "", probes).version == "0.160.1"


# --- what is remembered


def test_a_binary_is_asked_once_and_again_when_it_has_changed(tmp_path: Path, probes: ProbeCache) -> None:
    path = program(tmp_path / "codex", f"echo asked >> {tmp_path}/asked; echo codex-cli 0.150.0")
    for _ in range(3):
        assert find(str(path), "", probes).version == "0.150.0"
    assert (tmp_path / "asked").read_text().split() == ["asked"]
    program(tmp_path / "codex", f"echo asked >> {tmp_path}/asked; echo codex-cli 0.151.0 ")
    assert find(str(path), "", probes).version == "0.151.0"
    os.utime(path, ns=(1, 1))
    assert find(str(path), "", probes).version == "0.151.0"
    assert (tmp_path / "asked").read_text().split() == ["asked"] * 3


def test_a_failure_is_not_remembered(tmp_path: Path, probes: ProbeCache) -> None:
    path = program(tmp_path / "codex", f"test -e {tmp_path}/well && echo codex-cli 0.150.0")
    assert refused(path, probes).code == Code.CODEX_NOT_FOUND
    (tmp_path / "well").touch()
    assert find(str(path), "", probes).version == "0.150.0"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 7}', "\x00\xff"])
def test_a_damaged_cache_costs_a_question_and_is_mended(tmp_path: Path, content: str) -> None:
    file = tmp_path / "probes.json"
    file.write_bytes(content.encode("latin-1"))
    path = says(tmp_path / "codex", "0.150.0")
    assert find(str(path), "", ProbeCache(file)).version == "0.150.0"
    assert "0.150.0" in json.loads(file.read_text()).values()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_cache_that_cannot_be_written_costs_a_question_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    probes = ProbeCache(tmp_path / "file" / "probes.json")
    path = program(tmp_path / "codex", f"echo asked >> {tmp_path}/asked; echo codex-cli 0.150.0")
    for _ in range(2):
        assert find(str(path), "", probes).version == "0.150.0"
    assert (tmp_path / "asked").read_text().split() == ["asked"] * 2


def test_the_cache_does_not_grow_without_end(tmp_path: Path, probes: ProbeCache) -> None:
    for number in range(250):
        probes.put(number, "key", str(number))
    assert probes.get("key", "49") is None
    assert [probes.get("key", str(number)) for number in (50, 249)] == [50, 249]


# --- login


def known(world: World, **config: object) -> codex.Login:
    return login(world.codex(), world.codex_home, world.env, config)


def test_without_credentials_there_is_no_login(world: World) -> None:
    assert (known(world).kind, known(world).present) == ("none", False)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"OPENAI_API_KEY": "sk-test"}', "api_key"),
        (Account().auth_json(), "chatgpt"),
        ('{"OPENAI_API_KEY": null, "tokens": {"access_token": "x"}}', "chatgpt"),
        ('{"OPENAI_API_KEY": "", "tokens": null}', "keyring"),
        ("{}", "keyring"),
        ("[]", "none"),
        ("not json", "none"),
        ("", "none"),
        ('{"tokens": 7}', "none"),
    ],
)
def test_the_stored_login_is_recognised(world: World, text: str, kind: str) -> None:
    (world.codex_home / "auth.json").write_text(text)
    assert known(world).kind == kind


def test_a_key_in_the_environment_is_a_login_and_openais_own_name_is_not(world: World) -> None:
    for name, kind in (("CODEX_API_KEY", "api_key"), ("OPENAI_API_KEY", "none")):
        assert login(world.codex(), world.codex_home, {**world.env, name: "sk-x"}, {}).kind == kind


def test_a_provider_of_the_users_own_needs_no_login(world: World) -> None:
    assert known(world, model_provider="mine", model_providers={"mine": {"base_url": "http://x"}}).kind == "provider"
    assert known(world, model_provider="mine").kind == "provider"
    assert known(world, model_provider="openai").kind == "none"


def test_accounts_are_told_apart_and_not_named(world: World) -> None:
    identities = []
    for key in ("sk-one", "sk-two", "sk-one"):
        (world.codex_home / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": key}))
        identities.append(known(world).identity)
    assert identities[0] == identities[2] != identities[1]
    assert "sk" not in "".join(identities)


# --- configuration


def test_the_profile_is_laid_over_the_configuration(world: World) -> None:
    world.configure('model = "a"\nmodel_reasoning_effort = "low"\n')
    (world.codex_home / "work.config.toml").write_text('model = "b"\n')
    assert configuration(world.codex_home, None)["model"] == "a"
    assert configuration(world.codex_home, "work") == {"model": "b", "model_reasoning_effort": "low"}


@pytest.mark.parametrize("text", ["model = [\n", "\x00", "= 1"])
def test_a_broken_configuration_says_nothing_here(world: World, text: str) -> None:
    world.configure(text)
    assert configuration(world.codex_home, "missing") == {}


def servers(world: World, probes: ProbeCache, profile: str | None = None) -> tuple[str, ...]:
    run = {**world.env, "CODEX_HOME": str(world.codex_home)}
    return mcp_servers(world.codex(), run, world.workspace, profile, probes)


def test_every_mcp_server_is_named_and_none_is_started(each_release: World, probes: ProbeCache) -> None:
    started = program(each_release.base / "server", f"touch {each_release.base}/started")
    names = ("plain", "with.dot", "with space", 'quo"te')
    tables = [f"[mcp_servers.{json.dumps(name)}]\ncommand = {json.dumps(str(started))}\n" for name in names]
    each_release.configure("".join(tables))
    (each_release.codex_home / "work.config.toml").write_text(f'[mcp_servers.more]\ncommand = "{started}"\n')
    assert set(servers(each_release, probes)) == set(names)
    assert "more" in servers(each_release, probes, "work")
    assert not (each_release.base / "started").exists()


def test_the_servers_are_asked_for_again_when_the_configuration_changes(world: World, probes: ProbeCache) -> None:
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


def test_models_come_with_their_efforts_and_the_default_first(each_release: World) -> None:
    listed = models(each_release.codex(), {**each_release.env, "CODEX_HOME": str(each_release.codex_home)})
    assert listed[0]["default"] is True
    assert all(row["model"] and row["efforts"] for row in listed)
    assert "gpt-5.5" in [row["model"] for row in listed]


# --- the sandbox


def held(world: World, found: Codex, probes: ProbeCache) -> str | None:
    return sandbox_problem(found, {**world.env, "CODEX_HOME": str(world.codex_home)}, probes)


def test_the_sandbox_of_the_real_codex_holds(each_release: World, probes: ProbeCache) -> None:
    assert held(each_release, each_release.codex(), probes) is None
    assert list(each_release.temp.iterdir()) == []


def test_a_sandbox_that_cannot_start_says_why_and_is_tried_again(each_release: World, probes: ProbeCache) -> None:
    """No user namespaces, as in a container or under a strict AppArmor: allowed none, bubblewrap cannot make one."""
    real = each_release.codex()
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces"
    if subprocess.run(["unshare", "-Ur", "sh", "-c", forbid], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces cannot be switched off here")
    wrapper = program(
        each_release.base / "wrapper",
        f'test -e {each_release.base}/well && exec {real.path} "$@"\n'
        f'exec unshare -Ur sh -c \'{forbid}; exec "$0" "$@"\' {real.path} "$@"',
    )
    crippled = Codex(wrapper, real.needs, real.version, "setting")
    assert "bwrap" in (held(each_release, crippled, probes) or "")
    (each_release.base / "well").touch()
    assert held(each_release, crippled, probes) is None


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
    found = Codex(program(world.base / "codex", body), (world.base,), "0.169.0", "setting")
    said = held(world, found, probes)
    assert said is None if reason is None else reason in (said or "")


def test_a_sandbox_that_does_not_bound_reads_is_found_out_in_a_temporary_directory_of_any_name(
    world: World, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = world.base / "my temporary 'files'; x"
    spaced.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spaced))
    unwritable = program(world.base / "tools/touch", "exit 1")
    shim = f'while [ "$1" != -- ]; do shift; done; shift; PATH={unwritable.parent}:$PATH exec "$@"'
    found = Codex(program(world.base / "codex", shim), (world.base,), "0.169.0", "setting")
    assert "does not bound" in (held(world, found, probes) or "")
    assert held(world, world.codex(), probes) is None


def test_a_sandbox_that_holds_is_tried_again_only_when_the_configuration_changes(
    world: World, probes: ProbeCache
) -> None:
    path = program(world.base / "codex", f"echo tried >> {world.base}/tried; echo canary; echo probed")
    for _ in range(3):
        assert held(world, Codex(path, (world.base,), "0.169.0", "setting"), probes) is None
    assert (world.base / "tried").read_text().split() == ["tried"]
    world.configure("[features]\nuse_legacy_landlock = true\n")
    assert held(world, Codex(path, (world.base,), "0.169.0", "setting"), probes) is None
    assert (world.base / "tried").read_text().split() == ["tried"] * 2
