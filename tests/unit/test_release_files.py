"""The files of a release agree, and its workflow can do no more than it needs."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.unit.test_docs import ROOT

RELEASE = runpy.run_path(str(ROOT / ".ci/release.py"))
WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text("utf-8"))
    for path in (ROOT / ".github/workflows").glob("*.yml")
}
RELEASE_JOBS: dict[str, Any] = WORKFLOWS["release.yml"]["jobs"]
PUBLISHED = (
    "pyproject.toml",
    "server.json",
    "README.md",
    "CHANGELOG.md",
    "action.yml",
    ".claude-plugin",
    "docs",
    "templates",
    "src/codex_counsel/__init__.py",
)
REPOSITORY = "somebody/codex-counsel"
ARGUMENT = {
    "type": "object",
    "required": ["type", "value"],
    "properties": {"type": {"const": "positional"}, "value": {"type": "string"}},
    "additionalProperties": False,
}
VARIABLE = {
    "type": "object",
    "required": ["name", "description"],
    "properties": {
        "name": {"pattern": "^[A-Z_]+$"},
        "description": {"type": "string"},
        "format": {"enum": ["string", "number", "boolean", "filepath"]},
        "isSecret": {"type": "boolean"},
    },
    "additionalProperties": False,
}
PACKAGE = {
    "type": "object",
    "required": ["registryType", "identifier", "version", "transport"],
    "properties": {
        "registryType": {"const": "pypi"},
        "identifier": {"const": "codex-counsel"},
        "version": {"type": "string", "not": {"const": "latest"}},
        "runtimeHint": {"const": "uvx"},
        "transport": {"const": {"type": "stdio"}},
        "packageArguments": {"type": "array", "items": ARGUMENT},
        "environmentVariables": {"type": "array", "items": VARIABLE},
    },
    "additionalProperties": False,
}
SERVER = {
    "type": "object",
    "required": ["$schema", "name", "description", "version", "packages"],
    "properties": {
        "$schema": {
            "const": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
        },
        "name": {"pattern": "^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$", "maxLength": 200},
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "description": {"type": "string", "minLength": 1, "maxLength": 100},
        "version": {"pattern": r"^\d+\.\d+\.\d+"},
        "repository": {
            "type": "object",
            "required": ["url", "source"],
            "properties": {
                "url": {"pattern": "^https://github.com/"},
                "source": {"const": "github"},
            },
            "additionalProperties": False,
        },
        "packages": {"type": "array", "minItems": 1, "items": PACKAGE},
    },
    "additionalProperties": False,
}
"""What the registry's schema of this date asks of what we use of it, in our own words.
`mcp-publisher validate` applies the registry's own before it publishes."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files of a release, in a place where they may be changed; the changelog has a date."""
    root = tmp_path / "checkout"
    for name in PUBLISHED:
        source = ROOT / name
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            # Other tests run the programs in it meanwhile, and Python keeps them compiled.
            compiled = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, root / name, ignore=compiled)
        elif source.exists():
            shutil.copy(source, root / name)
    change(root, "CHANGELOG.md", "(unreleased)", "(2026-12-01)")
    return root


def change(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def wrong(root: Path, tag: str | None = None) -> list[str]:
    return list(RELEASE["wrong"](root, tag))


# --- one version, one repository


def test_the_files_of_this_checkout_have_one_version() -> None:
    assert wrong(ROOT) == []


def test_a_filled_checkout_with_its_tag_can_be_released(checkout: Path) -> None:
    version = RELEASE["version_of"](checkout)
    assert RELEASE["fill"](checkout, REPOSITORY) == 0
    assert wrong(checkout, f"v{version}") == []
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    assert RELEASE["fill"](checkout, REPOSITORY) == 0
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        ("src/codex_counsel/__init__.py", '"0.', '"9.', "__init__.py"),
        (".claude-plugin/plugin.json", '"version": "', '"version": "9', "plugin.json"),
        ("server.json", '  "version": "', '  "version": "9', "server.json has 9"),
        ("server.json", '      "version": "', '      "version": "9', "package 1"),
        ("pyproject.toml", '\nversion = "', '\nversion = "9', "CHANGELOG.md"),
    ],
)
def test_a_place_with_another_version_is_named(
    checkout: Path, name: str, old: str, new: str, named: str
) -> None:
    change(checkout, name, old, new)
    assert named in "\n".join(wrong(checkout))


