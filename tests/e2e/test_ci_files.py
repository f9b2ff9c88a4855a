"""The files for CI: valid by the published schemas, audited, pinned, and shell that shellcheck accepts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_counsel import __version__

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
ACTION = ROOT / "action.yml"
TEMPLATE = ROOT / "templates/review.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
PAGES = [
    ROOT / "docs/how-to" / f"{name}.md"
    for name in ("github", "gitlab", "pre-commit", "any-ci", "fleet")
]
SCHEMAS = {
    "workflow": "vendor.github-workflows",
    "action": "vendor.github-actions",
    "gitlab": "vendor.gitlab-ci",
    "azure": "vendor.azure-pipelines",
    "buildkite": "vendor.buildkite",
}
"""The published schema for each kind of YAML in a page; `pre-commit` validates its own."""
PINNED = {
    "actions/cache/restore": "55cc8345863c7cc4c66a329aec7e433d2d1c52a9 # v6.1.0",
    "actions/cache/save": "55cc8345863c7cc4c66a329aec7e433d2d1c52a9 # v6.1.0",
    "actions/download-artifact": "018cc2cf5baa6db3ef3c5f8a56943fffe632ef53 # v6.0.0",
    "actions/upload-artifact": "330a01c490aca151604b8cf639adc76d48f6c5d4 # v5.0.0",
    "actions/checkout": "3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1",
    "astral-sh/setup-uv": "08807647e7069bb48b6ef5acd8ec9567f424441b # v8.1.0",
    "github/codeql-action/upload-sarif": "7188fc363630916deb702c7fdcf4e481b751f97a # v4.37.1",
}
"""Actions of others, with the commit of a release, as public repositories pin them."""
OURS = "OWNER/codex-counsel"
needs_shellcheck = pytest.mark.skipif(
    shutil.which("shellcheck") is None, reason="shellcheck is not installed"
)


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment of the tests."""
    program, *arguments = map(str, argv)
    return subprocess.run(
        [str(PROGRAMS / program), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def blocks() -> list[Any]:
    """The YAML in the pages: kind and text of each."""
    parameters = []
    for page in PAGES:
        found = re.findall(
            r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for number, text in enumerate(found, 1):
            if text.startswith("apiVersion:"):
                # For Kubernetes, which is no CI: `test_fleet_page.py` reads it.
                continue
            name = f"{page.stem}-{number}"
            parameters.append(pytest.param(kind_of(text), text, id=name))
    return parameters


def kind_of(text: str) -> str:
    """What a block of YAML is for."""
    document = yaml.safe_load(text)
    # YAML 1.1 reads `on` as true.
    if "jobs" in document and True in document:
        return "workflow"
    if "repos" in document:
        return "pre-commit"
    if "pool" in document:
        return "azure"
    if isinstance(document.get("steps"), list):
        return "buildkite"
    return "gitlab"


def validate(kind: str, file: Path) -> None:
    if kind == "pre-commit":
        result = run("pre-commit", "validate-config", file)
    else:
        result = run("check-jsonschema", "--builtin-schema", SCHEMAS[kind], file)
    assert result.returncode == 0, result.stdout + result.stderr


def audit(file: Path) -> None:
    result = run("zizmor", "--offline", "--persona", "auditor", "--no-progress", file)
    assert result.returncode == 0, result.stdout + result.stderr


# --- what a page shows


@pytest.mark.parametrize(("kind", "text"), blocks())
def test_what_a_page_shows_is_valid_and_audited(
    kind: str, text: str, tmp_path: Path
) -> None:
    folder = tmp_path / ".github/workflows"
    folder.mkdir(parents=True)
    file = folder / "shown.yml"
    if kind == "pre-commit":
        file = tmp_path / ".pre-commit-config.yaml"
    file.write_text(text, "utf-8")
    validate(kind, file)
    if kind == "workflow":
        audit(file)


@pytest.mark.parametrize(("kind", "text"), blocks())
def test_a_page_pins_actions_and_names_inputs_and_releases_that_exist(
    kind: str, text: str
) -> None:
    assert_pinned(text)
    assert set(re.findall(r"codex-counsel==(\S+)", text)) <= {__version__}
    document = yaml.safe_load(text)
    if kind == "workflow":
        declared = yaml.safe_load(ACTION.read_text("utf-8"))["inputs"]
        for step in steps_of(document):
            if step.get("uses", "").startswith(OURS):
                assert set(step["with"]) <= set(declared)
    if kind == "gitlab" and "include" in document:
        (spec, _) = yaml.safe_load_all(TEMPLATE.read_text("utf-8"))
        for included in document["include"]:
            assert set(included["inputs"]) <= set(spec["spec"]["inputs"])


def test_a_label_that_starts_no_review_cancels_none() -> None:
    page = (ROOT / "docs/how-to/github.md").read_text("utf-8")
    (text,) = re.findall(
        r"^```yaml\n(name: Codex review of a fork.*?)^```$",
        page,
        re.MULTILINE | re.DOTALL,
    )
    workflow = yaml.safe_load(text)
    (job,) = workflow["jobs"].values()
    assert "label.name" in job["if"]
    assert "concurrency" not in workflow
    assert job["concurrency"]["cancel-in-progress"] is True


def steps_of(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def assert_pinned(text: str) -> None:
    """Each action of others is one of `PINNED`, with the release as a comment; ours is named by its release."""
    for action, revision in re.findall(r"uses: ([^@\s]+)@(.+)$", text, re.MULTILINE):
        if action == OURS:
            assert revision == f"v{__version__}" or "zizmor: ignore" in revision
        else:
            assert revision == PINNED[action]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_exception_from_the_audit_has_its_reason(page: Path) -> None:
    for line in page.read_text("utf-8").splitlines():
        if "zizmor: ignore" in line:
            assert re.search(r"# zizmor: ignore\[[\w-]+\] \w+ \w+", line), line


# --- the action


def test_the_action_is_valid_and_audited() -> None:
    validate("action", ACTION)
    audit(ACTION)
    assert_pinned(ACTION.read_text("utf-8"))


def test_the_action_installs_this_release_and_the_tested_codex() -> None:
    action = yaml.safe_load(ACTION.read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (codex,) = project["dependency-groups"]["codex"]
    assert action["inputs"]["version"]["default"] == __version__
    assert f"openai-codex-cli-bin=={action['inputs']['codex-version']['default']}" == (
        codex
    )


def test_no_expression_is_in_a_script_of_the_action() -> None:
    for step in yaml.safe_load(ACTION.read_text("utf-8"))["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_each_secret_is_in_the_steps_that_need_it_alone() -> None:
    with_key, with_token = [], []
    for step in yaml.safe_load(ACTION.read_text("utf-8"))["runs"]["steps"]:
        for value in step.get("env", {}).values():
            if "inputs.api-key" in value and "!=" not in value:
                with_key.append(step["name"])
            if "inputs.github-token" in value:
                with_token.append(step["name"])
    assert with_key == ["Review"]
    assert sorted(set(with_token)) == ["Comment", "Review"]


@needs_shellcheck
def test_the_shell_of_the_action_has_no_known_fault(tmp_path: Path) -> None:
    steps = yaml.safe_load(ACTION.read_text("utf-8"))["runs"]["steps"]
    for number, step in enumerate(steps):
        if "run" in step:
            check_shell(tmp_path / f"{number}.sh", step["run"])


def check_shell(file: Path, script: str) -> None:
    file.write_text(script, "utf-8")
    result = subprocess.run(
        ["shellcheck", "--shell=bash", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


# --- the template of GitLab, and the hook of pre-commit


def test_both_documents_of_the_template_are_valid(tmp_path: Path) -> None:
    for name, document in zip(
        ("spec", "job"), yaml.safe_load_all(TEMPLATE.read_text("utf-8")), strict=True
    ):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(document), "utf-8")
        validate("gitlab", file)


def test_the_template_installs_this_release_and_uses_each_of_its_inputs() -> None:
    text = TEMPLATE.read_text("utf-8")
    spec, job = yaml.safe_load_all(text)
    inputs = spec["spec"]["inputs"]
    action = yaml.safe_load(ACTION.read_text("utf-8"))
    assert inputs["version"]["default"] == __version__
    assert inputs["codex-version"] == inputs["codex-version"] | {
        "default": action["inputs"]["codex-version"]["default"]
    }
    assert set(re.findall(r"\$\[\[ inputs\.([\w-]+) \]\]", text)) == set(inputs)
    (only,) = job.values()
    for line in (*only["before_script"], *only["script"]):
        assert "$[[" not in line, "text of an input in a script is code"


@needs_shellcheck
def test_the_shell_of_the_template_has_no_known_fault(tmp_path: Path) -> None:
    _, document = yaml.safe_load_all(TEMPLATE.read_text("utf-8"))
    (job,) = document.values()
    script = "\n".join(["set -eo pipefail", *job["before_script"], *job["script"]])
    check_shell(tmp_path / "job.sh", script)


def test_the_manifest_of_the_hooks_is_valid() -> None:
    result = run("pre-commit", "validate-manifest", HOOKS)
    assert result.returncode == 0, result.stdout + result.stderr
    audit(HOOKS)
