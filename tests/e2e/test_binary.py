"""Finding the installed Codex: with the real binary, and with small programs that misbehave."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from codex_counsel.codex import binary, probe, sandbox
from codex_counsel.codex.binary import find
from codex_counsel.codex.command import config_flags
from codex_counsel.codex.inspect import sandbox_state
from codex_counsel.codex.probe import ProbeCache, run_probe
from codex_counsel.contract.request import Status, parse
from codex_counsel.errors import Code, CounselError
from codex_counsel.prepare import workspace
from codex_counsel.prepare.preflight import find_codex
from codex_counsel.services.counsel import Counsel
from tests.conftest import BUNDLED, World, link_or_copy, living, until
from tests.e2e.fakes import executable

NATIVE = "vendor/x86_64-unknown-linux-musl"


def says(path: Path, version: str) -> Path:
    return executable(path, f"echo codex-cli {version}")


def refusal_of(path: Path | str, probes: ProbeCache) -> CounselError:
    with pytest.raises(CounselError) as caught:
        find(str(path), "", probes)
    return caught.value


# --- finding


def test_the_setting_wins_over_the_path_and_the_path_over_the_package(
    tmp_path: Path, probes: ProbeCache
) -> None:
    chosen, on_path = (
        says(tmp_path / "chosen", "1.0.0"),
        says(tmp_path / "bin/codex", "2.0.0"),
    )
    found = [
        find(setting, str(on_path.parent), probes) for setting in (str(chosen), None)
    ]
    assert [(f.path, f.version, f.source) for f in found] == [
        (chosen, "1.0.0", "setting"),
        (on_path, "2.0.0", "PATH"),
    ]
    bundled = find(None, str(tmp_path), probes)
    assert (str(bundled.path), bundled.source) == (BUNDLED, "package")


def test_a_codex_that_lies_in_the_current_directory_is_not_taken(
    tmp_path: Path, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    executable(tmp_path / "codex", f"touch {tmp_path}/executed; echo codex-cli 9.9.9")
    monkeypatch.chdir(tmp_path)
    for path in (".", "", ":", f".:{tmp_path}/none"):
        assert find(None, path, probes).source == "package"
    assert not (tmp_path / "executed").exists()


def test_without_any_codex_it_is_not_found(
    probes: ProbeCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binary, "_package_binary", lambda: None)
    with pytest.raises(CounselError) as caught:
        find(None, str(tmp_path), probes)
    assert caught.value.code == Code.CODEX_NOT_FOUND


def test_a_setting_that_names_nothing_executable_is_not_replaced_by_another_codex(
    tmp_path: Path, probes: ProbeCache
) -> None:
    (tmp_path / "text").write_text("no program")
    for name in ("missing", "text", "."):
        error = refusal_of(tmp_path / name, probes)
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
    launcher = executable(
        prefix / "lib/node_modules/@openai/codex/bin/codex.js", "echo codex-cli 0.0.1"
    )
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
def test_the_native_binary_is_taken_behind_npms_launcher(
    tmp_path: Path, probes: ProbeCache, nested: bool
) -> None:
    command = npm(tmp_path, nested)
    found = find(None, str(command.parent), probes)
    assert found.path.name == "codex"
    assert NATIVE in str(found.path)
    assert found.version == find(BUNDLED, "", probes).version
    assert found.path.resolve() in found.needs
    assert found.source == "PATH"


def test_a_launcher_without_its_native_binary_is_used_as_it_is(
    tmp_path: Path, probes: ProbeCache
) -> None:
    launcher = executable(tmp_path / "codex/bin/codex.js", "echo codex-cli 0.200.0")
    (tmp_path / "codex-linux-x64" / NATIVE / "bin").mkdir(parents=True)
    (tmp_path / "codex-linux-x64" / NATIVE / "bin/codex").write_text("not executable")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/codex").symlink_to(launcher)
    assert find(None, str(tmp_path / "bin"), probes).path == launcher


def test_of_a_package_its_parts_are_opened_and_not_what_lies_beside_them(
    tmp_path: Path, probes: ProbeCache
) -> None:
    package = Path(BUNDLED).resolve().parent.parent
    names = (
        "bin/codex",
        "bin/codex-code-mode-host",
        "codex-resources",
        "codex-path",
        "codex-package.json",
    )
    assert set(find(BUNDLED, "", probes).needs) == {package / name for name in names}
    home = tmp_path / "home"
    for folder in ("codex-resources", "elsewhere"):
        (home / folder).mkdir(parents=True)
    (home / "diary.txt").touch()
    (home / "codex-path").symlink_to(home / "elsewhere")
    for alone in (says(home / "codex", "1.0.0"), says(home / "bin/codex", "1.0.0")):
        assert find(str(alone), "", probes).needs == (alone, home / "codex-resources")


@pytest.mark.parametrize(
    "resources", [True, False], ids=["with its resources", "bwrap on PATH"]
)
@pytest.mark.parametrize("folder", ["", "bin", ".codex/bin"])
def test_a_codex_that_lies_in_a_home_opens_nothing_else_of_it(
    world: World, probes: ProbeCache, folder: str, resources: bool
) -> None:
    package = Path(BUNDLED).resolve().parent.parent
    binary = world.home / folder / "codex"
    binary.parent.mkdir(exist_ok=True, parents=True)
    shutil.copy(package / "bin/codex", binary)
    bwrap = (
        binary.parent / "codex-resources/bwrap"
        if resources
        else world.base / "tools/bwrap"
    )
    bwrap.parent.mkdir()
    shutil.copy(package / "codex-resources/bwrap", bwrap)
    (world.home / "diary.txt").write_text("PRIVATE")
    path = f"{world.base / 'tools'}:{world.env['PATH']}"
    run = {**world.env, "PATH": path, "CODEX_HOME": str(world.codex_home)}
    found = find(str(binary), "", probes)
    assert sandbox_state(found, run, probes).problem is None
    boundary = sandbox.Boundary(world.workspace, readable=found.needs)
    config = config_flags(sandbox.overrides(boundary, "p"))
    look = f"ls {world.home}; cat {world.home}/diary.txt; echo looked"
    result = run_probe(
        [str(found.path), "sandbox", *config, "--", "/bin/sh", "-c", look],
        cwd=world.workspace,
        env=run,
    )
    assert "looked" in result.stdout
    assert "PRIVATE" not in result.stdout
    assert "diary" not in result.stdout


def test_a_codex_inside_the_project_is_not_taken(world: World) -> None:
    world.repository.init()
    inside = executable(
        world.workspace / "node_modules/.bin/codex",
        f"touch {world.base}/executed; echo codex-cli 9.9.9",
    )
    (world.workspace / "sub").mkdir()
    env = {**world.env, "PATH": f"{inside.parent}:/usr/bin:/bin"}
    del env["CODEX_COUNSEL_CODEX_BIN"]
    for cwd in (world.workspace, world.workspace / "sub"):
        counsel = Counsel(env, cwd)
        assert (
            find_codex(counsel.context, workspace.resolve(counsel.context, None)).source
            == "package"
        )
        assert counsel.status(parse(Status, {}))["data"]["codex"]["source"] == "package"
    assert not (world.base / "executed").exists()


def test_a_missing_host_of_code_mode_is_told_of(world: World) -> None:
    shutil.copytree(
        Path(BUNDLED).parent.parent, world.base / "codex", copy_function=link_or_copy
    )
    (world.base / "codex/bin/codex-code-mode-host").unlink()
    world.binary = str(world.base / "codex/bin/codex")
    for missing, counsel in (
        (True, world.counsel()),
        (False, world.counsel(CODEX_COUNSEL_CODEX_BIN=BUNDLED)),
    ):
        warnings = counsel.status(parse(Status, {}))["meta"].get("warnings", [])
        assert (
            any("codex-code-mode-host is missing" in warning for warning in warnings)
            is missing
        )


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
def test_a_program_that_tells_no_version_is_no_codex(
    tmp_path: Path, probes: ProbeCache, body: str
) -> None:
    error = refusal_of(executable(tmp_path / "codex", body), probes)
    assert error.code == Code.CODEX_NOT_FOUND
    assert "--version" in error.message
    assert len(error.message) < 400


def test_a_file_that_cannot_be_started_is_no_codex(
    tmp_path: Path, probes: ProbeCache
) -> None:
    path = tmp_path / "codex"
    path.write_bytes(b"\x7fELF nonsense")
    path.chmod(0o755)
    assert refusal_of(path, probes).code == Code.CODEX_NOT_FOUND


def test_a_codex_that_hangs_is_ended_with_its_children(
    tmp_path: Path, probes: ProbeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PROBE_SECONDS", 1)
    os.mkfifo(tmp_path / "never")
    path = executable(
        tmp_path / "codex",
        f"cat {tmp_path}/never & cat {tmp_path}/never",
    )
    error = refusal_of(path, probes)
    assert error.code == Code.CODEX_NOT_FOUND
    assert "did not answer" in error.message
    until(lambda: not living(str(tmp_path)))


@pytest.mark.parametrize("version", ["0.147.9", "0.99.0", "0.0.1"])
def test_an_old_codex_is_refused_with_what_it_would_have_to_be(
    tmp_path: Path, probes: ProbeCache, version: str
) -> None:
    error = refusal_of(says(tmp_path / "codex", version), probes)
    assert error.code == Code.CODEX_TOO_OLD
    assert version in error.message
    assert "0.148.0" in error.message


@pytest.mark.parametrize(
    "version", ["0.148.0", "0.169.0", "0.170.0-alpha.3", "1.0.0", "10.2.33+build"]
)
def test_the_oldest_supported_codex_and_everything_newer_is_taken(
    tmp_path: Path, probes: ProbeCache, version: str
) -> None:
    assert find(str(says(tmp_path / "codex", version)), "", probes).version == version


def test_notices_around_the_version_do_no_harm(
    tmp_path: Path, probes: ProbeCache
) -> None:
    path = executable(
        tmp_path / "codex",
        "echo WARNING: something >&2; echo a notice; echo codex-cli 0.160.1; echo bye",
    )
    assert find(str(path), "", probes).version == "0.160.1"


# --- what is remembered


def test_a_binary_is_asked_once_and_again_when_it_has_changed(
    tmp_path: Path, probes: ProbeCache
) -> None:
    path = executable(
        tmp_path / "codex", f"echo asked >> {tmp_path}/asked; echo codex-cli 0.150.0"
    )
    for _ in range(3):
        assert find(str(path), "", probes).version == "0.150.0"
    assert (tmp_path / "asked").read_text().split() == ["asked"]
    executable(
        tmp_path / "codex", f"echo asked >> {tmp_path}/asked; echo codex-cli 0.151.0 "
    )
    assert find(str(path), "", probes).version == "0.151.0"
    os.utime(path, ns=(1, 1))
    assert find(str(path), "", probes).version == "0.151.0"
    assert (tmp_path / "asked").read_text().split() == ["asked"] * 3


def test_a_failure_is_not_remembered(tmp_path: Path, probes: ProbeCache) -> None:
    path = executable(
        tmp_path / "codex", f"test -e {tmp_path}/well && echo codex-cli 0.150.0"
    )
    assert refusal_of(path, probes).code == Code.CODEX_NOT_FOUND
    (tmp_path / "well").touch()
    assert find(str(path), "", probes).version == "0.150.0"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"version": 7}', "\x00\xff"]
)
def test_a_damaged_cache_costs_a_question_and_is_mended(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "probes.json"
    file.write_bytes(content.encode("latin-1"))
    path = says(tmp_path / "codex", "0.150.0")
    assert find(str(path), "", ProbeCache(file)).version == "0.150.0"
    assert "0.150.0" in json.loads(file.read_text()).values()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_cache_that_cannot_be_written_costs_a_question_each_time(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    probes = ProbeCache(tmp_path / "file" / "probes.json")
    path = executable(
        tmp_path / "codex", f"echo asked >> {tmp_path}/asked; echo codex-cli 0.150.0"
    )
    for _ in range(2):
        assert find(str(path), "", probes).version == "0.150.0"
    assert (tmp_path / "asked").read_text().split() == ["asked"] * 2


def test_the_cache_does_not_grow_without_end(
    tmp_path: Path, probes: ProbeCache
) -> None:
    for number in range(250):
        probes.put(number, "key", str(number))
    assert probes.get("key", "49") is None
    assert [probes.get("key", str(number)) for number in (50, 249)] == [50, 249]