@pytest.mark.parametrize("name", ["action.yml", "templates/review.yml"])
def test_the_defaults_of_the_action_and_of_templates_are_compared(
    checkout: Path, name: str
) -> None:
    path = checkout / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "inputs:\n"
        "  version:\n    description: Release.\n    default: 7.0.0\n"
        '  codex-version:\n    description: Codex.\n    default: "6.0"\n',
        "utf-8",
    )
    problems = "\n".join(wrong(checkout))
    assert f"{name} has 7.0.0, and pyproject.toml has" in problems
    assert f"{name} has Codex 6.0, and the tests have" in problems


@pytest.mark.parametrize(
    "words",
    [
        "uvx --from codex-counsel==7.0.0 codex-counsel status",
        "- uses: OWNER/codex-counsel@v7.0.0",
        "    rev: v7.0.0",
        "ghcr.io/OWNER/codex-counsel:7.0.0",
    ],
)
def test_what_a_page_tells_its_readers_to_install_is_compared(
    checkout: Path, words: str
) -> None:
    (checkout / "docs/page.md").write_text(f"{words}\n", "utf-8")
    (problem,) = wrong(checkout)
    assert problem.startswith("docs/page.md has 7.0.0, and pyproject.toml has")


def test_another_tag_and_a_changelog_without_a_date_are_named(checkout: Path) -> None:
    RELEASE["fill"](checkout, REPOSITORY)
    change(checkout, "CHANGELOG.md", "(2026-12-01)", "(unreleased)")
    tag, date = wrong(checkout, "v9.9.9")
    assert tag.startswith("the tag is v9.9.9")
    assert "does not end with the date" in date


def test_a_checkout_that_names_no_repository_is_not_released(checkout: Path) -> None:
    version = RELEASE["version_of"](checkout)
    problems = wrong(checkout, f"v{version}")
    assert [problem.split()[0] for problem in problems] == [
        "server.json",
        "README.md",
        "pyproject.toml",
    ]


def test_what_is_published_names_the_repository_and_links_into_it(
    checkout: Path,
) -> None:
    RELEASE["fill"](checkout, REPOSITORY)
    server = json.loads((checkout / "server.json").read_text("utf-8"))
    assert server["name"] == f"io.github.{REPOSITORY}"
    Draft202012Validator(SERVER).validate(server)
    urls = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"][
        "urls"
    ]
    assert urls["Homepage"] == f"https://github.com/{REPOSITORY}"
    readme = (checkout / "README.md").read_text("utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", readme)
    assert [each for each in targets if not re.match("https?:|#", each)] == []
    assert f"https://github.com/{REPOSITORY}/blob/v" in readme


@pytest.mark.parametrize(
    "repository",
    ["", "codex-counsel", "OWNER/codex-counsel", "a/b/c", 'a/b"\nname = "x', "../x"],
)
def test_only_the_name_of_a_repository_is_filled_in(
    checkout: Path, repository: str
) -> None:
    before = (checkout / "server.json").read_bytes()
    assert RELEASE["fill"](checkout, repository) == 2
    assert (checkout / "server.json").read_bytes() == before


def test_the_notes_are_the_part_on_this_version(checkout: Path) -> None:
    version = RELEASE["version_of"](checkout)
    text = (checkout / "CHANGELOG.md").read_text("utf-8")
    (checkout / "CHANGELOG.md").write_text(f"{text}\n## 0.0.1 (2020-01-01)\n\n- Old.\n")
    notes = RELEASE["notes"](checkout)
    assert notes.startswith("- Added")
    assert f"## {version}" not in notes
    assert "Old." not in notes


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("## {} (2026-01-31)  \n\n- Real.\n\n## 0.0.1\n\n- Old.\n", "- Real."),
        ("See `## {0} (2026-01-31)\n`.\n\n## {0} (2026-01-31)\n- Real.\n", "- Real."),
        ("## {} (2026-01-31)\n\n## 0.0.1\n\n- Old.\n", ""),
        ("## {} (2026-01-31)", ""),
    ],
)
def test_the_notes_are_those_below_the_heading_and_a_part_without_any_is_named(
    checkout: Path, text: str, notes: str
) -> None:
    changelog = text.format(RELEASE["version_of"](checkout))
    (checkout / "CHANGELOG.md").write_text(changelog, "utf-8")
    assert RELEASE["notes"](checkout) == notes
    problems = list(RELEASE["wrong"](checkout, None))
    assert any("says nothing below" in line for line in problems) == (not notes)


