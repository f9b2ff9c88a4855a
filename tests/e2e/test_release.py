"""What a release runs, run here: its checks, the shell of its steps, and the packages that it builds."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_counsel import __version__
from tests.conftest import World

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCRIPTS = (".ci/run", ".ci/by-name", ".ci/container", ".ci/unprivileged")
TOOLS = Path(sys.executable).parent


def execute(
    *argv: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def step(job: str, name: str) -> dict[str, Any]:
    """The step of the release with this name."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    (found,) = [
        each for each in workflow["jobs"][job]["steps"] if each.get("name") == name
    ]
    return dict(found)


def run_step(
    found: Mapping[str, Any], cwd: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the shell of a step as a runner does, where it names no shell."""
    script = cwd / "step.sh"
    script.write_text(found["run"], "utf-8")
    variables = {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "HOME": str(cwd)}
    return execute("bash", "-e", script, cwd=cwd, env={**variables, **env})


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The tracked files of this repository, in a place where they may be changed."""
    root = tmp_path / "checkout"
    names = execute(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    )
    for name in filter(None, names.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    return root


# --- the workflows are valid, and nothing is known against them


def test_the_workflows_match_the_published_schema() -> None:
    tool = TOOLS / "check-jsonschema"
    result = execute(tool, "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    assert result.returncode == 0, result.stdout
    dependabot = ROOT / ".github/dependabot.yml"
    result = execute(tool, "--builtin-schema", "vendor.dependabot", dependabot)
    assert result.returncode == 0, result.stdout


def test_an_audit_of_the_workflows_finds_nothing() -> None:
    result = execute(
        TOOLS / "zizmor",
        "--offline",
        "--no-progress",
        "--persona",
        "pedantic",
        ".github",
    )
    assert result.returncode == 0, result.stdout


def test_the_shell_of_every_step_and_script_passes_shellcheck(tmp_path: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    scripts = [ROOT / name for name in SCRIPTS]
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text("utf-8"))["jobs"].items():
            for number, found in enumerate(job["steps"]):
                if "run" in found:
                    script = tmp_path / f"{path.stem}-{name}-{number}"
                    script.write_text(f"#!/bin/bash -e\n{found['run']}", "utf-8")
                    scripts.append(script)
    result = execute("shellcheck", *scripts)
    assert result.returncode == 0, result.stdout


# --- its steps


def test_a_tag_of_another_version_ends_the_release_before_anything_is_built(
    checkout: Path,
) -> None:
    changelog = checkout / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    changelog.write_text(text.replace("(unreleased)", "(2026-12-01)"), "utf-8")
    found = step("build", "Check that one version is meant everywhere")
    repository = {"GITHUB_REPOSITORY": "somebody/codex-counsel"}
    result = run_step(found, checkout, GITHUB_REF_NAME="v99.0.0", **repository)
    assert result.returncode == 1
    assert "the tag is v99.0.0" in result.stderr
    right = f"v{__version__}"
    result = run_step(found, checkout, GITHUB_REF_NAME=right, **repository)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_trial_needs_neither_a_tag_nor_a_date(checkout: Path) -> None:
    found = step("build", "Check what can be checked without a tag")
    result = run_step(found, checkout, GITHUB_REPOSITORY="somebody/codex-counsel")
    assert (result.returncode, result.stderr) == (0, "")


def publisher(folder: Path) -> bytes:
    """An archive with a program that says how it was called."""
    program = b'#!/bin/sh\necho "$@" >>../calls\n'
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("mcp-publisher")
        entry.size, entry.mode = len(program), 0o755
        archive.addfile(entry, io.BytesIO(program))
    folder.mkdir()
    (folder / "archive").write_bytes(stream.getvalue())
    # What it downloads is the archive, wherever it is told to look.
    curl = folder / "curl"
    curl.write_text(
        f'#!/bin/sh\ncp "{folder}/archive" "mcp-publisher_linux_amd64.tar.gz"\n'
    )
    curl.chmod(0o755)
    return stream.getvalue()


def test_a_publisher_that_was_exchanged_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    archive = publisher(tmp_path / "bin")
    found = step("registry", "Publish")
    env = found["env"] | {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    result = run_step(found, tmp_path, **env)
    assert result.returncode != 0
    assert not (tmp_path / "mcp-publisher").exists()
    assert not (tmp_path / "calls").exists()

    env["PUBLISHER_SHA256"] = hashlib.sha256(archive).hexdigest()
    assert run_step(found, tmp_path, **env).returncode == 0
    assert (tmp_path / "calls").read_text().split("\n") == [
        "validate server.json",
        "login github-oidc",
        "publish server.json",
        "",
    ]


def test_the_tag_of_the_plugin_is_the_one_that_claude_code_gives_it(
    checkout: Path, claude: Path
) -> None:
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@b")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "-qm", "Begin"]):
        assert execute(*git, *command, cwd=checkout).returncode == 0
    env = {**os.environ, "HOME": str(checkout.parent)}
    result = execute(claude, "plugin", "tag", "--dry-run", ".", cwd=checkout, env=env)
    ours = step("github", "Tag the plugin")["run"]
    assert 'refs/tags/codex--v$VERSION"' in ours
    assert f"codex--v{__version__}" in result.stdout, result.stderr


@pytest.fixture
def claude() -> Path:
    """Claude Code, where the tests were given one or it is on PATH."""
    given = os.environ.get("CODEX_COUNSEL_TEST_CLAUDE", "").split(os.pathsep)[0]
    found = given or shutil.which("claude")
    if not found:
        pytest.skip("there is no Claude Code; CODEX_COUNSEL_TEST_CLAUDE names one")
    return Path(found)


# --- the packages


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source distribution, built as a release does."""
    folder = tmp_path_factory.mktemp("dist")
    result = execute("uv", "build", "--offline", "--out-dir", folder)
    if result.returncode:
        pytest.skip(f"uv cannot build here without a network: {result.stderr[-200:]}")
    return folder


def test_the_wheel_is_found_by_its_name_and_runs_the_demo_without_the_checkout(
    world: World, packages: Path
) -> None:
    site = world.base / "site"
    install = ["uv", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    install += ["--find-links", str(packages), "--target", str(site)]
    result = execute(*install, "codex-counsel", cwd=world.base)
    assert result.returncode == 0, result.stderr
    # The dependencies are those of the tests; the package is only the installed one.
    env = {
        "HOME": str(world.home),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{site}{os.pathsep}{sysconfig.get_path('purelib')}",
    }
    code = "import codex_counsel; print(codex_counsel.__file__)"
    result = execute(sys.executable, "-c", code, cwd=world.home, env=env)
    assert result.stdout.startswith(str(site))
    demo = [sys.executable, "-m", "codex_counsel", "demo"]
    result = execute(*demo, cwd=world.home, env=env)
    assert result.returncode == 0, result.stderr


def test_the_packages_have_the_license_and_no_test(packages: Path) -> None:
    (sdist,) = packages.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {"LICENSE", "README.md", "schema/result.json"} <= set(names)
    assert [name for name in names if name.startswith(("tests", ".github"))] == []
