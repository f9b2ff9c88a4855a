"""The template for GitLab, its script run as GitLab's runner does: one shell, on the real Codex with a scripted model.

`glab` is stood in for by a program of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from codex_counsel.loopback import Loopback, error, http_error, say, shell
from codex_counsel.loopback.reply import Reply
from tests.conftest import World, until
from tests.e2e.claude.conftest import ROOT
from tests.e2e.hub import TOKEN, Hub, install_glab
from tests.e2e.hub import hub as hub  # noqa: PLC0414  # a fixture
from tests.e2e.packages import (
    certificates,
    packages,  # noqa: F401  # a fixture
    uv_cache,
)
from tests.e2e.runner import left_over
from tests.repositories import Repository, numbered_lines
from tests.reviews import change, reply

Model = Callable[..., Loopback]
TEMPLATE = ROOT / "templates/review.yml"
KEY = "key-of-the-team-0451"
JOB_TOKEN = "job-token-1138"
PROJECT = "group/team/shop"
HEAD = "refs/merge-requests/7/head"
CACHE = ".codex-counsel-cache"
SEVEN = {"severity": "high"}
NINE = {
    "severity": "critical",
    "title": "The ninth line is wrong",
    "line": 9,
    "evidence": "nine = 90",
}

pytestmark = [
    pytest.mark.usefixtures("own_git_settings"),
    pytest.mark.timeout(600),
]


def job_of(inputs: dict[str, str]) -> dict[str, Any]:
    """The job that GitLab makes of the template with these inputs, which it checks by their rules."""
    spec, _ = yaml.safe_load_all(TEMPLATE.read_text("utf-8"))
    rules = spec["spec"]["inputs"]
    values = {name: inputs.pop(name, rule["default"]) for name, rule in rules.items()}
    assert inputs == {}
    for name, rule in rules.items():
        assert values[name] in rule.get("options", [values[name]])
        assert re.search(rule.get("regex", ""), values[name])
    _, document = yaml.safe_load_all(TEMPLATE.read_text("utf-8"))
    ((name, job),) = document.items()
    job["name"] = name
    filled: dict[str, Any] = _filled(job, values)
    return filled


def _filled(node: Any, values: dict[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, values) for value in node]
    if isinstance(node, str):
        return re.sub(r"\$\[\[ inputs\.([\w-]+) \]\]", lambda m: values[m[1]], node)
    return node


@dataclass
class JobResult:
    """How a job ended. `artifacts` are the files that GitLab keeps."""

    code: int
    log: str
    artifacts: dict[str, str]

    @property
    def quality(self) -> Any:
        return json.loads(self.artifacts["gl-code-quality-report.json"])


@dataclass
class Team:
    """A project on a hub, the author's clone, and the runner's."""

    world: World
    hub: Hub
    packages: Path
    pipeline_commit: str = ""

    def __post_init__(self) -> None:
        self.author = self.world.repository_at(self.world.base / "author").begin()
        self.hub.push(self.author, "HEAD", PROJECT, "refs/heads/main")
        self.author.git("checkout", "--quiet", "-b", "feature")
        self.request = self.hub.pull(PROJECT, 7)
        (self.world.home / ".gitconfig").write_text(self.hub.git_settings(), "utf-8")
        self.world.workspace.rmdir()
        bare = str(self.hub.repository(PROJECT).root)
        self.author.git(
            "clone", "--quiet", "--branch=main", bare, str(self.world.workspace)
        )
        self.checkout.git("remote", "set-url", "origin", self.hub.url(PROJECT))

    @property
    def checkout(self) -> Repository:
        return self.world.repository

    @property
    def cache(self) -> Path:
        return self.world.base / "cache"

    @property
    def note(self) -> str:
        (note,) = self.request.comments
        return note.body

    def push(self, message: str, **files: str) -> str:
        for name, text in files.items():
            self.author.write(f"{name}.py", text)
        sha = self.author.commit(message)
        self.hub.push(self.author, sha, PROJECT, HEAD)
        self.request.head_sha = sha
        return sha

    def run(self, **inputs: str) -> JobResult:
        """Run the job on the check-out of the merge request's head, as GitLab does."""
        job = job_of({name.replace("_", "-"): value for name, value in inputs.items()})
        bare = str(self.hub.repository(PROJECT).root)
        self.checkout.git("fetch", "--quiet", bare, HEAD)
        self.checkout.git("clean", "--quiet", "-ffdx")
        self.checkout.git("checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
        if self.cache.exists():
            shutil.copytree(
                self.cache,
                self.checkout.root / CACHE,
                dirs_exist_ok=True,
                symlinks=True,
            )
        lines = ["set -eo pipefail", *job["before_script"], *job["script"]]
        done = subprocess.run(
            ["bash"],
            input="\n".join(lines),
            cwd=self.checkout.root,
            env=self.env(job),
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        self._keep_cache(job)
        return JobResult(
            done.returncode, done.stdout + done.stderr, self._artifacts(job)
        )

    def env(self, job: dict[str, Any]) -> dict[str, str]:
        env = {
            name: value
            for name, value in self.world.env.items()
            if not name.startswith("CODEX_COUNSEL_")
        }
        variables = {}
        for name, variable in job["variables"].items():
            assert variable["expand"] is False
            assert isinstance(variable["value"], str)
            variables[name] = variable["value"]
        shared = {
            name: value for name, value in os.environ.items() if name[:4] == "PIP_"
        }
        programs = install_glab(self.world.base / "programs")
        return {
            **env,
            **shared,
            **variables,
            "PATH": f"{programs}{os.pathsep}{env['PATH']}",
            "SSL_CERT_FILE": str(certificates(self.hub)),
            "UV_CACHE_DIR": uv_cache(),
            "UV_FIND_LINKS": str(self.packages),
            # For uv itself, which pip installs.
            "PIP_CACHE_DIR": str(self.packages / "pip"),
            "CI": "true",
            "GITLAB_CI": "true",
            "CI_PROJECT_DIR": str(self.checkout.root),
            "CI_PROJECT_PATH": PROJECT,
            "CI_SERVER_URL": f"https://{self.hub.address}",
            "CI_SERVER_HOST": "127.0.0.1",
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            "CI_JOB_TOKEN": JOB_TOKEN,
            "CI_COMMIT_SHA": self.pipeline_commit or self.request.head_sha,
            "CODEX_API_KEY": KEY,
            "GITLAB_TOKEN": TOKEN,
        }

    def _keep_cache(self, job: dict[str, Any]) -> None:
        assert job["cache"]["paths"] == [f"{CACHE}/"]
        found = self.checkout.root / CACHE
        if found.is_dir():
            shutil.rmtree(self.cache, ignore_errors=True)
            shutil.copytree(found, self.cache, symlinks=True)

    def _artifacts(self, job: dict[str, Any]) -> dict[str, str]:
        names = [*job["artifacts"]["paths"], *job["artifacts"]["reports"].values()]
        files = [self.checkout.root / name for name in names]
        return {file.name: file.read_text("utf-8") for file in files if file.exists()}


@pytest.fixture
def team(world: World, hub: Hub, packages: Path) -> Team:  # noqa: F811
    return Team(world, hub, packages)


def script(model: Model, *replies: Reply) -> Loopback:
    """A model that says these one after the other, over several runs."""
    remaining = iter(replies)
    return model(lambda _request: next(remaining), env_key="CODEX_API_KEY")


def test_over_three_pushes_one_note_and_the_report_say_what_was_found(
    team: Team, model: Model
) -> None:
    look = shell("env; cat /proc/self/environ")
    server = script(
        model,
        look,
        say(reply(SEVEN, NINE, verdict="fail")),
        say(reply(SEVEN, verdict="fail")),
    )
    team.push("both", app=numbered_lines(l7="seven = 70", l9="nine = 90"))
    first = team.run()
    assert first.code == 1, first.log
    assert {row["severity"] for row in first.quality} == {"critical", "blocker"}
    assert "The ninth line is wrong" in first.artifacts["codex-review.md"]
    assert "The ninth line is wrong" in team.note
    (seen,) = server.requests[1].outputs
    assert "PATH=" in seen
    for secret in (KEY, TOKEN, JOB_TOKEN):
        assert secret not in seen
        assert secret not in first.log

    # The second push mends one; the gate asks for a graver one than is left.
    team.push("Mend nine", app=numbered_lines(l7="seven = 70"))
    second = team.run(fail_on="critical")
    assert second.code == 0, second.log
    assert "seven = 70" in change(server.requests[2].prompt)
    assert "Resolved" in team.note

    # The third changes nothing: the last result is judged again.
    team.author.git("commit", "--quiet", "--amend", "--message", "Other words")
    team.request.head_sha = team.hub.push(team.author, "HEAD", PROJECT, HEAD)
    third = team.run()
    assert third.code == 1, third.log
    assert len(server.requests) == 3
    assert [row["severity"] for row in third.quality] == ["critical"]
    until(lambda: left_over(team.world.base) == [])


def test_a_review_that_failed_fails_the_job_and_keeps_the_cache(
    team: Team, model: Model
) -> None:
    script(model, say(reply()), http_error(401, error("invalid_api_key")))
    team.push("seven", app=numbered_lines(l7="seven = 70"))
    assert team.run(note="false").code == 0
    (kept,) = (team.cache / "last").iterdir()
    before = kept.read_bytes()
    team.push("eight", app=numbered_lines(l8="eight = 80"))
    failed = team.run(note="false", fail_on="never")
    assert failed.code == 3, failed.log
    assert failed.quality[0]["severity"] == "blocker"
    assert list((team.cache / "last").iterdir()) == [kept]
    assert kept.read_bytes() == before
    assert team.request.comments == []


def test_a_branch_brings_no_record_of_its_own(team: Team, model: Model) -> None:
    server = model([say(reply())])
    team.author.write(f"{CACHE}/last/review.json", '{"ok": true, "verdict": "pass"}')
    team.push("A record", app=numbered_lines(l7="seven = 70"))
    refused = team.run()
    assert refused.code == 2
    assert "is a part of the project" in refused.log
    assert server.requests == []


def test_a_link_of_the_branch_is_not_written_through(team: Team, model: Model) -> None:
    script(model, say(reply()))
    outside = team.world.base / "outside"
    outside.write_text("untouched")
    for name in ("codex-review.json", "codex-review.md", "gl-code-quality-report.json"):
        (team.author.root / name).symlink_to(outside)
    team.author.write("uv.toml", 'required-version = "==0.0.1"\n')
    team.author.write("pyproject.toml", '[tool.uv]\nrequired-version = "==0.0.1"\n')
    team.author.write(".python-version", "9.9\n")
    team.author.write("venv/__init__.py", "raise SystemExit(9)\n")
    team.push("Links", app=numbered_lines(l7="seven = 70"))
    done = team.run(note="false")
    assert done.code == 0, done.log
    assert outside.read_text() == "untouched"
    assert json.loads(done.artifacts["codex-review.json"])["verdict"] == "pass"


def test_a_review_of_another_commit_decides_nothing_about_this_one(
    team: Team, model: Model
) -> None:
    script(model, say(reply()))
    team.pipeline_commit = team.push("seven", app=numbered_lines(l7="seven = 70"))
    team.push("eight", app=numbered_lines(l8="eight = 80"))
    done = team.run(note="false")
    assert done.code == 5, done.log
    assert "The pipeline for that commit decides" in done.log