def test_server_json_is_what_the_registry_asks_for() -> None:
    server = json.loads((ROOT / "server.json").read_text("utf-8"))
    Draft202012Validator(SERVER).validate(server)


# --- the workflows


def steps(select: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The steps of all jobs that are selected."""
    found: list[dict[str, Any]] = []
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            found += [step for step in job["steps"] if select(step)]
    return found


def test_every_action_is_one_commit_with_its_version_beside_it() -> None:
    commits: dict[str, set[str]] = {}
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for line in path.read_text("utf-8").splitlines():
            if "uses:" not in line:
                continue
            match = re.fullmatch(
                r" *-? *uses: ([\w/.-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+", line
            )
            assert match, line
            commits.setdefault(match[1], set()).add(match[2])
    assert [action for action, found in commits.items() if len(found) > 1] == []


def test_a_job_may_do_what_it_needs_and_nothing_else() -> None:
    assert {job: sorted(each["permissions"]) for job, each in RELEASE_JOBS.items()} == {
        "build": ["contents"],
        "image": ["contents"],
        "attest": ["attestations", "id-token"],
        "pypi": ["id-token"],
        "container": ["attestations", "contents", "id-token", "packages"],
        "registry": ["id-token"],
        "github": ["contents"],
    }
    for name, workflow in WORKFLOWS.items():
        assert workflow["permissions"] == {}, name
    reads_only = {"contents": "read"}
    assert WORKFLOWS["ci.yml"]["jobs"]["test"]["permissions"] == reads_only
    for job in ("build", "image"):
        assert RELEASE_JOBS[job]["permissions"] == reads_only


def test_a_job_that_publishes_needs_a_pushed_tag_and_an_environment() -> None:
    for name, job in RELEASE_JOBS.items():
        if name in ("build", "image"):
            continue
        assert job["if"] == "github.event_name == 'push'", name
        if name != "attest":
            assert "environment" in job, name


def test_a_job_that_publishes_runs_nothing_of_the_checkout_but_the_dockerfile() -> None:
    for name in ("attest", "pypi", "registry", "github"):
        used = [step.get("uses", "") for step in RELEASE_JOBS[name]["steps"]]
        assert not any(action.startswith("actions/checkout") for action in used), name


def test_a_job_waits_for_each_job_whose_outputs_it_uses() -> None:
    for name, job in RELEASE_JOBS.items():
        needs = job.get("needs", [])
        named = [needs] if isinstance(needs, str) else needs
        used = set(re.findall(r"needs\.(\w+)\.", json.dumps(job)))
        assert used <= set(named), name


def test_no_text_of_an_event_becomes_a_command_and_no_secret_is_stored() -> None:
    commands = steps(lambda step: "run" in step)
    assert [step["name"] for step in commands if "${{" in step["run"]] == []
    assert "secrets" not in json.dumps(WORKFLOWS)
    for step in steps(lambda step: "actions/checkout" in step.get("uses", "")):
        assert step["with"]["persist-credentials"] is False


# --- the image


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions, each as its name and the rest."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_image_ends_as_a_user_other_than_root() -> None:
    names = [name for name, _ in dockerfile()]
    users = [rest for name, rest in dockerfile() if name == "USER"]
    assert users == ["1000:1000"]
    assert "RUN" not in names[names.index("USER") :]
    assert ("ENTRYPOINT", '["codex-counsel"]') in dockerfile()


def test_the_volumes_of_the_container_page_are_at_directories_of_the_images_user() -> (
    None
):
    page = (ROOT / "docs/how-to/container.md").read_text("utf-8")
    targets = re.findall(r'--volume "?[^\s:"]+:([^\s:"]+)', page)
    assert len(targets) == 2
    shell = " && ".join(rest for name, rest in dockerfile() if name == "RUN")
    made = [each for each in shell.split("&&") if "--owner=counsel" in each]
    assert set(targets) <= set(" ".join(made).split())


def test_all_that_the_image_installs_has_a_checksum_or_was_just_built() -> None:
    shell = " && ".join(rest for name, rest in dockerfile() if name == "RUN")
    commands = shell.split("&&")
    requirements, wheel = [each for each in commands if "pip --python" in each]
    assert "--require-hashes" in requirements
    assert "--no-deps --no-index" in wheel
    assert {name for name, _ in dockerfile()} & {
        "ADD",
        "ONBUILD",
        "HEALTHCHECK",
    } == set()


def test_nothing_of_the_checkout_but_what_was_built_can_get_into_the_image() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules == ["*", "!dist/*.whl", "!release/requirements.txt"]
